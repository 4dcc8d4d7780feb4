import type { Moment } from "./clock.ts";
import type { Hold } from "./hold.ts";
import { Knowledge } from "./knowledge.ts";
import { type AskingClaim, LocalMembers, names } from "./members.ts";
import { Names } from "./names.ts";
import { nothingAt, type Snapshot } from "./record/codec.ts";
import { lossOf } from "./record/eviction.ts";
import type { Mode } from "./record/modes.ts";
import { type Plan, plan } from "./record/plan.ts";
import type { LockRecord } from "./record/record.ts";
import { RecordWatch, type Watcher } from "./record_watch.ts";
import type { Request } from "./request.ts";
import type { Store } from "./store.ts";
import type { KeyedLock } from "./targets.ts";

/** After how long a request looks again that finds a queue full. */
const FULL_LOOK_MS = 1000;

/** What a request asks of one of several locks: that it is held in its own mode. */
class PartClaim implements AskingClaim {
  readonly #request: Request;
  readonly mode: Mode["mode"];
  readonly limit: number;
  readonly permits: number | undefined;
  readonly token: string;
  readonly leaseMs: number;
  readonly label: string | undefined;
  readonly stealAfterMs: number | undefined;
  readonly mayWait: boolean;
  readonly startedMs: number;
  readonly turnMs: number | undefined;
  readonly restores: string | undefined;

  constructor(request: Request, { mode, limit, permits }: Mode) {
    this.#request = request;
    this.mode = mode;
    this.limit = limit;
    this.permits = permits;
    this.token = request.token;
    this.leaseMs = request.leaseMs;
    this.label = request.label;
    this.stealAfterMs = request.stealAfterMs;
    this.mayWait = request.mayWait;
    this.startedMs = request.startedMs;
    this.turnMs = request.turnMs;
    this.restores = request.restores;
  }

  get waitedMs(): number {
    return this.#request.waitedMs;
  }

  get isNested(): boolean {
    return this.#request.isNested;
  }

  onAhead(key: string, ahead: readonly Mode[]): void {
    this.#request.onAhead(key, ahead);
  }
}

/** One lock of a group: what is known of it, and what the group wants of it. */
class Part {
  readonly key: string;
  readonly identifier: string;
  readonly members: LocalMembers<PartClaim>;
  readonly knowledge: Knowledge;
  readonly watch: RecordWatch;

  constructor({ key, identifier }: KeyedLock, { store, watcher, names }: {
    readonly store: Store;
    readonly watcher: Watcher;
    readonly names: Names;
  }) {
    this.key = key;
    this.identifier = identifier;
    this.members = new LocalMembers(names);
    this.knowledge = new Knowledge(store, { key, members: this.members });
    this.watch = new RecordWatch(watcher, { backend: store.backend, key, name: names.address });
  }

  /** What was last seen of it. */
  get record(): LockRecord {
    return this.knowledge.lastSeen;
  }
}

/** The locks of a group, as one: what is known of all of them, and what is to be written of each. */
export class GroupParts implements Iterable<Part> {
  readonly locks: readonly KeyedLock[];
  readonly #parts: readonly Part[];
  /** Names its queue entries and tokens: to all others it is a separate process. */
  readonly #names = new Names();
  /** Which of the locks was not to be had when they were last looked at. */
  missing: Part;

  constructor(locks: readonly KeyedLock[], of: { readonly store: Store; readonly watcher: Watcher }) {
    this.locks = locks;
    this.#parts = locks.map((lock) => new Part(lock, { ...of, names: this.#names }));
    this.missing = this.#parts[0];
  }

  [Symbol.iterator](): Iterator<Part> {
    return this.#parts[Symbol.iterator]();
  }

  newToken(): string {
    return this.#names.newToken();
  }

  get keys(): readonly string[] {
    return this.#parts.map(({ key }) => key);
  }

  /** A request asks for all of them, for each as it is to be held. */
  addRequest(request: Request): void {
    this.#parts.forEach(({ members }, i) => members.addRequest(new PartClaim(request, this.locks[i].how)));
  }

  dropRequest(): void {
    for (const { members } of this.#parts) for (const claim of members.requests) members.dropRequest(claim);
  }

  /** Whether one of the queues has an entry of the group, as far as is known. */
  get isQueued(): boolean {
    return this.#parts.some(({ members }) => members.queuedIn !== undefined);
  }

  /** Whether one of the records names something of the group that no caller here owns. */
  get isLeft(): boolean {
    return this.#parts.some(({ members, record }) => members.leftIn(record) !== undefined);
  }

  /** Whether news comes of all of them. */
  get isWatching(): boolean {
    return this.#parts.every(({ watch }) => watch.isRunning);
  }

  /** What is there of them, if nothing is. */
  get nothing(): readonly Snapshot[] {
    return this.#parts.map(({ key }) => nothingAt(key));
  }

  /** What is known of all, if that is no older than `isOld` lets it be; `undefined` if the store has to be asked. */
  known(isOld: (askedMs: number) => boolean): readonly Snapshot[] | undefined {
    const found: Snapshot[] = [];
    for (const { knowledge: { snapshot, askedMs } } of this.#parts) {
      if (snapshot === undefined || isOld(askedMs)) return undefined;
      found.push(snapshot);
    }
    return found;
  }

  learn(snapshots: readonly Snapshot[], askedMs: number): void {
    this.#parts.forEach(({ knowledge }, i) => knowledge.learn(snapshots[i], askedMs));
  }

  drop(): void {
    for (const { knowledge } of this.#parts) knowledge.drop();
  }

  /** When one of them is to be looked at again, if nothing changes until then. */
  dueMs(plans: readonly Plan[], at: Moment): number {
    let dueMs = Infinity;
    this.#parts.forEach(({ knowledge }, i) => {
      dueMs = Math.min(dueMs, at.monotonic + plans[i].waitMs, knowledge.staleMs);
    });
    return dueMs;
  }

  /** What to write of each, for a request that may wait for all; `undefined` if the queues have to be known for it. */
  plan(
    snapshots: readonly Snapshot[],
    { at, request }: { readonly at: Moment; readonly request: Request },
  ): readonly Plan[] | undefined {
    let next = this.#plans(snapshots, at, {});
    if (next.some(({ needsQueue }) => needsQueue)) return undefined;
    if (!request.isWaiting || this.#isGrant(next, snapshots, request)) return next;
    next = this.#plans(snapshots, at, { holdsBack: true });
    if (next.some(({ needsQueue }) => needsQueue)) return undefined;
    // In all queues since one commit, or in none: two that are before each other in one queue each would wait for ever.
    const before = this.#parts.filter(({ members }) => members.queuedIn !== undefined).length;
    const after = this.#parts.filter(({ members }, i) => isQueuedAfter(members, next[i])).length;
    const isTogether = after === this.#parts.length && (before === 0 || before === after);
    if (after === 0 || isTogether) return next;
    next = this.#plans(snapshots, at, { holdsBack: true, staysOut: true });
    return next.map((plan) => ({ ...plan, waitMs: Math.min(plan.waitMs, FULL_LOOK_MS) }));
  }

  /** A record that does not name the hold any more, if there is one: rather one that says why. */
  withoutHold(hold: Hold): LockRecord | undefined {
    const gone = this.#parts.map(({ record }) => record).filter((record) => !names(record, hold));
    return gone.find((record) => lossOf(record, hold.token) !== "expired") ?? gone[0];
  }

  #plans(
    snapshots: readonly Snapshot[],
    at: Moment,
    { holdsBack = false, staysOut = false }: Partial<Pick<Part["members"], "holdsBack" | "staysOut">>,
  ): readonly Plan[] {
    return this.#parts.map(({ members, knowledge }, i) => {
      members.lookAt(at);
      members.holdsBack = holdsBack;
      members.staysOut = staysOut;
      return plan(snapshots[i], members, knowledge.evidence(snapshots[i], at));
    });
  }

  /** Whether all of them can be had, by one commit: this one, or one whose answer was lost. */
  #isGrant(next: readonly Plan[], snapshots: readonly Snapshot[], request: Request): boolean {
    const missing = next.findIndex(({ grants = [] }) => grants.length === 0);
    if (missing >= 0) {
      this.missing = this.#parts[missing];
      return false;
    }
    // By one commit: not by two whose answers were lost.
    const isNew = ({ lock }: Snapshot) => !lock.record.holders.some(({ token }) => token === request.token);
    return snapshots.every(isNew) || fenceIn(snapshots, request) !== undefined;
  }
}

/** The fencing token under which all records name a request; `undefined` if they do not, or under different ones. */
export function fenceIn(snapshots: readonly Snapshot[], { token }: Request): string | undefined {
  const [first, ...others] = snapshots.map(({ lock: { record } }) =>
    record.holders.find((holder) => holder.token === token)?.fence
  );
  return others.every((fence) => fence === first) ? first : undefined;
}

/** Whether there is an entry of ours in the queue when this is done. */
function isQueuedAfter({ queuedIn, participant }: Part["members"], { queue }: Plan): boolean {
  if (queue === undefined) return queuedIn !== undefined;
  return queue?.entries.some((entry) => entry.participant === participant) === true;
}
