/**
 * A distributed lock for Deno, Node and Bun: a block of code runs in one place at a time, across processes
 * and machines. On Deno it needs nothing but Deno KV; every other store has its own backend.
 *
 * @example In an app
 * ```ts ignore
 * import { lock } from "@holdfast/lock";
 *
 * await lock("nightly-report").run(async (held) => {
 *   // One process at a time is here, on all machines.
 *   await buildReport({ signal: held.signal }); // aborts if the lock is lost
 * });
 * ```
 *
 * @example With another store
 * ```ts
 * import { configure, lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 *
 * configure({ strong: memoryBackend() }); // omit this line to use Deno KV
 *
 * await lock("nightly-report").run(async (held) => {
 *   // One process at a time is here; `held.signal` aborts if the lock is lost.
 *   held.signal.throwIfAborted();
 * });
 * configure({ strong: undefined });
 * ```
 *
 * @module
 */

import { setDefaultBackend } from "./core/configure.ts";
import { setDefaultLabel } from "./core/default_label.ts";
import { processLabel } from "./process_label.ts";

// On first use: a program that keeps its locks elsewhere does not load it.
setDefaultBackend(async () => (await import("./backends/kv.ts")).openDefaultKvBackend());

setDefaultLabel(processLabel);

export { lock } from "./core/forms.ts";
export type { Bailed, LockForms, LockWrapper } from "./core/forms.ts";
export { currentLock, Lock } from "./core/lock.ts";
export type { LockJson } from "./core/lock.ts";
export { releaseAll } from "./core/release_all.ts";
export type { ReleaseAllOptions } from "./core/release_all.ts";
export { releaseOnExit } from "./exit.ts";
export type { ReleaseOnExitOptions } from "./exit.ts";
export { LOCK_KINDS } from "./core/options.ts";
export type {
  CommonLockOptions,
  ExclusiveLockOptions,
  HandOverOptions,
  LockKind,
  LockMode,
  LockOptions,
  RestoreOptions,
  SharedLockOptions,
  UpgradeOptions,
} from "./core/options.ts";
export type { LockTarget, LockTargets } from "./core/targets.ts";
export { configure } from "./core/configure.ts";
export type { Backends } from "./core/configure.ts";
export { forceRelease, locks } from "./core/operators/api.ts";
export { observe, peek } from "./core/operators/observe.ts";
export type { ObserveOptions } from "./core/operators/observe.ts";
export type { ForceOptions, ListOptions, StoreOptions } from "./core/operators/api.ts";
export type { ListedHolder, ListedLock, ListedMode, ListedWaiter } from "./core/operators/listing.ts";
export type { HoldEvent, LockEvent, LockEvents } from "./core/events.ts";
export { LockAcquisitionError, LockBackendError, LockDeadlockError, LockLostError } from "./core/errors.ts";
export type { HolderInfo, LossReason } from "./core/errors.ts";
export type * from "./core/backend.ts";
