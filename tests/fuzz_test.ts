// Records that nobody has written on purpose: none of them may be taken for a free lock, keep a caller waiting, or end
// the process. `deno task fuzz` plays 100 000; a failure prints the seed that repeats it.
import fc from "fast-check";
import process from "node:process";
import { endAll, refuseAll } from "./fuzz/operations.ts";
import { malformed, wellFormed } from "./fuzz/records.ts";

const RUNS = Number(process.env.FUZZ_RUNS ?? Deno.args[0] ?? 5000);
const SEED = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const limits = { seed: SEED, path: process.env.FUZZ_PATH, endOnFailure: RUNS > 5000 };

Deno.test(`fuzz: ${RUNS} malformed records are refused by everything, seed ${SEED}`, async () => {
  await fc.assert(fc.asyncProperty(malformed, refuseAll), { ...limits, numRuns: RUNS });
});

Deno.test(`fuzz: with well-formed records, however odd, everything comes to an end, seed ${SEED}`, async () => {
  const text = wellFormed.map((record) => JSON.stringify(record));
  await fc.assert(fc.asyncProperty(text, endAll), { ...limits, numRuns: Math.ceil(RUNS / 10) });
});
