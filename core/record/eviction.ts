/** How a holder is evicted, and told why. */

import type { LossReason } from "../errors.ts";
import { type Evidence, timeOf } from "./evidence.ts";
import {
  type EvictionNotice,
  type EvictionReason,
  GARBAGE_AFTER_MS,
  type Holder,
  type LockRecord,
  MAX_TIME,
  recordOrNull,
} from "./record.ts";

/** Evicts every holder that `which` selects, leaving each a notice; `null` if there is none. */
export function evict(
  record: LockRecord,
  { which, reason, evidence }: {
    readonly which: (holder: Holder) => boolean;
    readonly reason: EvictionReason;
    readonly evidence: Pick<Evidence, "now" | "skewMs">;
  },
): { readonly lock: LockRecord | null } | null {
  const leaving = record.holders.filter(which);
  if (leaving.length === 0) return null;
  const holders = record.holders.filter((holder) => !leaving.includes(holder));
  const notices = [
    ...activeNotices(record, evidence.now),
    ...leaving.map((holder) => noticeFor(holder, reason, evidence)),
  ];
  return { lock: recordOrNull({ holders, queue: record.queue, notices, freedAt: timeOf(evidence) }) };
}

/** Why the holder with this token is not, or no longer, in the record. */
export function lossOf(record: LockRecord, token: string): LossReason {
  return record.notices?.find((notice) => notice.token === token)?.reason ?? "expired";
}

/** What tells this holder that it is evicted now. */
export function noticeFor(
  { token, expiresAt, leaseMs }: Holder,
  reason: EvictionReason,
  { now, skewMs }: Pick<Evidence, "now" | "skewMs">,
): EvictionNotice {
  const end = expiresAt ?? now + leaseMs;
  const until = end + leaseMs + Math.min(skewMs, GARBAGE_AFTER_MS);
  return { token, reason, until: Math.min(until, MAX_TIME) };
}

/** The notices whose addressees may still not have read them. */
export function activeNotices(record: LockRecord, now: number): readonly EvictionNotice[] {
  return record.notices?.filter(({ until }) => until > now) ?? [];
}
