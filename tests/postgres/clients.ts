/** The clients that the Postgres backend takes, made and closed alike. */

import type { PGlite } from "@electric-sql/pglite";
import { postgresBackend, type PostgresBackendOptions } from "@holdfast/lock/backends/postgres";
import type { LockBackend } from "@holdfast/lock";
import pg from "pg";
import postgres from "postgres";

/** A peer of one process. */
export interface TestPeer {
  readonly backend: LockBackend & AsyncDisposable;
  /** Runs a statement on a connection of the client. */
  sql(text: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

/** Connects a client of one make to a server on this machine. */
export type Connect = (port: number, options?: PostgresBackendOptions) => Promise<TestPeer>;

function configOf(port: number) {
  return { host: "127.0.0.1", port, user: "postgres", database: "postgres" };
}

/** A peer whose backend is disposed of before its client is closed. */
export function peerOf(
  backend: TestPeer["backend"],
  sql: TestPeer["sql"],
  end: () => Promise<unknown>,
): TestPeer {
  return {
    backend,
    sql,
    async close() {
      await backend[Symbol.asyncDispose]();
      await end();
    },
  };
}

/** A pool of `pg`, and the peer on it. */
export function pgPool(
  port: number,
  options?: PostgresBackendOptions,
  config: object = {},
): TestPeer & { pool: pg.Pool } {
  const pool = new pg.Pool({ ...configOf(port), ...config });
  // An outage is part of some tests; it shows in the statements.
  pool.on("error", () => {});
  const peer = peerOf(
    postgresBackend(pool, options),
    async (text) => (await pool.query(text)).rows,
    () => pool.end(),
  );
  return { ...peer, pool };
}

async function pgClient(port: number, options?: PostgresBackendOptions): Promise<TestPeer> {
  const client = new pg.Client(configOf(port));
  client.on("error", () => {});
  await client.connect();
  return peerOf(
    postgresBackend(client, options),
    async (text) => (await client.query(text)).rows,
    () => client.end(),
  );
}

function postgresJs(port: number, options?: PostgresBackendOptions): Promise<TestPeer> {
  const sql = postgres({ ...configOf(port), onnotice() {} });
  return Promise.resolve(
    peerOf(
      postgresBackend(sql, options),
      async (text) => [...await sql.unsafe(text)],
      () => sql.end({ timeout: 1 }),
    ),
  );
}

/** By name. */
export const CLIENTS: Readonly<Record<string, Connect>> = {
  "pg Pool": (port, options) => Promise.resolve(pgPool(port, options)),
  "pg Client": pgClient,
  "postgres.js": postgresJs,
};

let opened: Promise<PGlite> | undefined;

/** The PGlite of this process. */
export function lite(): Promise<PGlite> {
  return opened ??= import("@electric-sql/pglite").then(({ PGlite }) => PGlite.create());
}

/** PGlite, which is one database for all: a second one would be another store. */
export const connectLite: Connect = async (_port, options) => {
  const first = opened === undefined;
  const db = await lite();
  const backend = postgresBackend(db, options);
  // Its first statements take longer than the leases of some cases.
  if (first) await backend.read(["holdfast-test"]);
  return peerOf(
    backend,
    async (text) => (await db.query<Record<string, unknown>>(text)).rows,
    () => Promise.resolve(),
  );
};

/** Closes PGlite, if it was opened. */
export async function closeLite(): Promise<void> {
  await (await opened)?.close();
}
