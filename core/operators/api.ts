/** What an operator does with locks from outside: look at them, and take one away. */

import type { LockBackend } from "../backend.ts";
import { backendFor } from "../configure.ts";
import { assertIdentifier } from "../identifier.ts";
import { checkOptions, type LockKind } from "../options.ts";
import { Input } from "../validate.ts";
import { evictHolders } from "./evict.ts";
import { list, type ListedLock } from "./listing.ts";

const LISTING: Input = new Input("list locks");
const FORCING: Input = new Input("force a release");

/** Which store is meant. */
export interface StoreOptions {
  /**
   * Which backend: one of `LOCK_KINDS`. `backend` takes precedence.
   *
   * @default {LOCK_KINDS.STRONG}
   */
  kind?: LockKind | undefined;
  /**
   * The store; takes precedence over `kind`.
   *
   * @default {undefined} the one configured for `kind`
   */
  backend?: LockBackend | undefined;
}

/** Options of {@linkcode locks}. */
export interface ListOptions extends StoreOptions {
  /**
   * Only identifiers that begin with this.
   *
   * @default {""}
   */
  prefix?: string | undefined;
}

/** Options of {@linkcode forceRelease}. */
export interface ForceOptions extends StoreOptions {
  /**
   * Evict only the hold with this fencing token, so that a decision about one holder, made from a listing, does
   * not affect the next one.
   *
   * @default {undefined} all present holders
   */
  fencingToken?: string | undefined;
}

/**
 * Lists the locks that are held or waited for, in any order, as they are while the iteration goes on. Secret
 * tokens are not shown. A crashed holder stays listed, with `leaseLeftMs` below 0, until another process takes its
 * lock or a cleanup deletes it. A value among the records that is not a record is listed as `unreadable`, and
 * published on the diagnostics channel `holdfast:backend-error`.
 *
 * @param options Which store, and which identifiers.
 * @returns The locks, one by one.
 * @throws {TypeError} For bad input.
 * @throws {LockBackendError} If the store fails.
 *
 * @example In an app
 * ```ts ignore
 * import { locks } from "@holdfast/lock";
 *
 * for await (const { identifier, holders, waiters } of locks({ prefix: "invoice:" })) {
 *   console.log(identifier, holders[0]?.label, `${waiters.length} waiting`);
 * }
 * ```
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
  const own = LISTING.own(options, ["prefix", "kind", "backend"]);
  const { prefix = "" } = own;
  if (prefix !== "") assertIdentifier(prefix, "prefix", LISTING);
  const { kind, backend } = own;
  checkOptions({ kind, backend }, LISTING);
  return listed(own, prefix);
}

/** The first read of the list opens the store, so that a list that is never read cannot fail. */
async function* listed(options: StoreOptions, prefix: string): AsyncIterableIterator<ListedLock> {
  yield* list(await storeOf(options), prefix);
}

/**
 * Evicts the holder of the lock of `identifier`, and notifies it: the holder's `signal` aborts with the reason
 * `forced`.
 *
 * The holder's code runs until it checks its `signal`. The holder is notified at once if it is in this process, or
 * if it has held the lock for a second, has read `signal` or `held`, and the store pushes; otherwise at its next
 * renewal. Its `commitIfHeld` is rejected from now on.
 *
 * @param identifier The identifier of the lock.
 * @param options Which store, and which hold only.
 * @returns `true` if a hold was evicted, `false` if the lock was free, or not held under `fencingToken`.
 * @throws {TypeError} For bad input.
 * @throws {LockBackendError} If the store fails.
 *
 * @example In an app
 * ```ts ignore
 * import { forceRelease, peek } from "@holdfast/lock";
 *
 * const { holders: [stuck] } = await peek("import");
 * if (stuck !== undefined && stuck.heldForMs > 3_600_000) {
 *   await forceRelease("import", { fencingToken: stuck.fencingToken }); // not the next holder
 * }
 * ```
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
  assertIdentifier(identifier, "identifier", FORCING);
  const own = FORCING.own(options, ["fencingToken", "kind", "backend"]);
  const { fencingToken } = own;
  if (fencingToken !== undefined) assertIdentifier(fencingToken, "fencingToken", FORCING);
  return await evictHolders(identifier, fencingToken, await storeOf(own, FORCING));
}

/** The store that the options of an `input` mean. Throws TypeError for options that mean none. */
export function storeOf({ kind, backend }: StoreOptions, input: Input = LISTING): Promise<LockBackend> {
  return Promise.resolve(backendFor(checkOptions({ kind, backend }, input)));
}
