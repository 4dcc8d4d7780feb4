/** Clients that are set up, or used, in unusual ways. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { Redis } from "ioredis5";
import { createClient, RESP_TYPES } from "redis6";
import { commitIfHeld, redisBackend } from "../../backends/redis.ts";
import { Lock, LockBackendError } from "../../mod.ts";
import { LIKE_OTHERS } from "./clients.ts";
import { acquire, calls, test, untilQueued, World } from "./world.ts";

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
  for (const backend of clients.map((client) => redisBackend(client))) {
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
  // All at once: one that nothing waits for yet would be an uncaught error.
  await Promise.all(burst.map((one) => assertRejects(() => one, LockBackendError, "MULTI")));
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

for (const [name, connect] of Object.entries(LIKE_OTHERS)) {
  test(`${name}: a waiter is woken, a commit is guarded, and closing the backend leaves no connection`, async () => {
    await using world = await World.start();
    const a = await world.peer();
    const { client, close } = await connect(world.server.port);
    const before = (await world.server.ask("CLIENT", "LIST")).split("\n").length;
    const backend = redisBackend(client);
    const held = await acquire(a.backend);
    const waiting = acquire(backend);
    await untilQueued(a.backend, 1);
    await held.release();
    const next = await waiting;
    assertEquals(await commitIfHeld(next, [["SET", "value", "1"]]), ["OK"]);
    for (let i = 0; i < 10; i++) assert(redisBackend(client) === backend);
    assert(await next.release());
    await backend.close();
    await redisBackend(a.client).close();
    while ((await world.server.ask("CLIENT", "LIST")).split("\n").length > before) await delay(20);
    await close();
  });
}
