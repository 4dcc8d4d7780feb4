/** The laws between real processes that share one Redis server, some of which are killed, frozen or robbed. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { Child, now } from "./child.ts";
import { missingRedis, RedisServer } from "./redis_server.ts";

const missing = missingRedis();

function test(
  name: string,
  count: number,
  play: (server: RedisServer, children: Child[]) => Promise<void>,
): void {
  if (missing !== undefined) return Deno.test.ignore(`Redis, ${name} (${missing})`, () => {});
  Deno.test(`Redis, ${name}`, async () => {
    await using server = await RedisServer.start();
    await using stack = new AsyncDisposableStack();
    const script = new URL("./redis_processes_child.ts", import.meta.url);
    const options = { flags: ["-A"], args: [`${server.port}`] };
    const children = Array.from({ length: count }, () => stack.use(new Child(script, options)));
    await Promise.all(children.map((child) => child.next("started")));
    await play(server, children);
  });
}

/** Until this many processes stand in line. */
async function lined(server: RedisServer, count: number): Promise<void> {
  const deadline = now() + 30_000;
  while (((await record(server)).match(/"seat"/g) ?? []).length !== count) {
    assert(now() < deadline, `there never were ${count} in line`);
    await delay(5);
  }
}

/** The record of the one lock that these tests use, raw. */
async function record(server: RedisServer): Promise<string> {
  const name = (await server.ask("KEYS", "holdfast:*:shared")).split("\r\n")[2];
  return name === undefined ? "" : await server.ask("GET", name);
}

test("four processes: every increment counts, no two of them overlap", 4, async (server, children) => {
  const times = 50;
  const answers = await Promise.all(
    children.map((child) => child.ask({ do: "increment", times }, "incremented")),
  );
  const spans = answers.flatMap(({ spans }) => spans as [number, number][]).sort(([a], [b]) => a - b);
  assertEquals(spans.filter(([from], i) => i > 0 && from < spans[i - 1][1]), []);
  for (const name of ["bare", "proven"]) assertEquals(await server.ask("GET", name), "$3\r\n200\r\n");
  assertEquals(await record(server), "");
});

test(
  "a killed holder: a waiter of another process follows when the lease is over",
  2,
  async (server, children) => {
    const [victim, waiter] = children;
    const first = await victim.ask({ do: "acquire", options: { leaseMs: 1500 } }, "acquired");
    waiter.tell({ do: "acquire" });
    await lined(server, 1);
    victim.signal("SIGKILL");
    const second = await waiter.next("acquired");
    assert(second.fencingToken > first.fencingToken);
    assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await record(server), "");
  },
);

test("a frozen holder learns on waking that it has lost, and writes nothing", 2, async (server, children) => {
  const [frozen, successor] = children;
  const leaseMs = 1500;
  const first = await frozen.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  frozen.tell({ do: "tick", gapMs: leaseMs });
  successor.tell({ do: "acquire" });
  await lined(server, 1);
  frozen.signal("SIGSTOP");
  const second = await successor.next("acquired");
  assert(second.fencingToken > first.fencingToken);
  frozen.signal("SIGCONT");
  const { held, aborted, reason } = await frozen.next("woke");
  assertEquals({ held, aborted, reason }, { held: false, aborted: true, reason: "expired" });
  assertEquals((await frozen.ask({ do: "commit", value: "stale" }, "refused")).reason, "expired");
  assertEquals((await frozen.ask({ do: "release" }, "released")).ours, false);
  assertEquals(await server.ask("GET", "value"), "$-1\r\n");
  await successor.ask({ do: "commit", value: "fresh" }, "committed");
  assertEquals((await successor.ask({ do: "release" }, "released")).ours, true);
});

test("a robbed holder is told 'stolen' by push, long before its renewal", 2, async (_server, children) => {
  const [robbed, thief] = children;
  await robbed.ask({ do: "acquire", options: { leaseMs: 2 ** 31 - 1 } }, "acquired");
  // It watches after one second; a theft before that would be told at its renewal, in a week.
  await delay(1500);
  await thief.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
  assertEquals((await robbed.next("lost")).reason, "stolen");
  assertEquals((await robbed.ask({ do: "commit", value: "stale" }, "refused")).reason, "stolen");
  assertEquals((await thief.ask({ do: "release" }, "released")).ours, true);
});

test("the line holds between processes: first come, first served", 5, async (server, children) => {
  const [holder, ...waiters] = children;
  await holder.ask({ do: "acquire" }, "acquired");
  for (const [i, waiter] of waiters.entries()) {
    waiter.tell({ do: "acquire" });
    await lined(server, i + 1);
  }
  await holder.ask({ do: "release" }, "released");
  const tokens: string[] = [];
  for (const waiter of waiters) {
    tokens.push((await waiter.next("acquired")).fencingToken);
    assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  }
  assertEquals(tokens, tokens.toSorted());
  assertEquals(await record(server), "");
});
