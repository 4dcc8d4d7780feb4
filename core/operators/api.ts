/** What an operator does with locks from outside: look at them, and take one away. */

import type { LockBackend } from "../backend.ts";
import { backendFor } from "../configure.ts";
import { assertIdentifier } from "../identifier.ts";
import { checkOptions, type LockKind } from "../options.ts";
import { ownOptions } from "../validate.ts";
import { evictHolders } from "./evict.ts";
import { list, type ListedLock } from "./listing.ts";

/** Which store is meant. */
export interface StoreOptions {
  /** Which backend: one of `LOCK_KINDS`. `backend` wins over it. Default: `LOCK_KINDS.STRONG`. */
  kind?: LockKind | undefined;
  /** The store; wins over `kind`. Default: the one configured for `kind`. */
  backend?: LockBackend | undefined;
}

/** Options of {@linkcode locks}. */
export interface ListOptions extends StoreOptions {
  /** Only identifiers that begin with this. Default: `""`, all. */
  prefix?: string | undefined;
}

/** Options of {@linkcode forceRelease}. */
export interface ForceOptions extends StoreOptions {
  /**
   * Evict only the hold with this fencing token, so that what was decided about one holder, by a listing, does
   * not hit the next one. Default: the present holder, or all of them.
   */
  fencingToken?: string | undefined;
}

/**
 * Lists the locks that are held or waited for, in any order, as they are while the iteration goes on. Secret
 * tokens are not shown. A dead holder stays listed, with `leaseLeftMs` below 0, until somebody takes its lock
 * or cleans up.
 *
 * Throws TypeError for bad input, and LockBackendError if the store fails. What stands among the records
 * without being one is listed as `unreadable`, and told on the diagnostics channel `holdfast:backend-error`.
 *
 * @example
 * ```ts
 * import { lock, locks } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * await using held = await lock("invoice:17", { backend, label: "worker 3" }).acquire();
 * for await (const { identifier, holders, waiters } of locks({ prefix: "invoice:", backend })) {
 *   assertEquals(identifier, "invoice:17");
 *   assertEquals(holders[0].label, "worker 3");
 *   assertEquals(holders[0].fencingToken, held.fencingToken);
 *   assertEquals(waiters, []);
 * }
 * ```
 */
export function locks(options: ListOptions = {}): AsyncIterableIterator<ListedLock> {
  const own = ownOptions(options, ["prefix", "kind", "backend"], "list locks");
  const { prefix = "" } = own;
  if (prefix !== "") assertIdentifier(prefix, "prefix");
  const { kind, backend } = own;
  checkOptions({ kind, backend });
  return listed(own, prefix);
}

/** The first read of the list opens the store, so that a list that is never read cannot fail. */
async function* listed(options: StoreOptions, prefix: string): AsyncIterableIterator<ListedLock> {
  yield* list(await storeOf(options), prefix);
}

/**
 * Takes the lock of `identifier` away from its holder and notifies it: the holder's `signal` aborts with the reason
 * `forced`. Resolves to `true` if a hold was evicted, to `false` if the lock was free, or not held under
 * `fencingToken`.
 *
 * The holder's code runs until it checks its `signal`. The holder is notified at once if it is in this process, or
 * if it has held the lock for a second, has read `signal` or `held`, and the store pushes; otherwise at its next
 * renewal. Its `commitIfHeld` is rejected from now on.
 *
 * Throws TypeError for bad input, and rejects with LockBackendError if the store fails.
 *
 * @example
 * ```ts
 * import { forceRelease, lock, LockLostError } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const stuck = await lock("import", { backend }).acquire();
 * assert(await forceRelease("import", { backend }));
 * assert(stuck.signal.reason instanceof LockLostError);
 * assert(stuck.signal.reason.reason === "forced");
 * ```
 */
export async function forceRelease(identifier: string, options: ForceOptions = {}): Promise<boolean> {
  assertIdentifier(identifier);
  const own = ownOptions(options, ["fencingToken", "kind", "backend"], "release");
  const { fencingToken } = own;
  if (fencingToken !== undefined) assertIdentifier(fencingToken, "fencingToken");
  return await evictHolders(identifier, fencingToken, await storeOf(own));
}

/** The store that options mean. Throws TypeError for options that mean none. */
export function storeOf({ kind, backend }: StoreOptions): Promise<LockBackend> {
  return Promise.resolve(backendFor(checkOptions({ kind, backend })));
}
