/** Writes of the caller's own that the database refuses once the lock is lost. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { CompiledQuery, Kysely, PostgresDialect } from "kysely";
import { memoryBackend } from "@holdfast/lock/backends/memory";
import { commitIfHeld, heldGuard } from "@holdfast/lock/backends/postgres";
import { Lock, LockBackendError, LockLostError } from "../../mod.ts";
import type { TestPeer } from "./clients.ts";
import { acquire, fresh, test, World } from "./world.ts";

/** A table of the caller's own, with one number in it. */
async function tableOf({ sql }: TestPeer): Promise<{ name: string; value(): Promise<number> }> {
  const name = `own_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql(`CREATE TABLE ${name} AS SELECT 0 AS value`);
  return { name, value: async () => Number((await sql(`SELECT value FROM ${name}`))[0].value) };
}

for (const client of ["pg Pool", "pg Client", "postgres.js"]) {
  test(`commitIfHeld on ${client}: commits, and rolls back what fails or was passed over`, async () => {
    await using world = new World();
    const a = await world.peerWith(client);
    const { name, value } = await tableOf(a);
    const held = await acquire(a.backend, fresh());
    const add = `UPDATE ${name} SET value = value + 1 RETURNING value`;
    const rows = await commitIfHeld(held, (query) => query(add));
    assertEquals(rows, [{ value: 1 }]);
    const failed = new Error("the caller's own");
    const thrown = await assertRejects(() =>
      commitIfHeld(held, async (query) => {
        await query(add);
        throw failed;
      })
    );
    assertEquals(thrown, failed);
    assertEquals(await value(), 1);
    await assertRejects(() =>
      commitIfHeld(held, async (query) => {
        await query(add);
        await query("SELECT nonsense").catch(() => {});
      })
    );
    assertEquals(await value(), 1);
    const parameters = await commitIfHeld(held, (query) => query("SELECT $1::int + 1 AS sum", [41]));
    assertEquals(parameters, [{ sum: 42 }]);
    assertEquals(await held.release(), true);
    await assertRejects(() => commitIfHeld(held, (query) => query(add)), LockLostError, "released before");
  });
}

test("commitIfHeld: a holder that was evicted after its last look writes nothing", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const { name, value } = await tableOf(a);
  const id = fresh();
  const held = await acquire(a.backend, id);
  let thief: Lock | undefined;
  const { connect } = a.pool;
  // Between the look at the record and the transaction, where only the server can tell.
  const robbed = async () => {
    thief ??= await acquire(b.backend, id, { stealAfterMs: 0 });
    return await connect.call(a.pool);
  };
  // The pool itself connects with a callback.
  a.pool.connect =
    ((...args: []) => args.length > 0 ? connect.apply(a.pool, args) : robbed()) as typeof connect;
  const error = await assertRejects(
    () => commitIfHeld(held, (query) => query(`UPDATE ${name} SET value = 1`)),
    LockLostError,
  );
  assertEquals(error.reason, "stolen");
  assertEquals(await value(), 0);
  assert(await thief?.release());
});

for (const client of ["pg Pool", "pg Client", "postgres.js"]) {
  test(`commitIfHeld on ${client}: the answer to its COMMIT is lost: it is applied once, and called unknown`, async () => {
    await using world = new World();
    const a = await world.peerWith(client, await world.slowPort(0));
    const { name, value } = await tableOf(world.peer());
    const held = await acquire(a.backend, fresh());
    const error = await assertRejects(() =>
      commitIfHeld(held, async (query) => {
        await query(`UPDATE ${name} SET value = value + 1`);
        // The next answer is that to COMMIT.
        world.loseAnswer();
      }), LockBackendError);
    assertEquals([(error as LockBackendError).transient, await value()], [true, 1]);
    // A single client is of no more use.
    if (client !== "pg Client") assertEquals(await held.release(), true);
  });
}

test("commitIfHeld: under several locks nothing is written when any of them is lost", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const { name, value } = await tableOf(a);
  const [one, other] = [fresh(), fresh()];
  const add = `UPDATE ${name} SET value = value + 1`;
  for (const stolen of [one, other]) {
    const held = await Lock.acquire([one, other], { backend: a.backend });
    assert(held !== null);
    const before = await value();
    await commitIfHeld(held, (query) => query(add));
    const { text, values } = heldGuard(held);
    assertEquals((await a.pool.query(text, values)).rows, [{ held: true }]);
    const thief = await acquire(b.backend, stolen, { stealAfterMs: 0 });
    await assertRejects(() => commitIfHeld(held, (query) => query(add)), LockLostError);
    await assertRejects(() => a.pool.query(text, values), Error, "Lost lock");
    assertEquals(await value(), before + 1);
    assertEquals([await held.release(), await thief.release()], [false, true]);
  }
});

test("commitIfHeld: each of those that one commit has granted a shared lock may write", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const { name, value } = await tableOf(a);
  const id = fresh();
  const writer = await acquire(a.backend, id);
  const readers = Array.from({ length: 3 }, () => acquire(b.backend, id, { mode: "shared" }));
  await writer.release();
  for (const held of await Promise.all(readers)) {
    await commitIfHeld(held, (query) => query(`UPDATE ${name} SET value = value + 1`));
    assertEquals(await held.release(), true);
  }
  assertEquals(await value(), 3);
});

test("commitIfHeld: a process that evicts waits until the transaction is over", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const { name, value } = await tableOf(a);
  const id = fresh();
  const held = await acquire(a.backend, id);
  let stolen = false;
  const thief = commitIfHeld(held, async (query) => {
    const stealing = acquire(b.backend, id, { stealAfterMs: 0 }).finally(() => stolen = true);
    for (;;) {
      const [{ count }] = await a.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
      if (Number(count) > 0) break;
    }
    await query(`UPDATE ${name} SET value = 1`);
    assertEquals(stolen, false);
    return { stealing };
  });
  const lock = await (await thief).stealing;
  assertEquals(await value(), 1);
  assertEquals(await held.release(), false);
  assert(await lock.release());
});

test("commitIfHeld: a renewal in between does not disturb it, and the lock is held on", async () => {
  await using world = new World();
  const a = world.peer();
  const held = await acquire(a.backend, fresh(), { leaseMs: 600 });
  const before = Date.now();
  for (let i = 0; Date.now() - before < 900; i++) {
    await commitIfHeld(held, (query) => query("SELECT 1"));
  }
  assertEquals(await held.release(), true);
});

test("heldGuard: Kysely's transaction is committed while the lock is held, and fails once it is lost", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const { name, value } = await tableOf(a);
  const db = new Kysely<Record<string, { value: number }>>({
    dialect: new PostgresDialect({ pool: a.pool }),
  });
  const id = fresh();
  const held = await acquire(a.backend, id);
  const write = (to: number) =>
    db.transaction().execute(async (trx) => {
      const { text, values } = heldGuard(held);
      await trx.executeQuery(CompiledQuery.raw(text, values));
      await trx.updateTable(name).set({ value: to }).execute();
    });
  await write(1);
  assertEquals(await value(), 1);
  const thief = await acquire(b.backend, id, { stealAfterMs: 0 });
  const error = await assertRejects(() => write(2), Error, `Lost lock "${id}"`);
  assertEquals((error as { code?: string }).code, "22P02");
  assertEquals(await value(), 1);
  await thief.release();
  await assertRejects(() => write(3), Error, "Lost lock");
  // Acquired again by the same process, it is another hold.
  const again = await acquire(a.backend, id);
  await assertRejects(() => write(4), Error, "Lost lock");
  assertEquals(await value(), 1);
  await again.release();
});

test("heldGuard: a lock that was handed over is held, and its renewals do not matter", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  const id = fresh();
  const held = await acquire(a.backend, id);
  const waiting = acquire(b.backend, id, { leaseMs: 600 });
  await new Promise((resolve) => setTimeout(resolve, 200));
  await held.release();
  const next = await waiting;
  const { text, values } = heldGuard(next);
  const client = await world.session();
  await client.query(text, values);
  await new Promise((resolve) => setTimeout(resolve, 700));
  assertEquals((await client.query(text, values)).rows, [{ held: true }]);
  await next.release();
  await assertRejects(() => client.query(text, values), Error, "Lost lock");
});

test("commitIfHeld and heldGuard refuse what is no lock on Postgres", async () => {
  const held = (await Lock.acquire("job", { backend: memoryBackend() }))!;
  await assertRejects(() => commitIfHeld(held, () => {}), TypeError, "a lock on a Postgres backend");
  await assertRejects(
    () => Promise.resolve().then(() => heldGuard(held)),
    TypeError,
    "a lock on a Postgres backend",
  );
  await held.release();
});
