/**
 * What a lock on Redis costs above the least that it could: `SET NX PX` and a compare-and-delete script on the same
 * connection, in the same run. It needs `redis-server` and `taskset`, and a machine that has nothing else to do:
 *
 * `deno bundle --output /tmp/bench.mjs bench/redis.ts && node --expose-gc /tmp/bench.mjs`
 *
 * Argument: the names of the parts to run, all by default.
 */

import { execFileSync } from "node:child_process";
import { argv, exit, pid } from "node:process";
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis5";
import { lock } from "../mod.ts";
import { Lock } from "../core/lock.ts";
import { redisBackend } from "../backends/redis.ts";
import { RedisServer } from "../tests/redis_server.ts";

const ROUNDS = 31;
const ROUND_MS = 150;
const RELEASE =
  "if redis.call('GET',KEYS[1]) == ARGV[1] then return redis.call('DEL',KEYS[1]) else return 0 end";

const parts = argv.slice(2);
const server = await RedisServer.start();
const client = new Redis({ port: server.port, host: "127.0.0.1" });
const backend = redisBackend(client);
const sha = await client.script("LOAD", RELEASE) as string;

async function floor(name: string): Promise<void> {
  const token = randomUUID();
  if (await client.set(name, token, "PX", 30_000, "NX") !== "OK") throw new Error("taken");
  await client.evalsha(sha, 1, name, token);
}

async function ours(name: string): Promise<void> {
  const held = await Lock.acquire(name, { backend });
  await held!.release();
}

/** Pairs a second, of `width` loops at once on identifiers of their own. */
async function rate(pair: (name: string) => Promise<void>, width: number): Promise<number> {
  const started = performance.now();
  let pairs = 0;
  await Promise.all(Array.from({ length: width }, async (_, i) => {
    while (performance.now() - started < ROUND_MS) {
      await pair(`bench:${i}`);
      pairs++;
    }
  }));
  return pairs / (performance.now() - started) * 1000;
}

async function commands(): Promise<number> {
  const info = await client.info("commandstats");
  return [...info.matchAll(/^cmdstat_(?!info|client|config)([^:]+):calls=(\d+)/gm)].reduce(
    (sum, [, name, calls]) => name === "evalsha" || name === "eval" ? sum + Number(calls) : sum,
    0,
  );
}

async function ratio(width: number): Promise<string> {
  for (const pair of [floor, ours, floor, ours]) await rate(pair, width);
  const ratios: number[] = [];
  const rates: number[][] = [[], []];
  for (let i = 0; i < ROUNDS; i++) {
    // Whoever goes first in one round goes last in the next.
    const order = i % 2 === 0 ? [floor, ours] : [ours, floor];
    const found = new Map<unknown, number>();
    for (const pair of order) found.set(pair, await rate(pair, width));
    ratios.push(found.get(ours)! / found.get(floor)!);
    rates[0].push(found.get(floor)!);
    rates[1].push(found.get(ours)!);
  }
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];
  return `${median(ratios).toFixed(3)} (floor ${median(rates[0]).toFixed(0)}, ours ${
    median(rates[1]).toFixed(0)
  })`;
}

function pin(cpus: string): void {
  for (const [id, list] of [[pid, cpus.split("/")[0]], [server.pid, cpus.split("/")[1]]]) {
    execFileSync("taskset", ["-acp", String(list), String(id)], { stdio: "ignore" });
  }
}

const wanted = (part: string) => parts.length === 0 || parts.includes(part);
if (wanted("ratio")) {
  for (const [name, cpus] of [["one CPU", "0/0"], ["two CPUs", "0/1"]]) {
    pin(cpus);
    for (const width of [1, 64]) console.log(`${name}, ${width} at once: ${await ratio(width)}`);
  }
}
if (wanted("count")) {
  const before = await commands();
  for (let i = 0; i < 1000; i++) await ours("count");
  console.log(`commands a pair: ${(await commands() - before) / 1000}`);
}
void lock;
await backend[Symbol.asyncDispose]();
client.disconnect();
await server.stop();
exit();
