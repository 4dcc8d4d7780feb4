import type { LockBackend } from "./backend.ts";
import { backendError, type LockBackendError, LockLostError } from "./errors.ts";
import type { Hold, Proof } from "./hold.ts";
import { holdOf, type Lock } from "./lock.ts";

/** What a backend's `commitIfHeld` needs of a held lock: nothing else of a hold is its business. */
export interface Guard<Backend extends LockBackend> {
  readonly backend: Backend;
  readonly identifier: string;
  /** The keys of the locks' records. */
  readonly keys: readonly string[];
  readonly leaseMs: number;
  /**
   * Reads the records that prove the hold: as long as all their versions stand, the lock is held. Rejects with
   * LockLostError, or with LockBackendError if the store does not answer.
   */
  prove(): Promise<readonly Proof[]>;
  /** The store's answer; a failure with unknown outcome if that takes longer than a lease. */
  bounded<Answer>(answer: Promise<Answer>): Promise<Answer>;
  /** The store's failure, under the name of the lock. */
  failure(cause: unknown): LockBackendError;
}

/** How a backend is recognised as one's own, and what messages call it. */
export interface GuardedBackend<Backend extends LockBackend> {
  readonly Backend: abstract new (...args: never[]) => Backend;
  /** As in "a lock on {name} backend". */
  readonly name: string;
}

/** The guard of `held`. Throws TypeError for what is no held lock, or one on another backend. */
export function guardOf<Backend extends LockBackend>(
  held: Lock,
  { Backend, name }: GuardedBackend<Backend>,
): Guard<Backend> {
  const hold = holdOf(held);
  const { identifier, options: { leaseMs }, lock: { keys, store } } = hold;
  const { backend } = store;
  if (!(backend instanceof Backend)) {
    throw new TypeError(`Cannot commit: 'held' must be a lock on ${name} backend, it is on another one`);
  }
  return {
    backend,
    identifier,
    keys,
    leaseMs,
    prove: () => proofsOf(hold),
    bounded: (answer) => store.bounded(answer, leaseMs),
    failure: (cause) => backendError(identifier, "commit under", cause),
  };
}

/** The records that prove a hold. */
export async function proofsOf(hold: Hold): Promise<readonly Proof[]> {
  const { identifier, fencingToken } = hold;
  const proofs = await hold.confirm().catch((error) => {
    throw backendError(identifier, "commit under", error);
  });
  if (proofs !== undefined && hold.held) return proofs;
  throw hold.lost ?? new LockLostError(identifier, "released", fencingToken);
}
