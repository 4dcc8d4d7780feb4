/**
 * The Redis backend, for Redis 6 and later and for Valkey: alone, replicated, or as a cluster.
 *
 * It takes a client of `ioredis` (5 and 6, also its `Cluster`, also behind sentinels), of `iovalkey`, or of
 * `redis` (4, 5 and 6, made by `createClient`). Others are refused with what to use instead. Its locks are as
 * durable as that Redis is: see `docs/redis.md`.
 *
 * @example
 * ```ts ignore
 * import { Redis } from "ioredis";
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

import type { LockBackend } from "../core/backend.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";
import { ownOptions, refuse } from "../core/validate.ts";
import { Cached } from "./cached.ts";
import {
  adapterOf,
  type IoRedisClient,
  type IoRedisCluster,
  type NodeRedisClient,
} from "./redis/adapters.ts";
import { type RedisCommand, RedisStore, tagOf } from "./redis/store.ts";

export type {
  IoRedisClient,
  IoRedisCluster,
  IoRedisSubscriber,
  NodeRedisClient,
  NodeRedisSubscriber,
} from "./redis/adapters.ts";
export type { RedisCommand } from "./redis/store.ts";

const BACKENDS = new Cached<RedisStore>();
const REDIS = { Backend: RedisStore, name: "a Redis" };

/** Options of {@linkcode redisBackend}. */
export interface RedisBackendOptions {
  /**
   * What the names of all keys and channels begin with; not empty, without braces. An `ioredis` client's own
   * `keyPrefix` goes before it.
   *
   * @default {"holdfast"}
   */
  prefix?: string | undefined;
}

/** What {@linkcode redisBackend} makes. */
export interface RedisBackend extends LockBackend, AsyncDisposable {
  /**
   * Closes the connection for subscriptions, if one was opened; never the client that was handed in. Acquisitions that
   * wait for other processes fail, and no later one can wait on this backend; locks that are held stay held. Resolves
   * when the waiters have left the queue, after a second at most: close the client after that. A later call of
   * `redisBackend` with the client again gets another backend.
   */
  close(): Promise<void>;
  /** The same as `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a backend that keeps locks in Redis (6 or later) or Valkey. It never closes your client. When a lock is
 * first waited for, it opens one more connection like yours, for subscriptions; closing the backend closes that one,
 * and so does closing the client. One backend serves all calls with the same client and prefix: calling this for
 * each request opens nothing more.
 *
 * @param client The client.
 * @param options The prefix of all keys and channels.
 * @returns The backend.
 * @throws {TypeError | RangeError} For a value that is not a client, or bad options.
 *
 * @example With ioredis
 * ```ts ignore
 * import { Redis } from "ioredis";
 * import { configure, lock } from "@holdfast/lock";
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 *
 * configure({ strong: redisBackend(new Redis("redis://localhost:6379")) });
 * await lock("job").run(() => buildReport());
 * ```
 *
 * @example
 * ```ts ignore
 * import { createClient } from "redis";
 * import { lock } from "@holdfast/lock";
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 *
 * const client = await createClient({ url: "redis://localhost:6379" }).connect();
 * const backend = redisBackend(client, { prefix: "my-app" });
 * await lock("job", { backend }).run(async () => {});
 * await backend.close();
 * client.destroy();
 * ```
 */
export function redisBackend(
  client: IoRedisClient | IoRedisCluster | NodeRedisClient,
  options: RedisBackendOptions = {},
): RedisBackend {
  const { prefix = "holdfast" } = ownOptions(options, ["prefix"], "make a Redis backend");
  const rule = "Cannot make a Redis backend: 'prefix' must be a non-empty string without braces";
  if (typeof prefix !== "string") refuse(rule, prefix);
  if (prefix === "" || /[{}]/.test(prefix) || !prefix.isWellFormed()) refuse(rule, prefix, RangeError);
  const open = adapterOf(client);
  return BACKENDS.get(client, prefix, (forget) => new RedisStore(open, prefix, forget));
}

/** How many words a script can hand on to a command, and a client to a script: their stacks have an end. */
const MAX_WORDS = { command: 7000, total: 50_000 };

/**
 * Runs your own commands only if the lock is still held, which Redis checks in the same atomic step: a holder that
 * has lost its lock, without knowing it yet, writes nothing.
 *
 * The commands run one after the other, and nothing runs between them. As in `MULTI`, a command that fails ends
 * the rest but undoes nothing. Keep the data on the server that keeps the lock; in a cluster, in keys with the
 * hash tag of {@linkcode hashTag}. Use the names that keys have on the server: an `ioredis` client's `keyPrefix`
 * is not added. An `ioredis` client that resends commands after a broken connection
 * (`autoResendUnfulfilledCommands`, its default) may run them twice.
 *
 * @param held A held lock on a Redis backend.
 * @param commands The commands, each with its arguments. One may have up to 7000 words, all together up to 50 000.
 * @returns Their replies as a script sees them (a status is a string, nothing is `null`).
 * @throws {LockLostError} If the lock is no longer held; nothing is run.
 * @throws {LockBackendError} If Redis failed or refused a command, or the client has sent the commands again after its
 * connection broke, and they were refused then: only then the outcome is unknown. Also if the
 * record of the lock has changed during every try for 30 seconds; then nothing is run.
 * @throws {TypeError | RangeError} If `held` is not a lock on a Redis backend, or `commands` are not commands, or
 * too many.
 *
 * @example
 * ```ts ignore
 * import { Redis } from "ioredis";
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
  const guard = guardOf(held, REDIS);
  assertCommands(commands);
  for (const tries = guard.tries();; await tries.again()) {
    const proofs = await guard.prove();
    const replies = await guard.backend.guarded(proofs, commands).catch((error) => {
      throw guard.failure(error);
    });
    if (replies !== null) return replies;
  }
}

/**
 * The hash tag of the lock's record, such as `"{17}"`. In a cluster, {@linkcode commitIfHeld} reaches the keys
 * whose names contain it.
 *
 * @param held A held lock on a Redis backend.
 * @returns The hash tag, with its braces.
 * @throws {TypeError} If `held` is not a lock on a Redis backend.
 */
export function hashTag(held: Lock): string {
  const [key] = guardOf(held, REDIS).keys;
  return tagOf(key);
}

function assertCommands(commands: unknown): asserts commands is readonly RedisCommand[] {
  const isWord = (word: unknown) => typeof word === "string" || Number.isFinite(word);
  const isCommand = (command: unknown) =>
    Array.isArray(command) && typeof command[0] === "string" && command.every(isWord);
  if (!Array.isArray(commands) || !commands.every(isCommand)) {
    refuse(
      `Cannot commit: 'commands' must be an array of commands such as ["SET", "key", "value"]`,
      commands,
    );
  }
  let words = 0;
  for (const { length, 0: name } of commands) {
    words += length;
    const rule = `Cannot commit: a command (${name}) must be at most ${MAX_WORDS.command} words`;
    if (length > MAX_WORDS.command) refuse(rule, length, RangeError);
  }
  const rule = `Cannot commit: 'commands' must be at most ${MAX_WORDS.total} words together`;
  if (words > MAX_WORDS.total) refuse(rule, words, RangeError);
}
