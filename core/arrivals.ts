/** Calls that cannot ask for their lock yet: its backend is being opened, or its key made. */

import { onAbort, reasonOf } from "./abort.ts";
import type { LockBackend } from "./backend.ts";
import { backendError, LockBackendError } from "./errors.ts";

/** Those that have not come to ask their backend yet. */
const arriving = new Set<{ cancel(reason: unknown): void }>();

/**
 * Calls `ask` once the backend and the locks are known, unless it is cancelled before; a failure goes to `reject`.
 */
export function onArrival<Locks>(
  { identifier, backend, locks, signal }: {
    readonly identifier: string;
    readonly backend: LockBackend | Promise<LockBackend>;
    readonly locks: Locks | Promise<Locks>;
    /** Cancels it: a backend may take long to open, or for ever. */
    readonly signal: AbortSignal | undefined;
  },
  ask: (backend: LockBackend, locks: Locks) => void,
  reject: (reason: unknown) => void,
): void {
  const arrival = { cancel: reject };
  arriving.add(arrival);
  const forget = signal && onAbort(signal, () => {
    arriving.delete(arrival);
    reject(reasonOf(signal));
  });
  Promise.all([opened(backend, identifier), locks]).then(([backend, locks]) => {
    // Cancelled meanwhile, it asks for nothing any more.
    if (arriving.has(arrival)) ask(backend, locks);
  }).catch(reject).finally(() => {
    forget?.();
    arriving.delete(arrival);
  });
}

/** Cancels those that have not come to ask their backend yet. */
export function cancelArrivals(reason: unknown): void {
  for (const arrival of arriving) arrival.cancel(reason);
  arriving.clear();
}

async function opened(backend: LockBackend | Promise<LockBackend>, identifier: string): Promise<LockBackend> {
  try {
    return await backend;
  } catch (error) {
    throw error instanceof LockBackendError ? backendError(identifier, "acquire", error) : error;
  }
}
