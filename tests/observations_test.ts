// What a process has seen of a lock, and since when.
import { assertEquals } from "@std/assert";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import type { Clock } from "../core/clock.ts";
import { Lock } from "../core/lock.ts";
import { Observations } from "../core/observations.ts";
import { participantOf } from "../core/participant.ts";
import { snapshotOf } from "../core/record/codec.ts";

/** A holder as the tests name it: `fence#renewals`. */
function holderOf(name: string) {
  const [fence, renewals = "0"] = name.split("#");
  return {
    token: "t",
    mode: "exclusive",
    limit: 1,
    since: 0,
    leaseMs: 1000,
    expiresAt: 1000,
    renewals: Number(renewals),
    fence,
  } as const;
}

/** Observations at a time that the test says. */
function observing() {
  let now = 0;
  const clock = { monotonicMs: () => now } as Clock;
  const seen = new Observations(clock);
  const look = (atMs: number, version: string, ...holders: string[]) => {
    now = atMs;
    const value = JSON.stringify({ v: 1, holders: holders.map(holderOf), queue: "q", freedAt: 1 });
    seen.note(snapshotOf({ key: "job", version, value }, undefined));
  };
  return { seen, look };
}

Deno.test("observations: a lease that was renewed is watched anew, its holder is not", () => {
  const { seen, look } = observing();
  look(10, "1", "f");
  look(20, "1", "f");
  assertEquals([seen.leaseSinceMs(holderOf("f")), seen.holderSinceMs(holderOf("f"))], [10, 10]);
  look(30, "2", "f#1");
  assertEquals([seen.leaseSinceMs(holderOf("f#1")), seen.holderSinceMs(holderOf("f#1"))], [30, 10]);
  assertEquals(seen.leaseSinceMs(holderOf("f")), undefined);
});

Deno.test("observations: another grant of the same request is another holder", () => {
  const { seen, look } = observing();
  look(10, "1", "f");
  look(20, "2", "g");
  assertEquals(seen.holderSinceMs(holderOf("f")), undefined);
  assertEquals([seen.leaseSinceMs(holderOf("g")), seen.holderSinceMs(holderOf("g"))], [20, 20]);
});

Deno.test("observations: a lock is free since its record has been seen so", () => {
  const { seen, look } = observing();
  look(10, "1");
  look(20, "1");
  assertEquals([seen.freeSinceMs("1"), seen.freeSinceMs("2"), seen.isEmpty], [10, undefined, true]);
  look(30, "2");
  assertEquals([seen.freeSinceMs("1"), seen.freeSinceMs("2")], [undefined, 30]);
  look(40, "3", "f");
  assertEquals([seen.freeSinceMs("2"), seen.isEmpty], [undefined, false]);
});

Deno.test("participant: of many locks that nobody uses it keeps those that it has seen held", async () => {
  const store = new MemoryStore();
  const backend = { ...memoryBackend({ store }), skewMs: Infinity };
  const theirs = await Lock.acquire("theirs", { backend: memoryBackend({ store }) });
  const ours = await Lock.acquire("ours", { backend });
  assertEquals(await Lock.acquire("theirs", { backend, wait: false }), null);
  const participant = participantOf(backend);
  const [unused, seen, used] = ["unused", "theirs", "ours"].map((key) => participant.lock(key));
  assertEquals([unused, seen, used].map(({ isIdle, remembers }) => [isIdle, remembers]), [
    [true, false],
    [true, true],
    [false, false],
  ]);
  for (let i = 0; i < 2000; i++) participant.lock(`other ${i}`);
  const isKept = (key: string, lock: unknown) => participant.lock(key) === lock;
  assertEquals([isKept("unused", unused), isKept("theirs", seen), isKept("ours", used)], [false, true, true]);
  await ours?.release();
  await theirs?.release();
});
