/**
 * What happens to locks when their Redis server fails, in each way in which it can. The name of each test says the
 * outcome that was expected before it was run.
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { createConnection, createServer, type Socket } from "node:net";
import { Cluster, Redis } from "ioredis5";
import { Redis as Redis6 } from "ioredis6";
import { createClient, RESP_TYPES } from "redis6";
import { commitIfHeld, hashTag, type RedisBackend, redisBackend } from "../backends/redis.ts";
import type { LockBackend } from "../core/backend.ts";
import { decode } from "../core/record/codec.ts";
import { Lock, LockBackendError, LockLostError, type LockOptions } from "../mod.ts";
import { CLIENTS } from "./redis_clients.ts";
import { freePort, missingRedis, RedisServer, type RedisServerOptions } from "./redis_server.ts";

const LIMIT_MS = 20_000;
const missing = missingRedis();

/** Some processes' worth of connections to one server. */
class World implements AsyncDisposable {
  readonly server: RedisServer;
  readonly #closing: (() => Promise<void>)[] = [];
  readonly #lines: SlowLine[] = [];

  constructor(server: RedisServer) {
    this.server = server;
  }

  static async start(options?: RedisServerOptions): Promise<World> {
    return new World(await RedisServer.start(options));
  }

  async peer(
    port = this.server.port,
    connect = CLIENTS["ioredis 5"],
  ): Promise<{ backend: LockBackend; client: Redis }> {
    const { client, close } = await connect(port);
    const backend = redisBackend(client);
    this.#closing.push(async () => {
      await backend[Symbol.asyncDispose]();
      await close();
    });
    return { backend, client: client as unknown as Redis };
  }

  /** A replica of the server, in step with it. */
  async replica(): Promise<RedisServer> {
    await this.server.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0");
    const replica = await RedisServer.start({ config: ["--replicaof", "127.0.0.1", `${this.server.port}`] });
    this.#closing.push(() => replica.stop());
    while (!(await replica.ask("INFO", "replication")).includes("master_link_status:up")) await delay(10);
    return replica;
  }

  /** What the lines lead to from now on, for those who connect anew. */
  switchTo(port: number): void {
    for (const line of this.#lines) line.switchTo(port);
  }

  /** The lines cut themselves when the next answer comes, and lose it. */
  loseAnswer(): void {
    for (const line of this.#lines) line.cutting = true;
  }

  /** The port of a line to the server that takes `ms` each way. */
  async slowPort(ms: number): Promise<number> {
    const line = await SlowLine.open(this.server.port, ms);
    this.#lines.push(line);
    this.#closing.push(() => line.close());
    return line.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing.reverse()) await close();
    await this.server.stop();
  }
}

function test(name: string, play: () => Promise<void>): void {
  if (missing !== undefined) return Deno.test.ignore(`Redis: ${name} (${missing})`, () => {});
  // A client that loses its server in the middle of its greeting leaves a timer of two seconds behind.
  Deno.test({ name: `Redis: ${name}`, sanitizeOps: false, sanitizeResources: false }, async () => {
    let stop = () => {};
    const limit = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error(`hangs for ${LIMIT_MS} ms`)), LIMIT_MS);
      stop = () => clearTimeout(timer);
    });
    await Promise.race([play(), limit]).finally(stop);
  });
}

async function acquire(backend: LockBackend, options: LockOptions = {}): Promise<Lock> {
  return (await Lock.acquire("job", { ...options, backend }))!;
}

function lossOf({ signal }: Lock): Promise<LockLostError> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    else signal.addEventListener("abort", () => resolve(signal.reason), { once: true });
  });
}

/** Until `count` processes stand in line. */
async function lined(backend: LockBackend, count: number, name = "job"): Promise<void> {
  for await (const { key, value } of backend.watch(name, { signal: new AbortController().signal })) {
    if (decode(key, value).queue.length === count) return;
  }
}

const AOF = ["--appendonly", "yes", "--appendfsync", "always"];

test("a server with AOF is killed and restarted: the holder keeps the lock, the waiter gets it next", async () => {
  await using world = await World.start({ config: AOF });
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 6000 });
  const waiting = acquire(b.backend);
  await lined(a.backend, 1);
  await world.server.kill();
  await world.server.start();
  assertEquals(await commitIfHeld(held, [["SET", "value", "fresh"]]), ["OK"]);
  assert(held.held);
  assert(await held.release());
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assert(await next.release());
});

test("a server without AOF is restarted: the waiter gets the lock, the holder is told, its writes are refused", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 3000 });
  const waiting = acquire(b.backend);
  await lined(a.backend, 1);
  await world.server.kill();
  await world.server.start();
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assertEquals((await lossOf(held)).reason, "expired");
  assertEquals(await held.release(), false);
  assertEquals(await commitIfHeld(next, [["SETNX", "value", "fresh"]]), [1]);
  assert(await next.release());
});

for (const make of ["ioredis 5", "ioredis 6", "node-redis 6"]) {
  test(`${make}: failover to a replica that has the grant: it stays held, and the waiter gets it next`, async () => {
    await using world = await World.start();
    const replica = await world.replica();
    const [a, b] = await Promise.all(
      [1, 2].map(async () => world.peer(await world.slowPort(0), CLIENTS[make])),
    );
    const held = await acquire(a.backend, { leaseMs: 3000 });
    const waiting = acquire(b.backend, { leaseMs: 3000 });
    await lined(a.backend, 1);
    await caughtUp(world.server, replica);
    await world.server.kill();
    await replica.ask("REPLICAOF", "NO", "ONE");
    world.switchTo(replica.port);
    assertEquals(await onceBack(() => commitIfHeld(held, [["SET", "value", "fresh"]])), ["OK"]);
    assert(held.held);
    assert(await held.release());
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    assert(await next.release());
  });

  test(`${make}: failover to a replica that lacks the grant: the next one gets it, the holder is told`, async () => {
    await using world = await World.start();
    const replica = await world.replica();
    const [a, b] = await Promise.all(
      [1, 2].map(async () => world.peer(await world.slowPort(0), CLIENTS[make])),
    );
    const before = await acquire(a.backend);
    await before.release();
    await caughtUp(world.server, replica);
    // From here on, what is written is lost.
    await replica.ask("REPLICAOF", "NO", "ONE");
    const held = await acquire(a.backend, { leaseMs: 3000 });
    const waiting = acquire(b.backend, { leaseMs: 3000 });
    await lined(a.backend, 1);
    await world.server.kill();
    world.switchTo(replica.port);
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    await assertRejects(() => onceBack(() => commitIfHeld(held, [["SET", "value", "stale"]])), LockLostError);
    assertEquals((await lossOf(held)).reason, "expired");
    assertEquals(await held.release(), false);
    assertEquals(await commitIfHeld(next, [["SETNX", "value", "fresh"]]), [1]);
    assert(await next.release());
  });
}

interface SentinelOptions {
  readonly name: string;
  readonly sentinels: { host: string; port: number }[];
}
const BY_SENTINEL = {
  "ioredis 5": (options: SentinelOptions) => new Redis(options),
  "ioredis 6": (options: SentinelOptions) => new Redis6(options) as unknown as Redis,
};
for (const [make, connect] of Object.entries(BY_SENTINEL)) {
  test(`${make}: a sentinel promotes the replica of a server that died: the lock stays held, the waiter gets it`, async () => {
    await using world = await World.start();
    const replica = await world.replica();
    await using sentinel = await RedisServer.start({
      config: ["--sentinel"],
      file: `sentinel monitor main 127.0.0.1 ${world.server.port} 1
sentinel down-after-milliseconds main 300
sentinel failover-timeout main 2000
`,
    });
    while (!(await sentinel.ask("SENTINEL", "REPLICAS", "main")).includes(`${replica.port}`)) await delay(20);
    await using stopping = new AsyncDisposableStack();
    const peers = [1, 2].map(() => {
      const client = connect({ name: "main", sentinels: [{ host: "127.0.0.1", port: sentinel.port }] });
      client.on("error", () => {});
      const backend = redisBackend(client);
      stopping.defer(async () => {
        await backend[Symbol.asyncDispose]();
        const ended = new Promise((resolve) => client.on("end", resolve));
        client.disconnect();
        await ended;
      });
      return { client, backend };
    });
    const [a, b] = peers;
    const held = await acquire(a.backend, { leaseMs: 10_000 });
    assert(!held.signal.aborted);
    const waiting = acquire(b.backend);
    await lined(a.backend, 1);
    await caughtUp(world.server, replica);
    await world.server.kill();
    assertEquals(await commitIfHeld(held, [["SET", "value", "fresh"]]), ["OK"]);
    assertStringIncludes(await replica.ask("INFO", "replication"), "role:master");
    assert(held.held);
    assert(await held.release());
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    assert(await next.release());
  });
}

test("a server that loses its data tells a holder of more than a second without waiting for a renewal", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend, { leaseMs: 60_000 });
  assert(!held.signal.aborted);
  while (await subscribed(world) === 0) await delay(20);
  await world.server.kill();
  await world.server.start();
  assertEquals((await lossOf(held)).reason, "expired");
});

test("all data is flushed while a lock is held: the next fencing token is higher all the same", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 1000 });
  await world.server.ask("FLUSHALL");
  const next = await acquire(b.backend);
  assert(next.fencingToken > held.fencingToken);
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assertEquals((await lossOf(held)).reason, "expired");
  assertEquals(await world.server.ask("GET", "value"), "$-1\r\n");
  assert(await next.release());
});

for (const [name, connect] of Object.entries(CLIENTS)) {
  test(`${name}: both connections are killed: the holder keeps the lock, the waiter gets it next`, async () => {
    await using world = await World.start();
    const [a, b] = [await world.peer(undefined, connect), await world.peer(undefined, connect)];
    const held = await acquire(a.backend);
    const waiting = acquire(b.backend);
    await lined(a.backend, 1);
    for (const type of ["normal", "pubsub"]) await world.server.ask("CLIENT", "KILL", "TYPE", type);
    assertEquals(await held.release(), true);
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    assert(await next.release());
  });
}

test("only the subscriptions are killed, and killed again: the waiter gets the lock long before the lease ends", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  for (let i = 0; i < 3; i++) {
    const held = await acquire(a.backend, { leaseMs: 2 ** 31 - 1 });
    const waiting = acquire(b.backend);
    await lined(a.backend, 1);
    await world.server.ask("CLIENT", "KILL", "TYPE", "pubsub");
    // The waiter is subscribed again before there is news.
    while (await subscribed(world) === 0) await delay(5);
    assert(await held.release());
    assert(await (await waiting).release());
  }
});

test("the answer is lost on the way, and the client sends the commit again: released is released", async () => {
  await using world = await World.start();
  const port = await world.slowPort(0);
  const a = await world.peer(port);
  // The server learns the scripts, or what is lost is that it does not know them.
  await (await acquire(a.backend)).release();
  const held = await acquire(a.backend);
  world.loseAnswer();
  assertEquals(await held.release(), true);
  assertEquals(held.signal.aborted, false);
});

test("the same, after the backend was disposed of: released is released", async () => {
  await using world = await World.start();
  const port = await world.slowPort(0);
  const a = await world.peer(port);
  await (await acquire(a.backend)).release();
  const held = await acquire(a.backend);
  await (a.backend as RedisBackend)[Symbol.asyncDispose]();
  world.loseAnswer();
  assertEquals(await held.release(), true);
  assertEquals(held.signal.aborted, false);
});

test("this machine's clock is behind by ten minutes: nobody takes its lock for lapsed", async () => {
  await using world = await World.start();
  const b = await world.peer();
  await b.backend.read(["job"]);
  const real = Date.now;
  Date.now = () => real() - 600_000;
  let a: LockBackend;
  try {
    a = (await world.peer()).backend;
  } finally {
    Date.now = real;
  }
  // All are on their way before the first answer sets its clock right.
  const names = ["job", "another job", "a third job"];
  const held = await Promise.all(names.map((name) => Lock.acquire(name, { backend: a })));
  for (const name of names) assertEquals(await Lock.acquire(name, { backend: b.backend, wait: false }), null);
  for (const lock of held) assert(await lock!.release());
});

test("a cleanup whose clock is ahead by a minute deletes no live lock, once it is told the time", async () => {
  await using world = await World.start();
  const held = await acquire((await world.peer()).backend, { leaseMs: 10_000 });
  const real = Date.now;
  Date.now = () => real() + 60_000;
  let operator: LockBackend;
  try {
    operator = (await world.peer()).backend;
  } finally {
    Date.now = real;
  }
  // It has not heard of the server yet: this deletion goes by what it believes.
  const version = held.fencingToken;
  const refused = await operator.commit([{ key: "job", version, value: null }]);
  assertEquals(refused.ok, false);
  // Its clock is right now, and it may delete what it has judged by it.
  assertEquals((await operator.commit([{ key: "job", version, value: null }])).ok, true);
  assertEquals(await held.release(), false);
});

test("commitIfHeld: a holder that was robbed after its last look writes nothing", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend);
  let thief: Lock | undefined;
  const { evalsha } = a.client;
  // Between the look at the record and the commands, where only the server can tell.
  a.client.evalsha = (async (...args: Parameters<typeof evalsha>) => {
    if (args.includes("stale") && thief === undefined) thief = await acquire(b.backend, { stealAfterMs: 0 });
    return await evalsha.apply(a.client, args);
  }) as typeof evalsha;
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assertEquals(await world.server.ask("GET", "value"), "$-1\r\n");
  assert(await thief?.release());
});

test("a server that pauses for less than the lease: nothing is lost", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 5000 });
  const waiting = acquire(b.backend);
  await lined(a.backend, 1);
  await world.server.ask("CLIENT", "PAUSE", "500");
  assert(await held.release());
  assert(await (await waiting).release());
});

test("a server that pauses for longer than the lease: the holder is told when it ends, the waiter gets it", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 600 });
  const waiting = acquire(b.backend);
  await lined(a.backend, 1);
  await world.server.ask("CLIENT", "PAUSE", "2500");
  assertEquals((await lossOf(held)).reason, "expired");
  assert(!held.held);
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assert(await next.release());
});

test("the scripts are flushed: they are loaded again, and fencing tokens go on rising", async () => {
  await using world = await World.start();
  const a = await world.peer();
  let last = "";
  for (let i = 0; i < 5; i++) {
    const held = await acquire(a.backend);
    assert(held.fencingToken > last);
    last = held.fencingToken;
    await world.server.ask("SCRIPT", "FLUSH");
    await commitIfHeld(held, [["INCR", "count"]]);
    await world.server.ask("SCRIPT", "FLUSH");
    assert(await held.release());
  }
  assertEquals(await world.server.ask("GET", "count"), "$1\r\n5\r\n");
});

test("a link of 200 ms each way: hand-off and theft work as ever", async () => {
  await using world = await World.start();
  const port = await world.slowPort(200);
  const [a, b] = [await world.peer(port), await world.peer(port)];
  const held = await acquire(a.backend, { leaseMs: 5000 });
  const waiting = acquire(b.backend, { leaseMs: 5000 });
  await lined((await world.peer()).backend, 1);
  assert(await held.release());
  const next = await waiting;
  assert(next.held && next.fencingToken > held.fencingToken);
  const thief = await acquire(a.backend, { stealAfterMs: 0 });
  assertEquals(await next.release(), false);
  assertEquals((await lossOf(next)).reason, "stolen");
  assert(await thief.release());
});

test("the record is evicted for want of memory: the holder is told at its renewal, its writes are refused", async () => {
  await using world = await World.start({ config: ["--maxmemory-policy", "allkeys-random"] });
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 1500 });
  await world.server.ask("CONFIG", "SET", "maxmemory", "1");
  while (!(await world.server.ask("DBSIZE")).startsWith(":0")) {
    await b.client.set("filler", "x").catch(() => {});
  }
  await world.server.ask("CONFIG", "SET", "maxmemory", "0");
  const next = await acquire(b.backend);
  assert(next.fencingToken > held.fencingToken);
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assertEquals((await lossOf(held)).reason, "expired");
  assert(await next.release());
});

test("a server that is full: acquiring fails with its reason, releasing works", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  await world.server.ask("CONFIG", "SET", "maxmemory", "1");
  const other = Lock.acquire("other", { backend: a.backend, leaseMs: 300 });
  const error = await assertRejects(() => other, LockBackendError, "OOM");
  assert(error.transient);
  assert(await held.release());
  assertEquals(await world.server.ask("EXISTS", "holdfast:{0}:job"), ":0\r\n");
});

test("the server's clock steps back an hour: fencing tokens rise, and nobody alive is robbed", async () => {
  const clock = await FalseClock.make();
  if (clock === undefined) return console.warn("not run: needs a C compiler (cc)");
  await using _folder = clock;
  await using world = await World.start({ env: clock.env });
  const [a, b] = [await world.peer(), await world.peer()];
  const before = await acquire(a.backend);
  await before.release();
  const held = await acquire(a.backend, { leaseMs: 900 });
  assert(held.fencingToken > before.fencingToken);
  const waiting = acquire(b.backend, { leaseMs: 900 });
  // Through the waiter's own eyes: what it knows of the time, it knows from before.
  await lined(b.backend, 1);
  await clock.set(-3600);
  // A server may look at its clock only now and then.
  while (await serverSeconds(world) > Date.now() / 1000 - 3000) await delay(10);
  // Three leases: renewals under the old and the new time meet a waiter that knows only the old.
  const outcome = await Promise.race([waiting.then(() => "robbed"), lossOf(held), delay(2700)]);
  assertEquals(outcome, undefined);
  assert(held.held);
  await commitIfHeld(held, [["SET", "value", "fresh"]]);
  assert(await held.release());
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assert(await next.release());
  const last = await acquire(a.backend);
  assert(last.fencingToken > next.fencingToken);
  assert(await last.release());
  await world.server.ask("SCRIPT", "FLUSH");
  const after = await acquire((await world.peer()).backend);
  assert(after.fencingToken > last.fencingToken);
  assert(await after.release());
});

test("the server's clock is at 1970 and its counters are gone: versions rise as long as there is a record", async () => {
  const clock = await FalseClock.make();
  if (clock === undefined) return console.warn("not run: needs a C compiler (cc)");
  await using _folder = clock;
  await using world = await World.start({ env: clock.env });
  const { backend } = await world.peer();
  const key = "job";
  const created = await backend.commit([{ key, version: null, value: "1" }]);
  assert(created.ok);
  await clock.set(Math.round(-Date.now() / 1000) + 5000);
  while (await serverSeconds(world) > 10_000) await delay(10);
  let { version } = created;
  // One record and several go by different scripts.
  for (const others of [[], [{ key: "another", version: null, value: "1" }]]) {
    for (const name of (await world.server.ask("KEYS", "*}")).match(/^holdfast:.*(?=\r)/gm) ?? []) {
      await world.server.ask("DEL", name);
    }
    await backend.read([key]);
    const changed = await backend.commit([{ key, version, value: "2" }, ...others]);
    assert(changed.ok && changed.version > version, `${JSON.stringify(changed)} after ${version}`);
    version = changed.version;
  }
  await world.server.ask("FLUSHALL");
  const first = await acquire(backend);
  assertEquals(await Lock.acquire("job", { backend: (await world.peer()).backend, wait: false }), null);
  assert(first.held && await first.release());
  const second = await acquire((await world.peer()).backend);
  assert(second.fencingToken > first.fencingToken);
  assert(await second.release());
});

test("a cluster of three: locks are spread, and a held one survives the move of its slot", async () => {
  const servers = await Promise.all(
    [1, 2, 3].map(() =>
      RedisServer.start({ config: ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"] })
    ),
  );
  await using stopping = new AsyncDisposableStack();
  for (const server of servers) stopping.use(server);
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`);
  await run("redis-cli", ["--cluster", "create", ...nodes, "--cluster-yes"]);
  const ids = await Promise.all(
    servers.map(async (server) => (await server.ask("CLUSTER", "MYID")).split("\r\n")[1]),
  );
  const peers = await Promise.all([1, 2].map(async () => {
    const client = new Cluster([{ host: "127.0.0.1", port: servers[0].port }]);
    client.on("error", () => {});
    await client.ping();
    return { client, backend: redisBackend(client) };
  }));
  const [a, b] = peers;

  // Some are refused until every node has heard of all slots.
  const spread = Array.from({ length: 50 }, (_, i) => `spread:${i}`);
  const many = await Promise.all(spread.map((name) => Lock.acquire(name, { backend: a.backend })));
  for (const server of servers) assert(!(await server.ask("DBSIZE")).startsWith(":0"));
  const listed: string[] = [];
  for await (const { key } of b.backend.list("spread:")) listed.push(key);
  assertEquals(listed.sort(), spread.sort());
  for (const held of many) assert(await held?.release());

  const held = await acquire(a.backend, { leaseMs: 900 });
  const waiting = acquire(b.backend, { leaseMs: 900 });
  await lined(a.backend, 1);
  assertEquals(await commitIfHeld(held, [["SET", `${hashTag(held)}:value`, "fresh"]]), ["OK"]);
  await assertRejects(() => commitIfHeld(held, [["SET", "elsewhere", "x"]]), LockBackendError);

  const slot = (await servers[0].ask("CLUSTER", "KEYSLOT", hashTag(held))).slice(1).trim();
  const homes = await Promise.all(servers.map((server) => server.ask("CLUSTER", "COUNTKEYSINSLOT", slot)));
  const from = homes.findIndex((reply) => !reply.startsWith(":0"));
  const to = (from + 1) % 3;
  await servers[to].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from]);
  await servers[from].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to]);
  const keys = (await servers[from].ask("CLUSTER", "GETKEYSINSLOT", slot, "100")).match(/holdfast.*|\{.*/g)!;
  const move = ["MIGRATE", "127.0.0.1", `${servers[to].port}`, "", "0", "5000", "KEYS"];
  const moving = keys.map((key) => key.trim());
  const record = moving.filter((name) => name.endsWith(":job"));
  assertEquals(await servers[from].ask(...move, ...record), "+OK\r\n");
  // Half of what a commit needs is here and half is there: a renewal is refused, and will be tried again.
  const errors = () => Promise.all([from, to].map((i) => servers[i].ask("INFO", "errorstats")));
  while (!(await errors()).join().includes("TRYAGAIN")) await delay(10);
  assertEquals(await servers[from].ask(...move, ...moving), "+OK\r\n");
  // Renewed more than once while the slot is on neither side for good.
  await delay(1000);
  assert(held.held);
  for (const server of servers) await server.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[to]);
  assertEquals(await commitIfHeld(held, [["GET", `${hashTag(held)}:value`]]), ["fresh"]);
  assert(await held.release());
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assert(await next.release());

  const plain = new Redis({ port: servers[(to + 1) % 3].port, host: "127.0.0.1" });
  await assertRejects(() => acquire(redisBackend(plain)), LockBackendError, "client of the cluster");
  for (const { backend } of peers) await backend[Symbol.asyncDispose]();
  for (const client of [plain, ...peers.map(({ client }) => client)]) {
    const ended = new Promise((resolve) => client.on("end", resolve));
    client.disconnect();
    await ended;
  }
});

for (const [make, connect] of Object.entries(CLIENTS)) {
  test(`${make}: commits of one turn go together, and each has its own outcome`, async () => {
    await using world = await World.start();
    const { backend } = await world.peer(world.server.port, connect);
    const { client } = await world.peer();
    const put = (key: string, version: string | null, value = "1") =>
      backend.commit([{ key, version, value, expireInMs: 60_000 }]);
    const [old, gone] = [await put("old", null), await put("gone", null), await put("odd", null)];
    assert(old.ok && gone.ok);
    const [name] = await client.keys("*:odd");
    await client.del(name);
    await client.hset(name, "field", "value");

    // From here on the server knows the script.
    await Promise.all([1, 2, 3].map((i) => put(`warm:${i}`, null)));
    const before = await calls(client);
    const fresh = Array.from({ length: 60 }, (_, i) => put(`fresh:${i}`, null, `${i}`));
    const [conflict, odd, renewed, deleted, late, ...made] = await Promise.all([
      put("old", null, "2"),
      assertRejects(() => put("odd", null), LockBackendError, "another type"),
      put("old", old.version, "3"),
      backend.commit([{ key: "gone", version: gone.version, value: null }]),
      backend.commit([{ key: "old", version: gone.version, value: null }]),
      ...fresh,
    ]);
    // The first alone, for it did not know of the others; the others by 32.
    assertEquals(await calls(client) - before, 3);
    assertEquals(conflict, { ok: false, entries: [{ key: "old", value: "1", version: old.version }] });
    assertEquals(odd.transient, false);
    assert(renewed.ok && renewed.version > old.version);
    assert(deleted.ok && deleted.version > gone.version);
    assertEquals(late, { ok: false, entries: [{ key: "old", value: "3", version: renewed.version }] });
    const entries = await Promise.all(made.map((_, i) => backend.read([`fresh:${i}`])));
    for (const [i, result] of made.entries()) {
      assert(result.ok);
      assertEquals(entries[i], [{ key: `fresh:${i}`, value: `${i}`, version: result.version }]);
    }
    assertEquals((await backend.read(["gone"]))[0].version, null);
    assertEquals(await client.hgetall(name), { field: "value" });
  });
}

for (const [make, connect] of Object.entries(CLIENTS)) {
  test(`${make}: a server that has no room for the subscriptions: the waiter gets the lock as soon as it has`, async () => {
    await using world = await World.start();
    const [a, b] = [
      await world.peer(world.server.port, connect),
      await world.peer(world.server.port, connect),
    ];
    const held = await acquire(a.backend);
    await (await acquire(b.backend, { wait: false }) as Lock | null)?.release();
    const { client } = await world.peer();
    // As many as there are.
    await client.config("SET", "maxclients", "3");
    const waiting = acquire(b.backend);
    while (!/rejected_connections:[1-9]/.test(await client.info("stats"))) await delay(10);
    await client.config("SET", "maxclients", "100");
    await lined(a.backend, 1);
    assert(await held.release());
    assert(await (await waiting).release());
  });
}

test("those who wait hear of what went together, and fencing tokens rise through it", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const names = Array.from({ length: 20 }, (_, i) => `crowd:${i}`);
  const each = (backend: LockBackend) =>
    Promise.all(names.map(async (name) => (await Lock.acquire(name, { backend }))!));
  const held = await each(a.backend);
  const waiting = each(b.backend);
  for (const name of names) await lined(b.backend, 1, name);
  for (const lock of held) void lock.release();
  const next = await waiting;
  for (const [i, lock] of next.entries()) assert(lock.fencingToken > held[i].fencingToken);
  await world.server.ask("SCRIPT", "FLUSH");
  assertEquals(await Promise.all(next.map((lock) => lock.release())), names.map(() => true));
  const last = await each(a.backend);
  for (const [i, lock] of last.entries()) assert(lock.fencingToken > next[i].fencingToken);
  await Promise.all(last.map((lock) => lock.release()));
});

test("a full server lets go of locks that are released together with what it refuses", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const names = Array.from({ length: 10 }, (_, i) => `full:${i}`);
  const held = await Promise.all(names.map((name) => Lock.acquire(name, { backend: a.backend })));
  await world.server.ask("CONFIG", "SET", "maxmemory", "1");
  const refused = names.map((name) =>
    a.backend.commit([{ key: `more:${name}`, version: null, value: "1" }]).catch((error) => error.message)
  );
  const released = held.map((lock) => lock!.release());
  for (const message of await Promise.all(refused)) assertStringIncludes(message, "OOM");
  assertEquals(await Promise.all(released), names.map(() => true));
  assertEquals((await a.client.keys("*full:*")).length, 0);
});

test("a cluster at one address, by a client of a single server: commits of one turn go one by one", async () => {
  await using server = await RedisServer.start({ config: ["--cluster-enabled", "yes"] });
  await server.ask("CLUSTER", "ADDSLOTS", ...Array.from({ length: 16_384 }, (_, i) => `${i}`));
  while (!(await server.ask("CLUSTER", "INFO")).includes("cluster_state:ok")) await delay(10);
  await using world = new World(server);
  const { backend } = await world.peer();
  for (let round = 0; round < 2; round++) {
    const names = Array.from({ length: 20 }, (_, i) => `apart:${i}`);
    const held = await Promise.all(names.map((name) => Lock.acquire(name, { backend })));
    assertEquals(await Promise.all(held.map((lock) => lock!.release())), names.map(() => true));
  }
});

test("released locks leave nothing but a counter for each bucket", async () => {
  await using world = await World.start();
  const a = await world.peer();
  for (let i = 0; i < 2000; i++) {
    const held = await Lock.acquire(`job:${i}`, { backend: a.backend });
    await held?.release();
  }
  const size = Number((await world.server.ask("DBSIZE")).slice(1));
  assert(size > 0 && size <= 256, `${size} keys are left`);
});

test("a closed client, and one that is closed while somebody waits: an error at once that says so", async () => {
  for (const connect of Object.values(CLIENTS)) {
    await using world = await World.start();
    const { client, close } = await connect(world.server.port);
    const backend = redisBackend(client);
    const held = await acquire((await world.peer()).backend);
    const waiting = assertRejects(() => acquire(backend), LockBackendError, "closed");
    await lined((await world.peer()).backend, 1);
    await close();
    await waiting;
    await assertRejects(() => acquire(backend), LockBackendError, "closed");
    await backend[Symbol.asyncDispose]();
    await held.release();
  }
});

test("a client that gives numbers as strings: locks work, and the clock stays right", async () => {
  await using world = await World.start();
  await using stopping = new AsyncDisposableStack();
  const clients = [
    new Redis({ port: world.server.port, host: "127.0.0.1", stringNumbers: true }),
    await createClient({ url: `redis://127.0.0.1:${world.server.port}` })
      .withTypeMapping({ [RESP_TYPES.NUMBER]: String }).connect(),
  ];
  stopping.defer(async () => {
    const ended = new Promise((resolve) => clients[0].on("end", resolve));
    for (const client of clients) "destroy" in client ? client.destroy() : client.disconnect();
    await ended;
  });
  const { client } = await world.peer();
  for (const backend of clients.map((client) => redisBackend(client as unknown as Redis))) {
    await (await acquire(backend)).release();
    const before = await calls(client);
    const locks = await Promise.all(["a", "b", "c"].map((name) => Lock.acquire(name, { backend })));
    assertEquals(await Promise.all(locks.map((lock) => lock!.release())), [true, true, true]);
    assert(await (await acquire(backend)).release());
    assert(await calls(client) - before <= 8, "locks were settled by reading");
    assert(Math.abs(backend.now() - Date.now()) < 1000, `the clock shows ${backend.now()}`);
  }
});

test("a client in the midst of a MULTI: an error that says so, and all is well afterwards", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 3000 });
  await a.client.call("MULTI");
  const burst = ["x", "y", "z"].map((name) => Lock.acquire(name, { backend: a.backend, wait: false }));
  for (const one of burst) await assertRejects(() => one, LockBackendError, "MULTI");
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "1"]]), LockBackendError, "MULTI");
  await a.client.call("EXEC");
  assert(Math.abs(a.backend.now() - Date.now()) < 1000, `the clock shows ${a.backend.now()}`);
  // A renewal later.
  await delay(1200);
  assertEquals(await Lock.acquire("job", { backend: b.backend, wait: false }), null);
  assert(held.held);
  assert(await held.release());
  // What was queued and then granted has been given back.
  for (const name of ["x", "y", "z"]) {
    assert(await (await Lock.acquire(name, { backend: b.backend }))!.release());
  }
});

test("commitIfHeld refuses what no script can hand on, before it runs anything", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  const items = (count: number) => Array.from({ length: count }, (_, i) => i);
  const push = (count: number) => [["SET", "before", "1"], ["RPUSH", "list", ...items(count)]];
  await assertRejects(() => commitIfHeld(held, push(6999)), RangeError, "at most 7000 words");
  await assertRejects(
    () => commitIfHeld(held, [["SET", "before", NaN]]),
    TypeError,
    "must be an array of commands",
  );
  const many = [["SET", "before", "1"], ...Array.from({ length: 8 }, () => push(6249)[1])];
  await assertRejects(
    () => commitIfHeld(held, many),
    RangeError,
    "at most 50000 words together, current value is 50011",
  );
  assertEquals(await a.client.get("before"), null);
  assertEquals(await commitIfHeld(held, push(6998)), ["OK", 6998]);
  await held.release();
});

test("a wrong password: an error at once that says so", async () => {
  await using world = await World.start({ config: ["--requirepass", "right"] });
  const client = new Redis({ port: world.server.port, host: "127.0.0.1", password: "wrong" });
  client.on("error", () => {});
  const ended = new Promise((resolve) => client.on("end", resolve));
  const error = await assertRejects(() => acquire(redisBackend(client)), LockBackendError);
  assert(/NOAUTH|WRONGPASS/.test(error.message), error.message);
  assertEquals(error.transient, false);
  client.disconnect();
  await ended;
});

test("a key of another type in the way: an error at once that says so, and the key stays", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  const [name] = await a.client.keys("*:job");
  await held.release();
  await a.client.hset(name, "field", "value");
  const error = await assertRejects(() => acquire(a.backend), LockBackendError, "another type");
  assertEquals(error.transient, false);
  assert(error.message.includes(`"${name}"`), error.message);
  assertEquals(await a.client.hget(name, "field"), "value");
  await a.client.del(name);
  // The counter of its bucket, too; whatever text it holds, fencing tokens rise.
  const counter = name.slice(0, -":job".length);
  for (const text of ["99", "zzz", ""]) {
    await a.client.set(counter, text);
    const again = await acquire(a.backend);
    assert(again.fencingToken > held.fencingToken, `${text}: ${again.fencingToken}`);
    await again.release();
  }
  await a.client.del(counter);
  await a.client.rpush(counter, "an element");
  const inTheWay = await assertRejects(() => acquire(a.backend), LockBackendError, "another type");
  assert(inTheWay.message.includes(`"${counter}"`), inTheWay.message);
  await a.client.del(counter);
  await a.client.set(name, "something else");
  await assertRejects(() => acquire(a.backend), LockBackendError, "something else");
  assertEquals(await a.client.get(name), "something else");
});

test("a backend that is disposed of: who waited, or has just given up, leaves the line first", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  for (const end of ["gave up", "waits"]) {
    const { client, close } = await CLIENTS["node-redis 6"](world.server.port);
    const backend = redisBackend(client);
    const waiting = acquire(backend, { waitForMs: end === "waits" ? 60_000 : 100 }).catch((error) => error);
    await lined(a.backend, 1);
    if (end === "gave up") assertEquals(await waiting, null);
    await backend[Symbol.asyncDispose]();
    await close();
    if (end === "waits") assert(await waiting instanceof LockBackendError);
    const [{ key, value }] = await a.backend.read(["job"]);
    assertEquals(decode(key, value).queue, []);
  }
  assert(await held.release());
});

test("two databases of one server: equal names are different records, and nobody hears of the other's", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const second = a.client.duplicate({ db: 2 });
  const backend = redisBackend(second);
  const seen: (string | null)[] = [];
  const watching = (async () => {
    for await (const { value } of backend.watch("job", { signal: new AbortController().signal })) {
      seen.push(value);
      if (value === "2") return;
    }
  })();
  while (seen.length === 0) await delay(5);
  const put = (backend: LockBackend, value: string) => backend.commit([{ key: "job", version: null, value }]);
  assert((await put(a.backend, "1")).ok);
  // Time for news that must not come.
  await delay(50);
  assert((await put(backend, "2")).ok);
  await watching;
  assertEquals(seen, [null, "2"]);
  await backend[Symbol.asyncDispose]();
  const ended = new Promise((resolve) => second.on("end", resolve));
  second.disconnect();
  await ended;
});

async function run(command: string, args: string[]): Promise<void> {
  const { success, stdout } = await new Deno.Command(command, { args }).output();
  assert(success, new TextDecoder().decode(stdout));
}

/** How many connections are for subscriptions only. */
/** What becomes of it once the server is back; node-redis fails what was under way when the connection broke. */
async function onceBack<Result>(doing: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await doing();
    } catch (error) {
      if (!(error instanceof LockBackendError && error.transient)) throw error;
      await delay(20);
    }
  }
}

/** Until a replica has all that its server was told. */
async function caughtUp(server: RedisServer, replica: RedisServer): Promise<void> {
  const offset = async (of: RedisServer, name: string) =>
    Number(new RegExp(`${name}:(\\d+)`).exec(await of.ask("INFO", "replication"))![1]);
  const told = await offset(server, "master_repl_offset");
  while (await offset(replica, "slave_repl_offset") < told) await delay(10);
}

/** How many scripts the server has been asked to run. */
async function calls(client: Redis): Promise<number> {
  const stats = await client.info("commandstats");
  const found = stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm);
  return [...found].reduce((sum, [, count]) => sum + Number(count), 0);
}

async function subscribed(world: World): Promise<number> {
  return ((await world.server.ask("CLIENT", "LIST", "TYPE", "pubsub")).match(/ id=|\bid=/g) ?? []).length;
}

async function serverSeconds(world: World): Promise<number> {
  return Number((await world.server.ask("TIME")).split("\r\n")[2]);
}

/** A clock for a server, which a file bends. `libfaketime` and the allocator of `redis-server` do not go together. */
class FalseClock implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async make(): Promise<FalseClock | undefined> {
    const folder = await Deno.makeTempDir({ prefix: "holdfast-clock-" });
    const clock = new FalseClock(folder);
    await Deno.writeTextFile(`${folder}/clock.c`, CLOCK);
    await clock.set(0);
    const args = ["-shared", "-fPIC", "-o", `${folder}/clock.so`, `${folder}/clock.c`];
    const compiled = await new Deno.Command("cc", { args }).output().then(
      ({ success }) => success,
      () => false,
    );
    if (compiled) return clock;
    await clock[Symbol.asyncDispose]();
    assert(Deno.env.get("CI") !== "true", "cc does not work, and in CI it must");
  }

  get env(): Record<string, string> {
    return { LD_PRELOAD: `${this.#folder}/clock.so`, HOLDFAST_CLOCK: `${this.#folder}/seconds` };
  }

  async set(seconds: number): Promise<void> {
    await Deno.writeTextFile(`${this.#folder}/seconds`, `${seconds}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Redis reads the time of day from `gettimeofday` alone. */
const CLOCK = `
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  long result = syscall(SYS_gettimeofday, now, zone);
  const char *path = getenv("HOLDFAST_CLOCK");
  char text[32] = {0};
  int file = path ? open(path, O_RDONLY) : -1;
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(file);
  }
  return result;
}
`;

/** A TCP line that takes its time, in both directions. */
class SlowLine {
  readonly port: number;
  /** Whether the next answer is lost, and the connection with it. */
  cutting = false;
  #target: number;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets: Set<Socket>;

  private constructor(
    port: number,
    target: number,
    server: ReturnType<typeof createServer>,
    sockets: Set<Socket>,
  ) {
    this.port = port;
    this.#target = target;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async open(target: number, ms: number): Promise<SlowLine> {
    const sockets = new Set<Socket>();
    const pass = (from: Socket, to: Socket, answers: boolean) => {
      sockets.add(from);
      from.on("data", (data) => {
        if (answers && line.cutting) {
          line.cutting = false;
          from.destroy();
          return;
        }
        setTimeout(() => to.writable && to.write(data), ms);
      });
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => {});
    };
    const server = createServer((near) => {
      const far = createConnection(line.#target, "127.0.0.1");
      pass(near, far, false);
      pass(far, near, true);
    });
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    const line = new SlowLine(port, target, server, sockets);
    return line;
  }

  /** Leads elsewhere from now on: those who are connected must connect anew. */
  switchTo(target: number): void {
    this.#target = target;
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
