// A process gives up all that it holds or waits for, before it ends.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import {
  configure,
  lock,
  LockBackendError,
  LockLostError,
  observe,
  releaseAll,
  releaseOnExit,
} from "../mod.ts";
import { setDefaultBackend } from "../core/configure.ts";
import { proofsOf } from "../core/guard.ts";
import { holdOf } from "../core/lock.ts";
import { Probe } from "../testing/probe.ts";
import { Scene } from "./simulation/scene.ts";

const ALL = "this process released all its locks (releaseAll or releaseOnExit)";

Deno.test("releaseAll: what is held is released, and what waits is cancelled, on every backend", async () => {
  const store = new MemoryStore();
  const [here, there, other] = [memoryBackend({ store }), memoryBackend({ store }), memoryBackend()];
  const held = await Promise.all([
    lock("a", { backend: here }).acquire(),
    lock("b", { backend: here }).acquire(),
    lock("a", { backend: other }).acquire(),
  ]);
  const waiting = [lock("a", { backend: here }), lock("b", { backend: there })].map((forms) =>
    forms.acquire().catch((error) => error.name)
  );
  assertEquals(await releaseAll(), 3);
  assertEquals(await Promise.all(waiting), ["AbortError", "AbortError"]);
  for (const { held: isHeld, signal } of held) {
    assertEquals(isHeld, false);
    assert(signal.reason instanceof LockLostError && signal.reason.reason === "released");
  }
  assertEquals(await Promise.all(held.map((one) => one.release())), [true, true, true]);
  // What is called on it now says what has happened.
  for (
    const call of [
      ...[
        () => held[0].extend(),
        () => held[0].upgrade(),
        () => held[0].downgrade(),
        () => held[0].handOver(),
      ],
      () => proofsOf(holdOf(held[0])),
    ]
  ) {
    const { reason, message } = await assertRejects(call, LockLostError);
    assertEquals([reason, message], ["released", `Lost lock "a": ${ALL}`]);
  }
  assertEquals(String(held[0]).includes(", released, "), true);
  // Nothing is left, and what comes afterwards is not affected.
  for (const backend of [here, other]) for await (const _ of backend.list("")) throw new Error("left");
  assertEquals(await lock("a", { backend: there, wait: false }).run(() => "ran"), "ran");
  assertEquals(await releaseAll(), 0);
});

Deno.test("releaseAll: several locks together are one, held or waited for", async () => {
  const store = new MemoryStore();
  const [here, there] = [memoryBackend({ store }), memoryBackend({ store })];
  const held = await lock(["a", "b"], { backend: here }).acquire();
  const waiting = lock(["b", "c"], { backend: there }).acquire().catch((error) => error.name);
  for await (const { waiters } of observe("b", { backend: here })) if (waiters.length === 1) break;
  assertEquals(await releaseAll(), 1);
  assertEquals(await waiting, "AbortError");
  assert(held.signal.reason instanceof LockLostError && held.signal.reason.reason === "released");
  assertEquals(await held.release(), true);
  for await (const { key } of here.list("")) throw new Error(`${key} is left`);
});

Deno.test("releaseAll: code that runs under a lock is notified, and its caller too", async () => {
  const backend = memoryBackend();
  const aborted = lock("a", { backend }).run(async ({ signal }) => {
    const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
    await releaseAll();
    await aborted;
    return "done";
  });
  const error = await assertRejects(() => aborted, LockLostError);
  assertEquals([error.reason, error.message, error.result], ["released", `Lost lock "a": ${ALL}`, "done"]);
});

Deno.test("releaseAll: what is under way for a hold is rejected with what has happened", async () => {
  const backend = memoryBackend();
  const [held] = await Promise.all(
    [1, 2].map(() => lock("a", { backend, mode: "shared" }).acquire()),
  );
  const underWay = [held.upgrade(), held.downgrade(), held.extend()].map((call) =>
    call.then(() => "done", ({ message }) => message)
  );
  assertEquals(await releaseAll(), 2);
  assertEquals(await Promise.all(underWay), Array(3).fill(`Lost lock "a": ${ALL}`));
  // What its own caller releases says so.
  const own = await lock("a", { backend }).acquire();
  await own.release();
  assertEquals(await releaseAll(), 0);
  await assertRejects(() => own.extend(), LockLostError, "it had been released before");
});

Deno.test("releaseAll: a call whose backend is still being opened is cancelled, and asks for nothing", async () => {
  const backend = new Probe(memoryBackend());
  const opening = Promise.withResolvers<Probe>();
  configure({ strong: undefined });
  setDefaultBackend(() => opening.promise);
  const waiting = lock("a").acquire().catch((error) => error.name);
  const long = lock("long ".repeat(100), { backend }).acquire().catch((error) => error.name);
  assertEquals(await releaseAll(), 0);
  opening.resolve(backend);
  assertEquals(await Promise.all([waiting, long]), ["AbortError", "AbortError"]);
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals([backend.commits, backend.reads], [0, 0]);
});

Deno.test("releaseAll: a store that fails is published, and what it fails is not counted", async () => {
  const backend = new Probe(memoryBackend());
  const fine = memoryBackend();
  await lock("a", { backend, leaseMs: 100, renew: false }).acquire();
  await lock("a", { backend: fine }).acquire();
  backend.fail(new LockBackendError("the store is out"));
  assertEquals(await releaseAll(), 1);
});

Deno.test("releaseAll: it waits for as long as its options say, and its signal ends the wait", async () => {
  const backend = new Probe(memoryBackend());
  await lock("a", { backend, leaseMs: 1000, renew: false }).acquire();
  const release = Promise.withResolvers<void>();
  backend.plan(async (apply) => {
    await release.promise;
    return await apply();
  });
  assertEquals(await releaseAll({ timeoutMs: 1 }), 0);
  const reason = new Error("enough");
  const ending = new AbortController();
  const rejected = assertRejects(() => releaseAll({ signal: ending.signal }), Error, "enough");
  ending.abort(reason);
  await rejected;
  await assertRejects(() => releaseAll({ signal: AbortSignal.abort(reason) }), Error, "enough");
  release.resolve();
  assertEquals(await releaseAll(), 0);
});

Deno.test("releaseAll: callers that are queued have left the queue when it resolves", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const hold = await a.acquire();
    const waiting = b.acquire().catch((error) => error.name);
    await b.process.pause(100);
    assertEquals(scene.queued, 1);
    for (const { released } of b.participant.giveUp(new DOMException("", "AbortError"))) await released;
    assertEquals(await waiting, "AbortError");
    await b.participant.whenCleared(new AbortController().signal);
    assertEquals(scene.queued, 0);
    await hold.release();
  });
});

Deno.test("releaseAll, releaseOnExit: bad input is refused", async () => {
  // deno-lint-ignore no-explicit-any
  const bad: [any, string][] = [
    [null, "options must be an object"],
    [{ timeout: 5 }, "there is no option 'timeout'"],
    [{ timeoutMs: -1 }, "'timeoutMs' must be a whole number of milliseconds"],
  ];
  for (const [options, says] of bad) {
    await assertRejects(() => releaseAll(options), Error, `Cannot release all locks: ${says}`);
    assertThrows(() => releaseOnExit(options), Error, `Cannot release on exit: ${says}`);
  }
  for (const signals of ["SIGTERM", [], ["TERM"], ["SIGKILL"], [15]]) {
    // deno-lint-ignore no-explicit-any
    assertThrows(() => releaseOnExit({ signals } as any), TypeError, "'signals' must be names of signals");
  }
  // deno-lint-ignore no-explicit-any
  await assertRejects(() => releaseAll({ signal: 5 } as any), TypeError, "'signal' must be an AbortSignal");
});
