import type { Clock, Timer } from "./clock.ts";
import type { LockBackendError } from "./errors.ts";

/** How long a store that is silent so far may take, however short the caller wants to wait. */
export const FIRST_ANSWER_MS = 1000;
/** The same for a caller that does not wait at all, and so has set no limit: a first connection takes its time. */
export const TRY_TIMEOUT_MS = 5000;
/** How often a caller whose time is up looks whether a store that was silent has answered meanwhile. */
const OVERDUE_LOOK_MS = 10;

/** What a deadline needs to know of the lock. */
export interface AnsweredLock {
  readonly clock: Clock;
  /** How the store has failed since it last answered, if it has. */
  readonly failure: unknown;
  /** For how long the store has owed the answer that says whether the lock is taken, if it has not been given since `sinceMs`. */
  silentMs(sinceMs: number): number | undefined;
  /** The failure of a store that did not answer. */
  silence(limitMs: number): LockBackendError;
}

/** A caller that does not wait for ever. */
export interface Waiting {
  readonly startedMs: number;
  /** Others have the lock, and its time is up. */
  refuse(): void;
  /** Its time is up, and the store has failed. */
  fail(cause: unknown): void;
}

/** When the time of a caller is up. A store that owes the answer is not a taken lock. */
export class Deadline {
  readonly #lock: AnsweredLock;
  readonly #caller: Waiting;
  #timer: Timer | undefined;

  /** In `ms` from when the caller has started. */
  constructor(lock: AnsweredLock, caller: Waiting, ms: number) {
    this.#lock = lock;
    this.#caller = caller;
    this.#set(ms);
  }

  /** It need not be kept any more. */
  clear(): void {
    this.#lock.clock.clear(this.#timer);
  }

  #set(ms: number): void {
    const { clock } = this.#lock;
    const { startedMs } = this.#caller;
    const waitedMs = () => clock.monotonicMs() - startedMs;
    this.#timer = clock.after(ms - waitedMs(), () => {
      const { failure } = this.#lock;
      const silentMs = this.#lock.silentMs(startedMs);
      if (failure !== undefined) this.#caller.fail(failure);
      else if (silentMs === undefined) this.#caller.refuse();
      else if (silentMs < FIRST_ANSWER_MS) this.#set(waitedMs() + OVERDUE_LOOK_MS);
      else this.#caller.fail(this.#lock.silence(silentMs));
    });
  }
}
