import { nextTick } from "node:process";
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
  /** Calls `fn` once after `ms` milliseconds, rounded up to whole ones, unless the timer is cleared before. */
  after(ms: number, fn: () => void): Timer;
  /** Stops a timer, if there is one. */
  clear(timer: Timer | undefined): void;
  /** Calls `fn` once all is done that follows from the current event, before the next one. */
  soon(fn: () => void): void;
}

/** A timer that runs. It keeps the process alive, unless it is told not to. */
export interface Timer {
  ref(): unknown;
  unref(): unknown;
}

/** The longest time that a timer of any runtime can count: 2³¹ − 1 ms, 24.8 days. */
export const MAX_MS = 2 ** 31 - 1;

/** The clock of this machine. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => setTimeout(fn, Math.min(Math.max(0, Math.ceil(ms)), MAX_MS)),
  // Not by the timer's own `close`, which not all runtimes have had for long.
  clear: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  soon: (fn) => nextTick(fn),
};

/**
 * A timer for what follows one another, where the next makes the one before pointless: the answers that a lock waits
 * for, its renewals, its end. To set it for later costs no new timer: if it rings too early, it goes on. Nor does what is
 * over at once, as a lock is that is given back to be asked for again: the timer follows when the current event is over.
 */
export class Alarm {
  readonly #clock: Clock;
  /** What it is set for; `Infinity` = nothing. */
  #dueMs = Infinity;
  #ring!: () => void;
  #background = false;
  #timer: Timer | undefined;
  /** When the timer rings; what it is set for may be later. */
  #ringsMs = 0;
  /** Whether the timer lets the process end. */
  #isBackground = false;
  /** Whether the timer is about to follow. */
  #isDue = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls `ring` once `monotonicMs` is `dueMs`, instead of what it was set to call. With `background` it does not keep the
   * process alive.
   */
  set(dueMs: number, ring: () => void, background = false): void {
    this.#dueMs = dueMs;
    this.#ring = ring;
    this.#background = background;
    this.#followSoon();
  }

  stop(): void {
    this.#dueMs = Infinity;
    this.#followSoon();
  }

  #followSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.#clock.soon(this.#follow);
  }

  /** Has the timer that is needed, and no other. */
  readonly #follow = (): void => {
    this.#isDue = false;
    const dueMs = this.#dueMs;
    if (dueMs === Infinity || dueMs < this.#ringsMs) {
      this.#clock.clear(this.#timer);
      this.#timer = undefined;
    }
    if (dueMs === Infinity) return;
    if (this.#timer === undefined) {
      this.#ringsMs = dueMs;
      // A moment may be less away than the clock can tell: some time must pass until the next look.
      this.#timer = this.#clock.after(Math.max(1, dueMs - this.#clock.monotonicMs()), this.#look);
      this.#isBackground = false;
    }
    if (this.#background === this.#isBackground) return;
    this.#isBackground = this.#background;
    if (this.#isBackground) this.#timer.unref();
    else this.#timer.ref();
  };

  readonly #look = (): void => {
    this.#timer = undefined;
    if (this.#clock.monotonicMs() < this.#dueMs) this.#follow();
    else this.#ring();
  };
}

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
