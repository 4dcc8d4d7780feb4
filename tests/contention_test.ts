/**
 * Real processes that want the same at the same time, on stores that they share: several locks in any order, a limit,
 * readers and a writer. With HOLDFAST_CONTENTION=long, ten times as much of each.
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import process from "node:process";
import type { Span } from "./processes/child.ts";
import { type Processes, test } from "./processes/stage.ts";
import { now } from "./support/child.ts";

const TIMES = process.env.HOLDFAST_CONTENTION === "long" ? 10 : 1;

/** A Deno KV server behaves as its own file. */
const on = ({ name }: { readonly name: string }) => name !== "KV Connect";

/** Lets all of them contend, and answers when each held what. */
async function contend(
  { children }: Processes,
  command: {
    names: readonly string[];
    take: number;
    callers: number;
    times: number;
    holdMs?: number;
    options?: object;
  },
): Promise<readonly (readonly Span[])[]> {
  const answers = await Promise.all(
    children.map((child) => child.ask({ do: "contend", ...command }, "contended")),
  );
  return answers.map(({ spans }) => spans);
}

/** The most that held `name` at any moment. */
function mostAtOnce(spans: readonly Span[], name: string): number {
  const steps = spans.filter(({ names }) => names.includes(name))
    .flatMap(({ from, to }) => [[from, 1], [to, -1]])
    .sort(([a, up], [b, other]) => a - b || up - other);
  let [inside, most] = [0, 0];
  for (const [, step] of steps) most = Math.max(most, inside += step);
  return most;
}

/** Of those that one commit has granted, all but the first have an index behind its version. */
function commitOf(token: string): string {
  return token.split("+")[0];
}

/** How long they waited, and how the longest and the usual wait of the processes compare. */
function print({ name }: Processes, what: string, each: readonly (readonly Span[])[]): void {
  const waits = each.map((spans) => spans.map(({ asked, from }) => from - asked).sort((a, b) => a - b));
  const median = waits.map((ms) => Math.round(ms[ms.length >> 1]));
  const longest = waits.map((ms) => Math.round(ms.at(-1)!));
  console.log(
    `${what}, ${name}: median wait by process ${median.join(", ")} ms; longest ${longest.join(", ")} ms`,
  );
}

/** Philosophers: each takes three of five locks, in any order, and all finish. */
async function dine(processes: Processes): Promise<void> {
  const names = ["a", "b", "c", "d", "e"];
  const times = 5 * TIMES;
  const each = await contend(processes, { names, take: 3, callers: 1, times });
  assertEquals(each.map((spans) => spans.length), Array(5).fill(times));
  for (const name of names) {
    assertEquals(mostAtOnce(each.flat(), name), 1);
    assertEquals(await processes.record(name), null);
  }
  print(processes, "philosophers", each);
}

/** Fifty contenders for a limit of five: never more, and as many as that. */
async function fill(processes: Processes): Promise<void> {
  const times = 2 * TIMES;
  const options = { limit: 5 };
  // So long that five of them meet, although five processes share two cores.
  const holdMs = 50;
  const each = await contend(processes, { names: ["pool"], take: 1, callers: 10, times, holdMs, options });
  assertEquals(each.flat().length, 50 * times);
  assertEquals(mostAtOnce(each.flat(), "pool"), 5);
  assertEquals(await processes.record("pool"), null);
  print(processes, "limit of five", each);
}

/** A hundred readers a second: a writer waits for those before it, and for none that comes later. */
async function read(processes: Processes): Promise<void> {
  const [writer, ...readers] = processes.children;
  for (const reader of readers) reader.send({ do: "share", everyMs: 40, forMs: 60 });
  const writes: { readonly queuedMs: number; readonly token: string }[] = [];
  while (writes.length < 4 * TIMES) {
    writer.send({ do: "acquire" });
    const granted = writer.next("acquired");
    let isGranted = false;
    let queuedMs = Infinity;
    void granted.then(() => isGranted = true, () => isGranted = true);
    while (queuedMs === Infinity && !isGranted) {
      const isQueued = (await processes.queue()).some(({ mode }) => mode === "exclusive");
      if (isQueued) queuedMs = now();
      else await delay(1);
    }
    writes.push({ queuedMs, token: (await granted).fencingToken });
    assertEquals((await writer.ask({ do: "release" }, "released")).ours, true);
    await delay(100);
  }
  const each = await Promise.all(readers.map((reader) => reader.ask({ do: "stop" }, "shared")));
  // It was seen waiting, for there were readers.
  assert(writes.some(({ queuedMs }) => queuedMs < Infinity));
  for (const { queuedMs, token } of writes) {
    for (const { spans } of each as unknown as { spans: Span[] }[]) {
      const before = spans.filter((span) => span.token < token);
      // One place in the queue is that of all readers of a process: one that has come later goes with one that was before.
      const turns = new Set(
        before.filter(({ asked }) => asked <= queuedMs).map(({ token }) => commitOf(token)),
      );
      const late = before.filter(({ asked, token }) => asked > queuedMs && !turns.has(commitOf(token)));
      assertEquals(late, []);
    }
  }
  const spans = each.flatMap(({ spans }) => spans as Span[]);
  assert(mostAtOnce(spans, "shared") > 1);
  assertEquals(await processes.record(), null);
}

// One after the other by the same processes: to start these takes longer than what they do.
test(
  "five of them: philosophers all finish, a limit of five holds, readers do not starve a writer",
  { count: 5, on },
  async (processes) => {
    for (const play of [dine, fill, read]) await play(processes);
  },
);
