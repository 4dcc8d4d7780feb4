import { MemoryStore } from "../../backends/memory.ts";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../../core/backend.ts";
import { Bell } from "../../core/bell.ts";
import { LockBackendError } from "../../core/errors.ts";
import { decode } from "../../core/record/codec.ts";
import type { LockRecord } from "../../core/record/record.ts";
import type { SimProcess, World } from "./world.ts";

/** How the network between the processes and the store behaves. Shares are from 0 to 1. */
export interface Network {
  /** The usual time of one way, in milliseconds. */
  readonly delayMs: number;
  /** How many messages take ten times as long. */
  readonly slow: number;
  /** How many requests never arrive. */
  readonly loseRequest: number;
  /** How many answers never arrive, though the request did. */
  readonly loseAnswer: number;
  /** How many of the lost ones are told as a failure; the others stay silent. */
  readonly tellLoss: number;
  /** How many wake-ups come twice, the second time late and showing what was then. */
  readonly repeatWake: number;
  /** Whether a watch that asks for free news only gets any. */
  readonly push: boolean;
}

/** One applied commit, as the laws look at it. */
export interface Applied {
  readonly at: number;
  readonly process: SimProcess;
  readonly version: string;
  readonly before: LockRecord;
  readonly after: LockRecord;
}

/** A write to the data that the lock guards. */
export interface GuardedWrite {
  readonly base: number;
  readonly fence: string;
}

/** The one store that all processes share. */
export class SimStore {
  readonly records = new MemoryStore();
  readonly world: World;
  readonly network: Network;
  readonly random: () => number;
  readonly onApplied: (applied: Applied) => void;
  /** The watches that are open, and whose they are. */
  readonly watches = new Map<symbol, SimProcess>();
  /** What the lock guards: a counter, and the fencing token of its last writer. */
  value = 0;
  fence = "";

  constructor(world: World, network: Network, random: () => number, onApplied: (a: Applied) => void) {
    this.world = world;
    this.network = network;
    this.random = random;
    this.onApplied = onApplied;
  }

  commit(process: SimProcess, changes: readonly Change[]): CommitResult {
    const before = changes.map(({ key }) => this.records.get(key, this.world.now));
    const result = this.records.commit(changes, this.world.now);
    if (result.ok) {
      changes.forEach(({ key, value }, i) => {
        this.onApplied({
          at: this.world.now,
          process,
          version: result.version,
          before: decode(key, before[i].value),
          after: decode(key, value),
        });
      });
    }
    return result;
  }

  delay(): number {
    const { delayMs, slow } = this.network;
    const usual = delayMs * (0.5 + this.random());
    return this.random() < slow ? 10 * usual : usual;
  }

  /** A request and its answer, each of which may be late or lost. */
  ask<Answer>(process: SimProcess, apply: () => Answer): Promise<Answer> {
    const { loseRequest, loseAnswer, tellLoss } = this.network;
    const fate = this.random();
    const told = this.random() < tellLoss;
    return new Promise((resolve, reject) => {
      const fail = () => {
        if (!told) return;
        const lost = new LockBackendError("connection lost", { transient: true });
        this.world.schedule(this.delay(), () => process.deliver(() => reject(lost)));
      };
      if (fate < loseRequest) return fail();
      this.world.schedule(this.delay(), () => {
        const answer = apply();
        if (fate < loseRequest + loseAnswer) return fail();
        this.world.schedule(this.delay(), () => process.deliver(() => resolve(answer)));
      });
    });
  }
}

/** The store as one process sees it. */
export class SimBackend implements LockBackend {
  readonly graceMs: number;
  readonly skewMs: number;
  readonly #store: SimStore;
  readonly #process: SimProcess;

  constructor(store: SimStore, process: SimProcess, skewMs: number) {
    this.#store = store;
    this.#process = process;
    this.skewMs = skewMs;
    this.graceMs = 20 * store.network.delayMs;
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    const { records, world } = this.#store;
    return this.#store.ask(this.#process, () => keys.map((key) => records.get(key, world.now)));
  }

  commit(changes: readonly Change[]): Promise<CommitResult> {
    return this.#store.ask(this.#process, () => this.#store.commit(this.#process, changes));
  }

  /** The guarded write: in one atomic step with the proof that the lock's record is still `proof`. */
  commitGuarded(
    proof: Pick<Entry, "key" | "version">,
    write: GuardedWrite,
  ): Promise<"written" | "changed" | "stale"> {
    const store = this.#store;
    return store.ask(this.#process, () => {
      if (store.records.get(proof.key, store.world.now).version !== proof.version) return "changed";
      if (write.base !== store.value || write.fence < store.fence) return "stale";
      store.value++;
      store.fence = write.fence;
      return "written";
    });
  }

  readValue(): Promise<number> {
    return this.#store.ask(this.#process, () => this.#store.value);
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    const { records, world, network, watches } = this.#store;
    const watch = Symbol();
    const bell = new Bell();
    const arrived: Entry[] = [];
    const send = () => {
      const entry = records.get(key, world.now);
      const arrive = () => {
        if (signal.aborted) return;
        arrived.push(entry);
        bell.ring();
      };
      world.schedule(this.#store.delay(), () => this.#process.deliver(arrive));
      if (this.#store.random() < network.repeatWake) {
        world.schedule(20 * this.#store.delay(), () => this.#process.deliver(arrive));
      }
    };
    const stop = idle && !network.push ? () => {} : records.subscribe(key, send);
    const ended = () => {
      stop();
      watches.delete(watch);
      bell.ring();
    };
    watches.set(watch, this.#process);
    signal.addEventListener("abort", ended, { once: true });
    send();
    while (!signal.aborted) {
      await bell.sleep(this.#process.clock);
      while (arrived.length > 0 && !signal.aborted) yield arrived.shift()!;
    }
  }

  async *list(): AsyncIterable<Entry> {}

  now(): number {
    return this.#process.clock.wallMs();
  }
}
