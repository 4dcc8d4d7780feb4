/**
 * What is known of a key that is watched, from answers and from messages: for every backend that is notified of
 * changes.
 */

import { onAbort } from "../core/abort.ts";
import type { Change, Entry, WatchOptions } from "../core/backend.ts";
import { systemClock } from "../core/clock.ts";
import type { LockBackendError } from "../core/errors.ts";
import { Notify } from "../core/notify.ts";
import { Backoff } from "../core/retry.ts";

/** After how long a waiter asks in case a message was lost: longer each time in vain. */
const BACKSTOP_BACKOFF = { leastMs: 1000, mostMs: 30_000 };

/** One key that is watched here, or was watched recently, and what is known of it. */
export class Watched {
  readonly key: string;
  /** Wakes the watchers. */
  readonly sleepers = new Set<() => void>();
  /** Whether all messages about it come here. */
  subscribed = false;
  /** How many messages have come. */
  messages = 0;
  /** What the store has answered last. */
  #answer: Entry | undefined;
  /** What messages have said since, by key. */
  readonly #news = new Map<string, Entry>();
  /** What a message has said last of the key itself, until a watcher has been shown it. */
  #unseen: Entry | undefined;
  /** When the store was last asked, and after how long it is asked again. */
  askedAt: number = systemClock.monotonicMs();
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

  /** Whether there is something to show to a watcher that begins. */
  get isKnown(): boolean {
    return this.#answer !== undefined || this.#news.has(this.key);
  }

  /** Whether idle watchers need not ask any more, which ask only until they have seen what is there. */
  get rests(): boolean {
    return this.isKnown;
  }

  /** The version of the last entry of the key that was shown. */
  get version(): string | null | undefined {
    return (this.#news.get(this.key) ?? this.#answer)?.version;
  }

  /** The next entry for a watcher that was shown these; entries of other keys only if it is to be shown them. */
  next(shown: WeakSet<Entry>, showsAll: boolean): Entry | undefined {
    if (this.#answer !== undefined && !shown.has(this.#answer)) return this.#answer;
    for (const entry of this.#news.values()) {
      if (!showsAll && entry.key !== this.key || shown.has(entry)) continue;
      if (entry === this.#unseen) this.#unseen = undefined;
      return entry;
    }
  }

  /**
   * The store has answered a question that was sent when so many messages had come. An answer is always shown. A
   * message that came meanwhile may be older or newer, and any client may have sent it: it is shown once more
   * behind the answer, and the store is asked again soon.
   */
  onAnswer(entry: Entry, messages: number): void {
    this.#answer = entry;
    if (this.messages === messages) return void this.#news.delete(this.key);
    const news = this.#news.get(this.key);
    if (news === undefined || news.version === entry.version) return void this.#news.delete(this.key);
    this.#put({ ...news });
    this.pollSoon();
  }

  /**
   * A message has come: what it says of the key itself is shown last. Answers whether one before it, that no
   * watcher has been shown, is overtaken: any client may have sent this one, to hide the other.
   */
  onMessage(entries: readonly Entry[]): boolean {
    this.messages++;
    for (const entry of entries) if (entry.key !== this.key) this.#put(entry);
    let hides = false;
    for (const entry of entries) {
      if (entry.key !== this.key) continue;
      hides ||= this.#unseen !== undefined && this.#unseen === this.#news.get(this.key);
      this.#put(entry);
      this.#unseen = entry;
    }
    this.notify();
    return hides;
  }

  /** What is known may be old. */
  forget(): void {
    this.#answer = undefined;
    this.#news.clear();
  }

  fail(error: LockBackendError): void {
    this.failure = error;
    this.notify();
  }

  notify(): void {
    for (const notify of this.sleepers) notify();
  }

  #put(entry: Entry): void {
    this.#news.delete(entry.key);
    this.#news.set(entry.key, entry);
  }
}

/**
 * Changes to these keys are about to be sent. If one of them is watched here, what this returns is to be called with
 * what was answered: a watch that begins afterwards has no need to ask.
 */
export function notifierOf(
  watching: ReadonlyMap<string, Watched>,
  changes: readonly Change[],
): ((entries: readonly Entry[]) => void) | undefined {
  if (watching.size === 0) return undefined;
  const sent = changes.map(({ key }) => watching.get(key)?.messages);
  return (entries) => {
    for (const [i, entry] of entries.entries()) {
      const watched = watching.get(entry.key);
      if (watched?.subscribed && watched.messages === sent[i]) watched.onAnswer(entry, watched.messages);
    }
  };
}

/** What is done for the watches of a backend. */
export interface Watching<Key extends Watched> {
  /** Begins to watch; throws if that is over for good. */
  enter(key: string, name: string | undefined, notify: () => void): Key;
  /** Ends to watch. */
  leave(watched: Key, notify: () => void, name: string | undefined): void;
  /** Asks the store for what may have gone unsaid. */
  ask(watched: Key): Promise<void>;
}

/** Yields what is known of a key, and then what comes of it: from messages, and by asking in case one was lost. */
export async function* watchThrough<Key extends Watched>(
  watching: Watching<Key>,
  key: string,
  { signal, name, idle = false }: WatchOptions,
): AsyncIterable<Entry> {
  if (signal.aborted) return;
  const wakeUp = new Notify();
  const forget = onAbort(signal, wakeUp.notify);
  const watched = watching.enter(key, name, wakeUp.notify);
  /** What ends this watch. */
  const failure = () => idle && watched.failure?.transient ? undefined : watched.failure;
  try {
    const shown = new WeakSet<Entry>();
    while (!signal.aborted) {
      if (failure() !== undefined) throw failure();
      const entry = watched.next(shown, name !== undefined);
      if (entry !== undefined) {
        shown.add(entry);
        yield entry;
        continue;
      }
      const pollMs = idle && watched.rests ? Infinity : watched.pollMs;
      await wakeUp.sleep(systemClock, Math.max(0, watched.askedAt + pollMs - systemClock.monotonicMs()));
      // A failure that has ended the sleep is thrown before: to ask again would clear it, for ever on a client that is closed.
      if (failure() === undefined && systemClock.monotonicMs() - watched.askedAt >= pollMs) {
        void watching.ask(watched);
      }
    }
  } finally {
    forget();
    watching.leave(watched, wakeUp.notify, name);
  }
}
