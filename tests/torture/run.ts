/** One torture run, from an empty folder to a folder full of evidence; and what that comes to. */

import { join } from "node:path";
import { cleanup } from "../../cron.ts";
import { lock, type LockBackend, LockBackendError, locks, peek } from "../../mod.ts";
import { openStore } from "../processes/stores.ts";
import { now } from "../support/child.ts";
import type { BadLock } from "./bad_locks.ts";
import { Crew } from "./crew.ts";
import { type FaultLine, type History, historyOf, type Line as LogLine } from "./history.ts";
import { type StoreKind, STORES, type TorturedStore } from "./stores.ts";
import { type Fault, FAULTS, STANDSTILL, Storm } from "./storm.ts";
import { judge, type Remains, type Verdict } from "./verdict.ts";
import { compileClock, missingCompiler } from "./wall_clock.ts";

/** The lock that is taken from its holders. */
const STOLEN = "stolen";
/** What shows that a lock is bad. */
const BAD_FOR_LOCKS: readonly Fault[] = ["process frozen", "clock set"];
/** How many processes there are. */
const PROCESSES = 5;
const LOAD_EVERY_MS = 10_000;
/** For how long a store may be silent in the end. */
const VISIT_MS = 120_000;
/** How late a timer of one second is that shows that this process stood still. */
const STANDSTILL_MS = 2500;

export interface RunOptions {
  readonly store: string;
  readonly ms: number;
  readonly leaseMs: number;
  /** Where the evidence is kept. */
  readonly folder: string;
  readonly faults?: readonly Fault[];
  /** The locks that are known to be bad that are played, instead of all lanes. */
  readonly bad?: readonly BadLock[];
  readonly processes?: number;
  /** Ends it before its time: what has happened until then is judged. */
  readonly signal?: AbortSignal;
  /** Called with how it goes, every second. */
  readonly onProgress?: (progress: Progress) => void;
}

/** How a run goes. */
export interface Progress {
  readonly atMs: number;
  readonly ofMs: number;
  readonly faults: number;
}

/** What is known of how a run was made, in addition to its logs. */
export interface Setting {
  readonly store: string;
  readonly title: string;
  readonly leaseMs: number;
  readonly pushes: boolean;
  readonly from: number;
  readonly to: number;
  /** What could not be played here, and why. */
  readonly spared: Readonly<Record<string, string>>;
  readonly bad: boolean;
  /** How many processes wanted a core of this machine, every ten seconds, and how many cores there are. */
  readonly loads?: readonly number[];
  readonly cores?: number;
}

/** A run that has been judged. */
export interface Judged {
  readonly setting: Setting;
  readonly history: History;
  readonly faults: readonly FaultLine[];
  readonly verdict: Verdict;
}

/** Plays a run, and leaves its evidence in the folder. */
export async function torture(options: RunOptions): Promise<void> {
  const { folder, leaseMs, bad = [], processes = PROCESSES } = options;
  const kind = STORES[options.store];
  const isBad = bad.length > 0;
  for (const name of ["logs", "marks", "clocks", "errors"]) {
    await Deno.mkdir(join(folder, name), { recursive: true });
  }
  await Deno.writeTextFile(join(folder, "faults.jsonl"), "");
  await using stack = new AsyncDisposableStack();
  const store = await kind.start(folder);
  stack.defer(() => store.stop());
  const noClock = missingCompiler();
  const clockLibrary = noClock === undefined ? await compileClock(folder) : undefined;
  const spared = { ...sparedOf(kind, store), ...noClock !== undefined && { "clock set": noClock } };
  const crew = stack.use(
    await Crew.start({ store, folder, count: processes, leaseMs, bad, clockLibrary }),
  );
  for (const missing of crew.missing) Object.assign(spared, { [missing]: "this runtime is not played" });
  // Opened again each time: where its disk is full, an open Deno KV may end its process (it sweeps expired keys).
  const waitersOf = async (name: string) => {
    const sight = await openStore(store.kind, store.address(store.port ?? 0), finite(store));
    try {
      return (await peek(name, { backend: sight.backend })).waiters.map(({ label = "?" }) => label);
    } catch (error) {
      return [`not known: ${(error as Error).message}`];
    } finally {
      await sight.close();
    }
  };
  const faults = options.faults ?? (isBad ? BAD_FOR_LOCKS : FAULTS);
  const isWanted = (fault: Fault) => faults.includes(fault);
  const storm = new Storm({
    crew,
    store,
    folder,
    leaseMs,
    aims: isBad ? ["holdfast", ...bad] : ["mutex"],
    isCruel: isBad,
    signal: options.signal ?? new AbortController().signal,
    waitersOf,
    allows: (fault) => isWanted(fault) && !(fault in spared),
  });
  const from = now();
  const loads: number[] = [];
  let lastMs = from;
  const progress = setInterval(() => {
    if (now() - lastMs > STANDSTILL_MS) {
      storm.note({ fault: STANDSTILL, whom: "store", from: lastMs, to: now() });
    }
    lastMs = now();
    const faults = [...storm.counts.values()].reduce((sum, count) => sum + count, 0);
    options.onProgress?.({ atMs: now() - from, ofMs: options.ms, faults });
    if ((now() - from) / LOAD_EVERY_MS > loads.length) loads.push(Deno.loadavg()[0]);
  }, 1000);
  stack.defer(() => clearInterval(progress));
  await storm.rage(from + options.ms);
  const to = now();
  const late = await crew.end();
  const connections = crew.seats.reduce((sum, { line }) => sum + (line?.open ?? 0), 0);
  const remains = await remainsOf(store, { folder, late, connections });
  await write(folder, "remains.json", remains);
  const { title, pushes } = kind;
  const cores = navigator.hardwareConcurrency;
  const setting: Setting = {
    store: options.store,
    title,
    leaseMs,
    pushes,
    from,
    to,
    spared,
    bad: isBad,
    loads,
    cores,
  };
  await write(folder, "setting.json", setting);
}

/** What this store is spared, and why. */
function sparedOf({ spared }: StoreKind, store: TorturedStore): Record<string, string> {
  const found: Record<string, string> = { ...spared };
  if (store.port === undefined) {
    for (const fault of FAULTS) if (fault.startsWith("line")) found[fault] = "no network leads to a file";
    found["store frozen"] = "a file has no process";
    if (store.fillDisk === undefined) found["disk full"] = "no small disk could be mounted here";
  }
  return found;
}

/** What there is when all have ended: seen by a process that comes afterwards, without a line between. */
async function remainsOf(
  store: TorturedStore,
  { folder, late, connections }: {
    readonly folder: string;
    readonly late: readonly string[];
    readonly connections: number;
  },
): Promise<Remains> {
  const { backend, read, close } = await openStore(store.kind, store.address(store.port ?? 0), finite(store));
  const { holds, added } = historyOf(await logsIn(folder));
  const names = new Set(holds.map(({ lock }) => lock));
  // It gets every lock, whatever those have left that were killed.
  for (const name of names) await visit(name, backend);
  await cleanup({ backend });
  const records: string[] = [];
  for await (const { identifier, holders, waiters } of locks({ backend })) {
    if (holders.length > 0 || waiters.length > 0) records.push(identifier);
  }
  const sets: Record<string, string[]> = {};
  for (const set of new Set(added.map(({ set }) => set))) {
    const [value] = await read([set]);
    sets[set] = value?.split(" ") ?? [];
  }
  await close();
  return { sets, records, connections, late };
}

/** Takes a lock once, and gives it back. A server that has been under fire may be silent for a while in the end. */
async function visit(name: string, backend: LockBackend): Promise<void> {
  for (const started = now();;) {
    try {
      return await lock(name, { backend, leaseMs: 2000 }).run(() => {});
    } catch (error) {
      if (!(error instanceof LockBackendError) || now() - started > VISIT_MS) throw error;
    }
  }
}

function finite({ skewMs }: TorturedStore): number {
  return Number.isFinite(skewMs) ? skewMs : 0;
}

async function write(folder: string, name: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(join(folder, name), JSON.stringify(value));
}

async function read<Value>(folder: string, name: string): Promise<Value> {
  return JSON.parse(await Deno.readTextFile(join(folder, name)));
}

/** The whole lines of a file. One that was being written when its process was killed is no line. */
function linesOf<Value>(text: string): Value[] {
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

async function logsIn(folder: string): Promise<Map<string, LogLine[]>> {
  const logs = new Map<string, LogLine[]>();
  for await (const { name } of Deno.readDir(join(folder, "logs"))) {
    const text = await Deno.readTextFile(join(folder, "logs", name));
    logs.set(name.replace(".jsonl", ""), linesOf(text));
  }
  return logs;
}

/** Judges a run by the evidence in its folder, and by nothing else. */
export async function judgeFolder(folder: string): Promise<Judged> {
  const history = historyOf(await logsIn(folder));
  const faults = linesOf<FaultLine>(await Deno.readTextFile(join(folder, "faults.jsonl")));
  const remains = await read<Remains>(folder, "remains.json");
  const setting = await read<Setting>(folder, "setting.json");
  return { setting, history, faults, verdict: judge(history, { faults, remains, stolen: STOLEN }) };
}
