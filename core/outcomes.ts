import { type Moment, momentOf, spanMs } from "./clock.ts";
import { type HeldLock, Hold } from "./hold.ts";
import { CONFIRMED_AFTER } from "./lease.ts";
import { holderIn, type LocalMembers, names } from "./members.ts";
import type { Commit } from "./question.ts";
import { lossOf } from "./record/eviction.ts";
import type { Grant } from "./record/members.ts";
import { isSameMode } from "./record/modes.ts";
import { offerMs } from "./record/queue.ts";
import type { Holder, LockRecord } from "./record/record.ts";
import type { Request } from "./request.ts";

/** What becomes of the members of a lock by what the store has done or shown: grants, renewals, releases and losses. */
export class Outcomes {
  readonly #lock: HeldLock;
  readonly #members: LocalMembers;
  /** Whether the last hold here was over in less time than it takes until an offer is confirmed. */
  #isBrief = false;
  /** Since when the lock has been held here without a break, if a hold was given back in this turn. */
  #turnSince: Moment | undefined;

  constructor(lock: HeldLock, members: LocalMembers) {
    this.#lock = lock;
    this.#members = members;
  }

  /** A hold is given back that has lasted so long. */
  noteHeld(heldMs: number): void {
    this.#isBrief = heldMs < offerMs(this.#lock.store.backend.graceMs) * CONFIRMED_AFTER;
  }

  /** A commit of ours has replaced one record by another. */
  onWritten(before: LockRecord, after: LockRecord, at: Moment): void {
    const members = this.#members;
    for (const departure of members.departures) {
      // One that was stolen here, and let go of while that was under way, was not released.
      const { hold } = departure;
      if (!isTakenOut(hold, before, after) || lossOf(after, hold.token) !== "expired") continue;
      this.#turnSince = hold.turnSince;
      members.dropDeparture(departure);
      departure.noteMode(after);
      departure.onReleased();
    }
    for (const hold of members.holds) {
      const forMs = renewedMs(hold, before, after);
      if (forMs !== undefined) hold.onRenewed({ from: at, forMs });
    }
  }

  /** A commit of ours may have been applied. */
  onUnknown({ snapshot: { lock: { record } }, plan: { lock } }: Commit): void {
    if (lock === undefined) return;
    for (const departure of this.#members.departures) {
      if (isTakenOut(departure.hold, record, lock)) departure.isUnknown = true;
    }
  }

  /** A commit of ours has made this request the holder. */
  onGranted({ claim, token }: Grant, record: LockRecord, { at, answered = at }: Commit): void {
    const request = claim as Request;
    const fence = fenceOf(record, token);
    // What was granted to one that has gone is taken out again: no caller here owns it.
    if (!request.isWaiting || fence === undefined) return;
    const forMs = request.leaseMs;
    if (spanMs(at, answered) >= forMs) return request.onLateGrant();
    const lease = { from: at, forMs };
    const turnSince = this.#turnSince;
    const granted = answered;
    this.#hold(request, new Hold(this.#lock, { request, token, fence, lease, granted, turnSince }));
  }

  /** The store has shown this record: what of ours it does not name is over, and what it offers to us is taken. */
  onShown(record: LockRecord, asked: Moment | undefined): void {
    const members = this.#members;
    for (const departure of members.departures) {
      if (names(record, departure.hold)) continue;
      this.#turnSince = departure.hold.turnSince;
      members.dropDeparture(departure);
      departure.noteMode(record);
      departure.onGone(record);
    }
    for (const hold of members.holds) {
      if (!this.recognise(record, hold)) hold.lose(lossOf(record, hold.token));
    }
    this.#endTurn(record);
    for (const holder of record.holders) if (holder.offeredTo !== undefined) this.#adopt(holder, asked);
  }

  /**
   * A turn is over when another process has the lock, or none. Until then a grant goes on with it, also one found
   * after a lost answer.
   */
  #endTurn({ holders }: LockRecord): void {
    if (this.#turnSince === undefined) return;
    const isOurs = (holder: Holder) => this.#members.intentOf(holder) !== "foreign";
    if (holders.length === 0 || !holders.every(isOurs)) this.#turnSince = undefined;
  }

  /** Whether a record names this hold, perhaps under a new fencing token, because its mode was changed. */
  recognise(record: LockRecord, hold: Hold): boolean {
    const holder = holderIn(record, hold);
    if (holder !== undefined && holder.fence !== hold.fencingToken) hold.regrant(holder);
    return holder !== undefined;
  }

  /**
   * Takes a lock that was offered to us, if our clock proves that the offer still runs, with enough left to confirm it,
   * and if the last hold here was so brief that it would not have been confirmed. Otherwise it is confirmed first, see
   * `plan`: work that blocks the process for longer than an offer must not lose its lock before it can be renewed.
   */
  #adopt(holder: Holder, asked: Moment | undefined): void {
    const members = this.#members;
    const { token, fence, expiresAt, leaseMs } = holder;
    if (!this.#isBrief || fence === undefined || expiresAt === null || !members.isOfferWanted(holder)) return;
    if (members.holdOf(holder) !== undefined) return;
    const from = momentOf(this.#lock.clock);
    const { backend, clockErrorMs } = this.#lock.store;
    const request = members.offeredOf(holder)!;
    const leftMs = expiresAt - clockErrorMs - backend.now() - sleptMs(asked, from);
    // No offer is longer: a client that reads tokens and sends messages must not make us believe in it for a whole
    // lease.
    const forMs = Math.min(leftMs, request.leaseMs, offerMs(backend.graceMs));
    // One that wants it in another way than the one that was queued may not have it; readers have it together.
    const isShared = request.mode === "shared" && request.entry === undefined && members.requests.size > 1;
    if (!isSameMode(holder, request) || isShared) return;
    if (!(forMs > leaseMs / 3)) return;
    members.onOfferTaken(holder);
    const lease = { from, forMs };
    this.#hold(request, new Hold(this.#lock, { request, token, fence, lease, granted: from }));
  }

  #hold(request: Request, hold: Hold): void {
    this.#members.addHold(hold);
    request.grant(hold);
  }
}

/** For how long a commit has renewed a hold, if it has. */
export function renewedMs(hold: Hold, before: LockRecord, after: LockRecord): number | undefined {
  const [was, is] = [holderIn(before, hold), holderIn(after, hold)];
  if (was === undefined || is === undefined) return undefined;
  return was.renewals !== is.renewals || was.fence !== is.fence ? is.leaseMs : undefined;
}

/** Whether the hold was in the record, and is not any more. */
function isTakenOut(hold: Hold, before: LockRecord, after: LockRecord | null): boolean {
  return names(before, hold) && (after === null || !names(after, hold));
}

/** How long this machine may have slept since the store was last asked: it then knows less of the store's time. */
function sleptMs(asked: Moment | undefined, now: Moment): number {
  return asked === undefined ? Infinity : spanMs(asked, now) - (now.monotonic - asked.monotonic);
}

function fenceOf({ holders }: LockRecord, token: string): string | undefined {
  for (const holder of holders) if (holder.token === token) return holder.fence;
}
