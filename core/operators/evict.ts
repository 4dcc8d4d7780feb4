/** Takes a lock away from outside. */

import type { LockBackend } from "../backend.ts";
import { backendError } from "../errors.ts";
import { keyOf } from "../identifier.ts";
import { type Participant, participantOf } from "../participant.ts";
import { evict, lossOf } from "../record/eviction.ts";
import type { Holder } from "../record/record.ts";
import { OPERATOR_TIMEOUT_MS } from "./listing.ts";

/** Evicts the holders of the lock; with a `fencingToken`, only that hold. Resolves to whether there was one. */
export async function evictHolders(
  identifier: string,
  fencingToken: string | undefined,
  backend: LockBackend,
): Promise<boolean> {
  const participant = participantOf(backend);
  const { store } = participant;
  const key = await keyOf(identifier);
  // Only the holds that are there at the first look: later holders are left alone.
  let targets: readonly Holder[] | undefined;
  let wasDone = false;
  try {
    const where = { key, limitMs: OPERATOR_TIMEOUT_MS };
    const evicted = await store.change(where, ({ lock: { record } }, mayBeDone) => {
      targets ??= record.holders.filter(({ fence }) => fence === (fencingToken ?? fence));
      // If it was refused by its own echo, the notices are there.
      wasDone = mayBeDone && targets.some(({ token }) => lossOf(record, token) === "forced");
      const which = ({ fence }: Holder) => targets!.some((target) => target.fence === fence);
      // Nothing has been watched here: the notices of others stay, unless the clock proves that they have been read.
      const evidence = { now: store.now(), skewMs: backend.skewMs, noticeSeenMs: () => 0 };
      return evict(record, { which, reason: "forced", evidence }) ?? undefined;
    });
    if (!evicted && !wasDone) return false;
    notifyForced(participant, key, new Set(targets!.map(({ fence }) => fence)));
    return true;
  } catch (error) {
    throw backendError(identifier, "force the release of", error);
  }
}

/**
 * The holds with these fencing tokens were evicted: one of this process need not wait for the store's
 * notification.
 */
export function notifyForced(
  participant: Participant,
  key: string,
  fences: ReadonlySet<string | undefined>,
): void {
  for (const hold of participant.known(key)?.holds ?? []) {
    if (fences.has(hold.fencingToken)) hold.lose("forced");
  }
}
