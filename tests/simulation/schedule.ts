import fc from "fast-check";
import type { Network } from "./store.ts";

/** What one worker does in one round: wait, ask for the lock, work under it, release it. */
export interface Round {
  readonly pauseMs: number;
  readonly leaseMs: number;
  readonly renew: boolean;
  readonly wait: boolean;
  readonly waitForMs: number | undefined;
  readonly stealAfterMs: number | undefined;
  /** After how long the caller cancels the acquisition. */
  readonly abortAfterMs: number | undefined;
  readonly holdMs: number;
  /** How many guarded writes it makes meanwhile. */
  readonly writes: number;
}

/** What happens to a process from outside. */
export interface Mishap {
  readonly atMs: number;
  readonly process: number;
  readonly kind: "kill" | "freeze" | "step" | "force" | "sweep";
  /** For how long it is frozen, by how much its wall clock is set, or for how long a hold may last. */
  readonly ms: number;
}

/** One run of the simulation, complete: the same schedule always runs the same way. */
export interface Schedule {
  readonly seed: number;
  readonly skewMs: number;
  readonly processes: readonly {
    readonly offsetMs: number;
    readonly rate: number;
    readonly workers: readonly (readonly Round[])[];
  }[];
  readonly mishaps: readonly Mishap[];
  readonly network: Network;
}

/** Which kind of run: what may go wrong decides which laws can be asked for. */
export type Weather = "calm" | "rough" | "wild";

const seldom = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined, freq: 5 });

function rounds(weather: Weather): fc.Arbitrary<Round[]> {
  const never = fc.constant(undefined);
  const calm = weather === "calm";
  const round: fc.Arbitrary<Round> = fc.record({
    pauseMs: fc.integer({ min: 0, max: 400 }),
    leaseMs: calm ? fc.constant(2000) : fc.integer({ min: 100, max: 1500 }),
    renew: calm ? fc.constant(true) : fc.boolean(),
    wait: fc.integer({ min: 0, max: 5 }).map((n) => n > 0),
    waitForMs: seldom(fc.integer({ min: 0, max: 800 })),
    stealAfterMs: calm ? never : seldom(fc.integer({ min: 0, max: 600 })),
    abortAfterMs: seldom(fc.integer({ min: 0, max: 500 })),
    holdMs: fc.integer({ min: 0, max: calm ? 300 : 1600 }),
    writes: fc.integer({ min: 0, max: 2 }),
  });
  return fc.array(round, { minLength: 1, maxLength: 3 });
}

/**
 * Calm: every message arrives, nobody dies; clocks differ within the bound. Rough: messages are lost, late and
 * repeated, processes die and freeze; clocks differ within the bound. Wild: the same with clocks that may
 * say anything.
 */
export function schedules(weather: Weather): fc.Arbitrary<Schedule> {
  // Small, so that a lease counted wrongly by a few messages' time shows.
  const skewMs = 100;
  const offset = weather === "wild"
    ? fc.oneof(fc.integer({ min: -100_000, max: 100_000 }), fc.constant(0))
    : fc.integer({ min: -skewMs / 4, max: skewMs / 4 });
  const share = (max: number) => fc.integer({ min: 0, max: 10 }).map((n) => n / 10 * max);
  const none = fc.constant(0);
  const mishap: fc.Arbitrary<Mishap> = fc.record({
    atMs: fc.integer({ min: 0, max: 2500 }),
    process: fc.nat({ max: 3 }),
    kind: fc.constantFrom(
      "kill",
      "freeze",
      "freeze",
      "force",
      "sweep",
      "sweep",
      ...(weather === "wild" ? ["step"] as const : []),
    ),
    ms: fc.integer({ min: 1, max: 3000 }),
  });
  return fc.record({
    seed: fc.nat(),
    skewMs: fc.constant(skewMs),
    processes: fc.array(
      fc.record({
        offsetMs: offset,
        rate: fc.integer({ min: -4, max: 4 }).map((n) => 1 + n / 1000),
        workers: fc.array(rounds(weather), { minLength: 1, maxLength: 3 }),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    mishaps: weather === "calm" ? fc.constant([]) : fc.array(mishap, { maxLength: 6 }),
    network: fc.record({
      delayMs: fc.integer({ min: 1, max: 12 }),
      slow: weather === "calm" ? none : share(0.1),
      loseRequest: weather === "calm" ? none : share(0.1),
      loseAnswer: weather === "calm" ? none : share(0.1),
      tellLoss: share(1),
      repeatWake: share(0.3),
      push: fc.boolean(),
    }),
  });
}
