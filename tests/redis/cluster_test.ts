/** A Redis cluster. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { Cluster, Redis } from "ioredis5";
import { commitIfHeld, hashTag, redisBackend } from "../../backends/redis.ts";
import { Lock, LockBackendError } from "../../mod.ts";
import { run } from "../support/run.ts";
import { RedisServer } from "../support/redis_server.ts";
import { acquire, test, untilQueued, World } from "./world.ts";

test("a cluster of three: locks are spread, and a held one survives the move of its slot", async () => {
  const servers = await Promise.all(
    [1, 2, 3].map(() =>
      RedisServer.start({ config: ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"] })
    ),
  );
  await using stopping = new AsyncDisposableStack();
  for (const server of servers) stopping.use(server);
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`);
  await run(Deno.cwd(), "redis-cli", "--cluster", "create", ...nodes, "--cluster-yes");
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

  await assertRejects(
    () => Lock.acquire(["spread:0", "spread:1"], { backend: a.backend }),
    RangeError,
    "together: they are in different slots of a Redis cluster",
  );

  const held = await acquire(a.backend, { leaseMs: 900 });
  const waiting = acquire(b.backend, { leaseMs: 900 });
  await untilQueued(a.backend, 1);
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
