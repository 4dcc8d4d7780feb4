// Faults that need several things at once come together too seldom by chance. A family makes one kind likely, and
// leaves everything else as it was drawn.

import { FAIR } from "./network.ts";
import type { Round, Schedule, Weather } from "./schedule.ts";

/** What a family makes of a schedule. */
export interface Family {
  readonly weathers: readonly Weather[];
  /** Of how many schedules of its weathers it is one. */
  readonly oneOf: number;
  readonly change: (schedule: Schedule) => Schedule;
}

const eachRound = (
  schedule: Schedule,
  change: (round: Round, process: number) => Partial<Round>,
): Schedule => ({
  ...schedule,
  processes: schedule.processes.map((process, i) => ({
    ...process,
    callers: process.callers.map((rounds) => rounds.map((round) => ({ ...round, ...change(round, i) }))),
  })),
});

/** Patient callers of one lock, with short leases that nobody renews. */
const patient = ({ leaseMs }: Round): Partial<Round> => ({
  key: 0,
  participant: 0,
  leaseMs: 100 + leaseMs % 900,
  wait: true,
  waitForMs: undefined,
  stealAfterMs: undefined,
  abortAfterMs: undefined,
  writes: 2,
});

/** The families, by their names. */
export const FAMILIES: Record<string, Family> = {
  /** Commits land again long after their acquisitions are over; whoever held slept meanwhile, and does not know. */
  ghosts: {
    weathers: ["wild"],
    oneOf: 4,
    change: (schedule) =>
      eachRound({
        ...schedule,
        network: { ...FAIR, push: true, repeat: 0.3, lateMs: 1000 + schedule.seed % 2000 },
        store: { ...schedule.store, forgets: false, limitBytes: undefined },
        faults: schedule.faults.map((fault) => ({
          ...fault,
          kind: "pause" as const,
          process: fault.process % 3,
        })),
        processes: schedule.processes.slice(0, 3).map((process) => ({
          ...process,
          distance: { thereMs: 4, backMs: 4 },
          stall: { share: 0.01, maxMs: 4000, kinds: ["pause"] },
        })),
      }, patient),
  },
  /** The answers to one process are seconds on their way back, so that it cannot know the time; its leases are long. */
  "late answers": {
    weathers: ["rough"],
    oneOf: 12,
    change: (schedule) => {
      const late = eachRound(
        {
          ...schedule,
          clock: "datastore",
          network: { ...FAIR, push: schedule.network.push },
          faults: [],
          store: { ...schedule.store, forgets: false },
        },
        (round, i) =>
          i > 0
            ? { key: 0, wait: true, waitForMs: undefined, abortAfterMs: undefined, stealAfterMs: undefined }
            : {
              ...patient(round),
              leaseMs: 9000 + round.leaseMs % 1000,
              holdMs: 12_000,
              renew: false,
              pauseMs: round.pauseMs % 50,
            },
      );
      return {
        ...late,
        processes: late.processes.map((process, i) => ({
          ...process,
          distance: i > 0 ? { thereMs: 4, backMs: 4 } : { thereMs: 4, backMs: 2000 + schedule.seed % 1000 },
          stall: { ...process.stall, share: 0 },
        })),
      };
    },
  },
  /** Cleanups by machines whose clocks are ahead, and whose first question is late. */
  "late cleanups": {
    weathers: ["wild"],
    oneOf: 8,
    change: (schedule) => ({
      ...schedule,
      clock: "redis",
      network: { ...schedule.network, late: 0.2, lateMs: 4000 },
      processes: schedule.processes.map((process) => ({ ...process, stall: { ...process.stall, share: 0 } })),
      faults: schedule.faults.map((fault) => ({
        ...fault,
        kind: "cleanup" as const,
        ms: 3 * fault.ms + 1,
        offsetMs: Math.abs(fault.offsetMs),
        distance: { thereMs: 4, backMs: 4 },
      })),
    }),
  },
};
