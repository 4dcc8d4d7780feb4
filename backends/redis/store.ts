/** Redis as a backend. */

import { brand } from "../../core/brand.ts";
import type { Proof } from "../../core/hold.ts";
import type {
  Change,
  CommitOptions,
  CommitResult,
  Entry,
  LockBackend,
  WatchOptions,
} from "../../core/backend.ts";
import { systemClock } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { lockKeyOf, queueKeyOf } from "../../core/identifier.ts";
import { whenLeft } from "../closing.ts";
import type { ClientAdapter } from "./adapters.ts";
import { errorOf, ServerClock, type TimedAnswer } from "../server_clock.ts";
import { watchThrough } from "../watched.ts";
import { closedFailure, failureOf, inTheWay, isWrongType, mayHaveRun, unexpected } from "./failures.ts";
import { Subscriptions } from "./subscriptions.ts";
import { type Reading, ScriptBatcher } from "./script_batcher.ts";
import { DELETED, DIGITS, entryOf, indexOf, type Scripts, scriptsOf, TOLERANCE_MS } from "./scripts.ts";

/** Over so many hash tags are the keys spread, and so many counters there are at most. */
const BUCKETS = 256;

/** A version, or a version and the time. */
const ANSWER = new RegExp(`^\\d{${DIGITS}}(\\d{${DIGITS}})?$`);

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
  static {
    brand(this, "RedisStore/1");
  }

  readonly adapter: ClientAdapter;
  readonly graceMs = 200;
  readonly #prefix: string;
  /** What names on the server begin with: the client's own prefix, and ours. */
  readonly #fullPrefix: string;
  readonly #channelSuffix: string;
  readonly #scripts: Scripts;
  readonly #batcher: ScriptBatcher;
  readonly #subscriptions: Subscriptions;
  /**
   * Before the first answer, this machine's wall clock is trusted: a commit that it has dated wrongly is refused, by the
   * server's script if it was ahead, by `#assertClock` if it was behind.
   */
  readonly #clock = new ServerClock(systemClock, { skewMs: 2 * TOLERANCE_MS, wallErrorMs: TOLERANCE_MS });
  /** The latest: a lock that is wanted is wanted again, at the latest when it is released. */
  readonly #places = new Map<string, Place>();

  readonly #onClose: () => void;

  constructor(open: (onEnd: () => void) => ClientAdapter, prefix: string, onClose: () => void) {
    this.#onClose = onClose;
    this.#subscriptions = new Subscriptions(this);
    this.adapter = open(this.#subscriptions.abandon);
    this.#prefix = prefix;
    this.#fullPrefix = this.adapter.keyPrefix + prefix;
    // Channels, unlike keys, are the same in all databases of a server.
    this.#channelSuffix = this.adapter.database === 0 ? "" : `@${this.adapter.database}`;
    this.#scripts = scriptsOf(this.#channelSuffix);
    this.#batcher = new ScriptBatcher(this.adapter, {
      batch: this.#scripts.batch,
      failure: (cause, keys) => this.failure(cause, keys),
    });
  }

  /** Where it is, and what its client has complained of since it was last connected. */
  get name(): string {
    const { address, trouble } = this.adapter;
    return trouble.explain(`Redis at ${address}`);
  }

  get namespace(): string {
    return `Redis ${this.#fullPrefix}${this.#channelSuffix}`;
  }

  keyOf(key: string): string {
    return this.#placeOf(key).record;
  }

  channelOf(key: string, name?: string): string {
    return this.#serverNameOf(this.keyOf(key)) + this.#channelSuffix + (name === undefined ? "" : `@${name}`);
  }

  get silentChannel(): string {
    return `${this.#fullPrefix}:silent`;
  }

  /** The name of a key on the server, to which the client may add its prefix. */
  #serverNameOf(name: string): string {
    return this.adapter.keyPrefix + name;
  }

  /** The key that a server's name of it belongs to. */
  #keyIn(name: string): string {
    const rest = name.slice(this.#fullPrefix.length + 1);
    return rest.slice(rest.indexOf(":") + 1);
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    const sent = systemClock.monotonicMs();
    const names = keys.map((key) => this.keyOf(key));
    const call = { script: this.#scripts.read, keyCount: names.length, words: names };
    return this.#batcher.run(call, (reply) => {
      const entries = this.#entriesOf(keys, reply, sent);
      const other = entries.find(({ foreign }) => foreign);
      if (other !== undefined) throw inTheWay(this.#serverNameOf(this.keyOf(other.key)));
      return entries;
    });
  }

  commit(changes: readonly Change[], { concerns }: CommitOptions = {}): Promise<CommitResult> {
    const { reconnects } = this.adapter;
    const sent = systemClock.monotonicMs();
    // Other answers may set the clock right before this one comes; what is sent now was written by it as it is.
    const aheadMs = this.#clock.aheadAt(sent);
    const notify = this.#subscriptions.notifier(changes);
    return this.#apply(changes, concerns, (reply) => {
      if (Array.isArray(reply)) {
        const keys = changes.map(({ key }) => key);
        // The scripts for one record announce the queue's, too.
        if (keys.length === 1 && reply.length === 3) keys.push(queueKeyOf(keys[0]));
        const entries = this.#entriesOf(keys, reply, sent);
        // The connection broke meanwhile, and some clients then send again what was not answered.
        if (reconnects !== this.adapter.reconnects) return { ok: false, mayBeEcho: true };
        notify?.(entries);
        return { ok: false, entries };
      }
      const text = String(reply);
      if (text !== DELETED) this.#assertClock(text, changes, sent, aheadMs);
      // Of all versions that will be, every one is higher.
      const version = text === DELETED ? `${changes[0].version}+` : text.slice(0, DIGITS);
      notify?.(changes.map(({ key, value }) => ({ key, value, version: value === null ? null : version })));
      return { ok: true, version };
    });
  }

  whyApart(keys: readonly string[]): string | undefined {
    if (this.adapter.sameSlot || new Set(keys.map(tagOf)).size === 1) return undefined;
    return "they are in different slots of a Redis cluster";
  }

  get errorMs(): number {
    return this.#clock.uncertaintyMs;
  }

  watch(key: string, options: WatchOptions): AsyncIterable<Entry> {
    return watchThrough(this.#subscriptions, key, options);
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    const pattern = `${literal(this.#fullPrefix)}:{*}:${literal(prefix)}*`;
    const seen = new Set<string>();
    for (const send of this.adapter.senders()) {
      let cursor = "0";
      do {
        const reply = await send("SCAN", cursor, "MATCH", pattern, "COUNT", "1000").catch((error) => {
          throw this.failure(error);
        });
        const [next, names] = reply as [unknown, unknown[]];
        cursor = String(next);
        const keys = names.map((name) => this.#keyIn(String(name))).filter((key) => {
          const known = seen.has(key);
          seen.add(key);
          return !known && key.startsWith(prefix);
        });
        for (const entry of await Promise.all(keys.map((key) => this.#listed(key)))) {
          if (entry.value !== null) yield entry;
        }
      } while (cursor !== "0");
    }
  }

  now(): number {
    return this.#clock.now();
  }

  get skewMs(): number {
    return this.#clock.skewMs;
  }

  /**
   * Runs the caller's commands if the records are still these; `null` if they are not. Rejects where a client may have sent
   * them twice: the first copy may have run, and the second one been refused.
   */
  async guarded(
    proofs: readonly Proof[],
    commands: readonly RedisCommand[],
  ): Promise<unknown[] | null> {
    const words = [...proofs.map(({ key }) => this.keyOf(key)), ...proofs.map(({ version }) => version)];
    for (const command of commands) words.push(String(command.length), ...command.map(String));
    const keyCount = proofs.length;
    const { reconnects } = this.adapter;
    return await this.#batcher.run({ script: this.#scripts.guard, keyCount, words }, (replies) => {
      if (replies === null && reconnects !== this.adapter.reconnects) throw mayHaveRun();
      if (replies === null || Array.isArray(replies)) return replies;
      throw unexpected(replies);
    });
  }

  /** A failure of the store that was asked about `keys`, and whether it may pass. */
  failure(cause: unknown, keys: readonly string[] = []): LockBackendError {
    return failureOf(cause, {
      closed: this.adapter.closed,
      trouble: this.adapter.trouble,
      keys: keys.map((key) => this.#serverNameOf(key)),
    });
  }

  /** The failure of all that is asked of a client that is closed. */
  closedFailure(): LockBackendError {
    return closedFailure(this.adapter.trouble);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    this.#onClose();
    await this.#subscriptions.close();
    // Waiters leave the queue now, for the client is still there.
    await whenLeft(this);
    this.adapter.detach();
  }

  /** An entry as a listing shows it: what is no record of ours says what it is, and hides nothing of the rest. */
  async #listed(key: string): Promise<Entry> {
    const sent = systemClock.monotonicMs();
    const record = this.keyOf(key);
    const call = { script: this.#scripts.read, keyCount: 1, words: [record] };
    try {
      return (await this.#batcher.run(call, (reply) => this.#entriesOf([key], reply, sent)))[0];
    } catch (error) {
      if (!isWrongType(error)) throw error;
      const type = await this.#batcher.run({ ...call, script: this.#scripts.type }, String);
      // It may be gone by now.
      return type === "none"
        ? { key, value: null, version: null }
        : { key, value: `a Redis ${type}`, version: "0".repeat(DIGITS), foreign: true };
    }
  }

  /** Sends a commit by the script that does least. */
  #apply<Answer>(
    changes: readonly Change[],
    concerns: readonly string[] | undefined,
    read: Reading<Answer>,
  ): Promise<Answer> {
    const [{ key, version, value, expireInMs = 0, isOwn = false }] = changes;
    // Only the script for several announces to some and not to others.
    const isForSome = concerns !== undefined && concerns.length > 0;
    const isPlain = changes.length === 1 && !isForSome && !(value === null && version === null);
    if (!isPlain) return this.#applyAll(changes, concerns, read);
    const whom = concerns === undefined ? "" : "@";
    const { create, replace, delete: remove } = this.#scripts;
    const { record, counter } = this.#placeOf(key);
    if (value === null) {
      const words = [record, version!, isOwn ? "" : this.#digits(), whom];
      return this.#batcher.send({ script: remove, keyCount: 1, words }, read);
    }
    const expire = String(expireInMs);
    if (version === null) {
      return this.#batcher.send(
        { script: create, keyCount: 2, words: [record, counter, value, expire, whom] },
        read,
      );
    }
    const words = [record, counter, version, value, expire, this.#digits(), whom];
    return this.#batcher.send({ script: replace, keyCount: 2, words }, read);
  }

  #applyAll<Answer>(
    changes: readonly Change[],
    concerns: readonly string[] | undefined,
    read: Reading<Answer>,
  ): Promise<Answer> {
    // A server writes to its clients in the opposite order: the first name is to be notified first.
    const whom = concerns === undefined ? "*" : concerns.map((name) => `${name},`).reverse().join("");
    const args = [this.#digits(), indexOf(changes), whom];
    const records: string[] = [];
    const counters = new Set<string>();
    for (const { key, version, value, expireInMs = 0 } of changes) {
      const { record, counter } = this.#placeOf(key);
      records.push(record);
      counters.add(counter);
      args.push(version ?? "", value === null ? "-" : String(expireInMs), value ?? "");
    }
    const keys = [...records, ...counters];
    const call = { script: this.#scripts.commit, keyCount: keys.length, words: [...keys, ...args] };
    return this.#batcher.run(call, read);
  }

  /** The time as scripts take it. */
  #digits(): string {
    return String(Math.floor(this.now()));
  }

  /** Refuses what was written by a clock that was behind: it would let others take its holder's lease for over. */
  #assertClock(reply: string, changes: readonly Change[], sent: number, aheadMs: number): void {
    const behindMs = errorOf(aheadMs, this.#learn(reply, sent));
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

  /** Learns the time from an answer; refuses what is none, or clock and records would be wrong for good. */
  #learn(text: string, sentMs: number): TimedAnswer {
    if (!ANSWER.test(text)) throw unexpected(text);
    const serverMs = Number(text.slice(-DIGITS)) / 1000;
    const answer = { sentMs, receivedMs: systemClock.monotonicMs(), serverMs };
    this.#clock.learn(answer);
    return answer;
  }
}

/** The hash tag of a key, the same for a lock and its queue: keys of one tag are on one node of a cluster. By FNV-1a. */
export function tagOf(anyKey: string): string {
  const key = lockKeyOf(anyKey);
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return `{${(hash >>> 0) % BUCKETS}}`;
}

/** A pattern that matches just this text. */
function literal(text: string): string {
  return text.replace(/[*?[\]\\^]/g, "\\$&");
}
