/**
 * How late `holdfast run` sends SIGTERM to its command after the lock was lost. Run it with `deno task bench:loss`, on a
 * machine that has nothing else to do; it needs `redis-server`, and takes two minutes.
 */

import { Redis } from "ioredis6";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { kvBackend } from "../backends/kv.ts";
import { redisBackend } from "../backends/redis.ts";
import { forceRelease, Lock, type LockBackend, peek } from "../mod.ts";
import { now } from "../tests/support/child.ts";
import { ON_DENO, Program } from "../tests/support/cli_program.ts";
import { RedisServer } from "../tests/support/redis_server.ts";

/** How often each loss is measured. */
const TIMES = 12;
/** How many commands run at once where each loss takes a lease. */
const AT_ONCE = 4;
/** How long each lock has been held by then: a holder of more than a second is notified by the store. */
const HELD_MS = 2000;

const COMMAND = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-check",
  "-A",
  fileURLToPath(new URL("./told.ts", import.meta.url)),
];

/** A store that the measured program and this one share. */
interface Shared {
  readonly store: string;
  readonly backend: LockBackend;
}

/** Runs the command under a lock of its own, loses the lock, and resolves to how late the command was notified. */
async function measure(
  { store, backend }: Shared,
  options: string[],
  lose: (identifier: string, program: Program, backend: LockBackend) => Promise<number>,
): Promise<number> {
  const identifier = crypto.randomUUID();
  await using program = new Program(
    { program: ON_DENO, store },
    "run",
    identifier,
    ...options,
    "--",
    ...COMMAND,
  );
  await program.says("ready");
  await sleep(HELD_MS);
  const lostAt = await lose(identifier, program, backend);
  await program.says("bye");
  return Number(/told (.*)/.exec(program.out)![1]) - lostAt;
}

/** An operator or a waiter evicts the holder. */
async function evict(identifier: string, _program: Program, backend: LockBackend): Promise<number> {
  await forceRelease(identifier, { backend });
  return now();
}

/** The program stands still for longer than its lease, another process takes the lock, and the program goes on. */
async function suspend(identifier: string, program: Program, backend: LockBackend): Promise<number> {
  program.signal("SIGSTOP");
  const next = await Lock.acquire(identifier, { backend });
  const goesOnAt = now();
  program.signal("SIGCONT");
  await next!.release();
  return goesOnAt;
}

async function inTurn(times: number, measured: () => Promise<number>): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < times; i++) all.push(await measured());
  return all;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function print(store: string, loss: string, times: number[]): void {
  const sorted = times.sort((a, b) => a - b);
  const [median, most] = [sorted[Math.floor(sorted.length / 2)], sorted.at(-1)!];
  const figures = [sorted.length, median.toFixed(0), most.toFixed(0)].map((figure) =>
    `${figure}`.padStart(9)
  );
  console.log(`${store.padEnd(14)}${loss.padEnd(44)}${figures.join("")}`);
}

console.log(`${"store".padEnd(14)}${"the lock is lost because".padEnd(44)}    times   p50 ms   max ms`);

const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
const kv = await Deno.openKv(`${folder}/locks.db`);
const file = { store: `kv:${folder}/locks.db`, backend: kvBackend(kv) };
print("Deno KV file", "it is evicted", await inTurn(TIMES, () => measure(file, [], evict)));
kv.close();
await Deno.remove(folder, { recursive: true });

await using server = await RedisServer.start();
const client = new Redis({ port: server.port, host: "127.0.0.1" });
const redis = { store: `redis://127.0.0.1:${server.port}`, backend: redisBackend(client) };
print("Redis", "it is evicted", await inTurn(TIMES, () => measure(redis, [], evict)));
const suspended = await inTurn(TIMES / 2, () => measure(redis, ["--lease", "1s"], suspend));
print("Redis", "holdfast was suspended, counted from its end", suspended);

// All at once: the server stands still until each has found out by itself.
let frozen = 0;
let freeze = () => {};
const isFrozen = new Promise<void>((resolve) => freeze = resolve);
const unreachable = await Promise.all(
  Array.from(
    { length: AT_ONCE },
    () =>
      measure(redis, ["--lease", "20s"], async (identifier, _program, backend) => {
        const { holders: [{ leaseLeftMs }] } = await peek(identifier, { backend });
        const endsAt = now() + leaseLeftMs;
        if (++frozen === AT_ONCE) {
          process.kill(server.pid, "SIGSTOP");
          freeze();
        }
        await isFrozen;
        return endsAt;
      }),
  ),
);
print("Redis", "Redis does not answer, from the lease's end", unreachable);
process.kill(server.pid, "SIGCONT");
client.disconnect();
await redis.backend[Symbol.asyncDispose]();
