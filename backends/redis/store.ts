/** Redis in the dialect of backends. */

import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../../core/backend.ts";
import { Bell } from "../../core/bell.ts";
import { systemClock } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { untilIdle } from "../../core/idle.ts";
import { peerOf } from "../../core/peer.ts";
import type { Port } from "./clients.ts";
import { ServerClock, SKEW_MS, TOLERANCE_MS } from "./clock.ts";
import { failureOf, unexpected } from "./failures.ts";
import { Feed } from "./feed.ts";
import { Outbox, type Reading } from "./outbox.ts";
import { DELETED, DIGITS, entryOf, type Scripts, scriptsOf } from "./scripts.ts";

/** Over so many hash tags are the keys spread, and so many counters there are at most. */
const BUCKETS = 256;

/** A version, or a version and the time. */
const ANSWER = new RegExp(`^\\d{${DIGITS}}(\\d{${DIGITS}})?$`);

/** How long those who have ended to wait may take to leave nothing behind, when the backend is disposed of. */
const LEAVE_MS = 1000;

/** How many places are kept at most. */
const MAX_PLACES = 1000;

/** The names of a record and of its bucket's counter, without what the client itself puts before them. */
interface Place {
  readonly record: string;
  readonly counter: string;
}

/** One command as its words: `["SET", "balance", 100]`. */
export type RedisCommand = readonly (string | number)[];

/** The backend: what it promises stands where it is made, in `redisBackend`. */
export class RedisStore implements LockBackend, AsyncDisposable {
  readonly port: Port;
  readonly skewMs = SKEW_MS;
  readonly graceMs = 200;
  readonly #prefix: string;
  /** What names on the server begin with: the client's own prefix, and ours. */
  readonly #fullPrefix: string;
  readonly #channelSuffix: string;
  readonly #scripts: Scripts;
  readonly #outbox: Outbox;
  readonly #feed: Feed;
  readonly #clock = new ServerClock();
  /** Those of late: a lock that is wanted is wanted again, at the latest when it is released. */
  readonly #places = new Map<string, Place>();

  constructor(open: (onEnd: () => void) => Port, prefix: string) {
    this.#feed = new Feed(this);
    this.port = open(this.#feed.abandon);
    this.#prefix = prefix;
    this.#fullPrefix = this.port.keyPrefix + prefix;
    // Channels, unlike keys, are the same in all databases of a server.
    this.#channelSuffix = this.port.database === 0 ? "" : `@${this.port.database}`;
    this.#scripts = scriptsOf(this.#channelSuffix);
    this.#outbox = new Outbox(this.port, this.#scripts.each, (cause, keys) => this.failure(cause, keys));
  }

  keyOf(key: string): string {
    return this.#placeOf(key).record;
  }

  channelOf(key: string): string {
    return this.port.keyPrefix + this.keyOf(key) + this.#channelSuffix;
  }

  /** The key that a server's name of it, or of its channel, belongs to. */
  keyIn(channel: string): string {
    const rest = channel.slice(this.#fullPrefix.length + 1, channel.length - this.#channelSuffix.length);
    return rest.slice(rest.indexOf(":") + 1);
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    const sent = performance.now();
    const names = keys.map((key) => this.keyOf(key));
    return this.#outbox.run(
      this.#scripts.commit,
      names.length,
      names,
      (reply) => this.#entriesOf(keys, reply, sent),
    );
  }

  commit(changes: readonly Change[]): Promise<CommitResult> {
    const { breaks } = this.port;
    const sent = performance.now();
    // Other answers may set the clock right before this one comes; what is sent now was written by it as it is.
    const { aheadMs } = this.#clock;
    const tell = this.#feed.teller(changes);
    return this.#apply(changes, (reply) => {
      if (Array.isArray(reply)) {
        const entries = this.#entriesOf(changes.map(({ key }) => key), reply, sent);
        if (breaks !== this.port.breaks) {
          throw new LockBackendError("the connection broke, and the client may have sent this commit twice", {
            transient: true,
          });
        }
        tell?.(entries);
        return { ok: false, entries };
      }
      const text = String(reply);
      if (text !== DELETED) this.#assertClock(text, changes, sent, aheadMs);
      // Of all versions that will be, every one is higher.
      const version = text === DELETED ? `${changes[0].version}+` : text.slice(0, DIGITS);
      tell?.(changes.map(({ key, value }) => ({ key, value, version: value === null ? null : version })));
      return { ok: true, version };
    });
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    if (signal.aborted) return;
    const bell = new Bell();
    signal.addEventListener("abort", bell.ring);
    const channel = this.#feed.enter(key, bell.ring);
    try {
      let last: Entry | undefined;
      while (!signal.aborted) {
        const { latest, failure } = channel;
        if (failure !== undefined && !(idle && failure.transient)) throw failure;
        if (latest !== undefined && latest !== last) {
          last = latest;
          yield latest;
          continue;
        }
        // Idle watchers ask only until they have seen what is there now.
        const pollMs = idle && latest !== undefined ? Infinity : channel.pollMs;
        await bell.sleep(systemClock, Math.max(0, channel.askedAt + pollMs - performance.now()));
        if (performance.now() - channel.askedAt >= pollMs) void this.#feed.ask(channel);
      }
    } finally {
      signal.removeEventListener("abort", bell.ring);
      this.#feed.leave(channel, bell.ring);
    }
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    const pattern = `${literal(this.#fullPrefix)}:{*}:${literal(prefix)}*`;
    const seen = new Set<string>();
    for (const send of this.port.senders()) {
      let cursor = "0";
      do {
        const reply = await send("SCAN", cursor, "MATCH", pattern, "COUNT", "1000").catch((error) => {
          throw this.failure(error);
        });
        const [next, names] = reply as [unknown, unknown[]];
        cursor = String(next);
        const keys = names.map((name) => this.keyIn(String(name) + this.#channelSuffix)).filter((key) => {
          const known = seen.has(key);
          seen.add(key);
          return !known && key.startsWith(prefix);
        });
        for (const [entry] of await Promise.all(keys.map((key) => this.read([key])))) {
          if (entry.value !== null) yield entry;
        }
      } while (cursor !== "0");
    }
  }

  now(): number {
    return this.#clock.now();
  }

  /** Runs the caller's commands if the record is still this one; `null` if it is not. */
  async guarded(
    proof: Pick<Entry, "key" | "version">,
    commands: readonly RedisCommand[],
  ): Promise<unknown[] | null> {
    const words = [this.keyOf(proof.key), proof.version ?? ""];
    for (const command of commands) words.push(String(command.length), ...command.map(String));
    return await this.#outbox.run(this.#scripts.guard, 1, words, (replies) => {
      if (replies === null || Array.isArray(replies)) return replies;
      throw unexpected(replies);
    });
  }

  /** A failure of the store that was asked about `keys`, and whether it may pass. */
  failure(cause: unknown, keys: readonly string[] = []): LockBackendError {
    return failureOf(cause, this.port.closed, keys.map((key) => this.port.keyPrefix + key));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#feed.close();
    // Those who waited leave the line: the client is still there.
    await untilIdle(peerOf(this), LEAVE_MS);
    this.port.detach();
  }

  /** Sends a commit by the script that does least. */
  #apply<Answer>(changes: readonly Change[], read: Reading<Answer>): Promise<Answer> {
    const [{ key, version, value, expireInMs = 0 }] = changes;
    if (changes.length > 1 || (value === null && version === null)) return this.#applyAll(changes, read);
    const scripts = this.#scripts;
    const { record, counter } = this.#placeOf(key);
    if (value === null) {
      return this.#outbox.send(scripts.delete, 1, [record, version!, this.#clock.digits()], read);
    }
    const expire = String(expireInMs);
    if (version === null) return this.#outbox.send(scripts.create, 2, [record, counter, value, expire], read);
    const words = [record, counter, version, value, expire, this.#clock.digits()];
    return this.#outbox.send(scripts.replace, 2, words, read);
  }

  #applyAll<Answer>(changes: readonly Change[], read: Reading<Answer>): Promise<Answer> {
    const args = [this.#clock.digits()];
    const records: string[] = [];
    const counters = new Set<string>();
    for (const { key, version, value, expireInMs = 0 } of changes) {
      const { record, counter } = this.#placeOf(key);
      records.push(record);
      counters.add(counter);
      args.push(version ?? "", value === null ? "-" : String(expireInMs), value ?? "");
    }
    const keys = [...records, ...counters];
    return this.#outbox.run(this.#scripts.commit, keys.length, [...keys, ...args], read);
  }

  /** Refuses what was written by a clock that was behind: it would let others take its holder's lease for over. */
  #assertClock(reply: string, changes: readonly Change[], sent: number, aheadMs: number): void {
    const behindMs = this.#learn(reply, sent) - aheadMs;
    if (behindMs <= TOLERANCE_MS || changes.every(({ value }) => value === null)) return;
    throw new LockBackendError(`the clock was ${Math.round(behindMs)} ms behind the server's`, {
      transient: true,
    });
  }

  /** Where a record is kept. */
  #placeOf(key: string): Place {
    let place = this.#places.get(key);
    if (place === undefined) {
      const counter = `${this.#prefix}:${tagOf(key)}`;
      place = { record: `${counter}:${key}`, counter };
      if (this.#places.size === MAX_PLACES) this.#places.clear();
      this.#places.set(key, place);
    }
    return place;
  }

  #entriesOf(keys: readonly string[], reply: unknown, sent: number): readonly Entry[] {
    const [time, ...found] = Array.isArray(reply) ? reply : [reply];
    this.#learn(String(time), sent);
    return keys.map((key, i) => entryOf(key, found[i] ?? null));
  }

  /**
   * Learns the time from an answer, as the clock does; refuses what is none, or clock and records would be wrong
   * for good.
   */
  #learn(answer: string, sent: number): number {
    if (ANSWER.test(answer)) return this.#clock.learn(Number(answer.slice(-DIGITS)) / 1000, sent);
    throw unexpected(answer);
  }
}

/** The hash tag of a key: keys of one tag are on one node of a cluster. By FNV-1a. */
export function tagOf(key: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return `{${(hash >>> 0) % BUCKETS}}`;
}

/** A pattern that matches just this text. */
function literal(text: string): string {
  return text.replace(/[*?[\]\\^]/g, "\\$&");
}
