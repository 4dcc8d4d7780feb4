/** The record of one lock: what a store keeps of it, and how one is put together. */

import type { LossReason } from "../errors.ts";

/** Why a holder was evicted. */
export type EvictionReason = Extract<LossReason, "stolen" | "forced">;

/** One hold of the lock. */
export interface Holder {
  /** Unguessable, fresh per acquisition, the same through all retries of that acquisition. */
  readonly token: string;
  /** Room for shared locks and limits; today every holder excludes every other. */
  readonly mode: "exclusive";
  readonly limit: 1;
  /** When it was granted, by the granting process's view of the store's clock. */
  readonly since: number;
  readonly leaseMs: number;
  /** When its lease ends, by the same clock; `NEVER_MS` if that process did not know the store's time. */
  readonly expiresAt: number;
  /** Counts renewals: that this changed is how an onlooker without a clock sees that the holder lives. */
  readonly renewals: number;
  /** The version of the granting commit. Absent exactly in that commit itself: see `seen`. */
  readonly fence?: string;
  readonly label?: string;
}

/** A process in line. Advice about order, never a grant. */
export interface Waiter {
  /** Names the place in line; shared by all waiters of one process. */
  readonly seat: string;
  readonly mode: "exclusive";
  readonly limit: 1;
  readonly since: number;
  readonly label?: string;
}

/** A note for an evicted holder, so that it can be told why. */
export interface Eviction {
  readonly token: string;
  readonly reason: EvictionReason;
  /** When the note may go: a lease later than the evicted one would have ended, it has surely been read. */
  readonly until: number;
}

/** All that a store knows of one lock. A lock that is free and has no line has no record. */
export interface LockRecord {
  /** The format of the record. */
  readonly v: 1;
  readonly holders: readonly Holder[];
  readonly queue: readonly Waiter[];
  readonly evicted?: readonly Eviction[];
  /** Since when nobody has held it, while somebody is in line; after `NEVER_MS` if whoever freed it did not know the time. */
  readonly freedAt?: number;
}

/** The record of a lock that nobody holds or wants. */
export const FREE: LockRecord = { v: 1, holders: [], queue: [] };

/** A moment that nobody may judge by a clock: whoever wrote it did not know the store's time. In 9999. */
export const NEVER_MS: number = Date.UTC(9999, 11, 31);

/** The latest moment that a `Date` can show, and that a record may name; as far before the epoch is the earliest. */
export const MAX_TIME = 8.64e15;

/** How many may hold a lock at once. This and the next two limits keep a record under 64 KiB. */
export const MAX_HOLDERS = 64;

/** How many processes stand in a record's line; further ones wait beside it. */
export const MAX_QUEUE = 64;

/** How many evicted holders a record remembers: the newest. One that is forgotten learns that its lease is over. */
export const MAX_NOTICES = 64;

/** How long a record outlives its last use before the store may collect it. */
export const GARBAGE_AFTER_MS = 60_000;

/** A record of these parts, with no empty ones. `freedAt` stays as long as nobody holds the lock. */
export function recordOf(
  { freedAt }: LockRecord,
  holders: readonly Holder[],
  queue: readonly Waiter[],
  evicted: readonly Eviction[],
): LockRecord {
  return {
    v: 1,
    holders,
    queue,
    evicted: evicted.length > 0 ? evicted.slice(-MAX_NOTICES) : undefined,
    freedAt: holders.length === 0 && queue.length > 0 ? freedAt : undefined,
  };
}

/** The same, freed at this moment if it is free; no record at all if nothing is left to say. */
export function recordOrNull(
  record: LockRecord,
  holders: readonly Holder[],
  queue: readonly Waiter[],
  evicted: readonly Eviction[],
  freedAt: number,
): LockRecord | null {
  if (holders.length === 0 && queue.length === 0 && evicted.length === 0) return null;
  return recordOf({ ...record, freedAt }, holders, queue, evicted);
}
