// A backend that is closed: what waits fails and leaves the queue, and only what the backend has opened is closed. The same
// is played on Redis, Postgres and Datastore where their servers are: tests/redis, tests/postgres, tests/datastore.
import { openKv } from "@deno/kv";
import { assertEquals, assertRejects } from "@std/assert";
import { datastoreBackend } from "../backends/datastore.ts";
import { kvBackend, openDefaultKvBackend } from "../backends/kv.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { lock, LockBackendError } from "../mod.ts";
import { TestClock } from "../testing.ts";
import { assertCloses } from "./support/closing.ts";
import { clientOf } from "./datastore/client_of.ts";

Deno.test("closing: memory", async () => {
  const store = new MemoryStore();
  await assertCloses({ open: () => memoryBackend({ store }), other: memoryBackend({ store }) });
});

Deno.test("closing: memory with a clock for tests, which need not be advanced for it", async () => {
  const options = { clock: new TestClock(), store: new MemoryStore() };
  const backend = memoryBackend(options);
  const held = await lock("x", { backend: memoryBackend(options) }).acquire();
  const waiting = assertRejects(
    () => lock("x", { backend }).acquire(),
    LockBackendError,
    "the memory backend is disposed of",
  );
  await backend.close();
  await waiting;
  await held.release();
});

Deno.test("closing: a caller that waits for a hold of the same process gets the lock when that is released", async () => {
  const backend = memoryBackend();
  const held = await lock("x", { backend }).acquire();
  const waiting = lock("x", { backend }).acquire();
  await backend.close();
  await held.release();
  assertEquals(await (await waiting).release(), true);
});

Deno.test("closing: Deno KV, which is closed only by the program that has opened it", async () => {
  const kv = await Deno.openKv(":memory:");
  await assertCloses({ open: () => kvBackend(kv), other: kvBackend(kv) });
  kv.close();
});

Deno.test({
  name: "closing: @deno/kv",
  sanitizeResources: false,
  async fn() {
    const kv = await openKv(":memory:");
    await assertCloses({ open: () => kvBackend(kv), other: kvBackend(kv) });
    kv.close();
  },
});

Deno.test("closing: the default database was opened for its backend, and is closed with it", async () => {
  const backend = await openDefaultKvBackend();
  await (await lock("x", { backend }).acquire()).release();
  await Promise.all([backend.close(), backend.close()]);
  await assertRejects(
    () => lock("x", { backend }).acquire(),
    LockBackendError,
    "the Deno KV database is closed",
  );
});

Deno.test("closing: Datastore, whose waiters poll and stop", async () => {
  let reads = 0;
  const lookup = () => {
    reads++;
    return Promise.resolve([{ found: [], missing: [], deferred: [] }]);
  };
  const unused = () => Promise.reject(new Error("not asked for"));
  const backend = datastoreBackend(clientOf(unused, { lookup }), { projectId: "p", pollMs: 25 });
  const { signal } = new AbortController();
  const watching = assertRejects(
    async () => {
      for await (const _ of backend.watch("x", { signal }));
    },
    LockBackendError,
    "the Datastore backend is disposed of",
  );
  await backend.close();
  await watching;
  assertEquals(reads, 1);
});
