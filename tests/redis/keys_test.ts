/** Keys that others use, and other databases. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { redisBackend } from "../../backends/redis.ts";
import type { LockBackend } from "../../core/backend.ts";
import { LockBackendError } from "../../mod.ts";
import { acquire, test, World } from "./world.ts";

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
