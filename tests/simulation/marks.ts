import type { Weather } from "./schedule.ts";

const CROWD = ["crowd"] as const;
const ROUGH = ["rough"] as const;
const WILD = ["wild"] as const;
const FAULTY = ["rough", "wild"] as const;
const EVERY = ["calm", "rough", "wild"] as const;

/**
 * What happens sometimes, and must: the weathers in which a campaign of usual size has to come by. All of it is seen
 * from outside, in the store, on the diagnostics channels and at the clocks, whatever the core is made of. A family has
 * been played when one of its schedules came to what the family is for.
 */
export const MARKS = {
  "a lock granted": EVERY,
  "a guarded write accepted": EVERY,
  "a guarded write refused": FAULTY,
  "kept after its release": EVERY,
  "what was kept is over": EVERY,
  "handed over by a claim": EVERY,
  "a claim taken up": EVERY,
  "a claim of a reader, or of some permits, taken up": EVERY,
  "a claim that was delivered twice found nothing": EVERY,
  "a claim that came too late found nothing": FAULTY,
  "a claim lapsed, and another got the lock": FAULTY,
  "a claim was evicted": FAULTY,
  "handed over, and the answer was lost": ROUGH,
  "taken up by a commit whose answer was lost": ROUGH,
  "cancelled while it was taken up": FAULTY,
  "a lease extended by hand": EVERY,
  "a lease extended too late": FAULTY,
  "warned: a renewal is late": FAULTY,
  "handed on by its release": EVERY,
  "passed on within a turn": EVERY,
  "handed on to another process": EVERY,
  "an offer adopted": EVERY,
  "an offer confirmed first": EVERY,
  "an offer passed on": FAULTY,
  // Too rare to be expected: two of 3 000.
  "offered to a process that had just left the queue": [],
  "forged news of an offer": FAULTY,
  "forged news of the queue": FAULTY,
  "not told of what did not concern it": EVERY,
  "told late of what did not concern it": EVERY,
  "told of the queue": EVERY,
  "told once more of the queue as it was": EVERY,
  "refused, and told of both records": EVERY,
  "refused by its own echo": FAULTY,
  "an offer lapsed: its process is dead": FAULTY,
  "an offer lapsed: its process slept": ROUGH,
  "a dead holder passed promptly": ROUGH,
  "cancelled while it was offered the lock": EVERY,
  "an offer that left the queue out": FAULTY,
  "a dead first in the queue passed within two graces": ["rough"],
  "a grant that nobody wanted any more was withdrawn": FAULTY,
  "a lease too short for the store": ["rough"],
  "a void queue swept": ["rough"],
  "granted by a commit whose answer was lost": FAULTY,
  "granted unknown to its process, and stolen meanwhile": FAULTY,
  "lease over when the answer came": FAULTY,
  "cancelled while it was joining the queue": EVERY,
  "cancelled while it was granted": EVERY,
  "released, and the answer was lost": FAULTY,
  "a ghost: a grant that landed when its acquisition was over": FAULTY,
  "a ghost: a grant that landed when the same had been granted and released": FAULTY,
  "several hold a lock together": EVERY,
  "several granted by one commit": EVERY,
  "as many permits as there may be": EVERY,
  "a reader became the only one": EVERY,
  "an upgrade waited for others": EVERY,
  "an upgrade refused, as another waited for the same": ROUGH,
  "an upgrade given up": ROUGH,
  // Too rare to be expected: one, none and none of 2 500. The conformance suite has them.
  "an upgrade that nobody wanted any more was taken back": [],
  "the only one became a reader": EVERY,
  "a change of mode whose answer was lost": [],
  "one that waited to be the only one has died": [],
  "several locks granted together": EVERY,
  "several locks granted, and the answer was lost": FAULTY,
  "several locks in different modes": EVERY,
  "queued for several locks": EVERY,
  "queued for several locks a second time": WILD,
  "one that waits for several said that it lives": FAULTY,
  "a dead one that waited for several was passed": ROUGH,
  "several locks kept after their release": EVERY,
  "several locks handed over together": EVERY,
  "several locks handed over, and the answer was lost": ROUGH,
  "a claim of several locks taken up": EVERY,
  "several locks taken up by a commit whose answer was lost": ROUGH,
  "a claim of several locks that was delivered twice found nothing": EVERY,
  "a claim of several locks that came too late found nothing": FAULTY,
  "a claim of several locks found that one of them was taken away": FAULTY,
  "a claim of several locks lapsed, and another got one of them": FAULTY,
  "several locks granted by stealing": FAULTY,
  "several locks that are not renewed lapsed": FAULTY,
  "a lease of several locks extended by hand": EVERY,
  "a change of mode of several locks refused": EVERY,
  "let through under its own hold": EVERY,
  "refused, for it would wait for itself": EVERY,
  "cancelled while several were granted": FAULTY,
  "one of several locks was taken away": FAULTY,
  "several of one process in the queue": EVERY,
  "granted in an entry of its own": EVERY,
  "an offer to one of several of its process": EVERY,
  "one went before the queue": FAULTY,
  "lost: expired": FAULTY,
  "lost: stolen": FAULTY,
  "lost: forced": FAULTY,
  "a live waiter overtaken after its grace": FAULTY,
  "a dead waiter passed": ROUGH,
  "cleanup removed a record": FAULTY,
  "cleanup evicted a holder": FAULTY,
  "a queue of 64": CROWD,
  "refused by the store's clock": WILD,
  "a grant by a clock that was behind": WILD,
  "too large for the store": FAULTY,
  "no record: refused": FAULTY,
  "no permission: refused": FAULTY,
  "stood still in a clock read while claiming": FAULTY,
  "stood still in a clock read while renewing": FAULTY,
  "stood still in a clock read while releasing": FAULTY,
  "a watch failed and was opened again": FAULTY,
  "the store forgot": ROUGH,
  "the store restarted": FAULTY,
  "a caller threw": FAULTY,
  "a caller never ended": FAULTY,
  "a listener threw": FAULTY,
  "a listener aborted a waiter": FAULTY,
  "two participants of a process wanted one lock": EVERY,
  "a hold of a long identifier": EVERY,
  "a waiter waited when the faults ended": FAULTY,
  "family: ghosts": WILD,
  "family: ghosts of sleepers": WILD,
  "family: late answers": ROUGH,
  "family: wrong time": ROUGH,
  "family: late cleanups": WILD,
  "family: late places": ROUGH,
  "family: leaving thieves": ROUGH,
  "family: lost claims": FAULTY,
  "family: thieves at home": ROUGH,
  "family: dead first": ROUGH,
  "family: restless queues": ROUGH,
  "family: sleepers": ROUGH,
  "family: left turns": ROUGH,
  "family: crossings": ROUGH,
  "family: short leases": ROUGH,
  "family: brief holds": ROUGH,
  "family: void queues": ROUGH,
  "family: own places": ["calm", "rough"],
} satisfies Record<string, readonly (Weather | "crowd")[]>;

/** The name of a mark. */
export type Mark = keyof typeof MARKS;

/** The name of a family. */
export type FamilyName = FamilyMark<Mark>;
type FamilyMark<M> = M extends `family: ${infer Name}` ? Name : never;

/** How often each mark was reached. */
export type Marks = Partial<Record<Mark, number>>;

/** The marks that a campaign in this weather should have reached, and has not. */
export function missing(marks: Marks, weather: Weather | "crowd"): Mark[] {
  return (Object.keys(MARKS) as Mark[]).filter((mark) =>
    (MARKS[mark] as readonly string[]).includes(weather) && marks[mark] === undefined
  );
}
