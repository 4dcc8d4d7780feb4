/** One process of `processes_test.ts`: does what it is told. Its argument is the database file. */

import { commitIfHeld, type KvAtomic, kvBackend } from "../backends/kv.ts";
import { Lock, LockLostError, type LockOptions } from "../mod.ts";
import { now, say, told } from "./child.ts";

type Command =
  /** Acquires the lock and keeps it. */
  | { do: "acquire"; options?: LockOptions }
  /** Acquires, increments two counters, releases; `times` over. */
  | { do: "increment"; times: number }
  /** Ticks until a tick comes more than `gapMs` late, and looks at the lock in that very tick. */
  | { do: "tick"; gapMs: number }
  /** Commits a value under the lock. With `pause`, stops when the commit is ready to be sent, until `go`. */
  | { do: "commit"; value: string; pause?: boolean }
  | { do: "go" }
  | { do: "look" }
  | { do: "release" };

const kv = await Deno.openKv(Deno.args[0]);
const backend = kvBackend(kv);
let held: Lock;
let go = () => {};

async function acquire(options: LockOptions = {}): Promise<Lock> {
  // Nothing here bails, so there is a lock.
  return (await Lock.acquire("shared", { ...options, backend }))!;
}

async function increment(times: number): Promise<void> {
  const spans: [from: number, to: number][] = [];
  for (let i = 0; i < times; i++) {
    const held = await acquire();
    const from = now();
    const bare = (await kv.get<number>(["bare"])).value ?? 0;
    const proven = (await kv.get<number>(["proven"])).value ?? 0;
    await kv.set(["bare"], bare + 1);
    await commitIfHeld(held, (atomic) => atomic.set(["proven"], proven + 1));
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

async function commit(value: string, pause = false): Promise<void> {
  let heldWhenSent: boolean | undefined;
  const build = async (atomic: KvAtomic) => {
    atomic.set(["value"], value);
    if (!pause) return;
    const gone = new Promise<void>((resolve) => go = resolve);
    say("ready");
    await gone;
    heldWhenSent = held.held;
  };
  try {
    await commitIfHeld(held, build);
    say("committed");
  } catch (error) {
    if (!(error instanceof LockLostError)) throw error;
    say("refused", { reason: error.reason, heldWhenSent });
  }
}

async function obey(command: Command): Promise<void> {
  switch (command.do) {
    case "acquire": {
      const asked = now();
      held = await acquire(command.options);
      const { signal } = held;
      signal.addEventListener("abort", () => say("lost", { reason: signal.reason.reason }));
      return say("acquired", { asked, fencingToken: held.fencingToken });
    }
    case "increment":
      return await increment(command.times);
    case "tick":
      return await tick(command.gapMs);
    case "commit":
      return await commit(command.value, command.pause);
    case "go":
      return go();
    case "look":
      return say("looked", { held: held.held });
    case "release":
      return say("released", { ours: await held.release() });
  }
}

say("started");
for await (const command of told<Command>()) {
  obey(command).catch((error) => say("failed", { error: error.stack }));
}
Deno.exit();
