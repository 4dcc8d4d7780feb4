/**
 * What a lock on Postgres costs above the least that it could, in the same run and on the same connection: beside two
 * bare statements by primary key, `pg_advisory_lock` and `@verrou/core`; what twenty contenders cost, and how long a
 * hand-off takes. It needs a Postgres server and Node, and a machine that has nothing else to do:
 * `deno task bench:postgres`.
 *
 * Arguments: the parts to run, of `pair` and `contend`; all by default.
 */

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { argv, execPath, exit } from "node:process";
import { createInterface } from "node:readline";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { Verrou } from "@verrou/core";
import { kyselyStore } from "@verrou/core/drivers/kysely";
import { postgresBackend } from "../backends/postgres.ts";
import { Lock } from "../mod.ts";
import { PostgresServer } from "../tests/support/postgres_server.ts";

const ROUNDS = 31;
const ROUND_MS = 100;
const CONTENDERS = 20;
const TIMES = 10;
const HOLD_MS = 2;

/** What is compared: how it is called, and one acquisition and release. */
type Pair = (name: string) => Promise<void>;
type How = "ours" | "advisory" | "verrou";
const HOWS: readonly How[] = ["ours", "advisory", "verrou"];

if (argv[2] === "child") {
  await child(argv[3], Number(argv[4]), argv[5] as How);
  exit();
}
const parts = argv.slice(2);
for (const sync of ["on", "off"]) {
  const server = await PostgresServer.start({
    config: ["fsync=on", `synchronous_commit=${sync}`, "max_connections=200"],
  });
  try {
    if (parts.length === 0 || parts.includes("pair")) await pairs(server, sync);
    if (sync === "on" && (parts.length === 0 || parts.includes("contend"))) {
      for (const processes of [1, 4]) {
        for (const how of HOWS) await contention(server, processes, how);
      }
    }
  } finally {
    await server.stop();
  }
}
exit();

/** Pairs of acquire and release, one at a time, on one connection. */
async function pairs(server: PostgresServer, sync: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query("CREATE TABLE bare (id text PRIMARY KEY, token text, expires timestamptz)");
  await client.query(
    "CREATE TABLE fenced (id text PRIMARY KEY, token text, expires timestamptz, fence bigint DEFAULT 1)",
  );
  const backend = postgresBackend(client);
  const pool = new pg.Pool({ connectionString: server.url, max: 1 });
  const verrou = verrouOn(pool);
  const run = (text: string, name?: string) => (values: unknown[]) => client.query({ name, text, values });
  // By hand: a lock row that is taken if it is free or expired, and given back by the one that has it.
  const take = `INSERT INTO bare VALUES ($1, $2, now() + interval '30 s')
    ON CONFLICT (id) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE bare.expires < now()`;
  const give = "DELETE FROM bare WHERE id = $1 AND token = $2";
  // The same with a fencing token, for which the row has to stay.
  const takeFenced = `INSERT INTO fenced VALUES ($1, $2, now() + interval '30 s') ON CONFLICT (id)
    DO UPDATE SET token = excluded.token, expires = excluded.expires, fence = fenced.fence + 1
    WHERE fenced.expires < now() RETURNING fence`;
  const giveFenced = "UPDATE fenced SET expires = '-infinity' WHERE id = $1 AND token = $2";
  const two = (first: ReturnType<typeof run>, second: ReturnType<typeof run>): Pair => async (name) => {
    const values = [name, randomUUID()];
    const { rowCount } = await first(values);
    if (rowCount !== 1) throw new Error("taken");
    await second(values);
  };
  const kinds: Record<string, Pair> = {
    "ours": async (name) => void await (await Lock.acquire(name, { backend }))!.release(),
    "two bare statements, prepared": two(run(take, "take"), run(give, "give")),
    "two bare statements with a fencing token, prepared": two(
      run(takeFenced, "takeFenced"),
      run(giveFenced, "giveFenced"),
    ),
    "two bare statements": two(run(take), run(give)),
    "pg_advisory_lock and unlock": async (name) => {
      await client.query("SELECT pg_advisory_lock(hashtext($1))", [name]);
      await client.query("SELECT pg_advisory_unlock(hashtext($1))", [name]);
    },
    "@verrou/core": async (name) => {
      const lock = verrou(name);
      await lock.acquire();
      await lock.release();
    },
  };
  const names = Object.keys(kinds);
  const rates = new Map(names.map((name) => [name, [] as number[]]));
  for (let round = -3; round < ROUNDS; round++) {
    for (const i of names.keys()) {
      // The first in one round is the last in another.
      const name = names[(i + round + names.length) % names.length];
      const started = performance.now();
      let count = 0;
      while (performance.now() - started < ROUND_MS) await kinds[name](`bench:${count++ % 8}`);
      if (round >= 0) rates.get(name)!.push(count / (performance.now() - started) * 1000);
    }
  }
  const ours = rates.get("ours")!;
  for (const [name, other] of rates) {
    const share = median(ours.map((rate, i) => rate / other[i]));
    console.log(
      `synchronous_commit ${sync}: ${name}: ${median(other).toFixed(0)} pairs a second, ours are ${
        share.toFixed(2)
      } of it`,
    );
  }
  await backend[Symbol.asyncDispose]();
  await client.end();
  await pool.end();
}

/** Locks of `@verrou/core` by its driver for Kysely. */
function verrouOn(pool: pg.Pool) {
  const connection = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  const verrou = new Verrou({
    default: "postgres",
    stores: { postgres: { driver: kyselyStore({ connection }) } },
  });
  return (name: string) => verrou.createLock(name);
}

/** Twenty contenders for one lock, each of which takes it ten times for 2 ms and asks again at once. */
async function contention(server: PostgresServer, processes: number, how: How): Promise<void> {
  const started = performance.now();
  const spans: [number, number][] = [];
  await Promise.all(Array.from({ length: processes }, async () => {
    const args = [argv[1], "child", server.url, `${CONTENDERS / processes}`, how];
    const process = spawn(execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: process.stdout! })) spans.push(JSON.parse(line));
  }));
  spans.sort(([a], [b]) => a - b);
  const held = spans.reduce((sum, [from, to]) => sum + to - from, 0);
  const gaps = spans.slice(1).map(([from], i) => from - spans[i][1]).sort((a, b) => a - b);
  const overlaps = gaps.filter((gap) => gap < 0).length;
  const whole = spans.at(-1)![1] - spans[0][0];
  console.log(
    `${processes} processes, ${how}: ${spans.length} holds in ${whole.toFixed(0)} ms (${
      (whole / held).toFixed(2)
    } of the real holds), hand-off p50 ${gaps[gaps.length >> 1].toFixed(2)} p99 ${
      gaps[Math.floor(gaps.length * 0.99)].toFixed(2)
    } ms, overlaps ${overlaps}, ${(performance.now() - started).toFixed(0)} ms with the start`,
  );
}

async function child(url: string, contenders: number, how: How): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: contenders + 1 });
  const backend = postgresBackend(pool);
  const now = () => performance.timeOrigin + performance.now();
  const work = async () => {
    const from = now();
    await new Promise((resolve) => setTimeout(resolve, HOLD_MS));
    console.log(JSON.stringify([from, now()]));
  };
  const ours = async () => {
    for (let i = 0; i < TIMES; i++) {
      const held = (await Lock.acquire("contended", { backend }))!;
      await work();
      await held.release();
    }
  };
  const advisory = async () => {
    for (let i = 0; i < TIMES; i++) {
      const client = await pool.connect();
      await client.query("SELECT pg_advisory_lock(1)");
      await work();
      await client.query("SELECT pg_advisory_unlock(1)");
      client.release();
    }
  };
  const lock = verrouOn(pool);
  const verrou = async () => {
    for (let i = 0; i < TIMES; i++) {
      const held = lock("contended");
      await held.acquire();
      await work();
      await held.release();
    }
  };
  const kinds: Record<How, () => Promise<void>> = { ours, advisory, verrou };
  await Promise.all(Array.from({ length: contenders }, kinds[how]));
  await backend[Symbol.asyncDispose]();
  await pool.end();
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
