/** The laws between real processes that share one SQLite file, some of which are killed or frozen. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { decode, type LockRecord } from "../core/record.ts";
import { Child, now } from "./child.ts";

/** As `kvBackend` has it by default. */
const SKEW_MS = 1000;
/** What a busy machine may add to any time that the laws promise. */
const SLACK_MS = 3000;

/** Some child processes on a new database file, and the test's own handle on that file. */
class Processes implements AsyncDisposable {
  readonly kv: Deno.Kv;
  readonly children: readonly Child[];
  readonly #dir: string;

  private constructor(dir: string, kv: Deno.Kv, children: readonly Child[]) {
    this.#dir = dir;
    this.kv = kv;
    this.children = children;
  }

  static async start(count: number): Promise<Processes> {
    const dir = await Deno.makeTempDir({ prefix: "holdfast-" });
    const file = `${dir}/kv.sqlite`;
    const kv = await Deno.openKv(file);
    const script = new URL("./processes_child.ts", import.meta.url);
    const flags = [`--allow-read=${dir}`, `--allow-write=${dir}`];
    const children = Array.from({ length: count }, () => new Child(script, { flags, args: [file] }));
    const processes = new Processes(dir, kv, children);
    try {
      await Promise.all(children.map((child) => child.next("started")));
      return processes;
    } catch (error) {
      await processes[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the store knows of the lock; `null` if nothing. */
  async record(): Promise<LockRecord | null> {
    const { value } = await this.kv.get<Uint8Array>(["holdfast", "shared"]);
    return value === null ? null : decode("shared", new TextDecoder().decode(value));
  }

  /** Until this many processes stand in line. */
  async lined(count: number): Promise<void> {
    const deadline = now() + 30_000;
    while ((await this.record())?.queue.length !== count) {
      assert(now() < deadline, `there never were ${count} in line`);
      await delay(5);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.children.map((child) => child[Symbol.asyncDispose]()));
    this.kv.close();
    await Deno.remove(this.#dir, { recursive: true });
  }
}

Deno.test("four processes: every increment counts, no two of them overlap", async () => {
  await using processes = await Processes.start(4);
  const { kv, children } = processes;
  const times = 25;
  const answers = await Promise.all(
    children.map((child) => child.ask({ do: "increment", times }, "incremented")),
  );
  const spans = answers.flatMap(({ spans }) => spans as [number, number][]).sort(([a], [b]) => a - b);
  assertEquals(spans.length, 4 * times);
  assertEquals(spans.filter(([from], i) => i > 0 && from < spans[i - 1][1]), []);
  assertEquals((await kv.get(["bare"])).value, 4 * times);
  assertEquals((await kv.get(["proven"])).value, 4 * times);
  assertEquals(await processes.record(), null);
});

Deno.test("a killed holder: a waiter of another process follows when the lease has lapsed", async () => {
  await using processes = await Processes.start(2);
  const [victim, waiter] = processes.children;
  const leaseMs = 1500;
  const { asked } = await victim.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  waiter.tell({ do: "acquire" });
  await processes.lined(1);
  victim.signal("SIGKILL");
  const killed = now();
  const { at } = await waiter.next("acquired");
  assert(at >= asked + leaseMs, `granted ${asked + leaseMs - at} ms before the lease was over`);
  assert(at <= killed + leaseMs + SKEW_MS + SLACK_MS, `granted only ${at - killed} ms after the death`);
  assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});

Deno.test("a frozen holder learns on waking that it has lost, and writes nothing", async () => {
  await using processes = await Processes.start(2);
  const { kv, children: [frozen, successor] } = processes;
  const leaseMs = 1500;
  const first = await frozen.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  frozen.tell({ do: "tick", gapMs: leaseMs });
  successor.tell({ do: "acquire" });
  await processes.lined(1);
  frozen.signal("SIGSTOP");
  const second = await successor.next("acquired");
  assert(second.fencingToken > first.fencingToken);

  frozen.signal("SIGCONT");
  const { held, aborted, reason } = await frozen.next("woke");
  assertEquals({ held, aborted, reason }, { held: false, aborted: true, reason: "expired" });
  assertEquals((await frozen.ask({ do: "commit", value: "stale" }, "refused")).reason, "expired");
  assertEquals((await frozen.ask({ do: "release" }, "released")).ours, false);

  assertEquals((await kv.get(["value"])).value, null);
  assertEquals((await successor.ask({ do: "look" }, "looked")).held, true);
  await successor.ask({ do: "commit", value: "fresh" }, "committed");
  assertEquals((await kv.get(["value"])).value, "fresh");
  assertEquals((await successor.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});

Deno.test("a killed waiter that was first in line delays the next one by no more than its grace", async () => {
  await using processes = await Processes.start(3);
  const [holder, head, next] = processes.children;
  await holder.ask({ do: "acquire" }, "acquired");
  head.tell({ do: "acquire" });
  await processes.lined(1);
  next.tell({ do: "acquire" });
  await processes.lined(2);
  head.signal("SIGKILL");
  const released = await holder.ask({ do: "release" }, "released");
  const { at } = await next.next("acquired");
  assert(at <= released.at + 250 + SLACK_MS, `granted only ${at - released.at} ms after the release`);
  assertEquals((await next.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});

Deno.test("the line holds between processes: first come, first served", async () => {
  await using processes = await Processes.start(5);
  const [holder, ...waiters] = processes.children;
  await holder.ask({ do: "acquire" }, "acquired");
  for (const [i, waiter] of waiters.entries()) {
    waiter.tell({ do: "acquire" });
    await processes.lined(i + 1);
  }
  await holder.ask({ do: "release" }, "released");
  const tokens: string[] = [];
  for (const waiter of waiters) {
    tokens.push((await waiter.next("acquired")).fencingToken);
    assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  }
  assertEquals(tokens, tokens.toSorted());
  assertEquals(await processes.record(), null);
});

Deno.test("a robbed holder is told 'stolen', in another process than the thief's", async () => {
  await using processes = await Processes.start(2);
  const [robbed, thief] = processes.children;
  const leaseMs = 1500;
  await robbed.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  await thief.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
  assertEquals((await robbed.next("lost")).reason, "stolen");
  assertEquals((await robbed.ask({ do: "release" }, "released")).ours, false);
  assertEquals((await thief.ask({ do: "look" }, "looked")).held, true);
  assertEquals((await thief.ask({ do: "release" }, "released")).ours, true);
});

Deno.test("the store refuses the write of a robbed holder that was under way before it knew", async () => {
  await using processes = await Processes.start(2);
  const { kv, children: [robbed, thief] } = processes;
  await robbed.ask({ do: "acquire" }, "acquired");
  // Proven to be held, and ready to be sent: nothing but the store can stop it now.
  await robbed.ask({ do: "commit", value: "stale", pause: true }, "ready");
  await thief.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
  await thief.ask({ do: "commit", value: "fresh" }, "committed");
  const { heldWhenSent, reason } = await robbed.ask({ do: "go" }, "refused");
  assertEquals({ heldWhenSent, reason }, { heldWhenSent: true, reason: "stolen" });
  assertEquals((await kv.get(["value"])).value, "fresh");
  assertEquals((await thief.ask({ do: "release" }, "released")).ours, true);
});

Deno.test("a robbed holder that releases before it knew takes nothing from its successor", async () => {
  await using processes = await Processes.start(2);
  const [robbed, thief] = processes.children;
  await robbed.ask({ do: "acquire" }, "acquired");
  await thief.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
  assertEquals((await robbed.ask({ do: "release" }, "released")).ours, false);
  assertEquals((await processes.record())?.holders.length, 1);
  await thief.ask({ do: "commit", value: "fresh" }, "committed");
  assertEquals((await thief.ask({ do: "release" }, "released")).ours, true);
});

Deno.test("a frozen holder blocks a newcomer no longer than its lease", async () => {
  await using processes = await Processes.start(2);
  const [frozen, newcomer] = processes.children;
  const leaseMs = 2000;
  const { asked } = await frozen.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  frozen.signal("SIGSTOP");
  const stopped = now();
  const { at } = await newcomer.ask({ do: "acquire" }, "acquired");
  assert(at >= asked + leaseMs, `granted ${asked + leaseMs - at} ms before the lease was over`);
  assert(at <= stopped + leaseMs + SKEW_MS + SLACK_MS, `granted only ${at - stopped} ms after the stop`);
  assertEquals((await newcomer.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});
