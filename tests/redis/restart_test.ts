/** A server that is restarted, or forgets what was written to it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld } from "../../backends/redis.ts";
import { LockLostError } from "../../mod.ts";
import { acquire, lossOf, subscribed, test, untilQueued, World } from "./world.ts";

const AOF = ["--appendonly", "yes", "--appendfsync", "always"];

test("a server with AOF is killed and restarted: the holder keeps the lock, the waiter gets it next", async () => {
  await using world = await World.start({ config: AOF });
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 6000 });
  const waiting = acquire(b.backend);
  await untilQueued(a.backend, 1);
  await world.server.kill();
  await world.server.start();
  assertEquals(await commitIfHeld(held, [["SET", "value", "fresh"]]), ["OK"]);
  assert(held.held);
  assert(await held.release());
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  assert(await next.release());
});

test("a server without AOF is restarted: the waiter gets the lock, the holder is notified, its writes are refused", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 3000 });
  const waiting = acquire(b.backend);
  await untilQueued(a.backend, 1);
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

test("a server that loses its data notifies a holder of more than a second without waiting for a renewal", async () => {
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
