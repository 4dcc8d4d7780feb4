/** Releases all locks when the process is told to end. */

import process from "node:process";
import { checkReleaseAll, releaseAll } from "./core/release_all.ts";
import { refuse } from "./core/validate.ts";

/** For how long a process that is to end waits for its locks, unless it is said otherwise: less than Deno Deploy's 5 s. */
const TIMEOUT_MS = 3000;

/** Options of {@linkcode releaseOnExit}. */
export interface ReleaseOnExitOptions {
  /** The signals that tell the process to end. Default: `["SIGINT", "SIGTERM"]`. */
  signals?: readonly string[] | undefined;
  /**
   * For how many milliseconds the process goes on at most. Choose it shorter than what its supervisor allows. Default:
   * 3000.
   */
  timeoutMs?: number | undefined;
}

/**
 * From now on, SIGINT and SIGTERM make this process release all its locks, as {@linkcode releaseAll} does, before it ends
 * as it would have: by that signal. Without it, a lock that is held then stays taken until its lease ends. A second signal
 * ends the process at once. Dispose of what this returns, and signals do again what they did before.
 *
 * Other listeners that the program has for the signal hear it as well. If there are any, they decide when and how the
 * process ends, as they would have. (On Deno, listeners of `Deno.addSignalListener` hear it twice, for nothing tells that
 * they are there: call `releaseAll` in them instead.)
 *
 * Throws TypeError or RangeError for bad input.
 *
 * @example
 * ```ts
 * import { releaseOnExit } from "@holdfast/lock";
 *
 * using _exit = releaseOnExit({ timeoutMs: 3000 });
 * ```
 */
export function releaseOnExit(options: ReleaseOnExitOptions = {}): Disposable {
  const { signals = ["SIGINT", "SIGTERM"], timeoutMs = TIMEOUT_MS } = checkReleaseAll(
    options as ReleaseOnExitOptions & { signal?: undefined },
    "signals",
  );
  if (!Array.isArray(signals) || signals.length === 0 || !signals.every(isSignal)) {
    refuse("Cannot release on exit: 'signals' must be names of signals such as \"SIGTERM\"", signals);
  }
  let isEnding = false;
  const stop = () => {
    for (const signal of signals) process.removeListener(signal, onSignal);
  };
  const end = (signal: string) => {
    stop();
    // Those that listen besides decide when it ends. Nobody does: it ends now.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const onSignal = (signal: string) => {
    if (isEnding) return end(signal);
    isEnding = true;
    releaseAll({ timeoutMs }).then(() => end(signal), () => end(signal));
  };
  for (const signal of signals) process.on(signal, onSignal);
  return { [Symbol.dispose]: stop };
}

function isSignal(name: unknown): boolean {
  return typeof name === "string" && /^SIG[A-Z0-9]+$/.test(name) && name !== "SIGKILL" && name !== "SIGSTOP";
}
