/** Who is queued, whose turn it is, and to whom a lock is offered that becomes free. */

import type { Snapshot } from "./codec.ts";
import { endOf, type Evidence, freeForMs } from "./evidence.ts";
import type { Claim, Members } from "./members.ts";
import { admits } from "./modes.ts";
import { type Holder, MAX_QUEUE, type QueueEntry, type QueueRecord } from "./record.ts";
import type { Room, Scene } from "./room.ts";

/** The queue of a lock, and our place among those that wait in it. */
export interface Queue {
  readonly entries: readonly QueueEntry[];
  /** The same with those that have had their turn: an offer that left the queue out has left them there. */
  readonly stored: readonly QueueEntry[];
  /** How many are before us: all, if we are not queued. */
  readonly ahead: number;
  readonly isQueued: boolean;
}

/** The queue that the lock names, if it is known; whatever else stands there is void. */
export function queueOf({ lock: { record }, queue }: Snapshot, { participant }: Members): Queue | undefined {
  if (queue === undefined && record.queue !== undefined) return undefined;
  const stored = queue !== undefined && queue.record.id === record.queue ? queue.record.entries : [];
  const isOffered = ({ token }: QueueEntry) => record.holders.some((holder) => holder.token === token);
  const entries = stored.some(isOffered) ? stored.filter((entry) => !isOffered(entry)) : stored;
  const index = entries.findIndex((entry) => entry.participant === participant);
  return { entries, stored, ahead: index < 0 ? entries.length : index, isQueued: index >= 0 };
}

/** In how long it is our turn: the k-th in the queue may take a lock for which there has been room for k graces. */
export function turnOf(
  { record, evidence }: Scene,
  { standing, lapsed, frees }: Room,
  { entries, ahead }: Queue,
): number {
  if (ahead === 0) return 0;
  // While there is no room for the first, nobody passes: else readers who come and go would starve a writer.
  if (!admits(standing, entries[0])) return Infinity;
  return ahead * evidence.graceMs - (frees ? 0 : freeForMs(record, lapsed, evidence));
}

/** Who is queued when those that are admitted, or that nobody waits for any more, have left; the same list if that is nobody. */
export function entriesAfter(
  { entries, ahead, isQueued }: Queue,
  { admitted, patient, members: { participant } }: {
    readonly admitted: readonly Claim[];
    readonly patient: Claim | undefined;
    readonly members: Members;
  },
): readonly QueueEntry[] {
  // With the process whose turn it is leave those before it: they have let their turns pass.
  if (admitted.length > 0) return entries.slice(ahead + 1);
  if (patient !== undefined || !isQueued) return entries;
  return entries.filter((entry) => entry.participant !== participant);
}

/** Offers to the first in the queue for whom there is room; never to ourselves, nor to those behind us. */
export function offersTo(
  entries: readonly QueueEntry[],
  standing: readonly Holder[],
  scene: Scene,
): Holder[] {
  const offers: Holder[] = [];
  for (const entry of entries) {
    const isOurs = entry.participant === scene.members.participant;
    if (isOurs || !admits([...standing, ...offers], entry)) break;
    offers.push(offerTo(entry, scene.evidence));
  }
  return offers;
}

/** Whether a process whose requests wait joins the queue; one that holds the lock, only behind others. */
export function mayJoin(
  others: readonly QueueEntry[],
  { holds, members: { participant } }: { readonly holds: boolean; readonly members: Members },
): boolean {
  if (others.length >= MAX_QUEUE || holds && others.length === 0) return false;
  return !others.some((entry) => entry.participant === participant);
}

/** What is written of the queue, if `entries` are in it from now on. An empty one goes, at the latest with its name. */
export function queueWrite(
  { queue: seen }: Snapshot,
  { entries, before, id, writesLock }: {
    readonly entries: readonly QueueEntry[];
    /** Who is in it until then. */
    readonly before: readonly QueueEntry[];
    readonly id: string | undefined;
    readonly writesLock: boolean;
  },
): QueueRecord | null | undefined {
  const isThere = seen !== undefined && seen.version !== null;
  if (entries.length > 0) return entries === before ? undefined : { v: 1, id: id!, entries };
  // What is not there, or what the store itself cannot read, nobody clears away.
  if (!isThere) return undefined;
  // Whoever joins writes the queue alone. So that it is not overlooked, an empty queue goes with its name, and only then.
  if (writesLock) return null;
  return entries === before ? undefined : { v: 1, id: id!, entries };
}

export function entryOf({ mode, limit, label }: Claim, { members, evidence }: Scene): QueueEntry {
  const { participant } = members;
  return { participant, token: members.newToken(), mode, limit, since: evidence.now, label };
}

/** A hold for another process: short, so that one that is dead does not delay the next for long. */
function offerTo({ participant, token, mode, limit, label }: QueueEntry, evidence: Evidence): Holder {
  const leaseMs = offerMs(evidence.graceMs);
  // Not later than whoever watches it sees it lapse, however wrong the time may be here.
  const end = endOf(leaseMs, evidence);
  const expiresAt = end && Math.floor(end - evidence.errorMs);
  const since = evidence.now;
  return { token, mode, limit, since, leaseMs, expiresAt, renewals: 0, label, offeredTo: participant };
}

/** How long an offer runs: with what it takes to see that it has lapsed, less than two graces. */
export function offerMs(graceMs: number): number {
  return Math.max(1, Math.floor(1.5 * graceMs));
}
