// Faults that need several things at once come together too rarely by chance. A family makes one kind likely, and
// leaves everything else as it was drawn.

import type { FamilyName, Mark, Marks } from "./marks.ts";
import { FAIR } from "./network.ts";
import type { Fault, Round, Schedule, Weather } from "./schedule.ts";

/** What a family makes of a schedule. */
export interface Family {
  readonly weathers: readonly Weather[];
  /** Of how many schedules of its weathers it is one. */
  readonly oneOf: number;
  /** The mark by which a schedule shows that it came to what the family is for. */
  readonly shownBy: Mark;
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

/** Patient callers of one lock, with short leases that are not renewed. */
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

/** Nothing but these callers, by process, on a network on which this share of the messages is slow. */
function staged(schedule: Schedule, slow: number, callers: readonly Partial<Round>[][]): Schedule {
  const [first] = schedule.processes;
  const [round] = first.callers[0];
  const alone: Round = {
    ...round,
    ...patient(round),
    leaseMs: 10_000,
    pauseMs: 0,
    writes: 0,
    ends: "returns",
    abortsInside: false,
    handOver: undefined,
    extendMs: undefined,
  };
  return {
    ...schedule,
    network: { ...FAIR, push: schedule.network.push, slow },
    store: { ...schedule.store, forgets: false, limitBytes: undefined },
    faults: [],
    listeners: [],
    processes: callers.map((rounds) => ({
      ...first,
      distance: { thereMs: 4, backMs: 4 },
      stall: { ...first.stall, share: 0 },
      callers: rounds.map((own) => [{ ...alone, ...own }]),
    })),
  };
}

/** Up to 32 ms; the `n`th of a schedule. */
const some = ({ seed }: Schedule, n: number) => (seed >>> (5 * n)) % 32;

/** What happens to a process, or is done by an operator with a right clock near the store. */
const fault = (kind: Fault["kind"], atMs: number, process = 0): Fault => ({
  kind,
  atMs,
  process,
  key: 0,
  ms: 1,
  offsetMs: 0,
  distance: { thereMs: 4, backMs: 4 },
});

const TABLE: Record<FamilyName, Family> = {
  /** Commits land again long after their acquisitions are over; the holder slept meanwhile, and does not know. */
  ghosts: {
    weathers: ["wild"],
    oneOf: 4,
    shownBy: "a ghost: a grant that landed when the same had been granted and released",
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
  /**
   * A holder's clocks stand still until its lease is over and the next one has been and gone. Before it wakes, the commit
   * that granted its lock lands again.
   */
  "ghosts of sleepers": {
    weathers: ["wild"],
    oneOf: 25,
    shownBy: "a guarded write refused",
    change: (schedule) => ({
      ...staged(schedule, 0, [
        [{ leaseMs: 1000, holdMs: 2000, writes: 4 }],
        [{ pauseMs: 50, leaseMs: 2000, holdMs: 60 + some(schedule, 0), writes: 1 }],
      ]),
      clock: "stated",
      network: { ...FAIR, push: schedule.network.push, repeat: 0.5, lateMs: 3000 },
      faults: [{ ...fault("pause", 60 + 4 * some(schedule, 1)), ms: 1400 + 20 * some(schedule, 2) }],
    }),
  },
  /** The answers to one process are seconds on their way back, so that it cannot know the time; its leases are long. */
  "late answers": {
    weathers: ["rough"],
    oneOf: 12,
    shownBy: "lease over when the answer came",
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
  /** A process has learnt the time from answers that are seconds on their way, and holds a lock until its lease is over. */
  "wrong time": {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "lost: expired",
    change: (schedule) => {
      const late = staged(schedule, 0, [
        [{ leaseMs: 9000, holdMs: 12_000, renew: false }],
        [{ pauseMs: 9000, leaseMs: 2000, holdMs: 20 }],
      ]);
      const [holder, waiter] = late.processes;
      const [[round]] = holder.callers;
      const distance = { thereMs: 4, backMs: 2000 + schedule.seed % 1000 };
      const callers = [[{ ...round, key: 1, holdMs: 50 }, round]];
      return {
        ...late,
        clock: "datastore",
        healMs: 9500,
        processes: [{ ...holder, distance, callers }, waiter],
      };
    },
  },
  /**
   * Cleanups by machines whose clocks are a little ahead, so that a question which is long on its way there does not
   * refute them: until a faster one does, they take live locks for lapsed. The holder is near, and no process is in the queue.
   */
  "late cleanups": {
    weathers: ["wild"],
    oneOf: 8,
    // What it is for, a refusal by the store's clock, is too rare to be expected of every campaign.
    shownBy: "a lock granted",
    change: (schedule) => {
      const held = eachRound(schedule, (round) => ({
        key: 0,
        leaseMs: 400 + round.leaseMs % 1200,
        holdMs: 3000 + round.holdMs % 5000,
        renew: true,
        stealAfterMs: undefined,
      }));
      return {
        ...held,
        clock: "redis",
        network: { ...FAIR, push: schedule.network.push, slow: 0.4 },
        store: { ...schedule.store, forgets: false },
        healMs: 9000,
        processes: held.processes.slice(0, 1).map((process) => ({
          ...process,
          offsetMs: process.offsetMs % 200,
          distance: { thereMs: 4, backMs: 4 },
          stall: { ...process.stall, share: 0 },
        })),
        faults: schedule.faults.map((fault) => ({
          ...fault,
          kind: "cleanup" as const,
          atMs: fault.atMs / 3,
          ms: 3 * fault.ms + 1,
          offsetMs: 700 + Math.abs(fault.offsetMs) % 2000,
          distance: { thereMs: 200, backMs: 4 },
        })),
      };
    },
  },
  /** Waiters leave while they are slowly on their way into the queue, next to others of their process that leave, too. */
  "late places": {
    weathers: ["rough"],
    oneOf: 25,
    shownBy: "cancelled while it was joining the queue",
    change: (schedule) =>
      staged(schedule, 0.3, [
        [{ holdMs: 400 }],
        [
          { pauseMs: 50, abortAfterMs: 8 + some(schedule, 0) },
          { pauseMs: 50 + some(schedule, 1), wait: false },
          { pauseMs: 50 + some(schedule, 2), waitForMs: some(schedule, 3) },
        ],
      ]),
  },
  /**
   * A stealer leaves when the one that waits before it is already at the store to steal for it: that one takes a place in
   * the queue while its own process holds. Both waiters leave, too, and only the release can give the place back.
   */
  "leaving thieves": {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "lost: stolen",
    change: (schedule) =>
      staged(schedule, 0, [[
        { holdMs: 400 },
        { pauseMs: 15, waitForMs: 150 },
        { pauseMs: 17, waitForMs: 220 },
        { pauseMs: 20, stealAfterMs: 60, abortAfterMs: 40 + some(schedule, 0) },
      ]]),
  },
  /** The first in the queue is dead when its turn comes, and so may be the next. */
  "dead first": {
    weathers: ["rough"],
    oneOf: 25,
    shownBy: "a dead first in the queue passed within two graces",
    change: (schedule) => ({
      ...staged(schedule, 0, [
        [{ holdMs: 400 }],
        [{ pauseMs: 50 }],
        [{ pauseMs: 100 }],
        [{ pauseMs: 150 }, { pauseMs: 160 + some(schedule, 0) }],
        [{ pauseMs: 200 }],
      ]),
      network: { ...FAIR },
      faults: [
        fault("kill", 300 + 4 * some(schedule, 1), 1),
        ...some(schedule, 2) % 2 > 0 ? [fault("kill", 300 + 20 * some(schedule, 3), 2)] : [],
      ],
      prompt: true,
    }),
  },
  /** Others join and leave while a hold is given back, again and again, and the first in the queue leaves just then, or is dead. */
  "restless queues": {
    weathers: ["rough"],
    oneOf: 25,
    shownBy: "an offer that left the queue out",
    change: (schedule) => {
      const dies = schedule.seed % 2 > 0;
      const restless = staged(schedule, 0, [
        [{ holdMs: 400 }],
        [{ pauseMs: 50, abortAfterMs: dies ? undefined : 352 + some(schedule, 0) }],
        [{ pauseMs: 100 }],
        ...Array.from({ length: 5 }, (_, i) =>
          Array.from({ length: 4 }, (_, j) => ({
            pauseMs: 385 + 3 * i + 13 * j,
            waitForMs: 2 + some(schedule, 1 + i) % 10,
          }))),
      ]);
      return dies
        ? { ...restless, faults: [fault("kill", 300 + 2 * some(schedule, 0), 1)], prompt: true }
        : restless;
    },
  },
  /** A machine sleeps while the lock is offered to it, until others have taken it, and wakes with a clock that stood still. */
  sleepers: {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "an offer lapsed: its process slept",
    change: (schedule) => ({
      ...staged(schedule, 0, [
        // Its first hold is so brief that it takes the next offer unconfirmed.
        [{ holdMs: 50 }, { pauseMs: 100, holdMs: 300 }],
        [{ pauseMs: 20, holdMs: 300 }],
        [{ pauseMs: 150, holdMs: 2000 }],
      ]),
      clock: "redis",
      graceMs: 240,
      faults: [{
        ...fault("suspend", 320 + some(schedule, 0), 0),
        ms: 500 + 40 * some(schedule, 1),
      }],
    }),
  },
  /** A waiter leaves the queue while its holder is dead, and no process notifies the next one, whose turn it now is. */
  "left turns": {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "a dead holder passed promptly",
    change: (schedule) => ({
      ...staged(schedule, 0, [
        [{ leaseMs: 1000, holdMs: 5000 }],
        [{ pauseMs: 50, abortAfterMs: 250 + 15 * some(schedule, 0) }],
        [{ pauseMs: 100 }],
        [{ pauseMs: 150 }],
      ]),
      clock: "stated",
      graceMs: 300,
      telling: { ...schedule.telling, drop: 1, late: 0, queueAlone: 0 },
      faults: [fault("kill", 200)],
      prompt: true,
    }),
  },
  /** The first in the queue leaves it in the moment in which the lock is offered to it. */
  crossings: {
    weathers: ["calm", "rough"],
    oneOf: 30,
    shownBy: "cancelled while it was offered the lock",
    change: (schedule) => ({
      ...staged(schedule, 0, [
        [{ holdMs: 200 }],
        [{ pauseMs: 50, abortAfterMs: 170 + some(schedule, 0) % 20 }],
        [{ pauseMs: 100 }],
      ]),
      modes: undefined,
      prompt: true,
    }),
  },
  /** A lease that is over before the store's answers come. */
  "short leases": {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "a lease too short for the store",
    change: (schedule) => {
      const short = staged(schedule, 0, [[{ leaseMs: 100, holdMs: 50 }], [{ pauseMs: 150, leaseMs: 2000 }]]);
      return {
        ...short,
        processes: short.processes.map((process) => ({ ...process, distance: { thereMs: 60, backMs: 90 } })),
      };
    },
  },
  /** Holds so brief that offers are taken without a confirmation, on whatever network and clocks there are. */
  "brief holds": {
    weathers: ["calm", "rough", "wild"],
    oneOf: 12,
    shownBy: "an offer adopted",
    change: (schedule) => {
      const brief = eachRound(schedule, (round) => ({
        key: 0,
        participant: 0,
        pauseMs: round.pauseMs % 20,
        holdMs: round.holdMs % 20 === 0 ? round.holdMs : round.holdMs % 4,
        wait: true,
        waitForMs: undefined,
        writes: round.holdMs % 2,
      }));
      return {
        ...brief,
        processes: brief.processes.map((process) => ({
          ...process,
          callers: process.callers.map((rounds) => [...rounds, ...rounds, ...rounds]),
        })),
      };
    },
  },
  /** All that have to do with a lock die. The store collects its record long before that of its queue. */
  "void queues": {
    weathers: ["rough"],
    oneOf: 50,
    shownBy: "a void queue swept",
    change: (schedule) => ({
      ...staged(schedule, 0, [[{ holdMs: 10_000 }], [{ pauseMs: 50 }], [{ pauseMs: 100 }]]),
      faults: [
        ...[0, 1, 2].map((process) => fault("kill", 500 + 8 * some(schedule, process), process)),
        ...some(schedule, 3) % 2 > 0 ? [fault("cleanup", 200_000)] : [],
      ],
    }),
  },
  /** Requests of several processes, each in a separate entry: some leave just when others join, or a process dies. */
  "own places": {
    weathers: ["calm", "rough"],
    oneOf: 25,
    shownBy: "an offer to one of several of its process",
    change: (schedule) => ({
      ...staged(
        schedule,
        0,
        Array.from({ length: 3 }, (_, process) =>
          Array.from({ length: 4 }, (_, i) => ({
            pauseMs: 7 * i + 2 * process + some(schedule, i),
            holdMs: process + i === 0 ? 300 : some(schedule, process + i) % 20,
            how: some(schedule, (process + i) % 4) % 8,
            abortAfterMs: (schedule.seed >>> (4 * process + i)) % 4 > 0 ? undefined : 280 + some(schedule, i),
          }))),
      ),
      own: "all",
      modes: schedule.seed % 2 > 0 ? "exclusive" : "shared",
    }),
  },
  /**
   * Locks are handed over where many answers are lost, and each claim is delivered twice; others wait for them. Of several
   * that go together one may be stolen on its way.
   */
  "lost claims": {
    weathers: ["rough", "wild"],
    oneOf: 25,
    shownBy: "a claim taken up",
    change: (schedule) => {
      const groups = (schedule.seed >>> 2) % 3 > 0;
      const isThief = (process: number, i: number) => groups && process + i === 3;
      return {
        ...staged(
          schedule,
          0,
          Array.from({ length: 3 }, (_, process) =>
            Array.from({ length: 2 }, (_, i) => ({
              pauseMs: 20 * process + some(schedule, i),
              holdMs: some(schedule, process),
              form: "acquire",
              how: some(schedule, process + i) % 16,
              key: isThief(process, i) ? 1 : 0,
              also: isThief(process, i) ? [] : [{ key: 1, how: some(schedule, process + i + 1) % 16 }],
              stealAfterMs: isThief(process, i) ? some(schedule, 1) : undefined,
              handOver: {
                leaseMs: 2000,
                transitMs: some(schedule, process + i) % (groups ? 32 : 9),
                to: process + 1,
                holdMs: some(schedule, 3),
                againMs: some(schedule, 4) % 16,
                abortAfterMs: some(schedule, process) % 4 > 0 ? undefined : some(schedule, i) % 16,
              },
            }))),
        ),
        claims: true,
        groups,
        network: { ...FAIR, push: schedule.network.push, loseAnswer: 0.2 },
        modes: (["exclusive", "shared", "limits", "any"] as const)[schedule.seed % 4],
      };
    },
  },
  /** A hold is stolen by another caller of its process, and a caller that hears of that cancels the last one there. */
  "thieves at home": {
    weathers: ["rough"],
    oneOf: 25,
    shownBy: "a listener aborted a waiter",
    change: (schedule) => {
      const home = eachRound(schedule, (round, i) =>
        i > 0 ? {} : {
          key: 0,
          participant: 0,
          wait: true,
          waitForMs: undefined,
          stealAfterMs: round.pauseMs % 200,
          holdMs: 200 + round.holdMs,
        });
      return {
        ...home,
        listeners: [{ event: "lost", process: 0, does: "abort" }],
        processes: home.processes.map((process, i) =>
          i > 0 ? process : { ...process, callers: [...process.callers, process.callers[0].slice(0, 1)] }
        ),
      };
    },
  },
};

const members = new WeakMap<Schedule, FamilyName>();

/** The families. What they make of a schedule is remembered as theirs. */
export const FAMILIES: readonly Family[] = Object.entries(TABLE).map(([name, family]) => ({
  ...family,
  change: (schedule) => {
    const member = family.change(schedule);
    members.set(member, name as FamilyName);
    return member;
  },
}));

/** The mark of the schedule's family, if it has one, and has shown what the family is for. */
export function markOfFamily(schedule: Schedule, marks: Marks): Mark | undefined {
  const name = members.get(schedule);
  return name !== undefined && marks[TABLE[name].shownBy] !== undefined ? `family: ${name}` : undefined;
}
