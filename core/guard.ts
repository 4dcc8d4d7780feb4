import type { Entry, LockBackend } from "./backend.ts";
import { pause } from "./clock.ts";
import { backendError, LockBackendError } from "./errors.ts";
import type { Hold, Proof } from "./hold.ts";
import { names } from "./members.ts";
import { lockIn } from "./record/codec.ts";
import { Backoff, type BackoffOptions } from "./retry.ts";
import { refuse } from "./validate.ts";

/** For how long a guarded commit is tried again that changes of the lock's record have refused. */
const TRIED_MS = 30_000;
/** The record has changed just now, and does so rarely: the next try can be soon. */
const TRIES: BackoffOptions = { leastMs: 1, mostMs: 100, jitter: true };

/**
 * Under this name a held lock gives its guard, also to backends of another copy of the library. The number goes up
 * when a member of {@linkcode Guard} changes what it means.
 */
export const GUARD: unique symbol = Symbol.for("holdfast.guard/1");

/** What a backend's `commitIfHeld` needs of a held lock: nothing else of a hold is its business. */
export interface Guard<Backend extends LockBackend> {
  readonly backend: Backend;
  readonly identifier: string;
  /** The keys of the locks' records. */
  readonly keys: readonly string[];
  /** The secret with which the records name the hold. */
  readonly token: string;
  readonly leaseMs: number;
  /**
   * Reads the records that prove the hold: as long as all their versions stand, the lock is held. Rejects with
   * LockLostError, or with LockBackendError if the store does not answer.
   */
  prove(): Promise<readonly Proof[]>;
  /** Whether this record of one of the locks names the hold: a transaction that has read all of them may write. */
  isProof(entry: Entry): boolean;
  /** Begins to count how long one commit is tried. */
  tries(backoff?: BackoffOptions): Tries;
  /** The store's answer; a failure with unknown outcome if that takes longer than a lease. */
  bounded<Answer>(answer: Promise<Answer>): Promise<Answer>;
  /** The store's failure, under the name of the lock. */
  failure(cause: unknown): LockBackendError;
}

/** The tries of one guarded commit. */
export interface Tries {
  /**
   * Resolves when it may be tried again: it was refused because the lock's record has changed, or because of `cause`.
   * Rejects with LockBackendError when it has been tried for half a minute.
   */
  again(cause?: LockBackendError): Promise<void>;
}

/** How a backend is recognised as one's own, and what messages call it. */
export interface GuardedBackend<Backend extends LockBackend> {
  readonly Backend: abstract new (...args: never[]) => Backend;
  /** As in "a lock on {name} backend". */
  readonly name: string;
}

/** The guard of `held`. Throws TypeError for what is no held lock, or one on another backend. */
export function guardOf<Backend extends LockBackend>(
  held: object,
  { Backend, name }: GuardedBackend<Backend>,
): Guard<Backend> {
  const guard = (held as { [GUARD]?(): Guard<LockBackend> | undefined } | null | undefined)?.[GUARD]?.();
  if (guard === undefined) refuse("Cannot commit: 'held' must be a held Lock", held);
  if (!(guard.backend instanceof Backend)) {
    throw new TypeError(`Cannot commit: 'held' must be a lock on ${name} backend, it is on another one`);
  }
  return guard as Guard<Backend>;
}

/** What a held lock says of itself. */
export function guardFor(hold: Hold): Guard<LockBackend> {
  const { identifier, token, options: { leaseMs }, lock: { keys, store } } = hold;
  return {
    backend: store.backend,
    identifier,
    keys,
    token,
    leaseMs,
    prove: () => proofsOf(hold),
    isProof: (entry) => names(lockIn(entry).record, hold),
    tries: (backoff) => triesOf(hold, backoff),
    bounded: (answer) => store.bounded(answer, leaseMs),
    failure: (cause) => backendError(identifier, "commit under", cause),
  };
}

/** The records that prove a hold. */
export async function proofsOf(hold: Hold): Promise<readonly Proof[]> {
  const { identifier } = hold;
  const proofs = await hold.confirm().catch((error) => {
    throw backendError(identifier, "commit under", error);
  });
  if (proofs !== undefined && hold.held) return proofs;
  throw hold.over;
}

function triesOf({ identifier, lock: { clock } }: Hold, options = TRIES): Tries {
  const startedMs = clock.monotonicMs();
  const backoff = new Backoff(options);
  return {
    async again(cause) {
      if (clock.monotonicMs() - startedMs >= TRIED_MS) {
        const changed = () =>
          new LockBackendError(
            `nothing was written: the lock's record has changed during every try, for ${TRIED_MS} ms`,
            { transient: true },
          );
        throw backendError(identifier, "commit under", cause ?? changed());
      }
      await pause(clock, backoff.pauseMs());
    },
  };
}
