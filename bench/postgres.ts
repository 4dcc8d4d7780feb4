/**
 * What a lock on Postgres costs above the least that it could: two statements by primary key on the same connection, in
 * the same run; beside `pg_advisory_lock`; what twenty contenders cost, and how long a hand-off takes. It needs a Postgres
 * server and Node, and a machine that has nothing else to do: `deno task bench:postgres`.
 *
 * Arguments: the parts to run, of `pair` and `contend`; all by default.
 */

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { argv, execPath, exit } from "node:process";
import { createInterface } from "node:readline";
import pg from "pg";
import { postgresBackend } from "../backends/postgres.ts";
import { Lock } from "../mod.ts";
import { PostgresServer } from "../tests/support/postgres_server.ts";

const ROUNDS = 15;
const ROUND_MS = 200;
const CONTENDERS = 20;
const TIMES = 10;
const HOLD_MS = 2;

type Pair = (name: string) => Promise<void>;

if (argv[2] === "child") {
  await child(argv[3], Number(argv[4]), argv[5] as "ours" | "advisory");
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
        for (const how of ["ours", "advisory"]) await contention(server, processes, how);
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
  const backend = postgresBackend(client);
  const take = `INSERT INTO bare VALUES ($1, $2, now() + interval '30 s')
    ON CONFLICT (id) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE bare.expires < now()`;
  const give = "DELETE FROM bare WHERE id = $1 AND token = $2";
  const bare = (kept: boolean): Pair => async (name) => {
    const values = [name, randomUUID()];
    await client.query({ name: kept ? "take" : undefined, text: take, values });
    await client.query({ name: kept ? "give" : undefined, text: give, values });
  };
  const kinds: Record<string, Pair> = {
    "ours": async (name) => void await (await Lock.acquire(name, { backend }))!.release(),
    "two bare statements": bare(false),
    "two bare statements, prepared": bare(true),
    "pg_advisory_lock and unlock": async (name) => {
      await client.query("SELECT pg_advisory_lock(hashtext($1))", [name]);
      await client.query("SELECT pg_advisory_unlock(hashtext($1))", [name]);
    },
  };
  const rates = new Map(Object.keys(kinds).map((name) => [name, [] as number[]]));
  for (let round = -2; round < ROUNDS; round++) {
    for (const [name, pair] of Object.entries(kinds)) {
      const started = performance.now();
      let count = 0;
      while (performance.now() - started < ROUND_MS) await pair(`bench:${count++ % 8}`);
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
}

/** Twenty contenders for one lock, each of which takes it ten times for 2 ms and asks again at once. */
async function contention(server: PostgresServer, processes: number, how: string): Promise<void> {
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

async function child(url: string, contenders: number, how: "ours" | "advisory"): Promise<void> {
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
  await Promise.all(Array.from({ length: contenders }, how === "ours" ? ours : advisory));
  await backend[Symbol.asyncDispose]();
  await pool.end();
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
