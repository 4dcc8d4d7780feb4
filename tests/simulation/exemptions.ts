import type { Schedule, Weather } from "./schedule.ts";

/** What is judged of a run. */
export type Rule =
  /** Law 1: no two live holders, and no process takes the hold of one that believes in it. */
  | "exclusive"
  /** Law 3: versions rise, and so do fencing tokens. */
  | "fences rise"
  /** Law 4: a holder that was evicted does not hear that it released. */
  | "evicted hear of it"
  /** Law 6: a process that is done has left nothing in the record. */
  | "nothing left"
  /** Law 5: no process overtakes a live waiter before its grace is over, and a claim that is in time is honoured. */
  | "order";

/** A promise that is not made under certain faults, and why. */
export interface Exemption {
  readonly rules: readonly Rule[];
  readonly why: string;
  readonly when: (schedule: Schedule, weather: Weather) => boolean;
}

const has = ({ faults }: Schedule, ...kinds: string[]) => faults.some(({ kind }) => kinds.includes(kind));
const stands = ({ processes }: Schedule, kind: string) =>
  processes.some(({ stall: { share, kinds } }) => share > 0 && (kinds as readonly string[]).includes(kind));

/** Every promise that is not asked for, with the faults under which. All others hold in every weather. */
export const EXEMPTIONS: readonly Exemption[] = [
  {
    rules: ["exclusive", "order", "evicted hear of it"],
    why:
      "the bound is the machines' to keep: clocks that differ by more judge each other wrong (README, guarantees)",
    when: ({ clock }, weather) => weather === "wild" && clock === "stated",
  },
  {
    rules: ["exclusive", "order", "evicted hear of it"],
    why: "a process both of whose clocks stood still cannot know that time has passed",
    when: (schedule) => has(schedule, "pause") || stands(schedule, "pause"),
  },
  {
    rules: ["exclusive", "order", "evicted hear of it"],
    why: "the same, if the one clock stood still while its machine slept, and the other was set back",
    when: (schedule, weather) =>
      (weather === "wild" || schedule.clock !== "stated") && has(schedule, "step") &&
      (has(schedule, "suspend") || stands(schedule, "suspend")),
  },
  {
    rules: ["exclusive", "order", "evicted hear of it", "fences rise"],
    why: "a store whose clock steps lets leases seem to have lapsed (docs/redis.md)",
    when: (schedule) => ["redis", "datastore"].includes(schedule.clock) && has(schedule, "step of the store"),
  },
  {
    rules: ["fences rise"],
    why: "versions are the store's time: one that forgets them and whose clock is set back tells them again",
    when: (schedule) => schedule.store.forgets && has(schedule, "step of the store"),
  },
  {
    rules: ["exclusive", "order", "evicted hear of it"],
    why: "a store that forgets a grant it has acknowledged grants the lock again",
    when: (schedule) => schedule.store.forgets && has(schedule, "restart"),
  },
  {
    rules: ["order"],
    why:
      "a server's clock is kept by the monotonic one, which stands still while a machine sleeps: since when a lock " +
      "is free may be off in the first write after that, and the order is advice",
    when: (schedule) =>
      ["redis", "datastore"].includes(schedule.clock) &&
      (has(schedule, "suspend") || stands(schedule, "suspend")),
  },
  {
    rules: ["nothing left"],
    why: "what a store forgets to have taken away comes back",
    when: ({ store, faults }) => store.forgets && faults.some(({ kind }) => kind === "restart"),
  },
];

/** What is asked of a run. */
export function ruled(schedule: Schedule, weather: Weather): (rule: Rule) => boolean {
  const exempt = new Set(
    EXEMPTIONS.filter(({ when }) => when(schedule, weather)).flatMap(({ rules }) => rules),
  );
  return (rule) => !exempt.has(rule);
}
