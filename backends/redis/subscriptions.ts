/** News of records: one connection for all subscriptions of this process. */

import type { Change, Entry } from "../../core/backend.ts";
import { Bell } from "../../core/bell.ts";
import { systemClock, type Timer } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { Backoff } from "../../core/retry.ts";
import type { ClientAdapter, Subscriber } from "./adapters.ts";
import { CLOSED } from "./failures.ts";
import { entryOf } from "./scripts.ts";

/** After how long a waiter asks in case a message was lost: longer each time in vain. */
const BACKSTOP_BACKOFF = { leastMs: 1000, mostMs: 30_000 };
/** For how long a subscription is kept that nobody uses: the next waiter finds it there. */
const LINGER_MS = 10_000;
/** After how long the connection for subscriptions is tried again. */
const RECONNECT_BACKOFF = { leastMs: 20, mostMs: 2000 };

/** What is known of one key that is watched here, or was watched recently. */
class Channel {
  readonly key: string;
  /** Wakes those who watch. */
  readonly rings = new Set<() => void>();
  subscribed = false;
  /** Whether `latest` is at least as new as everything that this process has been answered. */
  current = false;
  /** How many messages have come. */
  messages = 0;
  latest: Entry | undefined;
  /** When the store was last asked, and after how long it is asked again. */
  askedAt: number = performance.now();
  pollMs = 0;
  #backoff!: Backoff;
  asking = false;
  failure: LockBackendError | undefined;
  leftAt = 0;

  constructor(key: string) {
    this.key = key;
    this.pollSoon();
  }

  /** The next question is asked soon again. */
  pollSoon(): void {
    this.#backoff = new Backoff(BACKSTOP_BACKOFF);
    this.pollLater();
  }

  /** A question was in vain: the next one is asked later than that. */
  pollLater(): void {
    this.pollMs = this.#backoff.pauseMs();
  }

  show(entry: Entry): void {
    this.latest = entry;
    this.ring();
  }

  fail(error: LockBackendError): void {
    this.failure = error;
    this.ring();
  }

  ring(): void {
    for (const ring of this.rings) ring();
  }
}

/** What the subscriptions need of their backend. */
interface Store {
  readonly adapter: ClientAdapter;
  read(keys: readonly string[]): Promise<readonly Entry[]>;
  failure(cause: unknown): LockBackendError;
  /** The channel of a key's news, and the key behind a channel. */
  channelOf(key: string): string;
  keyIn(channel: string): string;
}

/** All subscriptions of this process, on one connection that is opened when it is first needed. */
export class Subscriptions {
  readonly #backend: Store;
  readonly #channels = new Map<string, Channel>();
  readonly #bell = new Bell();
  #subscriber: Subscriber | undefined;
  #subscribing = false;
  #abandoned: Promise<void> | undefined;
  #sweepTimer: Timer | undefined;
  #closed = false;

  constructor(backend: Store) {
    this.#backend = backend;
  }

  /**
   * Changes to these keys are about to be sent. If one of them is watched here, what this returns is to be called with
   * what was answered, and notifies the watchers.
   */
  notifier(changes: readonly Change[]): ((entries: readonly Entry[]) => void) | undefined {
    if (this.#channels.size === 0) return undefined;
    const watched = changes.map(({ key }) => this.#channels.get(key));
    const messages = watched.map((channel) => channel?.subscribed ? channel.messages : undefined);
    return (entries) => {
      for (const [i, channel] of watched.entries()) {
        if (channel === undefined || messages[i] === undefined || !channel.subscribed) continue;
        if (channel.messages === messages[i]) channel.show(entries[i]);
        channel.current = true;
      }
    };
  }

  /** Begins to watch. */
  enter(key: string, ring: () => void): Channel {
    if (this.#closed) throw new LockBackendError("the Redis backend is disposed of");
    let channel = this.#channels.get(key);
    if (channel === undefined) {
      this.#channels.set(key, channel = new Channel(key));
      void this.#subscribe();
    } else if (channel.subscribed && !channel.current) {
      channel.latest = undefined;
      void this.ask(channel);
    }
    channel.rings.add(ring);
    return channel;
  }

  /** Ends to watch. */
  leave(channel: Channel, ring: () => void): void {
    channel.rings.delete(ring);
    if (channel.rings.size > 0) return;
    channel.leftAt = performance.now();
    this.#sweepLater();
  }

  /** Asks the store for what may have gone unsaid. */
  async ask(channel: Channel): Promise<void> {
    channel.askedAt = performance.now();
    if (channel.asking) return;
    channel.asking = true;
    channel.failure = undefined;
    const { messages } = channel;
    try {
      const [entry] = await this.#backend.read([channel.key]);
      if (channel.subscribed && entry.version === channel.latest?.version) channel.pollLater();
      else channel.pollSoon();
      // A message goes before an answer: whichever is older, the last message is the last change.
      if (channel.messages === messages) channel.show(entry);
    } catch (error) {
      channel.fail(error as LockBackendError);
    } finally {
      channel.asking = false;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    systemClock.clear(this.#sweepTimer);
    this.#fail(new LockBackendError("the Redis backend is disposed of"));
    this.#bell.ring();
    await this.#subscriber?.close();
    await this.#abandoned;
  }

  /** The client is closed: nothing more can come of the subscriptions either. */
  readonly abandon = (): void => {
    systemClock.clear(this.#sweepTimer);
    this.#sweepTimer = undefined;
    this.#abandoned = this.#subscriber?.close();
    this.#subscriber = undefined;
    this.#fail(CLOSED);
    this.#bell.ring();
  };

  #fail(error: LockBackendError): void {
    for (const channel of this.#channels.values()) channel.fail(error);
    this.#channels.clear();
  }

  readonly #deliver = (name: string, message: string): void => {
    const channel = this.#channels.get(this.#backend.keyIn(name));
    if (channel === undefined) return;
    channel.messages++;
    channel.show(entryOf(channel.key, message === "" ? null : message));
  };

  /** Subscribes to what is not subscribed to, on a new connection if there is none, until that is done. */
  async #subscribe(): Promise<void> {
    if (this.#subscribing) return;
    this.#subscribing = true;
    let backoff = new Backoff(RECONNECT_BACKOFF);
    while (!this.#closed) {
      const channels = [...this.#channels.values()].filter(({ subscribed }) => !subscribed);
      if (channels.length === 0) break;
      let subscriber: Subscriber | undefined;
      try {
        subscriber = this.#subscriber ??= await this.#open();
        await subscriber.subscribe(channels.map(({ key }) => this.#backend.channelOf(key)));
        if (subscriber !== this.#subscriber) continue;
        for (const channel of channels) {
          channel.subscribed = true;
          void this.ask(channel);
        }
        backoff = new Backoff(RECONNECT_BACKOFF);
      } catch (cause) {
        const error = this.#backend.failure(cause);
        if (subscriber === this.#subscriber) this.#lose();
        void subscriber?.close();
        if (!error.transient) {
          for (const channel of channels) this.#channels.delete(channel.key);
          for (const channel of channels) channel.fail(error);
        }
        await this.#bell.sleep(systemClock, backoff.pauseMs());
      }
    }
    this.#subscribing = false;
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
    for (const [key, channel] of this.#channels) {
      channel.subscribed = channel.current = false;
      channel.latest = undefined;
      if (channel.rings.size === 0) this.#channels.delete(key);
    }
    void this.#subscribe();
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
    const unused = [...this.#channels.values()].filter(({ rings }) => rings.size === 0);
    const leaving = unused.filter(({ leftAt }) => performance.now() - leftAt >= LINGER_MS);
    for (const { key } of leaving) this.#channels.delete(key);
    const names = leaving.filter(({ subscribed }) => subscribed).map(({ key }) =>
      this.#backend.channelOf(key)
    );
    // If it fails the connection is gone, and with it the subscriptions.
    if (names.length > 0) this.#subscriber?.unsubscribe(names).catch(() => {});
    if (leaving.length < unused.length) this.#sweepLater();
  }
}
