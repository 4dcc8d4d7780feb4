/** Everything that can happen next in a state of the model. Each answers the state that follows. */

import type { Entry } from "../core/backend.ts";
import { changesOf, nothingAt } from "../core/record/codec.ts";
import { evict as realEvict } from "../core/record/eviction.ts";
import { plan as realPlan } from "../core/record/plan.ts";
import { offerMs } from "../core/record/queue.ts";
import { claimTokenOf } from "../core/record/record.ts";
import { sweep as realSweep } from "../core/record/sweep.ts";
import { checkCommit } from "./laws.ts";
import { believes, evidenceOf, firstOf, mayWait, membersOf } from "./members.ts";
import { adopting, answered, leaving, shown, snapshotIn, unanswered } from "./process.ts";
import {
  type Budget,
  type Flight,
  GRACE_MS,
  type Hold,
  KEY,
  LEASE_MS,
  type Process,
  type Request,
  type Setup,
  TICK_MS,
  versionOf,
  type World,
} from "./world.ts";

/** The rules that are checked: the core's own. A test hands in broken ones, which must be found. */
export interface Rules {
  readonly plan: typeof realPlan;
  readonly sweep: typeof realSweep;
  readonly evict: typeof realEvict;
}

export const RULES: Rules = { plan: realPlan, sweep: realSweep, evict: realEvict };

/** What has happened, for people, and the state that it leads to. */
export interface Step {
  readonly what: string;
  readonly world: World;
}

/** A world in which a process has changed. */
export function withProcess(world: World, process: Process): World {
  return {
    ...world,
    processes: world.processes.map((other) => other.name === process.name ? process : other),
  };
}

function spent(world: World, what: keyof Budget): World {
  return { ...world, budget: { ...world.budget, [what]: world.budget[what] - 1 } };
}

/**
 * What a process does next, as it sees the lock: it sends something, or has to look first; or there is nothing to do, perhaps
 * because one of its readers cannot become the only one.
 */
export type Thought = { readonly sends: Process } | "rests" | "refuses" | "looks";

export function thinking(process: Process, world: World, setup: Setup, { plan }: Rules): Thought {
  const { seen, isFresh, footprintMs, departures } = process;
  const isBet = seen === undefined && isFresh && departures.length === 0 && footprintMs === undefined &&
    firstOf(process) !== undefined;
  const snapshot = seen ?? (isBet ? nothingAt(KEY) : undefined);
  if (snapshot === undefined) return "looks";
  // Before anything else it sees which of its leases are over.
  const awake = { ...process, holds: process.holds.filter((hold) => believes(hold, world.now)) };
  const next = plan(snapshot, membersOf(awake, world.now, setup), evidenceOf(awake, world, setup));
  const { lock, queue, grants = [] } = next;
  if (next.needsQueue) return "looks";
  if (lock === undefined && queue === undefined) return next.refusesUpgrade ? "refuses" : "rests";
  const sent: Flight = { by: process.name, snapshot, writes: { lock, queue }, grants, atMs: world.now };
  return { sends: { ...awake, flight: sent, isFresh: false, tokens: process.tokens + 1 } };
}

/** Whether a process has anything to do with the lock. */
export function isBusy({ requests, holds, departures, footprintMs, queuedIn }: Process): boolean {
  return requests.length + holds.length + departures.length > 0 || footprintMs !== undefined ||
    queuedIn !== undefined;
}

/** A commit comes to the store, which applies it if nothing that it changes has changed. */
export function landing(flight: Flight, world: World): { world: World; version: string | null } {
  const changes = changesOf(flight.snapshot, flight.writes, GRACE_MS);
  const entryOf = (key: string) => key === KEY ? world.lock : world.queue;
  if (changes.some(({ key, version }) => entryOf(key).version !== version)) return { world, version: null };
  const version = versionOf(world.version + 1);
  const before = snapshotIn(world);
  const written = (entry: Entry): Entry => {
    const change = changes.find(({ key }) => key === entry.key);
    if (change === undefined) return entry;
    return { key: entry.key, value: change.value, version: change.value === null ? null : version };
  };
  const [lock, queue] = [written(world.lock), written(world.queue)];
  const after = snapshotIn({ lock, queue });
  const by = world.processes.find(({ name }) => name === flight.by);
  checkCommit({ by, flight, before, after, world });
  const [was, is] = [before.lock.record.holders, after.lock.record.holders];
  const ends: Record<string, number> = {};
  for (const { token, fence, renewals, leaseMs } of is) {
    const same = was.find((holder) => holder.token === token);
    const isWritten = same === undefined || same.fence !== fence || same.renewals !== renewals;
    ends[token] = isWritten ? flight.atMs + leaseMs : world.ends[token];
  }
  const isLate = world.now > flight.atMs + LEASE_MS;
  const strays = isLate
    ? [...is, ...after.queue?.record.entries ?? []].map(({ token }) => token).filter((token) =>
      !world.strays.includes(token)
    )
    : [];
  const told = after.lock.record.notices?.map(({ token }) => token) ?? [];
  const evicted = was.filter(({ token }) => told.includes(token)).map(({ token, fence }) => token + fence);
  const fences = is.map(({ fence = "" }) => fence).sort();
  // Those that have lapsed left room when their leases were over; who gives it back says when that was sent.
  const lastEnd = Math.max(...was.map(({ token }) => world.ends[token]));
  const freeMs = is.length > 0 ? null : was.length > 0 ? Math.min(flight.atMs, lastEnd) : world.freeMs;
  return {
    version,
    world: {
      ...world,
      lock,
      queue,
      version: world.version + 1,
      ends,
      strays: strays.length > 0 ? [...world.strays, ...strays] : world.strays,
      evicted: evicted.length > 0 ? [...world.evicted, ...evicted] : world.evicted,
      highest: fences.length > 0 && fences.at(-1)! > world.highest ? fences.at(-1)! : world.highest,
      freeMs,
    },
  };
}

/** All that one process may do next, or that may happen to it. */
function* ofProcess(process: Process, world: World, setup: Setup, rules: Rules): Generator<Step> {
  const { name, flight, requests, holds, asks, alive } = process;
  if (!alive) return;
  const { budget, now } = world;
  const to = (what: string, next: Process, from = world): Step => ({
    what: `${name} ${what}`,
    world: withProcess(from, next),
  });
  if (asks > 0) {
    const kinds = setup.kinds[world.processes.indexOf(process)];
    const kind = kinds[kinds.length - asks];
    const token = `${name}${process.tokens}`;
    // What is taken up is known from the process that has handed it over.
    const claims = kind === "restores" ? world.processes.flatMap(({ given }) => given) : [undefined];
    for (const restores of claims) {
      const request: Request = { token, kind, sinceMs: now, restores };
      yield to(`asks (${kind}${restores === undefined ? "" : ` ${restores.token}`})`, {
        ...process,
        asks: asks - 1,
        tokens: process.tokens + 1,
        requests: [...requests, request],
        // Whether it is taken, only the store can say.
        seen: mayWait({ kind }) ? process.seen : undefined,
      });
    }
  }
  if (flight === undefined) {
    const thought = isBusy(process) ? thinking(process, world, setup, rules) : "rests";
    if (typeof thought === "object") yield to(`sends ${written(thought.sends.flight!)}`, thought.sends);
    const waiting = requests.filter(mayWait);
    const isResting = thought === "rests" || thought === "refuses";
    if (isResting && process.seen !== undefined && waiting.length < requests.length) {
      yield to("finds it taken", { ...process, requests: waiting });
    }
    if (thought === "refuses") yield to("is refused to be the only one", withoutUpgrades(process));
    const seen = snapshotIn(world);
    const isNews = process.seen?.lock.version !== seen.lock.version ||
      process.seen?.queue?.version !== seen.queue?.version;
    if (isNews && isBusy(process) && (!process.isFresh || thought === "looks")) {
      yield to("looks", shown(process, seen, now));
    }
    const localNow = now + setup.offsets[world.processes.indexOf(process)];
    const adopted = adopting(process, {
      now,
      localNow,
      errorMs: setup.skewMs / 2,
      offerMs: offerMs(GRACE_MS),
    });
    if (adopted !== undefined) yield to("starts with what it is offered", adopted);
  } else if (flight.answer === undefined) {
    const { world: after, version } = landing(flight, world);
    const what = version === null ? "is refused" : "is applied";
    yield to(`: its commit ${what}`, { ...process, flight: { ...flight, answer: { version } } }, after);
    if (budget.losses > 0) {
      const lost = spent({ ...world, ghosts: [...world.ghosts, flight] }, "losses");
      yield to("hears nothing of its commit, which is under way", unanswered(process, now), lost);
    }
  } else {
    yield to("is answered", answered(process, flight, now));
    if (budget.losses > 0) {
      yield to("loses the answer to its commit", unanswered(process, now), spent(world, "losses"));
    }
  }
  for (const hold of holds) {
    const rest = { ...process, holds: holds.filter((other) => other !== hold) };
    const isOver = now - hold.fromMs >= hold.forMs;
    if (isOver) {
      yield to(`has lost ${hold.token}: its lease is over`, { ...leaving(rest, now), seen: undefined });
      continue;
    }
    const departing: Hold = { ...hold, change: undefined };
    yield to(`gives back ${hold.token}`, { ...rest, departures: [...process.departures, departing] });
    if (budget.handOvers > 0) {
      const remainder = { token: claimTokenOf(`${name}${process.tokens}`), leaseMs: LEASE_MS };
      const departures = [...process.departures, { ...departing, remainder }];
      const next = { ...rest, departures, tokens: process.tokens + 1 };
      yield to(`hands ${hold.token} over`, next, spent(world, "handOvers"));
    }
    if (budget.changes > 0 && hold.change === undefined && setup.how.limit === 1) {
      const change = hold.settled === "shared" ? "exclusive" : "shared";
      // One that asks to share may be sure of no more than that from now on.
      const settled = change === "shared" ? change : hold.settled;
      const next = { ...process, holds: holds.with(holds.indexOf(hold), { ...hold, change, settled }) };
      const what = change === "shared" ? "to share" : "to be the only one with";
      yield to(`asks ${what} ${hold.token}`, next, spent(world, "changes"));
    }
    if (budget.cancels > 0 && hold.change === "exclusive") {
      yield to("gives up to be the only one", withoutUpgrades(process), spent(world, "cancels"));
    }
  }
  if (budget.cancels > 0 && requests.length > 0) {
    const next = { ...leaving(process, now), requests: requests.slice(1) };
    yield to(`gives up ${requests[0].token}`, next, spent(world, "cancels"));
  }
  if (budget.crashes > 0) {
    const ghosts = flight !== undefined && flight.answer === undefined
      ? [...world.ghosts, flight]
      : world.ghosts;
    const dead: Process = {
      ...process,
      alive: false,
      holds: [],
      requests: [],
      departures: [],
      flight: undefined,
    };
    yield to("dies", dead, spent({ ...world, ghosts }, "crashes"));
  }
}

/** A process in which no reader waits to be the only one any more. */
function withoutUpgrades(process: Process): Process {
  const holds = process.holds.map((hold) =>
    hold.change === "exclusive" ? { ...hold, change: undefined } : hold
  );
  return { ...process, holds };
}

function written({ writes: { lock, queue }, grants }: Flight): string {
  const holders = lock === undefined
    ? "the lock as it is"
    : lock === null
    ? "no lock"
    : `${lock.holders.map(({ token }) => token)}`;
  const entries = queue === undefined
    ? ""
    : ` | ${queue === null ? "no queue" : queue.entries.map(({ participant }) => participant)}`;
  return `[${holders}${entries}]${grants.length > 0 ? ` to have ${grants.map(({ token }) => token)}` : ""}`;
}

/** What operators may do: what they write is under way for as long as it likes. */
function* ofOperators(world: World, setup: Setup, { sweep, evict }: Rules): Generator<Step> {
  const { budget, lock } = world;
  if (lock.value === null) return;
  const snapshot = snapshotIn(world);
  // It has the clock of the first, and has seen nothing before.
  const stranger = { ...world.processes[0], sightings: {}, notices: {}, free: undefined, holds: [] };
  const evidence = evidenceOf(stranger, world, setup);
  const send = (what: string, writes: Flight["writes"], spends: "sweeps" | "forces"): Step => {
    const flight: Flight = { by: "operator", snapshot, writes, grants: [], atMs: world.now };
    return { what, world: spent({ ...world, ghosts: [...world.ghosts, flight] }, spends) };
  };
  if (budget.sweeps > 0) {
    const swept = sweep(snapshot, undefined, evidence);
    if (swept.kind !== "keep") yield send("a cleanup begins", swept.writes, "sweeps");
  }
  if (budget.forces > 0) {
    const writes = evict(snapshot.lock.record, { which: () => true, reason: "forced", evidence });
    if (writes !== null) yield send("an operator takes the lock away", writes, "forces");
  }
}

/** All that may happen next. Throws a violation if what happens breaks a law. */
export function* steps(world: World, setup: Setup, rules: Rules = RULES): Generator<Step> {
  for (const process of world.processes) yield* ofProcess(process, world, setup, rules);
  yield* ofOperators(world, setup, rules);
  for (const [i, ghost] of world.ghosts.entries()) {
    const rest = { ...world, ghosts: world.ghosts.toSpliced(i, 1) };
    const { world: after, version } = landing(ghost, rest);
    // One that is refused now never lands.
    yield {
      what: `what ${ghost.by} had sent ${version === null ? "is refused" : "is applied"}`,
      world: after,
    };
  }
  if (world.budget.ticks > 0) {
    yield { what: "time passes", world: spent({ ...world, now: world.now + TICK_MS }, "ticks") };
  }
}
