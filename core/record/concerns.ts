/** Which watchers a commit concerns: the only place that knows. */

import type { Snapshot, Writes } from "./codec.ts";
import type { Holder, QueueEntry, QueueRecord } from "./record.ts";

/**
 * Of how many units the beginning of a token names its process: too few to show the rest, enough to distinguish
 * processes.
 */
const ADDRESS_UNITS = 8;
/**
 * For how long waiters need not hear of a lock that passes from one to the next, in milliseconds: where two of them in a
 * row have died, the third knows nothing newer until its own next look.
 */
const SILENCE_MS = 1000;

/** The name of a process that watches, from any token of it. */
export function addressOf(token: string): string {
  return token.slice(0, ADDRESS_UNITS);
}

/**
 * The addresses of the watchers that these writes concern; `undefined` if that is all of them.
 *
 * A commit that joins or leaves the queue concerns the holders, which have to know the process that the lock is to be offered to, and
 * the process that is the first in the queue by it: there may be room for it that the one before it did not want.
 * An offer concerns the process that gets it, the other holders, and the one that is next now, which has to see it
 * expire if the first is dead; that it is taken up concerns the same. All others learn nothing from it. They have
 * to hear of the lock only now and then: after a long hold they do.
 */
export function concernsOf(
  before: Snapshot,
  { lock, queue, isOwn = false, staysHere = false }: Writes,
  now: () => number,
): string[] | undefined {
  const { record: { holders, queue: named }, version } = before.lock;
  // A process that finds nothing there takes the lock, and watches nothing. So does one that finds a hold that is
  // gone when it joins the queue.
  if (version === null || (isOwn && named === undefined)) return [];
  if (lock === null || holders.length === 0) return undefined;
  if (lock === undefined) return addresses([...holders, ...newHeadOf(before, queue)]);
  if (isSame(holders, lock.holders)) return addresses(holders);
  if (staysHere && lock.holders.every(({ expiresAt }) => expiresAt !== null)) return [];
  const gone = missingFrom(lock.holders, holders);
  const come = missingFrom(holders, lock.holders);
  const offers = come.some(({ offeredTo }) => offeredTo !== undefined);
  const takesUp = gone.length > 0 && gone.every(({ offeredTo }) => offeredTo !== undefined);
  if (come.length === 0 || !(offers || takesUp)) return undefined;
  const atMs = now();
  if (!gone.every(({ since }) => Math.abs(atMs - since) < SILENCE_MS)) return undefined;
  const next = headOf(queue === undefined ? before.queue?.record : queue, [...holders, ...lock.holders]);
  return addresses(next === undefined ? lock.holders : [...lock.holders, next]);
}

/** The first in the queue, if it was another before. */
function newHeadOf({ lock, queue }: Snapshot, written: Writes["queue"]): readonly QueueEntry[] {
  const { holders } = lock.record;
  const [before, now] = [queue?.record, written].map((record) => headOf(record, holders));
  return now === undefined || now.participant === before?.participant ? [] : [now];
}

/** The first in a queue. An offer that leaves the queue out leaves the one that it is for there, before it. */
function headOf(queue: QueueRecord | null | undefined, holders: readonly Holder[]): QueueEntry | undefined {
  return queue?.entries.find(({ token }) => holders.every((holder) => holder.token !== token));
}

/** The holders among `these` that `others` do not name. */
function missingFrom(others: readonly Holder[], these: readonly Holder[]): readonly Holder[] {
  return these.filter(({ token }) => !others.some((other) => other.token === token));
}

/** Whether they are the same holders, none of them renewed or granted again. */
function isSame(one: readonly Holder[], other: readonly Holder[]): boolean {
  return one.length === other.length &&
    one.every(({ fence, renewals }, i) => fence === other[i].fence && renewals === other[i].renewals);
}

function addresses(tokens: readonly { readonly token: string }[]): string[] {
  return [...new Set(tokens.map(({ token }) => addressOf(token)))];
}
