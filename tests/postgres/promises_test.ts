/** What the statements promise: versions that rise, commits that are whole, a table that any number may make. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import type { PostgresStore } from "../../backends/postgres/store.ts";
import type { Change } from "../../core/backend.ts";
import { Lock } from "../../mod.ts";
import { finish, ON_DENO, Program } from "../support/cli_program.ts";
import { missingPgBouncer, PgBouncer } from "../support/postgres_server.ts";
import type { TestPeer } from "./clients.ts";
import { acquire, fresh, server, test, untilQueued, World } from "./world.ts";

const HOUR_MICROS = 3_600_000_000;

/** Commits what must succeed; the new version. */
async function put(
  { backend }: TestPeer,
  ...changes: Change[]
): Promise<string> {
  const result = await backend.commit(changes);
  assert(result.ok, "the commit was refused");
  return result.version;
}

test("versions rise across a release while the server's clock steps back an hour", async () => {
  await using world = new World();
  const a = world.peer();
  const [id, keys] = [fresh(), [fresh(), fresh()]];
  const first = await put(a, { key: id, version: null, value: "1" });
  const both = await put(a, ...keys.map((key) => ({ key, version: null, value: "1" })));
  // To the rows, it is the same.
  await a.sql(
    `UPDATE holdfast_lock SET version = version + ${HOUR_MICROS} WHERE identifier IN ('${
      [id, ...keys].join("','")
    }')`,
  );
  const later = (version: string) => String(Number(version) + HOUR_MICROS).padStart(16, "0");
  const second = await put(a, { key: id, version: later(first), value: null });
  const third = await put(a, { key: id, version: null, value: "2" });
  const fourth = await put(a, { key: id, version: third, value: "3" });
  assert(later(first) < second && second < third && third < fourth);
  const fifth = await put(a, ...keys.map((key) => ({ key, version: later(both), value: null })));
  const sixth = await put(a, ...keys.map((key) => ({ key, version: null, value: "2" })));
  assert(later(both) < fifth && fifth < sixth);
});

test("versions rise across TRUNCATE, and a holder finds its lock gone", async () => {
  await using world = new World();
  const a = world.peer({ options: { table: "truncated" } });
  const held = await acquire(a.backend, "job");
  await a.sql("TRUNCATE truncated");
  assertEquals(await held.release(), false);
  const next = await acquire(a.backend, "job");
  assert(next.fencingToken > held.fencingToken);
  await next.release();
});

test("a version that was drawn before its statement waited is higher than what came meanwhile", async () => {
  await using world = new World();
  const a = world.peer();
  const other = await world.session();
  const key = fresh();
  await a.backend.read([key]);
  await other.query("BEGIN");
  await other.query(
    `INSERT INTO holdfast_lock (identifier, version, changed_at) VALUES ($1, $2, now())`,
    [key, String(Date.now() * 1000 + HOUR_MICROS)],
  );
  const created = put(a, { key, version: null, value: "1" });
  for (;;) {
    const { rows } = await other.query(
      "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
    );
    if (rows.length > 0) break;
  }
  await other.query("COMMIT");
  assert(Number(await created) > Date.now() * 1000 + HOUR_MICROS - 60_000_000);
});

test("a sweep removes what has not been needed for a day, and nothing else", async () => {
  await using world = new World();
  const a = world.peer({ options: { table: "swept" } });
  const day = 24 * HOUR_MICROS;
  const names = ["old", "young", "kept", "expired", "marked"];
  for (const key of names) await put(a, { key, version: null, value: "1", expireInMs: 1 });
  const set = (name: string, what: string) => a.sql(`UPDATE swept SET ${what} WHERE identifier = '${name}'`);
  await set("old", `record = NULL, version = version - ${day}`);
  await set("young", `record = NULL, version = version - ${day - HOUR_MICROS}`);
  await set("kept", `version = version - ${day}, expires_at = now() + interval '1 minute'`);
  await set("expired", `version = version - ${day}, expires_at = now()`);
  await set(
    "marked",
    `record = NULL, version = version - ${day}, watched_until = now() + interval '1 minute'`,
  );
  await (a.backend as PostgresStore).sweep();
  const left = await a.sql("SELECT identifier FROM swept ORDER BY identifier");
  assertEquals(left.map(({ identifier }) => identifier), ["kept", "marked", "young"]);
});

test("of commits of several records that cross each other, each is whole or nothing", async () => {
  await using world = new World();
  const peers = [world.peer(), world.peer(), world.peer(), world.peer()];
  const keys = [fresh(), fresh(), fresh()];
  let done = 0;
  await Promise.all(peers.map(async ({ backend }, turn) => {
    for (let i = 0; i < 40; i++) {
      // In any order, and now and then one of them goes: it is made again by the one that comes next.
      const mine = keys.map((_, k) => keys[(k + turn + i) % 3]).slice(0, 2);
      const entries = await backend.read(mine);
      const changes = entries.map(({ key, version, value }) => ({
        key,
        version,
        value: i % 5 === 4 && value !== null ? null : `${Number(value) + 1}`,
      }));
      const result = await backend.commit(changes);
      const after = await backend.read(mine);
      if (!result.ok) continue;
      done++;
      // No process can have changed one without a higher version.
      for (const [k, { version }] of after.entries()) {
        assert(version === null || version >= result.version, `${k} is older than its commit`);
      }
    }
  }));
  assert(done > 20, `only ${done} commits`);
});

test("of many that make the same two records at once, one makes both", async () => {
  await using world = new World();
  const peers = [world.peer(), world.peer(), world.peer(), world.peer()];
  for (let round = 0; round < 25; round++) {
    const keys = [fresh(), fresh()];
    // Half of them with one of the two there already, as a first waiter finds it.
    if (round % 2 === 0) await put(peers[0], { key: keys[0], version: null, value: '"there"' });
    const [{ version }] = await peers[0].backend.read(keys);
    const results = await Promise.all(
      peers.map(({ backend }, i) =>
        backend.commit([{ key: keys[0], version, value: `${i}` }, {
          key: keys[1],
          version: null,
          value: `${i}`,
        }])
      ),
    );
    assertEquals(results.filter(({ ok }) => ok).length, 1);
    const winner = `${results.findIndex(({ ok }) => ok)}`;
    assertEquals((await peers[1].backend.read(keys)).map(({ value }) => value), [winner, winner]);
  }
});

test("processes that start at once make one table", async () => {
  await using world = new World();
  for (const table of ["made at once", "made \"again\" 'quoted'"]) {
    const peers = Array.from({ length: 8 }, () => world.peer({ options: { table }, config: { max: 1 } }));
    await Promise.all(peers.map(async ({ backend }) => (await acquire(backend, "job")).release()));
  }
});

test("a free lock costs one statement to acquire and one to release", async () => {
  await using world = new World();
  const a = world.peer();
  const id = fresh();
  await (await acquire(a.backend, id)).release();
  await (await acquire(a.backend, id)).release();
  const calls = await counted(a);
  await (await acquire(a.backend, id)).release();
  assertEquals((await calls()).all, 2);
});

test("a hand-over between processes costs one statement, and no read: the news carries the record", async () => {
  await using world = new World();
  const peers = [world.peer(), world.peer(), world.peer(), world.peer()];
  const id = fresh();
  let turns = 0;
  // Others of each process are queued by the time that one of them asks again.
  const take = async (times: number) => {
    await Promise.all(peers.flatMap((peer) =>
      Array.from({ length: 5 }, async () => {
        for (let i = 0; i < times; i++) {
          const held = await acquire(peer.backend, id);
          turns++;
          await delay(2);
          await held.release();
        }
      })
    ));
  };
  await take(2);
  turns = 0;
  const calls = await counted(peers[0]);
  await take(8);
  const { all, reads } = await calls();
  // The first joins are in there.
  assert(all < 1.5 * turns, `${all} statements for ${turns} turns`);
  assert(reads < 0.2 * turns, `${reads} looks for ${turns} turns`);
});

/** Begins to count the statements on the table, and answers what counts how many there have been. */
async function counted({ sql }: TestPeer): Promise<() => Promise<{ all: number; reads: number }>> {
  await sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
  await sql("SELECT pg_stat_statements_reset()");
  return async () => {
    const [{ all, reads }] = await sql(
      "SELECT coalesce(sum(calls), 0) AS all, coalesce(sum(calls) FILTER (WHERE query LIKE 'SELECT%'), 0) AS reads " +
        "FROM pg_stat_statements WHERE query LIKE '%holdfast_lock%'",
    );
    return { all: Number(all), reads: Number(reads) };
  };
}

test("where no process watches, nothing is sent", async () => {
  await using world = new World();
  const a = world.peer();
  const listener = await world.session();
  await (await acquire(a.backend, fresh())).release();
  const [{ channel }] = await a.sql("SELECT 'holdfast_' || 'holdfast_lock'::regclass::oid AS channel");
  const heard: string[] = [];
  listener.on("notification", ({ payload }: { payload?: string }) => heard.push(payload ?? ""));
  await listener.query(`LISTEN "${channel}"`);
  const id = fresh();
  await (await acquire(a.backend, id)).release();
  await a.sql(`SELECT pg_notify('${channel}', 'the end')`);
  await until(() => heard.includes("the end"));
  assertEquals(heard.filter((text) => text.includes(id)), []);
});

test("what one process cannot hear, it polls: behind PgBouncer in transaction mode", async () => {
  await using world = new World();
  await using bouncer = await PgBouncer.start(server!, "transaction");
  for (const client of ["pg Pool", "pg Client", "postgres.js"]) {
    const [a, b] = [await world.peerWith(client, bouncer.port), await world.peerWith(client, bouncer.port)];
    const id = fresh();
    const held = await acquire(a.backend, id);
    const waiting = acquire(b.backend, id);
    await until(() => b.backend.name?.endsWith("polling)"));
    await held.release();
    await (await waiting).release();
  }
}, missingPgBouncer());

test("where notifications arrive, it listens", async () => {
  await using world = new World();
  for (const client of ["pg Pool", "pg Client", "postgres.js"]) {
    const [a, b] = [await world.peerWith(client), await world.peerWith(client)];
    const id = fresh();
    const held = await acquire(a.backend, id);
    const waiting = acquire(b.backend, id);
    await until(() => b.backend.name?.endsWith("listening)"));
    assertEquals(b.backend.graceMs, 200);
    await held.release();
    await (await waiting).release();
  }
});

test("a waiter that polls looks as often as is said, and says so", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer({ options: { notifications: "poll", pollMs: 100 } })];
  assert(b.backend.name?.endsWith(", polling)"));
  assertEquals(b.backend.graceMs, 350);
  const id = fresh();
  const held = await acquire(a.backend, id);
  let reads = 0;
  const { read } = b.backend;
  b.backend.read = (keys) => (reads++, read.call(b.backend, keys));
  assertEquals(await Lock.acquire(id, { backend: b.backend, waitForMs: 1000 }), null);
  assert(reads >= 3 && reads <= 45, `${reads} looks in a second`);
  await held.release();
});

async function until(is: () => boolean | undefined): Promise<void> {
  while (!is()) await new Promise((resolve) => setTimeout(resolve, 10));
}

test("a command under `holdfast run` and a service exclude each other, by the same DATABASE_URL", async () => {
  await using world = new World();
  const service = world.peer();
  const id = fresh();
  // What a host of apps sets, and nothing else.
  const place = { program: ON_DENO, store: "", env: { REDIS_URL: "", DATABASE_URL: world.server.url } };
  const held = await acquire(service.backend, id, { label: "the service" });
  const refused = await finish(place, ["run", id, "--no-wait", "--", "echo", "never"]);
  assertEquals([refused.code, refused.out], [75, ""]);
  assertStringIncludes(refused.err, 'held by "the service"');
  await using command = new Program(
    place,
    "run",
    id,
    "--label",
    "a script",
    "--",
    "sh",
    "-c",
    "echo runs; cat",
  );
  await untilQueued(service, id);
  assertEquals(await held.release(), true);
  await command.says("runs");
  assertEquals(await Lock.acquire(id, { backend: service.backend, wait: false }), null);
  assertEquals((await command.hears().outcome()).code, 0);
  const again = await acquire(service.backend, id);
  assert(again.fencingToken > held.fencingToken);
  await again.release();
});
