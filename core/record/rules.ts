/**
 * Every decision on a lock: pure functions from one record to the next.
 *
 * Nothing here knows a store, a clock or a promise. Whoever calls reads a record, asks one of these
 * functions what to write, and commits that on the condition that the record is still the one read.
 */

import type { LossReason } from "../errors.ts";
import { evictableInMs, freeForMs, lapsesInMs, type View } from "./evidence.ts";
import {
  type Eviction,
  type EvictionReason,
  FREE,
  GARBAGE_AFTER_MS,
  type Holder,
  type LockRecord,
  MAX_QUEUE,
  MAX_TIME,
  NEVER_MS,
  recordOf,
  recordOrNull,
  type Waiter,
} from "./record.ts";

/** What someone who wants the lock asks for. */
export interface Want {
  readonly token: string;
  readonly seat: string;
  readonly leaseMs: number;
  readonly label: string | undefined;
  /** Evict holders older than this; `undefined` = never. */
  readonly stealAfterMs: number | undefined;
  /** Whether it may stand in line. */
  readonly mayWait: boolean;
  /** How many of its own process go before it. */
  readonly ahead: number;
  /** Whether its process does not know the store's time: then it writes none by which others would judge. */
  readonly unsure?: boolean;
}

/** What to do next about a record. */
export type Decision =
  /** Write this: it makes us the holder, or shows that we still are. */
  | { readonly kind: "claim"; readonly record: LockRecord }
  /** Write this: it puts us in line or evicts an overstayed holder, and grants us nothing. */
  | { readonly kind: "write"; readonly record: LockRecord }
  /** Nothing to do unless the record changes or this much time passes. */
  | { readonly kind: "wait"; readonly forMs: number };

/** What a cleanup does about a record. */
export type Sweep =
  /** Delete it: it says nothing to anybody any more. */
  | { readonly kind: "remove" }
  /** Write this: it evicts the holders with these fencing tokens, who have held for too long. */
  | {
    readonly kind: "evict";
    readonly record: LockRecord | null;
    readonly fences: ReadonlySet<string | undefined>;
  }
  /** Leave it alone, unless this much time passes in which it does not change. */
  | { readonly kind: "keep"; readonly forMs: number };

/** What to write over nothing at all: it makes us the holder. */
export function claim(want: Want, now: number): LockRecord {
  return recordOf(FREE, [holderOf(want, now)], [], []);
}

/** Decides what one who wants the lock does about the record it sees. */
export function decide(record: LockRecord, want: Want, view: View): Decision {
  const { holders, queue } = record;
  // An earlier commit of ours landed although its answer was lost.
  const ours = renew(record, want.token, view.now, want.unsure);
  if (ours !== null) return { kind: "claim", record: ours };

  const standing = holders.filter((holder) => lapsesInMs(holder, view) > 0);
  const blocking = standing.filter((holder) => evictableInMs(holder, want.stealAfterMs, view) > 0);
  const stolen = standing.filter((holder) => !blocking.includes(holder));
  const evicted = [
    ...notes(record, view.now),
    ...stolen.map((holder) => note(holder, "stolen", view)),
  ];

  const place = queue.findIndex((waiter) => waiter.seat === want.seat);
  const ahead = want.ahead + (place < 0 ? queue.length : place);
  const joins = place < 0 && want.mayWait && queue.length < MAX_QUEUE;
  const line = joins ? [...queue, waiterOf(want, view.now)] : queue;

  if (blocking.length > 0) {
    if (joins) return { kind: "write", record: recordOf(record, holders, line, evicted) };
    const moments = blocking.map((holder) =>
      Math.min(lapsesInMs(holder, view), evictableInMs(holder, want.stealAfterMs, view))
    );
    return { kind: "wait", forMs: Math.min(...moments) };
  }

  const freeMs = stolen.length > 0 ? 0 : freeForMs(record, holders, view);
  const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;
  if (turnInMs <= 0) {
    // Whoever stood ahead let its turn pass: it is dead, or will line up again.
    const behind = queue.slice(place < 0 ? queue.length : place + 1);
    // A note for us is about a grant whose answer we never got.
    const others = evicted.filter(({ token }) => token !== want.token);
    return { kind: "claim", record: recordOf(record, [holderOf(want, view.now)], behind, others) };
  }
  if (joins || stolen.length > 0) {
    const freedAt = stolen.length > 0
      ? freeMoment(view.now, want.unsure)
      : record.freedAt ?? freeMoment(view.now - Math.max(0, freeMs), want.unsure);
    return { kind: "write", record: recordOf({ ...record, freedAt }, [], line, evicted) };
  }
  return { kind: "wait", forMs: turnInMs };
}

/** Renews a hold; `null` if it is no longer in the record. `unsure` is that its process does not know the store's time. */
export function renew(record: LockRecord, token: string, now: number, unsure?: boolean): LockRecord | null {
  const { holders, queue } = record;
  if (!holders.some((holder) => holder.token === token)) return null;
  const renewed = holders.map((holder) =>
    holder.token === token
      ? {
        ...holder,
        expiresAt: moment(now + holder.leaseMs, unsure),
        renewals: (holder.renewals + 1) % Number.MAX_SAFE_INTEGER,
      }
      : holder
  );
  return recordOf(record, renewed, queue, notes(record, now));
}

/**
 * Ends a hold. `heir`, the next waiter of the same process, becomes the holder in the same step if
 * nobody of another process is in line; otherwise it takes its place at the end of the line. Without one, `seat` is a
 * place in line where nobody waits any more. `null` if the hold is no longer in the record.
 */
export function release(
  record: LockRecord,
  token: string,
  now: number,
  heir?: Want,
  seat?: string,
  unsure?: boolean,
): { readonly record: LockRecord | null; readonly granted: boolean } | null {
  const { holders, queue } = record;
  const others = holders.filter((holder) => holder.token !== token);
  if (others.length === holders.length) return null;
  const evicted = notes(record, now);
  if (heir === undefined) {
    const line = queue.filter((waiter) => waiter.seat !== seat);
    return { record: recordOrNull(record, others, line, evicted, freeMoment(now, unsure)), granted: false };
  }
  if (queue.every((waiter) => waiter.seat === heir.seat)) {
    const next = [...others, holderOf(heir, now)];
    return { record: recordOf(record, next, [], evicted), granted: true };
  }
  const joins = queue.every((waiter) => waiter.seat !== heir.seat) && queue.length < MAX_QUEUE;
  const line = joins ? [...queue, waiterOf(heir, now)] : queue;
  return { record: recordOrNull(record, others, line, evicted, freeMoment(now, unsure)), granted: false };
}

/**
 * Takes a cancelled acquisition out of the record, whether it was in line or had just been granted;
 * `undefined` if nothing of it is there.
 */
export function withdraw(
  record: LockRecord,
  gone: { readonly token?: string; readonly seat?: string },
  now: number,
  unsure?: boolean,
): LockRecord | null | undefined {
  const { holders, queue } = record;
  const others = holders.filter((holder) => holder.token !== gone.token);
  const line = queue.filter((waiter) => waiter.seat !== gone.seat);
  if (others.length === holders.length && line.length === queue.length) return undefined;
  return recordOrNull(record, others, line, notes(record, now), freeMoment(now, unsure));
}

/** Evicts every holder that `which` selects, leaving each a note; `null` if there is none. */
export function evict(
  record: LockRecord,
  which: (holder: Holder) => boolean,
  reason: EvictionReason,
  now: number,
  skewMs: number,
): LockRecord | null {
  const { holders, queue } = record;
  const leaving = holders.filter(which);
  if (leaving.length === 0) return null;
  const others = holders.filter((holder) => !leaving.includes(holder));
  const evicted = [...notes(record, now), ...leaving.map((holder) => note(holder, reason, { now, skewMs }))];
  return recordOrNull(record, others, queue, evicted, freeMoment(now, skewMs === Infinity));
}

/**
 * Decides what a cleanup does about a record. Garbage is one whose every lease has surely lapsed, whose line
 * is so stale that nobody alive can stand in it, and whose notes have all had their time. `olderThanMs`
 * evicts those who have held for longer, alive or not.
 */
export function sweep(record: LockRecord, olderThanMs: number | undefined, view: View): Sweep {
  const { holders, queue } = record;
  const standing = holders.filter((holder) => lapsesInMs(holder, view) > 0);
  const overstayed = standing.filter((holder) => evictableInMs(holder, olderThanMs, view) <= 0);
  if (overstayed.length > 0) {
    const fences = new Set(overstayed.map(({ fence }) => fence));
    const which = ({ fence }: Holder) => fences.has(fence);
    return { kind: "evict", record: evict(record, which, "forced", view.now, view.skewMs), fences };
  }
  if (standing.length > 0) {
    const lapsed = Math.max(...standing.map((holder) => lapsesInMs(holder, view)));
    const old = Math.min(...standing.map((holder) => evictableInMs(holder, olderThanMs, view)));
    return { kind: "keep", forMs: Math.min(lapsed, old) };
  }
  // A live waiter takes a free lock when the graces of those before it have passed, or lines up again.
  const stale = GARBAGE_AFTER_MS + queue.length * view.graceMs;
  const forMs = Math.max(
    queue.length === 0 ? 0 : stale - freeForMs(record, holders, view),
    ...notes(record, view.now).map(({ until }) => until - view.now),
  );
  return forMs > 0 ? { kind: "keep", forMs } : { kind: "remove" };
}

/** Why the holder with this token is not, or no longer, in the record. */
export function lossOf(record: LockRecord, token: string): LossReason {
  return record.evicted?.find((eviction) => eviction.token === token)?.reason ?? "expired";
}

function holderOf(want: Want, now: number): Holder {
  const { token, leaseMs, label, unsure } = want;
  return {
    token,
    mode: "exclusive",
    limit: 1,
    since: now,
    leaseMs,
    expiresAt: moment(now + leaseMs, unsure),
    renewals: 0,
    label,
    fence: undefined,
  };
}

function waiterOf({ seat, label }: Want, now: number): Waiter {
  return { seat, mode: "exclusive", limit: 1, since: now, label };
}

/** The same, for since when a lock is free; one that nobody may judge by differs from the last, as a sign of change. */
function freeMoment(atMs: number, unsure: boolean | undefined): number {
  return unsure ? NEVER_MS + Math.abs(atMs) % 86_400_000 : atMs;
}

/** A moment by which others may judge: none if it is by a clock that does not know the store's time. */
function moment(atMs: number, unsure: boolean | undefined): number {
  return unsure ? NEVER_MS : atMs;
}

function note(
  holder: Holder,
  reason: EvictionReason,
  { now, skewMs }: Pick<View, "now" | "skewMs">,
): Eviction {
  const { token, expiresAt, leaseMs } = holder;
  const end = expiresAt === NEVER_MS ? now + leaseMs : expiresAt;
  const until = Math.min(end + leaseMs + Math.min(skewMs, GARBAGE_AFTER_MS), MAX_TIME);
  return { token, reason, until };
}

/** The notes whose addressees may still not have read them. */
function notes(record: LockRecord, now: number): readonly Eviction[] {
  return record.evicted?.filter((eviction) => eviction.until > now) ?? [];
}
