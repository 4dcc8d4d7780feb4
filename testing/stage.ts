import { strict as assert } from "node:assert";
import { setTimeout } from "node:timers/promises";
import type { Entry, LockBackend } from "../core/backend.ts";
import { queueKeyOf } from "../core/identifier.ts";
import { lockIn, queueIn } from "../core/record/codec.ts";
import type { LockRecord, QueueEntry } from "../core/record/record.ts";
import {
  Lock,
  lock,
  type LockForms,
  type LockLostError,
  type LockOptions,
  type LockTargets,
} from "../mod.ts";
import { freeze, Probe } from "./probe.ts";

/** One connection to the store under test. */
export interface TestPeer {
  /** A separate backend, as another process would make it. */
  readonly backend: LockBackend;
  /** Ends the connection. Called once, after the test. */
  close(): void | Promise<void>;
}

/** The cases of one file, by name. */
export type Cases = Readonly<Record<string, (stage: Stage) => Promise<void>>>;

/** For how long calls and watches may go on after a case before they count as left behind. */
const LEFT_BEHIND_MS = 3000;

/** What one case plays on: two processes, `a` and `b`, on one store, and an identifier that is new. */
export class Stage {
  /** Names the lock of this case, or is the beginning of its keys. */
  readonly id: string = `holdfast-test:${crypto.randomUUID()}`;
  /** Two processes. */
  readonly a: Probe;
  readonly b: Probe;
  /** The store itself, which is neither counted nor broken. */
  readonly store: LockBackend;
  /** By what every time of a case is multiplied. */
  readonly #stretch: number;
  readonly #peers: readonly TestPeer[];
  readonly #probes: Probe[] = [];
  readonly #holds = new Set<Lock>();
  readonly #over = new AbortController();

  /** How the cases hold their locks, unless they say so themselves. */
  readonly #how: LockOptions;

  constructor(
    [first, second]: readonly [TestPeer, TestPeer],
    { stretch, how = {} }: { readonly stretch: number; readonly how?: LockOptions },
  ) {
    this.#stretch = stretch;
    this.#how = how;
    this.#peers = [first, second];
    this.store = second.backend;
    this.a = this.another();
    this.b = this.another();
  }

  /** One more process on the same store. */
  another(): Probe {
    const probe = new Probe(this.#peers[this.#probes.length % this.#peers.length].backend);
    this.#probes.push(probe);
    return probe;
  }

  /** Another identifier of this case. */
  idOf(name: string): string {
    return `${this.id}:${name}`;
  }

  /** The lock of this case as `peer` sees it; those of these identifiers instead, if they are given. */
  lock(
    peer: LockBackend,
    options: LockOptions = {},
    identifier: LockTargets = this.id,
  ): LockForms<LockOptions> {
    const forms = lock(identifier, { signal: this.#over.signal, ...this.#stretched(options), backend: peer });
    const { run, acquire } = forms;
    return Object.assign(forms, {
      run: <Result>(fn: (held: Lock) => Result) => this.#whileOn(run(fn)),
      acquire: () => this.#whileOn(acquire()),
    });
  }

  /** Acquires the lock of this case. */
  async acquire(
    peer: LockBackend,
    options?: LockOptions,
    identifier?: LockTargets,
  ): Promise<Lock> {
    return this.#kept(await this.lock(peer, options, identifier).acquire());
  }

  /** Asks for the lock of this case without waiting. */
  async tryAcquire(
    peer: LockBackend,
    options: LockOptions = {},
    identifier: LockTargets = this.id,
  ): Promise<Lock | null> {
    const held = await Lock.acquire(identifier, { wait: false, ...this.#stretched(options), backend: peer });
    return held && this.#kept(held);
  }

  /** Takes up a lock of this case that was handed over. */
  async restore(peer: LockBackend, claim: string): Promise<Lock | null> {
    const held = await Lock.restore(claim, { backend: peer });
    return held && this.#kept(held);
  }

  /** A time of the case as it is on this store. */
  ms(ms: number): number {
    return this.#stretch * ms;
  }

  /** Gives what is under way `ms` to happen, for cases which show that it does not. */
  async leave(ms: number): Promise<void> {
    await setTimeout(this.ms(ms));
  }

  /** Stands still for `ms`: no timer, no answer, nothing. */
  freeze(ms: number): void {
    freeze(this.ms(ms));
  }

  /** The entry that the store holds now. */
  async entry(key: string = this.id): Promise<Entry> {
    const [entry] = await this.store.read([key]);
    return entry;
  }

  /** The record of this case's lock; `null` if there is none. */
  async record(key: string = this.id): Promise<LockRecord | null> {
    return recordOf(await this.entry(key));
  }

  /** Watches the store until the record of this case's lock is as it should be. */
  async until(is: (record: LockRecord | null) => boolean, key: string = this.id): Promise<void> {
    const found = new AbortController();
    const signal = AbortSignal.any([found.signal, this.#over.signal]);
    try {
      for await (const entry of this.store.watch(key, { signal })) {
        if (is(recordOf(entry))) return;
      }
    } finally {
      found.abort();
    }
    throw new Error("the watch has ended");
  }

  /** Until the store holds nothing of this case's lock. */
  untilGone(key?: string): Promise<void> {
    return this.until((record) => record === null, key);
  }

  /** The processes that are queued, first come first. */
  async queued(key: string = this.id): Promise<readonly QueueEntry[]> {
    const [lock, queue] = await this.store.read([key, queueKeyOf(key)]);
    const { record } = queueIn(queue);
    return record.id === lockIn(lock).record.queue ? record.entries : [];
  }

  /** Until this many processes are queued. */
  async untilWaiting(count: number, key: string = this.id): Promise<void> {
    const found = new AbortController();
    const signal = AbortSignal.any([found.signal, this.#over.signal]);
    try {
      for await (const _ of this.store.watch(queueKeyOf(key), { signal })) {
        if ((await this.queued(key)).length === count) return;
      }
    } finally {
      found.abort();
    }
    throw new Error("the watch has ended");
  }

  /** Cleans up, and fails if a process has left something running. */
  async close(): Promise<void> {
    this.#over.abort();
    for (const probe of this.#probes) probe.end();
    await Promise.allSettled([...this.#holds].map((held) => held.release()));
    const idle = await Promise.all(this.#probes.map((probe) => probe.idle(LEFT_BEHIND_MS)));
    for await (const { key, version } of this.store.list(this.id)) {
      await this.store.commit([{ key, version, value: null }]);
    }
    for (const peer of this.#peers) await peer.close();
    assert.ok(idle.every(Boolean), "calls or watches were left behind");
  }

  /** A waiter that is left when the case is over, because it went wrong, must not disturb the next one. */
  #whileOn<Result>(outcome: Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      outcome.then(resolve, (error) => {
        if (!this.#over.signal.aborted) reject(error);
      });
    });
  }

  #stretched(options: LockOptions): LockOptions {
    const stretched = { ...this.#how, ...options } as LockOptions;
    for (const name of ["leaseMs", "waitForMs", "stealAfterMs", "holdAtLeastMs"] as const) {
      if (options[name] !== undefined) stretched[name] = this.ms(options[name]);
    }
    return stretched;
  }

  #kept(held: Lock): Lock {
    this.#holds.add(held);
    return held;
  }
}

function recordOf(entry: Entry): LockRecord | null {
  return entry.value === null ? null : lockIn(entry).record;
}

/** The news that a lock was lost. */
export async function lossOf(held: Lock): Promise<LockLostError> {
  const { signal } = held;
  if (!signal.aborted) {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }
  return signal.reason;
}

/** What a promise came to: its value, or its error. */
export async function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.catch((error) => error);
}
