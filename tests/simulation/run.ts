import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { LockEvents } from "../../core/events.ts";
import { SimBackend } from "./backend.ts";
import { play, type Seat, type Stage } from "./callers.ts";
import { timekeeper, TOLERANCES } from "./clocks.ts";
import { cleanup, forgetAll, groupsOf, keyOf, lock, naming, participate, queueKeyOf } from "./core.ts";
import { inject } from "./faults.ts";
import { type Ask, CANCELLED, Invariants, PlannedError } from "./invariants.ts";
import { markOfFamily } from "./families.ts";
import type { Marks } from "./marks.ts";
import { type Distance, SimNetwork } from "./network.ts";
import { SimProcess } from "./process.ts";
import { type Fault, IDENTIFIERS, type Listener, type Schedule, type Weather } from "./schedule.ts";
import { SimStore } from "./store.ts";
import { randomFrom, World } from "./world.ts";

const HORIZON_MS = 100 * 3_600_000;
const NEAR: Distance = { thereMs: 4, backMs: 4 };
/** Within how long a new process gets a lock that no other wants any more. */
const AFTERWARDS_MS = 60_000;
const CHANNELS: readonly (keyof LockEvents)[] = [
  "holdfast:wait-start",
  "holdfast:acquired",
  "holdfast:bailed",
  "holdfast:mode-changed",
  "holdfast:renewed",
  "holdfast:late",
  "holdfast:lost",
  "holdfast:released",
  "holdfast:conflict",
  "holdfast:backend-error",
];

let keys: Promise<Map<string, string>> | undefined;

async function keysOf(identifiers: readonly string[]): Promise<Map<string, string>> {
  const pairs = identifiers.map(async (name) => [name, await keyOf(name)] as const);
  return new Map(await Promise.all(pairs));
}

/** Runs one schedule, answers which marks it reached, and throws at the first law that is violated. */
export async function run(schedule: Schedule, weather: Weather): Promise<Marks> {
  const known = await (keys ??= keysOf(IDENTIFIERS));
  const world = new World();
  const invariants = new Invariants(world, weather, schedule);
  const random = randomFrom(schedule.seed);
  // What the core draws at random is repeated with the schedule.
  const systemRandom = Math.random;
  Math.random = randomFrom(schedule.seed + 1);
  const network = new SimNetwork(world, schedule.network, random);
  const { rate, limitBytes } = schedule.store;
  const store = new SimStore(
    world,
    { rate, limitBytes, toleranceMs: TOLERANCES[schedule.clock] },
    (applied) => invariants.onApplied(applied),
    (why) => invariants.onRefused(why),
  );
  const boundMs = weather === "wild" ? Infinity : schedule.clock !== "stated" ? 250 : schedule.skewMs / 2;
  const failed = new Set<string>();

  const seat = (process: SimProcess, distance: Distance): Seat => {
    const backend = new SimBackend({
      store,
      network,
      process,
      distance,
      telling: schedule.telling,
      time: timekeeper(schedule.clock, process, schedule.skewMs),
      graceMs: schedule.graceMs,
      onSent: (request) => invariants.onSent(request),
      onWrongClock: () => invariants.mark("a grant by a clock that was behind"),
      onTold: (mark) => invariants.mark(mark),
      onWatch: (_, key, how) => {
        if (how === "failed") failed.add(process.name + key);
        else if (failed.delete(process.name + key)) invariants.mark("a watch failed and was opened again");
      },
    });
    const participant = participate(backend, process.clock);
    backend.participant = participant.id;
    invariants.onParticipant(participant, process);
    return { process, backend, participant };
  };
  const seats: Seat[] = [];
  const processes: SimProcess[] = [];

  let heal = () => {};
  const healed = new Promise<void>((resolve) => heal = resolve);
  const open = new Map<SimProcess, number>();
  const call = (process: SimProcess, work: () => Promise<void>) => {
    open.set(process, (open.get(process) ?? 0) + 1);
    void work().then(
      () => open.set(process, open.get(process)! - 1),
      (error) => invariants.violate(7, `a caller failed: ${error?.stack ?? error}`),
    );
  };
  const stage: Stage = {
    schedule,
    invariants,
    healed,
    keyOf: (identifier: string) => known.get(identifier)!,
    // Each process has two.
    seat: (n) => seats[2 * (n % schedule.processes.length)],
    call,
  };
  schedule.processes.forEach(({ offsetMs, rate, distance, stall, callers }, i) => {
    const process = new SimProcess(world, {
      name: `process ${i}`,
      offsetMs,
      rate,
      boundMs,
      stall,
      random: randomFrom(schedule.seed + i + 1),
    });
    process.onStall = (kind) => {
      invariants.trace?.(
        `${process.name} stands still in a clock read until ${process.now.toFixed(1)}`,
        kind,
      );
      world.at(process.now, () => invariants.onAwake(process));
    };
    processes.push(process);
    const here = [seat(process, distance), seat(process, distance)];
    seats.push(...here);
    for (const rounds of callers) {
      call(process, async () => {
        for (const round of rounds) await play(stage, here[round.participant], round);
      });
    }
  });
  const operator = ({ offsetMs, distance }: Fault) => {
    const process = new SimProcess(world, { name: "operator", offsetMs, boundMs });
    processes.push(process);
    const place = seat(process, distance);
    seats.push(place);
    return place.backend;
  };
  const scene = {
    schedule,
    store,
    network,
    invariants,
    processes: [...processes],
    keys: [...known.values()],
    operator,
  };
  for (const fault of schedule.faults) world.schedule(fault.atMs, () => inject(scene, fault));
  world.schedule(schedule.healMs, () => {
    network.heal();
    store.heal();
    for (const process of processes) process.stall = undefined;
    invariants.onHealed();
    heal();
  });

  naming.onGroup = (names) => invariants.onGroup(names);
  const events = CHANNELS.map((name) => {
    const event = name.slice("holdfast:".length);
    const listeners = schedule.listeners.filter((listener) => listener.event === event);
    const hear = (message: unknown) => {
      const ask = invariants.onEvent(name, message as LockEvents[typeof name]);
      for (const listener of listeners) misbehave(listener, ask, processes, invariants);
    };
    subscribe(name, hear);
    return () => unsubscribe(name, hear);
  });
  const forget = catchPlanned(invariants);
  try {
    let quiet = await world.run(HORIZON_MS, () => invariants.throwViolation());
    for (const [process, count] of open) {
      invariants.check(
        !process.alive || count === 0,
        5,
        `${count} callers of ${process.name} never finished`,
      );
    }
    invariants.atRest((key) => store.recordsOf(key));
    // What is left must not keep any process from what comes after.
    const process = new SimProcess(world, { name: "a process that comes afterwards" });
    const { backend, participant } = seat(process, NEAR);
    for (const key of invariants.keys) {
      const identifier = key;
      const from = world.now;
      let got = false;
      world.schedule(1, () =>
        process.deliver(() => {
          void (async () => {
            const held = await lock(identifier, { backend, leaseMs: 2000 }).acquire();
            got = world.now - from < AFTERWARDS_MS;
            await held.release();
          })().catch((error) => invariants.violate(5, `afterwards: ${error}`));
        }));
      if (key.length > 170) {
        world.schedule(1, () => world.awaitOutside(() => participant.known(key) !== undefined || got));
      }
      quiet = await world.run(2 * HORIZON_MS, () => invariants.throwViolation()) && quiet;
      invariants.check(got, 5, "a process that comes afterwards does not get the lock");
      const { lock: { holders, notices }, entries } = store.recordsOf(key);
      invariants.check(holders.length + entries.length === 0, 6, "the record is still there");
      const notes = store.get(key).value === null || notices !== undefined;
      invariants.check(notes, 6, "a record that says nothing is still there");
      if (store.get(queueKeyOf(key)).value === null) continue;
      // The store has collected the lock's record: no process that asks for the lock looks for what its queue said.
      world.schedule(1, () => process.deliver(() => void cleanup({ backend }).catch(() => {})));
      quiet = await world.run(3 * HORIZON_MS, () => invariants.throwViolation()) && quiet;
      invariants.check(store.get(queueKeyOf(key)).value === null, 6, "a void queue is still there");
    }
    if (schedule.groups && invariants.keys.length > 1) {
      naming.onGroup = (names) => invariants.onParty(names, process);
      let got = false;
      world.schedule(1, () =>
        process.deliver(() => {
          void lock(invariants.keys, { backend, leaseMs: 2000 }).run(() => void (got = true))
            .catch((error) => invariants.violate(5, `afterwards: ${error}`));
        }));
      quiet = await world.run(4 * HORIZON_MS, () => invariants.throwViolation()) && quiet;
      invariants.check(got, 5, "a process that comes afterwards does not get all of them together");
      const left = invariants.keys.some((key) => store.recordsOf(key).lock.holders.length > 0);
      invariants.check(!left, 6, "what a process took together afterwards is still there");
    }
    invariants.atEnd(processes, quiet);
    for (const { process, participant } of seats) {
      const count = process.alive ? groupsOf(participant) : 0;
      invariants.check(count === 0, 6, `${process.name} still has to do with ${count} groups of locks`);
    }
    const watches = seats.reduce(
      (sum, { process, backend }) => sum + (process.alive ? backend.watches : 0),
      0,
    );
    invariants.check(watches === 0, 6, `${watches} watches are still open`);
    invariants.throwViolation();
    const family = markOfFamily(schedule, invariants.marks);
    if (family !== undefined) invariants.mark(family);
    return invariants.marks;
  } finally {
    Math.random = systemRandom;
    forget();
    forgetAll();
    for (const stop of events) stop();
  }
}

function misbehave(
  { process, does }: Listener,
  ask: Ask | undefined,
  processes: readonly SimProcess[],
  invariants: Invariants,
): void {
  if (ask === undefined || ask.process !== processes[process]) return;
  if (does === "throw") {
    invariants.mark("a listener threw");
    throw new PlannedError("a listener's own");
  }
  const waiting = invariants.waitingWith(ask);
  if (waiting === undefined) return;
  invariants.mark("a listener aborted a waiter");
  waiting.controller.abort(CANCELLED);
}

/** What listeners throw comes out here; so would a rejection that is not handled. */
function catchPlanned(invariants: Invariants): () => void {
  const onError = (event: ErrorEvent) => {
    if (event.error instanceof PlannedError) event.preventDefault();
  };
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    invariants.violate(7, `a rejection that nobody handles: ${event.reason?.stack ?? event.reason}`);
  };
  globalThis.addEventListener("error", onError);
  globalThis.addEventListener("unhandledrejection", onRejection);
  return () => {
    globalThis.removeEventListener("error", onError);
    globalThis.removeEventListener("unhandledrejection", onRejection);
  };
}
