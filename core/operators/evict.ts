/** Takes a lock away from outside. */

import type { LockBackend } from "../backend.ts";
import { backendError } from "../errors.ts";
import { keyOf } from "../identifier.ts";
import { type Peer, peerOf } from "../peer.ts";
import type { Holder } from "../record/record.ts";
import { evict } from "../record/rules.ts";
import { OPERATOR_TIMEOUT_MS } from "./listing.ts";

/** Evicts whoever holds the lock; with a `fencingToken`, only that hold. Resolves to whether there was one. */
export async function evictHolders(
  identifier: string,
  fencingToken: string | undefined,
  backend: LockBackend,
): Promise<boolean> {
  const peer = peerOf(backend);
  const key = await keyOf(identifier);
  // Only those who are there at the first look: whoever comes after them has nothing to do with it.
  let targets: Set<string | undefined> | undefined;
  try {
    const evicted = await peer.change(key, OPERATOR_TIMEOUT_MS, ({ record }) => {
      targets ??= new Set(
        record.holders.map(({ fence }) => fence).filter((fence) => fence === (fencingToken ?? fence)),
      );
      const meant = ({ fence }: Holder) => targets!.has(fence);
      return evict(record, meant, "forced", peer.now(), backend.skewMs) ?? undefined;
    });
    if (evicted) notifyForced(peer, key, targets!);
    return evicted;
  } catch (error) {
    throw backendError(identifier, "force the release of", error);
  }
}

/** The holds with these fencing tokens were evicted: one of this process need not wait to be told by the store. */
export function notifyForced(peer: Peer, key: string, fences: ReadonlySet<string | undefined>): void {
  const hold = peer.queues.get(key)?.hold;
  if (hold !== undefined && fences.has(hold.fencingToken)) hold.lose("forced");
}
