/** News of records: one connection that listens for all watches of this process, or polling where none can. */

import type { Change, Entry } from "../../core/backend.ts";
import { systemClock, type Timer } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { publishBackendError } from "../../core/events.ts";
import { lockKeyOf } from "../../core/identifier.ts";
import { Notify } from "../../core/notify.ts";
import { Backoff } from "../../core/retry.ts";
import { within } from "../../core/time_limit.ts";
import { disposedFailure } from "../closing.ts";
import { notifierOf, Watched } from "../watched.ts";
import { CannotListen, type ClientAdapter, type Listening } from "./clients.ts";
import { newsIn } from "./news.ts";

/** The least time between two looks at a record: at one that has just changed. */
export const LEAST_POLL_MS = 25;
/** For how long a key stays known that is not watched: the next waiter finds it there. */
const LINGER_MS = 10_000;
/** How long the server may take to answer on the connection that listens. */
const ANSWER_LIMIT_MS = 5000;
/** How late a message may be that this process has sent to itself. */
const PROBE_LIMIT_MS = 2000;
/** After how long it is tried again to listen where messages did not arrive. */
const RETRY_MS = 60_000;
/** After how long the connection that listens is opened again. */
const RECONNECT_BACKOFF = { leastMs: 20, mostMs: 2000 };
/** How the message begins with which a process finds out whether it hears anything. */
const PROBE = "probe:";

/** How waiters hear of news: `"auto"` finds out. */
export type Notifications = "auto" | "listen" | "poll";

/** One key, and the names under which it is watched. */
class Followed extends Watched {
  readonly names = new Set<string>();
  /** How many watches have no name: all commits concern them. */
  unnamed = 0;

  /** Notifications are sent for keys that were read recently: idle watchers go on to read. */
  override get rests(): boolean {
    return this.isKnown && !this.subscribed;
  }

  /** Whether a message for these, `null` for all, is to be heard here. */
  isConcerned(concerns: readonly string[] | null): boolean {
    return concerns === null || this.unnamed > 0 || concerns.some((name) => this.names.has(name));
  }
}

/** What the subscriptions need of their backend. */
export interface Source {
  readonly adapter: ClientAdapter;
  /** Reads a record. */
  read(keys: readonly string[]): Promise<readonly Entry[]>;
  /** Reads a record and marks it as watched, so that commits announce it; and on which channel they do. */
  mark(key: string): Promise<{ readonly entry: Entry; readonly channel: string }>;
  /** The channel of the table. */
  channel(): Promise<string>;
  /** Sends a message to all listeners. */
  notify(channel: string, message: string): Promise<void>;
  failure(cause: unknown): LockBackendError;
}

/** All watches of this process. */
export class Subscriptions {
  readonly #source: Source;
  readonly #pollMs: number;
  readonly #isForced: boolean;
  readonly #followed = new Map<string, Followed>();
  readonly #wakeUp = new Notify();
  /** Whether messages arrive here; `undefined` if that is not known yet. */
  #hears: boolean | undefined;
  #listening: Listening | undefined;
  #channel = "";
  #isConnecting = false;
  /** Whether it could not be connected: waiters poll meanwhile. */
  #isFailing = false;
  #retryAtMs = 0;
  #probe: { readonly text: string; heard(): void } | undefined;
  #sweepTimer: Timer | undefined;
  #isClosed = false;

  constructor(source: Source, { notifications, pollMs }: { notifications: Notifications; pollMs: number }) {
    this.#source = source;
    this.#pollMs = pollMs;
    this.#isForced = notifications !== "auto";
    if (notifications !== "auto") this.#hears = notifications === "listen";
    if (source.adapter.listen === undefined) this.#hears = false;
    if (this.#hears === false) this.#retryAtMs = Infinity;
  }

  /** Whether messages arrive here; `undefined` if that is not known yet. */
  get hears(): boolean | undefined {
    return this.#hears;
  }

  /** What is to be called with the answer to these changes, if one of the keys is watched here: see `notifierOf`. */
  notifier(changes: readonly Change[]): ((entries: readonly Entry[]) => void) | undefined {
    return notifierOf(this.#followed, changes);
  }

  /** Begins to watch. */
  enter(key: string, name: string | undefined, notify: () => void): Followed {
    if (this.#isClosed) throw disposedFailure("Postgres");
    let followed = this.#followed.get(key);
    if (followed === undefined) this.#followed.set(key, followed = new Followed(key));
    followed.sleepers.add(notify);
    if (name === undefined) followed.unnamed++;
    else followed.names.add(name);
    if (!followed.subscribed) this.#follow(followed);
    // A watcher without a name is shown what concerned others, too.
    else if (name === undefined || !followed.isKnown) {
      followed.forget();
      void this.ask(followed);
    }
    return followed;
  }

  /** Ends to watch. */
  leave(followed: Followed, notify: () => void, name: string | undefined): void {
    followed.sleepers.delete(notify);
    if (name === undefined) followed.unnamed--;
    if (followed.sleepers.size > 0) return;
    followed.leftAt = systemClock.monotonicMs();
    this.#sweepLater();
  }

  /** Asks the store for what may not have been announced, or is never announced here. */
  async ask(followed: Followed): Promise<void> {
    followed.askedAt = systemClock.monotonicMs();
    if (followed.asking) return;
    followed.asking = true;
    followed.failure = undefined;
    const { messages } = followed;
    try {
      const entry = await this.#look(followed);
      const isNews = followed.isKnown && entry.version !== followed.version;
      if (!followed.subscribed) {
        this.#pace(followed, isNews || !followed.isKnown);
        if (this.#hears === false && systemClock.monotonicMs() > this.#retryAtMs) void this.#connect();
      } else {
        if (isNews && followed.messages === messages) void this.#test();
        if (followed.isKnown && !isNews) followed.pollLater();
        else followed.pollSoon();
      }
      followed.onAnswer(entry, messages);
      followed.notify();
    } catch (error) {
      followed.fail(error as LockBackendError);
      if (this.#source.adapter.closed) void this.#release();
    } finally {
      followed.asking = false;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    systemClock.clear(this.#sweepTimer);
    const error = disposedFailure("Postgres");
    for (const followed of this.#followed.values()) followed.fail(error);
    this.#followed.clear();
    this.#wakeUp.notify();
    await this.#release();
  }

  /** Reads a record, as one that is watched if messages should announce it. */
  async #look(followed: Followed): Promise<Entry> {
    if (!followed.subscribed) return (await this.#source.read([followed.key]))[0];
    const { entry, channel } = await this.#source.mark(followed.key);
    // The table is another one by now, and its news is sent elsewhere.
    if (channel !== this.#channel && followed.subscribed) void this.#lose();
    return entry;
  }

  /** It is to be announced, if that is possible here. */
  #follow(followed: Followed): void {
    if (this.#hears === false && systemClock.monotonicMs() < this.#retryAtMs) {
      followed.forget();
      followed.pollMs = LEAST_POLL_MS;
      void this.ask(followed);
    } else void this.#connect();
  }

  /**
   * How long until the next look where nothing is announced. Decorrelated: waiters that began together do not stay
   * together.
   */
  #pace(followed: Followed, isNews: boolean): void {
    // Until it is known whether messages arrive, they may.
    if (this.#hears !== false && !this.#isFailing) return followed.pollSoon();
    const span = 3 * followed.pollMs - LEAST_POLL_MS;
    followed.pollMs = isNews
      ? LEAST_POLL_MS
      : Math.min(this.#pollMs, LEAST_POLL_MS + Math.max(0, Math.random() * span));
  }

  readonly #deliver = (message: string): void => {
    if (message.startsWith(PROBE)) {
      if (message === this.#probe?.text) this.#probe.heard();
      return;
    }
    const news = newsIn(message);
    if (news === undefined) return;
    const { concerns, entries, untold } = news;
    if (entries.length === 0 && untold.length === 0) {
      for (const followed of this.#followed.values()) void this.ask(followed);
    }
    const keys = [...entries.map(({ key }) => key), ...untold];
    // A watcher that follows a lock by name is notified of its queue, too.
    for (const key of new Set([...keys, ...keys.map(lockKeyOf)])) {
      const followed = this.#followed.get(key);
      if (followed === undefined || !followed.isConcerned(concerns)) continue;
      if (!keys.includes(key) && concerns === null) continue;
      const own = entries.filter((entry) => lockKeyOf(entry.key) === lockKeyOf(key));
      if (followed.onMessage(own) && followed.sleepers.size > 0) void this.ask(followed);
      if (untold.some((other) => lockKeyOf(other) === lockKeyOf(key))) void this.ask(followed);
    }
  };

  /** Listens, until that is done or shows to be impossible. */
  async #connect(): Promise<void> {
    if (this.#isConnecting) return;
    this.#isConnecting = true;
    const backoff = new Backoff(RECONNECT_BACKOFF);
    while (!this.#isClosed && this.#followed.size > 0) {
      try {
        if (this.#listening === undefined) await this.#open();
        for (const followed of this.#followed.values()) {
          if (followed.subscribed) continue;
          followed.subscribed = true;
          void this.ask(followed);
        }
        this.#isFailing = false;
        if (this.#hears !== true) void this.#test();
        break;
      } catch (cause) {
        const error = this.#source.failure(cause);
        if (cause instanceof CannotListen || !error.transient && !this.#source.adapter.closed) {
          if (!this.#isForced) {
            this.#poll();
            break;
          }
        }
        this.#isFailing = true;
        this.#report(error);
        for (const followed of this.#followed.values()) {
          if (!error.transient) followed.fail(error);
          else if (!followed.asking) void this.ask(followed);
        }
        if (!error.transient) break;
        await this.#wakeUp.sleep(systemClock, backoff.pauseMs());
      }
    }
    this.#isConnecting = false;
  }

  async #open(): Promise<void> {
    const channel = await this.#source.channel();
    const known: { hasEnded: boolean; listening?: Listening } = { hasEnded: false };
    const opening = this.#source.adapter.listen!(channel, {
      onMessage: this.#deliver,
      onResume: () => {
        for (const followed of this.#followed.values()) void this.ask(followed);
      },
      onEnd: () => {
        known.hasEnded = true;
        if (known.listening !== undefined && known.listening === this.#listening) void this.#lose();
      },
      onTrouble: this.#reportTrouble,
    });
    const late = () => {
      // It may still come, and is of no use then.
      opening.then((listening) => listening.close()).catch(this.#reportTrouble);
      return new LockBackendError("the connection that listens does not answer", { transient: true });
    };
    const listening = await within(opening, ANSWER_LIMIT_MS, { clock: systemClock, late });
    known.listening = listening;
    if (known.hasEnded || this.#isClosed || this.#source.adapter.closed) {
      await listening.close().catch(this.#reportTrouble);
      throw new LockBackendError("the connection that listens has ended", { transient: true });
    }
    this.#channel = channel;
    this.#listening = listening;
  }

  /**
   * Finds out whether messages arrive: behind a pooler that changes connections none do, and a connection may be deaf
   * without showing it. So this process sends one to itself.
   */
  async #test(): Promise<void> {
    const listening = this.#listening;
    if (listening === undefined || this.#probe !== undefined) return;
    const text = PROBE + crypto.randomUUID();
    const hearing = new Promise<void>((resolve) => this.#probe = { text, heard: resolve });
    try {
      await this.#source.notify(this.#channel, text);
      const late = () => new CannotListen("notifications do not arrive");
      await within(hearing, PROBE_LIMIT_MS, { clock: systemClock, late });
      this.#hears = true;
    } catch (cause) {
      if (listening !== this.#listening || this.#isClosed) return;
      // That the server does not answer says nothing of messages. And where one arrived before, the connection is deaf.
      if (cause instanceof CannotListen && !this.#isForced && this.#hears !== true) {
        this.#poll();
        await this.#release();
      } else {
        this.#report(this.#source.failure(cause));
        await this.#lose();
      }
    } finally {
      this.#probe = undefined;
    }
  }

  /** No messages arrive here: from now on all watchers look by themselves. */
  #poll(): void {
    this.#hears = false;
    this.#retryAtMs = systemClock.monotonicMs() + RETRY_MS;
    for (const followed of this.#followed.values()) {
      followed.subscribed = false;
      followed.pollMs = LEAST_POLL_MS;
      if (followed.sleepers.size > 0) void this.ask(followed);
    }
  }

  /** The connection is gone: what is known may be old until there is a new one. */
  async #lose(): Promise<void> {
    const closing = this.#release();
    for (const followed of this.#followed.values()) {
      followed.forget();
      if (followed.sleepers.size === 0) this.#followed.delete(followed.key);
    }
    void this.#connect();
    await closing;
  }

  /** Closes the connection that listens. */
  async #release(): Promise<void> {
    const listening = this.#listening;
    this.#listening = undefined;
    for (const followed of this.#followed.values()) followed.subscribed = false;
    await listening?.close().catch(this.#reportTrouble);
  }

  /** It does not listen, which is not reported to any caller: its waiters ask the store themselves. */
  #report(error: LockBackendError): void {
    const [identifier] = this.#followed.keys();
    if (identifier === undefined || this.#isClosed) return;
    publishBackendError(identifier, error);
  }

  /**
   * A connection could not be closed, unless the caller has closed it: code that goes on without it must not fail
   * because of that.
   */
  readonly #reportTrouble = (cause: unknown): void => {
    if (this.#source.adapter.closed) return;
    const [identifier = this.#channel] = this.#followed.keys();
    publishBackendError(identifier, this.#source.failure(cause));
  };

  #sweepLater(): void {
    if (this.#sweepTimer !== undefined || this.#isClosed) return;
    this.#sweepTimer = systemClock.after(LINGER_MS, () => {
      this.#sweepTimer = undefined;
      const now = systemClock.monotonicMs();
      for (const { key, sleepers, leftAt } of this.#followed.values()) {
        if (sleepers.size === 0 && now - leftAt >= LINGER_MS) this.#followed.delete(key);
        else if (sleepers.size === 0) this.#sweepLater();
      }
      // The caller has closed its client, and expects nothing of it to be left.
      if (this.#source.adapter.closed) void this.#release();
    });
    this.#sweepTimer.unref();
  }
}
