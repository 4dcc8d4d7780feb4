/** A transaction of the caller's own that the server commits only if the lock's record has not changed. */

import type { Entry } from "../../core/backend.ts";
import { begun } from "./answers.ts";
import type { DatastoreCommit, DatastoreEntity, DatastoreKey, DatastoreTransaction } from "./api.ts";
import type { DatastoreCalls } from "./calls.ts";
import { entryOf, textOf } from "./entities.ts";
import { ALREADY_EXISTS, codeOf, NOT_FOUND } from "./failures.ts";

/** What is committed, and on what condition. */
export interface Guarded {
  /** The lock that guards it, as messages call it. */
  readonly identifier: string;
  /** Where the locks' records are. */
  readonly locks: readonly DatastoreKey[];
  /** Whether this is a record that names the hold. */
  readonly isProof: (entry: Entry) => boolean;
  /** Where the caller's keys are, if they do not say so themselves. */
  readonly partition: NonNullable<DatastoreKey["partitionId"]>;
  readonly build: (tx: DatastoreTransaction) => unknown;
}

/** Runs and commits a guarded transaction; `undefined` if a record does not name the hold: nothing is written then. */
export async function transact(
  calls: DatastoreCalls,
  { identifier, locks, isProof, partition, build }: Guarded,
): Promise<DatastoreCommit | undefined> {
  const transaction = begun(await calls.call("beginTransaction", { transactionOptions: { readWrite: {} } }));
  let open = true;
  try {
    const readOptions = { transaction };
    const mutations: object[] = [];
    const here = (key: DatastoreKey | null | undefined): DatastoreKey => ({
      path: key?.path,
      partitionId: { ...partition, ...key?.partitionId },
    });
    const write = (how: string) => (entity: DatastoreEntity) => {
      mutations.push({ [how]: { ...entity, key: here(entity.key) } });
      return draft;
    };
    const draft: DatastoreTransaction = {
      async lookup(...keys) {
        const asked = keys.map(here);
        const results = await calls.lookup(asked, readOptions);
        const found = new Map(results.map(({ entity }) => [textOf(entity.key), entity]));
        return asked.map((key) => found.get(textOf(key)));
      },
      insert: write("insert"),
      update: write("update"),
      upsert: write("upsert"),
      delete(key) {
        mutations.push({ delete: here(key) });
        return draft;
      },
    };
    await build(draft);
    // The last of what is read: what a transaction has read cannot change before it commits, the server sees to that, and
    // a renewal must not wait for what the caller does.
    const found = await calls.lookup(locks, readOptions);
    if (found.length < locks.length || !found.map(entryOf).every(isProof)) return undefined;
    open = false;
    await calls.call("commit", { mode: "TRANSACTIONAL", transaction, mutations });
    return { ok: true };
  } catch (error) {
    const code = open ? undefined : codeOf(error);
    if (code === ALREADY_EXISTS || code === NOT_FOUND) return { ok: false };
    throw error;
  } finally {
    // What was read stays locked otherwise, until the server gives the transaction up.
    if (open) await calls.rollback(transaction, identifier);
  }
}
