// Plays batches of schedules in a worker: it is sent which, and answers what they came by.

import fc from "fast-check";
import type { Marks } from "./marks.ts";
import { run } from "./run.ts";
import { type Schedule, schedules, type Weather } from "./schedule.ts";

/** Schedules that follow from a seed. */
export interface Batch {
  readonly weather: Weather;
  readonly seed: number;
  readonly count: number;
}

/** What a batch came to. */
export interface Played {
  readonly batch: Batch;
  /** How many were played: all, unless one failed. */
  readonly count: number;
  readonly marks: Marks;
  /** How many faults of each kind they had. */
  readonly faults: Readonly<Record<string, number>>;
  /** What broke, and where in the batch. */
  readonly failure?: { readonly path: string; readonly what: string };
}

async function play(batch: Batch): Promise<Played> {
  const { weather, seed, count } = batch;
  const marks: Marks = {};
  const faults: Record<string, number> = {};
  let played = 0;
  const property = fc.asyncProperty(schedules(weather), async (schedule: Schedule) => {
    played++;
    for (const { kind } of schedule.faults) faults[kind] = (faults[kind] ?? 0) + 1;
    const reached = await run(schedule, weather);
    for (const mark of Object.keys(reached) as (keyof Marks)[]) {
      marks[mark] = (marks[mark] ?? 0) + reached[mark]!;
    }
  });
  const { failed, counterexamplePath, errorInstance } = await fc.check(property, {
    seed,
    numRuns: count,
    endOnFailure: true,
  });
  if (!failed) return { batch, count: played, marks, faults };
  const what = String((errorInstance as Error)?.message ?? errorInstance).split("\n")[0];
  return { batch, count: played, marks, faults, failure: { path: counterexamplePath ?? "0", what } };
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<Batch>) => void;
  postMessage(message: Played): void;
};
scope.onmessage = ({ data }) => void play(data).then((played) => scope.postMessage(played));
