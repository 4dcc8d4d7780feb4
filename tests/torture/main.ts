/**
 * `deno task torture --store redis --minutes 20`: many processes, on every runtime that can be had, fight for locks on a real
 * store, while they are killed and frozen, their network breaks, their clocks are set, and the store itself dies.
 * `--store bad` plays locks that are known to be bad, each of which must be caught. `--check <folder>` judges the evidence of
 * an earlier run once more. Exits with 1 if a lock did what it must not, or a bad one was not caught.
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { BAD_LOCKS, FAULTS as BAD } from "./bad_locks.ts";
import { html } from "./report.ts";
import { type Judged, judgeFolder, type Progress, torture } from "./run.ts";
import { STORES } from "./stores.ts";
import { figures, findings } from "./text.ts";
import { leaksOf } from "./verdict.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    store: { type: "string", default: "redis" },
    minutes: { type: "string", default: "1" },
    "lease-ms": { type: "string" },
    processes: { type: "string", default: "5" },
    folder: { type: "string" },
    check: { type: "string" },
  },
});

const isTerminal = Deno.stdout.isTerminal();
const paint = (code: number, text: string) =>
  isTerminal && !Deno.noColor ? `\x1b[${code}m${text}\x1b[0m` : text;

function show({ atMs, ofMs, faults }: Progress): void {
  const done = Math.min(1, atMs / ofMs);
  const bar = "█".repeat(Math.round(done * 30)).padEnd(30, "·");
  const line = `${bar} ${(atMs / 1000).toFixed(0)} of ${(ofMs / 1000).toFixed(0)} s, ${faults} faults`;
  if (isTerminal) Deno.stdout.writeSync(new TextEncoder().encode(`\r\x1b[K${line}`));
  else if (Math.round(atMs / 1000) % 30 === 0) console.log(line);
}

async function played(): Promise<string> {
  if (values.check !== undefined) return values.check;
  const bad = values.store === "bad";
  const store = bad ? "redis" : values.store;
  if (!(store in STORES)) {
    console.error(`There is no store '${store}', only ${Object.keys(STORES).join(", ")}, bad.`);
    Deno.exit(2);
  }
  const missing = await STORES[store].missing();
  if (missing !== undefined) {
    console.error(`${STORES[store].title} ${missing}`);
    Deno.exit(2);
  }
  const folder = values.folder ?? await Deno.makeTempDir({ prefix: `holdfast-torture-${values.store}-` });
  await Deno.mkdir(folder, { recursive: true });
  console.log(
    `${paint(1, "Torture")}  ${
      bad ? "locks that are known to be bad" : STORES[store].title
    }, ${values.minutes} min, evidence in ${folder}`,
  );
  const interrupted = new AbortController();
  // If it is stopped, there is a verdict on what there is, and no server is left behind.
  for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => interrupted.abort());
  await torture({
    signal: interrupted.signal,
    store,
    ms: Number(values.minutes) * 60_000,
    leaseMs: Number(values["lease-ms"] ?? (bad ? 400 : 1500)),
    processes: Number(values.processes),
    folder,
    bad: bad ? BAD_LOCKS : [],
    onProgress: show,
  });
  if (isTerminal) console.log();
  return folder;
}

/** Prints what came of it; answers whether all is as it must be. */
function verdict(judged: Judged): boolean {
  const { setting, verdict } = judged;
  const rows = figures(judged);
  const wide = Math.max(...rows.map(([what]) => what.length));
  for (const [what, value] of rows) console.log(`  ${paint(1, what.padEnd(wide))}  ${value}`);
  for (const [what, why] of Object.entries(setting.spared)) {
    console.log(paint(33, `  not played: ${what}: ${why}`));
  }
  const found = findings(judged);
  if (!setting.bad) {
    for (const [lock, sins] of found) {
      for (const sin of sins) console.log(paint(31, `  ✗ ${lock}: ${sin}`));
    }
    return found.length === 0 && leaksOf(verdict).length === 0;
  }
  let ok = true;
  for (const [lock, sins] of found) {
    const isRight = (lock in BAD) === sins.length > 0;
    ok &&= isRight;
    const what = sins[0] ?? (lock in BAD ? "it was not caught" : "nothing was found");
    console.log(paint(isRight ? 32 : 31, `  ${isRight ? "✓" : "✗"} ${lock}: ${what}`));
  }
  return ok;
}

const folder = await played();
const judged = await judgeFolder(folder);
const ok = verdict(judged);
const report = join(folder, "report.html");
await Deno.writeTextFile(report, html(judged));
console.log(`  report: ${report}`);
Deno.exit(ok ? 0 : 1);
