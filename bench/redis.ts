/**
 * What a lock on Redis costs above the least that it could: `SET NX PX` and a compare-and-delete script on the same
 * connection, in the same run, and above its own scripts without the library; what contenders and waiters cost. It
 * needs `redis-server`, `taskset` and Node, and a machine that has nothing else to do: `deno task bench:redis`.
 *
 * Arguments: the parts to run, of `ratio`, `count`, `contend` and `waiters`; all by default.
 */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { argv, execPath, exit, memoryUsage, pid, stdin } from "node:process";
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis5";
import { Lock } from "../mod.ts";
import { redisBackend } from "../backends/redis.ts";
import { RedisServer } from "../tests/support/redis_server.ts";

const ROUNDS = 31;
const ROUND_MS = 150;
const CONTENTIONS = 5;
const RELEASE =
  "if redis.call('GET',KEYS[1]) == ARGV[1] then return redis.call('DEL',KEYS[1]) else return 0 end";

if (argv[2] === "child") {
  await child(Number(argv[3]), Number(argv[4]));
  await new Promise(() => setInterval(() => {}, 1000));
}
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

/** What the library sends, without the library: the least that a lock with a fencing token and news costs. */
const scripts = await (async () => {
  const sent: Parameters<Redis["evalsha"]>[] = [];
  const spy = new Proxy(client, {
    get(target, name) {
      const member = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: Parameters<Redis["evalsha"]>) => {
        if (name === "evalsha") sent.push(args);
        return member.apply(target, args);
      };
    },
  });
  // Twice, for the first time the server does not know the scripts.
  for (let i = 0; i < 2; i++) await (await Lock.acquire("spied", { backend: redisBackend(spy) }))!.release();
  const [[create, , , counter, record, expire], [remove, , , , at]] = sent.slice(-2) as string[][];
  return async (name: string) => {
    const version = await client.evalsha(create, 2, name, counter, record, expire) as string;
    await client.evalsha(remove, 1, name, version, at);
  };
})();

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
  const pairs = [floor, ours, scripts];
  for (const pair of [...pairs, ...pairs]) await rate(pair, width);
  const rates = pairs.map((): number[] => []);
  for (let i = 0; i < ROUNDS; i++) {
    // The first in one round is the last in another.
    for (const k of pairs.keys()) {
      const turn = (k + i) % pairs.length;
      rates[turn].push(await rate(pairs[turn], width));
    }
  }
  const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];
  const share = (of: number, whole: number) =>
    median(rates[of].map((own, i) => own / rates[whole][i])).toFixed(3);
  return `${share(1, 0)} of the floor, ${share(1, 2)} of its own scripts without the library, which reach ${
    share(2, 0)
  } (floor ${median(rates[0]).toFixed(0)}, ours ${median(rates[1]).toFixed(0)} a second)`;
}

function pin(cpus: string): void {
  for (const [id, list] of [[pid, cpus.split("/")[0]], [server.pid, cpus.split("/")[1]]]) {
    execFileSync("taskset", ["-acp", String(list), String(id)], { stdio: "ignore" });
  }
}

/** 20 contenders, each of which takes one lock 10 times for 2 ms and asks again at once. The median of the rounds. */
async function contend(processes: number): Promise<string> {
  const rounds: Contention[] = [];
  for (let i = 0; i < CONTENTIONS; i++) rounds.push(await contention(processes));
  const middle = (figure: keyof Contention) =>
    rounds.map((round) => round[figure]).sort((a, b) => a - b)[CONTENTIONS >> 1].toFixed(2);
  const most = (figure: keyof Contention) => Math.max(...rounds.map((round) => round[figure])).toFixed(2);
  return `${middle("total")} of the real holds (at worst ${most("total")}), ${
    middle("commands")
  } commands each, ` +
    `hand-off p50 ${middle("p50")} p99 ${middle("p99")} ms (at worst ${most("p99")}), ` +
    `unfairness ${most("unfairness")} at worst, overlaps ${most("overlaps")}`;
}

/** What one round came to. */
interface Contention {
  /** The whole time as a multiple of the sum of all holds. */
  readonly total: number;
  readonly commands: number;
  readonly p50: number;
  readonly p99: number;
  readonly overlaps: number;
  /** The most acquisitions of one as a multiple of the least, while all were still asking. */
  readonly unfairness: number;
}

async function contention(processes: number): Promise<Contention> {
  const children = Array.from({ length: processes }, () => {
    const args = [argv[1], "child", String(server.port), String(20 / processes)];
    return spawn(execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  });
  const outputs = children.map((child) => createInterface({ input: child.stdout }));
  const next = (i: number) => new Promise<string>((resolve) => outputs[i].once("line", resolve));
  await Promise.all(children.map((_, i) => next(i)));
  const before = await commands();
  const answers = children.map((_, i) => next(i));
  for (const child of children) child.stdin.write("go\n");
  const holds = (await Promise.all(answers)).flatMap((line, process) =>
    (JSON.parse(line) as Hold[]).map((hold) => ({ ...hold, who: `${process}/${hold.who}`, process }))
  ).sort((a, b) => a.from - b.from);
  for (const child of children) child.kill();
  const gaps = holds.slice(1).map(({ from }, i) => from - holds[i].to).sort((a, b) => a - b);
  const end = Math.min(...[...groups(holds).values()].map((own) => own.at(-1)!.to));
  const shares = [...groups(holds.filter(({ to }) => to <= end)).values()].map(({ length }) => length);
  return {
    total: (holds.at(-1)!.to - Math.min(...holds.map(({ asked }) => asked))) /
      holds.reduce((sum, { from, to }) => sum + to - from, 0),
    commands: (await commands() - before) / holds.length,
    p50: gaps[gaps.length >> 1],
    p99: gaps[Math.floor(gaps.length * 0.99)],
    overlaps: holds.slice(1).filter(({ from }, i) => from < holds[i].to).length,
    unfairness: Math.max(...shares) / Math.min(...shares),
  };
}

interface Hold {
  readonly who: number;
  readonly asked: number;
  readonly from: number;
  readonly to: number;
}

function groups<Held extends { readonly who: unknown }>(holds: readonly Held[]): Map<unknown, Held[]> {
  const found = new Map<unknown, Held[]>();
  for (const hold of holds) found.set(hold.who, [...found.get(hold.who) ?? [], hold]);
  return found;
}

async function child(port: number, contenders: number): Promise<void> {
  const client = new Redis({ port, host: "127.0.0.1" });
  const backend = redisBackend(client);
  const now = () => performance.timeOrigin + performance.now();
  // A process that has just started runs its first hundreds of calls many times slower: alone, and against others.
  for (let i = 0; i < 300; i++) await (await Lock.acquire(`warm:${pid}`, { backend }))!.release();
  await Promise.all(Array.from({ length: contenders }, async () => {
    for (let i = 0; i < 100; i++) await (await Lock.acquire("warm", { backend }))!.release();
  }));
  console.log("ready");
  await once(stdin, "data");
  const holds: Hold[] = [];
  await Promise.all(Array.from({ length: contenders }, async (_, who) => {
    for (let i = 0; i < 10; i++) {
      const asked = now();
      const held = await Lock.acquire("contended", { backend });
      const from = now();
      await new Promise((resolve) => setTimeout(resolve, 2));
      holds.push({ who, asked, from, to: now() });
      await held!.release();
    }
  }));
  console.log(JSON.stringify(holds));
}

/** What waiting costs in memory and in commands. */
async function waiters(count: number): Promise<string> {
  const held = await Lock.acquire("popular", { backend: redisBackend(client) });
  const give = new AbortController();
  // One to begin with, so that the connection and its code are there already.
  const waits = [Lock.acquire("popular", { backend, signal: give.signal }).catch(() => {})];
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const heap = () => {
    (globalThis as { gc?: () => void }).gc?.();
    return memoryUsage().heapUsed;
  };
  const before = heap();
  for (let i = 0; i < count; i++) {
    waits.push(Lock.acquire("popular", { backend, signal: give.signal }).catch(() => {}));
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  const each = (heap() - before) / count;
  const asked = await commands();
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  const idle = await commands() - asked;
  give.abort();
  await Promise.all(waits);
  await held?.release();
  return `${count} waiters: ${
    (each / 1024).toFixed(2)
  } KiB of heap each, ${idle} commands in 20 idle seconds`;
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
if (wanted("contend")) {
  pin("0-1/0-1");
  for (const processes of [1, 4]) console.log(`${processes} processes: ${await contend(processes)}`);
}
if (wanted("waiters")) console.log(await waiters(1000));
await backend[Symbol.asyncDispose]();
client.disconnect();
await server.stop();
exit();
