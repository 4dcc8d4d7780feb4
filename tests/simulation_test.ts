// The core on a virtual clock and a simulated store. One run is one schedule: which process asks when, what is lost, late
// or repeated, which one dies or stands still, whose clock is wrong. A failure prints the command that repeats it.
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import process from "node:process";
import { type Mark, type Marks, missing } from "./simulation/marks.ts";
import { run } from "./simulation/run.ts";
import { crowds, schedules, type Weather } from "./simulation/schedule.ts";

const RUNS: Record<Weather, number> = { calm: 800, rough: 3000, wild: 1500 };

/** In CI the schedules are always the same: it judges the change, and not the day. Elsewhere each run draws new ones. */
const isCI = process.env.CI === "true";
const SEED = 20261126;

for (const weather of ["calm", "rough", "wild"] as const) {
  Deno.test(`simulation: ${weather} weather`, async () => {
    const seed = Number(process.env.SIM_SEED ?? (isCI ? SEED : Math.floor(Math.random() * 2 ** 31)));
    const path = process.env.SIM_PATH;
    const numRuns = Number(process.env.SIM_RUNS ?? RUNS[weather]);
    const total: Marks = {};
    let played = 0;
    const property = fc.asyncProperty(schedules(weather), async (schedule) => {
      played++;
      const marks = await run(schedule, weather);
      for (const mark of Object.keys(marks) as Mark[]) total[mark] = (total[mark] ?? 0) + marks[mark]!;
    });
    console.log(`${weather}: seed ${seed}, ${numRuns} schedules`);
    const before = process.cpuUsage().user;
    const result = await fc.check(property, {
      seed,
      path,
      numRuns,
      endOnFailure: process.env.SIM_SHRINK === "no",
      // Bounds the shrinking of a failure; a run that does not get through in time has failed too.
      interruptAfterTimeLimit: Number(process.env.SIM_LIMIT_MS ?? 300_000),
      markInterruptAsFailure: true,
    });
    const perSecond = Math.round(played / (process.cpuUsage().user - before) * 1e6);
    if (result.failed) {
      const { counterexample, counterexamplePath, errorInstance, numRuns } = result;
      throw new Error(
        `${(errorInstance as Error)?.message ?? errorInstance}\n` +
          `found after ${numRuns} schedules\n` +
          `repeat: SIM_SEED=${seed} SIM_PATH=${
            counterexamplePath?.split(":")[0]
          } deno task sim --filter "${weather} weather"\n` +
          JSON.stringify(counterexample),
        { cause: errorInstance },
      );
    }
    console.log(`${weather}: ${perSecond} schedules per second of one core; ${JSON.stringify(total)}`);
    if (path !== undefined || numRuns < RUNS[weather]) return;
    // What never happens proves nothing.
    assertEquals(missing(total, weather), []);
  });
}

Deno.test("simulation: more processes than a queue has places", async () => {
  const total: Marks = {};
  await fc.assert(
    fc.asyncProperty(crowds(), async (schedule) => {
      Object.assign(total, await run(schedule, "rough"));
    }),
    { numRuns: 4, seed: isCI ? SEED : undefined },
  );
  assertEquals(missing(total, "crowd"), []);
});
