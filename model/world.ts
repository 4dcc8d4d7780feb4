/**
 * One state of the model: a store that holds the two records of one lock, the processes that share it, what is under way
 * between them, and what may still go wrong. It is plain data, so that states can be compared; an action makes another one.
 */

import type { Entry } from "../core/backend.ts";
import type { Snapshot, Writes } from "../core/record/codec.ts";
import type { Claim, Grant, Remainder } from "../core/record/members.ts";
import type { Mode } from "../core/record/modes.ts";

/** The lock's name. */
export const KEY = "lock";
export const QUEUE_KEY = "lock#queue";
/** What the processes are called, and their tokens begin with; no token that no process owns begins so. */
export const NAMES = "xyz";
/** Where time begins: so large that times differ from all other numbers. */
export const EPOCH = 1_000_000_000;
/** The smallest step of time. It is longer than what passes between two actions, and shorter than a lease. */
export const TICK_MS = 50;
export const LEASE_MS = 100;
/** One that is first in the queue has this long; an offer runs for one and a half of it. */
export const GRACE_MS = 40;

/** A hold that has been handed over: what its claim says. */
export interface Handed {
  readonly token: string;
  readonly mode: Mode["mode"];
}

/** A request that has no outcome yet. */
export interface Request {
  readonly token: string;
  readonly kind: "waits" | "tries" | "steals" | "restores";
  readonly sinceMs: number;
  /** What it takes up. */
  readonly restores?: Handed;
}

/** A hold, as its process believes. */
export interface Hold {
  readonly token: string;
  readonly fence: string;
  /** Its lease counts from here, on the one true clock: a process knows its durations. */
  readonly fromMs: number;
  readonly forMs: number;
  readonly sinceMs: number;
  /** How the record says that it is held, as far as its process knows. */
  readonly mode: Mode["mode"];
  /** How its owner has it: what it was granted, or asked to be content with. */
  readonly settled: Mode["mode"];
  /** How its owner has asked to have it, until that is so or it is given up. */
  readonly change?: Mode["mode"];
  /** Once it is handed over: what stays of it for the process that takes it up. */
  readonly remainder?: Remainder;
}

/** A commit on its way, and what its process does once it is answered. */
export interface Flight {
  readonly by: string;
  readonly snapshot: Snapshot;
  readonly writes: Writes;
  readonly grants: readonly Grant[];
  readonly atMs: number;
  /** Once it has come to the store: whether it was applied, and as which version. */
  readonly answer?: { readonly version: string | null };
}

/** Since when a process has seen what. */
export interface Sighting {
  readonly sinceMs: number;
  readonly renewals: number;
  readonly renewedMs: number;
}

/** One process, as far as it has to do with the lock. */
export interface Process {
  readonly name: string;
  readonly alive: boolean;
  /** How often it may still ask. */
  readonly asks: number;
  readonly requests: readonly Request[];
  readonly holds: readonly Hold[];
  readonly departures: readonly Hold[];
  /** The claims that it has given out: every process may know them from then on. */
  readonly given: readonly Handed[];
  /** How many tokens it has made. */
  readonly tokens: number;
  readonly entryToken?: string;
  readonly takenFence?: string;
  readonly queuedIn?: string;
  /** Who was queued when it looked first. */
  readonly ahead?: readonly string[];
  /** The records as it has seen them last. */
  readonly seen?: Snapshot;
  readonly sightings: Readonly<Record<string, Sighting>>;
  readonly notices: Readonly<Record<string, number>>;
  readonly free?: { readonly version: string | null; readonly sinceMs: number; readonly isNew: boolean };
  readonly flight?: Flight;
  readonly conflicts: number;
  /** Until when it looks for what it may have left in the store without knowing of it: for a lease. */
  readonly footprintMs?: number;
  /** Whether it has never looked: it may then bet on a free lock. */
  readonly isFresh: boolean;
}

/** What may still go wrong, and how often. */
export interface Budget {
  readonly ticks: number;
  readonly crashes: number;
  /** Answers that are lost: the commit may land before, later or never. */
  readonly losses: number;
  readonly cancels: number;
  /** What operators do: a cleanup, or an eviction. */
  readonly sweeps: number;
  readonly forces: number;
  /** How often a holder asks for another mode, and how often it hands its hold over. */
  readonly changes: number;
  readonly handOvers: number;
}

export interface World {
  readonly now: number;
  readonly lock: Entry;
  readonly queue: Entry;
  readonly version: number;
  readonly processes: readonly Process[];
  /** Commits that no process waits for any more, and that may still land. */
  readonly ghosts: readonly Flight[];
  readonly budget: Budget;
  /** When, by the one true clock, the lease of each hold in the record is over, by token. */
  readonly ends: Readonly<Record<string, number>>;
  /** What came to the store when no process looked for it any more: it lapses, or is passed, in its time. */
  readonly strays: readonly string[];
  /** Holds that were taken from their owners, which may not know it yet. */
  readonly evicted: readonly string[];
  /** The highest fencing token that was ever granted. */
  readonly highest: string;
  /** Since when it has no holder; `null` while it has one. */
  readonly freeMs: number | null;
}

/** How a model is set up: how many take part, what they ask for, what they know of time, and what goes wrong. */
export interface Setup {
  readonly title: string;
  /** By how much the clock of each process is wrong. */
  readonly offsets: readonly number[];
  readonly skewMs: number;
  /** How each of them asks, first to last. */
  readonly kinds: readonly (readonly Request["kind"][])[];
  readonly how: Pick<Claim, "mode" | "limit">;
  /** The mode in which each of them asks, where that is not the same for all. */
  readonly modes?: readonly Mode["mode"][];
  readonly budget: Budget;
  /** To how many actions it is followed in CI. */
  readonly slice: number;
}

const NOTHING = { value: null, version: null } as const;

/** Where it begins: nothing is stored, no process has asked. */
export function beginning({ kinds, budget }: Setup): World {
  return {
    now: EPOCH,
    lock: { key: KEY, ...NOTHING },
    queue: { key: QUEUE_KEY, ...NOTHING },
    version: 0,
    processes: kinds.map((those, i) => ({
      name: NAMES[i],
      alive: true,
      asks: those.length,
      requests: [],
      holds: [],
      departures: [],
      given: [],
      tokens: 0,
      sightings: {},
      notices: {},
      conflicts: 0,
      isFresh: true,
    })),
    ghosts: [],
    budget,
    ends: {},
    strays: [],
    evicted: [],
    highest: "",
    freeMs: EPOCH,
  };
}

/** A version, as a store writes it: later ones are greater, as text. */
export function versionOf(count: number): string {
  return `v${String(count).padStart(5, "0")}`;
}
