/** Who is queued, whose turn it is, and to whom a lock is offered that becomes free. */

import type { Snapshot } from "./codec.ts";
import { endOf, type Evidence, freeForMs } from "./evidence.ts";
import type { Claim, Members } from "./members.ts";
import { admits, isSameMode } from "./modes.ts";
import { type Holder, MAX_QUEUE, type QueueEntry, type QueueRecord } from "./record.ts";
import { holderOf, type Room, type Scene } from "./room.ts";

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

/**
 * In how long it is our turn: the k-th in the queue may take a lock for which there has been room for k graces. Whoever waits
 * for other locks, too, is given longer.
 */
export function turnOf(
  { record, evidence }: Scene,
  { standing, lapsed, frees }: Room,
  { entries, ahead }: Queue,
): number {
  if (ahead === 0) return 0;
  // Whom there is no room for nobody passes: else readers who come and go would starve a writer.
  if (!entries.slice(0, ahead).every((entry) => admits(standing, entry))) return Infinity;
  let turnsMs = 0;
  for (const { turnMs = evidence.graceMs } of entries.slice(0, ahead)) turnsMs += turnMs;
  return turnsMs - (frees ? 0 : freeForMs(record, lapsed, evidence));
}

/**
 * In how long a process whose turn it is has to say that it lives, because it waits for other locks, too: those behind it
 * would take it for dead and pass it. At once, if others still stand in its way that are dead themselves.
 */
export function stayInMs(
  { record, members, evidence }: Scene,
  { first, room: { standing, lapsed }, queue: { ahead, isQueued } }: {
    readonly first: Claim | undefined;
    readonly room: Room;
    readonly queue: Queue;
  },
): number {
  const waits = members.holdsBack && isQueued && first?.turnMs !== undefined && admits(standing, first);
  if (!waits) return Infinity;
  if (ahead > 0 || lapsed.length > 0) return 0;
  const { freedAt = null } = record;
  const seenMs = evidence.freeSeenMs(record);
  const saidMs = freedAt === null ? seenMs : Math.max(evidence.now - freedAt, seenMs);
  return first.turnMs / 3 - saidMs;
}

/** Who gets the lock by one commit of ours, and who is left in the queue. */
export interface Turns {
  /** The first of our requests. */
  readonly admitted: readonly Claim[];
  /** Those that it is granted or offered to, in order. */
  readonly granted: readonly Holder[];
  readonly entries: readonly QueueEntry[];
}

/**
 * Gives the lock to those whose turn it is, as long as there is room: from the head of the queue on if we free it, from
 * our own place on if it is our turn. Neighbours that can hold it together get it together.
 */
export function takeTurns(
  { entries, ahead, isQueued }: Queue,
  { wanting, turnInMs, standing, frees, scene }: {
    readonly wanting: readonly Claim[];
    readonly turnInMs: number;
    readonly standing: readonly Holder[];
    readonly frees: boolean;
    readonly scene: Scene;
  },
): Turns {
  const isOurTurn = turnInMs <= 0 && wanting.length > 0 && admits(standing, wanting[0]);
  const granted: Holder[] = [];
  let admitted: readonly Claim[] = [];
  // With the process whose turn it is leave those before it: they have let their turns pass.
  let at = isOurTurn ? ahead : 0;
  for (; isOurTurn || frees; at++) {
    const beside = [...standing, ...granted];
    const entry = entries[at];
    if (at === ahead) {
      const othersWait = entries.length > (isQueued ? ahead + 1 : ahead);
      if (!scene.members.holdsBack) admitted = admissible(wanting, beside, othersWait);
      for (const claim of admitted) {
        const holder = holderOf(claim, scene.evidence);
        // Whoever takes other locks, too, has one fencing token for all of them: that of the first whom a commit grants.
        if (claim.turnMs === undefined) granted.push(holder);
        else granted.unshift(holder);
      }
      // Who cannot be queued is not waited for.
      if (!isQueued || (admitted.length === 0 && wanting.some(({ mayWait }) => mayWait))) break;
      // Who waits for other locks, too, takes them all itself, once it can.
    } else if (entry === undefined || entry.turnMs !== undefined || !admits(beside, entry)) break;
    else granted.push(offerTo(entry, scene.evidence));
  }
  const left = at === 0 ? entries : entries.slice(at);
  return { admitted, granted, entries: left };
}

/**
 * The first of our requests for which there is room. Processes take turns: while others are queued, a turn is one grant,
 * or one of readers together.
 */
function admissible(
  wanting: readonly Claim[],
  standing: readonly Holder[],
  othersWait: boolean,
): readonly Claim[] {
  const admitted: Claim[] = [];
  for (const claim of wanting) {
    if (!admits([...standing, ...admitted], claim)) break;
    if (admitted.length > 0 && claim.mode !== "shared" && othersWait) break;
    admitted.push(claim);
  }
  return admitted;
}

/** The entries without ours if nobody here waits, and with it as the first here wants it; the same list if that is so. */
export function withOurs(
  entries: readonly QueueEntry[],
  patient: Claim | undefined,
  { participant }: Members,
): readonly QueueEntry[] {
  const ours = entries.find((entry) => entry.participant === participant);
  if (ours === undefined || (patient !== undefined && isSameMode(ours, patient))) return entries;
  if (patient === undefined) return entries.filter((entry) => entry !== ours);
  const { mode, limit, permits, label } = patient;
  const { token, since } = ours;
  return entries.map((entry) =>
    entry === ours ? { participant, token, mode, limit, permits, since, label } : entry
  );
}

/** Whether a process whose requests wait joins the queue; one that holds the lock alone, only behind others. */
export function mayJoin(
  others: readonly QueueEntry[],
  { isAlone, members: { participant } }: { readonly isAlone: boolean; readonly members: Members },
): boolean {
  if (others.length >= MAX_QUEUE || isAlone && others.length === 0) return false;
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

/**
 * The queue when one more has joined it. Many that ask at about the same time refuse each other's writes, and whoever is
 * near the store would win: one that asked before another is queued before it, if that has come since its first look. So
 * nobody is passed by more than those who were joining when it joined. Whoever waits for other locks, too, is always the
 * last: of two of them, the first to join is before the other in all the queues that both are in.
 */
export function joinedBy(
  others: readonly QueueEntry[],
  entry: QueueEntry,
  members: Members,
): readonly QueueEntry[] {
  if (entry.turnMs !== undefined) return [...others, entry];
  let place = others.length;
  while (place > 0 && others[place - 1].since > entry.since && !members.isAhead(others[place - 1])) place--;
  return [...others.slice(0, place), entry, ...others.slice(place)];
}

export function entryOf(
  { mode, limit, permits, label, waitedMs, turnMs }: Claim,
  { members, evidence }: Scene,
): QueueEntry {
  const { participant } = members;
  const since = Math.floor(evidence.now - waitedMs);
  return { participant, token: members.newToken(), mode, limit, permits, since, label, turnMs };
}

/** A hold for another process: short, so that one that is dead does not delay the next for long. */
function offerTo(
  { participant, token, mode, limit, permits, label }: QueueEntry,
  evidence: Evidence,
): Holder {
  const leaseMs = offerMs(evidence.graceMs);
  // Not later than whoever watches it sees it lapse, however wrong the time may be here.
  const end = endOf(leaseMs, evidence);
  const expiresAt = end && Math.floor(end - evidence.errorMs);
  const since = evidence.now;
  const how = { token, mode, limit, permits };
  return { ...how, since, leaseMs, expiresAt, renewals: 0, label, offeredTo: participant };
}

/** How long an offer runs: with what it takes to see that it has lapsed, less than two graces. */
export function offerMs(graceMs: number): number {
  return Math.max(1, Math.floor(1.5 * graceMs));
}
