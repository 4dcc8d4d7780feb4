// What each feature costs in questions to the store: counted here, and written so in docs/features.md.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { forceRelease, Lock, lock, type LockOptions, type LockTargets, peek, releaseAll } from "../mod.ts";
import { Probe } from "../testing/probe.ts";

/** Two processes on one store. */
function two(): { readonly a: Probe; readonly b: Probe } {
  const store = new MemoryStore();
  return { a: new Probe(memoryBackend({ store })), b: new Probe(memoryBackend({ store })) };
}

const acquire = (backend: Probe, options: LockOptions = {}, targets: LockTargets = "x") =>
  lock(targets, { ...options, backend }).acquire();

/** How many commits and reads of `probe` it takes to do this. */
async function counted(probe: Probe, fn: () => Promise<unknown>): Promise<string> {
  const { commits, reads } = probe;
  await fn();
  const counted = [[probe.commits - commits, "commit"], [probe.reads - reads, "read"]] as const;
  const some = counted.filter(([count]) => count > 0);
  if (some.length === 0) return "nothing";
  return some.map(([count, what]) => `${count} ${what}${count > 1 ? "s" : ""}`).join(", ");
}

const SHARED = { mode: "shared" } as const;
const MIXED = [{ identifier: "x", mode: "shared" }, "y", "z"] as const;

const COSTS: Readonly<Record<string, () => Promise<string>>> = {
  "acquire a free lock": async () => {
    const { a } = two();
    return await counted(a, () => acquire(a));
  },
  "release it": async () => {
    const { a } = two();
    const held = await acquire(a);
    return await counted(a, () => held.release());
  },
  "`wait: false`, and it is taken": async () => {
    const { a, b } = two();
    await acquire(b);
    return await counted(a, () => Lock.acquire("x", { backend: a, wait: false }));
  },
  "acquire it again": async () => {
    const { a } = two();
    await (await acquire(a)).release();
    return await counted(a, () => acquire(a));
  },
  "share a lock with a holder of another process": async () => {
    const { a, b } = two();
    await acquire(b, SHARED);
    return await counted(a, () => acquire(a, SHARED));
  },
  "release it, next to that holder": async () => {
    const { a, b } = two();
    await acquire(b, SHARED);
    const held = await acquire(a, SHARED);
    return await counted(a, () => held.release());
  },
  "take one of a `limit`, next to a holder of another process": async () => {
    const { a, b } = two();
    await acquire(b, { limit: 2 });
    return await counted(a, () => acquire(a, { limit: 2 }));
  },
  "`upgrade` with no other reader": async () => {
    const { a } = two();
    const held = await acquire(a, SHARED);
    return await counted(a, () => held.upgrade());
  },
  "`downgrade`": async () => {
    const { a } = two();
    const held = await acquire(a);
    return await counted(a, () => held.downgrade());
  },
  "acquire three together, one of them shared": async () => {
    const { a } = two();
    return await counted(a, () => acquire(a, {}, MIXED));
  },
  "release three together": async () => {
    const { a } = two();
    const held = await acquire(a, {}, MIXED);
    return await counted(a, () => held.release());
  },
  "release with `holdAtLeastMs`": async () => {
    const { a } = two();
    const held = await acquire(a, { holdAtLeastMs: 1000 });
    return await counted(a, () => held.release());
  },
  "`reentrant`, under the same lock": async () => {
    const { a } = two();
    const again = lock("x", { backend: a, reentrant: true });
    let cost = "";
    await again.run(async () => void (cost = await counted(a, () => again.run(() => {}))));
    return cost;
  },
  "`peek`": async () => {
    const { a } = two();
    return await counted(a, () => peek("x", { backend: a }));
  },
  "`forceRelease`": async () => {
    const { a, b } = two();
    await acquire(a);
    return await counted(b, () => forceRelease("x", { backend: b }));
  },
};

Deno.test("costs: docs/features.md says what is counted", async () => {
  const rows: string[] = [];
  for (const [what, count] of Object.entries(COSTS)) rows.push(`${what} | ${await count()}`);
  await releaseAll();
  const docs = await Deno.readTextFile(new URL("../docs/features.md", import.meta.url));
  const written = docs.split("\n").filter((line) => line.startsWith("|")).map((line) =>
    line.split("|").slice(1, 3).map((cell) => cell.trim()).join(" | ")
  );
  for (const row of rows) assertEquals(written.filter((line) => line === row), [row]);
  assertStringIncludes(docs, "## What each costs");
});

Deno.test("costs: callers of one process that want the same several locks ask one after another, in their order", async () => {
  const { a } = two();
  const order: number[] = [];
  const callers = Array.from(
    { length: 70 },
    (_, i) => lock(["x", "y"], { backend: a }).run(() => void order.push(i)),
  );
  await Promise.all(callers);
  assertEquals(order, callers.map((_, i) => i));
  // A place in the queues, the locks, their release: not one for each that is in the way of the others.
  assert(a.commits <= 3 * 70 + 1, `${a.commits} commits`);
});
