// How the callers of a schedule hold their locks: most schedules know only exclusive ones, as the core did at first.
import type { Round, Schedule } from "./schedule.ts";

/** Which modes the callers of one schedule ask for. */
export type Modes = "exclusive" | "shared" | "limits" | "any";

/** How a caller holds its lock, and what it changes about that meanwhile. */
export interface How {
  readonly mode: "exclusive" | "shared";
  readonly limit?: number;
  readonly permits?: number;
  /** What it does in the middle of its work, one after the other. */
  readonly changes: readonly ("up" | "down")[];
}

const EXCLUSIVE: How = { mode: "exclusive", changes: [] };

const SHARED: readonly How[] = [
  { mode: "shared", changes: [] },
  { mode: "shared", changes: [] },
  { mode: "shared", changes: [] },
  { mode: "shared", changes: ["up"] },
  { mode: "shared", changes: ["up", "down"] },
  { mode: "exclusive", changes: ["down"] },
  { mode: "exclusive", changes: ["down", "up"] },
  EXCLUSIVE,
];

const LIMITS: readonly How[] = [
  { mode: "exclusive", limit: 2, changes: [] },
  { mode: "exclusive", limit: 2, changes: [] },
  { mode: "exclusive", limit: 3, changes: [] },
  { mode: "exclusive", limit: 3, permits: 2, changes: [] },
  { mode: "exclusive", limit: 3, changes: [] },
  { mode: "exclusive", limit: 5, permits: 3, changes: [] },
  { mode: "exclusive", limit: 5, changes: [] },
  EXCLUSIVE,
];

const HOW: Readonly<Record<Modes, readonly How[]>> = {
  exclusive: [EXCLUSIVE],
  shared: SHARED,
  limits: LIMITS,
  any: [...SHARED, ...LIMITS],
};

/** The locks that a caller takes together in this schedule, by their numbers, and how it holds each. */
export function targetsOf(
  schedule: Pick<Schedule, "modes" | "groups">,
  { key, how, also = [] }: Pick<Round, "key" | "how" | "also">,
): readonly (How & { readonly key: number })[] {
  const targets = [{ key, how }, ...(schedule.groups === true ? also : [])];
  const distinct = targets.filter((target, i) => targets.findIndex(({ key }) => key === target.key) === i);
  return distinct.map((target) => ({ ...howOf(schedule, target), key: target.key }));
}

/** How this caller holds its lock in this schedule. */
export function howOf(
  { modes = "exclusive" }: Pick<Schedule, "modes">,
  { how = 0 }: Pick<Round, "how">,
): How {
  const choices = HOW[modes];
  return choices[how % choices.length];
}
