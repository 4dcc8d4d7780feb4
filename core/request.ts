import { onAbort } from "./abort.ts";
import { shared } from "./brand.ts";
import { type AnsweredLock, Deadline, FIRST_ANSWER_MS, TRY_TIMEOUT_MS, type Waiting } from "./deadline.ts";
import {
  backendError,
  type HolderInfo,
  isTransient,
  LockAcquisitionError,
  LockBackendError,
} from "./errors.ts";
import { type LockEvent, type LockEvents, publish } from "./events.ts";
import type { Hold } from "./hold.ts";
import type { CheckedOptions, LockMode } from "./options.ts";
import type { Claim } from "./record/members.ts";
import type { Mode } from "./record/modes.ts";

/** For how long at least a store may fail before those that wait for a lock give up. */
const OUTAGE_MS = 3000;
/** How many grants that came after their lease had ended are taken for bad luck. */
const LATE_GRANTS = 5;

const acquisitions: { count: number } = shared("acquisitions/1", () => ({ count: 0 }));

/** Receives the outcome: the hold; or without one the reason, and whether that is only that the lock is taken. */
export type Done = (hold: Hold | undefined, error?: unknown, taken?: boolean) => void;

/** What a request needs to know of the lock that it asks for. */
export interface RequestedLock extends AnsweredLock {
  /** The holders of the lock, as far as is known here; of several that are asked for, which is not to be had. */
  taken(): { readonly identifier?: string; readonly holders: readonly HolderInfo[] };
  /** The request has its outcome. */
  onSettled(request: Request): void;
}

/** One call for the lock, from the call until it is granted, taken, failed or cancelled: exactly one of these. */
export class Request implements Claim, Waiting {
  /** Names it, and the hold that comes of it, to those that listen. */
  readonly id: number = ++acquisitions.count;
  /** Fresh per request, the same through all its tries: how a lost answer is settled. */
  readonly token: string;
  readonly identifier: string;
  readonly options: CheckedOptions;
  readonly entry: string | undefined;
  /** The token of its separate entry in the queue, or of the last that it has had. */
  entryToken: string | undefined;
  readonly turnMs: number | undefined;
  readonly startedMs: number;
  /** How many of its grants came after their lease had ended. */
  #lateGrants = 0;
  readonly #lock: RequestedLock;
  /** Absent once it has been called: through its promise it would keep the lock that came of it reachable. */
  #done: Done | undefined;
  #state: "waiting" | "granted" | "over" = "waiting";
  /** Since when the store has not done what it was asked for it. */
  #troubledMs: number | undefined;
  #stopListening: (() => void) | undefined;
  #deadline: Deadline | undefined;

  constructor(
    lock: RequestedLock,
    { identifier, options, token, entry, startedMs, done, turnMs }: {
      readonly identifier: string;
      readonly options: CheckedOptions;
      readonly token: string;
      readonly entry?: string | undefined;
      readonly startedMs: number;
      readonly done: Done;
      readonly turnMs?: number;
    },
  ) {
    this.#lock = lock;
    this.#done = done;
    this.identifier = identifier;
    this.options = options;
    this.token = token;
    this.entry = entry;
    this.turnMs = turnMs;
    this.startedMs = startedMs;
  }

  /** Begins to wait: from now on it may be cancelled, and its time runs. */
  start(): void {
    publish("holdfast:wait-start", () => this.event);
    const { mayWait, waitForMs, leaseMs, signal } = this.options;
    if (signal !== undefined) {
      const cancel = () => this.#end("cancelled", () => signal.reason);
      this.#stopListening = onAbort(signal, cancel);
      // A listener of the start may have aborted it.
      if (signal.aborted) return cancel();
    }
    // What takes up a lock waits for nothing but the store, see `#patienceMs`.
    if (this.restores !== undefined) return;
    const limitMs = mayWait ? waitForMs : Math.min(TRY_TIMEOUT_MS, leaseMs);
    if (limitMs !== undefined) this.#deadline = new Deadline(this.#lock, this, limitMs);
  }

  get mode(): LockMode {
    return this.options.mode;
  }

  get limit(): number {
    return this.options.limit;
  }

  get permits(): number | undefined {
    return this.options.permits;
  }

  get leaseMs(): number {
    return this.options.leaseMs;
  }

  get label(): string | undefined {
    return this.options.label;
  }

  get stealAfterMs(): number | undefined {
    return this.options.stealAfterMs;
  }

  get mayWait(): boolean {
    return this.options.mayWait;
  }

  get restores(): string | undefined {
    return this.options.restores;
  }

  get isNested(): boolean {
    return this.options.deadlock !== undefined;
  }

  get goesFirst(): boolean {
    return this.options.goesFirst === true;
  }

  /** Whether it waits until it is granted, and does not give up before. */
  get isPatient(): boolean {
    const { mayWait, waitForMs, signal, stealAfterMs } = this.options;
    return mayWait && waitForMs === undefined && signal === undefined && stealAfterMs === undefined;
  }

  /** Whether it has no outcome yet. */
  get isWaiting(): boolean {
    return this.#state === "waiting";
  }

  get isGranted(): boolean {
    return this.#state === "granted";
  }

  /** What every message about it says. */
  get event(): LockEvent {
    const { id, identifier, options: { kind, label, mode, limit } } = this;
    return { id, identifier, kind, label, mode, limit };
  }

  /** It has its own place in the queue, or there is none for it. */
  onPlaced(): void {
    this.options.ownEntry?.onPlaced();
  }

  /** The lock is ours. */
  grant(hold: Hold): void {
    this.#settle("granted");
    publish("holdfast:acquired", () => ({ ...hold.event, waitedMs: this.waitedMs }));
    this.#tell(hold);
  }

  /** The lock is taken, and the caller does not wait (any longer). */
  refuse(): void {
    this.#end("taken", () => {
      const { identifier = this.identifier, holders } = this.#lock.taken();
      return new LockAcquisitionError(identifier, Math.round(this.waitedMs), holders);
    });
  }

  /** It is queued behind these. If one of them waits for a hold around the code that has asked, neither would ever be. */
  onAhead(key: string, ahead: readonly Mode[]): void {
    const error = this.options.deadlock?.(key, ahead);
    if (error !== undefined) this.#end("failed", () => error);
  }

  /** No caller is to wait any more. */
  cancel(reason: unknown): void {
    this.#end("cancelled", () => reason);
  }

  /** Its lease was over before its grant was answered. It is looked at again, but not for ever. */
  onLateGrant(): void {
    if (++this.#lateGrants < LATE_GRANTS) return;
    this.fail(
      new LockBackendError(`its lease of ${this.leaseMs} ms is over before the store's answers come`),
    );
  }

  /** The store failed in a way that waiting does not cure. */
  fail(cause: unknown): void {
    this.#end("failed", () => backendError(this.identifier, "acquire", cause));
  }

  /** The store has done what it was asked, or shown that there is nothing to ask: failures before are over. */
  onAnswer(): void {
    this.#troubledMs = undefined;
  }

  /** The store has failed, which was asked at `sentMs`. A failure that does not pass, or lasts too long, is the outcome. */
  retryOrFail(error: unknown, sentMs: number): void {
    if (!isTransient(error)) return this.fail(error);
    this.#troubledMs ??= Math.max(sentMs, this.startedMs);
    if (this.#lock.clock.monotonicMs() - this.#troubledMs >= this.#patienceMs) this.fail(error);
  }

  /** For how long the store may fail. */
  get #patienceMs(): number {
    // What takes up a lock may have done so, and to give up would then give back what no process can take up again.
    const isPatient = this.mayWait || this.restores !== undefined;
    return isPatient ? Math.max(this.leaseMs, OUTAGE_MS) : FIRST_ANSWER_MS;
  }

  get waitedMs(): number {
    return this.#lock.clock.monotonicMs() - this.startedMs;
  }

  #end(outcome: LockEvents["holdfast:bailed"]["outcome"], reason: () => unknown): void {
    if (!this.isWaiting) return;
    const error = made(reason);
    this.#settle("over");
    publish("holdfast:bailed", () => ({ ...this.event, waitedMs: this.waitedMs, outcome, error }));
    this.#tell(undefined, error, outcome === "taken");
  }

  #tell(...outcome: Parameters<Done>): void {
    const done = this.#done!;
    this.#done = undefined;
    done(...outcome);
  }

  #settle(state: "granted" | "over"): void {
    this.#state = state;
    this.#deadline?.clear();
    this.#stopListening?.();
    this.#lock.onSettled(this);
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
