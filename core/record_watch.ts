import type { Entry, LockBackend } from "./backend.ts";
import type { Clock } from "./clock.ts";
import { Backoff, type BackoffOptions } from "./retry.ts";
import { queueIn, type Versioned } from "./record/codec.ts";
import type { QueueRecord } from "./record/record.ts";
import { runWatch } from "./watch.ts";

/** How long a watch that has failed is not tried again. One that has lived for the longest pause has not just failed. */
const RETRY: BackoffOptions = { leastMs: 10, mostMs: 1000 };

/** The watcher, which hears of what comes. */
export interface Watcher {
  readonly clock: Clock;
  /** An entry has come: `take` it. */
  onNews(): void;
  /** The watch has ended, which was for a hold that is only looked at if `isIdle`. */
  onWatchFailure(error: unknown, isIdle: boolean): void;
}

/** The news of one record, for those here that wait for the lock, or look at a hold. */
export class RecordWatch {
  readonly #backend: LockBackend;
  readonly #key: string;
  readonly #watcher: Watcher;
  readonly #name: string;
  #running: { readonly stop: AbortController; readonly isIdle: boolean } | undefined;
  #latest: Entry | undefined;
  /** Whether an entry before the latest has not been taken. */
  #isSkipping = false;
  #backoff = new Backoff(RETRY);
  #retryMs = -Infinity;
  /** What news said of another record of the lock, that of its queue. */
  #beside: Entry | undefined;

  constructor(
    watcher: Watcher,
    { backend, key, name }: { readonly backend: LockBackend; readonly key: string; readonly name: string },
  ) {
    this.#backend = backend;
    this.#key = key;
    this.#watcher = watcher;
    this.#name = name;
  }

  /** Whether it is also notified of the queue: changes are pushed, and need not be looked for. */
  get isToldOfQueue(): boolean {
    return this.#beside !== undefined;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Whether it runs only where that costs nothing. */
  get isIdle(): boolean {
    return this.#running?.isIdle === true;
  }

  /** When it may be started, if it does not run. */
  get startMs(): number {
    return this.isRunning ? Infinity : this.#retryMs;
  }

  /**
   * Watches; with `isIdle` only where it costs nothing, which is no less than what runs already. One that has just failed
   * is not started before `startMs`.
   */
  start({ isIdle }: { readonly isIdle: boolean }): void {
    if (this.#running !== undefined && (isIdle || !this.#running.isIdle)) return;
    const startedMs = this.#watcher.clock.monotonicMs();
    if (startedMs < this.#retryMs) return;
    this.stop();
    const stop = runWatch(
      (signal) => this.#backend.watch(this.#key, { signal, idle: isIdle, name: this.#name }),
      (entry) => {
        if (entry.key !== this.#key) this.#beside = entry;
        else {
          this.#isSkipping ||= this.#latest !== undefined && this.#latest.version !== entry.version;
          this.#latest = entry;
        }
        this.#watcher.onNews();
      },
      (error) => {
        this.stop();
        const now = this.#watcher.clock.monotonicMs();
        if (now - startedMs > RETRY.mostMs) this.#backoff = new Backoff(RETRY);
        this.#retryMs = now + this.#backoff.pauseMs();
        this.#watcher.onWatchFailure(error, isIdle);
      },
    );
    this.#running = { stop, isIdle };
  }

  stop(): void {
    this.#running?.stop.abort();
    this.#running = undefined;
  }

  /** Ends a watch that costs something. */
  stopWaiting(): void {
    if (this.#running?.isIdle === false) this.stop();
  }

  /** The latest entry, if it has not been taken yet, and whether others have come before it that were not taken. */
  take(): { readonly news: Entry | undefined; readonly skipped: boolean } {
    const taken = { news: this.#latest, skipped: this.#isSkipping };
    this.#latest = undefined;
    this.#isSkipping = false;
    return taken;
  }

  /** The queue with this name, if the news has shown it. Any client may have sent it: what cannot be read is none. */
  queue(id: string | undefined): Versioned<QueueRecord> | undefined {
    if (this.#beside === undefined || id === undefined) return undefined;
    try {
      const queue = queueIn(this.#beside);
      return queue.record.id === id ? queue : undefined;
    } catch {
      return undefined;
    }
  }
}
