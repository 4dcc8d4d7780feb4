/** Postgres in the process, by PGlite: the suite, and writes under the lock. It needs nothing installed. */

import { assertEquals, assertRejects } from "@std/assert";
import { commitIfHeld, heldGuard } from "@holdfast/lock/backends/postgres";
import { Lock, LockBackendError } from "../../mod.ts";
import { LENIENT, PLAYS_ALL, SLICE, testPostgres } from "./cases.ts";
import { closeLite, connectLite, lite } from "./clients.ts";

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ ...LENIENT, name, fn });
}

function slice(name: string, play: () => Promise<void>): void {
  if (PLAYS_ALL || SLICE.test(name)) test(name, play);
}

testPostgres("PGlite", { port: 0, test: slice, skip: Deno.test.ignore });

test("Postgres, PGlite: commitIfHeld and heldGuard", async () => {
  const { backend, sql } = await connectLite(0);
  await sql("CREATE TABLE own AS SELECT 0 AS value");
  const held = (await Lock.acquire("guarded", { backend }))!;
  await commitIfHeld(held, (query) => query("UPDATE own SET value = $1", [1]));
  await assertRejects(() =>
    commitIfHeld(held, async (query) => {
      await query("UPDATE own SET value = $1", [2]);
      await query("SELECT nonsense").catch(() => {});
    })
  );
  const { text, values } = heldGuard(held);
  const inOne = async () => await (await lite()).query(text, values);
  await inOne();
  assertEquals(await sql("SELECT value FROM own"), [{ value: 1 }]);
  await held.release();
  await assertRejects(inOne, Error, "Lost lock");
});

test("Postgres, PGlite: once it is closed, an error at once that says so", async () => {
  const { backend } = await connectLite(0);
  await closeLite();
  const error = await assertRejects(
    () => Lock.acquire("job", { backend }),
    LockBackendError,
    "client is closed",
  );
  assertEquals((error as LockBackendError).transient, false);
});
