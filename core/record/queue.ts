/** The queue: whose turn it is, and to which process a lock is offered that becomes free. */

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
  /** What ours want, in the order of the queue. */
  readonly wanting: readonly Claim[];
  /** How many are before the first of ours: all, if that is not queued. */
  readonly ahead: number;
}

/** What the queue calls the entry in which a claim waits. */
export function entryNameOf({ entry }: Claim, { participant }: Members): string {
  return entry ?? participant;
}

/** Those of ours that wait, by the entries that they wait in: the first, where several share one. */
export function waitingIn(wanting: readonly Claim[], members: Members): ReadonlyMap<string, Claim> {
  const waiting = new Map<string, Claim>();
  for (const claim of wanting) {
    const name = entryNameOf(claim, members);
    if (claim.mayWait && !claim.goesFirst && !waiting.has(name)) waiting.set(name, claim);
  }
  return waiting;
}

/** The queue that the lock names, if it is known, to those of us that want the lock; whatever else stands there is void. */
export function queueOf(
  { lock: { record }, queue }: Snapshot,
  wanting: readonly Claim[],
  members: Members,
): Queue | undefined {
  if (queue === undefined && record.queue !== undefined) return undefined;
  const stored = queue !== undefined && queue.record.id === record.queue ? queue.record.entries : [];
  const isOffered = ({ token }: QueueEntry) => record.holders.some((holder) => holder.token === token);
  const entries = stored.some(isOffered) ? stored.filter((entry) => !isOffered(entry)) : stored;
  const placeOf = (claim: Claim) => {
    const name = entryNameOf(claim, members);
    const index = entries.findIndex(({ participant }) => participant === name);
    return claim.goesFirst ? -1 : index < 0 ? entries.length : index;
  };
  const inOrder = wanting.length > 1
    ? wanting.map((claim) => ({ claim, place: placeOf(claim) }))
      .sort((one, other) => one.place - other.place).map(({ claim }) => claim)
    : wanting;
  const [first] = inOrder;
  const ahead = first === undefined ? entries.length : Math.max(0, placeOf(first));
  return { entries, stored, wanting: inOrder, ahead };
}

/**
 * In how long it is our turn: the k-th in the queue may take a lock for which there has been room for k graces. A process
 * that waits for other locks, too, is given longer.
 */
export function turnOf(
  { record, evidence }: Scene,
  { standing, lapsed, frees }: Room,
  { entries, ahead }: Queue,
): number {
  // One that there is no room for is not passed: else readers that come and go would starve a writer.
  if (!entries.slice(0, ahead).every((entry) => admits(standing, entry))) return Infinity;
  let turnsMs = 0;
  for (const { turnMs = evidence.graceMs } of entries.slice(0, ahead)) turnsMs += turnMs;
  return turnsMs - (frees ? 0 : freeForMs(record, lapsed, evidence));
}

/**
 * In how long a process whose turn it is has to say that it lives, because it waits for other locks, too: those behind it
 * would take it for dead and pass it. At once, if others still stand in its way that are dead themselves. It does not matter
 * for one that has them all: its grant says it.
 */
export function stayInMs(
  { record, evidence }: Scene,
  { first, room: { standing, lapsed }, queue: { entries, ahead } }: {
    readonly first: Claim | undefined;
    readonly room: Room;
    readonly queue: Queue;
  },
): number {
  const waits = first?.turnMs !== undefined && ahead < entries.length && admits(standing, first);
  if (!waits) return Infinity;
  if (ahead > 0 || lapsed.length > 0) return 0;
  const { freedAt = null } = record;
  const seenMs = evidence.freeSeenMs(record);
  const saidMs = freedAt === null ? seenMs : Math.max(evidence.now - freedAt, seenMs);
  return first.turnMs / 3 - saidMs;
}

/** Which processes get the lock by one commit of ours, and which are left in the queue. */
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
  { entries, wanting, ahead }: Queue,
  { turnInMs, standing, frees, scene: { members, evidence } }: {
    readonly turnInMs: number;
    readonly standing: readonly Holder[];
    readonly frees: boolean;
    readonly scene: Scene;
  },
): Turns {
  const [first] = wanting;
  const isOurTurn = turnInMs <= 0 && first !== undefined && admits(standing, first);
  // Those that wait in it lose nothing but time.
  if (isOurTurn && first.goesFirst) {
    return { admitted: [first], granted: [holderOf(first, evidence)], entries };
  }
  const granted: Holder[] = [];
  const admitted: Claim[] = [];
  // With the process whose turn it is leave those before it: they have let their turns pass.
  let at = isOurTurn ? ahead : 0;
  for (; isOurTurn || frees; at++) {
    const beside = [...standing, ...granted];
    const entry = entries[at];
    if (entry === undefined || members.isOurs(entry)) {
      // Behind the last entry come those of ours that have none.
      const isHere = (claim: Claim) =>
        entry === undefined
          ? !hasEntry(claim, entries, members)
          : entryNameOf(claim, members) === entry.participant;
      const claims = wanting.filter(isHere);
      const taking = members.holdsBack ? [] : admissible(claims, beside, entries.length > at + 1);
      for (const claim of taking) {
        admitted.push(claim);
        const holder = holderOf(claim, evidence);
        // A claim to several locks has one fencing token for all of them: that of the first holder in the commit.
        if (claim.turnMs === undefined) granted.push(holder);
        else granted.unshift(holder);
      }
      // One that cannot be queued is not waited for.
      if (entry === undefined || (taking.length === 0 && claims.some(({ mayWait }) => mayWait))) break;
      // One that waits for other locks, too, takes them all itself, once it can.
    } else if (entry.turnMs !== undefined || !admits(beside, entry)) break;
    else granted.push(offerTo(entry, evidence));
  }
  const left = at === 0 ? entries : entries.slice(at);
  return { admitted, granted, entries: left };
}

function hasEntry(claim: Claim, entries: readonly QueueEntry[], members: Members): boolean {
  const name = entryNameOf(claim, members);
  return entries.some(({ participant }) => participant === name);
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

/**
 * The entries without those of ours that no caller waits in, and with the others as they are wanted; the same list
 * if that is so.
 */
export function withOurs(
  entries: readonly QueueEntry[],
  waiting: ReadonlyMap<string, Claim>,
  members: Members,
): readonly QueueEntry[] {
  let isSame = true;
  const wanted = entries.flatMap((entry) => {
    if (!members.isOurs(entry)) return [entry];
    const { participant, token, since } = entry;
    const claim = waiting.get(participant);
    if (claim !== undefined && isSameMode(entry, claim)) return [entry];
    isSame = false;
    if (claim === undefined) return [];
    const { mode, limit, permits, label } = claim;
    return [{ participant, token, mode, limit, permits, since, label }];
  });
  return isSame ? entries : wanted;
}

/** The queue when those of ours have joined it that wait and are to be in it, as far as there are places. */
export function withJoined(
  others: readonly QueueEntry[],
  waiting: ReadonlyMap<string, Claim>,
  { isAlone, joinsLater, scene }: {
    /** Whether the process holds the lock alone: its own requests are next when that ends, unless others are queued. */
    readonly isAlone: boolean;
    /** Whether what is written next for a hold of the process will put them into the queue, too. */
    readonly joinsLater: boolean;
    readonly scene: Scene;
  },
): readonly QueueEntry[] {
  const { members } = scene;
  let entries = others;
  for (const claim of waiting.values()) {
    // All processes see at once what has its own entry, and when it has come.
    const isDue = claim.entry !== undefined || !(joinsLater || (isAlone && others.length === 0));
    if (!isDue || entries.length >= MAX_QUEUE || hasEntry(claim, entries, members)) continue;
    entries = joinedBy(entries, entryOf(claim, scene), members);
  }
  return entries;
}

/** What is written of the queue, if `entries` are in it from now on. An empty one goes, at the latest with its name. */
export function queueWrite(
  { queue: seen }: Snapshot,
  { entries, before, id, writesLock, rests }: {
    readonly entries: readonly QueueEntry[];
    /** The entries until then. */
    readonly before: readonly QueueEntry[];
    readonly id: string | undefined;
    readonly writesLock: boolean;
    /** Whether the lock is left to those that are queued: if they are others by now, the write is to be refused. */
    readonly rests: boolean;
  },
): QueueRecord | null | undefined {
  const isThere = seen !== undefined && seen.version !== null;
  if (entries.length > 0) return entries === before && !rests ? undefined : { v: 1, id: id!, entries };
  // What is not there, or what the store itself cannot read, is not cleared away.
  if (!isThere) return undefined;
  // A process that joins writes the queue alone. So that it is not overlooked, an empty queue goes with its name, and only then.
  if (writesLock) return null;
  return entries === before ? undefined : { v: 1, id: id!, entries };
}

/**
 * The queue when one more has joined it. Many that ask at about the same time refuse each other's writes, and one
 * that is near the store would win: one that asked before another is queued before it, if that has come since its
 * first look. So none is passed by more than those that were joining when it joined. One that waits for other
 * locks, too, is always the last: of two of them, the first to join is before the other in all the queues that
 * both are in.
 */
function joinedBy(
  others: readonly QueueEntry[],
  entry: QueueEntry,
  members: Members,
): readonly QueueEntry[] {
  if (entry.turnMs !== undefined) return [...others, entry];
  let place = others.length;
  while (place > 0 && others[place - 1].since > entry.since && !members.isAhead(others[place - 1])) place--;
  return [...others.slice(0, place), entry, ...others.slice(place)];
}

function entryOf(claim: Claim, { members, evidence }: Scene): QueueEntry {
  const { mode, limit, permits, label, waitedMs, turnMs } = claim;
  const participant = entryNameOf(claim, members);
  const since = Math.floor(evidence.now - waitedMs);
  return { participant, token: members.newToken(), mode, limit, permits, since, label, turnMs };
}

/**
 * For how long a process may pass a lock on among its own callers while others are queued. To pass it on to another process
 * takes several times as long as a brief hold.
 */
export function localTurnMs(graceMs: number): number {
  return graceMs / 16;
}

/** A hold for another process: short, so that one that is dead does not delay the next for long. */
function offerTo(
  { participant, token, mode, limit, permits, label }: QueueEntry,
  evidence: Evidence,
): Holder {
  const leaseMs = offerMs(evidence.graceMs);
  // Not later than a watcher sees it expire, however wrong the time may be here.
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
