/** Gives up at once all that this process holds, or waits for: what a process does before it ends. */

import { onAbort } from "./abort.ts";
import { systemClock, type Timer } from "./clock.ts";
import { publishBackendError } from "./events.ts";
import { cancelArrivals } from "./arrivals.ts";
import { checkOptions } from "./options.ts";
import { allParticipants } from "./participant.ts";
import { ownOptions, time } from "./validate.ts";

/** Options of {@linkcode releaseAll}. */
export interface ReleaseAllOptions {
  /** Ends the wait: the call rejects at once with the signal's reason, and the releases go on. Default: none. */
  signal?: AbortSignal | undefined;
  /**
   * For how many milliseconds to wait at most. Then it resolves to how many have been released so far, and the rest goes
   * on. Default: until each lock is released, or its lease has ended.
   */
  timeoutMs?: number | undefined;
}

/**
 * Releases every lock that this process holds, and cancels every call that waits for one, whatever the backend. Resolves
 * to how many locks it has released, when the stores have taken note of it all.
 *
 * Code that runs under one of these locks is notified: its `signal` aborts with a `LockLostError` whose `reason` is
 * `released`, and `run`, wrapper and decorator reject with that. It runs on until it reacts to the signal, and
 * another process may have the lock by then: if your work is to end first, end it before you call this. Calls that
 * wait reject with an `AbortError`. What is asked for afterwards is not affected. A release that fails is published
 * on the diagnostics channel `holdfast:backend-error`, and is not counted.
 *
 * Throws TypeError or RangeError for bad input; rejects with the signal's reason.
 *
 * @example
 * ```ts
 * import { lock, releaseAll } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert, assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const held = await lock("import", { backend }).acquire();
 * const waiting = lock("import", { backend }).acquire().catch((error) => error);
 * assertEquals(await releaseAll({ timeoutMs: 3000 }), 1);
 * assert(held.signal.aborted);
 * assertEquals((await waiting).name, "AbortError");
 * ```
 */
export async function releaseAll(options: ReleaseAllOptions = {}): Promise<number> {
  const { signal, timeoutMs } = checkReleaseAll(options);
  signal?.throwIfAborted();
  const reason = new DOMException("releaseAll has cancelled what waits for a lock", "AbortError");
  cancelArrivals(reason);
  let released = 0;
  const stop = new AbortController();
  const leaving = allParticipants().map((participant) => {
    const releases = participant.giveUp(reason).map(({ identifier, released: outcome }) =>
      outcome.then((isOurs) => void (released += isOurs ? 1 : 0), (error) => {
        publishBackendError(identifier, error);
      })
    );
    return Promise.all([...releases, participant.whenCleared(stop.signal)]);
  });
  return await new Promise<number>((resolve, reject) => {
    let timer: Timer | undefined;
    let forget = () => {};
    const end = () => {
      systemClock.clear(timer);
      forget();
      stop.abort();
      resolve(released);
    };
    if (timeoutMs !== undefined) timer = systemClock.after(timeoutMs, end);
    if (signal !== undefined) {
      forget = onAbort(signal, () => {
        reject(signal.reason);
        end();
      });
    }
    Promise.all(leaving).then(end, reject);
  });
}

/** The options of a release of all locks, or of one that is to come, which are the object's own. Refuses bad ones. */
export function checkReleaseAll<Options extends ReleaseAllOptions>(
  options: Options,
  ...more: string[]
): Options {
  const own = ownOptions(options, ["signal", "timeoutMs", ...more], "release all locks");
  checkOptions({ signal: own.signal });
  time(own.timeoutMs, "timeoutMs", 0);
  return own;
}
