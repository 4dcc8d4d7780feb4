/** What surely is, given what was seen of a record and when. Every judgement errs on the late side. */

import type { EvictionNotice, Holder, LockRecord } from "./record.ts";

/**
 * From where a record is looked at: the store's clock, and what this process has watched on its own monotonic one.
 * Either alone may prove that time has passed, because either errs on the late side.
 */
export interface Evidence {
  /** The store's time. It proves nothing if `skewMs` is Infinity. */
  readonly now: number;
  readonly skewMs: number;
  /** By how much the time may be wrong at the moment. */
  readonly errorMs: number;
  readonly graceMs: number;
  /** For how long this holder has been seen here. */
  holderSeenMs(holder: Holder): number;
  /** For how long it has been seen here without a renewal. */
  leaseSeenMs(holder: Holder): number;
  /** For how long this notice has been seen here. */
  noticeSeenMs(notice: EvictionNotice): number;
  /** For how long this record has been seen here as it is. */
  freeSeenMs(record: LockRecord): number;
  /** Whether this process has seen the lock become free, and so knows since when, without any process's clock. */
  sawFreed(record: LockRecord): boolean;
}

/** How long a lease that is watched must stand unrenewed: two clocks that differ a little must not disagree on it. */
export function watchedLeaseMs(leaseMs: number): number {
  return leaseMs + Math.max(5, leaseMs / 100);
}

/** In how long the holder's lease has surely run out; 0 or less = it has. */
export function lapsesInMs(holder: Holder, evidence: Evidence): number {
  const { expiresAt, leaseMs } = holder;
  const watchedMs = watchedLeaseMs(leaseMs) - evidence.leaseSeenMs(holder);
  return expiresAt === null ? watchedMs : Math.min(expiresAt + evidence.skewMs - evidence.now, watchedMs);
}

/** In how long a notice has surely been read by the evicted holder, or is of no use to it any more; 0 or less = it has. */
export function noticeLeftMs(
  notice: EvictionNotice,
  evidence: Pick<Evidence, "now" | "skewMs" | "noticeSeenMs">,
): number {
  const { leaseMs, until } = notice;
  const watchedMs = 2 * watchedLeaseMs(leaseMs) - evidence.noticeSeenMs(notice);
  return until === null ? watchedMs : Math.min(until + evidence.skewMs - evidence.now, watchedMs);
}

/** In how long the holder has surely held for `afterMs`, and may be evicted for it; 0 or less = it has. */
export function evictableInMs(holder: Holder, afterMs: number | undefined, evidence: Evidence): number {
  // What is only offered so far is over soon; the process that it is offered to has not had its turn.
  if (afterMs === undefined || holder.offeredTo !== undefined) return Infinity;
  const watchedMs = afterMs - evidence.holderSeenMs(holder);
  // A process that did not know when its lease ends did not know either when it began.
  if (holder.expiresAt === null) return watchedMs;
  return Math.min(holder.since + afterMs + evidence.skewMs - evidence.now, watchedMs);
}

/** For how long there has been room, now that the leases of `lapsed`, which were all that stood in the way, are over. */
export function freeForMs(record: LockRecord, lapsed: readonly Holder[], evidence: Evidence): number {
  let freeMs = Infinity;
  // By whichever proves it: where clocks mean nothing, that a lapse has been watched must count.
  for (const holder of lapsed) freeMs = Math.min(freeMs, -lapsesInMs(holder, evidence));
  if (freeMs !== Infinity) return freeMs;
  // While others hold it, room of which nothing is written has been there as long as it has been seen.
  const { freedAt = record.holders.length > 0 ? null : 0 } = record;
  const seenMs = evidence.freeSeenMs(record);
  // The commit that frees it says when it was sent. Where it was under way for long, the second in the queue would believe that the
  // first has had its grace, and both have just heard of it.
  return freedAt === null || evidence.sawFreed(record)
    ? seenMs
    : Math.max(evidence.now - freedAt - evidence.skewMs, seenMs);
}

/** The time, as a process writes it that may not know it. */
export function timeOf({ now, skewMs }: Pick<Evidence, "now" | "skewMs">): number | null {
  return skewMs === Infinity ? null : now;
}

/** When a lease ends that begins now, as a process writes it that may not know the time. */
export function endOf(leaseMs: number, { now, skewMs }: Pick<Evidence, "now" | "skewMs">): number | null {
  return skewMs === Infinity ? null : now + leaseMs;
}
