import { performance } from "node:perf_hooks";
import { clearTimeout, setTimeout } from "node:timers";

/**
 * A clock: the only one that the core knows. The simulation and tests hand in virtual ones.
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
  /** Calls `fn` when the callbacks that were just resolved have run. */
  soon(fn: () => void): void;
}

/** A timer that runs. It keeps the process alive, unless it is set not to. */
export interface Timer {
  /** Lets it keep the process alive. */
  ref(): unknown;
  /** Lets the process end before it rings. */
  unref(): unknown;
}

/** The longest time that a timer of any runtime can count: 2³¹ − 1 ms, 24.8 days. */
export const MAX_MS = 2 ** 31 - 1;

const NOW: Promise<void> = Promise.resolve();

/** The platform's own: Jest's fake timers replace it, too. */
export const queueMicrotask: (callback: () => void) => void = globalThis.queueMicrotask;

const monotonicMs = performance.now.bind(performance);
/** When the monotonic reading was 0, by the wall clock of then. */
export const timeOriginMs: number = performance.timeOrigin;

/** Whether the platform's own wall clock is here, and not what a test has put in its place before this was loaded. */
const isReal = [Date, Date.now].every((one) => /\[native code\]/.test(Function.prototype.toString.call(one)));

const replacedNow = Date.now;

/**
 * The clock of this machine, and the only place that reads it. Readings and timers are those that were there when this
 * was loaded: tests that replace some of them (`vi.useFakeTimers()`, their own `Date.now`) would otherwise stop one
 * while the others go on, so that a lock expires at once or never.
 */
export const systemClock: Clock = {
  monotonicMs,
  // What a test stops must not stop a lease; what only passes the time on still shows that a machine was suspended.
  wallMs: isReal ? Date.now : () => Math.max(timeOriginMs + monotonicMs(), replacedNow()),
  after: (ms, fn) => setTimeout(fn, Math.min(Math.max(0, Math.ceil(ms)), MAX_MS)),
  // Not by the timer's own `close`, which not all runtimes have had for long.
  clear: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  soon: (fn) => void NOW.then(fn),
};

/**
 * A timer for what follows one another, where the next makes the one before pointless: the answers that a lock
 * waits for, its renewals, its end. To set it for later costs no new timer: if it rings too early, it goes on. Nor
 * does it cost one to set it again at once when it has been stopped: a caller that releases a lock often asks for
 * it again.
 */
export class Alarm {
  readonly #clock: Clock;
  #timer: Timer | undefined;
  /** When the timer rings; what it is set for may be later. */
  #ringsMs = 0;
  /** `Infinity` if it is set for nothing. */
  #dueMs = Infinity;
  #ring!: () => void;
  #background = false;
  /** Whether the timer is about to be cleared, unless it is set again. */
  #isStopping = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls `ring` once `monotonicMs` is `dueMs`, instead of what it was set to call. With `background` it does not keep the
   * process alive.
   */
  set(dueMs: number, ring: () => void, background = false): void {
    if (this.#timer === undefined || dueMs < this.#ringsMs) {
      this.#clear();
      this.#ringsMs = dueMs;
      // A moment may be less away than the clock can measure: some time must pass until the next look.
      this.#timer = this.#clock.after(Math.max(1, dueMs - this.#clock.monotonicMs()), this.#look);
      this.#background = false;
    }
    this.#dueMs = dueMs;
    this.#ring = ring;
    if (background === this.#background) return;
    this.#background = background;
    if (background) this.#timer.unref();
    else this.#timer.ref();
  }

  stop(): void {
    this.#dueMs = Infinity;
    if (this.#timer === undefined || this.#isStopping) return;
    this.#isStopping = true;
    this.#clock.soon(this.#clearUnlessSet);
  }

  #clear(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }

  readonly #clearUnlessSet = (): void => {
    this.#isStopping = false;
    if (this.#dueMs === Infinity) this.#clear();
  };

  readonly #look = (): void => {
    this.#timer = undefined;
    if (this.#dueMs === Infinity) return;
    if (this.#clock.monotonicMs() < this.#dueMs) this.set(this.#dueMs, this.#ring, this.#background);
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
