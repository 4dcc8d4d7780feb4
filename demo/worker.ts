/**
 * One of the four processes of the demo: takes the lock, adds one to a counter, gives the lock back, again
 * and again. Arguments: the database file and its own name.
 */

import { commitIfHeld, type KvAtomic, kvBackend } from "../backends/kv.ts";
import { Lock, LockLostError } from "../mod.ts";
import { commands, now, say } from "../tests/support/child.ts";

/** What the conductor tells: how the next round goes wrong, or that it is time to end. */
export type Command = { do: "start" | "linger" | "stall" | "rob" | "spare" | "go" | "finish" };

export const LEASE_MS = 2000;
/** Longer than any regular hold of the demo. */
// Well under the second after which a hold looks at its own record: the evicted process must not know it yet.
export const STEAL_AFTER_MS = 600;

/** Long enough not to be renewed, and so not to find out about an eviction, while a write is on its way. */
const STALLED_LEASE_MS = 6 * STEAL_AFTER_MS;
/** A tick that comes so late was frozen. */
const FROZEN_MS = 1000;

if (import.meta.main) {
  const [file, name] = Deno.args;
  const kv = await Deno.openKv(file);
  const backend = kvBackend(kv);
  const orders = new Set<Command["do"]>();
  let start = () => {};
  let go = () => {};
  const started = new Promise<void>((resolve) => start = resolve);

  const work = async () => {
    await started;
    while (!orders.has("finish")) {
      await sleep(Math.random() * 60);
      const stalls = orders.delete("stall");
      const stealAfterMs = orders.has("rob") ? STEAL_AFTER_MS : undefined;
      const leaseMs = stalls ? STALLED_LEASE_MS : LEASE_MS;
      say("waits", { stealAfterMs, stalls });
      const held = await Lock.acquire("counter", { backend, label: name, leaseMs, stealAfterMs });
      if (held === null) continue;
      say("holds");
      await increment(held, stalls);
      await held.release();
      say("released");
    }
    say("finished");
  };

  /** Reads, works, writes: what would lose counts if two did it at once. */
  const increment = async (held: Lock, stalls: boolean) => {
    const keys = [["counter"], ["tally", name]];
    const [counter, tally] = await kv.getMany<number[]>(keys);
    await sleep(30 + Math.random() * 90);
    if (orders.has("linger")) say("lingers");
    while (orders.has("linger")) {
      const before = now();
      await sleep(20);
      if (now() - before > FROZEN_MS) {
        say("wakes", { held: held.held, aborted: held.signal.aborted });
        orders.delete("linger");
      }
    }

    let heldWhenSent = held.held;
    const add = async (atomic: KvAtomic) => {
      atomic.set(["counter"], (counter.value ?? 0) + 1);
      atomic.set(["tally", name], (tally.value ?? 0) + 1);
      if (!stalls) return;
      const gone = new Promise<void>((resolve) => go = resolve);
      say("sends");
      await gone;
      heldWhenSent = held.held;
    };
    try {
      await commitIfHeld(held, add);
      say("committed");
    } catch (error) {
      if (!(error instanceof LockLostError)) throw error;
      say("refused", { reason: error.reason, heldWhenSent });
    }
  };

  work().catch((error) => say("failed", { error: error.stack }));
  say("ready");
  for await (const command of commands<Command>()) {
    if (command.do === "start") start();
    else if (command.do === "go") go();
    else if (command.do === "spare") orders.delete("rob");
    else orders.add(command.do);
  }
  Deno.exit();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
