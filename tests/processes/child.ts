/** One process of `processes_test.ts`, under any runtime: does what it is asked for. Arguments: the store and its address. */

import process from "node:process";
import { Lock, LockLostError, type LockOptions } from "../../mod.ts";
import { commands, now, say } from "../support/child.ts";
import { openStore } from "./stores.ts";

type Command =
  /** Acquires the lock and keeps it. */
  | { do: "acquire"; options?: LockOptions }
  /** Acquires, increments the counters, releases; `times` over, or for ever. Says so every time. */
  | { do: "increment"; name: string; times: number | null; options?: LockOptions }
  /** Ticks until a tick comes more than `gapMs` late, and looks at the lock in that very tick. */
  | { do: "tick"; gapMs: number }
  /** Commits a value under the lock. With `pause`, stops when the commit is ready to be sent, until `go`. */
  | { do: "commit"; value: string; pause?: boolean }
  | { do: "go" }
  | { do: "read"; names: string[] }
  | { do: "look" }
  | { do: "release" }
  /** So many callers at once, each so many times: take some of these locks, in any order, keep them for a moment. */
  | {
    do: "contend";
    names: string[];
    take: number;
    callers: number;
    times: number;
    holdMs?: number;
    options?: LockOptions;
  }
  /** Share a lock again and again, one every `everyMs`, each for `forMs`, until asked to stop. */
  | { do: "share"; everyMs: number; forMs: number }
  | { do: "stop" };

/** When a caller asked for locks, and held them. */
export interface Span {
  readonly names: readonly string[];
  readonly asked: number;
  readonly from: number;
  readonly to: number;
  readonly token: string;
}

const [kind, address] = process.argv.slice(2);
const { backend, read, write, commit } = await openStore(kind, address);
let held: Lock;
let go = () => {};
let stop = () => {};

async function acquire(options: LockOptions = {}): Promise<Lock> {
  // Nothing here bails, so there is a lock.
  return (await Lock.acquire("shared", { ...options, backend }))!;
}

/** Whether it was committed, or refused because the lock was lost. */
async function committed(held: Lock, values: Record<string, string>, ready?: () => Promise<void>) {
  try {
    await commit(held, values, ready);
    return true;
  } catch (error) {
    if (error instanceof LockLostError) return error;
    throw error;
  }
}

async function increment(name: string, times: number | null, options?: LockOptions): Promise<void> {
  const spans: [from: number, to: number][] = [];
  for (let done = 0; times === null || done < times;) {
    const held = await acquire(options);
    const from = now();
    const [bare, proven, own] = await read(["bare", "proven", name]);
    await write("bare", `${Number(bare) + 1}`);
    const outcome = await committed(held, { proven: `${Number(proven) + 1}`, [name]: `${Number(own) + 1}` });
    spans.push([from, now()]);
    await held.release();
    if (outcome !== true) say("evicted", { reason: outcome.reason });
    else say("progressed", { done: ++done });
  }
  say("incremented", { spans });
}

/** A random choice of `count` of these, in random order. */
function some(names: readonly string[], count: number): string[] {
  const rest = [...names];
  const pick = () => rest.splice(Math.floor(Math.random() * rest.length), 1)[0];
  return Array.from({ length: count }, pick);
}

async function contend(
  { names, take, callers, times, holdMs = 10, options }: Extract<Command, { do: "contend" }>,
): Promise<void> {
  const spans: Span[] = [];
  await Promise.all(Array.from({ length: callers }, async () => {
    for (let i = 0; i < times; i++) {
      const taken = some(names, take);
      const asked = now();
      const held = await Lock.acquire(taken.length === 1 ? taken[0] : taken, { ...options, backend });
      const from = now();
      await new Promise((resolve) => setTimeout(resolve, holdMs));
      spans.push({ names: taken, asked, from, to: now(), token: held!.fencingToken });
      await held!.release();
    }
  }));
  say("contended", { spans });
}

async function share({ everyMs, forMs }: Extract<Command, { do: "share" }>): Promise<void> {
  const spans: Span[] = [];
  const reading = new Set<Promise<void>>();
  const read = async () => {
    const asked = now();
    const held = await Lock.acquire("shared", { mode: "shared", backend });
    const from = now();
    await new Promise((resolve) => setTimeout(resolve, forMs));
    spans.push({ names: ["shared"], asked, from, to: now(), token: held!.fencingToken });
    await held!.release();
  };
  const timer = setInterval(() => {
    const done = read().finally(() => reading.delete(done));
    reading.add(done);
    done.catch((error) => say("failed", { error: error.stack }));
  }, everyMs);
  await new Promise<void>((resolve) => stop = resolve);
  clearInterval(timer);
  await Promise.all(reading);
  say("shared", { spans });
}

async function tick(gapMs: number): Promise<void> {
  let last: number;
  do {
    last = now();
    await new Promise((resolve) => setTimeout(resolve, 5));
  } while (now() - last < gapMs);
  // The signal first: `held` would abort it.
  const { aborted, reason } = held.signal;
  say("woke", { held: held.held, aborted, reason: reason?.reason });
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
      return await increment(command.name, command.times, command.options);
    case "tick":
      return await tick(command.gapMs);
    case "commit": {
      let heldWhenSent: boolean | undefined;
      const outcome = await committed(held, { value: command.value }, async () => {
        if (!command.pause) return;
        const gone = new Promise<void>((resolve) => go = resolve);
        say("ready");
        await gone;
        heldWhenSent = held.held;
      });
      return outcome === true ? say("committed") : say("refused", { reason: outcome.reason, heldWhenSent });
    }
    case "go":
      return go();
    case "read":
      return say("values", { values: await read(command.names) });
    case "contend":
      return await contend(command);
    case "share":
      return await share(command);
    case "stop":
      return stop();
    case "look":
      return say("looked", { held: held.held });
    case "release":
      return say("released", { ours: await held.release() });
  }
}

say("started");
for await (const command of commands<Command>()) {
  obey(command).catch((error) => say("failed", { error: error.stack }));
}
process.exit();
