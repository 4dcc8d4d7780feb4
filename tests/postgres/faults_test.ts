/** What becomes of locks when something of Postgres fails. The name of each test says what was expected before it was run. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { Lock, LockBackendError } from "../../mod.ts";
import { PostgresServer } from "../support/postgres_server.ts";
import { postgresBackend } from "@holdfast/lock/backends/postgres";
import { assertCloses } from "../support/closing.ts";
import { acquire, fresh, lossOf, test, untilQueued, untilWatched, World } from "./world.ts";

const KILL =
  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'postgres'";

test("all connections ended: the holder holds on, and the waiter is granted at the release", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const admin = await world.session();
  const id = fresh();
  const held = await acquire(a.backend, id, { leaseMs: 3000 });
  const waiting = acquire(b.backend, id);
  await untilWatched(a, id);
  await admin.query(KILL);
  await delay(100);
  assertEquals(held.held, true);
  assertEquals(await held.release(), true);
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assertEquals(await next.release(), true);
});

test("an immediate restart while one holds and one waits: the holder holds on, and the waiter is granted", async () => {
  await using world = new World(await PostgresServer.start());
  const [a, b] = [world.peer(), world.peer()];
  const held = await acquire(a.backend, "job", { leaseMs: 8000 });
  const waiting = acquire(b.backend, "job", { waitForMs: 15_000 });
  await untilWatched(a, "job");
  await world.server.crash();
  await world.server.start();
  assertEquals(held.held, true);
  assertEquals(await held.release(), true);
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assertEquals(await next.release(), true);
});

test("a server frozen past the lease: the holder is notified, and the waiter is granted once it goes on", async () => {
  await using world = new World(await PostgresServer.start());
  const [a, b] = [world.peer(), world.peer()];
  const held = await acquire(a.backend, "job", { leaseMs: 600 });
  const waiting = acquire(b.backend, "job", { waitForMs: 15_000 });
  await untilWatched(a, "job");
  world.server.signalAll("SIGSTOP");
  assertEquals((await lossOf(held)).reason, "expired");
  world.server.signalAll("SIGCONT");
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assertEquals(await next.release(), true);
});

test("200 ms of latency: locks are acquired, renewed, handed over and released", async () => {
  await using world = new World();
  const port = await world.slowPort(100);
  const [a, b] = [world.peer({ port }), world.peer({ port })];
  const id = fresh();
  const held = await acquire(a.backend, id, { leaseMs: 1500 });
  const waiting = acquire(b.backend, id);
  await delay(2000);
  assertEquals(held.held, true);
  assertEquals(await held.release(), true);
  assertEquals(await (await waiting).release(), true);
});

test("answers lost after the commit: acquired once, released, and nothing is left", async () => {
  await using world = new World();
  const port = await world.slowPort(0);
  const [a, b] = [world.peer({ port }), world.peer()];
  const id = fresh();
  await (await acquire(a.backend, fresh())).release();
  world.loseAnswer();
  const held = await acquire(a.backend, id);
  assertEquals(await Lock.acquire(id, { backend: b.backend, wait: false }), null);
  world.loseAnswer();
  assertEquals(await held.release(), true);
  const next = await acquire(b.backend, id);
  assert(next.fencingToken > held.fencingToken);
  assertEquals(await next.release(), true);
  assertEquals((await b.backend.read([id]))[0].value, null);
});

test("a database made read only: an error of the store, which waits, and not a taken lock; then all is well", async () => {
  await using world = new World(await PostgresServer.start());
  const a = world.peer();
  const admin = await world.session();
  await (await acquire(a.backend, "job")).release();
  await admin.query("ALTER DATABASE postgres SET default_transaction_read_only = on");
  await admin.query(KILL);
  const error = await assertRejects(
    () => acquire(a.backend, "job", { waitForMs: 300 }),
    LockBackendError,
    "read-only",
  );
  assertEquals((error as LockBackendError).transient, true);
  await admin.query("SET default_transaction_read_only = off");
  await admin.query("ALTER DATABASE postgres RESET default_transaction_read_only");
  await admin.query(KILL);
  await (await acquire(a.backend, "job")).release();
});

test("failover: what a synchronous replica was needed for is held; what it lacks is reported as lost, and versions rise", async () => {
  await using world = new World(await PostgresServer.start());
  const port = await world.slowPort(0);
  const [a, b] = [world.peer({ port }), world.peer({ port })];
  await (await acquire(a.backend, "warm")).release();
  const replica = await world.use(await world.server.replica());
  const [beside, admin] = [await world.session({ port: replica.port }), await world.session()];
  const isSynchronous = async (names: string, state: string) => {
    await admin.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await admin.query("SELECT pg_reload_conf()");
    const query = `SELECT FROM pg_stat_replication WHERE sync_state = '${state}'`;
    while ((await admin.query(query)).rows.length === 0) await delay(20);
  };
  await isSynchronous("*", "sync");
  // It is not granted before the replica has it.
  replica.signalAll("SIGSTOP");
  let isGranted = false;
  const acquiring = acquire(a.backend, "kept", { leaseMs: 8000 }).finally(() => isGranted = true);
  const waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
  while ((await admin.query(waits)).rows.length === 0) await delay(5);
  assertEquals(isGranted, false);
  replica.signalAll("SIGCONT");
  const held = await acquiring;
  await isSynchronous("", "async");
  // From now on the replica hears of nothing. (Frozen, it would read what its socket has received once it goes on.)
  await beside.query("ALTER SYSTEM SET primary_conninfo = ''");
  await beside.query("SELECT pg_reload_conf()");
  while ((await beside.query("SELECT 1 FROM pg_stat_wal_receiver")).rows.length > 0) await delay(20);
  const lost = await acquire(a.backend, "lost", { leaseMs: 8000 });
  const told = lossOf(lost);
  await world.server.crash();
  replica.promote();
  world.switchTo(replica.port);
  assertEquals(await held.release(), true);
  const next = await acquire(b.backend, "lost");
  assert(next.fencingToken > lost.fencingToken);
  assertEquals((await told).reason, "expired");
  assertEquals(await next.release(), true);
});

test("the table dropped: the holder is notified, and the next one makes it again, with a higher token", async () => {
  await using world = new World();
  const a = world.peer({ options: { table: "dropped" } });
  const held = await acquire(a.backend, "job", { leaseMs: 900 });
  await a.sql("DROP TABLE dropped");
  assertEquals((await lossOf(held)).reason, "expired");
  const next = await acquire(a.backend, "job");
  assert(next.fencingToken > held.fencingToken);
  assertEquals(await next.release(), true);
});

test("the connection limit reached: a process that cannot listen polls, and is granted", async () => {
  await using world = new World();
  const a = world.peer();
  await (await acquire(a.backend, fresh())).release();
  await a.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 1");
  await a.sql("GRANT ALL ON holdfast_lock TO few");
  const b = world.peer({ config: { user: "few", max: 1 } });
  const id = fresh();
  const held = await acquire(a.backend, id);
  const waiting = acquire(b.backend, id);
  await untilQueued(a, id);
  await delay(300);
  await held.release();
  assertEquals(await (await waiting).release(), true);
});

test("a wrong password: an error at once that says so, and does not show it", async () => {
  await using world = new World(await PostgresServer.start());
  const a = world.peer();
  await a.sql("CREATE ROLE locked LOGIN PASSWORD 'right'");
  world.server.demandPassword("locked");
  const b = world.peer({ config: { user: "locked", password: "wrong-and-secret" } });
  const error = await assertRejects(
    () => acquire(b.backend, fresh()),
    LockBackendError,
    "password authentication failed",
  );
  assertEquals((error as LockBackendError).transient, false);
  assertEquals(Deno.inspect(error, { depth: 9 }).includes("wrong-and-secret"), false);
});

test("a missing privilege: an error at once that names it and the table", async () => {
  await using world = new World();
  const a = world.peer();
  await (await acquire(a.backend, fresh())).release();
  await a.sql("CREATE ROLE reader LOGIN");
  await a.sql("GRANT SELECT ON holdfast_lock TO reader");
  const b = world.peer({ config: { user: "reader" } });
  await assertRejects(
    () => acquire(b.backend, fresh()),
    LockBackendError,
    'SELECT, INSERT, UPDATE and DELETE on "holdfast_lock" are needed',
  );
});

test("no table and no leave to make one: an error that says where its statement is", async () => {
  await using world = new World();
  const b = world.peer({ options: { table: "nowhere", createTable: false } });
  await assertRejects(
    () => acquire(b.backend, fresh()),
    LockBackendError,
    'the table "nowhere" does not exist: docs/postgres.md',
  );
});

test("a table of another shape: an error at once that says so", async () => {
  await using world = new World();
  const a = world.peer({ options: { table: "other" } });
  for (const columns of ["id int", "identifier text PRIMARY KEY, record jsonb, version text"]) {
    await a.sql(`CREATE TABLE other (${columns})`);
    await assertRejects(
      () => acquire(a.backend, "job"),
      LockBackendError,
      'the table "other" is none of Holdfast\'s',
    );
    await a.sql("DROP TABLE other");
  }
});

test("a pool that is closed: an error at once, also for waiters, and pool.end() does not hang", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const id = fresh();
  const held = await acquire(a.backend, id);
  const waiting = acquire(b.backend, id).then(() => undefined, (error) => error);
  await untilWatched(a, id);
  await b.pool.end();
  b.pool.end = () => Promise.resolve();
  await held.release();
  const error = await waiting;
  assert(error instanceof LockBackendError && !error.transient, `${error}`);
  await assertRejects(() => acquire(b.backend, fresh()), LockBackendError, "the Postgres client is closed");
});

test("a deadlock or a failed serialization: a conflict like any other", async () => {
  await using world = new World();
  const options = "-c default_transaction_isolation=serializable";
  const peers = [1, 2, 3].map(() => world.peer({ config: { options } }));
  const id = fresh();
  let counter = 0;
  await Promise.all(peers.map(async ({ backend }) => {
    for (let i = 0; i < 10; i++) {
      const held = await acquire(backend, id);
      const seen = counter;
      await delay(1);
      counter = seen + 1;
      await held.release();
    }
  }));
  assertEquals(counter, 30);
});

test("a backend that is closed: what every backend does then", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  await assertCloses({ open: () => postgresBackend(b.pool), other: a.backend });
});
