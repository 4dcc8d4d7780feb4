import type { CommitResult, Entry, LockBackend } from "./backend.ts";
import { type Alarm, type Clock, pause, systemClock } from "./clock.ts";
import { LockBackendError } from "./errors.ts";
import { publish } from "./events.ts";
import { LocalQueue, type Sightings } from "./local_queue.ts";
import { encode, garbageAfterMs, type Sight, sightOf, written } from "./record/codec.ts";
import { type LockRecord, MAX_TIME } from "./record/record.ts";
import { withdraw } from "./record/rules.ts";
import { Backoff, type BackoffOptions } from "./retry.ts";
import { within } from "./time_limit.ts";

/** The least time that the store has for an answer, however short the lease. */
export const ANSWER_MS = 1000;

/** For how long one answer is waited for. Leaves room in all but short leases for a second question. */
export function answerMs(leaseMs: number): number {
  return Math.max(leaseMs / 3, ANSWER_MS);
}

/** How long a store that has failed is left alone before it is asked again. */
export const RETRY: BackoffOptions = { leastMs: 10, mostMs: 1000 };

/** Of how many locks it is remembered what was seen of them. */
const MAX_REMEMBERED = 1000;

const peers = new WeakMap<LockBackend, Peer>();

/** This process as one of those that share `backend`. */
export function peerOf(backend: LockBackend, clock = systemClock): Peer {
  let peer = peers.get(backend);
  if (peer === undefined) peers.set(backend, peer = new Peer(backend, clock));
  return peer;
}

/** What became of a replacement, and what is there now where that is known. */
export type Replaced =
  | { readonly ok: true; readonly sight: Sight }
  | { readonly ok: false; readonly sight: Sight | undefined };

/** One process that shares a store with others: its backend, its clock and its local queues. */
export class Peer {
  readonly backend: LockBackend;
  readonly clock: Clock;
  /** This process's place in any line. */
  readonly seatId: string = crypto.randomUUID();
  /** Makes the tokens of this process's holders unguessable. */
  readonly secret: string = crypto.randomUUID();
  /** Of the keys that somebody here holds or wants. */
  readonly queues = new Map<string, LocalQueue>();
  /** What was seen of locks that nobody here wants at the moment. */
  readonly #remembered = new Map<string, Sightings>();
  /** The lines in which this process may have its place; the value changes whenever it takes it anew. */
  readonly seated = new Map<string, symbol>();
  /**
   * How many acquisitions talk to the store, or clear up behind themselves. When there is none, those that got
   * nothing have left nothing there.
   */
  busy = 0;

  constructor(backend: LockBackend, clock: Clock) {
    this.backend = backend;
    this.clock = clock;
  }

  /** What time it is, in whole milliseconds of the store's clock. A backend that tells none is refused. */
  now(): number {
    const now = Math.ceil(this.backend.now());
    if (Math.abs(now) <= MAX_TIME) return now;
    throw new LockBackendError(`its clock tells no time: ${now}`);
  }

  /** Whether the store's time is not known here: others must not judge by what is written of it. */
  get unsure(): boolean {
    return this.backend.skewMs === Infinity;
  }

  /** The local queue of a key; there is one as long as somebody here holds or wants the lock. */
  queue(key: string): LocalQueue {
    let queue = this.queues.get(key);
    if (queue === undefined) {
      this.queues.set(key, queue = new LocalQueue(this, key, this.#remembered.get(key)));
      this.#remembered.delete(key);
    }
    return queue;
  }

  /** Forgets a local queue that nobody uses any more. */
  forget(queue: LocalQueue): void {
    const { key, sightings } = queue;
    if (this.queues.get(key) !== queue) return;
    this.queues.delete(key);
    // Where clocks mean nothing, those who never wait could otherwise never see that a lease has lapsed.
    if (this.backend.skewMs !== Infinity || sightings.size === 0) return;
    this.#remembered.set(key, sightings);
    if (this.#remembered.size > MAX_REMEMBERED) {
      const [oldest] = this.#remembered.keys();
      this.#remembered.delete(oldest);
    }
  }

  /** The record of one key. */
  async read(key: string, limitMs: number): Promise<Sight> {
    return sightOf(await this.readEntry(key, limitMs));
  }

  /** What the store has under one key, a record or not. */
  async readEntry(key: string, limitMs: number): Promise<Entry> {
    const [entry] = await this.bounded(this.backend.read([key]), limitMs);
    return entry;
  }

  /** Replaces one record, if it is still the one that was seen. */
  async replace(sight: Sight, record: LockRecord | null, limitMs: number): Promise<Replaced> {
    return this.replaced(sight, record, await this.bounded(this.commit(sight, record), limitMs));
  }

  /**
   * Replaces a record by what `next` makes of it, or of what others have made of it meanwhile. `false` if that is
   * `undefined`: it is left alone then. `seen` is the record, if it is known.
   */
  async change(
    key: string,
    limitMs: number,
    next: (sight: Sight) => LockRecord | null | undefined,
    seen?: Sight,
  ): Promise<boolean> {
    for (let sight = seen;;) {
      sight ??= await this.read(key, limitMs);
      const record = next(sight);
      if (record === undefined) return false;
      const answer = await this.replace(sight, record, limitMs);
      if (answer.ok) return true;
      sight = answer.sight;
    }
  }

  /** What replaces one record, if it is still the one that was seen. */
  commit({ key, version }: Sight, record: LockRecord | null): Promise<CommitResult> {
    const { backend } = this;
    const value = record && encode(record);
    const now = record?.evicted ? backend.now() : 0;
    const expireInMs = record ? garbageAfterMs(record, now, backend.graceMs) : undefined;
    return backend.commit([{ key, version, value, expireInMs }]);
  }

  /** What became of that. */
  replaced({ key }: Sight, record: LockRecord | null, result: CommitResult): Replaced {
    if (result.ok) return { ok: true, sight: written(key, record, result.version) };
    publish("holdfast:conflict", () => ({ identifier: key }));
    const found = result.entries?.[0];
    return { ok: false, sight: found && sightOf(found) };
  }

  /** The failure of a store that did not answer. */
  silence(limitMs: number): LockBackendError {
    const { name = "the store" } = this.backend;
    const message = `${name} did not answer within ${Math.round(limitMs)} ms`;
    return new LockBackendError(message, { transient: true });
  }

  /** The store's answer; a failure with unknown outcome if that takes longer than `limitMs`. */
  bounded<Answer>(answer: Promise<Answer>, limitMs: number): Promise<Answer> {
    return within(answer, limitMs, { clock: this.clock, late: () => this.silence(limitMs) });
  }

  /**
   * Waits for an answer of the store, and calls one of these; `failed` also with what `heard` throws, and if the answer
   * takes `limitMs` from `now` on: its outcome is then unknown, and nobody is told any more. The alarm is left to ring
   * for nothing, or to be set for what comes next.
   */
  ask<Answer>(
    answer: Promise<Answer>,
    limitMs: number,
    alarm: Alarm,
    now: number,
    heard: (answer: Answer) => void,
    failed: (error: unknown) => void,
  ): void {
    let due = true;
    answer.then(
      (value) => {
        if (!due) return;
        due = false;
        try {
          heard(value);
        } catch (error) {
          failed(error);
        }
      },
      (error) => {
        if (!due) return;
        due = false;
        failed(error);
      },
    );
    alarm.set(now + limitMs, now, () => {
      if (!due) return;
      due = false;
      failed(this.silence(limitMs));
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
    const taken = this.seated.get(key);
    const backoff = new Backoff(RETRY);
    for (;;) {
      try {
        let wanted = false;
        await this.change(key, answerMs(leaseMs), ({ record }) => {
          // A hold of this process needs no place: it may end in ways that give none back.
          const queue = this.queues.get(key);
          wanted = queue !== undefined && queue.idleSeat === undefined;
          return withdraw(
            record,
            { token, seat: wanted ? undefined : this.seatId },
            backend.now(),
            this.unsure,
          );
        });
        if (!wanted && this.seated.get(key) === taken) this.seated.delete(key);
        return;
      } catch (error) {
        if (!(error instanceof LockBackendError && error.transient)) throw error;
        if (clock.monotonicMs() - started > leaseMs) throw error;
        await pause(clock, backoff.pauseMs());
      }
    }
  }
}
