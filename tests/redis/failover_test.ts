/** A replica takes the place of a server that died. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { Redis } from "ioredis5";
import { Redis as Redis6 } from "ioredis6";
import { commitIfHeld, redisBackend } from "../../backends/redis.ts";
import { LockBackendError, LockLostError } from "../../mod.ts";
import { RedisServer } from "../support/redis_server.ts";
import { CLIENTS } from "./clients.ts";
import { acquire, lossOf, test, untilQueued, World } from "./world.ts";

for (const make of ["ioredis 5", "ioredis 6", "node-redis 6"]) {
  test(`${make}: failover to a replica that has the grant: it stays held, and the waiter gets it next`, async () => {
    await using world = await World.start();
    const replica = await world.replica();
    const [a, b] = await Promise.all(
      [1, 2].map(async () => world.peer(await world.slowPort(0), CLIENTS[make])),
    );
    const held = await acquire(a.backend, { leaseMs: 3000 });
    const waiting = acquire(b.backend, { leaseMs: 3000 });
    await untilQueued(a.backend, 1);
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

  test(`${make}: failover to a replica that lacks the grant: the next one gets it, the holder is notified`, async () => {
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
    await untilQueued(a.backend, 1);
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
  "ioredis 6": (options: SentinelOptions) => new Redis6(options),
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
    await untilQueued(a.backend, 1);
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

/** Until a replica has all that its server was sent. */
async function caughtUp(server: RedisServer, replica: RedisServer): Promise<void> {
  const offset = async (of: RedisServer, name: string) =>
    Number(new RegExp(`${name}:(\\d+)`).exec(await of.ask("INFO", "replication"))![1]);
  const sent = await offset(server, "master_repl_offset");
  while (await offset(replica, "slave_repl_offset") < sent) await delay(10);
}
