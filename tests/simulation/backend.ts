import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../../core/backend.ts";
import { Bell } from "../../core/bell.ts";
import { LockBackendError } from "../../core/errors.ts";
import type { Timekeeper } from "./clocks.ts";
import type { Distance, SimNetwork } from "./network.ts";
import type { SimProcess } from "./process.ts";
import type { GuardedWrite, Request, SimStore } from "./store.ts";

/** What a backend is made of. */
export interface BackendParts {
  readonly store: SimStore;
  readonly network: SimNetwork;
  readonly process: SimProcess;
  readonly time: Timekeeper;
  readonly distance: Distance;
  readonly graceMs: number;
  readonly onSent?: (request: Request) => void;
  /** What was written by a clock that was behind is refused when the answer tells. */
  readonly onWrongClock?: () => void;
  readonly onWatch?: (backend: SimBackend, key: string, how: "opened" | "failed") => void;
}

/** The store as one participant sees it. */
export class SimBackend implements LockBackend {
  readonly name = "the simulated store";
  readonly graceMs: number;
  readonly parts: BackendParts;
  /** Its watches that are open. */
  watches = 0;

  constructor(parts: BackendParts) {
    this.parts = parts;
    this.graceMs = parts.graceMs;
  }

  get skewMs(): number {
    return this.parts.time.skewMs;
  }

  now(): number {
    return this.parts.time.now();
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    const { store } = this.parts;
    return this.#ask(() => keys.map((key) => store.get(key)));
  }

  commit(changes: readonly Change[]): Promise<CommitResult> {
    const { store, network, process, time, onSent } = this.parts;
    const request: Request = {
      process,
      madeMs: process.world.now,
      sentMs: process.now,
      changes,
      answer: "due",
      applied: 0,
    };
    const wrote = changes.some(({ value }) => value !== null);
    // As Redis's scripts: what replaces or deletes a record may have judged another's lease.
    const senderMs = changes.every(({ version }) => version !== null) ? time.senderMs() : undefined;
    onSent?.(request);
    const refused = network.chance(network.state.refuse);
    return this.#ask<CommitResult>(
      () => refused ? { ok: false } : store.commit(request, senderMs),
      { request, wrote },
    );
  }

  /** The guarded write, in one atomic step with its proof. */
  commitGuarded(
    proof: Pick<Entry, "key" | "version">,
    write: GuardedWrite,
  ): Promise<"written" | "changed" | "stale"> {
    return this.#ask(() => this.parts.store.commitGuarded(proof, write));
  }

  readValue(key: string): Promise<number> {
    return this.#ask(() => this.parts.store.value(key));
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    const { store, network, process, distance, onWatch } = this.parts;
    const { state: { failWatch, endWatch, silentWatch, push } } = network;
    const fate = network.random();
    const bell = new Bell();
    const arrived: Entry[] = [];
    let failure: Error | undefined;
    let ended = false;
    const end = (error?: Error) =>
      process.deliver(() => {
        failure = error;
        ended = true;
        bell.ring();
      });
    const fail = () => end(new LockBackendError("the watch broke", { transient: true }));
    const send = () => {
      if (signal.aborted || ended) return;
      if (network.chance(failWatch)) return fail();
      if (network.chance(endWatch)) return end();
      if (fate < silentWatch) return;
      const entry = store.get(key);
      const arrive = () =>
        process.deliver(() => {
          arrived.push(entry);
          bell.ring();
        });
      network.world.schedule(network.delay(distance.backMs), arrive);
      if (network.chance(network.state.repeatWake)) {
        network.world.schedule(20 * network.delay(distance.backMs), arrive);
      }
    };
    let stop = () => {};
    const open = () => {
      if (signal.aborted) return;
      if (!idle || push) stop = store.subscribe(key, send);
      send();
    };
    const close = () => {
      stop();
      bell.ring();
    };
    this.watches++;
    network.watches.add(fail);
    onWatch?.(this, key, "opened");
    signal.addEventListener("abort", close, { once: true });
    process.act(() => network.world.schedule(network.delay(distance.thereMs), open));
    try {
      while (!signal.aborted) {
        await bell.sleep(process.clock);
        while (arrived.length > 0 && !signal.aborted) yield arrived.shift()!;
        if (!ended || signal.aborted) continue;
        onWatch?.(this, key, "failed");
        if (failure !== undefined) throw failure;
        return;
      }
    } finally {
      stop();
      this.watches--;
      network.watches.delete(fail);
      signal.removeEventListener("abort", close);
    }
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    const keys = await this.#ask(() => this.parts.store.keys(prefix));
    for (const key of keys) {
      const [entry] = await this.read([key]);
      if (entry.value !== null) yield entry;
    }
  }

  #ask<Answer>(
    apply: () => Answer,
    { request, wrote = false }: { readonly request?: Request; readonly wrote?: boolean } = {},
  ): Promise<Answer> {
    const { store, network, process, time, distance, onWrongClock } = this.parts;
    const told = time.sending();
    // One that failed, or was never applied, tells no time.
    return network.ask(process, distance, () => ({ answer: apply(), storeMs: store.clockMs }), {
      heard: ({ answer, storeMs }) => {
        if (request !== undefined) {
          request.answer = (answer as CommitResult).ok ? "came" : "refused";
          request.cameMs = process.now;
        }
        try {
          told(storeMs, wrote && (answer as CommitResult).ok === true);
        } catch (error) {
          if (request !== undefined) request.answer = "lost";
          onWrongClock?.();
          throw error;
        }
      },
      lost: () => {
        if (request !== undefined && request.answer === "due") request.answer = "lost";
      },
    }).then(({ answer }) => answer);
  }
}
