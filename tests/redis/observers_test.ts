/** Those that watch without a name, such as `observe`: all commits concern them. */

import { assert, assertEquals } from "@std/assert";
import { acquire, test, World } from "./world.ts";

test("a watch without a name is shown what concerns others, and need not ask", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  const end = new AbortController();
  // An idle watch never asks again.
  const watch = b.backend.watch("job", { signal: end.signal, idle: true });
  const entries = watch[Symbol.asyncIterator]();
  const shown = async () => (await entries.next()).value!;
  assertEquals((await shown()).value, null);
  // What is taken where nothing was concerns no other process.
  const held = await acquire(a.backend);
  const taken = await shown();
  assertEquals(taken.version, held.fencingToken);
  const changed = await a.backend.commit([{ ...taken, value: taken.value }], { concerns: ["another"] });
  assert(changed.ok);
  assertEquals((await shown()).version, changed.version);
  end.abort();
  await entries.return?.();
});
