import { backendError, LockLostError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import type { Sight } from "./record/codec.ts";

/**
 * The record that proves that a lock is held: as long as its version stands, it is. For the backends' `commitIfHeld`.
 * Rejects with LockLostError, or LockBackendError if the store does not answer.
 */
export async function proofOf(hold: Hold): Promise<Sight> {
  const { identifier, fencingToken } = hold;
  const sight = await hold.verify().catch((error) => {
    throw backendError(identifier, "commit under", error);
  });
  if (sight !== undefined && hold.held) return sight;
  throw hold.lost ?? new LockLostError(identifier, "released", fencingToken);
}
