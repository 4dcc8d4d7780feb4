/**
 * The Redis backend, for Redis 6 and later and for Valkey: alone, replicated, or as a cluster.
 *
 * It takes a client of `npm:ioredis` (5 and 6, also its `Cluster`) or of `npm:redis` (5 and 6). Its locks are as
 * durable as that Redis is: see `docs/redis.md`.
 *
 * @example
 * ```ts ignore
 * import { Redis } from "npm:ioredis";
 * import { configure, lock, LOCK_KINDS } from "@holdfast/lock";
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 *
 * const client = new Redis("redis://localhost:6379");
 * configure({ weak: redisBackend(client) });
 * await lock("thumbnail:17", { kind: LOCK_KINDS.WEAK }).run(async () => {});
 * ```
 *
 * @module
 */

import { createHash } from "node:crypto";
import { nextTick } from "node:process";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../core/backend.ts";
import { Bell } from "../core/bell.ts";
import { systemClock } from "../core/clock.ts";
import { backendError, LockBackendError } from "../core/errors.ts";
import { describe, refuse } from "../core/identifier.ts";
import { holdOf, type Lock } from "../core/lock.ts";

/** What the backend needs of an `ioredis` client. */
export interface IoRedisClient {
  /** Its options; only these are looked at. */
  readonly options: { readonly keyPrefix?: string; readonly db?: number };
  /** `"end"` once it is closed for good. */
  readonly status: string;
  /** Runs a script that the server knows. */
  evalsha(sha: string, keyCount: number, ...args: string[]): Promise<unknown>;
  /** Runs a script. */
  eval(script: string, keyCount: number, ...args: string[]): Promise<unknown>;
  /** Sends any command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** Makes another client like this one. */
  duplicate(options: { [name: string]: unknown }): IoRedisSubscriber;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
  /** Ends listening. */
  off(event: string, listener: () => void): unknown;
}

/** What the backend needs of the duplicate of an `ioredis` client. */
export interface IoRedisSubscriber {
  /** `"end"` once it is closed for good. */
  readonly status: string;
  /** Subscribes to channels. */
  subscribe(...channels: string[]): Promise<unknown>;
  /** Ends subscriptions. */
  unsubscribe(...channels: string[]): Promise<unknown>;
  /** Closes the connection. */
  disconnect(): void;
  // deno-lint-ignore no-explicit-any -- The clients' own types name the arguments of each event.
  /** Listens to an event. */ on(event: string, listener: (...args: any[]) => void): unknown;
}

/** What the backend needs of an `ioredis` `Cluster`. */
export interface IoRedisCluster extends Omit<IoRedisClient, "call" | "duplicate"> {
  /** Its options; only this one is looked at. */
  readonly options: { readonly keyPrefix?: string };
  /** Tells it from a client of a single server. */
  readonly isCluster: boolean;
  /** The clients of its nodes. */
  nodes(role: "master"): Pick<IoRedisClient, "call" | "duplicate">[];
}

/** What the backend needs of a `redis` (node-redis) client. */
export interface NodeRedisClient {
  /** Its options; only these are looked at. */
  readonly options?: { readonly database?: number; readonly socket?: object };
  /** Whether it is connected, or on the way to be. */
  readonly isOpen: boolean;
  /** Sends any command. */
  sendCommand(args: string[]): Promise<unknown>;
  /** Makes another client like this one. */
  duplicate(options: { socket: { reconnectStrategy: false } }): NodeRedisSubscriber;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
  /** Ends listening. */
  off(event: string, listener: () => void): unknown;
}

/** What the backend needs of the duplicate of a `redis` (node-redis) client. */
export interface NodeRedisSubscriber {
  /** Connects. */
  connect(): Promise<unknown>;
  /** Subscribes to channels. */
  subscribe(channels: string[], listener: (message: string, channel: string) => void): Promise<unknown>;
  /** Ends subscriptions. */
  unsubscribe(channels: string[]): Promise<unknown>;
  /** Closes the connection. */
  destroy(): void;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
}

/** Options of {@linkcode redisBackend}. */
export interface RedisBackendOptions {
  /**
   * What the names of all keys and channels begin with; not empty, without braces. An `ioredis` client's own
   * `keyPrefix` goes before it. Default: `"holdfast"`.
   */
  prefix?: string;
}

/** What {@linkcode redisBackend} makes. */
export interface RedisBackend extends LockBackend, AsyncDisposable {
  /**
   * Closes the connection for subscriptions, if one was opened; never the client that was handed in. Nobody can
   * wait for a lock on this backend afterwards.
   */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Over so many hash tags are the keys spread, and so many counters there are at most. */
const BUCKETS = 256;
/** How many digits a version has: microseconds since 1970 until the year 2286. */
const DIGITS = 16;
/** What `DELETE` answers: text, for a client can be told to give numbers in another form. */
const DELETED = "deleted";
/** So many commits at most go together: the server does nothing else meanwhile, and we await the first as long. */
const MOST_TOGETHER = 32;
const SKEW_MS = 500;
/** How wrong a process's view of the server's clock may be, so that two of them differ by `SKEW_MS` at most. */
const TOLERANCE_MS = SKEW_MS / 2;
/** After how long a waiter asks in case a message was lost: at first, and, doubled each time in vain, at most. */
const BACKSTOP_MS = { least: 1000, most: 30_000 };
/** For how long a subscription is kept that nobody uses: the next one to wait finds it there. */
const LINGER_MS = 10_000;
/** The bounds between which the connection for subscriptions is tried again. */
const RECONNECT_MS = { least: 20, most: 2000 };

/** The time in microseconds, as the digits of a version. */
const TIME = `
local call, now = redis.call, nil
local function time()
  if not now then
    local parts = call('TIME')
    now = parts[1] .. string.sub('00000' .. parts[2], -6)
  end
  return now
end
`;

/**
 * Writes one record: `seen` is the version that it must have ("" if it must be absent), `expire` after how many
 * milliseconds it may go ("0" never), `at` the sender's view of the time. Answers the new version, with the time
 * behind it where that differs; or the time and the record now there.
 *
 * Versions are the time in microseconds, but always higher than the bucket's last: so they rise even if the
 * clock steps back, and even if the counters are lost. A change that was made by a clock far ahead of ours is refused like
 * one that came too late, for it may have taken a living holder for a lapsed one.
 */
const PUT = `
local function put(key, counter, seen, value, expire, at)
  local now = time()
  if seen ~= '' then
    local found = call('GET', key)
    if not found or string.sub(found, 1, ${DIGITS}) ~= seen or at * 1000 > now + ${TOLERANCE_MS * 1000} then
      return {now, found}
    end
  end
  local version, answer = now, now
  local last = call('GETSET', counter, now)
  if last and last + 1 > now + 0 then
    version = string.format('%0${DIGITS}.0f', last + 1)
    answer = version .. now
    call('SET', counter, version)
  end
  local record, done = version .. value, true
  if seen == '' then
    if expire == '0' then
      done = call('SET', key, record, 'NX')
    else
      done = call('SET', key, record, 'NX', 'PX', expire)
    end
    if not done then return {now, call('GET', key)} end
  elseif expire == '0' then
    call('SET', key, record)
  else
    call('SET', key, record, 'PX', expire)
  end
  call('PUBLISH', key .. '@DB', record)
  return answer
end
`;

/** Deletes a record if its version is `seen`. Answers `DELETED`; or the time and the record now there. */
const DELETE = `
local function delete(key, seen)
  local found = call('GET', key)
  if found and string.sub(found, 1, ${DIGITS}) == seen then
    call('DEL', key)
    call('PUBLISH', key .. '@DB', '')
    return '${DELETED}'
  end
  return {time(), found}
end
`;

/**
 * Does to each of several records what its own commit would have done, whatever becomes of the others. ARGV: for
 * each the number of arguments and these. Answers what they would have been answered, a failure as its text alone.
 */
const EACH = `
local replies, key, argument = {}, 1, 1
while argument <= #ARGV do
  local count = tonumber(ARGV[argument])
  local done, reply
  if count == 1 then
    done, reply = pcall(delete, KEYS[key], ARGV[argument + 1])
    key = key + 1
  elseif count == 2 then
    done, reply = pcall(put, KEYS[key], KEYS[key + 1], '', ARGV[argument + 1], ARGV[argument + 2])
    key = key + 2
  else
    done, reply = pcall(put, KEYS[key], KEYS[key + 1], unpack(ARGV, argument + 1, argument + count))
    key = key + 2
  end
  if not done then reply = {type(reply) == 'table' and reply.err or reply} end
  replies[#replies + 1] = reply
  argument = argument + 1 + count
end
return replies
`;

/**
 * Reads records, or commits changes to several. KEYS: the records, then their buckets' counters. ARGV: the
 * sender's view of the time; then for each record the version that it must have, after how many milliseconds it
 * may go ("0" never, "-" at once), and its value. No ARGV: only reads. Answers as the others do, with all
 * records.
 */
const COMMIT = `
local count, fits, found = (#ARGV - 1) / 3, true, {false}
if #ARGV == 0 then count, fits = #KEYS, false end
for i = 1, count do
  local record = redis.call('GET', KEYS[i])
  found[i + 1] = record
  if (record and record:sub(1, ${DIGITS}) or '') ~= ARGV[3 * i - 1] then fits = false end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local version = string.format('%0${DIGITS}.0f', now)
if not fits or ARGV[1] * 1000 > now + ${TOLERANCE_MS * 1000} then
  found[1] = version
  return found
end
local least = now
for i = count + 1, #KEYS do
  least = math.max(least, (redis.call('GETSET', KEYS[i], version) or 0) + 1)
end
local answer = version
if least > now then
  version = string.format('%0${DIGITS}.0f', least)
  answer = version .. answer
  for i = count + 1, #KEYS do redis.call('SET', KEYS[i], version) end
end
for i = 1, count do
  local record, expire = version .. ARGV[3 * i + 1], ARGV[3 * i]
  if expire == '-' then
    record = ''
    redis.call('DEL', KEYS[i])
  elseif expire == '0' then
    redis.call('SET', KEYS[i], record)
  else
    redis.call('SET', KEYS[i], record, 'PX', expire)
  end
  redis.call('PUBLISH', KEYS[i] .. '@DB', record)
end
return answer
`;

/** Runs commands if the record KEYS[1] still has the version ARGV[1]. ARGV: then each as its length and its words. */
const GUARD = `
local record = redis.call('GET', KEYS[1])
if not record or string.sub(record, 1, ${DIGITS}) ~= ARGV[1] then return false end
local replies, at = {}, 2
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + length))
  at = at + 1 + length
end
return replies
`;

/** A script, and the name under which a server keeps it. */
class Script {
  readonly text: string;
  readonly sha: string;

  constructor(text: string) {
    this.text = text;
    this.sha = createHash("sha1").update(text).digest("hex");
  }
}

/** A client, whatever its make. */
interface Port {
  /** What the client itself puts before the name of every key. */
  readonly keyPrefix: string;
  readonly database: number;
  /** Whether one script may touch any keys: not in a cluster, where those of a hash tag are together. */
  readonly together: boolean;
  /** Whether it is closed for good. */
  readonly closed: boolean;
  /** How often its connection broke, if it then repeats commands whose answer it has not got. */
  readonly breaks: number;
  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Sends a command to each server that holds keys of its own: one function for each. */
  senders(): ((...command: string[]) => Promise<unknown>)[];
  /** Opens a connection for subscriptions. Once it breaks it is of no more use, and `onEnd` is called. */
  subscriber(onMessage: (channel: string, message: string) => void, onEnd: () => void): Promise<Subscriber>;
  /** Takes our listeners from the client. */
  detach(): void;
}

/** What makes an answer of a script's reply; it may throw. */
type Reading<Answer> = (reply: unknown) => Answer;

/** The work of one script on one record, on its way to the server. */
interface Errand {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  answer(reply: unknown): void;
  fail(error: unknown): void;
}

interface Subscriber {
  subscribe(channels: string[]): Promise<unknown>;
  unsubscribe(channels: string[]): Promise<unknown>;
  close(): Promise<void>;
}

class IoRedisPort implements Port {
  breaks = 0;
  readonly #client: IoRedisClient | IoRedisCluster;
  readonly #onBreak = () => void this.breaks++;
  readonly #onEnd: () => void;

  constructor(client: IoRedisClient | IoRedisCluster, onEnd: () => void) {
    this.#client = client;
    this.#onEnd = onEnd;
    // A cluster tells only that way that it has lost the connection to a node.
    for (const event of ["close", "-node"]) client.on(event, this.#onBreak);
    client.on("end", onEnd);
  }

  get keyPrefix(): string {
    return this.#client.options.keyPrefix ?? "";
  }

  get together(): boolean {
    return !("nodes" in this.#client);
  }

  get database(): number {
    const { options }: { options: IoRedisClient["options"] } = this.#client;
    return options.db ?? 0;
  }

  get closed(): boolean {
    return this.#client.status === "end";
  }

  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.evalsha(sha, keys.length, ...keys, ...args);
  }

  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.eval(script, keys.length, ...keys, ...args);
  }

  senders(): ((...command: string[]) => Promise<unknown>)[] {
    return this.#nodes().map((node) => (command, ...args) => node.call(command, ...args));
  }

  subscriber(onMessage: (channel: string, message: string) => void, onEnd: () => void): Promise<Subscriber> {
    const nodes = this.#nodes();
    // In a cluster, what is published reaches every node.
    const node = nodes[Math.floor(Math.random() * nodes.length)];
    if (node === undefined) return Promise.reject(new Error("the cluster shows no node"));
    const options = { keyPrefix: "", retryStrategy: null, lazyConnect: false, enableOfflineQueue: true };
    const redis = node.duplicate(options);
    // What goes wrong shows in the commands and in the end.
    redis.on("error", () => {});
    redis.on("message", onMessage);
    const ended = new Promise<void>((resolve) => redis.on("end", resolve));
    redis.on("end", onEnd);
    return Promise.resolve({
      subscribe: (channels) => redis.subscribe(...channels),
      unsubscribe: (channels) => redis.unsubscribe(...channels),
      close() {
        // To disconnect what has ended by itself would wait for the end of nothing.
        if (redis.status !== "end") redis.disconnect();
        return ended;
      },
    });
  }

  detach(): void {
    for (const event of ["close", "-node"]) this.#client.off(event, this.#onBreak);
    this.#client.off("end", this.#onEnd);
  }

  #nodes(): Pick<IoRedisClient, "call" | "duplicate">[] {
    return "nodes" in this.#client ? this.#client.nodes("master") : [this.#client];
  }
}

class NodeRedisPort implements Port {
  readonly keyPrefix = "";
  readonly together = true;
  /** This client repeats nothing by itself. */
  readonly breaks = 0;
  readonly #client: NodeRedisClient;
  readonly #onEnd: () => void;

  constructor(client: NodeRedisClient, onEnd: () => void) {
    this.#client = client;
    this.#onEnd = onEnd;
    client.on("end", onEnd);
  }

  get database(): number {
    return this.#client.options?.database ?? 0;
  }

  get closed(): boolean {
    return !this.#client.isOpen;
  }

  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(["EVALSHA", sha, String(keys.length), ...keys, ...args]);
  }

  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(["EVAL", script, String(keys.length), ...keys, ...args]);
  }

  senders(): ((...command: string[]) => Promise<unknown>)[] {
    return [(...command) => this.#client.sendCommand(command)];
  }

  async subscriber(
    onMessage: (channel: string, message: string) => void,
    onEnd: () => void,
  ): Promise<Subscriber> {
    const socket = { ...this.#client.options?.socket, reconnectStrategy: false } as const;
    const redis = this.#client.duplicate({ socket });
    // deno-lint-ignore require-await -- What it throws is a rejection: the client is closed already.
    const close = async () => redis.destroy();
    redis.on("error", () => {
      close().catch(() => {});
      onEnd();
    });
    await redis.connect();
    return {
      subscribe: (channels) => redis.subscribe(channels, (message, channel) => onMessage(channel, message)),
      unsubscribe: (channels) => redis.unsubscribe(channels),
      close: () => close().catch(() => {}),
    };
  }

  detach(): void {
    this.#client.off("end", this.#onEnd);
  }
}

/** The server's clock as far as it can be known: by how much it is surely, at least and at most, ahead of ours. */
class ServerClock {
  #least: number;
  #most: number;

  constructor() {
    // Until the server has told, our own wall clock is trusted as far as two processes may differ at all.
    const guess = Date.now() - performance.now();
    this.#least = guess - TOLERANCE_MS;
    this.#most = guess + TOLERANCE_MS;
  }

  now(): number {
    return performance.now() + (this.#least + this.#most) / 2;
  }

  /** The same as scripts take it. */
  digits(): string {
    return String(Math.floor(this.now()));
  }

  /** Learns from an answer to what was sent at `sent`. By how many milliseconds our view was surely behind. */
  learn(serverMs: number, sent: number): number {
    const least = serverMs - performance.now();
    const most = serverMs - sent;
    const behind = least - this.#most;
    // Either narrows what is known, or, if the clocks have parted, moves it no farther than it must.
    this.#least = Math.min(Math.max(this.#least, least), most);
    this.#most = Math.max(Math.min(this.#most, most), least);
    return behind;
  }
}

/** What is known of one key that somebody here watches, or has watched lately. */
class Channel {
  readonly key: string;
  /** Wakes those who watch. */
  readonly rings = new Set<() => void>();
  /** Whether we are subscribed to it. */
  live = false;
  /** Whether `latest` is at least as new as everything that this process has been answered. */
  fresh = false;
  /** How many messages have come. */
  messages = 0;
  latest: Entry | undefined;
  /** When the store was last asked, and after how long it is asked again. */
  askedAt: number = performance.now();
  pollMs: number = BACKSTOP_MS.least;
  asking = false;
  failure: LockBackendError | undefined;
  leftAt = 0;

  constructor(key: string) {
    this.key = key;
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

/** All subscriptions of this process, on one connection that is opened when it is first needed. */
class Feed {
  readonly #backend: RedisStore;
  readonly #channels = new Map<string, Channel>();
  readonly #bell = new Bell();
  #subscriber: Subscriber | undefined;
  #subscribing = false;
  #abandoned: Promise<void> | undefined;
  #stopSweep: (() => void) | undefined;
  #closed = false;

  constructor(backend: RedisStore) {
    this.#backend = backend;
  }

  /**
   * Changes to these keys are about to be sent. If somebody here watches one of them, calling what this returns
   * with what was answered lets him know.
   */
  teller(changes: readonly Change[]): ((entries: readonly Entry[]) => void) | undefined {
    if (this.#channels.size === 0) return undefined;
    const watched = changes.map(({ key }) => this.#channels.get(key));
    const messages = watched.map((channel) => channel?.live ? channel.messages : undefined);
    return (entries) => {
      for (const [i, channel] of watched.entries()) {
        if (channel === undefined || messages[i] === undefined || !channel.live) continue;
        if (channel.messages === messages[i]) channel.show(entries[i]);
        channel.fresh = true;
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
    } else if (channel.live && !channel.fresh) {
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
      const vain = channel.live && entry.version === channel.latest?.version;
      channel.pollMs = vain ? Math.min(2 * channel.pollMs, BACKSTOP_MS.most) : BACKSTOP_MS.least;
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
    this.#stopSweep?.();
    this.#fail(new LockBackendError("the Redis backend is disposed of"));
    this.#bell.ring();
    await this.#subscriber?.close();
    await this.#abandoned;
  }

  /** The client is closed: nothing more can come of the subscriptions either. */
  readonly abandon = (): void => {
    this.#stopSweep?.();
    this.#stopSweep = undefined;
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
    for (let delayMs = RECONNECT_MS.least; !this.#closed;) {
      const channels = [...this.#channels.values()].filter(({ live }) => !live);
      if (channels.length === 0) break;
      let subscriber: Subscriber | undefined;
      try {
        subscriber = this.#subscriber ??= await this.#open();
        await subscriber.subscribe(channels.map(({ key }) => this.#backend.channelOf(key)));
        if (subscriber !== this.#subscriber) continue;
        for (const channel of channels) {
          channel.live = true;
          void this.ask(channel);
        }
        delayMs = RECONNECT_MS.least;
      } catch (cause) {
        const error = this.#backend.failure(cause);
        if (subscriber === this.#subscriber) this.#lose();
        void subscriber?.close();
        if (!error.transient) {
          for (const channel of channels) this.#channels.delete(channel.key);
          for (const channel of channels) channel.fail(error);
        }
        await this.#bell.sleep(systemClock, delayMs);
        delayMs = Math.min(2 * delayMs, RECONNECT_MS.most);
      }
    }
    this.#subscribing = false;
  }

  async #open(): Promise<Subscriber> {
    const known: { ended: boolean; subscriber?: Subscriber } = { ended: false };
    // It may be called before there is a subscriber to compare with.
    const subscriber = await this.#backend.port.subscriber(this.#deliver, () => {
      known.ended = true;
      if (known.subscriber !== undefined && known.subscriber === this.#subscriber) this.#lose();
    });
    known.subscriber = subscriber;
    if (!known.ended && !this.#closed && !this.#backend.port.closed) return subscriber;
    await subscriber.close();
    throw new LockBackendError("the connection for subscriptions has ended", { transient: true });
  }

  /** The connection is gone: what is known may be old until there is a new one. */
  #lose(): void {
    this.#subscriber = undefined;
    for (const [key, channel] of this.#channels) {
      channel.live = channel.fresh = false;
      channel.latest = undefined;
      if (channel.rings.size === 0) this.#channels.delete(key);
    }
    void this.#subscribe();
  }

  #sweepLater(): void {
    if (this.#stopSweep !== undefined || this.#closed) return;
    this.#stopSweep = systemClock.after(LINGER_MS, () => {
      this.#stopSweep = undefined;
      this.#sweep();
    }, true);
  }

  #sweep(): void {
    const unused = [...this.#channels.values()].filter(({ rings }) => rings.size === 0);
    const leaving = unused.filter(({ leftAt }) => performance.now() - leftAt >= LINGER_MS);
    for (const { key } of leaving) this.#channels.delete(key);
    const names = leaving.filter(({ live }) => live).map(({ key }) => this.#backend.channelOf(key));
    // If it fails the connection is gone, and with it the subscriptions.
    if (names.length > 0) this.#subscriber?.unsubscribe(names).catch(() => {});
    if (leaving.length < unused.length) this.#sweepLater();
  }
}

/**
 * Sends scripts. As long as an answer is due, more may be on their way out in the same turn of the event loop: these
 * go together, as one script, for a command of its own costs more than what it does.
 */
class Outbox {
  readonly #port: Port;
  readonly #each: Script;
  readonly #failure: (cause: unknown) => LockBackendError;
  /** How many answers are due. */
  #due = 0;
  #gathered: Errand[] = [];
  #together: boolean;

  constructor(port: Port, each: Script, failure: (cause: unknown) => LockBackendError) {
    this.#port = port;
    this.#each = each;
    this.#failure = failure;
    this.#together = port.together;
  }

  /** Runs a script, which the server may have to be told. */
  run<Answer>(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
    read: Reading<Answer>,
  ): Promise<Answer> {
    this.#due++;
    return this.#port.evalSha(script.sha, keys, args).then(
      (reply) => {
        this.#due--;
        return read(reply);
      },
      async (error) => {
        this.#due--;
        const unknown = error instanceof Error && error.message.startsWith("NOSCRIPT");
        if (!unknown) throw this.#failure(error);
        return read(
          await this.#port.eval(script.text, keys, args).catch((error) => {
            throw this.#failure(error);
          }),
        );
      },
    );
  }

  /** The same for `PUT` and `DELETE`, which may go together with others. */
  send<Answer>(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
    read: Reading<Answer>,
  ): Promise<Answer> {
    if (this.#due === 0 || !this.#together) return this.run(script, keys, args, read);
    return new Promise((resolve, reject) => {
      const answer = (reply: unknown) => {
        try {
          resolve(read(reply));
        } catch (error) {
          reject(error);
        }
      };
      const count = this.#gathered.push({ script, keys, args, answer, fail: reject });
      if (count === 1) nextTick(this.#flush);
      if (count === MOST_TOGETHER) this.#flush();
    });
  }

  readonly #flush = (): void => {
    const errands = this.#gathered;
    this.#gathered = [];
    if (errands.length > 1) this.#runEach(errands);
    else this.#runApart(errands);
  };

  #runApart(errands: readonly Errand[]): void {
    for (const { script, keys, args, answer, fail } of errands) {
      this.run(script, keys, args, answer).catch(fail);
    }
  }

  #runEach(errands: readonly Errand[]): void {
    const keys: string[] = [];
    const args: string[] = [];
    for (const errand of errands) {
      keys.push(...errand.keys);
      args.push(String(errand.args.length), ...errand.args);
    }
    const spread = (replies: unknown) => {
      if (!Array.isArray(replies)) throw unexpected(replies);
      for (const [i, reply] of replies.entries()) {
        const failed = Array.isArray(reply) && reply.length === 1;
        if (failed) errands[i].fail(this.#failure(new Error(String(reply[0]))));
        else errands[i].answer(reply);
      }
    };
    this.run(this.#each, keys, args, spread).catch((error: LockBackendError) => {
      if (!isApart(error.cause)) return errands.forEach(({ fail }) => fail(error));
      // Nothing was done. A client that is none of a cluster may still speak to one that is whole at one address.
      this.#together = false;
      this.#runApart(errands);
    });
  }
}

const CLOSED = new LockBackendError("the Redis client is closed, or was never connected");

class RedisStore implements RedisBackend {
  readonly port: Port;
  readonly skewMs = SKEW_MS;
  readonly graceMs = 200;
  readonly #prefix: string;
  /** What names on the server begin with: the client's own prefix, and ours. */
  readonly #fullPrefix: string;
  readonly #channelSuffix: string;
  readonly #create: Script;
  readonly #put: Script;
  readonly #delete: Script;
  readonly #commit: Script;
  readonly #outbox: Outbox;
  readonly #guard = new Script(GUARD);
  readonly #feed: Feed;
  readonly #clock = new ServerClock();

  constructor(open: (onEnd: () => void) => Port, prefix: string) {
    this.#feed = new Feed(this);
    this.port = open(this.#feed.abandon);
    this.#prefix = prefix;
    this.#fullPrefix = this.port.keyPrefix + prefix;
    // Channels, unlike keys, are the same in all databases of a server.
    this.#channelSuffix = this.port.database === 0 ? "" : `@${this.port.database}`;
    const script = (text: string) => new Script(text.replaceAll("'@DB'", `'${this.#channelSuffix}'`));
    this.#create = script(`${TIME}${PUT}return put(KEYS[1], KEYS[2], '', ARGV[1], ARGV[2])`);
    this.#put = script(`${TIME}${PUT}return put(KEYS[1], KEYS[2], unpack(ARGV))`);
    this.#delete = script(`${TIME}${DELETE}return delete(KEYS[1], ARGV[1])`);
    this.#commit = script(COMMIT);
    this.#outbox = new Outbox(
      this.port,
      script(`${TIME}${PUT}${DELETE}${EACH}`),
      (cause) => this.failure(cause),
    );
  }

  keyOf(key: string): string {
    return this.#named(tagOf(key), key);
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
      this.#commit,
      names,
      [],
      (reply) => this.#entriesOf(keys, reply, sent),
    );
  }

  commit(changes: readonly Change[]): Promise<CommitResult> {
    const { breaks } = this.port;
    const sent = performance.now();
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
      if (text !== DELETED) this.#assertClock(text, changes, sent);
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
    const args = [proof.version ?? ""];
    for (const command of commands) args.push(String(command.length), ...command.map(String));
    const keys = [this.keyOf(proof.key)];
    return await this.#outbox.run(this.#guard, keys, args, (replies) => {
      if (replies === null || Array.isArray(replies)) return replies;
      throw unexpected(replies);
    });
  }

  /** A failure of the store, and whether it may pass. */
  failure(cause: unknown): LockBackendError {
    if (cause instanceof LockBackendError) return cause;
    const message = (cause instanceof Error ? cause.message : String(cause)).replace(WHERE, "");
    if (this.port.closed) return new LockBackendError(CLOSED.message, { cause });
    if (message.startsWith("WRONGTYPE")) {
      return new LockBackendError(`a key of another type is in the way: ${message}`, { cause });
    }
    if (/^(MOVED|ASK|CROSSSLOT)|non local key/.test(message)) {
      return new LockBackendError(
        `${message} (a cluster needs a client of the cluster, and keeps together only keys of one hash tag)`,
        { cause },
      );
    }
    // What is left is the network's or the server's state: loading, failing over, full, paused.
    return new LockBackendError(message, { cause, transient: !LASTING.test(message) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.port.detach();
    await this.#feed.close();
  }

  /** Sends a commit by the script that does least. */
  #apply<Answer>(changes: readonly Change[], read: Reading<Answer>): Promise<Answer> {
    const [{ key, version, value, expireInMs = 0 }] = changes;
    if (changes.length > 1 || (value === null && version === null)) return this.#applyAll(changes, read);
    const tag = tagOf(key);
    const name = this.#named(tag, key);
    if (value === null) return this.#outbox.send(this.#delete, [name], [version!], read);
    const keys = [name, this.#counter(tag)];
    const expire = String(expireInMs);
    if (version === null) return this.#outbox.send(this.#create, keys, [value, expire], read);
    return this.#outbox.send(this.#put, keys, [version, value, expire, this.#clock.digits()], read);
  }

  #applyAll<Answer>(changes: readonly Change[], read: Reading<Answer>): Promise<Answer> {
    const args = [this.#clock.digits()];
    const records: string[] = [];
    const counters = new Set<string>();
    for (const { key, version, value, expireInMs = 0 } of changes) {
      const tag = tagOf(key);
      records.push(this.#named(tag, key));
      counters.add(this.#counter(tag));
      args.push(version ?? "", value === null ? "-" : String(expireInMs), value ?? "");
    }
    return this.#outbox.run(this.#commit, [...records, ...counters], args, read);
  }

  /** Refuses what was written by a clock that was behind: it would let others take its holder's lease for over. */
  #assertClock(reply: string, changes: readonly Change[], sent: number): void {
    const behindMs = this.#learn(reply, sent);
    if (behindMs <= TOLERANCE_MS || changes.every(({ value }) => value === null)) return;
    throw new LockBackendError(`the clock was ${Math.round(behindMs)} ms behind the server's`, {
      transient: true,
    });
  }

  #counter(tag: string): string {
    return `${this.#prefix}:${tag}`;
  }

  #named(tag: string, key: string): string {
    return `${this.#prefix}:${tag}:${key}`;
  }

  #entriesOf(keys: readonly string[], reply: unknown, sent: number): readonly Entry[] {
    const [time, ...found] = Array.isArray(reply) ? reply : [reply];
    this.#learn(String(time), sent);
    return keys.map((key, i) => entryOf(key, found[i] ?? null));
  }

  /** Learns the time from an answer; refuses what is none, or clock and records would be wrong for good. */
  #learn(answer: string, sent: number): number {
    if (ANSWER.test(answer)) return this.#clock.learn(Number(answer.slice(-DIGITS)) / 1000, sent);
    throw unexpected(answer);
  }
}

/** What Redis 6 puts before the error of a command in a script. */
const WHERE = /^(ERR Error running script \(call to \S+\): )?@user_script: ?\d+: /;

/** The failure of an answer that no script gives. What became of the commit is unknown. */
function unexpected(answer: unknown): LockBackendError {
  return new LockBackendError(
    `the server answered a script with ${
      describe(answer)
    }: is the client in a MULTI, or does it map replies?`,
    { transient: true },
  );
}

/** A version, or a version and the time. */
const ANSWER = new RegExp(`^\\d{${DIGITS}}(\\d{${DIGITS}})?$`);

/** How errors begin that do not pass by waiting. */
const LASTING =
  /^(user_script:|NOAUTH|WRONGPASS|NOPERM|NOPROTO|ERR(?! max number of clients))|subscriber mode/;

/**
 * Makes a backend that keeps locks in Redis (6 or later) or Valkey. The client stays the caller's: it is never
 * closed here. When somebody first waits for a lock, one more connection like it is opened for subscriptions;
 * disposing of the backend closes that one, and so does closing the client. Use one backend per client.
 *
 * Throws TypeError for what is not a client, and TypeError or RangeError for bad options.
 *
 * @example
 * ```ts ignore
 * import { createClient } from "npm:redis";
 * import { lock } from "@holdfast/lock";
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 *
 * const client = await createClient({ url: "redis://localhost:6379" }).connect();
 * const backend = redisBackend(client, { prefix: "my-app" });
 * await lock("job", { backend }).run(async () => {});
 * await backend[Symbol.asyncDispose]();
 * client.destroy();
 * ```
 */
export function redisBackend(
  client: IoRedisClient | IoRedisCluster | NodeRedisClient,
  options: RedisBackendOptions = {},
): RedisBackend {
  if (typeof options !== "object" || options === null) {
    refuse("Cannot make a Redis backend: options must be an object", options);
  }
  const { prefix = "holdfast" } = options;
  const rule = "Cannot make a Redis backend: 'prefix' must be a non-empty string without braces";
  if (typeof prefix !== "string") refuse(rule, prefix);
  if (prefix === "" || /[{}]/.test(prefix) || !prefix.isWellFormed()) refuse(rule, prefix, RangeError);
  return new RedisStore(portOf(client), prefix);
}

/** What a client must have, by its make. */
const IOREDIS = ["evalsha", "eval", "call", "duplicate", "on", "off"];
const IOREDIS_CLUSTER = ["evalsha", "eval", "nodes", "on", "off"];
const NODE_REDIS = ["sendCommand", "duplicate", "on", "off"];

function portOf(client: IoRedisClient | IoRedisCluster | NodeRedisClient): (onEnd: () => void) => Port {
  const members = client as unknown as Record<string, unknown> | null | undefined;
  const has = (name: string) => typeof members?.[name] === "function";
  const rule =
    "Cannot make a Redis backend: 'client' must be an ioredis Redis or Cluster, or a client of redis " +
    "(node-redis)";
  const needed = has("evalSha") ? NODE_REDIS : has("nodes") ? IOREDIS_CLUSTER : IOREDIS;
  // Those of a cluster or of sentinels take other arguments.
  if (needed === NODE_REDIS && (members?.sendCommand as { length?: number } | undefined)?.length! > 2) {
    throw new TypeError(`${rule} made by createClient, current value is made by another function`);
  }
  const missing = needed.find((name) => !has(name)) ??
    (needed === NODE_REDIS ? ["isOpen"] : ["options", "status"]).find((name) =>
      members?.[name] === undefined
    );
  if (missing !== undefined) {
    throw new TypeError(`${rule}, current value lacks '${missing}': ${describe(client)}`);
  }
  return needed === NODE_REDIS
    ? (onEnd) => new NodeRedisPort(client as NodeRedisClient, onEnd)
    : (onEnd) => new IoRedisPort(client as IoRedisClient | IoRedisCluster, onEnd);
}

/** How many words a script can hand on to a command: Lua's stack has an end. */
const MAX_WORDS = 7000;

/** One command as its words: `["SET", "balance", 100]`. */
export type RedisCommand = readonly (string | number)[];

/**
 * Runs the caller's own commands only if the lock is still held, which Redis decides in the same atomic step: a
 * holder that has lost its lock, without knowing it yet, writes nothing.
 *
 * The commands run one after the other, and nothing comes between them. As in `MULTI`, one that fails ends the
 * rest but undoes nothing. Resolves to their replies as a script sees them (a status is a string, nothing is
 * `null`). Keep the data on the server that keeps the lock; in a cluster, in keys with the hash tag that
 * {@linkcode hashTag} tells. Name keys as the server does: an `ioredis` client's `keyPrefix` is not added.
 *
 * Rejects with `LockLostError` if the lock is no longer held (nothing is then run), with TypeError if `held` is
 * not a lock on a Redis backend or `commands` are not commands, and with `LockBackendError` if Redis failed or
 * refused a command: only then the outcome is unknown. An `ioredis` client that resends commands after a broken
 * connection (`autoResendUnfulfilledCommands`, its default) may then have run them twice.
 *
 * @example
 * ```ts ignore
 * import { Redis } from "npm:ioredis";
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, redisBackend } from "@holdfast/lock/backends/redis";
 *
 * const client = new Redis();
 * await lock("balance", { backend: redisBackend(client) }).run(async (held) => {
 *   const balance = Number(await client.get("balance"));
 *   await commitIfHeld(held, [["SET", "balance", balance + 100], ["INCR", "deposits"]]);
 * });
 * ```
 */
export async function commitIfHeld(held: Lock, commands: readonly RedisCommand[]): Promise<unknown[]> {
  const { hold, backend } = redisHold(held);
  assertCommands(commands);
  for (;;) {
    const proof = await hold.proof();
    const replies = await backend.guarded(proof, commands).catch((error) => {
      throw backendError(hold.identifier, "commit under", error);
    });
    if (replies !== null) return replies;
  }
}

/**
 * The hash tag of the lock's record, such as `"{17}"`. In a cluster, {@linkcode commitIfHeld} reaches the keys
 * whose names contain it.
 *
 * Throws TypeError if `held` is not a lock on a Redis backend.
 */
export function hashTag(held: Lock): string {
  return tagOf(redisHold(held).hold.queue.key);
}

function redisHold(held: Lock) {
  const hold = holdOf(held);
  const { backend } = hold.queue.peer;
  if (backend instanceof RedisStore) return { hold, backend };
  throw new TypeError("Cannot commit: 'held' must be a lock on a Redis backend, it is on another one");
}

function assertCommands(commands: unknown): asserts commands is readonly RedisCommand[] {
  const isWord = (word: unknown) => typeof word === "string" || Number.isFinite(word);
  const isCommand = (command: unknown) =>
    Array.isArray(command) && typeof command[0] === "string" && command.every(isWord);
  if (Array.isArray(commands) && commands.every(isCommand)) {
    const long = commands.find(({ length }) => length > MAX_WORDS);
    if (long === undefined) return;
    throw new RangeError(
      `Cannot commit: a command must be at most ${MAX_WORDS} words, current value is ${long.length} of ${
        long[0]
      }`,
    );
  }
  throw new TypeError(
    `Cannot commit: 'commands' must be an array of commands such as ["SET", "key", "value"], ` +
      `current value is ${describe(commands)}`,
  );
}

/** The hash tag of a key: keys of one tag are on one node of a cluster. By FNV-1a. */
function tagOf(key: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return `{${(hash >>> 0) % BUCKETS}}`;
}

/** An entry, of what the server holds under its key. */
function entryOf(key: string, record: unknown): Entry {
  if (record === null) return { key, value: null, version: null };
  const text = String(record);
  return { key, value: text.slice(DIGITS), version: text.slice(0, DIGITS) };
}

/** Whether it is the error for keys that are not all in one slot. */
function isApart(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("CROSSSLOT");
}

/** A pattern that matches just this text. */
function literal(text: string): string {
  return text.replace(/[*?[\]\\^]/g, "\\$&");
}
