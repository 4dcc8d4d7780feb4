/** Deletes the records of crashed processes from a store, and on demand evicts holders that hold for too long. */

import { onAbort } from "../abort.ts";
import type { Entry } from "../backend.ts";
import { Notify } from "../notify.ts";
import { backendError, LockBackendError, messageOf, UnreadableRecordError } from "../errors.ts";
import { publishBackendError } from "../events.ts";
import { assertIdentifier, lockKeyOf } from "../identifier.ts";
import { evidenceOf, Observations } from "../observations.ts";
import { checkOptions } from "../options.ts";
import { type Participant, participantOf } from "../participant.ts";
import { lockIn, type Snapshot } from "../record/codec.ts";
import { sweep } from "../record/sweep.ts";
import { Input } from "../validate.ts";
import { storeOf, type StoreOptions } from "./api.ts";
import { notifyForced } from "./evict.ts";
import { OPERATOR_TIMEOUT_MS, readable } from "./listing.ts";

/** How many records are under way at once: enough for a store far away, few enough for one on a laptop. */
const AT_ONCE = 32;
/** How many records are watched at once, where only watching proves a lapse. */
const WATCHED_AT_ONCE = 1000;
/** For how long a record is watched at most. */
const WATCH_MS = 600_000;
/** After how many records the progress is reported. */
const TELL_EVERY = 100;

/** What a {@linkcode cleanup} has done. Every record that it has `seen` counts in one of the other five too. */
export interface CleanupCounts {
  /** Records looked at. */
  readonly seen: number;
  /** Records left alone: a process may hold the lock or wait for it, or must still find out about a loss. */
  readonly live: number;
  /** Records deleted. */
  readonly removed: number;
  /** Locks whose holder was evicted because of `olderThanMs`. */
  readonly evicted: number;
  /** Records that went away meanwhile: a lock was released, or another cleanup was faster. */
  readonly gone: number;
  /** Values that are no record that this version can read; they were left alone. */
  readonly unreadable: number;
}

/** Options of {@linkcode cleanup}. */
export interface CleanupOptions extends StoreOptions {
  /**
   * Only identifiers that begin with this.
   *
   * @default {""}
   */
  prefix?: string | undefined;
  /**
   * Evict every holder that has had the lock for this many milliseconds, even if it is alive and renews it: its
   * `signal` aborts with the reason `forced`. Choose it longer than any legitimate hold; 0 evicts every holder.
   *
   * @default {undefined} never
   */
  olderThanMs?: number | undefined;
  /**
   * Ends the cleanup: it rejects at once with the signal's reason, and what is done stays done.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
  /**
   * Called with the counts after every hundred records, and at the end. What it throws ends the cleanup.
   *
   * @default {undefined} none
   */
  onProgress?: ((counts: CleanupCounts) => void) | undefined;
}

const NAMES = ["prefix", "olderThanMs", "signal", "onProgress", "kind", "backend"];

/**
 * Deletes the records that crashed processes have left behind: those whose every lease has certainly expired, and
 * in whose queue nothing has changed for a minute.
 *
 * A live lock is never touched, however long it is held, unless you pass `olderThanMs`. Every deletion is on the
 * condition that the record is still the one that was judged, so a cleanup may run anywhere, at any time, many at
 * once, and be killed half-way. It takes little memory, however many records there are. Nothing depends on it: a
 * crashed holder's lock is free when its lease has expired, cleaned up or not.
 *
 * If the store's clock proves nothing (`skewMs` is `Infinity`), a record is deleted only after it was seen
 * unchanged for a whole lease, so that a cleanup takes that long; leases of more than ten minutes are left alone.
 * A value among the records that is not a record is published on the diagnostics channel `holdfast:backend-error`.
 *
 * @param options Which store, which locks, and whether to evict holders.
 * @returns What it has done.
 * @throws {TypeError | RangeError} For bad input.
 * @throws {LockBackendError} If the store fails: then run it again.
 * @throws {unknown} The signal's reason, or what `onProgress` throws.
 *
 * @example In an app
 * ```ts ignore
 * import { cleanup } from "@holdfast/lock/cron";
 *
 * const { removed, seen } = await cleanup();
 * console.log(`removed ${removed} of ${seen}`);
 * ```
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { cleanup } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const alive = await lock("import", { backend }).acquire();
 * const stuck = await lock("export", { backend }).acquire();
 * const { seen, live } = await cleanup({ backend });
 * assertEquals([seen, live], [2, 2]);
 *
 * const { evicted } = await cleanup({ backend, prefix: "export", olderThanMs: 0 });
 * assertEquals([evicted, stuck.held, alive.held], [1, false, true]);
 * await alive.release();
 * ```
 */
export async function cleanup(options: CleanupOptions = {}): Promise<CleanupCounts> {
  const own = checkCleanup(options);
  const { prefix = "", olderThanMs, signal, onProgress } = own;
  signal?.throwIfAborted();
  const stop = new AbortController();
  const cleaning = storeOf(own, CLEANING)
    .then((backend) => new Cleanup(participantOf(backend), olderThanMs, stop.signal, onProgress).run(prefix));
  return await new Promise<CleanupCounts>((resolve, reject) => {
    // Not even a store that is silent keeps the caller.
    const forget = signal && onAbort(signal, () => {
      stop.abort(signal.reason);
      reject(signal.reason);
    });
    cleaning.then(resolve, reject).finally(forget);
  });
}

const CLEANING: Input = new Input("clean up");

/**
 * The options of a cleanup, or of one that is to come, which are the object's own; `more` are the names that they may
 * have besides. Refuses bad ones.
 */
export function checkCleanup<Options extends CleanupOptions>(
  options: Options,
  { input = CLEANING, more = [] }: { readonly input?: Input; readonly more?: readonly string[] } = {},
): Options {
  const own = input.own(options, [...more, ...NAMES]);
  const { prefix = "", olderThanMs, signal, onProgress, kind, backend } = own;
  if (prefix !== "") assertIdentifier(prefix, "prefix", input);
  input.time(olderThanMs, "olderThanMs", 0);
  checkOptions({ signal, kind, backend }, input);
  if (onProgress !== undefined && typeof onProgress !== "function") {
    input.refuse("'onProgress' must be a function", onProgress);
  }
  return own;
}

/** A record that is looked at again when it may have become garbage. */
interface Candidate {
  /** The version that must stand. */
  readonly version: string | null;
  readonly key: string;
  /** What has been seen of it. */
  readonly seen: Observations;
  readonly since: number;
  readonly dueAt: number;
}

/** One cleanup, as it goes through the store. */
class Cleanup {
  readonly #participant: Participant;
  readonly #olderThanMs: number | undefined;
  readonly #signal: AbortSignal;
  readonly #onProgress: ((counts: CleanupCounts) => void) | undefined;
  readonly #counts = { seen: 0, live: 0, removed: 0, evicted: 0, gone: 0, unreadable: 0 };
  readonly #busy = new Set<Promise<void>>();
  #candidates: Candidate[] = [];
  #failure: { error: unknown } | undefined;

  constructor(
    participant: Participant,
    olderThanMs: number | undefined,
    signal: AbortSignal,
    onProgress: CleanupOptions["onProgress"],
  ) {
    this.#participant = participant;
    this.#olderThanMs = olderThanMs;
    this.#signal = signal;
    this.#onProgress = onProgress;
  }

  async run(prefix: string): Promise<CleanupCounts> {
    try {
      for await (const entry of this.#list(prefix)) {
        await this.#begin(() =>
          lockKeyOf(entry.key) === entry.key ? this.#look(entry) : this.#lookAtQueue(entry)
        );
        if (this.#candidates.length >= WATCHED_AT_ONCE) await this.#watch();
      }
      await this.#watch();
    } finally {
      await Promise.all(this.#busy);
    }
    this.#check();
    this.#tell();
    return { ...this.#counts };
  }

  async *#list(prefix: string): AsyncIterable<Entry> {
    try {
      yield* this.#participant.backend.list(prefix);
    } catch (cause) {
      const transient = cause instanceof LockBackendError && cause.transient;
      throw new LockBackendError(`Cannot clean up: ${messageOf(cause)}`, { cause, transient });
    }
  }

  /** Works on one record at the same time as on others, as soon as there is room. */
  async #begin(work: () => Promise<void>): Promise<void> {
    const working: Promise<void> = work()
      .catch((error) => void (this.#failure ??= { error }))
      .finally(() => this.#busy.delete(working));
    this.#busy.add(working);
    if (this.#busy.size >= AT_ONCE) await Promise.race(this.#busy);
    this.#check();
  }

  async #look(entry: Entry): Promise<void> {
    this.#see();
    const { key, version } = entry;
    const lock = readable(key, () => lockIn(entry));
    if (lock instanceof Error) return void this.#counts.unreadable++;
    const seen = new Observations(this.#participant.clock);
    await this.#settle({ key, version, seen, since: this.#now, dueAt: this.#now }, {
      key,
      lock,
      queue: undefined,
    });
  }

  /** A queue goes with its lock; one that no lock names is garbage. */
  async #lookAtQueue(entry: Entry): Promise<void> {
    const outcome = await sweepQueue(this.#participant, lockKeyOf(entry.key));
    if (outcome === undefined) return;
    this.#see();
    this.#counts[outcome]++;
  }

  #see(): void {
    if (this.#counts.seen++ % TELL_EVERY === TELL_EVERY - 1) this.#tell();
  }

  /** Does what is to be done about a lock, and counts it, unless it is to be watched on. */
  async #settle(candidate: Candidate, snapshot?: Snapshot): Promise<void> {
    const { key, version, seen, since } = candidate;
    const participant = this.#participant;
    const outcome = await sweepOne({ participant, key, seen, olderThanMs: this.#olderThanMs }, snapshot);
    if (typeof outcome === "string") {
      this.#counts[outcome]++;
      return;
    }
    const dueAt = this.#now + outcome.forMs;
    const unchanged = outcome.version === version;
    const provable = participant.backend.skewMs === Infinity && dueAt - since <= WATCH_MS;
    if (unchanged && provable) this.#candidates.push({ key, version, seen, since, dueAt });
    else this.#counts.live++;
  }

  /** Looks again at those whose lapse only watching proves, each when its time has come. */
  async #watch(): Promise<void> {
    do {
      await Promise.all(this.#busy);
      const due = this.#candidates.sort((a, b) => a.dueAt - b.dueAt);
      this.#candidates = [];
      for (const candidate of due) {
        await this.#sleepUntil(candidate.dueAt);
        await this.#begin(() => this.#settle(candidate));
      }
      if (due.length > 0) this.#tell();
    } while (this.#candidates.length + this.#busy.size > 0);
  }

  async #sleepUntil(dueAt: number): Promise<void> {
    const wakeUp = new Notify();
    const forget = onAbort(this.#signal, wakeUp.notify);
    // A timer may come a moment early by another clock.
    while (this.#now < dueAt && !this.#signal.aborted) {
      await wakeUp.sleep(this.#participant.clock, dueAt - this.#now);
    }
    forget();
    this.#check();
  }

  get #now(): number {
    return this.#participant.clock.monotonicMs();
  }

  #check(): void {
    this.#signal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #tell(): void {
    this.#onProgress?.({ ...this.#counts });
  }
}

/** What became of a record: the name of its count, or for how long its version must stand before it may go. */
type Outcome = "removed" | "evicted" | "gone" | "unreadable" | {
  readonly version: string;
  readonly forMs: number;
};

/** What a cleanup looks at. */
interface Place {
  readonly participant: Participant;
  readonly key: string;
  /** What has been seen of the lock. */
  readonly seen: Observations;
  readonly olderThanMs: number | undefined;
}

/** One step of a cleanup: what is to be done about a lock, as it was seen or is now. */
export async function sweepOne(
  { participant, key, seen, olderThanMs }: Place,
  snapshot?: Snapshot,
): Promise<Outcome> {
  const { store } = participant;
  try {
    let outcome = "gone" as Outcome;
    let fences: ReadonlySet<string | undefined> | undefined;
    // With the lock goes its queue, which has to be known for that.
    const known = snapshot?.lock.record.queue === undefined ? snapshot : undefined;
    const where = { key, limitMs: OPERATOR_TIMEOUT_MS, withQueue: true };
    await store.change({ ...where, seen: known }, (snapshot, mayBeDone) => {
      const { version } = snapshot.lock;
      if (version === null) {
        if (!mayBeDone) outcome = "gone";
        return undefined;
      }
      seen.note(snapshot);
      const look = { store, atMs: participant.clock.monotonicMs(), version };
      const step = sweep(snapshot, olderThanMs, evidenceOf(seen, look));
      if (step.kind === "keep") {
        outcome = { version, forMs: step.forMs };
        return undefined;
      }
      outcome = step.kind === "evict" ? "evicted" : "removed";
      if (step.kind === "evict") fences = step.fences;
      return step.writes;
    });
    if (outcome === "evicted") notifyForced(participant, key, fences!);
    return outcome;
  } catch (error) {
    return outcomeOf(error, key);
  }
}

/** Removes a queue that no lock names; `undefined` if a lock does. What cannot be read may be the one that it names. */
async function sweepQueue(
  { store }: Participant,
  key: string,
): Promise<"removed" | "unreadable" | undefined> {
  try {
    let outcome = undefined as "removed" | "unreadable" | undefined;
    const where = { key, limitMs: OPERATOR_TIMEOUT_MS, withQueue: true };
    await store.change(where, ({ lock, queue }) => {
      const { version, record, unreadable } = queue!;
      const named = lock.record.queue;
      const isNamed = named !== undefined && (unreadable !== undefined || named === record.id);
      outcome = unreadable && "unreadable";
      // Most often it has just gone with its lock.
      if (version === null || isNamed) return undefined;
      outcome = "removed";
      return { queue: null };
    });
    return outcome;
  } catch (error) {
    return outcomeOf(error, key);
  }
}

/** What cannot be read is left alone; every other failure ends the cleanup. */
function outcomeOf(error: unknown, key: string): "unreadable" {
  if (!(error instanceof UnreadableRecordError)) throw backendError(key, "clean up", error);
  publishBackendError(key, error);
  return "unreadable";
}
