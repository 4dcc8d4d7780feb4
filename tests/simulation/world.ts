import { setImmediate } from "node:timers";
import type { Clock, Timer } from "../../core/clock.ts";

interface Event {
  readonly at: number;
  readonly order: number;
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
  readonly #events: Event[] = [];
  #order = 0;

  /** Runs `run` in `ms` milliseconds; the returned function calls it off. */
  schedule(ms: number, run: () => void): () => void {
    const event = { at: this.now + Math.max(0, ms), order: this.#order++, run, cancelled: false };
    // A heap would be faster for thousands of events; there are dozens.
    const place = this.#events.findLastIndex(({ at }) => at <= event.at) + 1;
    this.#events.splice(place, 0, event);
    return () => void (event.cancelled = true);
  }

  /** Runs until nothing is left to happen, or until `horizonMs`. Answers whether nothing was left. */
  async run(horizonMs: number, after: () => void): Promise<boolean> {
    for (;;) {
      const event = this.#events.shift();
      if (event === undefined) return true;
      if (event.cancelled) continue;
      if (event.at > horizonMs) return false;
      this.now = event.at;
      event.run();
      // Whatever follows from the event without more time passing.
      await new Promise<void>((resolve) => setImmediate(resolve));
      after();
    }
  }
}

interface SimTimer extends Timer {
  stop(): void;
}

/** A process that can be frozen and killed, with clocks of its own. */
export class SimProcess {
  readonly name: string;
  readonly world: World;
  readonly clock: Clock;
  alive = true;
  frozen = false;
  /** What its wall clock is ahead of true time. */
  offsetMs: number;
  /** Timers that wait to fire: none may be left when its work is done. */
  readonly timers = new Set<SimTimer>();
  readonly #deferred: (() => void)[] = [];

  constructor(world: World, name: string, offsetMs: number, rate: number) {
    this.world = world;
    this.name = name;
    this.offsetMs = offsetMs;
    this.clock = {
      monotonicMs: () => 1000 + world.now * rate,
      wallMs: () => 1_700_000_000_000 + world.now * rate + this.offsetMs,
      after: (ms, fn) => {
        const timer: SimTimer = {
          // Whole milliseconds, as real timers count.
          stop: world.schedule(Math.ceil(ms) / rate, () =>
            this.deliver(() => {
              if (this.timers.delete(timer)) fn();
            })),
          ref: () => {},
          unref: () => {},
        };
        this.timers.add(timer);
        return timer;
      },
      clear: (timer) => {
        (timer as SimTimer | undefined)?.stop();
        this.timers.delete(timer as SimTimer);
      },
    };
  }

  /** Whether its code can run now. */
  get runs(): boolean {
    return this.alive && !this.frozen;
  }

  /** Runs `fn` in the process: when it thaws if it is frozen, never if it is dead. */
  deliver(fn: () => void): void {
    if (!this.alive) return;
    if (this.frozen) this.#deferred.push(fn);
    else fn();
  }

  kill(): void {
    this.alive = false;
    this.#deferred.length = 0;
  }

  freeze(): void {
    this.frozen = true;
  }

  thaw(): void {
    if (!this.alive || !this.frozen) return;
    this.frozen = false;
    for (const fn of this.#deferred.splice(0)) fn();
  }

  /** Waits for `ms` by its own clock. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.clock.after(ms, resolve));
  }
}
