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
    token: `of ${fence}`,
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
  const see = (
    atMs: number,
    version: string,
    { holders, freedAt }: { holders: string[]; freedAt?: number },
  ) => {
    now = atMs;
    const value = JSON.stringify({ v: 1, holders: holders.map(holderOf), queue: "q", freedAt });
    seen.note(snapshotOf({ key: "job", version, value }, undefined));
  };
  const look = (atMs: number, version: string, ...holders: string[]) =>
    see(atMs, version, { holders, freedAt: holders.length === 0 ? atMs : undefined });
  return { seen, look, see };
}

Deno.test("observations: a lease that was renewed is watched again, its holder is not", () => {
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

Deno.test("observations: a lock has been seen to become free if it was seen before as something else", () => {
  const { seen, look } = observing();
  look(10, "1");
  look(20, "1");
  assertEquals([seen.sawFreed("1"), seen.sawFreed("2")], [false, false]);
  // It has been held meanwhile.
  look(30, "2");
  assertEquals([seen.sawFreed("1"), seen.sawFreed("2")], [false, true]);
  look(40, "3", "f");
  assertEquals(seen.sawFreed("2"), false);
  look(50, "4");
  assertEquals([seen.sawFreed("4"), seen.freeSinceMs("4")], [true, 50]);
});

Deno.test("observations: room next to a holder has been there since it was seen, however often that is renewed", () => {
  const { seen, see } = observing();
  see(10, "1", { holders: ["f", "g"] });
  see(20, "2", { holders: ["f"], freedAt: 15 });
  see(30, "3", { holders: ["f#1"], freedAt: 15 });
  assertEquals([seen.freeSinceMs("2"), seen.freeSinceMs("3"), seen.sawFreed("3")], [undefined, 20, true]);
  see(40, "4", { holders: ["f#1"], freedAt: 35 });
  assertEquals(seen.freeSinceMs("4"), 40);
});

Deno.test("observations: a notice has been seen since it came, and is remembered while it is there", () => {
  let now = 0;
  const seen = new Observations({ monotonicMs: () => now } as Clock);
  const notice = (token: string) => ({ token, reason: "stolen", leaseMs: 1000, until: null }) as const;
  const look = (atMs: number, ...tokens: string[]) => {
    now = atMs;
    const value = JSON.stringify({ v: 1, holders: [], notices: tokens.map(notice) });
    seen.note(snapshotOf({ key: "job", version: `${atMs}`, value }, undefined));
    return ["a", "b"].map((token) => seen.noticeSinceMs(notice(token)));
  };
  assertEquals(look(10, "a"), [10, undefined]);
  assertEquals(seen.isEmpty, false);
  assertEquals(look(20, "a", "b"), [10, 20]);
  assertEquals(look(30, "b"), [undefined, 20]);
  seen.note(snapshotOf({ key: "job", version: null, value: null }, undefined));
  assertEquals(seen.isEmpty, true);
});

Deno.test("participant: of many locks that are not used it keeps those that it has seen held", async () => {
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
