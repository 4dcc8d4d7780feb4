// The simulation's own parts: what it reports is worth what they do.
import { assert, assertEquals } from "@std/assert";
import type { Change } from "../core/backend.ts";
import { queueKeyOf } from "./simulation/core.ts";
import type { Applied } from "./simulation/store.ts";
import { EXEMPTIONS } from "./simulation/exemptions.ts";
import { FAIR, SimNetwork } from "./simulation/network.ts";
import { SimProcess, type Standstill } from "./simulation/process.ts";
import { SimStore } from "./simulation/store.ts";
import { randomFrom, World } from "./simulation/world.ts";

/** A process that stands still for up to a second in the first clock read that it makes in a separate turn. */
function stalling(world: World, kind: Standstill): SimProcess {
  const stall = { share: 1, maxMs: 1000, kinds: [kind] };
  const process = new SimProcess(world, { name: "a", stall, random: randomFrom(1) });
  process.onStall = () => process.stall = undefined;
  return process;
}

Deno.test("parts: a process that stands still in a clock read sends later, and hears later what was sent meanwhile", async () => {
  const world = new World();
  const network = new SimNetwork(world, FAIR, () => 0.5);
  const a = stalling(world, "freeze");
  const b = new SimProcess(world, { name: "b" });
  const arrived: [name: string, atMs: number][] = [];
  const ask = (process: SimProcess) =>
    network.ask(process, { thereMs: 1, backMs: 1 }, () => arrived.push([process.name, world.now]), {
      heard: () => {},
      lost: () => {},
    });
  let heardMs = 0;
  world.schedule(10, () =>
    a.deliver(() => {
      const before = world.now;
      a.clock.monotonicMs();
      assert(a.now > before + 20, "it has run ahead");
      assert(!a.runs, "it may not be asked what it believes before the world has caught up");
      void ask(a);
    }));
  world.schedule(20, () => a.deliver(() => heardMs = world.now));
  world.schedule(20, () => b.deliver(() => void ask(b)));
  await world.run(10_000, () => {});
  assertEquals(arrived.map(([name]) => name), ["b", "a"]);
  assert(arrived[1][1] >= heardMs && heardMs > 20);
});

Deno.test("parts: a sleeping machine's monotonic clock and timers stand still, its wall clock goes on", async () => {
  const world = new World();
  const process = new SimProcess(world, { name: "a" });
  let firedMs = 0;
  const wall = process.clock.wallMs();
  process.clock.after(100, () => firedMs = world.now);
  world.schedule(50, () => process.hold(1000, "suspend"));
  await world.run(10_000, () => {});
  assertEquals([firedMs, process.clock.monotonicMs(), process.clock.wallMs() - wall], [1100, 1100, 1100]);
});

Deno.test("parts: what is killed while it is ahead of the world sends nothing any more", async () => {
  const world = new World();
  const a = stalling(world, "freeze");
  let acted = false;
  world.schedule(10, () =>
    a.deliver(() => {
      a.clock.wallMs();
      a.act(() => acted = true);
    }));
  world.schedule(11, () => a.kill());
  await world.run(10_000, () => {});
  assertEquals(acted, false);
});

Deno.test("parts: a store that forgets is as it was, and its versions rise all the same", async () => {
  const world = new World();
  const applied: Applied[] = [];
  const store = new SimStore(world, { rate: 1 }, (change) => applied.push(change));
  const process = new SimProcess(world, { name: "a" });
  const write = (value: string | null) => {
    const { version } = store.get("job");
    const changes = [{ key: "job", version, value }];
    return store.commit(
      {
        process,
        madeMs: 0,
        sentMs: 0,
        errorMs: 0,
        queueSeenMs: new Map(),
        changes,
        answer: "due",
        applied: 0,
      },
      undefined,
    );
  };
  const free = '{"v":1,"holders":[],"queue":"a/1","freedAt":1}';
  world.schedule(10, () => void write(free));
  world.schedule(20, () => void write(null));
  world.schedule(30, () => {
    assertEquals(store.forget(15), 1);
    assertEquals(store.get("job").value, free);
    assertEquals(write(null).ok, true);
  });
  await world.run(1000, () => {});
  assertEquals(applied.map(({ version }) => version).toSorted(), applied.map(({ version }) => version));
});

Deno.test("parts: a commit changes the lock's record and its queue's or neither, and is announced as one", () => {
  const world = new World();
  const applied: Applied[] = [];
  const store = new SimStore(world, { rate: 1 }, (change) => applied.push(change));
  const process = new SimProcess(world, { name: "a" });
  const commit = (...changes: Change[]) =>
    store.commit(
      {
        process,
        madeMs: 0,
        sentMs: 0,
        errorMs: 0,
        queueSeenMs: new Map(),
        changes,
        answer: "due",
        applied: 0,
      },
      undefined,
    );
  const entry = '{"participant":"a","token":"a/2","mode":"exclusive","limit":1,"since":1}';
  const lock = { key: "job", version: null, value: '{"v":1,"holders":[],"queue":"a/1","freedAt":1}' };
  const queue = { key: queueKeyOf("job"), version: null, value: `{"v":1,"id":"a/1","entries":[${entry}]}` };
  assertEquals(commit(lock, queue).ok, true);
  assertEquals([store.get(lock.key).version], [store.get(queue.key).version]);
  assertEquals(commit(lock, { ...queue, version: store.get(queue.key).version }).ok, false);
  assertEquals(commit({ ...lock, version: store.get(lock.key).version, value: null }).ok, true);
  assertEquals(applied.map(({ key, wrote }) => [key, wrote]), [
    ["job", { lock: true, queue: true }],
    ["job", { lock: true, queue: false }],
  ]);
  assertEquals(applied[0].after.entries.map(({ participant }) => participant), ["a"]);
  // No record names the queue any more: what it says is void.
  assertEquals([applied[1].after.entries, applied[1].after.isVoid], [[], true]);
});

Deno.test("parts: every exemption says why", () => {
  for (const { rules, why } of EXEMPTIONS) assert(rules.length > 0 && why.length > 20);
});
