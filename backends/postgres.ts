/**
 * The Postgres backend: a lock is one row, acquired by one statement and released by one. No advisory locks, so that
 * connection poolers, lost connections and restarts do no harm.
 *
 * It takes a `Pool` or `Client` of `pg` (8), a client of `postgres` (3), a PGlite, or an object with a function
 * `query`. What it promises, and what it needs, is in `docs/postgres.md`.
 *
 * @example
 * ```ts ignore
 * import pg from "pg";
 * import { configure, lock } from "@holdfast/lock";
 * import { postgresBackend } from "@holdfast/lock/backends/postgres";
 *
 * const pool = new pg.Pool({ connectionString: "postgres://localhost/app" });
 * configure({ strong: postgresBackend(pool) });
 * await lock("invoice:17").run(async () => {});
 * ```
 *
 * @module
 */

import type { LockBackend } from "../core/backend.ts";
import { quote } from "../core/errors.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";
import { refuse } from "../core/validate.ts";
import { Cached } from "./cached.ts";
import {
  adapterOf,
  type PgClient,
  type PgPool,
  type PostgresClient,
  type PostgresJs,
  rowsOf,
} from "./postgres/clients.ts";
import { storeOptions } from "./postgres/input.ts";
import { PostgresStore } from "./postgres/store.ts";

export type {
  PgClient,
  PgPool,
  PgPoolClient,
  PgQuery,
  PostgresAnswer,
  PostgresClient,
  PostgresJs,
  PostgresQueryable,
  PostgresRow,
} from "./postgres/clients.ts";

const BACKENDS = new Cached<PostgresStore>();
const POSTGRES = { Backend: PostgresStore, name: "a Postgres" };

/** Options of {@linkcode postgresBackend}. */
export interface PostgresBackendOptions {
  /**
   * The name of the table, exactly: nothing is folded to lower case.
   *
   * @default {"holdfast_lock"}
   */
  table?: string | undefined;
  /**
   * The schema that the table is in.
   *
   * @default {undefined} the first one in the connection's `search_path` that has it
   */
  schema?: string | undefined;
  /**
   * Whether the table is created if it is not there.
   *
   * @default {true}
   */
  createTable?: boolean | undefined;
  /**
   * How waiters hear of a lock that was released: `"listen"` with `LISTEN`, on one more connection; `"poll"` by
   * reading it again. `"auto"` listens, sends itself a notification, and polls if that does not arrive, as behind
   * a PgBouncer in transaction mode.
   *
   * @default {"auto"}
   */
  notifications?: "auto" | "listen" | "poll" | undefined;
  /**
   * How many milliseconds at most a waiter that polls lets pass between two reads of the lock, 25 to 60 000. The
   * pauses begin at 25 ms whenever the lock has changed and grow from there.
   *
   * @default {500}
   */
  pollMs?: number | undefined;
}

/** What {@linkcode postgresBackend} makes. */
export interface PostgresBackend extends LockBackend, AsyncDisposable {
  /**
   * Closes the connection that listens, if one was opened; never the client that was handed in. Acquisitions that
   * wait for other processes fail, and no later one can wait on this backend; locks that are held stay held. Resolves
   * when the waiters have left the queue, after a second at most: close the client after that. A later call of
   * `postgresBackend` with the client again gets another backend.
   */
  close(): Promise<void>;
  /** The same as `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A statement with its parameters. */
export interface HeldGuard {
  /** The statement, with `$1` to `$4`. */
  readonly text: string;
  /** The values of its parameters. */
  readonly values: string[];
}

/**
 * Runs a statement within the transaction of {@linkcode commitIfHeld}, and resolves to its rows. Parameters are
 * those that the client takes.
 */
// deno-lint-ignore no-explicit-any -- What a column is depends on the caller's own statement.
export type GuardedQuery = (text: string, values?: unknown[]) => Promise<any[]>;

/**
 * Makes a backend that keeps locks in Postgres (12 or later). It never closes your client. When a lock is first
 * waited for, it opens one more connection like yours, which listens; a single `Client` listens itself. Closing the
 * backend ends that. One backend serves all calls with the same client and options: calling this for each request
 * opens nothing more. Do not use a single `Client` for your own transactions.
 *
 * @param client The client.
 * @param options The table, and how waiters are woken.
 * @returns The backend.
 * @throws {TypeError | RangeError} For a value that is not a client, or bad options.
 *
 * @example With pg
 * ```ts ignore
 * import pg from "pg";
 * import { configure, lock } from "@holdfast/lock";
 * import { postgresBackend } from "@holdfast/lock/backends/postgres";
 *
 * configure({ strong: postgresBackend(new pg.Pool({ connectionString: "postgres://localhost/app" })) });
 * await lock("job").run(() => buildReport());
 * ```
 *
 * @example
 * ```ts ignore
 * import postgres from "postgres";
 * import { lock } from "@holdfast/lock";
 * import { postgresBackend } from "@holdfast/lock/backends/postgres";
 *
 * const sql = postgres("postgres://localhost/app");
 * const backend = postgresBackend(sql, { schema: "app" });
 * await lock("job", { backend }).run(async () => {});
 * await backend.close();
 * await sql.end();
 * ```
 */
export function postgresBackend(
  client: PgPool | PgClient | PostgresJs | PostgresClient,
  options: PostgresBackendOptions = {},
): PostgresBackend {
  const checked = storeOptions(options);
  const open = adapterOf(client);
  return BACKENDS.get(client, checked, (forget) => new PostgresStore(open(), checked, forget));
}

/**
 * Runs your own statements in one transaction that has locked the lock's row, and commits it: a holder that has
 * lost its lock, without knowing it yet, writes nothing, and a process that would evict the holder waits until the
 * transaction has ended. So does the renewal of the lock: be quick.
 *
 * The tables must be in the database that keeps the lock. If the server rejects the transaction because of others
 * (a deadlock, a serialization failure), it is rolled back and rejects, and is not repeated.
 *
 * @typeParam Result What `work` returns.
 * @param held A held lock on a Postgres backend.
 * @param work Runs your statements with the function that it gets.
 * @returns What `work` returns.
 * @throws {LockLostError} If the lock is no longer held; nothing is written.
 * @throws {LockBackendError} If the server failed: only then the outcome is unknown.
 * @throws {TypeError} If `held` is not a lock on a Postgres backend, or its client has no transactions.
 * @throws {unknown} What `work` throws; nothing is written.
 *
 * @example
 * ```ts ignore
 * import pg from "pg";
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, postgresBackend } from "@holdfast/lock/backends/postgres";
 *
 * const backend = postgresBackend(new pg.Pool());
 * await lock("account:ada", { backend }).run(async (held) => {
 *   await commitIfHeld(held, async (query) => {
 *     const [{ balance }] = await query("SELECT balance FROM account WHERE name = $1", ["ada"]);
 *     await query("UPDATE account SET balance = $2 WHERE name = $1", ["ada", balance + 100]);
 *   });
 * });
 * ```
 */
export async function commitIfHeld<Result>(
  held: Lock,
  work: (query: GuardedQuery) => Result | Promise<Result>,
): Promise<Result> {
  const guard = guardOf(held, POSTGRES);
  const { backend, keys, token } = guard;
  if (typeof work !== "function") refuse("Cannot commit: 'work' must be a function", work);
  if (backend.adapter.transaction === undefined) {
    throw new TypeError("Cannot commit: the client of the backend has no function 'transaction'");
  }
  for (const tries = guard.tries();; await tries.again()) {
    await guard.prove();
    let failure: { readonly cause: unknown } | undefined;
    try {
      const done = await backend.guarded({ keys, token, fence: held.fencingToken }, async (tx) => {
        const query: GuardedQuery = async (text, values = []) => [
          ...rowsOf(await tx.query(text, values as string[])),
        ];
        try {
          return await work(query);
        } catch (cause) {
          failure = { cause };
          throw cause;
        }
      });
      if (done !== undefined) return done.result;
    } catch (error) {
      // What the caller has thrown is its own; all else is the store's.
      if (failure !== undefined) throw failure.cause;
      throw guard.failure(backend.failure(error));
    }
  }
}

/**
 * A statement for your own transaction, such as an ORM's: it locks the lock's row, as {@linkcode commitIfHeld}
 * does, and fails if the lock is no longer held, and the transaction with it. Run it first in the transaction, on
 * the database that keeps the lock. It fails with the SQLSTATE `22P02` and a message that contains `Lost lock` and
 * the identifier.
 *
 * @param held A held lock on a Postgres backend.
 * @returns The statement and its parameters.
 * @throws {TypeError} If `held` is not a lock on a Postgres backend.
 *
 * @example With Kysely
 * ```ts ignore
 * import { CompiledQuery, type Kysely } from "kysely";
 * import { lock } from "@holdfast/lock";
 * import { heldGuard } from "@holdfast/lock/backends/postgres";
 *
 * async function setBalance(db: Kysely<{ account: { name: string; balance: number } }>, balance: number) {
 *   await lock("account:ada").run((held) =>
 *     db.transaction().execute(async (trx) => {
 *       const { text, values } = heldGuard(held);
 *       await trx.executeQuery(CompiledQuery.raw(text, values));
 *       await trx.updateTable("account").set({ balance }).where("name", "=", "ada").execute();
 *     })
 *   );
 * }
 * ```
 */
export function heldGuard(held: Lock): HeldGuard {
  const { backend, keys, identifier, token } = guardOf(held, POSTGRES);
  const proof = { keys, token, fence: held.fencingToken };
  return backend.guardOf(proof, `Lost lock ${quote(identifier)}`);
}
