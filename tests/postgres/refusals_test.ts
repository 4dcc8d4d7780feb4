/**
 * What becomes of locks when the server refuses a statement, because of a limit, of others, or of a right that is missing,
 * and when the client is closed. The name of each test says what was expected before it was run.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld, postgresBackend } from "@holdfast/lock/backends/postgres";
import pg from "pg";
import postgres from "postgres";
import { LockBackendError } from "../../mod.ts";
import type { TestPeer } from "./clients.ts";
import { acquire, fresh, test, untilQueued, untilWatched, World } from "./world.ts";

/** Locks the row of a record until the end of its transaction. */
const LOCK_ROW = "SELECT FROM holdfast_lock WHERE identifier = $1 FOR UPDATE";

/** Until so many sessions wait for the lock of a row. */
async function untilBlocked(other: pg.Client, count: number): Promise<void> {
  for (;;) {
    const { rows } = await other.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    if (rows.length >= count) return;
    await delay(5);
  }
}

/** Two records that are there, and their versions. */
async function twoRecords({ backend }: TestPeer): Promise<{ keys: string[]; version: string }> {
  const keys = [fresh(), fresh()].sort();
  const made = await backend.commit(keys.map((key) => ({ key, version: null, value: "1" })));
  assert(made.ok);
  return { keys, version: made.version };
}

for (const limit of ["statement_timeout", "lock_timeout"]) {
  test(`${limit} while the row is locked: an error that passes; the release is tried again and succeeds`, async () => {
    await using world = new World();
    const a = world.peer({ config: { options: `-c ${limit}=50` } });
    const other = await world.session();
    const id = fresh();
    const held = await acquire(a.backend, id);
    const [{ version }] = await a.backend.read([id]);
    await other.query("BEGIN");
    await other.query(LOCK_ROW, [id]);
    const error = await assertRejects(
      () => a.backend.commit([{ key: id, version, value: "{}" }]),
      LockBackendError,
      "timeout",
    );
    assert((error as LockBackendError).transient);
    let refused = 0;
    const { query } = a.pool;
    // The pool's own type has a callback, too.
    a.pool.query = (async (...args: [string]) => {
      try {
        return await query.apply(a.pool, args);
      } catch (error) {
        refused++;
        throw error;
      }
    }) as typeof query;
    const releasing = held.release();
    while (refused < 2) await delay(10);
    await other.query("COMMIT");
    assertEquals(await releasing, true);
    assertEquals((await a.backend.read([id]))[0].value, null);
  });
}

test("idle_in_transaction_session_timeout in commitIfHeld: it rejects, nothing is written, and the lock is held on", async () => {
  await using world = new World();
  const a = world.peer({ config: { options: "-c idle_in_transaction_session_timeout=50" } });
  const other = await world.session();
  const held = await acquire(a.backend, fresh());
  const name = `own_${crypto.randomUUID().replaceAll("-", "")}`;
  await other.query(`CREATE TABLE ${name} AS SELECT 0 AS value`);
  const ended = async (pid: number) => {
    while ((await other.query("SELECT FROM pg_stat_activity WHERE pid = $1", [pid])).rows.length > 0) {
      await delay(10);
    }
  };
  for (const goesOn of [true, false]) {
    await assertRejects(() =>
      commitIfHeld(held, async (query) => {
        const [{ pid }] = await query(`UPDATE ${name} SET value = 1 RETURNING pg_backend_pid() AS pid`);
        await ended(pid);
        if (goesOn) await query("SELECT 1");
      })
    );
  }
  assertEquals((await other.query(`SELECT value FROM ${name}`)).rows, [{ value: 0 }]);
  assertEquals([held.held, await held.release()], [true, true]);
});

test("idle_session_timeout: connections come and go, also the one that listens, and the waiter is granted", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer({ config: { options: "-c idle_session_timeout=100" } })];
  const id = fresh();
  const held = await acquire(a.backend, id);
  const waiting = acquire(b.backend, id);
  await untilQueued(a, id);
  const pids = new Set<unknown>();
  // The one that listens is another one by then.
  while (pids.size < 3) {
    const rows = await a.sql("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    for (const { pid } of rows) pids.add(pid);
    await delay(10);
  }
  await held.release();
  assertEquals(await (await waiting).release(), true);
});

test("a deadlock: the commit that is chosen is refused, and has written nothing", async () => {
  await using world = new World();
  // The session that begins to wait first, and looks when the other waits, too, is the one that is chosen.
  const a = world.peer({ config: { options: "-c deadlock_timeout=1500" } });
  const other = await world.session({ options: "-c deadlock_timeout=60000" });
  const watching = await world.session();
  const { keys, version } = await twoRecords(a);
  await other.query("BEGIN");
  await other.query(LOCK_ROW, [keys[1]]);
  const committing = a.backend.commit(keys.map((key) => ({ key, version, value: "2" })));
  await untilBlocked(watching, 1);
  await other.query(LOCK_ROW, [keys[0]]);
  assertEquals(await committing, { ok: false });
  await other.query("COMMIT");
  assertEquals((await a.backend.read(keys)).map(({ value }) => value), ["1", "1"]);
});

test("a deadlock in commitIfHeld: it rejects with the server's error, nothing is written, and it is not repeated", async () => {
  await using world = new World();
  const a = world.peer({ config: { options: "-c deadlock_timeout=1500" } });
  const other = await world.session({ options: "-c deadlock_timeout=60000" });
  const watching = await world.session();
  const id = fresh();
  const held = await acquire(a.backend, id);
  await other.query("BEGIN");
  const { keys } = await twoRecords(a);
  await other.query(LOCK_ROW, [keys[0]]);
  let times = 0;
  const committing = assertRejects(() =>
    commitIfHeld(held, (query) => {
      times++;
      return query("UPDATE holdfast_lock SET record = '2' WHERE identifier = ANY ($1)", [keys]);
    })
  );
  await untilBlocked(watching, 1);
  await other.query(LOCK_ROW, [id]);
  assertEquals((await committing as { code?: string }).code, "40P01");
  await other.query("COMMIT");
  assertEquals(times, 1);
  assertEquals((await a.backend.read(keys)).map(({ value }) => value), ["1", "1"]);
  assertEquals(await held.release(), true);
});

test("a failed serialization: the commit is refused, has written nothing, and the lock goes on", async () => {
  await using world = new World();
  const a = world.peer({ config: { options: "-c default_transaction_isolation=serializable" } });
  const [other, watching] = [await world.session(), await world.session()];
  const { keys, version } = await twoRecords(a);
  for (const changed of [[keys[0]], keys]) {
    await other.query("BEGIN");
    await other.query("UPDATE holdfast_lock SET changed_at = now() WHERE identifier = $1", [keys[0]]);
    const committing = a.backend.commit(changed.map((key) => ({ key, version, value: "2" })));
    await untilBlocked(watching, 1);
    await other.query("COMMIT");
    assertEquals(await committing, { ok: false });
    assertEquals((await a.backend.read(keys)).map(({ value }) => value), ["1", "1"]);
  }
  const held = await acquire(a.backend, fresh());
  assertEquals(await held.release(), true);
});

test("no connection left: an error that passes and says so; with one again, the lock is granted", async () => {
  await using world = new World();
  const a = world.peer();
  await (await acquire(a.backend, fresh())).release();
  await a.sql("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0");
  await a.sql("GRANT ALL ON holdfast_lock TO crowded");
  const b = world.peer({ config: { user: "crowded" } });
  const error = await assertRejects(
    () => acquire(b.backend, fresh(), { waitForMs: 100 }),
    LockBackendError,
    "too many connections",
  );
  assert((error as LockBackendError).transient);
  const waiting = acquire(b.backend, fresh());
  await a.sql("ALTER ROLE crowded CONNECTION LIMIT 10");
  assertEquals(await (await waiting).release(), true);
});

test("a role that may not create the table: an error that says that it is not there, and where its statement is", async () => {
  await using world = new World();
  await world.peer().sql("CREATE ROLE maker LOGIN");
  const b = world.peer({ config: { user: "maker" }, options: { table: "unmade" } });
  await assertRejects(
    () => acquire(b.backend, fresh()),
    LockBackendError,
    'the table "unmade" does not exist, and may not be created: docs/postgres.md',
  );
});

test("what is called like the table and is none of ours: an error that names it", async () => {
  await using world = new World();
  const a = world.peer({ options: { table: "like" } });
  const columns =
    "identifier text, record text, version bigint, expires_at timestamptz, changed_at timestamptz";
  const made = [
    [`TABLE like_it (${columns})`, "TABLE like_it"],
    [`TABLE like_it (${columns}, watched_until timestamptz)`, "TABLE like_it"],
    [`VIEW like_it AS SELECT 'job' AS identifier, NULL AS record`, "VIEW like_it"],
    ["SEQUENCE like_it", "SEQUENCE like_it"],
  ];
  const b = world.peer({ options: { table: "like_it" } });
  for (const [what, name] of made) {
    await a.sql(`CREATE ${what}`);
    await assertRejects(
      () => acquire(b.backend, "job"),
      LockBackendError,
      'the table "like_it" is none of Holdfast\'s',
    );
    await a.sql(`DROP ${name}`);
  }
});

const config = (world: World) => ({ host: "127.0.0.1", port: world.server.port, user: "postgres" });

test("a single client that is closed: an error at once, also for waiters, and closing does not hang", async () => {
  await using world = new World();
  const a = world.peer();
  const client = new pg.Client(config(world));
  await client.connect();
  const sql = postgres(config(world));
  const closing: [Parameters<typeof postgresBackend>[0], () => Promise<void>][] = [
    [client, () => client.end()],
    [sql, () => sql.end({ timeout: 1 })],
  ];
  for (const [client, close] of closing) {
    const backend = postgresBackend(client);
    const id = fresh();
    const held = await acquire(a.backend, id);
    const waiting = acquire(backend, id).then(() => undefined, (error) => error);
    await untilWatched(a, id);
    await close();
    await held.release();
    const error = await waiting;
    assert(error instanceof LockBackendError && !error.transient, `${error}`);
    const later = await assertRejects(() => acquire(backend, fresh()), LockBackendError);
    assert((later as Error).message.includes("the Postgres client is closed"), `${later}`);
    await backend[Symbol.asyncDispose]();
  }
});

test("a process whose pool is closed while it waits, and that disposes of nothing, ends by itself", async () => {
  await using world = new World();
  const a = world.peer();
  const id = fresh();
  const held = await acquire(a.backend, id);
  const script = new URL("exit_child.ts", import.meta.url).href;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", script, `${world.server.port}`, id],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert(success, text.decode(stderr));
  assertEquals(text.decode(stdout), "refused: the Postgres client is closed\n");
  assertEquals(await held.release(), true);
});
