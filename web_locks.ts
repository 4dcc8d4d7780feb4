/**
 * Web Locks, distributed: the standard `LockManager`, as `navigator.locks` is one, over a store that several machines
 * share. Code that was written for the one runs with the other after changing one line.
 *
 * @example
 * ```ts
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { webLocks } from "@holdfast/lock/web-locks";
 * import { assertEquals } from "@std/assert";
 *
 * const locks = webLocks(memoryBackend()); // instead of navigator.locks
 *
 * const result = await locks.request("my_resource", async (lock) => {
 *   // The lock is held until this function has ended, on all machines.
 *   return lock!.name;
 * });
 * assertEquals(result, "my_resource");
 * ```
 *
 * @module
 */

import type { LockBackend } from "./core/backend.ts";
import { assertBackend, checkOptions } from "./core/options.ts";
import { Input } from "./core/validate.ts";
import { Manager } from "./web_locks/manager.ts";
import type { LockManager } from "./web_locks/types.ts";

export type * from "./web_locks/types.ts";

/** How long a prefix may be, in UTF-16 units. */
const MAX_PREFIX_UNITS = 100;

const MANAGING: Input = new Input("make a lock manager");

/** Options of {@linkcode webLocks}. All times are whole milliseconds. */
export interface WebLocksOptions {
  /**
   * What identifiers begin with, before the name, in `locks()`, `forceRelease` and the command line. Managers with
   * the same store and the same prefix share their locks. Up to 100 characters; end it with one that is in no
   * other prefix, such as `/`.
   *
   * @default {"web-locks/"}
   */
  prefix?: string | undefined;
  /**
   * How many milliseconds a lock stays taken if its process crashes. At least 100. A live process renews it every
   * third of that.
   *
   * @default {30_000}
   */
  leaseMs?: number | undefined;
  /**
   * How many milliseconds each request waits at most, unless the request has its own limit.
   *
   * @default {undefined} no limit
   */
  waitForMs?: number | undefined;
  /**
   * A human-readable name of the holder, shown by `query`, in listings and in error messages: up to 128
   * characters; `null` for none.
   *
   * @default {undefined} as the `label` of every lock
   */
  label?: string | null | undefined;
}

/**
 * The `LockManager` of the Web Locks standard over `backend`: for all processes that share the store and the
 * prefix, what `navigator.locks` is for the windows and workers of one origin.
 *
 * Where the standard and the other forms of lock differ, the standard counts: requests are granted in the order in
 * which they were made, including those of one process, and code that asks for a lock that it holds waits for
 * itself.
 *
 * @param backend The store.
 * @param options The prefix, and how locks are held.
 * @returns The lock manager.
 * @throws {TypeError | RangeError} For bad input.
 *
 * @example In an app
 * ```ts ignore
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 * import { webLocks } from "@holdfast/lock/web-locks";
 * import { Redis } from "ioredis";
 *
 * const locks = webLocks(redisBackend(new Redis())); // instead of navigator.locks
 * await locks.request("report", async (lock) => {
 *   await buildReport({ signal: lock?.signal });
 * });
 * ```
 *
 * @example A limit on waiting, and the holder of the lock
 * ```ts
 * import { LockAcquisitionError } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { webLocks } from "@holdfast/lock/web-locks";
 * import { assertEquals, assertRejects } from "@std/assert";
 *
 * const locks = webLocks(memoryBackend(), { label: "worker 3", waitForMs: 20 });
 * await locks.request("import", async () => {
 *   const error = await assertRejects(() => locks.request("import", () => {}), LockAcquisitionError);
 *   assertEquals(error.holders[0].label, "worker 3");
 *   const { held } = await locks.query();
 *   assertEquals(held.map(({ name, mode, label }) => [name, mode, label]), [["import", "exclusive", "worker 3"]]);
 * });
 * ```
 */
export function webLocks(backend: LockBackend, options: WebLocksOptions = {}): LockManager {
  assertBackend(backend, "backend");
  const names = ["prefix", "leaseMs", "waitForMs", "label"];
  const { prefix = "web-locks/", ...own } = MANAGING.own(options, names);
  const isPrefix = typeof prefix === "string" && prefix !== "" && prefix.length <= MAX_PREFIX_UNITS &&
    prefix.isWellFormed();
  if (!isPrefix) {
    const rule = `'prefix' must be a string of 1 to ${MAX_PREFIX_UNITS} characters without lone surrogates`;
    MANAGING.refuse(rule, prefix, typeof prefix === "string" ? RangeError : TypeError);
  }
  return new Manager({ backend, prefix, options: checkOptions({ ...own, backend }, MANAGING) });
}
