/** A store that is open, and how it is closed again. */

import type { LockBackend } from "../core/backend.ts";
import { messageOf } from "../core/errors.ts";
import { UsageError } from "./usage.ts";

/** An open store. */
export interface Opened {
  readonly backend: LockBackend;
  close(): unknown;
}

/**
 * The backend that `make` makes of an open client, and how both are closed. Throws {@linkcode UsageError} if it refuses
 * what the command line says of it, which is the prefix.
 */
export async function made(
  make: () => LockBackend & Partial<AsyncDisposable>,
  closeClient: () => unknown,
): Promise<Opened> {
  try {
    const backend = make();
    const close = async () => {
      await backend[Symbol.asyncDispose]?.();
      await closeClient();
    };
    return { backend, close };
  } catch (error) {
    await closeClient();
    throw new UsageError(messageOf(error));
  }
}
