// Records that were not written on purpose: no lock may be taken for a free one, no queue may keep a process from its
// lock, and none of them may keep a caller waiting, or end the process. `deno task fuzz` plays 100 000; a failure prints the seed that repeats it.
import fc from "fast-check";
import process from "node:process";
import { endAll, tryAll } from "./fuzz/operations.ts";
import { malformed, wellFormed } from "./fuzz/records.ts";

const RUNS = Number(process.env.FUZZ_RUNS ?? Deno.args[0] ?? 5000);
const SEED = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const limits = { seed: SEED, path: process.env.FUZZ_PATH, endOnFailure: RUNS > 5000 };

Deno.test(`fuzz: ${RUNS} malformed records harm no caller, seed ${SEED}`, async () => {
  await fc.assert(fc.asyncProperty(malformed, tryAll), { ...limits, numRuns: RUNS });
});

Deno.test(`fuzz: with well-formed records, however odd, everything comes to an end, seed ${SEED}`, async () => {
  const text = (record: unknown) => JSON.stringify(record);
  const both = fc.record({ lock: wellFormed.lock.map(text), queue: wellFormed.queue.map(text) });
  await fc.assert(fc.asyncProperty(both, endAll), { ...limits, numRuns: Math.ceil(RUNS / 10) });
});
