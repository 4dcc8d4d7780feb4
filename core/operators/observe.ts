/** One lock, looked at from outside: once, or whenever it changes. */

import { onAbort } from "../abort.ts";
import { pause } from "../clock.ts";
import { backendError, LockBackendError } from "../errors.ts";
import { publishBackendError } from "../events.ts";
import { assertIdentifier, keyOf, queueKeyOf } from "../identifier.ts";
import { Notify } from "../notify.ts";
import { checkOptions } from "../options.ts";
import { participantOf } from "../participant.ts";
import { Backoff, type BackoffOptions } from "../retry.ts";
import { Input } from "../validate.ts";
import { runWatch } from "../watch.ts";
import { storeOf, type StoreOptions } from "./api.ts";
import { type ListedLock, look, type Seen } from "./listing.ts";

const LOOKING: Input = new Input("look at a lock");
const OBSERVING: Input = new Input("observe a lock");

/** How long it waits before it asks a store again that has failed. */
const RETRY: BackoffOptions = { leastMs: 100, mostMs: 5000 };

/** Options of {@linkcode observe}. */
export interface ObserveOptions extends StoreOptions {
  /**
   * Ends the iteration, without an error; so does `break`.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
}

/**
 * Reads the holders of the lock of `identifier`, and its waiters: one read of the store, which delays no caller.
 * Both lists are empty if there is no holder or waiter. Secret tokens are not shown. The result may be outdated
 * when it arrives: to acquire a lock only if it is free, use `wait: false`.
 *
 * @param identifier The identifier of the lock.
 * @param options Which store.
 * @returns The lock as it is now.
 * @throws {TypeError} For bad input.
 * @throws {LockBackendError} If the store fails.
 *
 * @example In an app
 * ```ts ignore
 * import { peek } from "@holdfast/lock";
 *
 * const { holders } = await peek("import");
 * console.log(holders.length > 0 ? `an import is in progress, on ${holders[0].label}` : "no import");
 * ```
 *
 * @example
 * ```ts
 * import { lock, peek } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * await using _ = await lock("import", { backend, label: "worker 3" }).acquire();
 * const { holders, waiters } = await peek("import", { backend });
 * assertEquals([holders[0].label, waiters.length], ["worker 3", 0]);
 * ```
 */
export async function peek(identifier: string, options: StoreOptions = {}): Promise<ListedLock> {
  assertIdentifier(identifier, "identifier", LOOKING);
  const own = LOOKING.own(options, ["kind", "backend"]);
  return (await look(identifier, await storeOf(own, LOOKING))).shown;
}

/**
 * Shows one lock, now and after each change: when the lock is acquired, renewed, lost or released, and when a
 * process joins or leaves the queue. It hears of changes by push if the store pushes, else as often as it polls.
 * Changes that happen while the loop is at work are shown together: states that are outdated may be skipped, and
 * the last one is always shown. A store that fails for a while is asked again, and the failure is published on the
 * diagnostics channel `holdfast:backend-error`.
 *
 * @param identifier The identifier of the lock.
 * @param options Which store, and a signal that ends the iteration.
 * @returns The states of the lock, one by one.
 * @throws {TypeError} For bad input.
 * @throws {LockBackendError} If the store fails for good.
 *
 * @example In an app
 * ```ts ignore
 * import { observe } from "@holdfast/lock";
 *
 * for await (const { holders } of observe("import")) {
 *   if (holders.length === 0) break; // the import has ended
 * }
 * ```
 *
 * @example
 * ```ts
 * import { lock, observe } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const held = await lock("import", { backend }).acquire();
 * const seen: number[] = [];
 * for await (const { holders } of observe("import", { backend })) {
 *   seen.push(holders.length);
 *   if (holders.length === 0) break;
 *   await held.release();
 * }
 * assertEquals(seen, [1, 0]);
 * ```
 */
export function observe(identifier: string, options: ObserveOptions = {}): AsyncIterableIterator<ListedLock> {
  assertIdentifier(identifier, "identifier", OBSERVING);
  const own = OBSERVING.own(options, ["signal", "kind", "backend"]);
  const { signal, kind, backend } = own;
  checkOptions({ signal, kind, backend }, OBSERVING);
  return observed(identifier, own);
}

/** The first read opens the store, so that an iterator that is never read cannot fail. */
async function* observed(
  identifier: string,
  options: ObserveOptions,
): AsyncIterableIterator<ListedLock> {
  const { signal } = options;
  const backend = await storeOf(options, OBSERVING);
  const key = await keyOf(identifier);
  const { clock } = participantOf(backend);
  const bell = new Notify();
  const forget = signal && onAbort(signal, bell.notify);
  const watches = new Map<string, AbortController>();
  let failure: unknown;
  let backoff = new Backoff(RETRY);
  /** A process that joins or leaves the queue writes only the record of the queue: both records are watched. */
  const watch = () => {
    for (const watched of [key, queueKeyOf(key)]) {
      if (watches.has(watched)) continue;
      const follow = (signal: AbortSignal) => backend.watch(watched, { signal });
      watches.set(
        watched,
        runWatch(follow, bell.notify, (error) => {
          watches.delete(watched);
          failure = error;
          bell.notify();
        }),
      );
    }
  };
  try {
    let before: Seen | undefined;
    while (!signal?.aborted) {
      watch();
      const seen = await look(identifier, backend).catch((error) => void (failure = error));
      if (signal?.aborted) return;
      const isSame = before !== undefined && before.version === seen?.version && before.queue === seen?.queue;
      if (seen !== undefined && !isSame) {
        before = seen;
        yield seen.shown;
      }
      if (failure === undefined) {
        if (seen !== undefined) backoff = new Backoff(RETRY);
        await bell.sleep(clock);
        continue;
      }
      const error = failure instanceof LockBackendError && failure.identifier !== undefined
        ? failure
        : backendError(identifier, "observe", failure);
      failure = undefined;
      if (!error.transient) throw error;
      publishBackendError(identifier, error);
      await pause(clock, backoff.pauseMs());
    }
  } finally {
    forget?.();
    for (const running of watches.values()) running.abort();
  }
}
