/** Commits that are sent together. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { LockBackend } from "../../core/backend.ts";
import { queueKeyOf } from "../../core/identifier.ts";
import { Lock, LockBackendError } from "../../mod.ts";
import { CLIENTS } from "./clients.ts";
import { calls, test, untilQueued, World } from "./world.ts";

for (const [make, connect] of Object.entries(CLIENTS)) {
  test(`${make}: commits of one turn go together, and each has its own outcome`, async () => {
    await using world = await World.start();
    const { backend } = await world.peer(world.server.port, connect);
    const { client } = await world.peer();
    const put = (key: string, version: string | null, value = "1") =>
      backend.commit([{ key, version, value, expireInMs: 60_000 }]);
    const [old, gone] = [await put("old", null), await put("gone", null), await put("odd", null)];
    assert(old.ok && gone.ok);
    const [name] = await client.keys("*:odd");
    await client.del(name);
    await client.hset(name, "field", "value");

    // From here on the server knows the script.
    await Promise.all([1, 2, 3].map((i) => put(`warm:${i}`, null)));
    const before = await calls(client);
    const fresh = Array.from({ length: 60 }, (_, i) => put(`fresh:${i}`, null, `${i}`));
    const [conflict, odd, renewed, deleted, late, ...made] = await Promise.all([
      put("old", null, "2"),
      assertRejects(() => put("odd", null), LockBackendError, "another type"),
      put("old", old.version, "3"),
      backend.commit([{ key: "gone", version: gone.version, value: null }]),
      backend.commit([{ key: "old", version: gone.version, value: null }]),
      ...fresh,
    ]);
    // The first alone, for it did not know of the others; the others by 32.
    assertEquals(await calls(client) - before, 3);
    const nobodyQueued = { key: queueKeyOf("old"), value: null, version: null };
    assertEquals(conflict, {
      ok: false,
      entries: [{ key: "old", value: "1", version: old.version }, nobodyQueued],
    });
    assertEquals(odd.transient, false);
    assert(renewed.ok && renewed.version > old.version);
    assert(deleted.ok && deleted.version > gone.version);
    assertEquals(late, {
      ok: false,
      entries: [{ key: "old", value: "3", version: renewed.version }, nobodyQueued],
    });
    const entries = await Promise.all(made.map((_, i) => backend.read([`fresh:${i}`])));
    for (const [i, result] of made.entries()) {
      assert(result.ok);
      assertEquals(entries[i], [{ key: `fresh:${i}`, value: `${i}`, version: result.version }]);
    }
    assertEquals((await backend.read(["gone"]))[0].version, null);
    assertEquals(await client.hgetall(name), { field: "value" });
  });
}

test("processes that wait hear of what went together, and fencing tokens rise through it", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const names = Array.from({ length: 20 }, (_, i) => `crowd:${i}`);
  const each = (backend: LockBackend) =>
    Promise.all(names.map(async (name) => (await Lock.acquire(name, { backend }))!));
  const held = await each(a.backend);
  const waiting = each(b.backend);
  for (const name of names) await untilQueued(b.backend, 1, name);
  for (const lock of held) void lock.release();
  const next = await waiting;
  for (const [i, lock] of next.entries()) assert(lock.fencingToken > held[i].fencingToken);
  await world.server.ask("SCRIPT", "FLUSH");
  assertEquals(await Promise.all(next.map((lock) => lock.release())), names.map(() => true));
  const last = await each(a.backend);
  for (const [i, lock] of last.entries()) assert(lock.fencingToken > next[i].fencingToken);
  await Promise.all(last.map((lock) => lock.release()));
});
