// A look at one lock from outside: what a store that fails makes of it, what is no record, and bad input.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { type ListedLock, lock, LockBackendError, observe, peek } from "../mod.ts";
import { Probe } from "../testing/probe.ts";

Deno.test("observe: a store that fails for a while is asked again, one that fails for good ends it", async () => {
  const backend = new Probe(memoryBackend());
  const held = await lock("x", { backend }).acquire();
  const heard: unknown[] = [];
  const hear = (message: unknown) => heard.push(message);
  subscribe("holdfast:backend-error", hear);
  const read = backend.read.bind(backend);
  const failures = [new LockBackendError("away", { transient: true }), new LockBackendError("gone")];
  backend.read = () => Promise.reject(failures[0]);
  const observed = observe("x", { backend });
  const first = observed.next();
  while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve));
  backend.read = read;
  assertEquals((await first).value.holders.length, 1);
  backend.read = () => Promise.reject(failures[1]);
  const failing = assertRejects(() => observed.next(), LockBackendError);
  await held.release();
  const error = await failing;
  assertEquals(error.message, 'Cannot look at lock "x": gone');
  assertEquals(await backend.idle(1000), true);
  unsubscribe("holdfast:backend-error", hear);
});

Deno.test("observe: nothing is shown twice, and what a break leaves behind is nothing", async () => {
  const backend = new Probe(memoryBackend());
  const held = await lock("x", { backend }).acquire();
  const seen: ListedLock[] = [];
  for await (const one of observe("x", { backend })) {
    seen.push(one);
    if (seen.length === 1) void held.release();
    else break;
  }
  assertEquals(seen.map(({ holders }) => holders.length), [1, 0]);
  assertEquals(await backend.idle(1000), true);
  for await (const _ of observe("x", { backend, signal: AbortSignal.abort() })) {
    throw new Error("it was over");
  }
});

Deno.test("peek, observe: what is no record is shown as that", async () => {
  const store = new MemoryStore();
  const backend = memoryBackend({ store });
  await backend.commit([{ key: "x", version: null, value: "junk" }]);
  const { unreadable } = await peek("x", { backend });
  assertEquals(unreadable, 'the record of "x" cannot be read: it is no JSON');
  for await (const one of observe("x", { backend })) {
    assertEquals(one.unreadable, unreadable);
    break;
  }
});

Deno.test("peek, observe: bad input is refused", async () => {
  // deno-lint-ignore no-explicit-any
  const bad: [any, any, string][] = [
    ["", {}, "'identifier' must be a non-empty string"],
    ["x", { kind: "medium" }, "'kind' must be"],
    ["x", { prefix: "" }, "there is no option 'prefix'"],
    ["x", null, "options must be an object"],
  ];
  for (const [identifier, options, says] of bad) {
    await assertRejects(() => peek(identifier, options), TypeError, says);
    assertThrows(() => observe(identifier, options), TypeError, says);
  }
  // deno-lint-ignore no-explicit-any
  assertThrows(() => observe("x", { signal: 5 } as any), TypeError, "'signal' must be an AbortSignal");
});
