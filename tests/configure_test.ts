// Which backend a lock uses.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { memoryBackend } from "../backends/memory.ts";
import { configure, Lock, lock, LOCK_KINDS } from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

Deno.test("configure: it takes backends only", () => {
  assertThrows(() => configure(null as Anything), TypeError, "it takes { strong, weak }");
  assertThrows(() => configure({ strong: {} as Anything }), TypeError, "Cannot use 'strong'");
  assertThrows(() => configure({ fast: memoryBackend() } as Anything), TypeError, "there is no kind 'fast'");
});

Deno.test("configure: what is not { strong, weak } is refused with the call that was meant", async () => {
  const kv = await Deno.openKv(":memory:");
  const meant: [unknown, string][] = [
    [kv, "call configure({ strong: kvBackend(kv) })"],
    [memoryBackend(), "call configure({ strong: backend })"],
    [
      new Map(),
      "configure({ strong: kvBackend(kv) or redisBackend(client) }), current value is [object Map]",
    ],
    [{ evalsha() {}, call() {} }, "there is no kind 'evalsha'"],
    [Promise.resolve(memoryBackend()), "current value is a promise (is an await missing?)"],
  ];
  for (const [value, message] of meant) {
    assertThrows(() => configure(value as Anything), TypeError, message);
  }
  assertThrows(
    () => configure({ strong: kv as Anything }),
    TypeError,
    "such as kvBackend(kv), current value lacks",
  );
  assertThrows(
    () => configure({ strong: Promise.resolve(memoryBackend()) as Anything }),
    TypeError,
    "lacks 'read': a promise (is an await missing?)",
  );
  kv.close();
});

Deno.test("configure: a refused configure changes nothing", async () => {
  const strong = memoryBackend();
  try {
    configure({ strong });
    assertThrows(() => configure({ strong: memoryBackend(), weak: {} as Anything }), TypeError, "'weak'");
    await using held = await lock("x").acquire();
    assertEquals(await Lock.acquire("x", { backend: strong, wait: false }), null);
    assert(held.held);
  } finally {
    configure({ strong: undefined });
  }
});

Deno.test("configure: WEAK uses the strong backend until a weak one is configured", async () => {
  try {
    configure({ strong: memoryBackend() });
    const strong = await lock("x").acquire();
    const options = { kind: LOCK_KINDS.WEAK, wait: false };
    assertEquals(await Lock.acquire("x", options), null);
    configure({ weak: memoryBackend() });
    const weak = await Lock.acquire("x", options);
    assertEquals(weak?.kind, LOCK_KINDS.WEAK);
    await weak?.release();
    await strong.release();
  } finally {
    configure({ strong: undefined, weak: undefined });
  }
});
