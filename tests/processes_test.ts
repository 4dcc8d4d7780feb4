/**
 * The laws between real processes that share a store, some of which are killed or frozen: on one SQLite file, on a
 * Deno KV server and on Redis, under Deno, Node and Bun at the same time.
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { queueKeyOf } from "../core/identifier.ts";
import { decodeLock, decodeQueue } from "../core/record/decode.ts";
import type { LockRecord } from "../core/record/record.ts";
import { Child, now } from "./support/child.ts";
import { KvServer, missingDenokv } from "./support/kv_server.ts";
import { type OpenStore, openStore } from "./processes/stores.ts";
import { missingPostgres, PostgresServer } from "./support/postgres_server.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";
import { run } from "./support/run.ts";
import { findRuntime, folderWith } from "./support/runtimes.ts";

/** What a busy machine may add to any time that the laws promise. */
const SLACK_MS = 5000;

/** A store that processes can share. */
interface Store {
  name: string;
  kind: string;
  missing?: string;
  /** Whether who holds a lock is told of its loss by push. */
  pushes: boolean;
  start(): Promise<{ address: string; stop(): Promise<void> }>;
}

const STORES: Store[] = [
  {
    name: "KV on a file",
    kind: "kv",
    pushes: false,
    async start() {
      const folder = await Deno.makeTempDir({ prefix: "holdfast-" });
      return { address: join(folder, "kv.sqlite"), stop: () => Deno.remove(folder, { recursive: true }) };
    },
  },
  {
    name: "KV Connect",
    kind: "kv",
    pushes: true,
    missing: await missingDenokv(),
    async start() {
      const server = await KvServer.start();
      return { address: server.url, stop: () => server[Symbol.asyncDispose]() };
    },
  },
  {
    name: "Redis",
    kind: "redis",
    pushes: true,
    missing: missingRedis(),
    async start() {
      const server = await RedisServer.start();
      return { address: `redis://127.0.0.1:${server.port}`, stop: () => server.stop() };
    },
  },
  {
    name: "Postgres",
    kind: "postgres",
    pushes: true,
    missing: missingPostgres(),
    async start() {
      const server = await PostgresServer.start();
      return { address: server.url, stop: () => server.stop() };
    },
  },
];
const stores = STORES.filter(({ missing }) => missing === undefined);
for (const { name, missing } of STORES) {
  if (missing !== undefined) Deno.test.ignore(`processes: ${name} (${missing})`, () => {});
}

/** What the processes run under, in turn. */
const runtimes: { name: string; path: string }[] = [];
for (const name of ["Deno", "Node 24", "Bun"]) {
  const found = await findRuntime(name);
  if ("path" in found) runtimes.push({ name, ...found });
  else Deno.test.ignore(`processes: ${found.missing}`, () => {});
}

const folder = await folderWith("@deno/kv");
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const script = new URL("./processes/child.ts", import.meta.url);
const bundle = join(folder, "child.mjs");
await run(
  new URL("..", import.meta.url),
  Deno.execPath(),
  "bundle",
  "--quiet",
  "--external",
  "@deno/kv",
  "-o",
  bundle,
  script.href,
);

/** Some child processes on a new store, and the test's own view of it. */
class Processes implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #store: OpenStore;
  readonly pushes: boolean;
  readonly skewMs: number;
  readonly children: readonly Child[];

  private constructor(stack: AsyncDisposableStack, store: OpenStore, pushes: boolean, children: Child[]) {
    this.#stack = stack;
    this.#store = store;
    this.pushes = pushes;
    this.skewMs = store.backend.skewMs;
    this.children = children;
  }

  /** Starts `count` of them, the first under the runtime number `first`. */
  static async start({ kind, pushes, start }: Store, count: number, first: number): Promise<Processes> {
    await using stack = new AsyncDisposableStack();
    const { address, stop } = await start();
    stack.defer(stop);
    const store = await openStore(kind, address);
    stack.defer(() => store.close());
    const children = Array.from({ length: count }, (_, i) => {
      const { name, path } = runtimes[(first + i) % runtimes.length];
      const args = [kind, address];
      return stack.use(
        name === "Deno"
          ? new Child(script, { flags: ["-A"], args })
          : new Child(pathToFileURL(bundle), { nodeIn: folder, runtime: path, args }),
      );
    });
    await Promise.all(children.map((child) => child.next("started")));
    return new Processes(stack.move(), store, pushes, children);
  }

  /** What the store knows of the lock; `null` if nothing. */
  async record(): Promise<LockRecord | null> {
    const [{ value }] = await this.#store.backend.read(["shared"]);
    return value === null ? null : decodeLock("shared", value);
  }

  async read(...names: string[]): Promise<(string | null)[]> {
    return await this.#store.read(names);
  }

  /** Until this many processes are queued. */
  async queued(count: number): Promise<void> {
    const deadline = now() + 30_000;
    const key = queueKeyOf("shared");
    for (;;) {
      const [{ value }] = await this.#store.backend.read([key]);
      const { id, entries } = decodeQueue(key, value ?? '{"v":1,"id":"none","entries":[]}');
      if (entries.length === count && (await this.record())?.queue === id) return;
      assert(now() < deadline, `there never were ${count} queued`);
      await delay(5);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** Plays on all stores at the same time. */
function test(title: string, count: number, play: (processes: Processes) => Promise<void>, first = 0): void {
  // The clients of the test's own keep connections for a while after they are closed.
  Deno.test({ name: `processes: ${title}`, sanitizeOps: false, sanitizeResources: false }, async () => {
    const outcomes = await Promise.allSettled(stores.map(async (store) => {
      await using processes = await Processes.start(store, count, first);
      await play(processes);
    }));
    const failures = outcomes.flatMap((outcome, i) =>
      outcome.status === "rejected" ? [new Error(`on ${stores[i].name}`, { cause: outcome.reason })] : []
    );
    if (failures.length > 0) {
      throw new AggregateError(
        failures,
        failures.map(({ message }) => message).join(", "),
      );
    }
  });
}

test("four of them: every increment counts, no two of them overlap", 4, async (processes) => {
  const times = 25;
  const answers = await Promise.all(
    processes.children.map((child, i) =>
      child.ask({ do: "increment", name: `by ${i}`, times }, "incremented")
    ),
  );
  const spans = answers.flatMap(({ spans }) => spans as [number, number][]).sort(([a], [b]) => a - b);
  assertEquals(spans.length, 4 * times);
  assertEquals(spans.filter(([from], i) => i > 0 && from < spans[i - 1][1]), []);
  assertEquals(await processes.read("bare", "proven"), ["100", "100"]);
  assertEquals(await processes.record(), null);
});

test("four of them, one killed, one frozen: the guarded counter is exact", 4, async (processes) => {
  const [one, killed, frozen, other] = processes.children;
  const options = { leaseMs: 600 };
  const times = 20;
  const increment = (child: Child, name: string, times: number | null) =>
    child.tell({ do: "increment", name, times, options });
  await frozen.ask({ do: "acquire", options: { ...options, renew: false } }, "acquired");
  // Not in the middle of a commit: a process that is stopped there keeps SQLite from everybody.
  await frozen.ask({ do: "commit", value: "stale", pause: true }, "ready");
  frozen.signal("SIGSTOP");
  increment(one, "one", times);
  increment(killed, "killed", null);
  increment(other, "other", times);
  for (let i = 0; i < 3; i++) await killed.next("progressed");
  killed.signal("SIGKILL");
  await one.next("incremented");
  await other.next("incremented");
  frozen.signal("SIGCONT");
  const { reason, heldWhenSent } = await frozen.ask({ do: "go" }, "refused");
  assertEquals({ reason, heldWhenSent }, { reason: "expired", heldWhenSent: false });
  increment(frozen, "frozen", times);
  await frozen.next("incremented");
  assertEquals(await processes.read("value"), [null]);
  const [proven, ...counts] = (await processes.read("proven", "one", "other", "frozen", "killed")).map(
    Number,
  );
  assertEquals(counts.reduce((sum, count) => sum + count), proven);
  // What was acknowledged is there, and nothing else; the killed one may have heard no answer to its last.
  assertEquals(counts.slice(0, 3), [times, times, times]);
  assert(counts[3] >= 3);
});

test("a killed holder: a waiter follows when the lease has lapsed", 2, async (processes) => {
  const [victim, waiter] = processes.children;
  const leaseMs = 1500;
  const first = await victim.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  waiter.tell({ do: "acquire" });
  await processes.queued(1);
  victim.signal("SIGKILL");
  const killed = now();
  const second = await waiter.next("acquired");
  assert(second.fencingToken > first.fencingToken);
  assert(second.at >= first.asked + leaseMs, "granted before the lease was over");
  assert(second.at <= killed + leaseMs + processes.skewMs + SLACK_MS, `only ${second.at - killed} ms later`);
  assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});

for (const [first, { name }] of runtimes.entries()) {
  const title = `a holder frozen under ${name} learns on waking that it has lost, and writes nothing`;
  test(title, 2, async (processes) => {
    const [frozen, successor] = processes.children;
    const leaseMs = 1500;
    // Without renewals it is not stopped in the middle of a commit, which would keep SQLite from everybody.
    const granted = await frozen.ask({ do: "acquire", options: { leaseMs, renew: false } }, "acquired");
    frozen.tell({ do: "tick", gapMs: leaseMs });
    successor.tell({ do: "acquire" });
    await processes.queued(1);
    frozen.signal("SIGSTOP");
    const stopped = now();
    const next = await successor.next("acquired");
    assert(next.fencingToken > granted.fencingToken);

    // It knows by the gap that it was frozen. Where this test was late to stop it, its lease has ended earlier.
    await delay(Math.max(0, stopped + leaseMs - now()));
    frozen.signal("SIGCONT");
    const { held, aborted, reason } = await frozen.next("woke");
    assertEquals({ held, aborted, reason }, { held: false, aborted: true, reason: "expired" });
    assertEquals((await frozen.ask({ do: "commit", value: "stale" }, "refused")).reason, "expired");
    assertEquals((await frozen.ask({ do: "release" }, "released")).ours, false);

    assertEquals(await processes.read("value"), [null]);
    assertEquals((await successor.ask({ do: "look" }, "looked")).held, true);
    await successor.ask({ do: "commit", value: "fresh" }, "committed");
    assertEquals(await processes.read("value"), ["fresh"]);
    assertEquals((await successor.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await processes.record(), null);
  }, first);
}

test(
  "a killed waiter that was first in the queue delays the next one by its grace only",
  3,
  async (processes) => {
    const [holder, head, next] = processes.children;
    await holder.ask({ do: "acquire" }, "acquired");
    head.tell({ do: "acquire" });
    await processes.queued(1);
    next.tell({ do: "acquire" });
    await processes.queued(2);
    head.signal("SIGKILL");
    const released = await holder.ask({ do: "release" }, "released");
    const { at } = await next.next("acquired");
    assert(at <= released.at + SLACK_MS, `granted only ${at - released.at} ms after the release`);
    assertEquals((await next.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await processes.record(), null);
  },
);

test("the queue holds: first come, first served", 5, async (processes) => {
  const [holder, ...waiters] = processes.children;
  await holder.ask({ do: "acquire" }, "acquired");
  for (const [i, waiter] of waiters.entries()) {
    waiter.tell({ do: "acquire" });
    await processes.queued(i + 1);
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

test("an evicted holder is told 'stolen', in another process than the stealer's", 2, async (processes) => {
  const [evicted, stealer] = processes.children;
  // Where there is push, the next renewal is a week away.
  const leaseMs = processes.pushes ? 2 ** 31 - 1 : 1500;
  await evicted.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  // It watches after one second; a theft before that would be told at its renewal only.
  if (processes.pushes) await delay(2500);
  await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
  assertEquals((await evicted.next("lost")).reason, "stolen");
  assertEquals((await evicted.ask({ do: "commit", value: "stale" }, "refused")).reason, "stolen");
  assertEquals((await evicted.ask({ do: "release" }, "released")).ours, false);
  assertEquals((await stealer.ask({ do: "look" }, "looked")).held, true);
  assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
}, 1);

test(
  "the store refuses the write of an evicted holder that was under way before it knew",
  2,
  async (processes) => {
    const [evicted, stealer] = processes.children;
    await evicted.ask({ do: "acquire" }, "acquired");
    // Proven to be held, and ready to be sent: nothing but the store can stop it now.
    await evicted.ask({ do: "commit", value: "stale", pause: true }, "ready");
    await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
    await stealer.ask({ do: "commit", value: "fresh" }, "committed");
    const { heldWhenSent, reason } = await evicted.ask({ do: "go" }, "refused");
    assertEquals(reason, "stolen");
    // Whoever is told by push may have heard of it by now.
    if (!processes.pushes) assertEquals(heldWhenSent, true);
    assertEquals(await processes.read("value"), ["fresh"]);
    assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
  },
);

test(
  "an evicted holder that releases before it knew takes nothing from its successor",
  2,
  async (processes) => {
    const [evicted, stealer] = processes.children;
    await evicted.ask({ do: "acquire" }, "acquired");
    await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
    assertEquals((await evicted.ask({ do: "release" }, "released")).ours, false);
    assertEquals((await processes.record())?.holders.length, 1);
    await stealer.ask({ do: "commit", value: "fresh" }, "committed");
    assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
  },
  2,
);

test("a frozen holder blocks a newcomer no longer than its lease", 2, async (processes) => {
  const [frozen, newcomer] = processes.children;
  const leaseMs = 2000;
  const { asked } = await frozen.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  frozen.signal("SIGSTOP");
  const stopped = now();
  const { at } = await newcomer.ask({ do: "acquire" }, "acquired");
  assert(at >= asked + leaseMs, `granted ${asked + leaseMs - at} ms before the lease was over`);
  assert(
    at <= stopped + leaseMs + processes.skewMs + SLACK_MS,
    `granted only ${at - stopped} ms after the stop`,
  );
  assertEquals((await newcomer.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
}, 1);
