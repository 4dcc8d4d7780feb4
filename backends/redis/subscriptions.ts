/** News of records: one connection for all subscriptions of this process. */

import type { Change, Entry } from "../../core/backend.ts";
import { Notify } from "../../core/notify.ts";
import { systemClock, type Timer } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { publishBackendError } from "../../core/events.ts";
import { Backoff } from "../../core/retry.ts";
import { within } from "../../core/time_limit.ts";
import { disposedFailure } from "../closing.ts";
import { notifierOf, Watched } from "../watched.ts";
import type { ClientAdapter, Subscriber } from "./adapters.ts";
import { entriesIn } from "./scripts.ts";

/** For how long a subscription is kept that is not used: the next waiter finds it there. */
const LINGER_MS = 10_000;
/** How long the server may take to answer on the connection for subscriptions. */
const ANSWER_LIMIT_MS = 5000;
/** After how long the connection for subscriptions is tried again. */
const RECONNECT_BACKOFF = { leastMs: 20, mostMs: 2000 };

/**
 * One key, and the channels of its news: for all, and for each name under which it is watched, or for watchers
 * without one.
 */
class Subscribed extends Watched {
  readonly channels = new Set<string>();
}

/** What the subscriptions need of their backend. */
interface Store {
  readonly adapter: ClientAdapter;
  read(keys: readonly string[]): Promise<readonly Entry[]>;
  failure(cause: unknown): LockBackendError;
  /** The failure of all that is asked of a client that is closed. */
  closedFailure(): LockBackendError;
  /**
   * The channel of the news of a key: for all, or for the watchers of this name; the empty name is for watchers
   * without one.
   */
  channelOf(key: string, name?: string): string;
  /** A channel on which there is never any news. */
  readonly silentChannel: string;
}

/** All subscriptions of this process, on one connection that is opened when it is first needed. */
export class Subscriptions {
  readonly #backend: Store;
  readonly #watched = new Map<string, Subscribed>();
  /** By channel. */
  readonly #byChannel = new Map<string, Subscribed>();
  readonly #wakeUp = new Notify();
  #subscriber: Subscriber | undefined;
  #subscribing = false;
  #isTesting = false;
  #abandoned: Promise<void> | undefined;
  #sweepTimer: Timer | undefined;
  #closed = false;

  constructor(backend: Store) {
    this.#backend = backend;
  }

  /** What is to be called with the answer to these changes, if one of the keys is watched here: see `notifierOf`. */
  notifier(changes: readonly Change[]): ((entries: readonly Entry[]) => void) | undefined {
    return notifierOf(this.#watched, changes);
  }

  /** Begins to watch. */
  enter(key: string, name: string | undefined, notify: () => void): Subscribed {
    if (this.#closed) throw disposedFailure("Redis");
    let watched = this.#watched.get(key);
    if (watched === undefined) this.#watched.set(key, watched = new Subscribed(key));
    watched.sleepers.add(notify);
    for (const channel of [this.#backend.channelOf(key), this.#backend.channelOf(key, name ?? "")]) {
      if (watched.channels.has(channel)) continue;
      watched.channels.add(channel);
      watched.subscribed = false;
      this.#byChannel.set(channel, watched);
    }
    if (!watched.subscribed) void this.#subscribe();
    // A watcher without a name is shown what concerned others, too.
    else if (name === undefined || !watched.isKnown) {
      watched.forget();
      void this.ask(watched);
    }
    return watched;
  }

  /** Ends to watch. */
  leave(watched: Watched, notify: () => void): void {
    watched.sleepers.delete(notify);
    if (watched.sleepers.size > 0) return;
    watched.leftAt = systemClock.monotonicMs();
    this.#sweepLater();
  }

  /** Asks the store for what may have gone unsaid. */
  async ask(watched: Watched): Promise<void> {
    watched.askedAt = systemClock.monotonicMs();
    if (watched.asking) return;
    watched.asking = true;
    watched.failure = undefined;
    const { messages } = watched;
    try {
      const [entry] = await this.#backend.read([watched.key]);
      const isNews = watched.subscribed && watched.isKnown && entry.version !== watched.version;
      if (isNews && watched.messages === messages) void this.#test();
      if (watched.subscribed && entry.version === watched.version) watched.pollLater();
      else watched.pollSoon();
      watched.onAnswer(entry, messages);
      watched.notify();
    } catch (error) {
      watched.fail(error as LockBackendError);
    } finally {
      watched.asking = false;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    systemClock.clear(this.#sweepTimer);
    this.#fail(disposedFailure("Redis"));
    this.#wakeUp.notify();
    await this.#subscriber?.close();
    await this.#abandoned;
  }

  /** The client is closed: nothing more can come of the subscriptions either. */
  readonly abandon = (): void => {
    systemClock.clear(this.#sweepTimer);
    this.#sweepTimer = undefined;
    this.#abandoned = this.#subscriber?.close();
    this.#subscriber = undefined;
    this.#fail(this.#backend.closedFailure());
    this.#wakeUp.notify();
  };

  #fail(error: LockBackendError): void {
    for (const watched of this.#watched.values()) watched.fail(error);
    this.#watched.clear();
    this.#byChannel.clear();
  }

  readonly #deliver = (channel: string, message: string): void => {
    const watched = this.#byChannel.get(channel);
    const entries = watched && entriesIn(message, watched.key);
    if (watched === undefined || entries === undefined) return;
    if (watched.onMessage(entries) && watched.sleepers.size > 0) void this.ask(watched);
  };

  /** Subscribes to what is not subscribed to, on a new connection if there is none, until that is done. */
  async #subscribe(): Promise<void> {
    if (this.#subscribing) return;
    this.#subscribing = true;
    let backoff = new Backoff(RECONNECT_BACKOFF);
    while (!this.#closed) {
      const missing = [...this.#watched.values()].filter(({ subscribed }) => !subscribed);
      if (missing.length === 0) break;
      let subscriber: Subscriber | undefined;
      try {
        subscriber = this.#subscriber ??= await this.#open();
        const wanted = missing.map((watched) => ({ watched, channels: [...watched.channels] }));
        await inTime(subscriber.subscribe(wanted.flatMap(({ channels }) => channels)));
        if (subscriber !== this.#subscriber) continue;
        for (const { watched, channels } of wanted) {
          if (watched.channels.size > channels.length) continue;
          watched.subscribed = true;
          void this.ask(watched);
        }
        backoff = new Backoff(RECONNECT_BACKOFF);
      } catch (cause) {
        const error = this.#backend.failure(cause);
        if (subscriber === this.#subscriber) this.#lose();
        void subscriber?.close();
        if (error.transient) this.#report(missing.map(({ key }) => key), error);
        else {
          for (const watched of missing) this.#drop(watched);
          for (const watched of missing) watched.fail(error);
        }
        await this.#wakeUp.sleep(systemClock, backoff.pauseMs());
      }
    }
    this.#subscribing = false;
  }

  /**
   * A look has found what no message had told. It may have concerned others; but the connection may also be deaf,
   * which does not show as long as nothing is sent on it. So it is asked for something; if no answer comes, it is
   * opened again.
   */
  async #test(): Promise<void> {
    const subscriber = this.#subscriber;
    if (subscriber === undefined || this.#isTesting) return;
    this.#isTesting = true;
    try {
      const { silentChannel } = this.#backend;
      await inTime(subscriber.subscribe([silentChannel]).then(() => subscriber.unsubscribe([silentChannel])));
    } catch (cause) {
      this.#report(this.#watched.keys(), cause);
      void subscriber.close();
      if (subscriber === this.#subscriber) this.#lose();
    } finally {
      this.#isTesting = false;
    }
  }

  async #open(): Promise<Subscriber> {
    const known: { ended: boolean; subscriber?: Subscriber } = { ended: false };
    // It may be called before there is a subscriber to compare with.
    const subscriber = await this.#backend.adapter.subscriber(this.#deliver, () => {
      known.ended = true;
      if (known.subscriber !== undefined && known.subscriber === this.#subscriber) this.#lose();
    });
    known.subscriber = subscriber;
    if (!known.ended && !this.#closed && !this.#backend.adapter.closed) return subscriber;
    await subscriber.close();
    throw new LockBackendError("the connection for subscriptions has ended", { transient: true });
  }

  /** The connection is gone: what is known may be old until there is a new one. */
  #lose(): void {
    this.#subscriber = undefined;
    for (const watched of this.#watched.values()) {
      watched.subscribed = false;
      watched.forget();
      if (watched.sleepers.size === 0) this.#drop(watched);
    }
    void this.#subscribe();
  }

  #drop(watched: Subscribed): void {
    this.#watched.delete(watched.key);
    for (const channel of watched.channels) this.#byChannel.delete(channel);
  }

  /**
   * The connection for subscriptions has failed, which is not reported to any caller: its waiters ask the store
   * themselves.
   */
  #report([identifier]: Iterable<string>, cause: unknown): void {
    if (identifier === undefined || this.#closed) return;
    publishBackendError(identifier, this.#backend.failure(cause));
  }

  #sweepLater(): void {
    if (this.#sweepTimer !== undefined || this.#closed) return;
    this.#sweepTimer = systemClock.after(LINGER_MS, () => {
      this.#sweepTimer = undefined;
      this.#sweep();
    });
    this.#sweepTimer.unref();
  }

  #sweep(): void {
    const unused = [...this.#watched.values()].filter(({ sleepers }) => sleepers.size === 0);
    const leaving = unused.filter(({ leftAt }) => systemClock.monotonicMs() - leftAt >= LINGER_MS);
    for (const watched of leaving) this.#drop(watched);
    const channels = leaving.filter(({ subscribed }) => subscribed).flatMap(({ channels }) => [...channels]);
    // If it fails the connection is gone, and with it the subscriptions.
    const report = (cause: unknown) => this.#report(leaving.map(({ key }) => key), cause);
    if (channels.length > 0) this.#subscriber?.unsubscribe(channels).catch(report);
    if (leaving.length < unused.length) this.#sweepLater();
  }
}

/** What the server answers on the connection for subscriptions, or that it does not. */
function inTime<Answer>(answer: Promise<Answer>): Promise<Answer> {
  const late = () =>
    new LockBackendError("the connection for subscriptions does not answer", { transient: true });
  return within(answer, ANSWER_LIMIT_MS, { clock: systemClock, late });
}
