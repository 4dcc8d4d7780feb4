/**
 * `deno task simulate --schedules 1000000 --seed 1`: as many schedules as wanted, on all cores, in all weathers, with figures for
 * each kind of fault and each mark. A schedule that breaks a law is printed with the command that repeats it, and the campaign
 * goes on. The same seed and number play the same schedules.
 */

import { parseArgs } from "node:util";
import type { Batch, Played } from "./batch.ts";
import { type Mark, MARKS, type Marks, missing } from "./marks.ts";
import type { Weather } from "./schedule.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    schedules: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 20)) },
    jobs: { type: "string", default: String(navigator.hardwareConcurrency) },
  },
});

/** How many of a hundred schedules have this weather: as in CI. */
const SHARES: Readonly<Record<Weather, number>> = { calm: 15, rough: 57, wild: 28 };
/** How many a worker plays at once: its memory goes with it. */
const BATCH = 500;
/** How many batches of a weather there can be before seeds repeat. */
const SEEDS = 100_003;
const REPORT_MS = 10_000;

function* batches(total: number, seed: number): Generator<Batch> {
  let number = 0;
  for (const weather of Object.keys(SHARES) as Weather[]) {
    let left = Math.round(total * SHARES[weather] / 100);
    for (; left > 0; left -= BATCH) {
      yield { weather, seed: (seed * SEEDS + number++) % 2 ** 31, count: Math.min(BATCH, left) };
    }
  }
}

/** One batch in a separate worker. */
function play(batch: Batch): Promise<Played> {
  const worker = new Worker(new URL("./batch.ts", import.meta.url), { type: "module" });
  return new Promise<Played>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      const failure = { path: "0", what: event.message };
      resolve({ batch, count: 0, marks: {}, faults: {}, failure });
    };
    worker.postMessage(batch);
  }).finally(() => worker.terminate());
}

const total = Number(values.schedules);
const seed = Number(values.seed);
const started = performance.now();
const played: Record<Weather, number> = { calm: 0, rough: 0, wild: 0 };
const marks: Record<Weather, Marks> = { calm: {}, rough: {}, wild: {} };
const faults: Record<string, number> = {};
const failures: Played[] = [];
let count = 0;

function add(one: Played): void {
  const { batch: { weather }, failure } = one;
  count += one.count;
  played[weather] += one.count;
  for (const [mark, times] of Object.entries(one.marks) as [Mark, number][]) {
    marks[weather][mark] = (marks[weather][mark] ?? 0) + times;
  }
  for (const [kind, times] of Object.entries(one.faults)) faults[kind] = (faults[kind] ?? 0) + times;
  if (failure === undefined) return;
  failures.push(one);
  const { path, what } = failure;
  console.log(
    `\n**${what}** after ${path} of a batch\nrepeat: SIM_SEED=${one.batch.seed} SIM_PATH=${
      path.split(":")[0]
    } ` +
      `deno task sim --filter "${weather} weather"\n`,
  );
}

console.log(`seed ${seed}, ${total} schedules`);
const progress = setInterval(() => {
  const perSecond = Math.round(count / (performance.now() - started) * 1000);
  console.error(`${count} of ${total}, ${perSecond} a second, ${failures.length} failures`);
}, REPORT_MS);
const queue = batches(total, seed);
await Promise.all(Array.from({ length: Number(values.jobs) }, async () => {
  for (const batch of queue) add(await play(batch));
}));
clearInterval(progress);

console.log(`\n| fault | times |\n| --- | --- |`);
for (const kind of Object.keys(faults).sort()) console.log(`| ${kind} | ${faults[kind]} |`);
console.log(`\n| what was reached | calm | rough | wild |\n| --- | --- | --- | --- |`);
for (const mark of Object.keys(MARKS) as Mark[]) {
  console.log(`| ${mark} | ${Object.values(marks).map((those) => those[mark] ?? 0).join(" | ")} |`);
}
for (const weather of Object.keys(SHARES) as Weather[]) {
  const never = missing(marks[weather], weather);
  if (never.length > 0) console.log(`\nnever reached in ${weather} weather: ${never.join("; ")}`);
}
const seconds = Math.round((performance.now() - started) / 1000);
const kinds = Object.entries(played).map(([weather, times]) => `${times} ${weather}`).join(", ");
console.log(`\n${count} schedules (${kinds}) in ${seconds} s, seed ${seed}: ${failures.length} broke a law`);
if (failures.length > 0) Deno.exit(1);
