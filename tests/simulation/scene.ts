/** A few processes on one simulated store, in virtual time, for tests that follow one story. */

import type { CommitResult } from "../../core/backend.ts";
import { lock } from "../../core/forms.ts";
import type { Hold } from "../../core/hold.ts";
import { holdOf } from "../../core/lock.ts";
import type { LockOptions } from "../../core/options.ts";
import { type Participant, participantOf } from "../../core/participant.ts";
import { lockIn } from "../../core/record/codec.ts";
import type { LockRecord, QueueEntry } from "../../core/record/record.ts";
import { SimBackend } from "./backend.ts";
import { type ClockKind, timekeeper } from "./clocks.ts";
import { FAIR, SimNetwork } from "./network.ts";
import { SimProcess } from "./process.ts";
import type { Telling } from "./schedule.ts";
import { SimStore } from "./store.ts";
import { World } from "./world.ts";

/** The lock of the story. */
export const KEY = "job";
/** How long a story may take, in virtual time. */
const LIMIT_MS = 1_000_000;

/** One process of a story. */
export interface Player {
  readonly process: SimProcess;
  readonly backend: SimBackend;
  readonly participant: Participant;
  /** How far it is from the store; may be changed at any time. */
  readonly distance: { thereMs: number; backMs: number };
  acquire(options?: LockOptions): Promise<Hold>;
}

/** What happens to a commit on its way; `apply` hands it to the store. */
type Fate = (apply: () => Promise<CommitResult>) => Promise<CommitResult>;

/** The store, and the processes that come to it. */
export class Scene {
  readonly world: World = new World();
  readonly #store = new SimStore(this.world, { rate: 1 }, () => {});
  readonly #network: SimNetwork;

  /** With `random`, messages take more or less time than usual. */
  constructor({ random = () => 0.5 }: { readonly random?: () => number } = {}) {
    this.#network = new SimNetwork(this.world, FAIR, random);
  }

  /** One more process. */
  enter(
    { clock = "stated", skewMs = 0, graceMs = 800, telling }: {
      readonly clock?: ClockKind;
      readonly skewMs?: number;
      readonly graceMs?: number;
      readonly telling?: Telling;
    } = {},
  ): Player {
    const process = new SimProcess(this.world, { name: "a process" });
    const time = timekeeper(clock, process, skewMs);
    const distance = { thereMs: 1, backMs: 1 };
    const parts = { store: this.#store, network: this.#network, process, time, distance, graceMs, telling };
    const backend = new SimBackend(parts);
    const participant = participantOf(backend, process.clock);
    const acquire = async (options: LockOptions = {}) =>
      holdOf(await lock(KEY, { backend, ...options }).acquire());
    return { process, backend, participant, distance, acquire };
  }

  /** The lock's record, without asking any process. */
  get record(): LockRecord {
    return this.#store.recordsOf(KEY).lock;
  }

  /** How many are queued. */
  get queued(): number {
    return this.queue.length;
  }

  /** Which processes are queued. */
  get queue(): readonly QueueEntry[] {
    return this.#store.recordsOf(KEY).entries;
  }

  /** The record's version. */
  get version(): string | null {
    return lockIn(this.#store.get(KEY)).version;
  }

  /** A version that comes after all that there have been. */
  get nextVersion(): string {
    return this.#store.nextVersion;
  }

  /** Plays the story to its end. */
  async play(story: () => Promise<void>): Promise<void> {
    const over = new Error("the story is over");
    let isOver = false;
    const told = story().finally(() => isOver = true);
    told.catch(() => {});
    const stopIfOver = () => {
      if (isOver) throw over;
    };
    await this.world.run(LIMIT_MS, stopIfOver).catch((error) => {
      if (error !== over) throw error;
    });
    if (!isOver) throw new Error("the story does not end");
    await told;
  }
}

/** Says what happens to the next commits of a process, one fate each. */
export function fate({ backend }: Player, ...fates: Fate[]): void {
  const commit = backend.commit.bind(backend);
  backend.commit = (changes) => {
    const apply = () => commit(changes);
    const next = fates.shift();
    return next === undefined ? apply() : next(apply);
  };
}
