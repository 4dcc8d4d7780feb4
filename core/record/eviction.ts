/** How a holder is evicted, and told why. */

import type { LossReason } from "../errors.ts";
import { endOf, type Evidence, noticeLeftMs, timeOf } from "./evidence.ts";
import {
  type EvictionNotice,
  type EvictionReason,
  type Holder,
  type LockRecord,
  MAX_TIME,
  recordOrNull,
} from "./record.ts";

/** What it takes to judge notices. */
export type NoticeEvidence = Pick<Evidence, "now" | "skewMs" | "noticeSeenMs">;

/** Evicts every holder that `which` selects, leaving each a notice; `null` if there is none. */
export function evict(
  record: LockRecord,
  { which, reason, evidence }: {
    readonly which: (holder: Holder) => boolean;
    readonly reason: EvictionReason;
    readonly evidence: NoticeEvidence;
  },
): { readonly lock: LockRecord | null } | null {
  const leaving = record.holders.filter(which);
  if (leaving.length === 0) return null;
  const holders = record.holders.filter((holder) => !leaving.includes(holder));
  const notices = [
    ...activeNotices(record, evidence),
    ...leaving.map((holder) => noticeFor(holder, reason, evidence)),
  ];
  return { lock: recordOrNull({ holders, queue: record.queue, notices, freedAt: timeOf(evidence) }) };
}

/** Why the holder with this token is not, or no longer, in the record. */
export function lossOf(record: LockRecord, token: string): LossReason {
  return record.notices?.find((notice) => notice.token === token)?.reason ?? "expired";
}

/** The notice for this holder, which is evicted now. */
export function noticeFor(
  { token, expiresAt, leaseMs }: Holder,
  reason: EvictionReason,
  evidence: Pick<Evidence, "now" | "skewMs">,
): EvictionNotice {
  const end = expiresAt ?? endOf(leaseMs, evidence);
  return { token, reason, leaseMs, until: end === null ? null : Math.min(end + leaseMs, MAX_TIME) };
}

/** The notices whose addressees may still not have read them. */
export function activeNotices(record: LockRecord, evidence: NoticeEvidence): readonly EvictionNotice[] {
  return record.notices?.filter((notice) => noticeLeftMs(notice, evidence) > 0) ?? [];
}
