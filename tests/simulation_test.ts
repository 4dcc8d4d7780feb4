// The core on a virtual clock and a simulated store. One run is one schedule: who asks when, what is lost, late
// or repeated, who dies or freezes, whose clock is wrong. A failure prints the command that repeats it.
import { assert } from "@std/assert";
import fc from "fast-check";
import process from "node:process";
import { type Outcome, run } from "./simulation/run.ts";
import { schedules, type Weather } from "./simulation/schedule.ts";

const RUNS: Record<Weather, number> = { calm: 700, rough: 1400, wild: 700 };

for (const weather of ["calm", "rough", "wild"] as const) {
  Deno.test(`simulation: ${weather} weather`, async () => {
    const seed = Number(process.env.SIM_SEED ?? Math.floor(Math.random() * 2 ** 31));
    const path = process.env.SIM_PATH;
    const numRuns = Number(process.env.SIM_RUNS ?? RUNS[weather]);
    const total: Partial<Record<keyof Outcome, number>> = {};
    const property = fc.asyncProperty(schedules(weather), async (schedule) => {
      const outcome = await run(schedule, weather);
      for (const name of Object.keys(outcome) as (keyof Outcome)[]) {
        total[name] = (total[name] ?? 0) + outcome[name];
      }
    });
    console.log(`${weather}: seed ${seed}, ${numRuns} schedules`);
    const result = await fc.check(property, {
      seed,
      path,
      numRuns,
      endOnFailure: process.env.SIM_SHRINK === "no",
      // Bounds the shrinking of a failure; a run that does not get through in time has failed too.
      interruptAfterTimeLimit: 150_000,
      markInterruptAsFailure: true,
    });
    if (result.failed) {
      const { counterexample, counterexamplePath, errorInstance } = result;
      throw new Error(
        `${(errorInstance as Error)?.message ?? errorInstance}\n` +
          `repeat: SIM_SEED=${seed} SIM_PATH=${
            counterexamplePath?.split(":")[0]
          } deno task sim --filter "${weather} weather"\n` +
          JSON.stringify(counterexample),
        { cause: errorInstance },
      );
    }
    console.log(`${weather}: ${JSON.stringify(total)}`);
    if (path !== undefined || numRuns < 500) return;
    // A simulation in which nothing happens proves nothing.
    assert(total.grants! > numRuns && total.handOvers! > numRuns / 10 && total.writes! > numRuns / 2);
    if (weather === "calm") return;
    assert(total.losses! > numRuns / 50 && total.refusedWrites! > 0 && total.sweeps! > numRuns / 50);
  });
}
