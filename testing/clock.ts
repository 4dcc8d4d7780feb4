import { setImmediate } from "node:timers";
import { type Clock, MAX_MS, queueMicrotask, systemClock, type Timer } from "../core/clock.ts";
import { refuse } from "../core/validate.ts";

/** How many turns of the event loop what has been woken gets, at the least, before the clock goes on. */
const TURNS = 3;

/** A timer of a test's clock. Whether it keeps the process alive makes no difference: nothing here does. */
interface TestTimer extends Timer {
  readonly dueMs: number;
  readonly fn: () => void;
}

/**
 * A clock that stands still until the test moves it on: leases, renewals and `waitForMs` on a memory backend that has it
 * take no real time, and end exactly when the test says.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { TestClock } from "@holdfast/lock/testing";
 * import { assertEquals } from "@std/assert";
 *
 * const clock = new TestClock();
 * const backend = memoryBackend({ clock });
 * const held = await lock("import", { backend, renew: false }).acquire();
 * await clock.advance(29_999);
 * assertEquals(held.signal.aborted, false);
 * await clock.advance(1);
 * assertEquals(held.signal.aborted, true); // the lease of 30 s has ended
 * ```
 */
export class TestClock implements Clock {
  #monotonicMs = 0;
  #wallMs: number;
  readonly #timers = new Set<TestTimer>();

  /** Makes a clock that shows `wallMs`, milliseconds since the Unix epoch. Default: what the machine's clock shows. */
  constructor(wallMs: number = systemClock.wallMs()) {
    if (!Number.isFinite(wallMs)) refuse("Cannot make a clock: 'wallMs' must be a finite number", wallMs);
    this.#wallMs = wallMs;
  }

  /** For how many milliseconds it has been moved on. */
  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /** What it shows, in milliseconds since the Unix epoch. */
  wallMs(): number {
    return this.#wallMs;
  }

  /** Calls `fn` when the clock has been moved on by `ms` milliseconds. */
  after(ms: number, fn: () => void): Timer {
    const dueMs = this.#monotonicMs + Math.min(Math.max(0, Math.ceil(ms)), MAX_MS);
    const timer: TestTimer = { dueMs, fn, ref: () => timer, unref: () => timer };
    this.#timers.add(timer);
    return timer;
  }

  /** Stops a timer. */
  clear(timer: Timer | undefined): void {
    this.#timers.delete(timer as TestTimer);
  }

  /** Calls `fn` when the code has run that is being called at the moment. */
  soon(fn: () => void): void {
    queueMicrotask(fn);
  }

  /**
   * Moves the clock on by `ms` milliseconds, from one timer that is due to the next. Resolves when what waited for them has
   * gone on as far as it can.
   *
   * Rejects with RangeError if `ms` is not a finite number of 0 or more.
   */
  async advance(ms: number): Promise<void> {
    if (!Number.isFinite(ms) || ms < 0) {
      refuse("Cannot move the clock: 'ms' must be a finite number of 0 or more", ms, RangeError);
    }
    const untilMs = this.#monotonicMs + ms;
    await settled();
    for (;;) {
      const next = [...this.#timers].reduce<TestTimer | undefined>(
        (first, timer) => first === undefined || timer.dueMs < first.dueMs ? timer : first,
        undefined,
      );
      if (next === undefined || next.dueMs > untilMs) break;
      this.#timers.delete(next);
      this.#moveTo(Math.max(next.dueMs, this.#monotonicMs));
      next.fn();
      await settled();
    }
    this.#moveTo(untilMs);
    await settled();
  }

  #moveTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }
}

/** Until promises that have been settled have been followed as far as they lead. */
async function settled(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}
