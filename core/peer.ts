import type { Change, Entry, LockBackend } from "./backend.ts";
import { type Clock, pause, systemClock } from "./clock.ts";
import { LockBackendError } from "./errors.ts";
import { publish } from "./events.ts";
import { LocalQueue } from "./local_queue.ts";
import { decode, encode, garbageAfterMs, type LockRecord, withdraw } from "./record.ts";

const peers = new WeakMap<LockBackend, Peer>();

/** This process as one of those that share `backend`. */
export function peerOf(backend: LockBackend): Peer {
  let peer = peers.get(backend);
  if (peer === undefined) peers.set(backend, peer = new Peer(backend, systemClock));
  return peer;
}

/** What became of a replacement, and the entry that is there now where that is known. */
export type Replaced =
  | { readonly ok: true; readonly entry: Entry }
  | { readonly ok: false; readonly entry: Entry | undefined };

/** One process that shares a store with others: its backend, its clock and its local queues. */
export class Peer {
  readonly backend: LockBackend;
  readonly clock: Clock;
  /** This process's place in any line. */
  readonly seatId: string = crypto.randomUUID();
  readonly #queues = new Map<string, LocalQueue>();
  /** The lines in which this process may have its place; the value changes whenever it takes it anew. */
  readonly #seated = new Map<string, symbol>();
  /** Acquisitions that talk to the store, or clear up behind themselves. */
  readonly #busy = new Set<Promise<void>>();

  constructor(backend: LockBackend, clock: Clock) {
    this.backend = backend;
    this.clock = clock;
  }

  /** The local queue of a key; there is one as long as somebody here holds or wants the lock. */
  queue(key: string): LocalQueue {
    let queue = this.#queues.get(key);
    if (queue === undefined) this.#queues.set(key, queue = new LocalQueue(this, key));
    return queue;
  }

  /** Forgets a local queue that nobody uses any more. */
  forget(queue: LocalQueue): void {
    if (this.#queues.get(queue.key) === queue) this.#queues.delete(queue.key);
  }

  /** An acquisition begins to talk to the store. */
  track(contending: Promise<void>): void {
    this.#busy.add(contending);
    void contending.finally(() => this.#busy.delete(contending));
  }

  /** Until no acquisition talks to the store any more: those that got nothing have then left nothing there. */
  async quiet(): Promise<void> {
    while (this.#busy.size > 0) await Promise.all(this.#busy);
  }

  /** The holds with these fencing tokens were evicted: one of this process need not wait to be told. */
  forced(key: string, fences: ReadonlySet<string | undefined>): void {
    this.#queues.get(key)?.forced(fences);
  }

  /** Whether this process may stand in the line of `key`. */
  isSeated(key: string): boolean {
    return this.#seated.has(key);
  }

  /** This process takes its place in the line of `key`, or has lost it by being granted the lock. */
  seat(key: string, seated: boolean): void {
    if (seated) this.#seated.set(key, Symbol());
    else this.#seated.delete(key);
  }

  /** The entry of one key. */
  async read(key: string, limitMs: number): Promise<Entry> {
    const [entry] = await this.bounded(this.backend.read([key]), limitMs);
    return entry;
  }

  /** Replaces one record, if it is still the one in `entry`. */
  async replace(
    entry: Entry,
    record: LockRecord | null,
    limitMs: number,
  ): Promise<Replaced> {
    const { backend } = this;
    const { key, version } = entry;
    const value = record === null ? null : encode(record);
    const expireInMs = record === null ? undefined : garbageAfterMs(record, backend.now(), backend.graceMs);
    const change: Change = { key, version, value, expireInMs };
    const result = await this.bounded(backend.commit([change]), limitMs);
    if (!result.ok) publish("holdfast:conflict", () => ({ identifier: key }));
    return result.ok
      ? { ok: true, entry: { key, value, version: value === null ? null : result.version } }
      : { ok: false, entry: result.entries?.[0] };
  }

  /** The answer of the store, or a failure with unknown outcome if it takes longer than `limitMs`. */
  bounded<Answer>(answer: Promise<Answer>, limitMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const stop = this.clock.after(limitMs, () => {
        reject(new LockBackendError(`the store did not answer within ${limitMs} ms`, { transient: true }));
      });
      answer.then(
        (value) => {
          stop();
          resolve(value);
        },
        (error) => {
          stop();
          reject(error);
        },
      );
    });
  }

  /**
   * Takes out of the record what may be left of an acquisition: a hold that was granted too late to be
   * wanted (`token`), and this process's place in line if nobody here needs it any more. Ends when that is
   * done, or when a lease of `leaseMs` has lapsed by itself.
   */
  async tidy(key: string, token: string | undefined, leaseMs: number): Promise<void> {
    const { backend, clock } = this;
    const started = clock.monotonicMs();
    const taken = this.#seated.get(key);
    let entry: Entry | undefined;
    for (let delayMs = 10;; delayMs = Math.min(2 * delayMs, 1000)) {
      try {
        for (;;) {
          entry ??= await this.read(key, leaseMs);
          const wanted = this.#queues.has(key);
          const seat = wanted ? undefined : this.seatId;
          const next = withdraw(decode(key, entry.value), entry.version, { token, seat }, backend.now());
          const answer = next === undefined ? undefined : await this.replace(entry, next, leaseMs);
          if (answer?.ok === false) {
            entry = answer.entry;
            continue;
          }
          if (!wanted && this.#seated.get(key) === taken) this.#seated.delete(key);
          return;
        }
      } catch (error) {
        entry = undefined;
        if (!(error instanceof LockBackendError && error.transient)) throw error;
        if (clock.monotonicMs() - started > leaseMs) throw error;
        await pause(clock, delayMs);
      }
    }
  }
}
