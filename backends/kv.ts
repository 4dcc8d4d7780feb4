/**
 * The Deno KV backend: on Deno Deploy, on a local database, in memory, and over KV Connect.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
 * import { assertEquals } from "@std/assert";
 *
 * const kv = await Deno.openKv(":memory:");
 * const backend = kvBackend(kv);
 * await lock("balance", { backend }).run(async (held) => {
 *   const { value } = await kv.get<number>(["balance"]);
 *   await commitIfHeld(held, (atomic) => atomic.set(["balance"], (value ?? 0) + 100));
 * });
 * assertEquals((await kv.get(["balance"])).value, 100);
 * kv.close();
 * ```
 *
 * @module
 */

import type { LockBackend } from "../core/backend.ts";
import { LockBackendError, messageOf } from "../core/errors.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";
import { describe, describeClient, ownOptions, refuse } from "../core/validate.ts";
import { causeOf } from "./causes.ts";
import type { KvAtomic, KvCommit, KvDatabase, KvKeyPart, KvSelectorKey } from "./kv/api.ts";
import { defaultSkewMs, denoGlobal, MACHINES_SKEW_MS } from "./kv/clients.ts";
import { commitUnder, Draft } from "./kv/guarded.ts";
import { warnOfOwnDatabase } from "./kv/own_database.ts";
import { KvStore } from "./kv/store.ts";

export type {
  KvAtomic,
  KvCommit,
  KvDatabase,
  KvEntry,
  KvKeyPart,
  KvMutation,
  KvSelectorKey,
} from "./kv/api.ts";

/** Options of {@linkcode kvBackend}. */
export interface KvBackendOptions {
  /**
   * The key parts under which the locks are kept; not empty.
   *
   * @default {["holdfast"]}
   */
  prefix?: readonly KvKeyPart[] | undefined;
  /**
   * By how many milliseconds the clocks of the processes that share the database may differ, 0 to 60 000. The lock
   * of a crashed holder frees itself that much later, and a lock that is handed to another process starts there
   * without another commit only if this is small. Pass 0 if all of them run on one machine, as with a file (50 on
   * Windows).
   *
   * @default {1000}
   */
  skewMs?: number | undefined;
}

/** What {@linkcode kvBackend} makes. */
export interface KvBackend extends LockBackend, AsyncDisposable {
  /**
   * Closes the streams that it has opened to watch records; never the database that was handed in. Acquisitions that
   * wait for other processes fail, and no later one can wait on this backend; locks that are held stay held. Resolves
   * when the waiters have left the queue, after a second at most: close the database after that.
   */
  close(): Promise<void>;
  /** The same as `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void>;
}

const DEFAULT_PREFIX = ["holdfast"];
/** Leaves room for the longest key in the 2048 bytes that Deno KV allows. */
const MAX_PREFIX_BYTES = 512;

/**
 * Makes a backend that keeps locks in a Deno KV database: a `Deno.Kv`, or one of `@deno/kv`. It never closes the
 * database. Use one handle for each database and process.
 *
 * @param kv The database.
 * @param options Where the locks are kept, and how far clocks may differ.
 * @returns The backend.
 * @throws {TypeError | RangeError} For a value that is not a database, or bad options.
 *
 * @example On Node
 * ```ts ignore
 * import { openKv } from "@deno/kv";
 * import { configure } from "@holdfast/lock";
 * import { kvBackend } from "@holdfast/lock/backends/kv";
 *
 * configure({ strong: kvBackend(await openKv("./locks.sqlite"), { skewMs: 0 }) });
 * ```
 *
 * @example
 * ```ts
 * import { configure, lock } from "@holdfast/lock";
 * import { kvBackend } from "@holdfast/lock/backends/kv";
 *
 * const kv = await Deno.openKv(":memory:");
 * configure({ strong: kvBackend(kv, { prefix: ["my-app", "locks"] }) });
 * await lock("job").run(() => {});
 * configure({ strong: undefined });
 * kv.close();
 * ```
 */
export function kvBackend(kv: KvDatabase, options: KvBackendOptions = {}): KvBackend {
  const methods = ["get", "getMany", "list", "atomic", "watch"] as const;
  const missing = methods.find((name) => typeof kv?.[name] !== "function");
  if (missing !== undefined) {
    throw new TypeError(
      `Cannot make a KV backend: 'kv' must be a Deno KV database such as await Deno.openKv(), ` +
        `current value lacks '${missing}': ${describeClient(kv)}`,
    );
  }
  const own = ownOptions(options, ["prefix", "skewMs"], "make a KV backend");
  const { prefix = DEFAULT_PREFIX, skewMs = MACHINES_SKEW_MS } = own;
  const doing = "Cannot make a KV backend:";
  if (!Array.isArray(prefix) || prefix.length === 0 || !prefix.every(isKeyPart)) {
    const shown = Array.isArray(prefix) ? `[${prefix.map(describe).join(", ")}]` : describe(prefix);
    throw new TypeError(
      `${doing} 'prefix' must be a non-empty array of key parts, current value is ${shown}`,
    );
  }
  const bytes = new TextEncoder().encode(prefix.join("")).length;
  if (bytes > MAX_PREFIX_BYTES) {
    throw new RangeError(`${doing} 'prefix' must be at most ${MAX_PREFIX_BYTES} bytes, it has ${bytes}`);
  }
  if (!Number.isInteger(skewMs) || skewMs < 0 || skewMs > 60_000) {
    refuse(`${doing} 'skewMs' must be a whole number of milliseconds from 0 to 60000`, skewMs, RangeError);
  }
  return new KvStore(kv, { prefix: [...prefix], skewMs });
}

/**
 * Opens the default database of this app: the one that `lock` uses when none is configured. Outside Deno Deploy it
 * is a file of this machine, whose processes share a clock: `skewMs` is 0 then (50 on Windows), if the environment
 * may be read; a database that could be on a server counts as one. Closing the backend closes the database.
 * A process warning (`process.emitWarning`, once) says if the database belongs to this program alone, as far as that
 * can be known.
 *
 * @returns The backend.
 * @throws {TypeError} Outside Deno, or if Deno KV is not enabled.
 * @throws {LockBackendError} If the database cannot be opened.
 */
export async function openDefaultKvBackend(): Promise<KvBackend> {
  const deno = denoGlobal();
  if (deno === undefined) {
    throw new TypeError(
      "Cannot lock: outside Deno there is no default backend. Configure one at start: " +
        "configure({ strong: redisBackend(client) }) of @holdfast/lock/backends/redis, " +
        "postgresBackend(pool) of @holdfast/lock/backends/postgres, " +
        "or kvBackend(await openKv(pathOrUrl)) of @holdfast/lock/backends/kv with @deno/kv",
    );
  }
  if (deno.openKv === undefined) {
    throw new TypeError(
      "Cannot lock: Deno KV is not enabled. Run deno with --unstable-kv, or write " +
        '"unstable": ["kv"] in deno.json, or configure({ strong: … }) with another backend',
    );
  }
  let kv: KvDatabase & { close(): void };
  try {
    kv = await deno.openKv();
  } catch (cause) {
    throw new LockBackendError(`Cannot open the default Deno KV database: ${messageOf(cause)}`, {
      cause: causeOf(cause),
    });
  }
  await warnOfOwnDatabase();
  return new KvStore(kv, {
    prefix: DEFAULT_PREFIX,
    skewMs: defaultSkewMs(),
    closeDatabase: () => kv.close(),
  });
}

/**
 * Commits your own mutations in one atomic operation that also checks that the lock is still held: a holder that
 * has lost its lock, without knowing it yet, writes nothing.
 *
 * `build` receives a fresh atomic operation and adds to it. It is called once and may take its time: the lock is
 * renewed meanwhile, and checked when `build` has ended. Do not change the values that it passes before everything
 * is written: if a renewal or a new waiter interferes, which never makes the commit fail, they are sent once more.
 * Keep the data in the database that keeps the lock. It adds two checks to yours; Deno KV takes 100 in all on a
 * local database, 10 over KV Connect and with `@deno/kv`.
 *
 * The mutations are applied once, even if the client repeats the commit because the reply was lost: for that a
 * small receipt is written under the prefix of the locks, which expires after two leases and five minutes.
 *
 * @param held A held lock on a Deno KV backend.
 * @param build Adds your mutations, and checks if you like.
 * @returns What Deno KV answers; `{ ok: false }` only if one of your checks failed.
 * @throws {LockLostError} If the lock is no longer held; nothing is written.
 * @throws {LockBackendError} If the database failed: only then the outcome is unknown. Also if the record of the
 * lock has changed during every try for 30 seconds; then nothing is written.
 * @throws {TypeError} If `held` is not a lock on a Deno KV backend.
 * @throws {unknown} What `build` throws; nothing is written.
 *
 * @example In an app
 * ```ts ignore
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
 *
 * const kv = await Deno.openKv();
 * await lock("balance", { backend: kvBackend(kv) }).run(async (held) => {
 *   const { value } = await kv.get<number>(["balance"]);
 *   await commitIfHeld(held, (atomic) => atomic.set(["balance"], (value ?? 0) + 100));
 * });
 * ```
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
 * import { assert } from "@std/assert";
 *
 * const kv = await Deno.openKv(":memory:");
 * const held = await lock("stock", { backend: kvBackend(kv) }).acquire();
 * const result = await commitIfHeld(held, (atomic) => atomic.set(["stock"], 12));
 * assert(result.ok);
 * await held.release();
 * kv.close();
 * ```
 */
export async function commitIfHeld(
  held: Lock,
  build: (atomic: KvAtomic) => unknown,
): Promise<KvCommit> {
  const guard = guardOf(held, { Backend: KvStore, name: "a Deno KV" });
  if (typeof build !== "function") refuse("Cannot commit: 'build' must be a function", build);
  // A holder that has lost it builds nothing.
  await guard.prove();
  const draft = new Draft(guard.backend.kv);
  await build(draft.view);
  const tries = guard.tries();
  for (let proofs = await guard.prove();;) {
    const result = await commitUnder(guard, proofs, draft.take());
    if (result.ok) return result;
    // Either a check of the caller's own has failed, or the record has changed: only then it is tried again.
    const now = await guard.prove();
    if (now.every(({ version }, i) => version === proofs[i].version)) return result;
    proofs = now;
    await tries.again();
  }
}

function isKeyPart(part: unknown): part is KvSelectorKey[number] {
  return ["string", "number", "bigint", "boolean"].includes(typeof part) && !Number.isNaN(part) ||
    part instanceof Uint8Array;
}
