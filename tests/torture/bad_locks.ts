/**
 * Locks as they are found in the wild, each with one well-known fault. They run through the same machinery as Holdfast, on
 * Redis. A checker that lets one of them pass is worth nothing.
 */

import type { Redis } from "ioredis6";
import type { LockOptions } from "../../mod.ts";
import type { Acquire, TestedHold } from "./tested_lock.ts";

/** What is wrong with each, and how it shows. */
export const FAULTS = {
  "unconditional release": "djangae: a release deletes the record, of whichever holder it is by then",
  "compare then delete": "it reads whose lock it is, and deletes it a moment later",
  "no fence": "its fencing tokens are random, and nothing refuses a stale write",
  "client clock": "when a lease ends is written and judged by the clocks of clients",
  "redlock expiry": "a timer ends the hold, and a frozen process has no timers",
} as const;

/** The name of a bad lock. */
export type BadLock = keyof typeof FAULTS;

export const BAD_LOCKS = Object.keys(FAULTS) as BadLock[];

/** How often one that waits looks again. */
const POLL_MS = 20;

/** How long one takes from the look at the lock to its deletion: a slow network. */
const GAP_MS = 50;
/** How often it takes longer than its lease for it: a pause of the collector. */
const PAUSES = 0.2;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Deletes what is there, if it is this. */
const DELETE_IF =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";
/** Writes, if the lock is still this one's. */
const SET_IF = `if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('set', ARGV[i], ARGV[i + 1]) end
return 1`;

/** One try, in a loop until `waitForMs` is over. */
async function waiting(
  options: LockOptions,
  attempt: () => Promise<TestedHold | null>,
): Promise<TestedHold | null> {
  const endMs = performance.now() + (options.waitForMs ?? 60_000);
  for (;;) {
    const held = await attempt();
    if (held !== null || performance.now() > endMs) return held;
    await sleep(POLL_MS * (1 + Math.random()));
  }
}

/** One of them, on the Redis at this address. */
export function badLock(fault: BadLock, client: Redis): Acquire {
  return (name, options) => {
    const key = `bad:${name}`;
    const leaseMs = options.leaseMs!;
    return waiting(options, async () => {
      const mine = crypto.randomUUID();
      const askedMs = performance.now();
      if (fault === "client clock") {
        const there = await client.get(key);
        if (there !== null && Number(there.split(" ")[1]) > Date.now()) return null;
        const value = `${mine} ${Date.now() + leaseMs}`;
        // A compare-and-set, so that its only fault is the clock.
        const swapped = await client.eval(
          "if (redis.call('get', KEYS[1]) or '') ~= ARGV[1] then return 0 end redis.call('set', KEYS[1], ARGV[2]) return 1",
          1,
          key,
          there ?? "",
          value,
        );
        if (swapped !== 1) return null;
        return await hold({ client, key, mine: value, fault, leaseMs, untilMs: askedMs + leaseMs });
      }
      if (await client.set(key, mine, "PX", leaseMs, "NX") === null) return null;
      return await hold({ client, key, mine, fault, leaseMs, untilMs: askedMs + leaseMs });
    });
  };
}

async function hold(
  { client, key, mine, fault, leaseMs, untilMs }: {
    readonly client: Redis;
    readonly key: string;
    readonly mine: string;
    readonly fault: BadLock;
    readonly leaseMs: number;
    /** When the lease ends, on the monotonic clock. */
    readonly untilMs: number;
  },
): Promise<TestedHold> {
  const token = fault === "no fence"
    ? crypto.randomUUID()
    : String(await client.incr(`${key}:fence`)).padStart(12, "0");
  let isOver = false;
  setTimeout(() => isOver = true, Math.max(0, untilMs - performance.now()));
  return {
    token,
    get held() {
      return fault === "redlock expiry" ? !isOver : performance.now() < untilMs;
    },
    async release() {
      if (fault === "unconditional release") return await client.del(key) === 1;
      if (fault === "compare then delete") {
        if (await client.get(key) !== mine) return false;
        await sleep(Math.random() < PAUSES ? 1.2 * leaseMs : GAP_MS);
        return await client.del(key) === 1;
      }
      return await client.eval(DELETE_IF, 1, key, mine) === 1;
    },
    async commit(values) {
      if (fault !== "no fence") {
        return await client.eval(SET_IF, 1, key, mine, ...Object.entries(values).flat()) === 1;
      }
      await client.mset(values);
      return true;
    },
  };
}
