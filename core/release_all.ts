/** Gives up at once all that this process holds, or waits for: what a process does before it ends. */

import { onAbort } from "./abort.ts";
import { systemClock, type Timer } from "./clock.ts";
import { publishBackendError } from "./events.ts";
import { cancelArrivals } from "./arrivals.ts";
import { allParticipants } from "./participant.ts";
import { Input } from "./validate.ts";

const RELEASING: Input = new Input("release all locks");

/** Options of {@linkcode releaseAll}. */
export interface ReleaseAllOptions {
  /**
   * Ends the wait: the call rejects at once with the signal's reason, and the releases go on.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
  /**
   * How many milliseconds to wait at most. Then it resolves to how many have been released so far, and the rest
   * goes on.
   *
   * @default {undefined} until each lock is released, or its lease has ended
   */
  timeoutMs?: number | undefined;
}

/**
 * Releases every lock that this process holds, and cancels every call that waits for one, whatever the backend.
 * Resolves when the stores have confirmed all of it.
 *
 * Code that runs under one of these locks is notified: its `signal` aborts with a `LockLostError` whose `reason`
 * is `released`, and `run`, wrapper and decorator reject with that. It runs on until it reacts to the signal, and
 * another process may have the lock by then: to let your work end first, end it before you call this. Calls that
 * wait reject with an `AbortError`. Later calls are not affected. A release that fails is published on the
 * diagnostics channel `holdfast:backend-error`, and is not counted.
 *
 * @param options For how long to wait.
 * @returns How many locks it has released.
 * @throws {TypeError | RangeError} For bad input.
 * @throws {unknown} The signal's reason, when it aborts.
 *
 * @example In your own handler of a signal
 * ```ts ignore
 * import { releaseAll } from "@holdfast/lock";
 * import process from "node:process";
 *
 * process.once("SIGTERM", async () => {
 *   await drain(); // first the work
 *   await releaseAll({ timeoutMs: 3000 }); // then what is still held
 * });
 * ```
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

/**
 * The options of a release of all locks, or of one that is to come, which are the object's own; `more` are the names that
 * they may have besides. Refuses bad ones.
 */
export function checkReleaseAll<Options extends ReleaseAllOptions>(
  options: Options,
  { input = RELEASING, more = [] }: { readonly input?: Input; readonly more?: readonly string[] } = {},
): Options {
  const own = input.own(options, ["signal", "timeoutMs", ...more]);
  input.signal(own.signal);
  input.time(own.timeoutMs, "timeoutMs", 0);
  return own;
}
