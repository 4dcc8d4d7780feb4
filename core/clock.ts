import { clearTimeout, setTimeout } from "node:timers";

/**
 * The only clock that the core knows. The simulation hands in a virtual one.
 *
 * Two readings, because each lies in its own way: the monotonic one stands still while a machine is
 * suspended, the wall clock can be set. A lease counts as over when either says so.
 */
export interface Clock {
  /** Milliseconds since any fixed moment; never steps back. */
  monotonicMs(): number;
  /** Milliseconds since the Unix epoch; may be set at any time. */
  wallMs(): number;
  /**
   * Calls `fn` once after `ms` milliseconds, rounded up to whole ones, unless the returned function is called before.
   * With `background`, the timer does not keep the process alive.
   */
  after(ms: number, fn: () => void, background?: boolean): () => void;
}

/** The longest time that a timer of any runtime can count: 2³¹ − 1 ms, 24.8 days. */
export const MAX_MS = 2 ** 31 - 1;

/** The clock of this machine. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, fn, background = false) {
    const timer = setTimeout(fn, Math.min(Math.max(0, Math.ceil(ms)), MAX_MS));
    if (background) timer.unref();
    return () => clearTimeout(timer);
  },
};

/** A moment on both of a clock's readings. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** Now, on both readings. */
export function momentOf(clock: Clock): Moment {
  return { monotonic: clock.monotonicMs(), wall: clock.wallMs() };
}

/** How long it was between two moments, by whichever reading says longer. */
export function spanMs(from: Moment, to: Moment): number {
  return Math.max(to.monotonic - from.monotonic, to.wall - from.wall);
}

/** Waits for `ms` on `clock`. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve));
}
