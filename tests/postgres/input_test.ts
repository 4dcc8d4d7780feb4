/** What the Postgres backend refuses, and with which words. None of it needs a server. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  postgresBackend,
  type PostgresBackendOptions,
  type PostgresClient,
} from "@holdfast/lock/backends/postgres";
import pg from "pg";
import postgres from "postgres";
import { Lock, LockBackendError } from "../../mod.ts";

const nothing = () => Promise.resolve({ rows: [] });
const make = (client: unknown, options?: unknown) =>
  postgresBackend(client as PostgresClient, options as PostgresBackendOptions);

Deno.test("Postgres: one backend for each client and options, whose name says where it is, and no password", async () => {
  const connectionString = "postgres://ada:secret@db.example:6432/app?sslmode=no";
  const made: [object, string][] = [
    [{ options: { connectionString } }, "Postgres at db.example:6432/app (table"],
    [
      { options: { host: "10.0.0.5", database: "app", password: "secret" } },
      "Postgres at 10.0.0.5:5432/app (table",
    ],
    [{}, "Postgres (table"],
  ];
  for (const [settings, name] of made) {
    const pool = { totalCount: 0, query: nothing, connect: nothing, ...settings };
    const backend = make(pool);
    assert(backend.name!.startsWith(name), backend.name);
    assert(backend === make(pool, { pollMs: 500 }));
    assert(backend !== make(pool, { table: "other" }));
    await backend.close();
    const next = make(pool);
    await backend.close();
    assert(next !== backend && next === make(pool));
  }
  assert(
    make(postgres("postgres://ada:secret@db.example/app")).name!.startsWith(
      "Postgres at db.example:5432/app",
    ),
  );
});

Deno.test("Postgres: what is not a client is refused, with what it lacks", () => {
  const pool = { totalCount: 0, query: nothing, connect: nothing };
  const client = { query: nothing, connect: nothing, end: nothing, on: nothing, off: nothing };
  const wrong: [unknown, string][] = [
    [undefined, "lacks 'query': undefined"],
    [null, "lacks 'query': null"],
    ["postgres://app:secret@localhost/app", "lacks 'query': a text; a URL is for the client"],
    [{ connectionString: "postgres://localhost/app" }, "lacks 'query'"],
    [{ query: "SELECT 1" }, "lacks 'query'"],
    [pg.Pool, "; call it, with 'new' if it is a class"],
    [pg.Client, "; call it, with 'new' if it is a class"],
    [postgres, "; call it, with 'new' if it is a class"],
    [() => {}, "; call it, with 'new' if it is a class"],
    [Promise.resolve(pool), "lacks 'query': a promise (is an await missing?)"],
    [{ unsafe: nothing }, "lacks 'begin'"],
    [{ ...pool, connect: undefined }, "lacks 'connect'"],
    [{ ...client, on: undefined }, "lacks 'on'"],
    [{ ...client, off: undefined }, "lacks 'off'"],
    [{ ...client, release: nothing }, "hand in the pool"],
  ];
  for (const [value, lacks] of wrong) {
    const error = assertThrows(() => make(value), TypeError, lacks);
    const rule =
      "Cannot make a Postgres backend: 'client' must be a Pool or Client of pg, a postgres.js, a PGlite";
    assert(error.message.startsWith(rule) && !error.message.includes("secret"), error.message);
  }
  for (const value of [pool, client, { query: nothing }, { unsafe: nothing, begin: nothing }]) make(value);
});

Deno.test("Postgres: bad options are refused by name, rule and value", () => {
  const client = { query: nothing };
  const names = "must be a name of 1 to 63 bytes, without NUL";
  const wrong: [unknown, typeof TypeError | typeof RangeError, string][] = [
    [{ table: "" }, RangeError, `'table' ${names}`],
    [{ table: "ä".repeat(32) }, RangeError, `'table' ${names}`],
    [{ table: "a\0b" }, RangeError, `'table' ${names}`],
    [{ table: "\ud800" }, RangeError, `'table' ${names}`],
    [{ table: 7 }, TypeError, `'table' ${names}, current value is 7`],
    [{ schema: "" }, RangeError, `'schema' ${names}`],
    [{ createTable: "no" }, TypeError, "'createTable' must be a boolean"],
    [{ notifications: "never" }, TypeError, '\'notifications\' must be "auto", "listen" or "poll"'],
    [{ pollMs: 24 }, RangeError, "'pollMs' must be a whole number of milliseconds from 25 to 60000"],
    [{ pollMs: 60_001 }, RangeError, "'pollMs'"],
    [{ pollMs: 100.5 }, RangeError, "'pollMs'"],
    [{ pollMs: "100" }, TypeError, "'pollMs'"],
    [{ tabel: "locks" }, TypeError, "tabel"],
  ];
  for (const [options, kind, message] of wrong) assertThrows(() => make(client, options), kind, message);
});

Deno.test("Postgres: a client that answers something else is an error that says what, at once", async () => {
  const answers: [unknown, string][] = [
    [undefined, "this one answered undefined"],
    [7, "this one answered 7"],
    [{ rows: 7 }, "this one answered [object Object]"],
    [[{ now: 12 }], "a row whose 'now' is a number"],
    [[{ now: "soon" }], "a time that is none"],
    [[{ now: "1000000", identifier: null, version: null }], "a row whose 'version' is null"],
    [[{ now: "1000000", identifier: null, version: "new" }], "a version that is none"],
  ];
  for (const [answer, what] of answers) {
    const backend = make({ query: () => Promise.resolve(answer) });
    const error = await assertRejects(() => Lock.acquire("job", { backend }), LockBackendError, what);
    assertEquals((error as LockBackendError).transient, false);
  }
});

Deno.test("Postgres: a client that throws instead of rejecting is an error all the same", async () => {
  const query = (): never => {
    throw new TypeError("a bug of its own");
  };
  const backend = make({ query });
  await assertRejects(() => Lock.acquire("job", { backend }), LockBackendError, "a bug of its own");
});

Deno.test("Postgres: clients that were never connected, or are closed, are an error at once that says so", async () => {
  const config = { host: "127.0.0.1", port: 1 };
  const pool = new pg.Pool(config);
  await pool.end();
  const sql = postgres(config);
  await sql.end();
  for (const client of [pool, sql]) {
    const error = await assertRejects(() => Lock.acquire("job", { backend: make(client) }), LockBackendError);
    assert((error as Error).message.includes("the Postgres client is closed"), `${error}`);
    assertEquals((error as LockBackendError).transient, false);
  }
});
