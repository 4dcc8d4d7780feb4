import nodeProcess from "node:process";
import fc from "fast-check";
import type { ClockKind } from "./clocks.ts";
import { FAMILIES } from "./families.ts";
import type { Modes } from "./modes.ts";
import { type Distance, FAIR, type Network } from "./network.ts";
import type { ProcessOptions, Standstill } from "./process.ts";

/** What one caller does in one round: pause, ask for a lock, work under it, release it. */
export interface Round {
  /** Which of the identifiers it locks, and by which of the process's participants. */
  readonly key: number;
  readonly participant: number;
  readonly form: "acquire" | "run" | "wrap";
  readonly pauseMs: number;
  readonly leaseMs: number;
  readonly renew: boolean;
  readonly holdAtLeastMs: number | undefined;
  readonly wait: boolean;
  readonly waitForMs: number | undefined;
  readonly stealAfterMs: number | undefined;
  /** After how long the caller cancels the acquisition. */
  readonly abortAfterMs: number | undefined;
  readonly holdMs: number;
  /** How many guarded writes it makes meanwhile. */
  readonly writes: number;
  /** How its work ends: one that never does goes on until the faults are over. */
  readonly ends: "returns" | "throws" | "never";
  /** Whether it aborts its own signal while it holds. */
  readonly abortsInside: boolean;
  /** How it holds the lock, among the ways that the schedule knows: see `howOf`. Default: the first. */
  readonly how?: number;
  /** For how long it waits to be the only one. */
  readonly upgradeForMs?: number;
  /** Whether its work asks for the same once more: to be let through, or to be refused. Default: it does not. */
  readonly nests?: "let through" | "refused";
  /** What it takes together with that, and how, where the schedule knows several locks together. Default: nothing. */
  readonly also?: readonly { readonly key: number; readonly how: number }[];
  /** Whether it hands the lock over at the end of its work, where callers do: see `Schedule.claims`. */
  readonly handOver?: HandOver;
  /** How long its lease is to be from each step of its work on. */
  readonly extendMs?: number;
  /** Whether it has a separate queue entry, where only some have. */
  readonly own?: boolean;
  /** Whether it then goes before the queue. */
  readonly first?: boolean;
}

/** How a lock is handed over, and taken up. */
export interface HandOver {
  /** For how long the claim is good. */
  readonly leaseMs: number;
  /** How long it is under way, and to which process. */
  readonly transitMs: number;
  readonly to: number;
  /** For how long the lock is held there. */
  readonly holdMs: number;
  /** After how long the same claim is delivered to the next process, too. */
  readonly againMs: number | undefined;
  /** After how long the process that takes it up gives up. */
  readonly abortAfterMs: number | undefined;
}

/** What happens to a process or to the store, or is done by an operator. */
export interface Fault {
  readonly atMs: number;
  readonly kind:
    | "kill"
    | Standstill
    | "step"
    | "force"
    | "cleanup"
    | "restart"
    | "step of the store"
    | "junk"
    | "silence";
  readonly process: number;
  readonly key: number;
  /** For how long it lasts, by how much a clock is set, how much is forgotten, or how long a hold may last. */
  readonly ms: number;
  /** The operator's clock, and how far the operator is away. */
  readonly offsetMs: number;
  readonly distance: Distance;
}

/** One that listens on the diagnostics channels, and does what it must not. */
export interface Listener {
  readonly event: "wait-start" | "acquired" | "bailed" | "renewed" | "lost" | "released" | "conflict";
  readonly process: number;
  readonly does: "throw" | "abort";
}

/** One run of the simulation, complete: the same schedule always runs the same way. */
export interface Schedule {
  readonly seed: number;
  readonly clock: ClockKind;
  readonly skewMs: number;
  readonly graceMs: number;
  /** In which modes locks are held. Default: exclusive ones only. */
  readonly modes?: Modes;
  /** Whether some take several locks together. Default: none does. */
  readonly groups?: boolean;
  /** Whether locks are handed over, and leases renewed by hand. Default: no. */
  readonly claims?: boolean;
  /** Which of the requests have separate queue entries. Default: none. */
  readonly own?: "none" | "some" | "all";
  readonly processes: readonly {
    readonly offsetMs: number;
    readonly rate: number;
    readonly distance: Distance;
    /** How many clock reads it is held up in, and for how long at most. */
    readonly stall: NonNullable<ProcessOptions["stall"]>;
    readonly callers: readonly (readonly Round[])[];
  }[];
  readonly store: {
    readonly rate: number;
    readonly limitBytes: number | undefined;
    readonly forgets: boolean;
  };
  readonly network: Network;
  readonly telling: Telling;
  readonly faults: readonly Fault[];
  readonly listeners: readonly Listener[];
  /** When the faults are over. */
  readonly healMs: number;
  /** Whether all that goes wrong is that processes die: those behind them wait for two graces at most. */
  readonly prompt?: boolean;
}

/** Which processes the store notifies of what, and how much: all of it is left to stores. Shares are from 0 to 1. */
export interface Telling {
  /** How much news of commits that do not concern a watcher never comes, and how much of it comes long after. */
  readonly drop: number;
  readonly late: number;
  /** How much news contains the queue's record next to the lock's, and how many changes of the queue's alone are announced. */
  readonly beside: number;
  readonly queueAlone: number;
  /** How many refused commits are answered with the other record of the lock, too. */
  readonly refusedWithBoth: number;
  /** How much other news shows once more the queue as it was. */
  readonly oldQueue: number;
}

/** Whether a caller has a separate queue entry. */
export function isOwn({ own: which = "none" }: Pick<Schedule, "own">, { own = false }: Round): boolean {
  return which === "all" || (which === "some" && own);
}

/** Which kind of run: what may go wrong decides which laws can be asked for. */
export type Weather = "calm" | "rough" | "wild";

/** What is locked: two short identifiers, and one that stores keep as a hash. */
export const IDENTIFIERS: readonly string[] = ["the lock", "another", "a long name, ".repeat(50)];

const integer = (min: number, max: number) => fc.integer({ min, max });
const weighted = <Value>(...choices: [number, fc.Arbitrary<Value>][]) =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight: Math.round(weight), arbitrary })));
const mostly = <Value>(usual: Value, other: fc.Arbitrary<Value>, weight = 5) =>
  weighted([weight, fc.constant(usual)], [1, other]);
const seldom = <Value>(value: fc.Arbitrary<Value>) => mostly(undefined, value, 3);
const share = (max: number) => mostly(0, integer(1, 10).map((n) => n / 10 * max), 1);

/** `tripMs` is how long a question and its answer take: a process that is far away needs leases in which it can be answered. */
function rounds(weather: Weather, clock: ClockKind, tripMs: number): fc.Arbitrary<Round[]> {
  const calm = weather === "calm";
  const far = tripMs > 600;
  const round: fc.Arbitrary<Round> = fc.record({
    key: weighted([8, fc.constant(0)], [1, fc.constant(1)], [1, fc.constant(2)]),
    participant: mostly(0, fc.constant(1)),
    form: fc.constantFrom("acquire", "acquire", "run", "wrap"),
    pauseMs: integer(0, 400),
    leaseMs: calm
      ? fc.constantFrom(2000, 10_000)
      : far
      ? integer(Math.min(3 * tripMs, 9500), 10_000)
      : weighted([clock === "stated" ? 4 : 1, integer(100, 1500)], [1, integer(1500, 10_000)]),
    renew: calm ? fc.constant(true) : fc.boolean(),
    holdAtLeastMs: mostly(undefined, integer(0, calm ? 600 : 3000), 7),
    wait: integer(0, 5).map((n) => n > 0),
    waitForMs: seldom(weighted([3, integer(0, 800)], [1, integer(800, 4000)])),
    stealAfterMs: calm ? fc.constant(undefined) : seldom(integer(0, 600)),
    abortAfterMs: seldom(integer(0, 500)),
    holdMs: calm ? integer(0, 300) : weighted([far ? 1 : 8, integer(0, 1600)], [1, integer(1600, 12_000)]),
    writes: integer(0, 2),
    ends: calm ? fc.constant("returns") : weighted<Round["ends"]>(
      [16, fc.constant("returns")],
      [2, fc.constant("throws")],
      [1, fc.constant("never")],
    ),
    abortsInside: mostly(false, fc.constant(true)),
    how: integer(0, 15),
    upgradeForMs: seldom(integer(0, 800)),
    nests: mostly(undefined, fc.constantFrom("let through" as const, "refused" as const)),
    also: weighted<NonNullable<Round["also"]>>(
      [1, fc.constant([])],
      [
        2,
        fc.array(fc.record({ key: fc.nat({ max: 2 }), how: integer(0, 15) }), { minLength: 1, maxLength: 2 }),
      ],
    ),
    handOver: mostly(
      undefined,
      fc.record({
        leaseMs: calm || far
          ? fc.constant(10_000)
          : weighted([2, integer(100, 1500)], [1, integer(1500, 6000)]),
        transitMs: weighted([3, integer(0, 300)], [1, integer(300, 2000)]),
        to: fc.nat({ max: 7 }),
        holdMs: integer(0, 800),
        againMs: mostly(undefined, weighted([1, integer(0, 10)], [1, integer(10, 1000)]), 1),
        abortAfterMs: calm ? fc.constant(undefined) : mostly(undefined, integer(0, 30), 4),
      }),
      1,
    ),
    extendMs: seldom(calm ? integer(2000, 10_000) : integer(100, 3000)),
    own: fc.boolean(),
    first: calm ? fc.constant(false) : mostly(false, fc.constant(true), 12),
  });
  return fc.array(round, { minLength: 1, maxLength: 3 });
}

const near = fc.record({ thereMs: integer(1, 12), backMs: integer(1, 12) });
const middle = fc.record({ thereMs: integer(1, 80), backMs: integer(1, 80) });
const far = fc.oneof(
  fc.record({ thereMs: integer(300, 3000), backMs: integer(1, 12) }),
  fc.record({ thereMs: integer(1, 12), backMs: integer(300, 3000) }),
);

function networks(weather: Weather): fc.Arbitrary<Network> {
  if (weather === "calm") {
    return fc.record({ repeatWake: share(0.3), push: fc.boolean() })
      .map((some) => ({ ...FAIR, ...some }));
  }
  return fc.record({
    slow: share(0.1),
    late: mostly(0, integer(1, 10).map((n) => n / 50), 1),
    lateMs: integer(500, 5000),
    loseRequest: share(0.1),
    loseAnswer: share(0.1),
    repeat: mostly(0, share(0.1), 2),
    tellLoss: share(1),
    refuse: mostly(0, share(0.1), 2),
    echo: mostly(0, share(0.3), 2),
    fail: mostly(0, share(0.02), 4),
    repeatWake: share(0.3),
    forgeWake: mostly(0, share(0.3), 4),
    failWatch: mostly(0, share(0.1), 2),
    endWatch: mostly(0, share(0.1), 2),
    silentWatch: mostly(0, share(0.5), 2),
    push: fc.boolean(),
  });
}

const telling: fc.Arbitrary<Telling> = fc.tuple(
  fc.constantFrom({ drop: 0, late: 0 }, { drop: 1, late: 0 }, { drop: 0, late: 1 }, { drop: 0.5, late: 0.3 }),
  fc.record({
    beside: fc.constantFrom(0, 0.5, 1),
    queueAlone: fc.constantFrom(0, 0.5, 1),
    refusedWithBoth: fc.constantFrom(0, 0.5, 1),
    oldQueue: fc.constantFrom(0, 0.5),
  }),
).map(([unconcerned, more]) => {
  // A store that notifies some of less than others notifies those that a commit concerns of all that it has changed.
  const { drop, late } = unconcerned;
  const queueAlone = drop + late > 0 ? 1 : more.queueAlone;
  return { ...unconcerned, ...more, queueAlone };
});

const LISTENERS: fc.Arbitrary<Listener> = fc.record({
  event: fc.constantFrom("wait-start", "acquired", "bailed", "renewed", "lost", "released", "conflict"),
  process: integer(0, 3),
  does: fc.constantFrom("throw", "abort"),
});

/** Calm weather before more processes than a queue has places. */
export function crowds(): fc.Arbitrary<Schedule> {
  const round: Round = {
    key: 0,
    participant: 0,
    form: "acquire",
    pauseMs: 0,
    leaseMs: 10_000,
    renew: true,
    holdAtLeastMs: undefined,
    wait: true,
    waitForMs: undefined,
    stealAfterMs: undefined,
    abortAfterMs: undefined,
    holdMs: 5,
    writes: 0,
    ends: "returns",
    abortsInside: false,
  };
  const stall = { share: 0, maxMs: 0, kinds: ["freeze"] as const };
  return fc.record({ seed: fc.nat(), count: integer(66, 70) }).map(({ seed, count }) => ({
    seed,
    clock: "stated" as const,
    skewMs: 100,
    graceMs: 400,
    processes: Array.from({ length: count }, (_, i) => ({
      offsetMs: 0,
      rate: 1,
      distance: { thereMs: 4, backMs: 4 },
      stall,
      callers: [[{ ...round, pauseMs: i, holdMs: i === 0 ? 4000 : 5 }]],
    })),
    store: { rate: 1, limitBytes: undefined, forgets: false },
    network: FAIR,
    telling: { drop: seed % 2, late: 0, beside: 1, queueAlone: 0, refusedWithBoth: 1, oldQueue: 0 },
    faults: [],
    listeners: [],
    healMs: 0,
  }));
}

/**
 * Calm: every message arrives, no process dies; clocks differ within the bound. Rough: messages are lost, late and
 * repeated, processes die and stand still, the store restarts and forgets; clocks differ within the bound. Wild:
 * the same with clocks that may say anything.
 */
export function schedules(weather: Weather): fc.Arbitrary<Schedule> {
  // Small, so that a lease counted wrongly by a few messages' time shows.
  const skewMs = 100;
  const calm = weather === "calm";
  const wild = weather === "wild";
  // Two of them differ by `skewMs` at most, whatever their rates make of that.
  const bounded = integer(-skewMs / 2, skewMs / 2);
  const anything = weighted(
    [2, integer(-100_000, 100_000)],
    [1, fc.constantFrom(-3_600_000, 3_600_000)],
    [2, fc.constant(0)],
  );
  const offset = wild ? anything : bounded;
  const distance = calm ? near : weighted([10, near], [2, middle], [1, far]);
  const rate = integer(-4, 4).map((n) => 1 + n / 1000);
  const kinds = wild ? ["freeze", "suspend", "pause"] as const : ["freeze", "suspend"] as const;
  const stall = calm ? fc.constant({ share: 0, maxMs: 0, kinds }) : fc.record({
    share: fc.constantFrom(0, 0, 0.002, 0.01, 0.03),
    maxMs: fc.constantFrom(300, 1500, 4000),
    kinds: fc.subarray([...kinds], { minLength: 1 }),
  });
  const fault: fc.Arbitrary<Fault> = fc.record({
    atMs: integer(0, 6000),
    process: fc.nat({ max: 3 }),
    key: mostly(0, fc.nat({ max: 2 })),
    kind: weighted<Fault["kind"]>(
      [2, fc.constantFrom("kill")],
      [6, fc.constantFrom(...kinds)],
      [2, fc.constantFrom("force")],
      [4, fc.constantFrom("cleanup")],
      [2, fc.constantFrom("restart")],
      [1, fc.constantFrom("silence", "junk")],
      [wild ? 3 : 1, fc.constantFrom("step")],
      [wild ? 1 : 0, fc.constantFrom("step of the store")],
    ),
    ms: integer(1, 3000),
    offsetMs: offset,
    distance: weighted([2, near], [1, far]),
  });
  const process = (clock: ClockKind) =>
    distance.chain((distance) =>
      fc.record({
        offsetMs: offset,
        rate,
        distance: fc.constant(distance),
        stall,
        callers: fc.array(rounds(weather, clock, distance.thereMs + distance.backMs), {
          minLength: 1,
          maxLength: 3,
        }),
      })
    );
  const usual = fc.constantFrom<ClockKind>("stated", "stated", "redis", "datastore", "watching").chain((
    clock,
  ) =>
    fc.record<Schedule>({
      seed: fc.nat(),
      clock: fc.constant(clock),
      skewMs: fc.constant(skewMs),
      // Longer than a wake-up and its answer take, where nothing goes wrong.
      graceMs: calm ? integer(100, 300) : integer(20, 240),
      modes: weighted<Modes>([5, fc.constant("exclusive")], [3, fc.constantFrom("shared", "limits", "any")]),
      groups: nodeProcess.env.SIM_GROUPS === "yes"
        ? fc.constant(true)
        : weighted([5, fc.constant(false)], [1, fc.constant(true)]),
      claims: mostly(false, fc.constant(true), 2),
      own: weighted<"none" | "some" | "all">([4, fc.constant("none")], [
        1,
        fc.constantFrom("all", "all", "some"),
      ]),
      processes: weighted(
        [2, integer(1, 2)],
        [4, integer(2, 4)],
        [1, integer(5, 8)],
      ).chain((length) => fc.array(process(clock), { minLength: 1, maxLength: length, size: "max" })),
      store: fc.record({
        rate,
        limitBytes: calm ? fc.constant(undefined) : mostly(undefined, integer(300, 900), 15),
        forgets: calm ? fc.constant(false) : mostly(false, fc.constant(true)),
      }),
      network: networks(weather),
      telling,
      faults: calm ? fc.constant([]) : fc.array(fault, { maxLength: 6 }),
      listeners: mostly([], fc.array(LISTENERS, { minLength: 1, maxLength: 2 })),
      healMs: calm ? fc.constant(0) : integer(2000, 9000),
    })
  );
  const families = Object.values(FAMILIES).filter(({ weathers }) => weathers.includes(weather));
  return weighted(
    [100 - families.reduce((sum, { oneOf }) => sum + 100 / oneOf, 0), usual],
    ...families.map((
      { oneOf, change },
    ): [number, fc.Arbitrary<Schedule>] => [
      100 / oneOf,
      usual.map((schedule) =>
        change({ ...schedule, modes: "exclusive", groups: false, own: "none", claims: false })
      ),
    ]),
  );
}
