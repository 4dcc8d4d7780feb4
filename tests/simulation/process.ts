import { type Clock, systemClock, type Timer } from "../../core/clock.ts";
import type { World } from "./world.ts";

/** How a process is held up: which of its clocks go on meanwhile. */
export type Standstill = "freeze" | "suspend" | "pause";

interface SimTimer extends Timer {
  stop(): void;
}

/** How good the clocks of a process are, and how often it is held up while it reads them. */
export interface ProcessOptions {
  readonly name: string;
  /** What its wall clock is ahead of true time. */
  readonly offsetMs?: number;
  /** How fast its clocks run. */
  readonly rate?: number;
  /** How far its wall clock may be off at most, for one that keeps a bound. */
  readonly boundMs?: number;
  /** How many of its clock reads it is held up in, and for how long at most. */
  readonly stall?: { readonly share: number; readonly maxMs: number; readonly kinds: readonly Standstill[] };
  readonly random?: () => number;
}

export const EPOCH_MS = 1_700_000_000_000;

/**
 * A process with separate clocks that can be frozen, suspended, paused and killed, at an await or inside any
 * read of its clocks.
 *
 * A read that takes a second cannot let the rest of the world run meanwhile, for their code would have to run in
 * the middle of this turn. So the process runs ahead: it has `now` a second later than the world, finishes its
 * turn at once, and runs nothing more until the world has caught up. What it sends is sent at its own `now`, what
 * is sent to it waits until then, and so do the invariants. Nothing that happens elsewhere in that second could
 * have changed what it did: a turn of JavaScript hears of others only when it is over, by a message or a timer.
 * The two orders are one and the same run, so nothing can be reported that could not happen.
 */
export class SimProcess {
  readonly name: string;
  readonly world: World;
  readonly clock: Clock;
  alive = true;
  stall: ProcessOptions["stall"];
  /** Since when it has been in the turn that runs now; whether a clock read of it took long. */
  stalledThisTurn = false;
  /** Reports here which process was held up in a read, and for how long. */
  onStall: ((kind: Standstill) => void) | undefined;
  /** Timers that wait to fire: none may be left when its work is done. */
  readonly timers = new Set<SimTimer>();
  #aheadMs = 0;
  #offsetMs: number;
  #stoodMs = 0;
  #inTurn = false;
  readonly #rate: number;
  readonly #boundMs: number;
  readonly #random: () => number;

  constructor(world: World, options: ProcessOptions) {
    const { name, offsetMs = 0, rate = 1, boundMs = Infinity, stall, random = Math.random } = options;
    this.world = world;
    this.name = name;
    this.stall = stall;
    this.#offsetMs = offsetMs;
    this.#rate = rate;
    this.#boundMs = boundMs;
    this.#random = random;
    this.clock = {
      monotonicMs: () => this.#read(() => 1000 + this.#monotonicMs),
      wallMs: () => this.#read(() => this.#wallMs),
      after: (ms, fn) => this.#after(ms, fn),
      clear: (timer) => {
        (timer as SimTimer | undefined)?.stop();
        this.timers.delete(timer as SimTimer);
      },
      soon: (fn) => systemClock.soon(fn),
    };
  }

  /** The true time at which its code runs: that of the world, unless it has run ahead. */
  get now(): number {
    return Math.max(this.world.now, this.#aheadMs);
  }

  /** Whether its code can run now. */
  get runs(): boolean {
    return this.alive && this.#aheadMs <= this.world.now;
  }

  /** Runs `fn` in the process: when it can, never if it is dead. */
  deliver(fn: () => void): void {
    if (!this.alive) return;
    if (this.#aheadMs > this.world.now) return void this.world.at(this.#aheadMs, () => this.deliver(fn));
    this.stalledThisTurn = false;
    this.#inTurn = true;
    // Its promises run on after this until the next event: whatever runs then is this process's.
    running?.leave();
    running = this;
    fn();
  }

  /** What it does to the world, at its own time. */
  act(fn: () => void): void {
    if (this.#aheadMs <= this.world.now) fn();
    else this.world.at(this.#aheadMs, () => this.alive && fn());
  }

  /** Looks into the process from outside, without any time passing. */
  look<Value>(fn: () => Value): Value {
    const inTurn = this.#inTurn;
    this.#inTurn = false;
    try {
      return fn();
    } finally {
      this.#inTurn = inTurn;
    }
  }

  leave(): void {
    this.#inTurn = false;
  }

  kill(): void {
    this.alive = false;
  }

  /** It does nothing for `ms` from its own now on, and then goes on as if nothing had been. */
  hold(ms: number, kind: Standstill = "freeze"): void {
    this.#aheadMs = this.now + ms;
    if (kind !== "freeze") this.#stoodMs += ms * this.#rate;
    if (kind === "pause") this.step(-ms);
  }

  /** Sets its wall clock, as far as its bound lets. */
  step(ms: number): void {
    this.#offsetMs += ms;
  }

  /** Waits for `ms` by its own clock. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.clock.after(ms, resolve));
  }

  get #monotonicMs(): number {
    return this.now * this.#rate - this.#stoodMs;
  }

  get #wallMs(): number {
    const offsetMs = this.#offsetMs + this.now * (this.#rate - 1);
    return EPOCH_MS + this.now + Math.max(-this.#boundMs, Math.min(offsetMs, this.#boundMs));
  }

  #read(time: () => number): number {
    const { stall } = this;
    if (stall !== undefined && this.#inTurn && stall.share > 0 && this.#random() < stall.share) {
      const kind = stall.kinds[Math.floor(this.#random() * stall.kinds.length)];
      // Most often short, as pauses are.
      this.hold(stall.maxMs * this.#random() ** 2, kind);
      this.stalledThisTurn = true;
      this.onStall?.(kind);
    }
    return time();
  }

  #after(ms: number, fn: () => void): Timer {
    // Whole milliseconds, as real timers count.
    const dueMs = this.#monotonicMs + Math.ceil(ms);
    let stop: () => void;
    const arm = (fromMs: number) => {
      const leftMs = (dueMs - this.#monotonicMs) / this.#rate;
      stop = this.world.at(fromMs + Math.max(0, leftMs), () =>
        this.deliver(() => {
          if (!this.timers.has(timer)) return;
          // It has been suspended meanwhile: timers count by the monotonic clock.
          if (this.#monotonicMs < dueMs - 0.001) return arm(this.now);
          this.timers.delete(timer);
          fn();
        }));
    };
    const timer: SimTimer = { stop: () => stop(), ref: () => {}, unref: () => {} };
    this.timers.add(timer);
    arm(this.now);
    return timer;
  }
}

/** Whose turn it is. */
let running: SimProcess | undefined;
