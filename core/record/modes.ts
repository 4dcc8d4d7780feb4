/** What excludes what: the only place that knows. */

/** How many may hold a lock at once, in whatever mode: more would not fit into a record. */
export const MAX_HOLDERS = 64;

/** How a lock is held: by at most `limit` at once, or by any number that only read. */
export interface Mode {
  readonly mode: "exclusive" | "shared";
  /** How many may hold it at once in exclusive mode; the least that anybody asked for counts. */
  readonly limit: number;
}

/** Whether there is room for one more beside `holders`. */
export function admits(holders: readonly Mode[], claim: Mode): boolean {
  let least = claim.mode === "shared" ? MAX_HOLDERS : Math.min(claim.limit, MAX_HOLDERS);
  for (const { mode, limit } of holders) {
    if (mode !== claim.mode) return false;
    if (mode === "exclusive") least = Math.min(least, limit);
  }
  return holders.length < least;
}
