/** The verdict on a run as text: what the terminal shows, and what the report repeats. */

import type { Judged } from "./run.ts";
import { STANDSTILL } from "./storm.ts";
import { leaksOf, quantile, sinsOf, type Times } from "./verdict.ts";

const ms = (value: number) => Number.isNaN(value) ? "–" : value < 10 ? value.toFixed(1) : value.toFixed(0);

const minutes = (value: number) => (value / 60_000).toFixed(1);

/** How times are spread, in one line. */
export function spread(times: Times): string {
  if (times.length === 0) return "none";
  const [half, most, all] = [0.5, 0.99, 1].map((share) => ms(quantile(times, share)));
  return `${half} ms median, ${most} ms for 99 of 100, ${all} ms at most (${times.length})`;
}

/** The pairs of a table: what it is, and how much. */
export function figures(
  { setting, history, faults: allFaults, verdict }: Judged,
): [what: string, value: string][] {
  const { locks, bare, guarded, waits, handOffs, recoveries, faults, refusals, grewBytes } = verdict;
  const { delayedRecoveries, slowest } = verdict;
  const loads = (setting.loads ?? []).toSorted((one, other) => one - other);
  const acquisitions = locks.reduce((sum, { holds }) => sum + holds, 0);
  const byRuntime = Map.groupBy(history.processes, ({ runtime }) => runtime);
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([what, count]) => `${what} ${count}`).join(", ") || "none";
  const sum = (sets: typeof bare, part: "added" | "refused" | "unknown") =>
    Object.values(sets).reduce((total, counts) => total + counts[part], 0);
  const all = (sets: typeof bare, part: "lost" | "stale") =>
    Object.values(sets).reduce((total, counts) => total + counts[part].length, 0);
  const worst = recoveries.at(-1);
  const stillMs = allFaults.reduce(
    (sum, { fault, from, to }) => fault === STANDSTILL ? sum + to - from : sum,
    0,
  );
  const stoodStill = stillMs > 0 ? `, for ${minutes(stillMs)} of which the machine stood still` : "";
  return [
    ["store", setting.title],
    ["minutes", `${minutes(setting.to - setting.from)}${stoodStill}`],
    ["lease", `${setting.leaseMs} ms`],
    [
      "load",
      loads.length === 0
        ? "not known"
        : `${quantile(loads, 0.5).toFixed(1)} median, ${
          loads.at(-1)!.toFixed(1)
        } at most, on ${setting.cores} cores`,
    ],
    ["processes", [...byRuntime].map(([name, those]) => `${those.length} ${name}`).join(", ")],
    ["acquisitions", `${acquisitions}: ${locks.map(({ lock, holds }) => `${lock} ${holds}`).join(", ")}`],
    ["not got", list(refusals)],
    ["faults", list(faults)],
    ["(a) violations", String(locks.filter(({ lock }) => sinsOf(verdict, lock).length > 0).length)],
    ["(b) without a guard", `${sum(bare, "added")} added, ${all(bare, "lost")} lost`],
    [
      "(c) commitIfHeld",
      `${sum(guarded, "added")} added, ${all(guarded, "lost")} lost; ${sum(guarded, "refused")} refused, ` +
      `${all(guarded, "stale")} of them written; ${sum(guarded, "unknown")} of unknown outcome`,
    ],
    ["wait", spread(waits)],
    ["hand-off", spread(handOffs)],
    [
      "recovery",
      worst === undefined
        ? "no holder was killed while nothing else went wrong"
        : `${spread(recoveries)}; the worst is the lease ${worst < setting.leaseMs ? "−" : "+"} ` +
          `${ms(Math.abs(worst - setting.leaseMs))} ms (${slowest})`,
    ],
    ["the same behind dead ones in the queue", spread(delayedRecoveries)],
    [
      "memory",
      grewBytes === undefined ? "too short to know" : `${(grewBytes / 2 ** 20).toFixed(1)} MiB more`,
    ],
    ["left behind, or wrong", leaksOf(verdict).join("; ") || "nothing"],
  ];
}

/** All that a lock must not do and has done, by lock. */
export function findings({ setting, verdict }: Judged): [lock: string, sins: string[]][] {
  const locks = verdict.locks.map(({ lock }) => lock);
  const found = locks.map((lock): [string, string[]] => [lock, sinsOf(verdict, lock)]);
  // A bad lock is expected to sin; it must only be caught.
  return setting.bad ? found : found.filter(([, sins]) => sins.length > 0);
}
