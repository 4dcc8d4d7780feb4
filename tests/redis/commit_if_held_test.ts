/** Commands that the server runs only while the lock is held. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld } from "../../backends/redis.ts";
import { type Lock, lock, LockBackendError, LockLostError } from "../../mod.ts";
import { acquire, test, World } from "./world.ts";

test("commitIfHeld: a holder that was evicted after its last look writes nothing", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const held = await acquire(a.backend);
  let stealer: Lock | undefined;
  const { evalsha } = a.client;
  // Between the look at the record and the commands, where only the server can know.
  a.client.evalsha = (async (...args: Parameters<typeof evalsha>) => {
    if (args.includes("stale") && stealer === undefined) {
      stealer = await acquire(b.backend, { stealAfterMs: 0 });
    }
    return await evalsha.apply(a.client, args);
  }) as typeof evalsha;
  await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
  assertEquals(await world.server.ask("GET", "value"), "$-1\r\n");
  assert(await stealer?.release());
});

test("commitIfHeld: under several locks nothing is written when any of them is lost", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  for (const stolen of ["x", "y"]) {
    const held = await lock(["x", "y"], { backend: a.backend }).acquire();
    assertEquals(await commitIfHeld(held, [["SET", "value", stolen]]), ["OK"]);
    let stealer: Lock | undefined;
    const { evalsha } = a.client;
    a.client.evalsha = (async (...args: Parameters<typeof evalsha>) => {
      if (args.includes("stale")) {
        stealer ??= await lock(stolen, { backend: b.backend, stealAfterMs: 0 }).acquire();
      }
      return await evalsha.apply(a.client, args);
    }) as typeof evalsha;
    await assertRejects(() => commitIfHeld(held, [["SET", "value", "stale"]]), LockLostError);
    a.client.evalsha = evalsha;
    assertEquals([await a.client.get("value"), await held.release()], [stolen, false]);
    assert(await stealer?.release());
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

test("commitIfHeld: what has run, and is sent again once the lock is lost, is not said to be refused", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(await world.slowPort(20)), await world.peer()];
  const held = await acquire(a.backend);
  // A stealer that has not watched it goes by the clock, which errs by half a second.
  await delay(700);
  // The script is known from here on: its answer is the next that comes.
  await commitIfHeld(held, [["SET", "other", "1"]]);
  let stolen: Promise<Lock> | undefined;
  const steal = async () => {
    while (await b.client.get("value") === null) await delay(1);
    return await acquire(b.backend, { stealAfterMs: 0 });
  };
  const { evalsha } = a.client;
  a.client.evalsha = (async (...args: Parameters<typeof evalsha>) => {
    if (args.includes("mine") && stolen === undefined) {
      world.loseAnswer();
      stolen = steal();
    }
    return await evalsha.apply(a.client, args);
  }) as typeof evalsha;
  const error = await assertRejects(() => commitIfHeld(held, [["SET", "value", "mine"]]), LockBackendError);
  assert(error.transient);
  assertEquals(await b.client.get("value"), "mine");
  assert(await (await stolen!).release());
});
