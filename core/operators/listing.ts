/** What operators see of the locks in a store. */

import type { Entry, LockBackend } from "../backend.ts";
import { backendError, type HolderInfo, type LockBackendError, UnreadableRecordError } from "../errors.ts";
import { publishBackendError } from "../events.ts";
import { keyOf, lockKeyOf } from "../identifier.ts";
import type { LockMode } from "../options.ts";
import { participantOf } from "../participant.ts";
import { lockIn } from "../record/codec.ts";
import { isInTransit, isKept, type LockRecord, type QueueEntry } from "../record/record.ts";

/** How long one question of an operator to the store may take. */
export const OPERATOR_TIMEOUT_MS = 10_000;

/** How a lock is held or wanted, as {@linkcode locks} shows it. */
export interface ListedMode {
  /** Whether it is shared. */
  readonly mode: LockMode;
  /** How many permits there are, as far as this one is concerned: 1 for a lock without a `limit`. */
  readonly limit: number;
  /** How many of them it takes or wants. */
  readonly permits: number;
}

/** One holder, as {@linkcode locks} shows it. */
export interface ListedHolder extends HolderInfo, ListedMode {
  /** Whether it shares the lock and waits to be the only holder: no other caller is admitted meanwhile. */
  readonly upgrading: boolean;
  /** When it was granted, by the store's clock. */
  readonly since: Date;
  /** How many whole milliseconds of its lease are left; 0 or less once it has expired and others may take over. */
  readonly leaseLeftMs: number;
  /** Its fencing token. */
  readonly fencingToken: string;
  /** Whether it has released the lock, which is kept until the end of this lease because of `holdAtLeastMs`. */
  readonly released: boolean;
  /**
   * Whether it has handed the lock over, and no process has restored it so far: until the end of this lease one
   * may. Label and fencing token are those of the process that has handed it over.
   */
  readonly handedOver: boolean;
}

/** One process in the queue, or one request of `@holdfast/lock/web-locks`, as {@linkcode locks} shows it. */
export interface ListedWaiter extends ListedMode {
  /** The label its process gave, or `undefined`. */
  readonly label: string | undefined;
  /** When the first that waits in it asked, by the store's clock. */
  readonly since: Date;
  /** For how many milliseconds that one has been waiting. */
  readonly waitingForMs: number;
}

/** One lock, as {@linkcode locks} shows it. */
export interface ListedLock {
  /** The identifier; of a very long one the beginning and a hash, which together name the same lock. */
  readonly identifier: string;
  /** Its holders; empty if it is free and others are in the queue. */
  readonly holders: readonly ListedHolder[];
  /** The queue, in order: one place for each process, and for each request of `@holdfast/lock/web-locks`. */
  readonly waiters: readonly ListedWaiter[];
  /**
   * What is wrong with the record, if it is none that this version can read. No process can then acquire the lock
   * until the record is deleted from the store by hand, and `holders` and `waiters` are empty. Absent in every
   * other case.
   */
  readonly unreadable?: string | undefined;
}

/** What `locks` shows. */
export async function* list(backend: LockBackend, prefix: string): AsyncIterableIterator<ListedLock> {
  for await (const entry of backend.list(prefix)) {
    // Queues are shown with the locks that they belong to.
    if (lockKeyOf(entry.key) !== entry.key) continue;
    const lock = await listedLock(entry, backend);
    if (lock.holders.length + lock.waiters.length > 0 || lock.unreadable !== undefined) yield lock;
  }
}

/** What one read has shown of a lock, and the versions of both its records. */
export interface Seen {
  readonly shown: ListedLock;
  readonly version: string | null | undefined;
  readonly queue: string | null | undefined;
}

/** One lock as `locks` shows it, in one read; with neither holders nor waiters if there is no record of it. */
export async function look(identifier: string, backend: LockBackend): Promise<Seen> {
  const key = await keyOf(identifier);
  const { store } = participantOf(backend);
  try {
    const { lock, queue } = await store.bounded(store.read(key), OPERATOR_TIMEOUT_MS);
    const isNamed = queue?.record.id === lock.record.queue;
    const shown = shownLock(key, lock.record, isNamed ? queue!.record.entries : [], backend.now());
    return { shown, version: lock.version, queue: queue?.version };
  } catch (error) {
    if (error instanceof UnreadableRecordError) {
      publishBackendError(key, error);
      return { shown: unreadableLock(key, error), version: undefined, queue: undefined };
    }
    throw backendError(identifier, "look at", error);
  }
}

/** What `read` makes of a record; an error for what is none: it must not keep an operator from the others. */
export function readable<Read>(key: string, read: () => Read): Read | LockBackendError {
  try {
    return read();
  } catch (error) {
    publishBackendError(key, error);
    return error as LockBackendError;
  }
}

async function listedLock(entry: Entry, backend: LockBackend): Promise<ListedLock> {
  const { key } = entry;
  const lock = readable(key, () => lockIn(entry));
  if (lock instanceof Error) return unreadableLock(key, lock);
  const { record } = lock;
  const entries = record.queue === undefined ? [] : await entriesOf(key, record.queue, backend);
  return shownLock(key, record, entries, backend.now());
}

function shownLock(
  key: string,
  { holders }: LockRecord,
  entries: readonly QueueEntry[],
  now: number,
): ListedLock {
  const forMs = (since: number) => Math.max(0, Math.round(now - since));
  return {
    identifier: key,
    holders: holders.map((holder) => {
      const { label, mode, limit, permits = 1, upgrades, since, leaseMs, expiresAt, fence } = holder;
      return {
        label,
        mode,
        limit,
        permits,
        upgrading: upgrades === true,
        since: new Date(since),
        heldForMs: forMs(since),
        leaseLeftMs: Math.floor(Math.min(leaseMs, (expiresAt ?? since + leaseMs) - now)),
        fencingToken: fence!,
        released: isKept(holder),
        handedOver: isInTransit(holder),
      };
    }),
    waiters: entries.map(({ label, mode, limit, permits = 1, since }) => ({
      label,
      mode,
      limit,
      permits,
      since: new Date(since),
      waitingForMs: forMs(since),
    })),
  };
}

/** The entries of the queue that a lock names. */
async function entriesOf(key: string, queue: string, backend: LockBackend): Promise<readonly QueueEntry[]> {
  const { store } = participantOf(backend);
  const { record } = await store.bounded(store.readQueue(key), OPERATOR_TIMEOUT_MS);
  return record.id === queue ? record.entries : [];
}

function unreadableLock(identifier: string, { message }: LockBackendError): ListedLock {
  return { identifier, holders: [], waiters: [], unreadable: message };
}
