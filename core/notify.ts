import type { Clock, Timer } from "./clock.ts";

/** Wakes one that sleeps. A call while none sleeps is not lost: it ends the next sleep at once. */
export class Notify {
  #isNotified = false;
  #wake: (() => void) | undefined;

  /** Ends the sleep, now or the next time. */
  readonly notify = (): void => {
    this.#isNotified = true;
    this.#wake?.();
  };

  /** Sleeps until it is notified, but not for longer than `ms` on `clock`. */
  async sleep(clock: Clock, ms = Infinity): Promise<void> {
    if (!this.#isNotified) {
      let timer: Timer | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (ms !== Infinity) timer = clock.after(ms, resolve);
      });
      clock.clear(timer);
    }
    this.#wake = undefined;
    this.#isNotified = false;
  }
}
