/** What surely is, given what was seen of a record and when. Every judgement errs on the late side. */

import { type Holder, type LockRecord, NEVER_MS } from "./record.ts";

/**
 * From where a record is looked at: the store's clock, and what this process has watched on its own
 * monotonic one. Either alone may prove that time has passed, because either errs on the late side.
 */
export interface View {
  readonly now: number;
  readonly skewMs: number;
  readonly graceMs: number;
  /** For how long this holder has been seen here. */
  holderSeenMs(holder: Holder): number;
  /** For how long it has been seen here without a renewal. */
  leaseSeenMs(holder: Holder): number;
  /** For how long this record has been seen here without a holder. */
  freeSeenMs(record: LockRecord): number;
}

/** In how long the holder's lease has surely run out; 0 or less = it has. */
export function lapsesInMs(holder: Holder, view: View): number {
  // Two clocks that run at slightly different rates must not disagree on a whole lease.
  const watched = holder.leaseMs + Math.max(5, holder.leaseMs / 100);
  return Math.min(
    holder.expiresAt + view.skewMs - view.now,
    watched - view.leaseSeenMs(holder),
  );
}

/** In how long the holder has surely held for `afterMs`, and may be evicted for it; 0 or less = it has. */
export function evictableInMs(holder: Holder, afterMs: number | undefined, view: View): number {
  if (afterMs === undefined) return Infinity;
  return Math.min(
    holder.expiresAt === NEVER_MS ? Infinity : holder.since + afterMs + view.skewMs - view.now,
    afterMs - view.holderSeenMs(holder),
  );
}

/** For how long nobody has held the lock, now that every lease in `holders` has lapsed. */
export function freeForMs(record: LockRecord, holders: readonly Holder[], view: View): number {
  // By whichever proves it: where clocks mean nothing, that a lapse has been watched must count.
  if (holders.length > 0) return -Math.max(...holders.map((holder) => lapsesInMs(holder, view)));
  return Math.max(view.now - (record.freedAt ?? 0) - view.skewMs, view.freeSeenMs(record));
}
