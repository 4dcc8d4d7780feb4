/**
 * The record of one lock, and every decision on it: pure functions from one record to the next.
 *
 * Nothing here knows a store, a clock or a promise. Whoever calls reads a record, asks one of these
 * functions what to write, and commits that on the condition that the record is still the one read.
 */

import type { Entry } from "./backend.ts";
import { LockBackendError, type LossReason, quote } from "./errors.ts";

/** One hold of the lock. */
export interface Holder {
  /** Unguessable, fresh per acquisition, the same through all retries of that acquisition. */
  readonly token: string;
  /** Room for shared locks and limits; today every holder excludes every other. */
  readonly mode: "exclusive";
  readonly limit: 1;
  /** When it was granted, by the granting process's view of the store's clock. */
  readonly since: number;
  readonly leaseMs: number;
  /** When its lease ends, by the same clock. */
  readonly expiresAt: number;
  /** Counts renewals: that this changed is how an onlooker without a clock sees that the holder lives. */
  readonly renewals: number;
  /** The version of the granting commit. Absent exactly in that commit itself: see `seen`. */
  fence?: string;
  readonly label?: string;
}

/** A process in line. Advice about order, never a grant. */
export interface Waiter {
  /** Names the place in line; shared by all waiters of one process. */
  readonly seat: string;
  readonly mode: "exclusive";
  readonly limit: 1;
  readonly since: number;
  readonly label?: string;
}

/** A note for an evicted holder, so that it can be told why. */
export interface Eviction {
  readonly token: string;
  readonly reason: LossReason;
  /** When the note may go: a lease later than the evicted one would have ended, it has surely been read. */
  readonly until: number;
}

/** All that a store knows of one lock. A lock that is free and has no line has no record. */
export interface LockRecord {
  /** The format of the record. */
  readonly v: 1;
  readonly holders: readonly Holder[];
  readonly queue: readonly Waiter[];
  readonly evicted?: readonly Eviction[];
  /** Since when nobody has held it, while somebody is in line. */
  readonly freedAt?: number;
}

/** A record as it was seen in the store, every holder with its fencing token. */
export interface Sight {
  readonly key: string;
  /** The version of the commit that wrote it; `null` if there is no record. */
  readonly version: string | null;
  readonly record: LockRecord;
}

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
}

/**
 * From where a record is looked at: the store's clock, and what this process has watched on its own
 * monotonic one. Either alone may prove that time has passed, because either errs on the late side.
 */
export interface View {
  readonly now: number;
  readonly skewMs: number;
  readonly graceMs: number;
  /** For how long this holder has been seen here. */
  holderSeenMs(holder: Holder): number;
  /** For how long it has been seen here without a renewal. */
  leaseSeenMs(holder: Holder): number;
  /** For how long this record has been seen here without a holder. */
  freeSeenMs(record: LockRecord): number;
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

/** The record of a lock that nobody holds or wants. */
export const FREE: LockRecord = { v: 1, holders: [], queue: [] };

/** How many processes stand in a record's line; further ones wait beside it. Keeps it under 64 KiB. */
export const MAX_QUEUE = 64;

/** How long a record outlives its last use before the store may collect it. */
const GARBAGE_AFTER_MS = 60_000;

/** What to write over nothing at all: it makes us the holder. */
export function claim(want: Want, now: number): LockRecord {
  return rest(FREE, [holderOf(want, now)], [], []);
}

/** Decides what one who wants the lock does about the record it sees. */
export function decide(record: LockRecord, want: Want, view: View): Decision {
  const { holders, queue } = record;
  // An earlier commit of ours landed although its answer was lost.
  const ours = renew(record, want.token, view.now);
  if (ours !== null) return { kind: "claim", record: ours };

  const standing = holders.filter((holder) => lapsesInMs(holder, view) > 0);
  const blocking = standing.filter((holder) => evictableInMs(holder, want.stealAfterMs, view) > 0);
  const stolen = standing.filter((holder) => !blocking.includes(holder));
  const evicted = [
    ...notes(record, view.now),
    ...stolen.map((holder) => note(holder, "stolen", view.skewMs)),
  ];

  const place = queue.findIndex((waiter) => waiter.seat === want.seat);
  const ahead = want.ahead + (place < 0 ? queue.length : place);
  const joins = place < 0 && want.mayWait && queue.length < MAX_QUEUE;
  const line = joins ? [...queue, waiterOf(want, view.now)] : queue;

  if (blocking.length > 0) {
    if (joins) return { kind: "write", record: rest(record, holders, line, evicted) };
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
    return { kind: "claim", record: rest(record, [holderOf(want, view.now)], behind, others) };
  }
  if (joins || stolen.length > 0) {
    const freedAt = stolen.length > 0 ? view.now : record.freedAt ?? view.now - Math.max(0, freeMs);
    return { kind: "write", record: rest({ ...record, freedAt }, [], line, evicted) };
  }
  return { kind: "wait", forMs: turnInMs };
}

/** Renews a hold; `null` if it is no longer in the record. */
export function renew(record: LockRecord, token: string, now: number): LockRecord | null {
  const { holders, queue } = record;
  if (!holders.some((holder) => holder.token === token)) return null;
  const renewed = holders.map((holder) =>
    holder.token === token
      ? { ...holder, expiresAt: now + holder.leaseMs, renewals: holder.renewals + 1 }
      : holder
  );
  return rest(record, renewed, queue, notes(record, now));
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
): { readonly record: LockRecord | null; readonly granted: boolean } | null {
  const { holders, queue } = record;
  const others = holders.filter((holder) => holder.token !== token);
  if (others.length === holders.length) return null;
  const evicted = notes(record, now);
  if (heir === undefined) {
    const line = queue.filter((waiter) => waiter.seat !== seat);
    return { record: orNone(record, others, line, evicted, now), granted: false };
  }
  if (queue.every((waiter) => waiter.seat === heir.seat)) {
    const next = [...others, holderOf(heir, now)];
    return { record: rest(record, next, [], evicted), granted: true };
  }
  const joins = queue.every((waiter) => waiter.seat !== heir.seat) && queue.length < MAX_QUEUE;
  const line = joins ? [...queue, waiterOf(heir, now)] : queue;
  return { record: orNone(record, others, line, evicted, now), granted: false };
}

/**
 * Takes a cancelled acquisition out of the record, whether it was in line or had just been granted;
 * `undefined` if nothing of it is there.
 */
export function withdraw(
  record: LockRecord,
  gone: { readonly token?: string; readonly seat?: string },
  now: number,
): LockRecord | null | undefined {
  const { holders, queue } = record;
  const others = holders.filter((holder) => holder.token !== gone.token);
  const line = queue.filter((waiter) => waiter.seat !== gone.seat);
  if (others.length === holders.length && line.length === queue.length) return undefined;
  return orNone(record, others, line, notes(record, now), now);
}

/** Evicts every holder that `which` selects, leaving each a note; `null` if there is none. */
export function evict(
  record: LockRecord,
  which: (holder: Holder) => boolean,
  reason: LossReason,
  now: number,
  skewMs: number,
): LockRecord | null {
  const { holders, queue } = record;
  const leaving = holders.filter(which);
  if (leaving.length === 0) return null;
  const others = holders.filter((holder) => !leaving.includes(holder));
  const evicted = [...notes(record, now), ...leaving.map((holder) => note(holder, reason, skewMs))];
  return orNone(record, others, queue, evicted, now);
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

/**
 * After how long a store may collect a record. Counted in durations only, never by comparing clocks:
 * a store must not delete a live hold because somebody's clock is wrong.
 */
export function garbageAfterMs(record: LockRecord, now: number, graceMs: number): number {
  let longest = 0;
  for (const { leaseMs } of record.holders) longest = Math.max(longest, leaseMs);
  for (const { until } of record.evicted ?? []) longest = Math.max(longest, Math.min(until - now, 2 ** 31));
  return Math.ceil(longest + GARBAGE_AFTER_MS + record.queue.length * graceMs);
}

/** The record as a store holds it: JSON. */
export function encode(record: LockRecord): string {
  const { holders, queue, evicted } = record;
  const { token, since, leaseMs, expiresAt, fence, label }: Partial<Holder> = holders[0] ?? {};
  const more = fence ?? label ?? evicted ?? queue[0] ?? holders[1];
  if (token === undefined || more !== undefined) return JSON.stringify(record);
  // A new grant and nothing else, as most records are: runtimes take three times as long for it.
  return `{"v":1,"holders":[{"token":"${token}","mode":"exclusive","limit":1,"since":${since},` +
    `"leaseMs":${leaseMs},"expiresAt":${expiresAt},"renewals":0}],"queue":[]}`;
}

/** What an entry of a store says; throws {@linkcode LockBackendError} if it is no record. */
export function sightOf({ key, value, version }: Entry): Sight {
  return seen(key, decode(key, value), version);
}

/** What there is to see after a record was written, or deleted. */
export function written(key: string, record: LockRecord | null, version: string): Sight {
  return seen(key, record ?? FREE, record && version);
}

/** The record that a store held; throws {@linkcode LockBackendError} for anything else. */
export function decode(key: string, text: string | null): LockRecord {
  if (text === null) return FREE;
  let message = `the store holds something else under the key ${quote(key)}`;
  let cause: unknown;
  try {
    const found: Partial<LockRecord> | null = JSON.parse(text);
    if (found?.v === 1 && Array.isArray(found.holders) && Array.isArray(found.queue)) {
      return found as LockRecord;
    }
    if (typeof found?.v === "number" && found.v > 1) {
      message = `the record of ${quote(key)} was written by a newer version of Holdfast (format ${found.v})`;
    }
  } catch (error) {
    cause = error;
  }
  throw new LockBackendError(message, { cause });
}

/**
 * A record with the fencing token of every holder. The granting commit cannot know its own version; whoever
 * writes next can, because it has read that version: nobody can have written in between.
 */
function seen(key: string, record: LockRecord, version: string | null): Sight {
  // In place: whoever has none yet was made by the very commit that this record comes from.
  for (const holder of record.holders) holder.fence ??= version ?? undefined;
  return { key, version, record };
}

/** In how long the holder's lease has surely run out; 0 or less = it has. */
function lapsesInMs(holder: Holder, view: View): number {
  // Two clocks that run at slightly different rates must not disagree on a whole lease.
  const watched = holder.leaseMs + Math.max(5, holder.leaseMs / 100);
  return Math.min(
    holder.expiresAt + view.skewMs - view.now,
    watched - view.leaseSeenMs(holder),
  );
}

/** In how long the holder has surely held for `afterMs`, and may be evicted for it; 0 or less = it has. */
function evictableInMs(holder: Holder, afterMs: number | undefined, view: View): number {
  if (afterMs === undefined) return Infinity;
  return Math.min(
    holder.since + afterMs + view.skewMs - view.now,
    afterMs - view.holderSeenMs(holder),
  );
}

/** For how long nobody has held the lock, now that every lease in `holders` has lapsed. */
function freeForMs(record: LockRecord, holders: readonly Holder[], view: View): number {
  // By whichever proves it: where clocks mean nothing, that a lapse has been watched must count.
  if (holders.length > 0) return -Math.max(...holders.map((holder) => lapsesInMs(holder, view)));
  return Math.max(view.now - (record.freedAt ?? 0) - view.skewMs, view.freeSeenMs(record));
}

function holderOf(want: Want, now: number): Holder {
  const { token, leaseMs, label } = want;
  return {
    token,
    mode: "exclusive",
    limit: 1,
    since: now,
    leaseMs,
    expiresAt: now + leaseMs,
    renewals: 0,
    label,
    fence: undefined,
  };
}

function waiterOf({ seat, label }: Want, now: number): Waiter {
  return { seat, mode: "exclusive", limit: 1, since: now, label };
}

function note(holder: Holder, reason: LossReason, skewMs: number): Eviction {
  const { token, expiresAt, leaseMs } = holder;
  return { token, reason, until: expiresAt + leaseMs + Math.min(skewMs, GARBAGE_AFTER_MS) };
}

/** The notes whose addressees may still not have read them. */
function notes(record: LockRecord, now: number): readonly Eviction[] {
  return record.evicted?.filter((eviction) => eviction.until > now) ?? [];
}

/** A record of these parts, with no empty ones. `freedAt` stays as long as nobody holds the lock. */
function rest(
  { freedAt }: LockRecord,
  holders: readonly Holder[],
  queue: readonly Waiter[],
  evicted: readonly Eviction[],
): LockRecord {
  return {
    v: 1,
    holders,
    queue,
    evicted: evicted.length > 0 ? evicted : undefined,
    freedAt: holders.length === 0 && queue.length > 0 ? freedAt : undefined,
  };
}

/** The same, freed now if it is free; no record at all if nothing is left to say. */
function orNone(
  record: LockRecord,
  holders: readonly Holder[],
  queue: readonly Waiter[],
  evicted: readonly Eviction[],
  now: number,
): LockRecord | null {
  if (holders.length === 0 && queue.length === 0 && evicted.length === 0) return null;
  return rest({ ...record, freedAt: now }, holders, queue, evicted);
}
