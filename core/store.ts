import type { CommitResult, Entry, LockBackend } from "./backend.ts";
import type { Clock } from "./clock.ts";
import { LockBackendError, UnreadableRecordError } from "./errors.ts";
import { publish, publishBackendError } from "./events.ts";
import { queueKeyOf } from "./identifier.ts";
import {
  changesOf,
  lockIn,
  queueIn,
  type Snapshot,
  snapshotAfter,
  snapshotOf,
  type Versioned,
  voidQueue,
  type Writes,
} from "./record/codec.ts";
import { concernsOf } from "./record/concerns.ts";
import type { LockRecord, QueueRecord } from "./record/record.ts";
import { within } from "./time_limit.ts";

/** What became of writes: what is there now, as far as that is known. */
export type Written =
  | { readonly ok: true; readonly snapshot: Snapshot }
  | {
    readonly ok: false;
    readonly snapshot: Snapshot | undefined;
    /** They may have been applied all the same. */
    readonly mayBeEcho: boolean;
  };

/** What is to be written of one lock, and on what it rests. */
export interface Writing {
  readonly snapshot: Snapshot;
  readonly writes: Writes;
}

/** A backend whose answers are waited for with a limit, and that speaks of locks instead of entries. */
export class Store {
  readonly backend: LockBackend;
  readonly clock: Clock;

  constructor(backend: LockBackend, clock: Clock) {
    this.backend = backend;
    this.clock = clock;
  }

  /** By how much the store's clock may be wrong here at the moment. */
  get clockErrorMs(): number {
    const { errorMs, skewMs } = this.backend;
    return errorMs ?? skewMs / 2;
  }

  /** What time it is, in whole milliseconds of the store's clock. */
  now(): number {
    return Math.ceil(this.backend.now());
  }

  /** The records of a lock, as they are. A queue that cannot be read is void. */
  async read(key: string): Promise<Snapshot> {
    try {
      const [lock, queue] = await this.backend.read([key, queueKeyOf(key)]);
      return told(snapshotOf(lock, queue));
    } catch (error) {
      if (!(error instanceof UnreadableRecordError)) throw error;
      // One of the two is in the way. If it is the lock's, this fails, too.
      return told({ ...await this.readAlone(key), queue: voidQueue(error) });
    }
  }

  /** The same without the queue's. */
  async readAlone(key: string): Promise<Snapshot> {
    return { key, lock: await this.readLock(key), queue: undefined };
  }

  /** The lock's record alone. */
  async readLock(key: string): Promise<Versioned<LockRecord>> {
    const [entry] = await this.backend.read([key]);
    return lockIn(entry);
  }

  /** The queue's record alone. One that cannot be read is void. */
  async readQueue(key: string): Promise<Versioned<QueueRecord>> {
    const reading = this.backend.read([queueKeyOf(key)]);
    const queue = await reading.then(([entry]) => queueIn(entry), (error) => {
      if (!(error instanceof UnreadableRecordError)) throw error;
      return voidQueue(error);
    });
    if (queue.unreadable !== undefined) publishBackendError(key, queue.unreadable);
    return queue;
  }

  /** Sends writes, which are applied if nothing that they change has been changed since `snapshot`. */
  send(snapshot: Snapshot, writes: Writes): Promise<CommitResult> {
    const concerns = concernsOf(snapshot, writes, () => this.backend.now());
    const changes = changesOf(snapshot, writes, this.backend.graceMs);
    return this.backend.commit(changes, concerns && { concerns });
  }

  /** The records of several locks, as they are at one moment. */
  async readAll(keys: readonly string[]): Promise<readonly Snapshot[]> {
    try {
      const entries = await this.backend.read(keys.flatMap((key) => [key, queueKeyOf(key)]));
      return keys.map((_, i) => told(snapshotOf(entries[2 * i], entries[2 * i + 1])));
    } catch (error) {
      if (!(error instanceof UnreadableRecordError)) throw error;
      // One of them is in the way. If it is a lock's, one of these fails, too.
      return await Promise.all(keys.map((key) => this.read(key)));
    }
  }

  /** The locks' records alone, as they are at one moment. */
  async readLocks(keys: readonly string[]): Promise<readonly Versioned<LockRecord>[]> {
    return (await this.backend.read(keys)).map(lockIn);
  }

  /** Sends writes to several locks, which are applied together or not at all. */
  sendTogether(writings: readonly Writing[]): Promise<CommitResult> {
    const now = () => this.backend.now();
    const written = writings.filter(({ writes: { lock, queue } }) =>
      lock !== undefined || queue !== undefined
    );
    const changes = written.flatMap(({ snapshot, writes }) =>
      changesOf(snapshot, writes, this.backend.graceMs)
    );
    const concerned = written.map(({ snapshot, writes }) => concernsOf(snapshot, writes, now));
    const isForAll = concerned.includes(undefined);
    return this.backend.commit(
      changes,
      isForAll ? undefined : { concerns: [...new Set(concerned.flat() as string[])] },
    );
  }

  /** What the answer to them says. */
  written(snapshot: Snapshot, writes: Writes, answer: CommitResult): Written {
    if (answer.ok) return { ok: true, snapshot: snapshotAfter(snapshot, writes, answer.version) };
    publish("holdfast:conflict", () => ({ identifier: snapshot.key }));
    const { entries, mayBeEcho = false } = answer;
    const isKnown = entries !== undefined && !mayBeEcho;
    return { ok: false, snapshot: isKnown ? told(foundIn(entries, snapshot)) : undefined, mayBeEcho };
  }

  /**
   * Replaces the records of a lock by what `next` makes of them, or of what others have made of them meanwhile. `false` if
   * that is `undefined`: they are left alone then. `seen` is what they are, if that is known; the queue's is only looked at
   * `withQueue`. `mayBeDone` says that what was made of them before may have been written although it was refused.
   */
  async change(
    { key, limitMs, seen, withQueue = false }: {
      readonly key: string;
      readonly limitMs: number;
      readonly seen?: Snapshot;
      readonly withQueue?: boolean;
    },
    next: (snapshot: Snapshot, mayBeDone: boolean) => Writes | undefined,
  ): Promise<boolean> {
    let mayBeDone = false;
    for (let snapshot = seen;;) {
      snapshot ??= await this.bounded(withQueue ? this.read(key) : this.readAlone(key), limitMs);
      const writes = next(snapshot, mayBeDone);
      if (writes === undefined) return false;
      const written = this.written(
        snapshot,
        writes,
        await this.bounded(this.send(snapshot, writes), limitMs),
      );
      if (written.ok) return true;
      mayBeDone ||= written.mayBeEcho;
      // The queue that was known may have gone with the record that named it.
      snapshot = withQueue && written.snapshot?.queue === undefined ? undefined : written.snapshot;
    }
  }

  /** The failure of a store that did not answer. */
  silence(limitMs: number): LockBackendError {
    const { name = "the store" } = this.backend;
    return new LockBackendError(`${name} did not answer within ${Math.round(limitMs)} ms`, {
      transient: true,
    });
  }

  /** The store's answer; a failure with unknown outcome if that takes longer than `limitMs`. */
  bounded<Answer>(answer: Promise<Answer>, limitMs: number): Promise<Answer> {
    return within(answer, limitMs, { clock: this.clock, late: () => this.silence(limitMs) });
  }
}

/** Publishes if a queue cannot be read: no caller hears of it, for none of them suffers from it. */
function told(snapshot: Snapshot): Snapshot {
  const { key, queue } = snapshot;
  if (queue?.unreadable !== undefined) publishBackendError(key, queue.unreadable);
  return snapshot;
}

/** What a refused commit has found, and what it did not ask for as it was before. */
function foundIn(entries: readonly Entry[], { key, lock, queue }: Snapshot): Snapshot {
  const ofLock = entries.find((entry) => entry.key === key);
  const ofQueue = entries.find((entry) => entry.key !== key);
  // A queue is not the one that was known if the lock has changed.
  return {
    key,
    lock: ofLock === undefined ? lock : lockIn(ofLock),
    queue: ofQueue !== undefined ? queueIn(ofQueue) : ofLock === undefined ? queue : undefined,
  };
}
