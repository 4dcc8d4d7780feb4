/**
 * What becomes of a state if nothing more goes wrong: everything is delivered, who holds the lock gives it back, and time
 * passes where nothing else is to do. All that live and wait must get the lock, and nothing of theirs may be left.
 */

import { isBusy, landing, type Rules, thinking, withProcess } from "./actions.ts";
import { hashOf } from "./hash.ts";
import { Violation } from "./laws.ts";
import { believes, mayWait } from "./members.ts";
import { answered, shown, snapshotIn } from "./process.ts";
import { isInTransit } from "../core/record/record.ts";
import { LEASE_MS, type Process, type Setup, TICK_MS, type World } from "./world.ts";

/** Within how many ticks all who live must have had the lock: some leases, and graces for each of the dead. */
const MOST_TICKS = 40;
/** How often all of them go on by one action until then. */
const MOST_ROUNDS = 1000;

/** One process goes on by one action, if there is one. */
function advance(process: Process, world: World, setup: Setup, rules: Rules): World | undefined {
  const { flight, holds, departures, seen, requests } = process;
  if (flight !== undefined) {
    if (flight.answer !== undefined) return withProcess(world, answered(process, flight, world.now));
    const { world: after, version } = landing(flight, world);
    return withProcess(after, { ...process, flight: { ...flight, answer: { version } } });
  }
  if (holds.length > 0) {
    const over = holds.filter((hold) => !believes(hold, world.now));
    const kept = holds.filter((hold) => !over.includes(hold));
    return withProcess(world, {
      ...process,
      holds: [],
      departures: [...departures, ...kept],
      footprintMs: over.length > 0 ? world.now + LEASE_MS : process.footprintMs,
      seen: over.length > 0 ? undefined : seen,
    });
  }
  if (!isBusy(process)) return undefined;
  const thought = thinking(process, world, setup, rules);
  if (typeof thought === "object") return withProcess(world, thought.sends);
  const now = snapshotIn(world);
  const isNews = seen?.lock.version !== now.lock.version || seen?.queue?.version !== now.queue?.version;
  if (isNews || thought === "looks") return withProcess(world, shown(process, now, world.now));
  const waiting = requests.filter(mayWait);
  return waiting.length < requests.length ? withProcess(world, { ...process, requests: waiting }) : undefined;
}

/** How it goes on. */
export interface SettleOptions {
  readonly setup: Setup;
  readonly rules: Rules;
  /** States that have been followed to their end, by their hashes: how many ticks that took. */
  readonly settled: Map<number, number>;
}

/** How long it takes until all have had the lock, in ticks. Throws if that never happens, or if something is left. */
export function settle(start: World, { setup, rules, settled }: SettleOptions): number {
  let world = start;
  const passed: { readonly hash: number; readonly ticks: number }[] = [];
  const end = (ticks: number) => {
    for (const { hash, ticks: before } of passed) settled.set(hash, ticks - before);
    return ticks;
  };
  for (let ticks = 0, rounds = 0; ticks <= MOST_TICKS; rounds++) {
    const hash = hashOf(world);
    const known = settled.get(hash);
    if (known !== undefined) return end(ticks + known);
    passed.push({ hash, ticks });
    if (rounds > MOST_ROUNDS) throw new Violation(5, "the processes write without end");
    let moved = false;
    for (const { name } of world.processes) {
      const process = world.processes.find((other) => other.name === name)!;
      const next = process.alive ? advance(process, world, setup, rules) : undefined;
      if (next === undefined) continue;
      world = next;
      moved = true;
    }
    if (moved) continue;
    if (!world.processes.some(({ alive, requests }) => alive && requests.length > 0)) {
      checkRest(world);
      return end(ticks);
    }
    world = { ...world, now: world.now + TICK_MS };
    ticks++;
  }
  const waiting = world.processes.flatMap(({ alive, requests }) => alive ? requests : []);
  throw new Violation(5, `${waiting.map(({ token }) => token)} never get the lock`);
}

/** No live process has left a hold or a place. */
function checkRest(world: World): void {
  const { lock: { record }, queue } = snapshotIn(world);
  const living = world.processes.filter(({ alive }) => alive).map(({ name }) => name);
  // What was handed over is of no process until one takes it up, or its lease ends.
  const holders = record.holders.filter(({ token }) =>
    living.includes(token[0]) && !isInTransit({ token }) && world.ends[token] > world.now &&
    !world.strays.includes(token)
  );
  const entries = queue !== undefined && queue.record.id === record.queue ? queue.record.entries : [];
  const queued = entries.filter(({ participant, token }) =>
    living.includes(participant) && !world.strays.includes(token)
  );
  if (holders.length + queued.length === 0) return;
  throw new Violation(
    6,
    `${[...holders, ...queued].map(({ token }) => token)} is left by a process that lives`,
  );
}
