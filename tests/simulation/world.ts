import { setImmediate } from "node:timers";

interface Event {
  readonly atMs: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Numbers that look random and are the same for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Virtual time: events run one by one in the order of their moments, however long that would really take. */
export class World {
  now = 0;
  /** How many events have run. */
  events = 0;
  #awaited: (() => boolean)[] = [];
  readonly #events: Event[] = [];

  /** Runs `run` in `ms` milliseconds; the returned function calls it off. */
  schedule(ms: number, run: () => void): () => void {
    return this.at(this.now + Math.max(0, ms), run);
  }

  /** Runs `run` at a moment that is not over yet. */
  at(atMs: number, run: () => void): () => void {
    const event = { atMs, run, cancelled: false };
    const events = this.#events;
    let from = 0;
    for (let to = events.length; from < to;) {
      const middle = (from + to) >>> 1;
      if (events[middle].atMs <= atMs) from = middle + 1;
      else to = middle;
    }
    events.splice(from, 0, event);
    return () => void (event.cancelled = true);
  }

  /** The runtime does something outside of its event loop, such as loading a module: no event runs until `isDone`. */
  awaitOutside(isDone: () => boolean): void {
    this.#awaited.push(isDone);
  }

  /** Runs until nothing is left to happen, or until `horizonMs`. Answers whether nothing was left. */
  async run(horizonMs: number, after: () => void): Promise<boolean> {
    for (;;) {
      const event = this.#events.shift();
      if (event === undefined) return true;
      if (event.cancelled) continue;
      if (event.atMs > horizonMs) return false;
      this.now = event.atMs;
      this.events++;
      event.run();
      // Whatever follows from the event without more time passing.
      do {
        await new Promise<void>((resolve) => setImmediate(resolve));
        if (this.#awaited.length > 0) this.#awaited = this.#awaited.filter((isDone) => !isDone());
      } while (this.#awaited.length > 0);
      after();
    }
  }
}
