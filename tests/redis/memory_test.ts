/** What is kept in the memory of the server, and what happens when that is full. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { commitIfHeld } from "../../backends/redis.ts";
import { Lock, LockBackendError, LockLostError } from "../../mod.ts";
import { acquire, lossOf, test, World } from "./world.ts";

test("the record is evicted for want of memory: the holder is notified at its renewal, its writes are refused", async () => {
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
