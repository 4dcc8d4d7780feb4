import type { LockBackend } from "./backend.ts";
import { backendError, type LockBackendError, LockLostError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import { holdOf, type Lock } from "./lock.ts";

/** What a backend's `commitIfHeld` needs of a held lock: nothing else of a hold is its business. */
export interface Guard<Backend extends LockBackend> {
  readonly backend: Backend;
  readonly identifier: string;
  /** The key of the lock's record. */
  readonly key: string;
  /** The secret by which the record names the hold. */
  readonly token: string;
  readonly leaseMs: number;
  /**
   * Reads the record that proves the hold: as long as its version stands, the lock is held. Rejects with
   * LockLostError, or with LockBackendError if the store does not answer.
   */
  prove(): Promise<Proof>;
  /** The store's answer; a failure with unknown outcome if that takes longer than a lease. */
  bounded<Answer>(answer: Promise<Answer>): Promise<Answer>;
  /** The store's failure, under the name of the lock. */
  failure(cause: unknown): LockBackendError;
}

/** The record that proves a hold: as long as it has this version, the lock is held. */
export interface Proof {
  readonly key: string;
  readonly version: string;
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
  const { identifier, token, options: { leaseMs }, lock: { key, store } } = hold;
  const { backend } = store;
  if (!(backend instanceof Backend)) {
    throw new TypeError(`Cannot commit: 'held' must be a lock on ${name} backend, it is on another one`);
  }
  return {
    backend,
    identifier,
    key,
    token,
    leaseMs,
    prove: () => proofOf(hold),
    bounded: (answer) => store.bounded(answer, leaseMs),
    failure: (cause) => backendError(identifier, "commit under", cause),
  };
}

/** The record that proves a hold. */
export async function proofOf(hold: Hold): Promise<Proof> {
  const { identifier, fencingToken, lock: { key } } = hold;
  const version = await hold.confirm().catch((error) => {
    throw backendError(identifier, "commit under", error);
  });
  if (version !== undefined && hold.held) return { key, version };
  throw hold.lost ?? new LockLostError(identifier, "released", fencingToken);
}
