/** What excludes what: the only place that knows. */

/** How many may hold a lock at once, in whatever mode: more would not fit into a record. */
export const MAX_HOLDERS = 64;
/** The highest limit: high enough to count what is no holder, such as megabytes. */
export const MAX_LIMIT = 1_000_000;

/** How a lock is held: by as many at once as share `limit` permits, or by any number that only read. */
export interface Mode {
  readonly mode: "exclusive" | "shared";
  /** How many permits there are in exclusive mode; the least that was asked for counts. */
  readonly limit: number;
  /** How many of them it takes; absent is one. */
  readonly permits?: number;
  /** Whether it shares the lock and waits to be the only one. */
  readonly upgrades?: boolean;
}

/** Whether there is room for one more next to `holders`. Next to one that waits to be the only one there is none. */
export function admits(holders: readonly Mode[], claim: Mode): boolean {
  if (holders.length >= MAX_HOLDERS) return false;
  let { limit: least, permits: taken = 1 } = claim;
  for (const { mode, limit, permits = 1, upgrades } of holders) {
    if (mode !== claim.mode || upgrades) return false;
    least = Math.min(least, limit);
    taken += permits;
  }
  return claim.mode === "shared" || taken <= least;
}

/** Whether a holder of a lock like this may do all that `claim` asks for. */
export function covers({ mode, limit, permits = 1 }: Mode, claim: Mode): boolean {
  if (mode === "shared") return claim.mode === "shared";
  if (limit === 1) return true;
  // Readers have a limit of 1, which is lower.
  return limit <= claim.limit && permits >= (claim.permits ?? 1);
}

/** The one of two ways to hold a lock that allows all that the other does; none if each allows what the other does not. */
export function strongerOf<How extends Mode>(one: How, other: How): How | undefined {
  return covers(one, other) ? one : covers(other, one) ? other : undefined;
}

/** Whether there is no room next to them for any caller, however it wants to hold the lock. */
export function isFull(holders: readonly Mode[]): boolean {
  return !admits(holders, { mode: "shared", limit: 1 }) &&
    !admits(holders, { mode: "exclusive", limit: MAX_LIMIT });
}

/** Whether both hold or want it in the same way. */
export function isSameMode(one: Mode, other: Mode): boolean {
  return one.mode === other.mode && one.limit === other.limit &&
    (one.permits ?? 1) === (other.permits ?? 1) && one.upgrades === other.upgrades;
}
