/** A connection that breaks, loses an answer, is slow, or is refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld } from "../../backends/redis.ts";
import { type Lock, LockLostError } from "../../mod.ts";
import { CLIENTS } from "./clients.ts";
import { acquire, lossOf, subscribed, test, untilQueued, World } from "./world.ts";

for (const [name, connect] of Object.entries(CLIENTS)) {
  test(`${name}: both connections are killed: the holder keeps the lock, the waiter gets it next`, async () => {
    await using world = await World.start();
    const [a, b] = [await world.peer(undefined, connect), await world.peer(undefined, connect)];
    const held = await acquire(a.backend);
    const waiting = acquire(b.backend);
    await untilQueued(a.backend, 1);
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
    await untilQueued(a.backend, 1);
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

test("a server that pauses for less than the lease: nothing is lost", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 5000 });
  const waiting = acquire(b.backend);
  await untilQueued(a.backend, 1);
  await world.server.ask("CLIENT", "PAUSE", "500");
  assert(await held.release());
  assert(await (await waiting).release());
});

test("a server that pauses for longer than the lease: the holder is notified when it ends, the waiter gets it", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend, { leaseMs: 600 });
  const waiting = acquire(b.backend);
  await untilQueued(a.backend, 1);
  await world.server.ask("CLIENT", "PAUSE", "2500");
  assertEquals((await lossOf(held)).reason, "expired");
  assert(!held.held);
  const next = await waiting;
  assert(next.fencingToken > held.fencingToken);
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assert(await next.release());
});

test("a link of 200 ms each way: hand-off and eviction work as ever", async () => {
  await using world = await World.start();
  const port = await world.slowPort(200);
  const [a, b] = [await world.peer(port), await world.peer(port)];
  const held = await acquire(a.backend, { leaseMs: 5000 });
  const waiting = acquire(b.backend, { leaseMs: 5000 });
  await untilQueued((await world.peer()).backend, 1);
  assert(await held.release());
  const next = await waiting;
  assert(next.held && next.fencingToken > held.fencingToken);
  const stealer = await acquire(a.backend, { stealAfterMs: 0 });
  assertEquals(await next.release(), false);
  assertEquals((await lossOf(next)).reason, "stolen");
  assert(await stealer.release());
});

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
    await untilQueued(a.backend, 1);
    assert(await held.release());
    assert(await (await waiting).release());
  });
}

for (const [make, connect] of Object.entries(CLIENTS)) {
  test(`${make}: a connection for subscriptions that is deaf, not closed, is replaced`, async () => {
    await using world = await World.start();
    const a = await world.peer();
    const b = await world.peer(await world.slowPort(0), connect);
    const held = await acquire(a.backend);
    const waiting = acquire(b.backend);
    await untilQueued(b.backend, 1);
    // Only a watcher that has been shown something can notice what no message has said.
    for await (const _ of b.backend.watch("job", { signal: new AbortController().signal })) break;
    const before = await subscribers(world);
    world.deafen();
    assert(await held.release());
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    // A process that waits now is notified on another connection than before.
    const again = acquire(b.backend);
    while ((await subscribers(world)).some((id) => before.includes(id))) await delay(20);
    assert(await next.release());
    assert(await (await again).release());
  });
}

test("a subscription that is never answered is given up, and made on another connection", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const b = await world.peer(await world.slowPort(0));
  const held = await acquire(a.backend);
  world.ignoreSubscription();
  const waiting = acquire(b.backend);
  const subscribed = async (than: readonly string[] = []) => {
    for (;;) {
      const ids = await subscribers(world);
      if (ids.length > 0 && !ids.some((id) => than.includes(id))) return ids;
      await delay(20);
    }
  };
  await subscribed(await subscribed());
  assert(await held.release());
  assert(await (await waiting).release());
});

/** The connections for subscriptions, by number. */
async function subscribers(world: World): Promise<string[]> {
  return (await world.server.ask("CLIENT", "LIST", "TYPE", "pubsub")).match(/\bid=\d+/g) ?? [];
}
