/** The news of records: pushed where the database can push and does, looked for where it does not. */

import { onAbort } from "../../core/abort.ts";
import type { Entry, WatchOptions } from "../../core/backend.ts";
import { type Clock, systemClock, type Timer } from "../../core/clock.ts";
import { publishBackendError } from "../../core/events.ts";
import { Notify } from "../../core/notify.ts";
import type { Closing } from "../closing.ts";
import type { KvCommit, KvDatabase, KvKeyPart } from "./api.ts";
import type { KvOrigin } from "./clients.ts";
import { failureOf } from "./failures.ts";
import { type Polled, Poller } from "./poller.ts";
import { NewsStream } from "./stream.ts";

/** The bounds between which an unpushed waiter polls; within them, a share of the time since the last news. */
const POLL_MS = { least: 4, most: 22, share: 1 / 8 };
/** How much longer those pauses are at least for each lock that is waited for, so that many do not take a whole core. */
const CROWD_MS = 0.1;
/** The same for a pushed waiter, which polls in case a message was lost; it does so in turn with three others. */
const BACKSTOP_MS = { least: 1000, most: 10_000, share: 1, crowd: 4 };
/** How much later than a look the announcement of what it has found may come. */
const ANNOUNCED_MS = 1000;
/**
 * How many of this process's latest commits are remembered, to distinguish their echo from another process's news.
 */
const OWN_COMMITS = 64;

/** What the watcher needs of its store. */
interface Store {
  readonly kv: KvDatabase;
  /** How late news may be. */
  readonly graceMs: number;
  keyOf(key: string): readonly KvKeyPart[];
  read(keys: readonly string[]): Promise<readonly Entry[]>;
}

/** One watch of one record. */
class Watch implements Polled {
  readonly key: string;
  readonly isIdle: boolean;
  readonly #clock: Clock;
  readonly #onNews: (watch: Watch, isWoken: boolean) => void;
  readonly #wakeUp = new Notify();
  /** What is announced, where it is. */
  stream: NewsStream | undefined;
  /** The record as it was seen last. */
  seen: Entry | undefined;
  newsMs: number;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    key: string,
    { isIdle, clock, onNews }: {
      readonly isIdle: boolean;
      readonly clock: Clock;
      readonly onNews: (watch: Watch, isWoken: boolean) => void;
    },
  ) {
    this.key = key;
    this.isIdle = isIdle;
    this.#clock = clock;
    this.#onNews = onNews;
    this.newsMs = clock.monotonicMs();
  }

  onLook(entry: Entry, isWoken: boolean): void {
    if (this.seen !== undefined && entry.version === this.seen.version) return;
    if (this.seen !== undefined) this.#onNews(this, isWoken);
    this.seen = entry;
    this.newsMs = this.#clock.monotonicMs();
    this.#wakeUp.notify();
  }

  onFailure(error: unknown): void {
    this.#failure = { error };
    this.#wakeUp.notify();
  }

  /** Yields what is seen, until the signal aborts or the backend is closed. */
  async *entries(signal: AbortSignal, closing: Closing): AsyncGenerator<Entry> {
    const leave = closing.enter(this.#wakeUp.notify);
    const forget = onAbort(signal, this.#wakeUp.notify);
    try {
      for (let shown: Entry | undefined; !signal.aborted;) {
        if (closing.failure !== undefined) throw closing.failure;
        if (this.#failure !== undefined) throw this.#failure.error;
        if (this.seen === shown) await this.#wakeUp.sleep(this.#clock);
        else yield shown = this.seen!;
      }
    } finally {
      leave();
      forget();
    }
  }
}

/** All watches of one database in this process, and what they have learned of it together. */
export class KvWatcher {
  readonly #store: Store;
  readonly #origin: KvOrigin;
  readonly #clock: Clock;
  readonly #closing: Closing;
  readonly #poller: Poller;
  readonly #watches = new Set<Watch>();
  readonly #own = new Set<string>();
  /** Whether the database announces other processes' commits: learned by seeing it happen, or not happen. */
  #pushes: boolean;
  #committing = 0;
  /** How many watches are not idle. */
  #waiting = 0;
  #busy = { count: 0, atMs: -Infinity };
  #suspicion: Timer | undefined;

  constructor(
    store: Store,
    { origin, closing, clock = systemClock }: {
      readonly origin: KvOrigin;
      readonly closing: Closing;
      readonly clock?: Clock;
    },
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#closing = closing;
    this.#origin = origin;
    this.#pushes = origin.remote;
    this.#poller = new Poller({
      clock,
      read: (keys) => store.read(keys),
      pauseMs: (polled) => this.#pauseMs(polled as Watch),
    });
  }

  /** Makes a commit of this process known, so that its echo is not taken for another process's news. */
  async committing<Sent extends { readonly result: KvCommit }>(commit: () => Promise<Sent>): Promise<Sent> {
    this.#committing++;
    try {
      const sent = await commit();
      const { result } = sent;
      if (result.ok) {
        this.#own.add(result.versionstamp);
        if (this.#own.size > OWN_COMMITS) this.#own.delete(first(this.#own));
      }
      return sent;
    } finally {
      this.#committing--;
    }
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    if (this.#closing.failure !== undefined) throw this.#closing.failure;
    const watch = new Watch(key, { isIdle: idle, clock: this.#clock, onNews: this.#onNews });
    // On a file, the watch of npm:@deno/kv can make the event loop spin for ever, and hears of no other process's commits.
    const { native, remote } = this.#origin;
    if (native || remote) watch.stream = this.#listen(watch);
    this.#watches.add(watch);
    if (!idle) this.#waiting++;
    this.#poller.add(watch);
    try {
      yield* watch.entries(signal, this.#closing);
    } finally {
      this.#poller.remove(watch);
      this.#watches.delete(watch);
      if (!idle) this.#waiting--;
      if (this.#watches.size === 0) this.#clock.clear(this.#suspicion);
      await watch.stream?.stop();
    }
  }

  /** Listens to what the database announces. Between processes on one SQLite file it announces nothing. */
  #listen(watch: Watch): NewsStream {
    const { kv } = this.#store;
    return new NewsStream(kv, {
      name: this.#store.keyOf(watch.key),
      isRaw: this.#origin.remote,
      listener: {
        onVersion: (version, isCurrent) => {
          // The echo of a commit of this process proves nothing, and may come before the commit's answer.
          const isForeign = this.#committing === 0 && version !== null && !this.#own.has(version);
          if (!isCurrent && isForeign) this.#pushes = true;
          if (version !== watch.seen?.version) this.#poller.wake(watch);
        },
        onEnd: () => {
          this.#pushes = false;
          this.#poller.wake(watch);
        },
        onError: (error) => publishBackendError(watch.key, failureOf(error)),
      },
    });
  }

  /**
   * A look has found what no stream has announced. If no announcement comes after it either, the streams are deaf,
   * which does not show as long as nothing is to be sent on them: those that stay silent are opened again.
   */
  readonly #onNews = ({ stream }: Watch, isWoken: boolean): void => {
    if (isWoken || !this.#pushes) return;
    this.#pushes = false;
    if (stream === undefined) return;
    const before = stream.messages;
    const streams = [...this.#watches].map(({ stream }) => ({ stream, messages: stream?.messages }));
    this.#clock.clear(this.#suspicion);
    this.#suspicion = this.#clock.after(ANNOUNCED_MS, () => {
      if (stream.messages > before) return;
      for (const { stream, messages } of streams) if (stream?.messages === messages) stream?.reopen();
    });
    this.#suspicion.unref();
  };

  /** The more time has passed without news, the less a little more of it matters. */
  #pauseMs(watch: Watch): number {
    const now = this.#clock.monotonicMs();
    const quietMs = now - watch.newsMs;
    if (this.#pushes) return Math.ceil(this.#waiting / BACKSTOP_MS.crowd) * within(BACKSTOP_MS, quietMs);
    const pauseMs = within(POLL_MS, quietMs);
    // Those with recent news are not held up by all the others.
    const crowd = pauseMs < POLL_MS.most ? this.#busyAt(now) : this.#waiting;
    return Math.max(pauseMs, Math.min(crowd * CROWD_MS, this.#store.graceMs / 2));
  }

  /** How many of those that wait have had news recently, as counted not long ago. */
  #busyAt(now: number): number {
    if (now - this.#busy.atMs > POLL_MS.least) {
      let count = 0;
      for (const { isIdle, newsMs } of this.#watches) {
        if (!isIdle && within(POLL_MS, now - newsMs) < POLL_MS.most) count++;
      }
      this.#busy = { count, atMs: now };
    }
    return this.#busy.count;
  }
}

function within(
  { least, most, share }: { readonly least: number; readonly most: number; readonly share: number },
  quietMs: number,
): number {
  return Math.min(Math.max(least, quietMs * share), most);
}

function first<Item>(items: Iterable<Item>): Item {
  for (const item of items) return item;
  throw new RangeError("empty");
}
