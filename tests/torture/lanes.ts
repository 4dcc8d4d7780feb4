/** What a process of a torture run does with the locks, over and over: one lane each, all at the same time. */

import { type CommonLockOptions, lock, type LockOptions } from "../../mod.ts";
import type { OpenStore } from "../processes/stores.ts";
import { now } from "../support/child.ts";
import type { Ask } from "./history.ts";
import type { Log } from "./log.ts";
import type { Acquire, TestedHold } from "./tested_lock.ts";
import type { Witness } from "./witness.ts";

/** How long one set is added to before the next begins: a value in a store may not grow for ever. */
export const SET_MS = 10_000;

/** What the lanes of a process share. */
export interface Lanes {
  readonly name: string;
  readonly store: OpenStore;
  readonly acquire: Acquire;
  readonly log: Log;
  readonly witness: Witness;
  readonly leaseMs: number;
  /** Whether it is time to end. */
  readonly isOver: () => boolean;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const between = (least: number, most: number) => least + Math.random() * (most - least);
const chance = (share: number) => Math.random() < share;
const ALONE: Ask = { mode: "exclusive", limit: 1, permits: 1 };

let count = 0;

/** Takes a lock once, does what is to be done under it, and gives it back; all is written down. */
async function turn(
  lanes: Lanes,
  { on, ask = ALONE, options = {}, work, forgets = false }: {
    readonly on: string;
    readonly ask?: Ask;
    readonly options?: CommonLockOptions;
    readonly work: (held: TestedHold, id: string) => Promise<void>;
    /** Whether it is never given back. */
    readonly forgets?: boolean;
  },
): Promise<void> {
  const { name, log, witness, leaseMs } = lanes;
  const id = `${name}.${++count}`;
  log.write({ do: "ask", id, lock: on, owner: id, leaseMs, ...ask });
  let held: TestedHold | null;
  try {
    held = await lanes.acquire(on, { leaseMs, label: name, ...modeOf(ask), ...options } as LockOptions);
  } catch (error) {
    const { name: why, message } = error as Error;
    log.write({ do: "none", id, why, message });
    // The store is unavailable, or is asked too often.
    return await sleep(between(20, 100));
  }
  if (held === null) return log.write({ do: "none", id, why: "taken" });
  log.write({ do: "got", id, token: held.token });
  witness.claimToken(on, held.token, id);
  prove(lanes, held, id);
  try {
    await work(held, id);
  } catch (error) {
    const { name: why, message } = error as Error;
    log.write({ do: "none", id, why: `work: ${why}`, message });
  }
  prove(lanes, held, id);
  if (forgets) return;
  log.write({ do: "leave", id });
  const ours = await held.release().catch(() => null);
  log.write({ do: "left", id, ours });
}

/** Writes down that it is held, if its own process says so. */
function prove({ log }: Lanes, held: Pick<TestedHold, "held">, id: string): void {
  const from = now();
  if (held.held) log.write({ do: "holds", id, from });
}

function modeOf({ mode, limit, permits }: Ask): LockOptions {
  if (mode === "shared") return { mode };
  return limit === 1 ? {} : { limit, permits };
}

/** Reads a set, takes its time, and writes it with one more element: what loses elements if two do it at once. */
async function add(
  { name, store, log }: Lanes,
  { held, id, kind, guarded }: {
    readonly held: TestedHold;
    readonly id: string;
    readonly kind: string;
    readonly guarded: boolean;
  },
): Promise<void> {
  const set = `${kind}:${Math.floor(now() / SET_MS)}`;
  const element = `${name}.${(++count).toString(36)}`;
  const [before] = await store.read([set]);
  await sleep(between(0, 8));
  // A process that is frozen here writes when it is awake again.
  log.write({ do: "add", id, set, element, guarded });
  const value = before === null ? element : `${before} ${element}`;
  let outcome: "yes" | "no" | "unknown" = "yes";
  let message: string | undefined;
  try {
    if (guarded) outcome = await held.commit({ [set]: value }) ? "yes" : "no";
    else await store.write(set, value);
  } catch (error) {
    // The store has not said.
    [outcome, message] = ["unknown", (error as Error).message];
  }
  log.write({ do: "added", element, outcome, message });
}

/** Workloads (a), (b) and (c): a mutex, and two sets that are added to under it, without a guard and with one. */
async function mutex(lanes: Lanes, on: string): Promise<void> {
  const { store, log, witness, leaseMs } = lanes;
  while (!lanes.isOver()) {
    const how = Math.random();
    const forgets = chance(0.01);
    const controller = new AbortController();
    const options: CommonLockOptions = how < 0.08
      ? { wait: false }
      : how < 0.16
      ? { waitForMs: 200 }
      : how < 0.2
      ? { signal: controller.signal }
      : {};
    if (options.signal !== undefined) setTimeout(() => controller.abort(), between(0, 60));
    await turn(lanes, {
      on,
      options: forgets ? { ...options, renew: false } : options,
      forgets,
      async work(held, id) {
        witness.enter(on, id);
        const register = `register:${on}`;
        await store.write(register, id);
        prove(lanes, held, id);
        await add(lanes, { held, id, kind: `bare:${on}`, guarded: false });
        prove(lanes, held, id);
        await add(lanes, { held, id, kind: `guarded:${on}`, guarded: true });
        // Now and then for longer than a lease, which is renewed meanwhile.
        await sleep(chance(0.02) ? leaseMs * 1.5 : between(0, 10));
        prove(lanes, held, id);
        const [there] = await store.read([register]);
        if (there !== null && there !== id) log.write({ do: "met", id, other: there, kind: "register" });
        witness.leave(on, id);
      },
    });
    await sleep(between(5, 40));
  }
}

/** A lock of three permits. */
async function permits(lanes: Lanes): Promise<void> {
  while (!lanes.isOver()) {
    const ask: Ask = { mode: "exclusive", limit: 3, permits: chance(0.3) ? 2 : 1 };
    await turn(lanes, { on: "permits", ask, work: async () => await sleep(between(0, 40)) });
    await sleep(between(10, 60));
  }
}

/** A lock that most only read under. */
async function readers(lanes: Lanes): Promise<void> {
  while (!lanes.isOver()) {
    const ask: Ask = { ...ALONE, mode: chance(0.7) ? "shared" : "exclusive" };
    await turn(lanes, { on: "readers", ask, work: async () => await sleep(between(0, 30)) });
    await sleep(between(10, 60));
  }
}

/** A lock that is asked for again by the code that runs under it. */
async function reentrant(lanes: Lanes): Promise<void> {
  for (let round = 0; !lanes.isOver(); round++) {
    const owner = `${lanes.name}/${round}`;
    await inside(lanes, owner, async () => {
      await sleep(between(0, 10));
      await inside(lanes, owner, async () => await sleep(between(0, 10)));
    });
    await sleep(between(20, 80));
  }
}

/** Runs `work` under the lock. Whether it was given back then, `run` does not say. */
async function inside(lanes: Lanes, owner: string, work: () => Promise<void>): Promise<void> {
  const { name, log, store: { backend }, leaseMs } = lanes;
  const id = `${name}.${++count}`;
  log.write({ do: "ask", id, lock: "reentrant", owner, leaseMs, ...ALONE });
  let isIn = false;
  try {
    await lock("reentrant", { backend, leaseMs, label: name, reentrant: true }).run(async (held) => {
      isIn = true;
      log.write({ do: "got", id, token: held.fencingToken });
      prove(lanes, held, id);
      await work();
      prove(lanes, held, id);
      log.write({ do: "leave", id });
    });
    log.write({ do: "left", id, ours: null });
  } catch (error) {
    if (isIn) log.write({ do: "left", id, ours: null });
    else log.write({ do: "none", id, why: (error as Error).name, message: (error as Error).message });
    await sleep(between(20, 100));
  }
}

/** A set under a lock that is taken from its holders: one that has lost it may believe for a while that it has it. */
async function stolen(lanes: Lanes): Promise<void> {
  while (!lanes.isOver()) {
    await turn(lanes, {
      on: "stolen",
      options: { stealAfterMs: chance(0.3) ? 50 : 400 },
      async work(held, id) {
        await add(lanes, { held, id, kind: "guarded:stolen", guarded: true });
        await sleep(between(0, 100));
      },
    });
    await sleep(between(10, 60));
  }
}

/** All lanes of a process that tortures Holdfast. */
export async function playAll(lanes: Lanes): Promise<void> {
  await Promise.all([
    mutex(lanes, "mutex"),
    permits(lanes),
    readers(lanes),
    reentrant(lanes),
    stolen(lanes),
  ]);
}

/** The same lane as Holdfast's for each of several locks. */
export async function playEach(lanes: Lanes, locks: ReadonlyMap<string, Acquire>): Promise<void> {
  await Promise.all([...locks].map(([name, acquire]) => mutex({ ...lanes, acquire }, name)));
}
