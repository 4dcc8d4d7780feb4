/** What the logs and the witness of a run come to. Nothing here has seen a lock, or asks one. */

import type { FaultLine, History, Hold } from "./history.ts";
import { surely } from "./history.ts";
import { inexplicable } from "./linearize.ts";
import { lockModel, operationsOn } from "./models.ts";
import { countSets, type SetCounts } from "./sets.ts";
import { ENDED } from "./storm.ts";

/** What is left when all have ended. */
export interface Remains {
  /** The sets, as the store has them. */
  readonly sets: Readonly<Record<string, readonly string[]>>;
  /** Records of locks with a holder or a queue. */
  readonly records: readonly string[];
  /** Ends of connections that are open. */
  readonly connections: number;
  /** Processes that did not end by themselves. */
  readonly late: readonly string[];
}

/** How long something took, in milliseconds, in order. */
export type Times = readonly number[];

/** What became of one lock. */
export interface LockVerdict {
  readonly lock: string;
  readonly holds: number;
  /** What no order of its operations explains, if anything. */
  readonly finding?: string;
  /** Pairs that surely held it at the same time, as the witness has seen. */
  readonly overlaps: readonly string[];
}

export interface Verdict {
  readonly locks: readonly LockVerdict[];
  /** The sets that are added to without a guard, by lock, and those with one. */
  readonly bare: Readonly<Record<string, SetCounts>>;
  readonly guarded: Readonly<Record<string, SetCounts>>;
  readonly waits: Times;
  readonly handOffs: Times;
  /** From the death of a holder, in a calm, to the next grant; and the same where dead processes were in the queue before it. */
  readonly recoveries: Times;
  readonly delayedRecoveries: Times;
  /** The longest of the former, for people. */
  readonly slowest: string;
  readonly leaseMs: number;
  /** Processes whose clock is not that of the others: what was written down proves nothing then. */
  readonly clocks: readonly string[];
  /** Processes that have ended by themselves, and why. */
  readonly ended: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly refusals: Readonly<Record<string, number>>;
  readonly remains: Remains;
  /** By how much memory grew in the process that ran all the time, in bytes; `undefined` if it ran too briefly. */
  readonly grewBytes?: number;
}

/** Whether something happened that a lock must not do. What it is counts for the bad locks, too. */
export function sinsOf(verdict: Verdict, lock: string): string[] {
  const sins: string[] = [];
  const { finding, overlaps } = verdict.locks.find((one) => one.lock === lock) ?? { overlaps: [] };
  if (finding !== undefined) sins.push(finding);
  if (overlaps.length > 0) sins.push(`the witness saw two holders: ${overlaps[0]}`);
  const counts = verdict.guarded[lock];
  if (counts === undefined) return sins;
  const { lost, stale, twice, behind } = counts;
  if (lost.length > 0) sins.push(`${lost.length} guarded writes are lost, such as ${lost[0]}`);
  if (stale.length > 0) sins.push(`${stale.length} refused writes are there, such as ${stale[0]}`);
  if (twice.length > 0) sins.push(`${twice.length} guarded writes are there twice, such as ${twice[0]}`);
  if (behind.length > 0) {
    sins.push(`${behind.length} guarded writes came behind a higher token, such as ${behind[0]}`);
  }
  return sins;
}

/** What is left behind, that should not be; and what makes the run's evidence none. */
export function leaksOf({ clocks, ended, remains: { records, connections, late } }: Verdict): string[] {
  return [
    ...clocks.map((clock) => `the clock of ${clock}`),
    ...ended.map((what) => `a process ended by itself, ${what}`),
    ...records.map((record) => `a record is left: ${record}`),
    ...connections > 0 ? [`${connections} connections are open`] : [],
    ...late.map((name) => `${name} was kept from ending`),
  ];
}

/** The verdict on a run. Law (a) is not asked of the lock that is stolen: the holder that lost it may believe a while that it has it. */
export function judge(
  history: History,
  { faults, remains, stolen, expectsTokens = () => true }: {
    readonly faults: readonly FaultLine[];
    readonly remains: Remains;
    readonly stolen: string;
    /** Whether the fencing tokens of this lock must rise for it to pass. */
    readonly expectsTokens?: (lock: string) => boolean;
  },
): Verdict {
  const byLock = Map.groupBy(history.holds, ({ lock }) => lock);
  const byId = new Map(history.holds.map((hold) => [hold.id, hold]));
  const locks = [...byLock].map(([lock, holds]): LockVerdict => {
    const met = history.met.filter(({ id }) => byId.get(id)?.lock === lock);
    const overlaps = met.flatMap(({ id, other, kind }) => overlapOf(byId.get(id), byId.get(other), kind));
    if (lock === stolen) return { lock, holds: holds.length, overlaps: [] };
    const model = lockModel({ fenced: expectsTokens(lock), reentrant: lock === "reentrant" });
    const found = inexplicable(operationsOn(holds), model);
    const finding = found && `nothing explains that ${found.operation.does.id} ` +
        `could ${found.operation.does.kind} it at ${found.operation.to.toFixed(1)}; it was with ${
          found.states[0]
        }`;
    return { lock, holds: holds.length, finding, overlaps };
  });
  const setsOf = (guarded: boolean) => {
    const added = history.added.filter((one) => one.guarded === guarded);
    const groups = Map.groupBy(added, ({ set }) => set.split(":")[1]);
    return Object.fromEntries(
      [...groups].map(([lock, these]) => {
        const prefix = `${guarded ? "guarded" : "bare"}:${lock}:`;
        const sets = Object.entries(remains.sets).filter(([name]) => name.startsWith(prefix));
        return [lock, countSets(these, new Map(sets), history.holds)];
      }),
    );
  };
  const leaseMs = history.holds[0]?.leaseMs ?? 0;
  const alone = byLock.get("mutex") ?? byLock.get("holdfast") ?? [];
  const counts: Record<string, number> = {};
  for (const { fault } of faults) counts[fault] = (counts[fault] ?? 0) + 1;
  const recoveries = recoveriesOf(alone, faults).sort((one, other) => one.ms - other.ms);
  const prompt = recoveries.filter(({ dead }) => dead === 0);
  const spared = history.processes.find(({ name }) => name === "p0-1");
  const sizes = spared?.sizes ?? [];
  return {
    locks,
    bare: setsOf(false),
    guarded: setsOf(true),
    waits: sorted(alone.map(({ askedAt, gotAt }) => gotAt - askedAt)),
    handOffs: sorted(handOffsOf(alone)),
    recoveries: prompt.map(({ ms }) => ms),
    delayedRecoveries: recoveries.filter(({ dead }) => dead > 0).map(({ ms }) => ms),
    slowest: prompt.at(-1)?.how ?? "",
    leaseMs,
    clocks: wrongClocks(history, faults),
    ended: faults.flatMap(({ fault, whom, why = "" }) =>
      fault === ENDED && !KNOWN_END.test(why) ? [`${whom}: ${why}`] : []
    ),
    faults: counts,
    refusals: history.refusals,
    remains,
    // The first minute is for what is loaded and compiled.
    grewBytes: sizes.length > 24 ? sizes.at(-1)! - sizes[12] : undefined,
  };
}

/** Where the disk is full, Deno's own sweep of expired keys ends a process that has a Deno KV open. */
const KNOWN_END = /KV collect expired failed: database or disk is full/;

/** How long a process may live on after it was killed, as far as the one that killed it can say. */
const KILLED_MS = 50;

/** A process that has written something after its death, or before it was started, has another clock. */
function wrongClocks({ processes }: History, faults: readonly FaultLine[]): string[] {
  const byName = new Map(processes.map((process) => [process.name, process]));
  return faults.flatMap(({ fault, whom, from, next = "" }) => {
    if (fault !== "process killed") return [];
    const aheadMs = (byName.get(whom)?.to ?? -Infinity) - from;
    const behindMs = from - (byName.get(next)?.from ?? Infinity);
    return [
      ...aheadMs > KILLED_MS ? [`${whom} is ahead by ${aheadMs.toFixed(0)} ms at least`] : [],
      ...behindMs > 0 ? [`${next} is behind by ${behindMs.toFixed(0)} ms at least`] : [],
    ];
  });
}

function sorted(times: number[]): Times {
  return times.sort((one, other) => one - other);
}

/** Whether what the witness saw was two that surely held the lock at once, or one token for two. */
function overlapOf(one: Hold | undefined, other: Hold | undefined, kind: string): string[] {
  if (one === undefined || other === undefined || one === other) return [];
  if (kind === "token") return [`${one.id} and ${other.id} have the token ${one.token}`];
  const [first, second] = [surely(one), surely(other)];
  const ms = Math.min(first.to, second.to) - Math.max(first.from, second.from);
  return ms > 0 ? [`${one.id} and ${other.id} for ${ms.toFixed(1)} ms (${kind})`] : [];
}

/** From the moment it was given back to the next grant, where that had asked before, in another process. */
function handOffsOf(holds: readonly Hold[]): number[] {
  const inOrder = holds.toSorted((one, other) => one.gotAt - other.gotAt);
  return inOrder.slice(1).flatMap((hold, i) => {
    const { left, process } = inOrder[i];
    const waited = left?.ours === true && process !== hold.process && hold.askedAt < left.from;
    return waited ? [Math.max(0, hold.gotAt - left.from)] : [];
  });
}

/** How long clients may wait, when the store is back, until they try it again. */
const SETTLED_MS = 1000;

/** What came after the kill of a process that held the lock. */
interface Recovery {
  /** How long it took until the next grant. */
  readonly ms: number;
  /** How many dead processes stood in the queue before the one that got it: each has its grace. */
  readonly dead: number;
  readonly how: string;
}

/** From the kill of a process that held the lock to the next grant, where nothing else went wrong and a process waited. */
function recoveriesOf(holds: readonly Hold[], faults: readonly FaultLine[]): Recovery[] {
  const inOrder = holds.toSorted((one, other) => one.gotAt - other.gotAt);
  return faults.flatMap((kill) => {
    if (kill.fault !== "process killed") return [];
    const { from: at, whom, queue = [], alive = queue } = kill;
    const last = inOrder.findLast(({ gotAt }) => gotAt <= at);
    if (last === undefined || last.process !== whom || last.left !== undefined) return [];
    const next = inOrder.find(({ gotAt }) => gotAt > at);
    if (next === undefined) return [];
    const isCalm = faults.every((fault) =>
      fault === kill || fault.to + (fault.whom === "store" ? SETTLED_MS : 0) < at || fault.from > next.gotAt
    );
    if (!isCalm || next.askedAt >= at) return [];
    const place = queue.indexOf(next.process);
    const before = place < 0 ? queue : queue.slice(0, place);
    const dead = before.filter((name) => !alive.includes(name)).length;
    const how = `${last.id} died at ${at.toFixed(0)}, ${next.id} followed; queued were [${queue.join(", ")}]`;
    return [{ ms: next.gotAt - at, dead, how }];
  });
}

/** The value below which this share of them is. */
export function quantile(times: Times, share: number): number {
  return times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? NaN;
}
