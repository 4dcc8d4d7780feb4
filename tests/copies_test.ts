// Two copies of the library in one process: an app has one, and a package that it uses has another.
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { LockBackend } from "../core/backend.ts";
import { UnreadableRecordError } from "../core/errors.ts";
import * as kvHere from "../backends/kv.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { DatastoreStore } from "../backends/datastore/store.ts";
import { PostgresStore } from "../backends/postgres/store.ts";
import { RedisStore } from "../backends/redis/store.ts";
import * as here from "../mod.ts";
import { Copy } from "./mutants/copy.ts";
import { clientOf } from "./datastore/client_of.ts";

await using copy = await Copy.make("mod.ts", "exit.ts", "process_label.ts", "core", "backends");

/** A module of the other copy. */
async function fromCopy<Module>(path: string): Promise<Module> {
  return await import(pathToFileURL(join(copy.path, path)).href);
}

const there = await fromCopy<typeof here>("mod.ts");
const kvThere = await fromCopy<typeof kvHere>("backends/kv.ts");
const memoryThere = await fromCopy<typeof import("../backends/memory.ts")>("backends/memory.ts");

const { postgresBackend } = await fromCopy<typeof import("../backends/postgres.ts")>("backends/postgres.ts");
const { redisBackend } = await fromCopy<typeof import("../backends/redis.ts")>("backends/redis.ts");
const { datastoreBackend } = await fromCopy<typeof import("../backends/datastore.ts")>(
  "backends/datastore.ts",
);

/** A backend of the other copy that fails `count` commits in a row, once it is asked to. */
function failing(): LockBackend & { fail(count: number): void } {
  let left = 0;
  const backend = memoryThere.memoryBackend();
  return {
    ...backend,
    fail: (count) => left = count,
    commit: (changes, options) =>
      left-- > 0
        ? Promise.reject(new there.LockBackendError("connection lost", { transient: true }))
        : backend.commit(changes, options),
  };
}

Deno.test("copies: the copy is another one", () => {
  assert(there.Lock !== here.Lock && memoryThere.MemoryStore !== MemoryStore);
});

Deno.test("copies: an outage that passes is waited for, whichever copy reports it", async () => {
  const backend = failing();
  backend.fail(2);
  const held = await here.lock("job", { backend }).acquire();
  backend.fail(2);
  assertEquals(await held.release(), true);
  assertEquals((await Array.fromAsync(here.locks({ backend }))).length, 0);
});

Deno.test("copies: an error is recognised, whichever copy has made it", () => {
  const pairs = [[here, there], [there, here]] as const;
  for (const [one, other] of pairs) {
    const failure = new one.LockBackendError("connection lost");
    const taken = new one.LockAcquisitionError("job", 1, []);
    const lost = new one.LockLostError("job", "stolen", "1");
    assertInstanceOf(failure, other.LockBackendError);
    assertInstanceOf(taken, other.LockAcquisitionError);
    assertInstanceOf(lost, other.LockLostError);
    for (const error of [failure, taken]) assert(!(error instanceof other.LockLostError));
    for (const error of [taken, lost]) assert(!(error instanceof other.LockBackendError));
    for (const nothing of [null, undefined, "connection lost", new Error("connection lost"), {}]) {
      assert(!(nothing as unknown instanceof other.LockBackendError));
    }
  }
});

Deno.test("copies: a class of errors that extends another is its own", () => {
  class ReplicaError extends there.LockBackendError {}
  const failure = new here.LockBackendError("connection lost");
  assertInstanceOf(new ReplicaError("no replica"), here.LockBackendError);
  assertInstanceOf(new ReplicaError("no replica"), ReplicaError);
  assert(!(failure instanceof ReplicaError));
  assert(!(failure instanceof UnreadableRecordError));
  assertInstanceOf(new UnreadableRecordError("no record"), there.LockBackendError);
});

Deno.test("copies: a lock is recognised, whichever copy has made it, and nothing else is one", async () => {
  const held = await there.lock("job", { backend: memoryBackend() }).acquire();
  assert(held instanceof here.Lock);
  assert(!({} as unknown instanceof here.Lock));
  assertEquals(await held.release(), true);
});

Deno.test("copies: one memory serves both", async () => {
  const store = new memoryThere.MemoryStore();
  const held = await here.lock("job", { backend: memoryBackend({ store }) }).acquire();
  const backend = memoryThere.memoryBackend({ store });
  assertEquals(await there.Lock.acquire("job", { backend, wait: false }), null);
  await held.release();
});

Deno.test("copies: commitIfHeld serves a lock of another copy, and a backend of another copy", async () => {
  using kv = await Deno.openKv(":memory:");
  const ways = [
    [here, kvThere, kvThere],
    [there, kvThere, kvHere],
    [here, kvThere, kvHere],
    [here, kvHere, kvThere],
  ] as const;
  for (const [locking, opening, committing] of ways) {
    const backend = opening.kvBackend(kv);
    const held = await locking.lock("stock", { backend }).acquire();
    const result = await committing.commitIfHeld(held, (atomic) => atomic.set(["stock"], 12));
    assert(result.ok);
    assertEquals(await held.release(), true);
    await assertRejects(() => committing.commitIfHeld(held, () => {}), here.LockLostError, "released before");
  }
});

Deno.test("copies: the backends that have a commitIfHeld are recognised, whichever copy has made them", () => {
  const unused = () => Promise.reject(new Error("not asked for"));
  const redis = {
    options: {},
    status: "ready",
    evalsha: unused,
    eval: unused,
    call: unused,
    duplicate: unused,
  };
  const made = [
    [postgresBackend({ query: unused }), PostgresStore],
    [redisBackend({ ...redis, on() {}, off() {} } as never), RedisStore],
    [datastoreBackend(clientOf(unused), { projectId: "p" }), DatastoreStore],
  ] as const;
  for (const [backend, Store] of made) assert(backend instanceof Store, Store.name);
});

Deno.test("copies: commitIfHeld refuses a lock of another copy that is on another backend", async () => {
  const held = await there.lock("stock", { backend: memoryThere.memoryBackend() }).acquire();
  await assertRejects(
    () => kvHere.commitIfHeld(held, () => {}),
    TypeError,
    "must be a lock on a Deno KV backend",
  );
  await held.release();
});

Deno.test("copies: two that use one backend are two participants: they exclude each other, and take turns", async () => {
  const backend = memoryBackend();
  const held = await here.lock("job", { backend }).acquire();
  const waiting = there.lock("job", { backend }).acquire();
  const ending = new AbortController();
  const leaving = there.lock("job", { backend, signal: ending.signal }).acquire();
  ending.abort("enough");
  assertEquals(await leaving.catch((reason) => reason), "enough");
  assertEquals(await held.release(), true);
  assertEquals(await (await waiting).release(), true);
  assertEquals((await Array.fromAsync(here.locks({ backend }))).length, 0);
});

Deno.test("copies: a listener hears of both, and no acquisition is called like another", async () => {
  const ids: number[] = [];
  const hear = (message: unknown) => void ids.push((message as here.LockEvents["holdfast:acquired"]).id);
  subscribe("holdfast:acquired", hear);
  try {
    for (const { lock } of [here, there, here, there]) {
      await lock("job", { backend: memoryBackend() }).run(() => {});
    }
  } finally {
    unsubscribe("holdfast:acquired", hear);
  }
  assertEquals([ids.length, new Set(ids).size], [4, 4]);
});
