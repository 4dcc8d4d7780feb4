/** What a cleanup does about a lock. */

import type { Snapshot, Writes } from "./codec.ts";
import { evict } from "./eviction.ts";
import { evictableInMs, type Evidence, freeForMs, lapsesInMs, noticeLeftMs } from "./evidence.ts";
import { GARBAGE_AFTER_MS, type Holder, MAX_QUEUE } from "./record.ts";

/** What a cleanup does about a lock. */
export type Sweep =
  /** Write this: it means nothing to any process any more. */
  | { readonly kind: "remove"; readonly writes: Writes }
  /** Write this: it evicts the holders with these fencing tokens, which have held for too long. */
  | { readonly kind: "evict"; readonly writes: Writes; readonly fences: ReadonlySet<string | undefined> }
  /** Leave it alone, unless this much time passes in which it does not change. */
  | { readonly kind: "keep"; readonly forMs: number };

/**
 * Decides what a cleanup does about a lock. Garbage is one whose every lease has surely lapsed, whose queue has
 * been passed over for so long that no live process can be in it, and whose notices have all had their time; and a
 * queue that no lock names. `olderThanMs` evicts those that have held for longer, alive or not.
 */
export function sweep(
  { lock: { record, version }, queue }: Snapshot,
  olderThanMs: number | undefined,
  evidence: Evidence,
): Sweep {
  const { holders } = record;
  const standing = holders.filter((holder) => lapsesInMs(holder, evidence) > 0);
  const overstayed = standing.filter((holder) => evictableInMs(holder, olderThanMs, evidence) <= 0);
  if (overstayed.length > 0) {
    const fences = new Set(overstayed.map(({ fence }) => fence));
    const which = ({ fence }: Holder) => fences.has(fence);
    return { kind: "evict", writes: evict(record, { which, reason: "forced", evidence })!, fences };
  }
  if (standing.length > 0) {
    let forMs = -Infinity;
    for (const holder of standing) forMs = Math.max(forMs, lapsesInMs(holder, evidence));
    for (const holder of standing) forMs = Math.min(forMs, evictableInMs(holder, olderThanMs, evidence));
    return { kind: "keep", forMs };
  }
  // A live waiter takes a free lock when the graces of those before it have passed, or queues again.
  const staleMs = GARBAGE_AFTER_MS + MAX_QUEUE * evidence.graceMs;
  let forMs = record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence);
  for (const notice of record.notices ?? []) forMs = Math.max(forMs, noticeLeftMs(notice, evidence));
  if (forMs > 0) return { kind: "keep", forMs };
  const writes: Writes = {
    lock: version === null ? undefined : null,
    queue: queue === undefined || queue.version === null ? undefined : null,
  };
  return { kind: "remove", writes };
}
