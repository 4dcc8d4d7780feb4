/**
 * The Google Cloud Datastore backend, for Firestore in Datastore mode: a lock is one entity, acquired by one
 * commit and released by one. It needs `@google-cloud/datastore`, which is loaded only by {@linkcode
 * datastoreClient}; or pass your own client.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function nightly(projectId: string) {
 *   const client = await datastoreClient({ projectId });
 *   const backend = datastoreBackend(client, { projectId });
 *   await lock("nightly-report", { backend }).run((held) => held.signal.throwIfAborted());
 *   await client.close();
 * }
 * ```
 *
 * @module
 */

import type { LockBackend } from "../core/backend.ts";
import { LockBackendError } from "../core/errors.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";
import { refuse } from "../core/validate.ts";
import type { DatastoreApi, DatastoreCommit, DatastoreTransaction } from "./datastore/api.ts";
import { ABORTED, codeOf } from "./datastore/failures.ts";
import { assertClient, storeOptions } from "./datastore/input.ts";
import { DatastoreStore } from "./datastore/store.ts";

export type {
  DatastoreApi,
  DatastoreCommit,
  DatastoreEntity,
  DatastoreKey,
  DatastoreTransaction,
} from "./datastore/api.ts";
export { datastoreClient, type DatastoreClientOptions } from "./datastore/client.ts";

/** A guarded commit that the server aborts competes with others for the entities that it reads. */
const GUARDED_BACKOFF = { leastMs: 20, mostMs: 500, jitter: true };

/** Options of {@linkcode datastoreBackend}. */
export interface DatastoreBackendOptions {
  /** The project that the database belongs to. Required. */
  projectId: string;
  /**
   * The database.
   *
   * @default {undefined} the default one, `""`
   */
  databaseId?: string | undefined;
  /**
   * The namespace of the locks.
   *
   * @default {undefined} the default one, `""`
   */
  namespace?: string | undefined;
  /**
   * The kind of the locks' entities.
   *
   * @default {"HoldfastLock"}
   */
  entityKind?: string | undefined;
  /**
   * How many milliseconds at most a waiter lets pass between two reads of the lock, 25 to 60 000. There is no
   * push: each read is billed, and a released lock is noticed that much later. The pauses begin at 25 ms whenever
   * the lock has changed and grow from there.
   *
   * @default {500}
   */
  pollMs?: number | undefined;
  /**
   * After how many milliseconds without a reply a call counts as failed, 100 to 60 000; Holdfast then reads the
   * record to find out what became of it.
   *
   * @default {5000}
   */
  timeoutMs?: number | undefined;
}

/** What {@linkcode datastoreBackend} makes. */
export interface DatastoreBackend extends LockBackend, AsyncDisposable {
  /**
   * Ends the polling of waiters; never the client that was handed in. Acquisitions that wait for other
   * processes fail, and no later one can wait on this backend; locks that are held stay held. Resolves when the waiters
   * have left the queue, after a second at most: close the client after that.
   */
  close(): Promise<void>;
  /** The same as `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a backend that keeps locks in Google Cloud Datastore (Firestore in Datastore mode). It never closes your
 * client.
 *
 * @param client The client: {@linkcode datastoreClient}, or a `v1.DatastoreClient`.
 * @param options The database, and how often waiters poll.
 * @returns The backend.
 * @throws {TypeError | RangeError} For a value that is not a client, or bad options.
 *
 * @example
 * ```ts
 * import { configure } from "@holdfast/lock";
 * import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function start(projectId: string) {
 *   const client = await datastoreClient({ projectId });
 *   configure({ strong: datastoreBackend(client, { projectId, namespace: "my-app" }) });
 * }
 * ```
 */
export function datastoreBackend(client: DatastoreApi, options: DatastoreBackendOptions): DatastoreBackend {
  assertClient(client);
  return new DatastoreStore(client, storeOptions(options));
}

/**
 * Commits your own entities in one transaction that also reads the lock and finds it held: a holder that has lost
 * its lock, without knowing it yet, writes nothing.
 *
 * `build` receives a fresh transaction, reads in it and adds to it; it may be called again when the server aborts
 * the transaction, so it must have no other effects. While it runs, the server may hold back other writes to the
 * entities that it has read: be quick. The lock is read last, so that it can be renewed meanwhile. A database with
 * optimistic concurrency may abort the transaction because of such a renewal: there, let `build` take less than a
 * third of the lease. The entities must be in the database that keeps the lock, in any namespace.
 *
 * @param held A held lock on a Datastore backend.
 * @param build Reads and adds your entities.
 * @returns Whether they are written; `{ ok: false }` only because of an `insert` or `update` of yours.
 * @throws {LockLostError} If the lock is no longer held; nothing is written.
 * @throws {LockBackendError} If the server failed: only then the outcome is unknown. Also if the server has
 * aborted every try for 30 seconds; then nothing is written.
 * @throws {TypeError} If `held` is not a lock on a Datastore backend.
 * @throws {unknown} What `build` throws; nothing is written.
 *
 * @example
 * ```ts
 * import type { Lock } from "@holdfast/lock";
 * import { commitIfHeld } from "@holdfast/lock/backends/datastore";
 *
 * async function deposit(held: Lock, cents: number) {
 *   const key = { path: [{ kind: "Account", name: "ada" }] };
 *   await commitIfHeld(held, async (tx) => {
 *     const [account] = await tx.lookup(key);
 *     const { integerValue = 0 } = (account?.properties?.cents ?? {}) as { integerValue?: number };
 *     tx.upsert({ key, properties: { cents: { integerValue: Number(integerValue) + cents } } });
 *   });
 * }
 * ```
 */
export async function commitIfHeld(
  held: Lock,
  build: (tx: DatastoreTransaction) => unknown,
): Promise<DatastoreCommit> {
  const guard = guardOf(held, { Backend: DatastoreStore, name: "a Datastore" });
  if (typeof build !== "function") refuse("Cannot commit: 'build' must be a function", build);
  for (const tries = guard.tries(GUARDED_BACKOFF);;) {
    let aborted: LockBackendError | undefined;
    // A holder that has lost it builds nothing.
    await guard.prove();
    try {
      const done = await guard.backend.guarded(guard, build);
      if (done !== undefined) return done;
    } catch (error) {
      if (!(error instanceof LockBackendError)) throw error;
      if (codeOf(error) !== ABORTED) throw guard.failure(error);
      aborted = error;
    }
    await tries.again(aborted);
  }
}
