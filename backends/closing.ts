/**
 * How a backend is closed: what watches fails, waiters that have given up leave the queue while the client is still
 * there, and only what the backend itself has opened is closed.
 */

import type { LockBackend } from "../core/backend.ts";
import { LockBackendError } from "../core/errors.ts";
import { participantOf } from "../core/participant.ts";

/** How long waiters that have given up may take to leave the queue. */
const LEAVE_MS = 1000;

/** What is wrong with a call that comes after the closing: `store` as in "the Deno KV backend". */
export function disposedFailure(store: string): LockBackendError {
  return new LockBackendError(`the ${store} backend is disposed of`);
}

/** Until waiters that have given up have left the queue, but not for long. */
export function whenLeft(backend: LockBackend): Promise<void> {
  return participantOf(backend).whenIdle(LEAVE_MS);
}

/** Whether a backend is closed, and the watches that end with it. */
export class Closing {
  readonly #store: string;
  readonly #watches = new Set<() => void>();
  #failure: LockBackendError | undefined;

  constructor(store: string) {
    this.#store = store;
  }

  /** What ends every watch; `undefined` as long as the backend is open. */
  get failure(): LockBackendError | undefined {
    return this.#failure;
  }

  /** Begins a watch, which is notified when there is a failure. Answers what ends it. Throws if the backend is closed. */
  enter(notify: () => void): () => void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#watches.add(notify);
    return () => void this.#watches.delete(notify);
  }

  /** All watches fail. */
  close(): void {
    this.#failure ??= disposedFailure(this.#store);
    for (const notify of [...this.#watches]) notify();
  }
}
