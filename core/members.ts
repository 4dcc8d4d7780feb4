import { type Moment, spanMs } from "./clock.ts";
import type { Departure } from "./departure.ts";
import type { Hold } from "./hold.ts";
import { Line } from "./line.ts";
import type { Snapshot } from "./record/codec.ts";
import type { ModeChange as Change } from "./mode_change.ts";
import type { Claim, Intent, Members, ModeChange, Remainder } from "./record/members.ts";
import { localTurnMs } from "./record/queue.ts";
import type { Mode } from "./record/modes.ts";
import type { Holder, LockRecord, QueueEntry } from "./record/record.ts";
import type { Request } from "./request.ts";

const NONE: readonly never[] = [];
const NOWHERE: ReadonlyMap<string, QueueEntry> = new Map();

/** What the members of a lock need of the process that they are in: the names that it gives. */
export interface NamingParticipant {
  /** Names it in queues. */
  readonly id: string;
  /** Whether a token is of this process. */
  owns(token: string): boolean;
  newToken(): string;
  newQueueId(): string;
  newEntryName(): string;
  /** Whether a queue entry is of this process. */
  isNameOf(entry: QueueEntry): boolean;
}

/** What one request asks of one lock. */
export interface AskingClaim extends Claim {
  readonly startedMs: number;
  /** The token of its separate entry in the queue, once that is known. */
  entryToken?: string | undefined;
  /** That entry is in the queue. */
  onPlaced?(): void;
  /** Whether the code that asks runs under a hold of the lock. */
  readonly isNested: boolean;
  /** The queue of the lock of this key has these before it, of other processes. */
  onAhead(key: string, ahead: readonly Mode[]): void;
}

/** All of this process that have to do with one lock: they want it, hold it, or are giving it back. */
export class LocalMembers<Asking extends AskingClaim = Request> implements Members {
  readonly requests: Line<Asking> = new Line();
  holds: readonly Hold[] = NONE;
  departures: readonly Departure<Hold>[] = NONE;
  queuedIn: string | undefined;
  queuedAs: ReadonlyMap<string, Mode> = NOWHERE;
  readonly isOurs: (entry: QueueEntry) => boolean;
  /** The token of the process's entry in the queue, or of the last that it has had. */
  #entryToken: string | undefined;
  leavesQueueOut = false;
  holdsBack = false;
  staysOut = false;
  /** The fencing token of the last offer that was taken: each is taken once. */
  #takenFence: string | undefined;
  /** The queue when we looked first, without a place or a hold. */
  #ahead: ReadonlySet<string> | undefined;
  /** Whether one of our holds is to be renewed by the current plan: the others are renewed with it. */
  #renews = false;
  /** When the records were last looked at. */
  #at: Moment = { monotonic: -Infinity, wall: -Infinity };
  /** When the last request came that may not wait. */
  lastTryMs = -Infinity;
  readonly #of: NamingParticipant;
  /** How many requests may not wait. */
  #tries = 0;
  /** How many requests take up what was handed over. */
  #restores = 0;
  /** How many requests are of code that runs under a hold of the lock. */
  #nested = 0;
  /** Those that have separate entries in the queue. */
  readonly #owners = new Map<string, Asking>();
  /** How many requests that may wait want a holder evicted after which time. */
  #patience: Map<number, number> | undefined;

  constructor(participant: NamingParticipant) {
    this.#of = participant;
    this.isOurs = (entry) => participant.isNameOf(entry);
  }

  get participant(): string {
    return this.#of.id;
  }

  get patienceMs(): number | undefined {
    if (this.#patience === undefined) return undefined;
    let least: number | undefined;
    for (const ms of this.#patience.keys()) least = Math.min(least ?? ms, ms);
    return least;
  }

  newQueueId(): string {
    return this.#of.newQueueId();
  }

  newToken(): string {
    return this.#of.newToken();
  }

  intentOf(holder: Holder): Intent {
    const { token, offeredTo } = holder;
    const hold = this.holdOf(holder);
    if (hold !== undefined) return this.#renews && hold.renewAtMs < Infinity ? "renew" : "keep";
    const departure = this.#departureOf(holder);
    if (departure !== undefined) {
      return departure.remainder(this.#at.monotonic) === undefined ? "leave" : "remain";
    }
    if (!this.#of.owns(token)) return this.#restorerOf(token) === undefined ? "foreign" : "restore";
    if (offeredTo !== undefined) return this.isOfferWanted(holder) ? "confirm" : "leave";
    return this.holdsBack || this.#requestOf(token) === undefined ? "leave" : "confirm";
  }

  get keepsTurn(): boolean {
    return !this.holdsBack && this.departures.length > 0 &&
      this.departures.every(({ hold }) =>
        spanMs(hold.turnSince, this.#at) < localTurnMs(hold.lock.store.backend.graceMs)
      );
  }

  claimOf(holder: Holder): Claim {
    const hold = this.holdOf(holder);
    if (hold !== undefined) return hold.request;
    const { token, offeredTo } = holder;
    if (offeredTo !== undefined) return this.offeredOf(holder)!;
    return (this.#restorerOf(token) ?? this.#requestOf(token))!;
  }

  leaseMsOf(holder: Holder): number {
    return this.holdOf(holder)!.leaseMsAt(this.#at.monotonic);
  }

  remainderOf(holder: Holder): Remainder {
    return this.#departureOf(holder)!.remainder(this.#at.monotonic)!;
  }

  changeOf(holder: Holder): ModeChange | undefined {
    return this.holdOf(holder)?.wantedMode;
  }

  /** A look at the records begins: what is due by now is to be renewed. */
  lookAt(at: Moment): void {
    this.#at = at;
    this.#renews = false;
    for (const { renewAtMs } of this.holds) this.#renews ||= renewAtMs <= at.monotonic;
  }

  /** What is under way to change how a hold is held. */
  get changes(): readonly Change[] {
    // Most often there is none, and it is held in one way only.
    if (this.holds.length === 0 || (this.holds.length === 1 && this.holds[0].change === undefined)) {
      return NONE;
    }
    const changes: Change[] = [];
    for (const { change } of this.holds) if (change !== undefined) changes.push(change);
    return changes;
  }

  /** The same, and what is to follow it. */
  get pendingChanges(): readonly Change[] {
    return this.holds.flatMap(({ changes }) => changes);
  }

  /** How long ago a hold of this process was granted. */
  ageOf(holder: Holder): number | undefined {
    return this.holdOf(holder)?.ageMs;
  }

  /** Sees whether the queue has an entry for us. */
  noteQueue({ lock: { record }, queue }: Snapshot): void {
    if (record.queue === undefined) {
      this.queuedIn = undefined;
      this.#noteAhead(NONE);
    } else if (queue !== undefined) {
      const entries = queue.record.id === record.queue ? queue.record.entries : [];
      this.queuedAs = this.noteEntries(entries);
      this.queuedIn = this.queuedAs.size > 0 ? record.queue : undefined;
      for (const name of this.queuedAs.keys()) this.#owners.get(name)?.onPlaced?.();
      this.#noteAhead(entries);
    } else if (this.queuedIn !== record.queue) this.queuedIn = undefined;
  }

  /** Takes note of the queue, if a caller here waits without a place of ours or a hold, at the first look. */
  #noteAhead(entries: readonly QueueEntry[]): void {
    const isOut = this.queuedIn === undefined && this.holds.length + this.departures.length === 0;
    if (!isOut || this.requests.size === 0) this.#ahead = undefined;
    else this.#ahead ??= new Set(entries.map(({ participant }) => participant));
  }

  isAhead({ participant }: QueueEntry): boolean {
    return this.#ahead === undefined || this.#ahead.has(participant);
  }

  /** Takes note of our entries in a queue, which offers to them will name. They are returned by what they are called. */
  noteEntries(entries: readonly QueueEntry[]): ReadonlyMap<string, QueueEntry> {
    if (entries.length === 0) return NOWHERE;
    const ours = new Map<string, QueueEntry>();
    for (const entry of entries) {
      if (!this.isOurs(entry)) continue;
      const { participant, token } = entry;
      ours.set(participant, entry);
      if (participant === this.participant) this.#entryToken = token;
      else {
        const request = this.#requestIn(participant);
        if (request !== undefined) request.entryToken = token;
      }
    }
    return ours;
  }

  /** How many entries the queue, as it was seen here, has for us. */
  countIn({ queue }: Snapshot): number {
    return queue === undefined ? 0 : queue.record.entries.filter(this.isOurs).length;
  }

  /** Whether a caller here is about to join the queue, or to leave it. */
  get isMoving(): boolean {
    if (this.queuedIn === undefined || this.requests.size === 0) {
      return (this.requests.size > 0) === (this.queuedIn === undefined);
    }
    const owners = this.#owners;
    const shares = owners.size < this.requests.size;
    if (this.queuedAs.size !== owners.size + (shares ? 1 : 0)) return true;
    if (shares && !this.queuedAs.has(this.participant)) return true;
    for (const name of owners.keys()) if (!this.queuedAs.has(name)) return true;
    return false;
  }

  /** The first request that waits in this entry. */
  #requestIn(name: string): Asking | undefined {
    if (name !== this.participant) return this.#owners.get(name);
    for (const request of this.requests) {
      if (request.entry === undefined && request.restores === undefined) return request;
    }
  }

  /** Whether some of those that want it run under a hold of it: they must know what is before them in the queue. */
  get hasNested(): boolean {
    return this.#nested > 0;
  }

  /** Shows these what is before them in the queue, as it is known, of other processes. */
  showAhead({ key, lock: { record }, queue }: Snapshot): void {
    if (this.#nested === 0 || queue === undefined || queue.record.id !== record.queue) return;
    const { entries } = queue.record;
    const place = entries.findIndex(({ participant }) => participant === this.participant);
    const ahead = (place < 0 ? entries : entries.slice(0, place)).filter((entry) => !this.isOurs(entry));
    for (const request of [...this.requests]) if (request.isNested) request.onAhead(key, ahead);
  }

  // Those that want it.

  /** Those that have separate entries in the queue, or are to have them. */
  get owners(): Iterable<Asking> {
    return this.#owners.values();
  }

  /** The first that wants the lock: one that takes up what was handed over is content with nothing else. */
  get firstRequest(): Asking | undefined {
    const { first } = this.requests;
    if (first === undefined || first.restores === undefined) return first;
    for (const request of this.requests) if (request.restores === undefined) return request;
    return undefined;
  }

  /** Whether all that is wanted is to take up what was handed over: there is nothing to bet on. */
  get onlyRestores(): boolean {
    return this.#restores > 0 && this.#restores === this.requests.size;
  }

  /** Whether some of them may not wait. */
  get hasTries(): boolean {
    if (this.#tries > 0) return true;
    for (const { mayWait } of this.changes) if (!mayWait) return true;
    return false;
  }

  addRequest(request: Asking): void {
    this.requests.add(request);
    if (request.goesFirst) {
      for (const other of [...this.requests]) {
        // It goes behind this one.
        if (!other.goesFirst && this.requests.delete(other)) this.requests.add(other);
      }
    }
    this.#count(request, 1);
    if (!request.mayWait) this.lastTryMs = request.startedMs;
  }

  /** Whether it was one of them. */
  dropRequest(request: Asking): boolean {
    if (!this.requests.delete(request)) return false;
    this.#count(request, -1);
    return true;
  }

  #count(request: Asking, by: number): void {
    const { mayWait, stealAfterMs, restores } = request;
    if (restores !== undefined) this.#restores += by;
    if (request.isNested) this.#nested += by;
    if (request.entry !== undefined) {
      if (by > 0) this.#owners.set(request.entry, request);
      else this.#owners.delete(request.entry);
    }
    if (!mayWait) this.#tries += by;
    else if (stealAfterMs !== undefined) {
      this.#patience ??= new Map();
      const count = (this.#patience.get(stealAfterMs) ?? 0) + by;
      if (count > 0) this.#patience.set(stealAfterMs, count);
      else this.#patience.delete(stealAfterMs);
    }
  }

  #requestOf(token: string): Asking | undefined {
    if (this.requests.size === 0) return undefined;
    for (const request of this.requests) if (request.token === token) return request;
  }

  /** The first request that takes up the hold of this token, unless it may not have it before it can have others, too. */
  #restorerOf(token: string): Asking | undefined {
    if (this.#restores === 0 || this.holdsBack) return undefined;
    for (const request of this.requests) if (request.restores === token) return request;
  }

  /** Whether this was offered to an entry that we have in the queue, and a caller here wants it. */
  isOfferWanted(holder: Holder): boolean {
    return this.offeredOf(holder) !== undefined;
  }

  /**
   * The request here that is next where this was offered to an entry that we have in the queue. The entry may still be
   * there when the offer has been taken, if the queue was left out.
   */
  offeredOf({ token, fence, offeredTo }: Holder): Asking | undefined {
    const request = offeredTo === undefined ? undefined : this.#requestIn(offeredTo);
    const entryToken = request?.entry === undefined ? this.#entryToken : request.entryToken;
    return token === entryToken && fence !== this.#takenFence ? request : undefined;
  }

  /** What was offered to us is held now. */
  onOfferTaken({ fence, offeredTo }: Holder): void {
    if (offeredTo === this.participant) this.#entryToken = undefined;
    this.#takenFence = fence;
    this.queuedAs = new Map([...this.queuedAs].filter(([name]) => name !== offeredTo));
    if (this.queuedAs.size === 0) this.queuedIn = undefined;
  }

  /** The holder that is of this process, although no caller here owns it or is giving it back. */
  leftIn({ holders }: LockRecord): Holder | undefined {
    for (const holder of holders) {
      if (this.intentOf(holder) === "leave" && this.#departureOf(holder) === undefined) return holder;
    }
  }

  // Those that hold it.

  addHold(hold: Hold): void {
    this.holds = [...this.holds, hold];
    // One that has had its turn queues behind the others again.
    this.#ahead = undefined;
  }

  dropHold(hold: Hold): void {
    this.holds = without(this.holds, hold);
  }

  /** The hold that a record calls so: a hold is its token and its fence. */
  holdOf(holder: Holder): Hold | undefined {
    for (const hold of this.holds) if (isOf(hold, holder)) return hold;
  }

  /** A process that was frozen may come here before its timers: what has run out is over. */
  expire(): void {
    for (const hold of this.holds) void hold.held;
  }

  /** The shortest lease that a holder here counts on. */
  get leastLeaseMs(): number {
    let leastMs = this.requests.first?.leaseMs ?? Infinity;
    for (const { options } of this.holds) leastMs = Math.min(leastMs, options.leaseMs);
    for (const { hold } of this.departures) leastMs = Math.min(leastMs, hold.options.leaseMs);
    return leastMs;
  }

  // Those that give it back.

  #departureOf(holder: Holder): Departure<Hold> | undefined {
    for (const departure of this.departures) if (isOf(departure.hold, holder)) return departure;
  }

  addDeparture(departure: Departure<Hold>): void {
    this.dropHold(departure.hold);
    this.departures = [...this.departures, departure];
  }

  dropDeparture(departure: Departure<Hold>): void {
    this.departures = without(this.departures, departure);
  }

  /** Whether there is anything to ask the store for. */
  get isBusy(): boolean {
    if (this.requests.size + this.departures.length > 0 || this.queuedIn !== undefined) return true;
    for (const { wantedMode } of this.holds) if (wantedMode !== undefined) return true;
    return false;
  }
}

function without<Item>(items: readonly Item[], item: Item): readonly Item[] {
  // Most often it is the only one.
  return items.length === 1 && items[0] === item ? NONE : items.filter((other) => other !== item);
}

/** Whether a record names this hold. */
export function names(record: LockRecord, hold: Hold): boolean {
  return holderIn(record, hold) !== undefined;
}

/** The holder in a record that is this hold: a hold is its token and its fence, or the one that it had before its mode was changed. */
export function holderIn({ holders }: LockRecord, hold: Hold): Holder | undefined {
  for (const holder of holders) if (isOf(hold, holder)) return holder;
}

function isOf({ token, fencingToken }: Hold, { token: named, fence, formerFence }: Holder): boolean {
  return named === token && (fence === fencingToken || formerFence === fencingToken);
}
