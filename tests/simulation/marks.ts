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
  "handed on by its release": EVERY,
  "handed on to another process": EVERY,
  "granted by a commit whose answer was lost": FAULTY,
  "granted unknown to its process, and stolen meanwhile": FAULTY,
  "lease over when the answer came": FAULTY,
  "cancelled while it was joining the queue": EVERY,
  "cancelled while it was granted": EVERY,
  "released, and the answer was lost": FAULTY,
  "a ghost: a grant that landed when its acquisition was over": FAULTY,
  "a ghost: a grant that landed when the same had been granted and released": FAULTY,
  "lost: expired": FAULTY,
  "lost: stolen": FAULTY,
  "lost: forced": FAULTY,
  "a live waiter overtaken after its grace": FAULTY,
  "a dead waiter passed": FAULTY,
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
  "the store forgot": FAULTY,
  "the store restarted": FAULTY,
  "a caller threw": FAULTY,
  "a caller never ended": FAULTY,
  "a listener threw": FAULTY,
  "a listener aborted a waiter": FAULTY,
  "two participants of a process wanted one lock": EVERY,
  "a hold of a long identifier": EVERY,
  "a waiter waited when the faults ended": FAULTY,
  "family: ghosts": WILD,
  "family: late answers": ROUGH,
  "family: late cleanups": WILD,
  "family: late places": ROUGH,
  "family: leaving thieves": ROUGH,
  "family: thieves at home": ROUGH,
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
