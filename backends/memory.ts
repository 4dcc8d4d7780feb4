/**
 * A backend that keeps locks in the memory of one thread: for tests, and for code that runs in one thread of one
 * process only.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * let busy = 0;
 * await Promise.all([1, 2, 3].map(() =>
 *   lock("job", { backend }).run(() => {
 *     assertEquals(++busy, 1);
 *     busy--;
 *   })
 * ));
 * ```
 *
 * @module
 */

import { onAbort } from "../core/abort.ts";
import { brand } from "../core/brand.ts";
import { Notify } from "../core/notify.ts";
import { type Clock, systemClock, timeOriginMs } from "../core/clock.ts";
import { participantOf } from "../core/participant.ts";
import { describe, ownOptions } from "../core/validate.ts";
import { Closing } from "./closing.ts";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../core/backend.ts";

interface Stored {
  readonly value: string;
  readonly version: string;
  readonly expiresAt: number;
}

/** What an entry says where there is none. */
const NOTHING = { value: null, version: null };

/** The memory that several memory backends share, as processes share a database. */
export class MemoryStore {
  static {
    brand(this, "MemoryStore/1");
  }

  readonly #records = new Map<string, Stored>();
  readonly #watchers = new Map<string, Set<() => void>>();
  #commits = 0;

  /**
   * The entry of `key` at the time `now`.
   *
   * @param key The key.
   * @param now The time, in milliseconds.
   * @returns The entry, with `null` in it if there is no record.
   */
  get(key: string, now: number): Entry {
    const { value, version } = this.#current(key, now) ?? NOTHING;
    return { key, value, version };
  }

  /** What is stored under `key`, unless it has expired. */
  #current(key: string, now: number): Stored | undefined {
    const stored = this.#records.get(key);
    if (stored === undefined || stored.expiresAt > now) return stored;
    this.#records.delete(key);
    return undefined;
  }

  /**
   * Applies all changes or none.
   *
   * @param changes The changes.
   * @param now The time, in milliseconds.
   * @returns Whether they are applied.
   */
  commit(changes: readonly Change[], now: number): CommitResult {
    for (const { key, version } of changes) {
      const found = this.#current(key, now) ?? NOTHING;
      if (found.version !== version) {
        return {
          ok: false,
          entries: changes.map(({ key }) => this.get(key, now)),
        };
      }
    }
    const version = String(++this.#commits).padStart(16, "0");
    for (const { key, value, expireInMs } of changes) {
      if (value === null) this.#records.delete(key);
      else this.#records.set(key, { value, version, expiresAt: now + (expireInMs ?? Infinity) });
    }
    for (const { key } of changes) this.#watchers.get(key)?.forEach((wake) => wake());
    return { ok: true, version };
  }

  /**
   * Calls `wake` after every commit to `key`, until the returned function is called.
   *
   * @param key The key.
   * @param wake Called after each commit.
   * @returns A function that ends the subscription.
   */
  subscribe(key: string, wake: () => void): () => void {
    const watchers = this.#watchers.get(key) ?? new Set();
    this.#watchers.set(key, watchers.add(wake));
    return () => {
      watchers.delete(wake);
      if (watchers.size === 0) this.#watchers.delete(key);
    };
  }

  /**
   * The keys that begin with `prefix`.
   *
   * @param prefix The prefix.
   * @returns The keys.
   */
  keys(prefix: string): string[] {
    return [...this.#records.keys()].filter((key) => key.startsWith(prefix));
  }
}

/** Options of {@linkcode memoryBackend}. */
export interface MemoryBackendOptions {
  /**
   * The memory to use, to share it with another memory backend.
   *
   * @default {undefined} a new one
   */
  store?: MemoryStore | undefined;
  /**
   * The clock of the locks on this backend, for tests: a `TestClock` of `@holdfast/lock/testing`. Backends that share a
   * `store` need the same clock.
   *
   * @default {undefined} the clock of the machine
   */
  clock?: Clock | undefined;
}

/** What {@linkcode memoryBackend} makes. */
export interface MemoryBackend extends LockBackend, AsyncDisposable {
  /**
   * Acquisitions that wait for another backend on the same memory fail, and no later one can wait on this backend. Locks
   * that are held stay held, and can be released.
   */
  close(): Promise<void>;
  /** The same as `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a backend that keeps locks in the memory of one thread. Its locks are gone with the process. Workers and
 * worker threads have separate memory: a lock that is held in one of them excludes no caller in another.
 *
 * @param options The memory to share with another memory backend, and the clock.
 * @returns The backend.
 * @throws {TypeError} If `store` is not a `MemoryStore`, or `clock` is not a clock.
 *
 * @example In your tests
 * ```ts ignore
 * import { configure } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 *
 * configure({ strong: memoryBackend() }); // a new one for each test
 * ```
 *
 * @example Two backends on one store, as two processes would be
 * ```ts
 * import { Lock } from "@holdfast/lock";
 * import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const store = new MemoryStore();
 * const here = await Lock.acquire("job", { backend: memoryBackend({ store }) });
 * const there = await Lock.acquire("job", { backend: memoryBackend({ store }), wait: false });
 * assert(there === null);
 * await here?.release();
 * ```
 */
export function memoryBackend(options: MemoryBackendOptions = {}): MemoryBackend {
  const { store = new MemoryStore(), clock } = ownOptions(
    options,
    ["store", "clock"],
    "make a memory backend",
  );
  if (!(store instanceof MemoryStore)) {
    throw new TypeError("Cannot make a memory backend: 'store' must be a MemoryStore");
  }
  if (clock !== undefined && typeof clock?.after !== "function") {
    throw new TypeError(
      `Cannot make a memory backend: 'clock' must be a TestClock, current value is ${describe(clock)}`,
    );
  }
  const time = clock ?? systemClock;
  // The same for all backends on one store, to the last digit.
  const originMs = clock === undefined ? timeOriginMs : clock.wallMs() - clock.monotonicMs();
  const now = () => originMs + time.monotonicMs();
  const closing = new Closing("memory");
  // deno-lint-ignore require-await -- What is in memory leaves the queue by itself: there is no client to wait for.
  const close = async () => closing.close();
  const backend: MemoryBackend = {
    namespace: "memory",
    read: (keys) => Promise.resolve(keys.map((key) => store.get(key, now()))),
    commit: (changes) => Promise.resolve(store.commit(changes, now())),
    watch: (key, options) => watch({ store, key, now, clock: time, closing }, options),
    async *list(prefix) {
      for (const key of store.keys(prefix)) {
        const entry = store.get(key, now());
        if (entry.value !== null) yield entry;
      }
    },
    now,
    skewMs: 0,
    graceMs: 200,
    close,
    [Symbol.asyncDispose]: close,
  };
  // What uses a backend goes by the clock of the first that asks.
  if (clock !== undefined) participantOf(backend, clock);
  return backend;
}

async function* watch(
  { store, key, now, clock, closing }: {
    readonly store: MemoryStore;
    readonly key: string;
    readonly now: () => number;
    readonly clock: Clock;
    readonly closing: Closing;
  },
  { signal }: WatchOptions,
): AsyncGenerator<Entry> {
  const wakeUp = new Notify();
  const leave = closing.enter(wakeUp.notify);
  const stop = store.subscribe(key, wakeUp.notify);
  const forget = onAbort(signal, wakeUp.notify);
  try {
    while (!signal.aborted) {
      if (closing.failure !== undefined) throw closing.failure;
      yield store.get(key, now());
      await wakeUp.sleep(clock);
    }
  } finally {
    leave();
    stop();
    forget();
  }
}
