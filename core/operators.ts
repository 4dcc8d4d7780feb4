/** How operators' tools do what `operate.ts` promises. */

import type { Entry, LockBackend } from "./backend.ts";
import { backendError } from "./errors.ts";
import { publishBackendError } from "./events.ts";
import { assertIdentifier, keyOf } from "./identifier.ts";
import type { ListedLock } from "./operate.ts";
import { type Peer, peerOf } from "./peer.ts";
import { sightOf } from "./record/codec.ts";
import type { Holder, LockRecord } from "./record/record.ts";
import { evict } from "./record/rules.ts";

/** How long one question of an operator to the store may take. */
export const LIMIT_MS = 10_000;

/** What `locks` shows. */
export async function* list(backend: LockBackend, prefix: string): AsyncIterableIterator<ListedLock> {
  for await (const entry of backend.list(prefix)) {
    const record = recordOf(entry);
    if (record === undefined || record.holders.length + record.queue.length === 0) continue;
    yield listedLock(entry.key, record, backend.now());
  }
}

/** One lock as `locks` shows it; with neither holders nor waiters if there is no record of it. */
export async function look(identifier: string, backend: LockBackend): Promise<ListedLock> {
  assertIdentifier(identifier);
  const key = await keyOf(identifier);
  try {
    const { record } = await peerOf(backend).read(key, LIMIT_MS);
    return listedLock(key, record, backend.now());
  } catch (error) {
    throw backendError(identifier, "look at", error);
  }
}

/** Evicts whoever holds the lock; with a `fencingToken`, only that hold. Resolves to whether there was one. */
export async function expel(
  identifier: string,
  fencingToken: string | undefined,
  backend: LockBackend,
): Promise<boolean> {
  const peer = peerOf(backend);
  const key = await keyOf(identifier);
  // Only those who are there at the first look: whoever comes after them has nothing to do with it.
  let targets: Set<string | undefined> | undefined;
  try {
    const evicted = await peer.change(key, LIMIT_MS, ({ record }) => {
      targets ??= new Set(
        record.holders.map(({ fence }) => fence).filter((fence) => fence === (fencingToken ?? fence)),
      );
      const meant = ({ fence }: Holder) => targets!.has(fence);
      return evict(record, meant, "forced", peer.now(), backend.skewMs) ?? undefined;
    });
    if (evicted) tellForced(peer, key, targets!);
    return evicted;
  } catch (error) {
    throw backendError(identifier, "force the release of", error);
  }
}

/** The holds with these fencing tokens were evicted: one of this process need not wait to be told by the store. */
export function tellForced(peer: Peer, key: string, fences: ReadonlySet<string | undefined>): void {
  const hold = peer.queues.get(key)?.hold;
  if (hold !== undefined && fences.has(hold.fencingToken)) hold.lose("forced");
}

/** The record of an entry; `undefined` for what is none, which must not keep an operator from the others. */
export function recordOf(entry: Entry): LockRecord | undefined {
  try {
    return sightOf(entry).record;
  } catch (error) {
    publishBackendError(entry.key, error);
  }
}

function listedLock(identifier: string, { holders, queue }: LockRecord, now: number): ListedLock {
  const forMs = (since: number) => Math.max(0, Math.round(now - since));
  return {
    identifier,
    holders: holders.map(({ label, mode, since, expiresAt, fence }) => ({
      label,
      mode,
      since: new Date(since),
      heldForMs: forMs(since),
      leaseLeftMs: Math.floor(expiresAt - now),
      fencingToken: fence!,
    })),
    waiters: queue.map(({ label, mode, since }) => ({
      label,
      mode,
      since: new Date(since),
      waitingForMs: forMs(since),
    })),
  };
}
