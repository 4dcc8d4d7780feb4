import { onAbort } from "./abort.ts";
import type { Clock, Timer } from "./clock.ts";
import { backendError, type HolderInfo, isTransient, LockAcquisitionError } from "./errors.ts";
import type { ModeChange as Wanted } from "./record/members.ts";
import type { Mode } from "./record/modes.ts";

/** For how long at least a store may fail before an upgrade is given up. */
const OUTAGE_MS = 3000;

/** How long an upgrade may take. */
export interface ChangeOptions {
  readonly mayWait: boolean;
  readonly waitForMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** What a change of mode needs to know of its lock. */
export interface ChangedLock {
  readonly clock: Clock;
  /** How the store has failed since it last answered, if it has. */
  readonly failure: unknown;
  /** The holders of the lock in other processes, as far as is known. */
  others(): readonly HolderInfo[];
  /** It has its outcome: what it has put into the record may have to be taken out again. */
  onChangeSettled(change: ModeChange): void;
}

const UPGRADE = { doing: "upgrade" };

/** Why one that shares a lock cannot wait to be the only one while another does. */
export function secondUpgrade(
  lock: ChangedLock,
  { identifier, waitedMs }: { readonly identifier: string; readonly waitedMs: number },
): LockAcquisitionError {
  const because = "another holder is upgrading it, and each would wait for the other to leave";
  return new LockAcquisitionError(identifier, waitedMs, lock.others(), { ...UPGRADE, because });
}

/** Receives the outcome of a change of mode. */
export interface ChangeDone {
  resolve(): void;
  reject(error: unknown): void;
}

/** A hold that is to be held in another way, from the call until that is so or will not be: exactly one outcome. */
export class ModeChange implements Wanted {
  readonly to: Mode["mode"];
  readonly startedMs: number;
  readonly identifier: string;
  readonly leaseMs: number;
  readonly #options: ChangeOptions;
  readonly #lock: ChangedLock;
  readonly #done: ChangeDone;
  #isOpen = true;
  /** Since when the store has not done what it was asked for it. */
  #troubledMs: number | undefined;
  #timer: Timer | undefined;
  #stopListening: (() => void) | undefined;

  constructor(
    lock: ChangedLock,
    { to, identifier, leaseMs, options, done }: {
      readonly to: Mode["mode"];
      readonly identifier: string;
      readonly leaseMs: number;
      readonly options: ChangeOptions;
      readonly done: ChangeDone;
    },
  ) {
    this.#lock = lock;
    this.#done = done;
    this.#options = options;
    this.to = to;
    this.identifier = identifier;
    this.leaseMs = leaseMs;
    this.startedMs = lock.clock.monotonicMs();
    const { signal, waitForMs, mayWait } = options;
    if (signal !== undefined) this.#stopListening = onAbort(signal, () => this.reject(signal.reason));
    if (mayWait && waitForMs !== undefined) {
      this.#timer = lock.clock.after(waitForMs, () => {
        if (lock.failure === undefined) this.refuse();
        else this.fail(lock.failure);
      });
    }
  }

  /** Whether it may wait until the others have left. */
  get mayWait(): boolean {
    return this.#options.mayWait;
  }

  /** It is held so. */
  resolve(): void {
    if (this.#settle()) this.#done.resolve();
  }

  /** It will not be held so. */
  reject(error: unknown): void {
    if (this.#settle()) this.#done.reject(error);
  }

  /** Others hold the lock, too, and the caller does not wait (any longer). */
  refuse(): void {
    const error = new LockAcquisitionError(this.identifier, this.#waitedMs, this.#lock.others(), UPGRADE);
    this.reject(error);
  }

  /** Another holder waits to be the only one, too. */
  refuseAsSecond(): void {
    this.reject(secondUpgrade(this.#lock, { identifier: this.identifier, waitedMs: this.#waitedMs }));
  }

  get #waitedMs(): number {
    return Math.round(this.#lock.clock.monotonicMs() - this.startedMs);
  }

  /** The store has failed in a way that waiting does not cure. */
  fail(cause: unknown): void {
    this.reject(backendError(this.identifier, this.to === "shared" ? "downgrade" : "upgrade", cause));
  }

  /** The store has done what it was asked: failures before are over. */
  onAnswer(): void {
    this.#troubledMs = undefined;
  }

  /** The store has failed, which was asked at `sentMs`. A failure that does not pass, or lasts too long, is the outcome. */
  retryOrFail(error: unknown, sentMs: number): void {
    if (!isTransient(error)) return this.fail(error);
    this.#troubledMs ??= Math.max(sentMs, this.startedMs);
    const patienceMs = this.mayWait ? Math.max(this.leaseMs, OUTAGE_MS) : 0;
    if (this.#lock.clock.monotonicMs() - this.#troubledMs >= patienceMs) this.fail(error);
  }

  #settle(): boolean {
    if (!this.#isOpen) return false;
    this.#isOpen = false;
    this.#lock.clock.clear(this.#timer);
    this.#stopListening?.();
    this.#lock.onChangeSettled(this);
    return true;
  }
}
