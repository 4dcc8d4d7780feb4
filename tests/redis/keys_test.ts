/** Keys that others use, and other databases. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { redisBackend } from "../../backends/redis.ts";
import { tagOf } from "../../backends/redis/store.ts";
import type { LockBackend } from "../../core/backend.ts";
import { cleanup } from "../../core/operators/cleanup.ts";
import { Lock, LockBackendError, locks } from "../../mod.ts";
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
  const unreadable = await assertRejects(
    () => acquire(a.backend),
    LockBackendError,
    'the record of "job" cannot be read',
  );
  assertEquals(unreadable.transient, false);
  assertEquals(await a.client.get(name), "something else");
});

test("keys of other types among the locks: listings and cleanups say what they are, and go on", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  const [name] = await a.client.keys("*:job");
  const bucket = name.slice(0, -":job".length);
  // Where a record of that name would be.
  const nameOf = (key: string) => `${bucket.replace(/\{.*/, "")}${tagOf(key)}:${key}`;
  await a.client.rpush(nameOf("a list"), "an element");
  await a.client.hset(nameOf("a hash"), "field", "value");
  await a.client.xadd(nameOf("a stream"), "*", "field", "value");
  await a.client.set(nameOf("a text"), "something else");
  await a.client.set(nameOf("no text"), "");
  const found = new Map<string, string | null>();
  for await (const { key, value, version } of a.backend.list("")) {
    assert(version !== null);
    found.set(key, value);
  }
  assertEquals(found.size, 6);
  for (const kind of ["list", "hash", "stream"]) assertEquals(found.get(`a ${kind}`), `a Redis ${kind}`);
  for (const key of ["a text", "no text"]) assertEquals(found.get(key), "a text that is no record");
  const listed = await Array.fromAsync(locks({ backend: a.backend }));
  const readable = listed.filter(({ unreadable }) => unreadable === undefined);
  assertEquals([listed.length, readable.map(({ identifier }) => identifier)], [6, ["job"]]);
  for (const { identifier, unreadable } of listed) {
    const said = `the record of "${identifier}" cannot be read: it is ${found.get(identifier)}`;
    assertEquals(unreadable, identifier === "job" ? undefined : said);
  }
  const { seen, live, unreadable } = await cleanup({ backend: a.backend });
  assertEquals([seen, live, unreadable], [6, 1, 5]);
  for (const key of found.keys()) {
    if (key === "job") continue;
    const error = await assertRejects(() => a.backend.read([key]), LockBackendError);
    assert(error.message.includes(`"${nameOf(key)}"`), error.message);
    assertEquals(error.transient, false);
    const both = await assertRejects(() => a.backend.read(["job", key]), LockBackendError);
    assertEquals(both.transient, false);
    await assertRejects(() => Lock.acquire(key, { backend: a.backend }), LockBackendError);
  }
  assert(await held.release());
});

test("two databases of one server: equal names are different records, and neither hears of the other's", async () => {
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
