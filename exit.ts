/** Releases all locks when a signal asks the process to end. */

import process from "node:process";
import { systemClock } from "./core/clock.ts";
import { holdBack } from "./core/exiting.ts";
import { checkReleaseAll, releaseAll } from "./core/release_all.ts";
import { Input } from "./core/validate.ts";

const RELEASING: Input = new Input("release on exit");

/** For how long a process that is to end waits for its locks, unless it is said otherwise: less than Deno Deploy's 5 s. */
const TIMEOUT_MS = 3000;
/** How long a signal may take to end the process that has sent it to itself, if it ends it at all. */
const DEATH_MS = 1000;

/** Options of {@linkcode releaseOnExit}. */
export interface ReleaseOnExitOptions {
  /**
   * The signals that ask the process to end.
   *
   * @default {["SIGINT", "SIGTERM"]}
   */
  signals?: readonly string[] | undefined;
  /**
   * How many milliseconds the process goes on at most. Choose it shorter than what its supervisor allows.
   *
   * @default {3000}
   */
  timeoutMs?: number | undefined;
}

/**
 * From now on, SIGINT and SIGTERM make this process release all its locks, as {@linkcode releaseAll} does, before
 * it ends as it would have ended: with that signal. Without it, a lock that is held then stays taken until its
 * lease expires. A second signal ends the process at once.
 *
 * Until then, calls that wait for a lock and what runs under one by `run`, wrapper or decorator reject nothing: an
 * error that the program does not catch would end it before its other locks are released. The `signal` of each held
 * lock aborts at once, and what the program's own code throws for it counts as ever.
 *
 * Other listeners of the program receive the signal as well. If there are any, they decide when and how the
 * process ends. (On Deno, listeners of `Deno.addSignalListener` receive it twice, because Holdfast cannot see
 * them: call `releaseAll` in them instead.)
 *
 * @param options Which signals, and for how long to wait.
 * @returns An object whose disposal restores what the signals did before.
 * @throws {TypeError | RangeError} For bad input.
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
    { input: RELEASING, more: ["signals"] },
  );
  if (!Array.isArray(signals) || signals.length === 0 || !signals.every(isSignal)) {
    RELEASING.refuse("'signals' must be names of signals such as \"SIGTERM\"", signals);
  }
  let isEnding = false;
  const stop = () => {
    for (const signal of signals) process.removeListener(signal, onSignal);
  };
  let goOn = () => {};
  const end = (signal: string) => {
    stop();
    // If there are other listeners, they decide when it ends. There are none: it ends now.
    if (process.listenerCount(signal) > 0) return goOn();
    process.kill(process.pid, signal);
    // Not every signal ends a process.
    systemClock.after(DEATH_MS, goOn);
  };
  const onSignal = (signal: string) => {
    if (isEnding) return end(signal);
    isEnding = true;
    goOn = holdBack();
    releaseAll({ timeoutMs }).then(() => end(signal), () => end(signal));
  };
  for (const signal of signals) process.on(signal, onSignal);
  return { [Symbol.dispose]: stop };
}

function isSignal(name: unknown): boolean {
  return typeof name === "string" && /^SIG[A-Z0-9]+$/.test(name) && name !== "SIGKILL" && name !== "SIGSTOP";
}
