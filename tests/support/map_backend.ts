/** A backend as an author would write it first: a Map, a counter, and answers that take a turn of the event loop. */

import { setImmediate } from "node:timers/promises";
import type { Change, CommitResult, Entry, LockBackend } from "@holdfast/lock/testing";

interface Stored {
  readonly value: string;
  readonly version: string;
  readonly expiresAt: number;
}

/** What the backends on one Map share. */
export class MapStore {
  readonly records = new Map<string, Stored>();
  readonly listeners = new Set<() => void>();
  readonly #versionOf: (count: number) => string;
  #count: number;

  /** With `versionOf`, the versions are made of a count that begins at `from`. */
  constructor(versionOf: (count: number) => string = (count) => String(count).padStart(16, "0"), from = 0) {
    this.#versionOf = versionOf;
    this.#count = from;
  }

  entry(key: string): Entry {
    const stored = this.records.get(key);
    if (stored === undefined || stored.expiresAt <= Date.now()) return { key, value: null, version: null };
    return { key, value: stored.value, version: stored.version };
  }

  commit(changes: readonly Change[]): CommitResult {
    if (changes.some(({ key, version }) => this.entry(key).version !== version)) return { ok: false };
    const version = this.#versionOf(++this.#count);
    for (const { key, value, expireInMs = Infinity } of changes) {
      if (value === null) this.records.delete(key);
      else this.records.set(key, { value, version, expiresAt: Date.now() + expireInMs });
    }
    for (const listener of this.listeners) listener();
    return { ok: true, version };
  }
}

/** Makes a backend on a Map. */
export function mapBackend(store: MapStore): LockBackend {
  return {
    async read(keys) {
      await setImmediate();
      return keys.map((key) => store.entry(key));
    },
    async commit(changes) {
      await setImmediate();
      const result = store.commit(changes);
      await setImmediate();
      return result;
    },
    async *watch(key, { signal }) {
      let wake = () => {};
      let isNews = true;
      const listener = () => {
        isNews = true;
        wake();
      };
      store.listeners.add(listener);
      signal.addEventListener("abort", listener);
      try {
        while (!signal.aborted) {
          if (isNews) {
            isNews = false;
            yield store.entry(key);
          } else await new Promise<void>((resolve) => wake = resolve);
        }
      } finally {
        store.listeners.delete(listener);
        signal.removeEventListener("abort", listener);
      }
    },
    async *list(prefix) {
      for (const key of [...store.records.keys()]) {
        await setImmediate();
        const entry = store.entry(key);
        if (key.startsWith(prefix) && entry.value !== null) yield entry;
      }
    },
    now: () => Date.now(),
    skewMs: 1,
    graceMs: 100,
  };
}
