/**
 * Every decision of those that hold a lock or want it: a pure function from what is stored to what is stored next.
 *
 * Nothing here knows a store, a clock or a promise. `plan` looks at the records, at what the members of one process want,
 * and at the evidence, and says what that process is to write. It does not matter what went before: after a lost answer, a
 * eviction or a cancellation, the records and the members are all that counts.
 */

import type { Snapshot, Writes } from "./codec.ts";
import { activeNotices, noticeFor } from "./eviction.ts";
import { type Evidence, freeForMs, timeOf } from "./evidence.ts";
import type { Claim, Grant, Members } from "./members.ts";
import { admits, isFull, isSameMode, MAX_HOLDERS, type Mode } from "./modes.ts";
import {
  entryNameOf,
  queueOf,
  queueWrite,
  stayInMs,
  takeTurns,
  turnOf,
  waitingIn,
  withJoined,
  withOurs,
} from "./queue.ts";
import {
  type EvictionNotice,
  type Holder,
  type LockRecord,
  MAX_QUEUE,
  type QueueEntry,
  recordOrNull,
} from "./record.ts";
import {
  grantOf,
  holderOf,
  isForeign,
  isOursAlone,
  makeRoom,
  type Ours,
  patienceOf,
  renewOurs,
  type Scene,
  soonestMs,
} from "./room.ts";

/** What a process does next about a lock. */
export interface Plan extends Writes {
  /** Whether it cannot be decided before the queue is known. */
  readonly needsQueue?: boolean;
  readonly grants?: readonly Grant[];
  /** With nothing to write: after how long to look again, if nothing changes until then. */
  readonly waitMs: number;
  /** With nothing to write, as it is the turn of others in the queue: since how long the last holder's lease is over. */
  readonly overForMs?: number;
  /** Whether one of ours waits to be the only one, as another does that is here before it: neither would ever be. */
  readonly refusesUpgrade?: boolean;
}

const NOWHERE: ReadonlyMap<string, Mode> = new Map();
const NEEDS_QUEUE: Plan = { needsQueue: true, waitMs: Infinity };
const DELETE: Plan = { lock: null, isOwn: true, waitMs: Infinity };

/** What a process writes next about a lock. */
export function plan(snapshot: Snapshot, members: Members, evidence: Evidence): Plan {
  const { lock: { record } } = snapshot;
  const scene: Scene = { record, members, evidence };
  const plain = planPlain(scene);
  if (plain !== undefined) return plain;

  // Our holders: one that leaves goes, one that is due is renewed.
  const ours = renewOurs(scene);
  const asking = wantingOf(members.requests, ours.grants);
  const passed = passOn(scene, ours, asking);
  if (passed !== undefined) return passed;
  const queue = queueOf(snapshot, asking, members);
  if (queue === undefined) return planWithoutQueue(scene, ours, asking);
  const { wanting } = queue;

  // Others: one that has surely expired goes, and one that has overstayed for one of us, if that makes room for
  // the next.
  const [first] = wanting;
  const patienceMs = patienceOf(first, members, queue.ahead);
  const next = queue.ahead > 0 ? queue.entries[0] : members.holdsBack ? undefined : first;
  const room = makeRoom(scene, ours, { next, patienceMs });
  const { standing, evicted, frees } = room;

  // The lock goes to those whose turn it is: to the first in the queue, if this process frees it, and to us.
  const turnInMs = turnOf(scene, room, queue);
  const staysInMs = turnInMs > 0 ? Infinity : stayInMs(scene, { first, room, queue });
  const stays = staysInMs <= 0;
  // The first in the queue may have been all that kept those behind it from joining the holders.
  const [head] = queue.entries;
  const leavesHead = head !== undefined && members.isOurs(head) &&
    (members.staysOut || !waitingIn(wanting, members).has(head.participant));
  const { admitted, granted, entries: staying } = takeTurns(queue, {
    turnInMs,
    standing,
    frees: frees || leavesHead,
    scene,
  });
  // The next one has its turn from now on, even if the lock is not offered to it.
  const passesOn = leavesHead && staying.length > 0 && admits(standing, staying[0]);
  const waiting = waitingIn(members.staysOut ? [] : wanting.slice(admitted.length), members);
  const holders = [...standing, ...granted];
  const grants = [...ours.grants, ...admitted.map(grantOf)];

  // Claims that still wait are queued.
  const others = withOurs(staying, waiting, members);
  const changes = frees || stays || passesOn || granted.length > 0;
  const isOurs = (holder: Holder) => !isForeign(holder, members);
  // Behind a hold of ours there is time: what is written for it next will put us into the queue, too.
  const joinsLater = !ours.renews && isOursAlone(standing, isOurs);
  const isAlone = isOursAlone(holders, isOurs);
  const entries = withJoined(others, waiting, { isAlone, joinsLater, scene });

  const names = entries.length > 0 && record.queue === undefined;
  const isLeftOut = members.leavesQueueOut && !names;
  const id = names ? members.newQueueId() : record.queue;
  const named = entries.length > 0 || isLeftOut ? id : undefined;
  // Nothing is left of a lock that is neither held nor waited for.
  const clears = record.holders.length === 0 && named !== record.queue;
  const writesLock = changes || ours.renews || names || clears;
  const lock = writesLock
    ? recordOrNull({
      holders: changes ? holders : ours.kept,
      queue: named,
      notices: noticesOf(scene, { grants, evicted }),
      freedAt: changes || names ? freedAtOf(holders, entries, evidence) : record.freedAt,
    })
    : undefined;
  const before = writesLock ? queue.stored : queue.entries;
  const written = isLeftOut && writesLock
    ? undefined
    : queueWrite(snapshot, { entries, before, id, writesLock, rests: frees && holders.length === 0 });
  // No process waits for what passes from one of ours to another, unless one is queued.
  const staysHere = named === undefined && record.queue === undefined &&
    isOursAlone(record.holders, isOurs) && isAlone;
  const waitMs = first === undefined || stays || grants.length > 0
    ? upgradeMs(ours, scene)
    : Math.min(turnInMs > 0 ? turnInMs : staysInMs, soonestMs(standing, scene, patienceMs));
  const isOver = room.lapsed.length > 0 && turnInMs > 0 && turnInMs < Infinity;
  const overForMs = isOver ? freeForMs(record, room.lapsed, evidence) : undefined;
  const refusesUpgrade = ours.upgrade === "refused";
  return { lock, queue: written, grants, staysHere, waitMs, overForMs, refusesUpgrade };
}

/** What most often happens, without a look at anything else: a free lock is taken, or left by the only one that has it. */
function planPlain({ record, members, evidence }: Scene): Plan | undefined {
  const { holders, queue, notices } = record;
  if (queue !== undefined || notices !== undefined || holders.length > 1) return undefined;
  const [holder] = holders;
  const first = members.firstRequest;
  if (holder === undefined && first !== undefined && !members.holdsBack) {
    const lock: LockRecord = { v: 1, holders: [holderOf(first, evidence)] };
    return { lock, grants: [grantOf(first)], waitMs: Infinity };
  }
  if (holder === undefined || first !== undefined) return undefined;
  return members.intentOf(holder) === "leave" ? DELETE : undefined;
}

/** The first requests for the lock that are not granted yet: as many as could be admitted and queued. */
function wantingOf(requests: Iterable<Claim>, grants: readonly Grant[]): readonly Claim[] {
  const wanting: Claim[] = [];
  for (const claim of requests) {
    if (wanting.length >= MAX_HOLDERS + MAX_QUEUE) break;
    // One that takes up what was handed over finds that there, or gets nothing.
    if (claim.restores !== undefined) continue;
    if (!grants.some((grant) => grant.claim === claim)) wanting.push(claim);
  }
  return wanting;
}

/**
 * A lock that one of ours leaves is passed on to the next here, whatever the queue, as long as it is our turn. The
 * queue need not be known for that, and stays as it is.
 */
function passOn(scene: Scene, ours: Ours, wanting: readonly Claim[]): Plan | undefined {
  const [first] = wanting;
  const { record: { queue }, members, evidence } = scene;
  if (queue === undefined || !ours.left || ours.kept.length > 0 || !members.keepsTurn) return undefined;
  // One that has its own place in the queue is served in its place; and readers that come later never pass a writer.
  const isPlain = wanting.every(({ entry, goesFirst, mode }) =>
    entry === undefined && !goesFirst && mode === "exclusive"
  );
  if (first === undefined || !first.mayWait || !isPlain) return undefined;
  const grants = [grantOf(first)];
  const notices = noticesOf(scene, { grants, evicted: [] });
  const lock = recordOrNull({ holders: [holderOf(first, evidence)], queue, notices });
  return { lock, grants, staysHere: true, waitMs: Infinity };
}

/** What can be said before the queue is known that the lock names. */
function planWithoutQueue(scene: Scene, ours: Ours, wanting: readonly Claim[]): Plan {
  const { record, members } = scene;
  const { kept, grants, left, renews } = ours;
  const refusesUpgrade = ours.upgrade === "refused";
  // A holder that leaves hands over to the first in the queue. A renewal has nothing to do with it, and may not wait.
  if (left) return NEEDS_QUEUE;
  if (renews) {
    const notices = noticesOf(scene, { grants, evicted: [] });
    const lock = recordOrNull({ ...record, holders: kept, notices });
    return { lock, grants, waitMs: Infinity, refusesUpgrade };
  }
  const queuedAs = members.queuedIn === record.queue ? members.queuedAs : NOWHERE;
  const [first] = wanting;
  const waiting = waitingIn(wanting, members);
  for (const [name, mode] of queuedAs) {
    const claim = waiting.get(name);
    // It is to be taken out, or to say how the lock is wanted now.
    if (claim === undefined || !isSameMode(claim, mode)) return NEEDS_QUEUE;
  }
  if (first === undefined) return { waitMs: upgradeMs(ours, scene), refusesUpgrade };
  // Requests behind a hold of the same process are next when it ends, and need not be queued for that.
  const isAlone = isOursAlone(kept, (holder) => !isForeign(holder, members));
  for (const claim of waiting.values()) {
    const isDue = claim.entry !== undefined || (claim === first && !isAlone);
    if (isDue && !queuedAs.has(entryNameOf(claim, members))) return NEEDS_QUEUE;
  }
  const patienceMs = patienceOf(first, members, 0);
  const { standing } = makeRoom(scene, ours, { next: first, patienceMs });
  if (admits(standing, first)) return NEEDS_QUEUE;
  return { waitMs: soonestMs(standing, scene, patienceMs), refusesUpgrade };
}

/** In how long one of those may have lapsed that keep one of ours from being the only one. */
function upgradeMs({ upgrade }: Ours, scene: Scene): number {
  return upgrade === "waits" ? soonestMs(scene.record.holders, scene, undefined) : Infinity;
}

/** The notices that are still of use, with those for the `evicted`. */
function noticesOf(
  { record, evidence }: Scene,
  { grants, evicted }: { readonly grants: readonly Grant[]; readonly evicted: readonly Holder[] },
): readonly EvictionNotice[] {
  // A notice for one of ours is about a grant whose answer we never got.
  const others = activeNotices(record, evidence).filter((notice) =>
    !grants.some(({ token }) => token === notice.token)
  );
  return [...others, ...evicted.map((holder) => noticeFor(holder, "stolen", evidence))];
}

/** Since when there is room for the first in the queue, if there is. */
function freedAtOf(
  holders: readonly Holder[],
  [first]: readonly QueueEntry[],
  evidence: Evidence,
): number | null | undefined {
  // A queue that is left out may have entries by now.
  const hasRoom = first === undefined ? !isFull(holders) : admits(holders, first);
  return hasRoom ? timeOf(evidence) : undefined;
}
