/** A process whose pool is closed while it waits for a lock, see `refusals_test.ts`. Arguments: the port, the lock. */

import { argv } from "node:process";
import { postgresBackend } from "@holdfast/lock/backends/postgres";
import pg from "pg";
import { Lock } from "../../mod.ts";

const [, , port, id] = argv;
const pool = new pg.Pool({ host: "127.0.0.1", port: Number(port), user: "postgres" });
pool.on("error", () => {});
const backend = postgresBackend(pool);
const waiting = Lock.acquire(id, { backend }).catch((error) => error);
while (!backend.name?.endsWith("listening)")) await new Promise((resolve) => setTimeout(resolve, 10));
await pool.end();
const { message } = await waiting;
console.log(`refused: ${/the Postgres client is closed/.exec(message)?.[0] ?? message}`);
