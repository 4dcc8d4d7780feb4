import { onAbort } from "./abort.ts";
import { Bell } from "./bell.ts";
import type { Timer } from "./clock.ts";
import { backendError, LockAcquisitionError, LockBackendError } from "./errors.ts";
import { type LockEvent, type LockEvents, publish, publishBackendError } from "./events.ts";
import type { Hold } from "./hold.ts";
import type { LocalQueue } from "./local_queue.ts";
import type { CheckedOptions } from "./options.ts";
import { ANSWER_MS, RETRY } from "./peer.ts";
import type { Want } from "./record/rules.ts";
import { Backoff } from "./retry.ts";

/** How long a store that is silent so far may take, however short the caller wants to wait. */
const FIRST_ANSWER_MS = 1000;
/** The same for one who does not wait at all, and so has set no limit: a first connection takes its time. */
const TRY_MS = 5000;
/** How often one whose time is up looks whether a store that was silent has answered meanwhile. */
const OVERDUE_LOOK_MS = 10;

let acquisitions = 0;

/** Is told the outcome: the hold; or without one why, and whether that is only that the lock is taken. */
export type Done = (hold: Hold | undefined, error?: unknown, taken?: boolean) => void;

/** One acquisition, from the call until it is granted, refused, failed or cancelled: exactly one of these. */
export class Acquisition {
  readonly identifier: string;
  readonly options: CheckedOptions;
  /** Names it, and the hold that comes of it, to those who listen. */
  readonly id: number = ++acquisitions;
  /** Fresh per acquisition, the same through all its retries: how a lost answer is settled. */
  readonly token: string;
  /** Whether the store may name it as the holder, now or when a commit without answer lands. */
  mayHold = false;
  readonly #queue: LocalQueue;
  readonly #done: Done;
  readonly #startedMs: number;
  #state: "open" | "granted" | "over" = "open";
  readonly #stopListening: (() => void) | undefined;
  /** When the store was first asked what it has not answered yet. */
  #unansweredSince: number | undefined;
  #asking = false;
  /** Whether a commit of its own may have put this process in line. */
  #stood = false;
  /** Of the tries that have failed since the store did what it was asked. */
  #backoff: Backoff | undefined;
  #timer: Timer | undefined;
  #bell: Bell | undefined;

  constructor(
    queue: LocalQueue,
    identifier: string,
    options: CheckedOptions,
    done: Done,
  ) {
    this.#queue = queue;
    this.token = `${queue.peer.secret}:${this.id}`;
    this.identifier = identifier;
    this.options = options;
    this.#done = done;
    this.#startedMs = queue.peer.clock.monotonicMs();
    publish("holdfast:wait-start", () => this.event);
    const { signal } = options;
    this.#stopListening = signal && onAbort(signal, () => this.#bail("cancelled", () => signal.reason));
    if (!options.mayWait) this.#limit(Math.min(TRY_MS, options.leaseMs));
    else if (options.waitForMs !== undefined) this.#limit(options.waitForMs);
  }

  /** Whether its outcome is out. */
  get settled(): boolean {
    return this.#state !== "open";
  }

  /** Whether its outcome is the lock. */
  get granted(): boolean {
    return this.#state === "granted";
  }

  /** What every message about it says. */
  get event(): LockEvent {
    const { id, identifier, options: { kind, label } } = this;
    return { id, identifier, kind, label };
  }

  /** What it asks of the record; `ahead` others in this process go before it. */
  want(ahead = 0): Want {
    const { leaseMs, label, mayWait, stealAfterMs: own } = this.options;
    // The store waiter also evicts for those who stand behind it.
    const stealAfterMs = mayWait ? this.#queue.stealAfterMs : own;
    const { seatId, unsure } = this.#queue.peer;
    return { token: this.token, seat: seatId, leaseMs, label, stealAfterMs, mayWait, ahead, unsure };
  }

  /** The lock is ours. */
  grant(hold: Hold): void {
    this.#settle("granted");
    publish("holdfast:acquired", () => ({ ...hold.event, waitedMs: this.#waitedMs }));
    this.#done(hold);
  }

  /** The lock is taken, and the caller does not wait (any longer). */
  refuse(): void {
    const holders = this.#queue.holders();
    this.#bail("taken", () => new LockAcquisitionError(this.identifier, Math.round(this.#waitedMs), holders));
  }

  /** The store failed in a way that waiting does not cure. */
  fail(cause: unknown): void {
    this.#bail("failed", () => backendError(this.identifier, "acquire", cause));
  }

  /** This process takes its place in line for it. */
  stand(): void {
    this.#stood = true;
    this.#queue.peer.seated.set(this.#queue.key, Symbol());
  }

  /** The store is asked: until `heard` or `tolerate`, it owes an answer. */
  asks(now = this.#now): void {
    this.#unansweredSince ??= now;
    this.#asking = true;
    this.#queue.asking++;
  }

  /** The store has answered. */
  heard(now = this.#now): void {
    this.#queue.answeredMs = now;
    this.#unheard();
  }

  /** The store has done what it was asked, or shown that there is nothing to ask: failures before are over. */
  answered(): void {
    this.#unansweredSince = undefined;
    this.#backoff = undefined;
    this.#queue.failure = undefined;
  }

  /** Waits a little after a failure that may pass; one that does not, or that lasts too long, is the outcome. */
  async tolerate(error: unknown): Promise<void> {
    this.#unheard();
    // Who failed on the spot must not make the next one fail within this call, and so on.
    await undefined;
    if (!(error instanceof LockBackendError && error.transient)) return this.fail(error);
    this.#queue.failure = error;
    this.#unansweredSince ??= this.#now;
    const { leaseMs, mayWait } = this.options;
    const patienceMs = mayWait ? Math.max(leaseMs, 3 * ANSWER_MS) : FIRST_ANSWER_MS;
    if (this.#now - this.#unansweredSince >= patienceMs) return this.fail(error);
    this.#backoff ??= new Backoff(RETRY);
    await this.sleep(Math.min(this.#backoff.pauseMs(), patienceMs));
  }

  /** Ends `sleep`: there may be something new to decide on. */
  wake(): void {
    (this.#bell ??= new Bell()).ring();
  }

  /** Until `wake`, but not for longer than `ms`. A `wake` since the last sleep ends it at once. */
  sleep(ms: number): Promise<void> {
    return (this.#bell ??= new Bell()).sleep(this.#queue.peer.clock, ms);
  }

  #unheard(): void {
    if (this.#asking) this.#queue.asking--;
    this.#asking = false;
  }

  get #now(): number {
    return this.#queue.peer.clock.monotonicMs();
  }

  get #waitedMs(): number {
    return this.#now - this.#startedMs;
  }

  #bail(outcome: LockEvents["holdfast:bailed"]["outcome"], reason: () => unknown): void {
    if (this.settled) return;
    const error = made(reason);
    this.#settle("over");
    publish("holdfast:bailed", () => ({ ...this.event, waitedMs: this.#waitedMs, outcome, error }));
    this.#done(undefined, error, outcome === "taken");
  }

  #limit(ms: number): void {
    this.#timer = this.#queue.peer.clock.after(ms - this.#waitedMs, () => {
      const { failure, asking, answeredMs } = this.#queue;
      const silent = asking > 0 && answeredMs < this.#startedMs;
      if (failure !== undefined) this.fail(failure);
      else if (!silent) this.refuse();
      else if (this.#waitedMs < FIRST_ANSWER_MS) this.#limit(this.#waitedMs + OVERDUE_LOOK_MS);
      else this.fail(this.#queue.peer.silence(this.#waitedMs));
    });
  }

  #settle(state: "granted" | "over"): void {
    this.#state = state;
    this.#queue.peer.clock.clear(this.#timer);
    this.#stopListening?.();
    this.#bell?.ring();
    this.#queue.leave(this);
  }

  /** Takes out of the record what it may have left there without having got the lock. */
  async leaveNothing(): Promise<void> {
    const { peer, key } = this.#queue;
    const { identifier, mayHold, token, options: { leaseMs } } = this;
    // Others here may have cleared up before that commit landed.
    if (!mayHold && !this.#stood && !peer.seated.has(key)) return;
    // Whoever still waits here, and leaves later, must know of that place to give it back.
    if (this.#stood && !peer.seated.has(key)) peer.seated.set(key, Symbol());
    await peer.tidy(key, mayHold ? token : undefined, leaseMs).catch((error) =>
      publishBackendError(identifier, backendError(identifier, "stop waiting for", error))
    );
  }
}

/**
 * The error to report, made before an outcome is settled. The caller waits for the report: whatever goes wrong while it
 * is made, such as a signal whose reason cannot be read, is reported instead.
 */
function made(error: () => unknown): unknown {
  try {
    return error();
  } catch (failure) {
    return failure;
  }
}
