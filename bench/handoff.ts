/**
 * How long a lock takes from one process to the next on one SQLite file, and what waiting costs. Run it with
 * `deno task bench:handoff`, on a machine that has nothing else to do.
 *
 * The goals: a median under 15 ms, and less than 3% of a core for each process that waits.
 *
 * With the folder of another checkout as its argument it measures both in turns instead, and the one against the other.
 */

import { pathToFileURL } from "node:url";
import { Child } from "../tests/support/child.ts";

const PROCESSES = [2, 4];
const HOLDS_MS = [5, 50, 300];
/** How long each hand-off figure is measured. */
const MEASURE_MS = 12_000;
/** How long the processor time of a waiter is measured, after this much of waiting. */
const IDLE_MS = 10_000;
const SETTLE_MS = 2000;

const PLAYER = new URL("./player.ts", import.meta.url);

interface Round {
  readonly asked: number;
  readonly from: number;
  readonly released: number;
}

/** Starts players on a new file. */
async function withPlayers<Result>(
  count: number,
  measure: (players: Child[]) => Promise<Result>,
  script: URL = PLAYER,
): Promise<Result> {
  const dir = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
  const flags = [`--allow-read=${dir}`, `--allow-write=${dir}`];
  const players = Array.from(
    { length: count },
    () => new Child(script, { flags, args: [`${dir}/kv.sqlite`] }),
  );
  try {
    await Promise.all(players.map((player) => player.next("started")));
    return await measure(players);
  } finally {
    await Promise.all(players.map((player) => player[Symbol.asyncDispose]()));
    await Deno.remove(dir, { recursive: true });
  }
}

/** From the return of a release in one process to the return of the next acquisition, in another one. */
async function handOffs(
  count: number,
  holdMs: number,
  { player, measureMs = MEASURE_MS }: { readonly player?: URL; readonly measureMs?: number } = {},
): Promise<number[]> {
  const times = Math.ceil(measureMs / (holdMs + 10) / count);
  const answers = await withPlayers(count, (players) => {
    return Promise.all(players.map((player) => player.ask({ do: "pass", times, holdMs }, "passed")));
  }, player);
  const rounds = answers.flatMap(({ rounds }, player) =>
    (rounds as Round[]).map((round) => ({ ...round, player }))
  ).sort((a, b) => a.from - b.from);
  return rounds.slice(1).flatMap(({ asked, from, player }, i) => {
    const before = rounds[i];
    const waited = before.player !== player && asked < before.released;
    return waited ? [from - before.released] : [];
  }).sort((a, b) => a - b);
}

/** The share of one core that a process takes while it waits for a lock that is held elsewhere. */
async function idleShare(): Promise<number> {
  return await withPlayers(2, async ([holder, waiter]) => {
    await holder.ask({ do: "hold" }, "held");
    waiter.send({ do: "wait" });
    await sleep(SETTLE_MS);
    const before = await waiter.ask({ do: "cpu" }, "used");
    await sleep(IDLE_MS);
    const after = await waiter.ask({ do: "cpu" }, "used");
    const share = (after.cpuMs - before.cpuMs) / (after.at - before.at);
    await holder.ask({ do: "release" }, "released");
    await waiter.next("held");
    return share;
  });
}

function at(sorted: readonly number[], share: number): string {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]?.toFixed(1).padStart(7) ??
    "   none";
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Measures this checkout and another one in turns. */
async function compare(other: string, count: number, holdMs: number): Promise<void> {
  const players = [pathToFileURL(`${other}/bench/player.ts`), PLAYER];
  const times: number[][] = [[], []];
  for (const i of [0, 1, 1, 0]) {
    times[i].push(...await handOffs(count, holdMs, { player: players[i], measureMs: MEASURE_MS / 2 }));
  }
  const [theirs, ours] = times.map((all) => all.sort((a, b) => a - b));
  const [before, now] = [theirs, ours].map((all) => Number(at(all, 0.5)));
  const head = `${String(count).padStart(9)}  ${String(holdMs).padStart(7)}`;
  console.log(`${head}  ${at(theirs, 0.5)}  ${at(ours, 0.5)}  ${(now / before).toFixed(2).padStart(5)}`);
}

const [other] = Deno.args;
if (other !== undefined) {
  console.log("processes  hold ms  other p50  ours p50  ratio");
  for (const holdMs of HOLDS_MS) await compare(other, PROCESSES.at(-1)!, holdMs);
  Deno.exit();
}
console.log("processes  hold ms  hand-offs  p50 ms  p99 ms");
for (const count of PROCESSES) {
  for (const holdMs of HOLDS_MS) {
    const times = await handOffs(count, holdMs);
    const head = `${String(count).padStart(9)}  ${String(holdMs).padStart(7)}  ${
      String(times.length).padStart(9)
    }`;
    console.log(`${head} ${at(times, 0.5)} ${at(times, 0.99)}`);
  }
}
console.log(`a waiting process takes ${(100 * await idleShare()).toFixed(2)}% of a core`);
