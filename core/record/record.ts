/**
 * What a store keeps of one lock, in two records: the lock's is the truth, the queue's is advice about order.
 *
 * Claims, renewals, releases and evictions rest on the lock's record alone, so that processes which join and leave the
 * queue never make a holder try again. The lock's record names the queue that belongs to it; a queue that is not named
 * is void, whatever it says.
 */

import type { LossReason } from "../errors.ts";
import type { Mode } from "./modes.ts";

/** Why a holder was evicted. */
export type EvictionReason = Extract<LossReason, "stolen" | "forced">;

/** One hold of the lock. */
export interface Holder extends Mode {
  /** Unguessable, fresh per request, the same through all tries of that request. */
  readonly token: string;
  /** When it was granted, by the granting process's view of the store's clock. */
  readonly since: number;
  readonly leaseMs: number;
  /**
   * When its lease ends, by the same clock; `null` if the process that wrote it did not know the time. The lease is
   * then judged by watching alone.
   */
  readonly expiresAt: number | null;
  /** Counts renewals: that this changed is how an onlooker without a clock sees that the holder lives. */
  readonly renewals: number;
  /** The version of the granting commit, with an index for all but the first. Absent exactly in that commit itself: see `lockIn`. */
  readonly fence?: string;
  /** The fencing token that it had until its mode was changed: how its process knows the hold again. */
  readonly formerFence?: string;
  readonly label?: string;
  /**
   * The process that the lock was handed to by the one that released it. It starts when it sees this, or confirms it
   * first; for all others this is a hold like any other, with a short lease.
   */
  readonly offeredTo?: string;
}

/** What the token of a hold begins with that has been released, and is kept until it has the age that was asked for. */
const KEPT = "kept/";

/** The token of what is kept of a released hold: no process makes such tokens, so that none owns it. */
export function keptTokenOf({ token }: Pick<Holder, "token">): string {
  return KEPT + token;
}

/** Whether a hold has been released, and is only kept. */
export function isKept({ token }: Pick<Holder, "token">): boolean {
  return token.startsWith(KEPT);
}

/** What the token of a hold begins with that its process has handed over, and that no process has taken up yet. */
const CLAIM = "claim/";

/** The token of a hold that is handed over under a secret: no process owns it until one takes it up. */
export function claimTokenOf(secret: string): string {
  return CLAIM + secret;
}

/** Whether a hold has been handed over, and no process has taken it up yet. */
export function isInTransit({ token }: Pick<Holder, "token">): boolean {
  return token.startsWith(CLAIM);
}

/** A process that is queued; or one request of it, where order between requests is the promise. */
export interface QueueEntry extends Mode {
  /** The process, which has one entry for all that wait in it; or a request that has its own entry. */
  readonly participant: string;
  /** Unguessable, fresh per entry: what an offer to this entry must carry, for it to be believed. */
  readonly token: string;
  /** When the first request that waits in it was made, by its view of the store's clock. */
  readonly since: number;
  readonly label?: string;
  /**
   * How long its turn lasts, if that is longer than a grace: it waits for other locks, too, and takes none of them before
   * it can take them all. While it is first and waits, it says in shorter intervals that it lives: see `freedAt`.
   */
  readonly turnMs?: number;
}

/** Tells an evicted holder why. */
export interface EvictionNotice {
  readonly token: string;
  readonly reason: EvictionReason;
  /** The lease of the evicted one. A notice that has been seen for two of these has surely been read. */
  readonly leaseMs: number;
  /** When it surely has been read: a lease later than the evicted one would have ended; `null` if the time was not known. */
  readonly until: number | null;
}

/** The truth about one lock. A lock that is free and has no queue has no record. */
export interface LockRecord {
  /** The format of the record. */
  readonly v: 1;
  readonly holders: readonly Holder[];
  /** Names the queue, if it has entries. */
  readonly queue?: string;
  readonly notices?: readonly EvictionNotice[];
  /**
   * Since when there has been room for the first in the queue, or since it has said last that it lives; `null` if the time
   * was not known.
   */
  readonly freedAt?: number | null;
}

/** The waiters of one lock, in order. Advice, never a grant. */
export interface QueueRecord {
  /** The format of the record. */
  readonly v: 1;
  /** What the lock's record calls this queue. */
  readonly id: string;
  readonly entries: readonly QueueEntry[];
}

/** The record of a lock that is neither held nor wanted. */
export const FREE: LockRecord = { v: 1, holders: [] };

/** The empty queue. */
export const NO_QUEUE: QueueRecord = { v: 1, id: "", entries: [] };

/** The latest moment that a `Date` can show, and that a record may name; as far before the epoch is the earliest. */
export const MAX_TIME = 8.64e15;

/**
 * How many processes a queue takes; further ones wait outside it. This and the other limits keep records under 64
 * KiB.
 */
export const MAX_QUEUE = 64;

/** How many evicted holders a record remembers: the newest. One that is forgotten learns that its lease is over. */
export const MAX_NOTICES = 64;

/** How long a record outlives its last use before the store may collect it. */
export const GARBAGE_AFTER_MS = 60_000;

/** What a record is put together from. */
export type LockParts = Omit<LockRecord, "v">;

/** A record of these parts, with no empty ones; no record at all if nothing is left to say. */
export function recordOrNull({ holders, queue, notices, freedAt }: LockParts): LockRecord | null {
  const told = notices !== undefined && notices.length > 0 ? notices.slice(-MAX_NOTICES) : undefined;
  if (holders.length === 0 && queue === undefined && told === undefined) return null;
  return {
    v: 1,
    holders,
    queue,
    notices: told,
    freedAt: queue === undefined ? undefined : freedAt,
  };
}
