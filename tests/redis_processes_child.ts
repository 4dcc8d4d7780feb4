/** One process of `redis_processes_test.ts`: does what it is told. Its argument is the server's port. */

import { Redis } from "ioredis5";
import { commitIfHeld, redisBackend } from "../backends/redis.ts";
import { Lock, LockLostError, type LockOptions } from "../mod.ts";
import { now, say, told } from "./child.ts";

type Command =
  /** Acquires the lock and keeps it. */
  | { do: "acquire"; options?: LockOptions }
  /** Acquires, increments two counters, releases; `times` over. */
  | { do: "increment"; times: number }
  /** Ticks until a tick comes more than `gapMs` late, and looks at the lock in that very tick. */
  | { do: "tick"; gapMs: number }
  /** Commits a value under the lock. */
  | { do: "commit"; value: string }
  | { do: "release" };

const client = new Redis({ port: Number(Deno.args[0]), host: "127.0.0.1" });
const backend = redisBackend(client);
let held: Lock;

async function acquire(options: LockOptions = {}): Promise<Lock> {
  // Nothing here bails, so there is a lock.
  return (await Lock.acquire("shared", { ...options, backend }))!;
}

async function increment(times: number): Promise<void> {
  const spans: [from: number, to: number][] = [];
  for (let i = 0; i < times; i++) {
    const held = await acquire();
    const from = now();
    const [bare, proven] = await client.mget("bare", "proven");
    await client.set("bare", Number(bare) + 1);
    await commitIfHeld(held, [["SET", "proven", Number(proven) + 1]]);
    spans.push([from, now()]);
    await held.release();
  }
  say("incremented", { spans });
}

async function tick(gapMs: number): Promise<void> {
  let last: number;
  do {
    last = now();
    await new Promise((resolve) => setTimeout(resolve, 5));
  } while (now() - last < gapMs);
  // The signal first: `held` would tell it.
  const { aborted, reason } = held.signal;
  say("woke", { held: held.held, aborted, reason: reason?.reason });
}

async function commit(value: string): Promise<void> {
  try {
    await commitIfHeld(held, [["SET", "value", value]]);
    say("committed");
  } catch (error) {
    if (!(error instanceof LockLostError)) throw error;
    say("refused", { reason: error.reason });
  }
}

async function obey(command: Command): Promise<void> {
  switch (command.do) {
    case "acquire": {
      held = await acquire(command.options);
      const { signal } = held;
      signal.addEventListener("abort", () => say("lost", { reason: signal.reason.reason }));
      return say("acquired", { fencingToken: held.fencingToken });
    }
    case "increment":
      return await increment(command.times);
    case "tick":
      return await tick(command.gapMs);
    case "commit":
      return await commit(command.value);
    case "release":
      return say("released", { ours: await held.release() });
  }
}

say("started");
for await (const command of told<Command>()) {
  obey(command).catch((error) => say("failed", { error: error.stack }));
}
Deno.exit();
