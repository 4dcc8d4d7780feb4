/**
 * How long a lock takes from one process to the next on one SQLite file, and what waiting costs. Run it with
 * `deno task bench:handoff`, on a machine that has nothing else to do.
 *
 * The goals: a median under 15 ms, and less than 3% of a core for each process that waits.
 */

import { Child } from "../tests/support/child.ts";

const PROCESSES = [2, 4];
const HOLDS_MS = [5, 50, 300];
/** How long each hand-off figure is measured. */
const MEASURE_MS = 12_000;
/** How long the processor time of a waiter is measured, after this much of waiting. */
const IDLE_MS = 10_000;
const SETTLE_MS = 2000;

interface Round {
  readonly asked: number;
  readonly from: number;
  readonly released: number;
}

/** Starts players on a new file. */
async function withPlayers<Result>(
  count: number,
  measure: (players: Child[]) => Promise<Result>,
): Promise<Result> {
  const dir = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
  const script = new URL("./player.ts", import.meta.url);
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
async function handOffs(count: number, holdMs: number): Promise<number[]> {
  const times = Math.ceil(MEASURE_MS / (holdMs + 10) / count);
  const answers = await withPlayers(count, (players) => {
    return Promise.all(players.map((player) => player.ask({ do: "pass", times, holdMs }, "passed")));
  });
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
    waiter.tell({ do: "wait" });
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
