import type { Clock, Timer } from "./clock.ts";

/** Wakes one who sleeps. A ring while nobody sleeps is not lost: it ends the next sleep at once. */
export class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  /** Ends the sleep, now or the next time. */
  readonly ring = (): void => {
    this.#rung = true;
    this.#wake?.();
  };

  /** Sleeps until the bell rings, but not for longer than `ms` on `clock`. */
  async sleep(clock: Clock, ms = Infinity): Promise<void> {
    if (!this.#rung) {
      let timer: Timer | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (ms !== Infinity) timer = clock.after(ms, resolve);
      });
      clock.clear(timer);
    }
    this.#wake = undefined;
    this.#rung = false;
  }
}
