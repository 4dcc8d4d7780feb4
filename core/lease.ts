import { AsyncLocalStorage } from "node:async_hooks";
import { type Clock, MAX_MS, type Moment, momentOf, queueMicrotask, spanMs } from "./clock.ts";
import { backendError } from "./errors.ts";
import { type HoldEvent, publish, publishBackendError } from "./events.ts";
import type { CheckedOptions } from "./options.ts";

const NONE: readonly never[] = [];

/** How a lease was confirmed: since when it counts, and for how long. */
export interface Lease {
  /** When the write that carries it was sent: no process can have counted it from earlier on. */
  readonly from: Moment;
  readonly forMs: number;
}

/** What a caller has asked for that wants the lease to last. */
interface Extension {
  /** Until when, on the monotonic clock. */
  readonly untilMs: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** What part of a lease is over when a renewal is overdue by half of it, for it was due after a third. */
const LATE = 5 / 6;
/**
 * What part of what was offered is over when a hold that has begun with it asks for its whole lease. A busy process may not
 * come to that for as long as an offer runs, so that most holds that outlast a few answers have it by then.
 */
export const CONFIRMED_AFTER = 1 / 10;

/** The time of a hold as its process counts it: when a renewal is due, when it is late, and what was asked for beyond. */
export abstract class RunningLease {
  readonly clock: Clock;
  readonly options: CheckedOptions;
  /** When the lease is to be renewed. */
  renewAtMs = Infinity;
  /** When it is late for that, and those are warned that want to know. */
  lateAtMs = Infinity;
  #lease!: Lease;
  /** Until its first renewal, what was offered has a lease that is shorter than was asked for. */
  #isOffer: boolean;
  #extensions: readonly Extension[] = NONE;
  /** Those that are warned when it is late, each in the async context in which it said so. */
  #warned: readonly ((leftMs: number) => void)[] = NONE;
  #isForgotten = false;

  constructor(clock: Clock, options: CheckedOptions, lease: Lease) {
    this.clock = clock;
    this.options = options;
    this.#isOffer = lease.forMs < options.leaseMs;
    this.#begin(lease);
  }

  abstract readonly identifier: string;
  /** What every message about the hold says. */
  abstract readonly event: HoldEvent;
  /** Whether the hold is surely still ours. */
  abstract readonly held: boolean;
  /** Whether the hold was released or lost. */
  abstract readonly isOver: boolean;

  /** How much of the lease is left. */
  leftMs(now: Moment = momentOf(this.clock)): number {
    return this.#lease.forMs - spanMs(this.#lease.from, now);
  }

  /** By how much a renewal is late. */
  get lateMs(): number {
    return Math.max(0, this.clock.monotonicMs() - this.renewAtMs);
  }

  /** The store has confirmed a lease. */
  #begin(lease: Lease): void {
    this.#lease = lease;
    const { from: { monotonic }, forMs } = lease;
    this.lateAtMs = monotonic + forMs * LATE;
    if (this.#extensions.length > 0) {
      this.#extensions = this.#extensions.filter(({ untilMs, resolve }) => {
        if (untilMs > monotonic + forMs) return true;
        resolve();
        return false;
      });
    }
    this.#planRenewal();
  }

  /** Whether it is renewed by itself. */
  get #renews(): boolean {
    return (this.options.renew || this.#isOffer) && !this.#isForgotten;
  }

  #planRenewal(): void {
    const { from: { monotonic }, forMs } = this.#lease;
    // What was asked for after the write was planned is to be written next.
    const part = this.#isOffer ? CONFIRMED_AFTER : 1 / 3;
    this.renewAtMs = this.isAsked ? monotonic : this.#renews ? monotonic + forMs * part : Infinity;
  }

  /**
   * How long its lease is to be if it is written at `atMs`: as long as was asked for, and no renewal takes back what is
   * left. For a commit whose answer is lost may have been applied, and the hold counts on what it knows.
   */
  leaseMsAt(atMs: number): number {
    const { from: { monotonic }, forMs } = this.#lease;
    let untilMs = monotonic + forMs;
    if (this.#renews) untilMs = Math.max(untilMs, atMs + this.options.leaseMs);
    for (const asked of this.#extensions) untilMs = Math.max(untilMs, asked.untilMs);
    return Math.min(Math.max(Math.ceil(untilMs - atMs), 1), MAX_MS);
  }

  /** A renewal has been written. */
  renewed(lease: Lease): void {
    this.#isOffer = false;
    this.#begin(lease);
  }

  /** No caller can release it any more: it is left to expire. */
  forget(): void {
    this.#isForgotten = true;
    this.renewAtMs = Infinity;
  }

  /** Whether it was asked to last longer, and the store has not confirmed that yet. */
  get isAsked(): boolean {
    return this.#extensions.length > 0;
  }

  /** Asks for a renewal now, after which it lasts until `untilMs` at least. */
  extendTo(untilMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#extensions = [...this.#extensions, { untilMs, resolve, reject }];
      this.renewAtMs = Math.min(this.renewAtMs, this.clock.monotonicMs());
    });
  }

  /** A renewal did not reach the store; it is tried again as long as the lease lasts. */
  onNotRenewed(cause: unknown): void {
    const error = backendError(this.identifier, "renew", cause);
    publishBackendError(this.identifier, error);
    // Nothing is lost yet. But callers that have asked for a renewal hear at once of what waiting does not cure.
    if (error.transient || !this.isAsked) return;
    this.refuseExtensions(error);
    this.#planRenewal();
  }

  /** It will not last for as long as was asked for. */
  refuseExtensions(error: unknown): void {
    const refused = this.#extensions;
    this.#extensions = NONE;
    for (const { reject } of refused) reject(error);
  }

  /** Calls `warn` with what is left of the lease, in milliseconds, whenever a renewal is late. */
  onLate(warn: (leftMs: number) => void): void {
    const inContext = AsyncLocalStorage.snapshot();
    const warnInContext = (leftMs: number) => inContext(warn, leftMs);
    this.#warned = [...this.#warned, warnInContext];
    const isLate = this.held && this.leftMs() <= (1 - LATE) * this.#lease.forMs;
    if (isLate && this.lateAtMs === Infinity) this.#warn(warnInContext);
  }

  /** Sees whether its renewal is late. */
  checkLate(now: number): void {
    if (now < this.lateAtMs || this.isOver) return;
    this.lateAtMs = Infinity;
    publish("holdfast:late", () => ({ ...this.event, leftMs: this.#leftForNow }));
    for (const warn of this.#warned) this.#warn(warn);
  }

  get #leftForNow(): number {
    return Math.max(0, Math.round(this.leftMs()));
  }

  /** Not within what the lock does: what a listener throws is the program's, as with every event. */
  #warn(warn: (leftMs: number) => void): void {
    const leftMs = this.#leftForNow;
    queueMicrotask(() => warn(leftMs));
  }
}
