/** A lock as a torture run uses it: Holdfast's, or one that is known to be bad. */

import { Lock, LockLostError, type LockOptions } from "../../mod.ts";
import type { OpenStore } from "../processes/stores.ts";

/** A hold. */
export interface TestedHold {
  /** The fencing token: it rises from grant to grant, as text. */
  readonly token: string;
  /** Whether its process believes that it holds the lock. */
  readonly held: boolean;
  /** Whether it was its own until then. */
  release(): Promise<boolean>;
  /** Writes under the lock; `false` if that was refused, because the lock is lost. */
  commit(values: Record<string, string>): Promise<boolean>;
}

/** Takes a lock, or answers `null`. */
export type Acquire = (name: string, options: LockOptions) => Promise<TestedHold | null>;

/** Holdfast, on this store. */
export function holdfast(store: OpenStore): Acquire {
  return async (name, options) => {
    const held = await Lock.acquire(name, { ...options, backend: store.backend });
    return held && tested(held, store);
  };
}

/** A hold of Holdfast's. */
export function tested(held: Lock, store: OpenStore): TestedHold {
  return {
    token: held.fencingToken,
    get held() {
      return held.held;
    },
    release: () => held.release(),
    async commit(values) {
      try {
        await store.commit(held, values);
        return true;
      } catch (error) {
        if (error instanceof LockLostError) return false;
        throw error;
      }
    },
  };
}
