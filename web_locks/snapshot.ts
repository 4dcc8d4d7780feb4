import { lockKeyOf } from "../core/identifier.ts";
import { OPERATOR_TIMEOUT_MS, readable } from "../core/operators/listing.ts";
import type { Participant } from "../core/participant.ts";
import { lockIn } from "../core/record/codec.ts";
import { addressOf } from "../core/record/concerns.ts";
import { type Holder, isKept, type QueueEntry } from "../core/record/record.ts";
import type { LockInfo, LockManagerSnapshot } from "./types.ts";

/** One that holds a lock or waits for it, and since when. */
interface Timed {
  readonly info: LockInfo;
  readonly since: number;
}

/** What is held, and what waits, under a prefix: one listing, and one read of each lock that is waited for. */
export async function snapshotOf(
  participant: Participant,
  { prefix, nameOf }: {
    readonly prefix: string;
    /** What the lock of a key is called. */
    readonly nameOf: (key: string) => string;
  },
): Promise<LockManagerSnapshot> {
  const held: Timed[] = [];
  const pending: Timed[] = [];
  for await (const entry of participant.backend.list(prefix)) {
    const { key } = entry;
    if (lockKeyOf(key) !== key) continue;
    const lock = readable(key, () => lockIn(entry));
    // A value that is no record is published on the diagnostics channel.
    if (lock instanceof Error) continue;
    const found = lock.record.queue === undefined
      ? { holders: lock.record.holders, entries: [] }
      : await lookAt(participant, key);
    const name = nameOf(key);
    // What is offered to a process is held from then on, although its callback may not have been called.
    for (const holder of found.holders) if (!isKept(holder)) held.push(timed(name, holder));
    // The order is that of the queue, whatever clocks say.
    let since = -Infinity;
    for (const waiting of pendingOf(participant, key, found)) {
      const { info, since: asked } = timed(name, waiting);
      since = Math.max(since, asked);
      pending.push({ info, since });
    }
  }
  return { held: inOrder(held), pending: inOrder(pending) };
}

/** Both records of a lock, as they are at one moment: between two looks, a waiter may become the holder. */
async function lookAt(
  { store }: Participant,
  key: string,
): Promise<{ readonly holders: readonly Holder[]; readonly entries: readonly QueueEntry[] }> {
  const { lock: { record: { holders, queue: named } }, queue } = await store.bounded(
    store.read(key),
    OPERATOR_TIMEOUT_MS,
  );
  return { holders, entries: queue?.record.id === named ? queue!.record.entries : [] };
}

/** The waiters of one lock, in order, including those of this process that have no place in the queue. */
function* pendingOf(
  participant: Participant,
  key: string,
  { holders, entries }: { readonly holders: readonly Holder[]; readonly entries: readonly QueueEntry[] },
): Generator<Pick<QueueEntry, "mode" | "label" | "token" | "since">> {
  const isHolder = (token: string) => holders.some((holder) => holder.token === token);
  const places = new Set(holders.map(({ offeredTo }) => offeredTo));
  for (const entry of entries) {
    if (isHolder(entry.token)) continue;
    places.add(entry.participant);
    yield entry;
  }
  for (const { entry, token, mode, label, waitedMs } of participant.known(key)?.inOrder ?? []) {
    if (places.has(entry) || isHolder(token)) continue;
    yield { token, mode, label, since: participant.backend.now() - waitedMs };
  }
}

function timed(
  name: string,
  { mode, label, token, since }: Pick<QueueEntry, "mode" | "label" | "token" | "since">,
): Timed {
  return { info: { name, mode, clientId: addressOf(token), label }, since };
}

function inOrder(found: Timed[]): LockInfo[] {
  return found.sort((one, other) => one.since - other.since).map(({ info }) => info);
}
