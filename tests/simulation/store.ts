import type { Proof } from "./core.ts";
import type { Change, CommitResult, Entry } from "../../core/backend.ts";
import { LockBackendError } from "../../core/errors.ts";
import {
  FREE,
  lockIn,
  lockKeyOf,
  type LockRecord,
  NO_QUEUE,
  type QueueEntry,
  queueIn,
  queueKeyOf,
  type QueueRecord,
} from "./core.ts";
import { EPOCH_MS, type SimProcess } from "./process.ts";
import type { World } from "./world.ts";

/** What a request came to on its way: how the invariants and the marks distinguish commits. */
export interface Request {
  readonly process: SimProcess;
  /** When its process began the turn in which it was made: what it says of the time may be as old as that. */
  readonly madeMs: number;
  readonly sentMs: number;
  /** When the store was as its process knew the queue, by lock. */
  readonly queueSeenMs: ReadonlyMap<string, number>;
  readonly changes: readonly Change[];
  /** The names of the watchers that it concerns; none if that is all. */
  readonly concerns?: readonly string[];
  /** By how much its process may have been wrong about the time, as it says. */
  readonly errorMs: number;
  /** What its caller has heard: `came` is that it was applied. */
  answer: "due" | "lost" | "refused" | "came";
  cameMs?: number;
  /** How often it was applied. */
  applied: number;
}

/** What a store has of one lock. */
export interface Records {
  /** No process holds or wants it if there is no record, or something else in its place. */
  readonly lock: LockRecord;
  /** Which processes are in the queue that the lock names. */
  readonly entries: readonly QueueEntry[];
  /** A queue that the lock does not name: what it says is void. */
  readonly isVoid: boolean;
}

/** What an applied commit did to one lock, as the invariants look at it. */
export interface Applied {
  /** The lock's key. */
  readonly key: string;
  /** Whether it wrote the lock's record, and whether the queue's. */
  readonly wrote: { readonly lock: boolean; readonly queue: boolean };
  readonly request: Request;
  readonly process: SimProcess;
  readonly version: string;
  readonly before: Records;
  readonly after: Records;
}

/** A write to the data that a lock guards. */
export interface GuardedWrite {
  readonly base: number;
  readonly fence: string;
}

/** What the watchers of a key hear when something has changed. */
export interface News {
  /** The names of the watchers that it concerns; none if that is all. */
  readonly concerns?: readonly string[];
  /** What the same commit has made of other records of the lock. */
  readonly beside: readonly Entry[];
  /** Whether the record that is watched has not changed. */
  readonly isBesideOnly: boolean;
}

/** What a lock guards: a counter, and the fencing token of its last writer. */
interface Guarded {
  readonly value: number;
  readonly fence: string;
}

interface Stored extends Guarded {
  readonly text: string | null;
  readonly version: string | null;
  readonly collectMs: number;
  /** The same as a record, if it is one. */
  readonly lock: LockRecord;
  readonly queue: QueueRecord;
}

/** What is particular about a store. */
export interface StoreOptions {
  /** How fast its clock runs. */
  readonly rate: number;
  /** How many milliseconds a sender may be ahead of its clock, if it looks at that: as Redis's scripts do. */
  readonly toleranceMs?: number;
  /** How long a value may be. */
  readonly limitBytes?: number;
}

const NO_RECORD = { text: null, version: null, lock: FREE, queue: NO_QUEUE };
const NOTHING: Stored = { ...NO_RECORD, collectMs: Infinity, value: 0, fence: "" };
const CHANGED: News = { beside: [], isBesideOnly: false };
const DIGITS = 16;

/** The one store that all processes share: its records, its clock, and what it forgets. */
export class SimStore {
  readonly world: World;
  readonly #options: StoreOptions;
  readonly #onApplied: (applied: Applied) => void;
  readonly #onRefused: (why: "clock" | "size", request: Request) => void;
  readonly #records = new Map<string, Stored>();
  readonly #subscribers = new Map<string, Set<(news: News) => void>>();
  /** What was there before each change, the last one last. */
  readonly #past: { readonly atMs: number; readonly key: string; readonly stored: Stored }[] = [];
  #lastVersion = 0;
  #aheadMs = 0;
  #limitBytes: number;

  constructor(
    world: World,
    options: StoreOptions,
    onApplied: (applied: Applied) => void,
    onRefused: (why: "clock" | "size", request: Request) => void = () => {},
  ) {
    this.world = world;
    this.#options = options;
    this.#limitBytes = options.limitBytes ?? Infinity;
    this.#onApplied = onApplied;
    this.#onRefused = onRefused;
  }

  /** Its clock, in milliseconds since the Unix epoch. */
  get clockMs(): number {
    return EPOCH_MS + this.world.now * this.#options.rate + this.#aheadMs;
  }

  /** It takes values of any length from now on. */
  heal(): void {
    this.#limitBytes = Infinity;
  }

  /** A version that no record has had. */
  get nextVersion(): string {
    return String(Math.max(Math.floor(this.clockMs * 1000), this.#lastVersion + 1)).padStart(DIGITS, "0");
  }

  /** Sets its clock. */
  step(ms: number): void {
    this.#aheadMs += ms;
  }

  get(key: string): Entry {
    const { text, version } = this.#stored(key);
    return { key, value: text, version };
  }

  /** What it has of the lock with this key. */
  recordsOf(key: string): Records {
    const { lock } = this.#stored(key);
    const { queue } = this.#stored(queueKeyOf(key));
    const isNamed = lock.queue === queue.id;
    return { lock, entries: isNamed ? queue.entries : [], isVoid: !isNamed && queue !== NO_QUEUE };
  }

  keys(prefix: string): string[] {
    return [...this.#records.keys()].filter((key) => key.startsWith(prefix) && this.get(key).value !== null);
  }

  /** Applies all changes or none. `senderMs` is the sender's view of this clock. */
  commit(request: Request, senderMs: number | undefined): CommitResult {
    const { changes, process } = request;
    const { toleranceMs } = this.#options;
    if (changes.some(({ value }) => value !== null && value.length > this.#limitBytes)) {
      this.#onRefused("size", request);
      throw new LockBackendError("the value is too large", { transient: false });
    }
    const entries = changes.map(({ key }) => this.get(key));
    if (changes.some(({ version }, i) => version !== entries[i].version)) return { ok: false, entries };
    if (toleranceMs !== undefined && senderMs !== undefined && senderMs > this.clockMs + toleranceMs) {
      this.#onRefused("clock", request);
      return { ok: false, entries };
    }
    const next = Math.max(Math.floor(this.clockMs * 1000), this.#lastVersion + 1, ...entries.map(after));
    this.#lastVersion = next;
    const version = String(next).padStart(DIGITS, "0");
    request.applied++;
    const locks = new Set(changes.map(({ key }) => lockKeyOf(key)));
    const before = new Map([...locks].map((key) => [key, this.recordsOf(key)]));
    for (const { key, value, expireInMs = Infinity } of changes) {
      const entry = { key, value, version: value && version };
      const record = locks.has(key) ? { lock: lockIn(entry).record } : { queue: queueIn(entry).record };
      const collectMs = this.world.now + expireInMs;
      this.#put(key, { ...NO_RECORD, ...record, text: value, version: entry.version, collectMs });
    }
    for (const key of locks) {
      const written = (name: string) => changes.some((change) => change.key === name);
      const wrote = { lock: written(key), queue: written(queueKeyOf(key)) };
      const after = this.recordsOf(key);
      this.#onApplied({ key, wrote, request, process, version, before: before.get(key)!, after });
    }
    const written = changes.map(({ key }) => this.get(key));
    for (const key of new Set([...locks, ...changes.map(({ key }) => key)])) {
      const beside = written.filter((entry) => entry.key !== key && lockKeyOf(entry.key) === lockKeyOf(key));
      const isBesideOnly = written.every((entry) => entry.key !== key);
      this.#notify(key, { concerns: request.concerns, beside, isBesideOnly });
    }
    return { ok: true, version };
  }

  /** The guarded write to `key`: in one atomic step with the proof that the locks' records are still `proofs`. */
  commitGuarded(key: string, proofs: readonly Proof[], write: GuardedWrite): "written" | "changed" | "stale" {
    const { value, fence } = this.#stored(key);
    if (proofs.some((proof) => this.#stored(proof.key).version !== proof.version)) return "changed";
    if (write.fence < fence) return "stale";
    // Another's write has come between; or its own late one, or some were forgotten.
    if (write.base !== value) return write.fence === fence || value < write.base ? "changed" : "stale";
    this.#put(key, { value: value + 1, fence: write.fence });
    return "written";
  }

  value(key: string): number {
    return this.#stored(key).value;
  }

  /** A replica takes over that has not had the last `ms` milliseconds of changes. Answers how many there were. */
  forget(ms: number): number {
    let forgotten = 0;
    while (this.#past.length > 0 && this.#past.at(-1)!.atMs > this.world.now - ms) {
      const { key, stored } = this.#past.pop()!;
      this.#records.set(key, stored);
      forgotten++;
      this.#notify(key);
    }
    return forgotten;
  }

  /** Puts under a free key what is no record, which is never forgotten; the returned function takes it away. */
  corrupt(key: string): (() => void) | undefined {
    if (this.get(key).value !== null) return undefined;
    const junk = '{"v":1,"holders":"nobody"}';
    const version = String(++this.#lastVersion).padStart(DIGITS, "0");
    this.#records.set(key, { ...this.#stored(key), ...NO_RECORD, text: junk, version, collectMs: Infinity });
    this.#notify(key);
    return () => {
      if (this.get(key).value !== junk) return;
      this.#records.set(key, { ...this.#stored(key), ...NO_RECORD });
      this.#notify(key);
    };
  }

  /** Calls `wake` after every change of `key`, until the returned function is called. */
  subscribe(key: string, wake: (news: News) => void): () => void {
    if (!this.#subscribers.has(key)) this.#subscribers.set(key, new Set());
    const subscribers = this.#subscribers.get(key)!.add(wake);
    return () => void subscribers.delete(wake);
  }

  #stored(key: string): Stored {
    const stored = this.#records.get(key) ?? NOTHING;
    if (stored.text === null || stored.collectMs > this.world.now) return stored;
    return { ...stored, ...NO_RECORD };
  }

  #put(key: string, change: Partial<Stored>): void {
    const stored = this.#stored(key);
    this.#past.push({ atMs: this.world.now, key, stored });
    this.#records.set(key, { ...stored, ...change });
  }

  #notify(key: string, news = CHANGED): void {
    for (const wake of [...this.#subscribers.get(key) ?? []]) wake(news);
  }
}

/** A version higher than the one of this entry. */
function after({ version }: Entry): number {
  return version === null ? 0 : Number(version) + 1;
}

/** What a commit makes of a lock's record, and under which key. */
export type WrittenLock = Pick<LockRecord, "holders"> & { readonly key: string };

export function locksWrittenBy({ changes }: Request): WrittenLock[] {
  return changes.filter(({ key }) => lockKeyOf(key) === key).map(({ key, value }) => ({
    key,
    holders: value === null ? [] : (JSON.parse(value) as LockRecord).holders,
  }));
}
