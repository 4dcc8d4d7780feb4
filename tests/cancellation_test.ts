// What a signal does to those that wait.
import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { memoryBackend } from "../backends/memory.ts";
import { cleanup } from "../cron.ts";
import { setDefaultBackend } from "../core/configure.ts";
import { configure, Lock, lock, LockAcquisitionError } from "../mod.ts";

Deno.test("cancellation: a reason that looks like a refusal is still the reason", async () => {
  const reason = new LockAcquisitionError("another", 5, []);
  const backend = memoryBackend();
  const held = await lock("x", { backend }).acquire();
  for (const signal of [AbortSignal.abort(reason), undefined]) {
    const ending = new AbortController();
    const options = { backend, signal: signal ?? ending.signal };
    const outcomes = [
      Lock.acquire("x", options),
      lock("x", options)(() => "ran")(),
      lock("x", options).run(() => "ran"),
    ].map((outcome) => assertRejects(() => outcome));
    ending.abort(reason);
    assertEquals(await Promise.all(outcomes), [reason, reason, reason]);
  }
  await held.release();
});

Deno.test("cancellation: a signal by shape is enough, and carries one listener for all that wait", async () => {
  const real = new AbortController();
  let listening = 0;
  let most = 0;
  const signal = {
    get aborted() {
      return real.signal.aborted;
    },
    get reason() {
      return real.signal.reason;
    },
    addEventListener(...args: Parameters<AbortSignal["addEventListener"]>) {
      most = Math.max(most, ++listening);
      real.signal.addEventListener(...args);
    },
    removeEventListener(...args: Parameters<AbortSignal["removeEventListener"]>) {
      listening--;
      real.signal.removeEventListener(...args);
    },
  } as AbortSignal;
  const backend = memoryBackend();
  const held = await lock("x", { backend, signal }).acquire();
  assertEquals(listening, 0);
  const waiting = Array.from({ length: 20 }, () => lock("x", { backend, signal }).acquire());
  await delay(0);
  assertEquals([listening, most], [1, 1]);
  real.abort("enough");
  assertEquals(
    (await Promise.allSettled(waiting)).map((outcome) => outcome.status),
    Array(20).fill("rejected"),
  );
  assertEquals(listening, 0);
  await held.release();
});

Deno.test("cancellation: a reason that cannot be read leaves no caller waiting", async () => {
  const backend = memoryBackend();
  const held = await lock("x", { backend }).acquire();
  const aborts = new Set<() => void>();
  let aborted = false;
  const signal = {
    get aborted() {
      return aborted;
    },
    get reason() {
      throw new Error("no reason can be given");
    },
    addEventListener: (_: string, listener: () => void) => aborts.add(listener),
    removeEventListener: (_: string, listener: () => void) => aborts.delete(listener),
  } as unknown as AbortSignal;
  const waiting = [1, 2].map(() =>
    assertRejects(() => Lock.acquire("x", { backend, signal }), Error, "no reason can be given")
  );
  await delay(1);
  const readers = await Promise.all([1, 2].map(() => lock("y", { backend, mode: "shared" }).acquire()));
  waiting.push(assertRejects(() => readers[0].upgrade({ signal }), Error, "no reason can be given"));
  aborted = true;
  for (const abort of aborts) abort();
  await Promise.all(waiting);
  for (const one of [held, ...readers]) await one.release();
});

Deno.test("cancellation: a signal is heard at once while a backend is being opened, for ever perhaps", async () => {
  const claim = await (await lock("x", { backend: memoryBackend() }).acquire()).handOver();
  configure({ strong: undefined });
  setDefaultBackend(() => new Promise(() => {}));
  const ending = new AbortController();
  const { signal } = ending;
  const waiting = [
    Lock.acquire("x", { signal }),
    lock("x", { signal }).run(() => "ran"),
    lock(["x", "y"], { signal }).acquire(),
    Lock.restore(claim, { signal }),
  ].map((outcome) => assertRejects(() => outcome, Error, "enough"));
  await delay(1);
  ending.abort(new Error("enough"));
  await Promise.all(waiting);
});

Deno.test("cancellation: a signal that cannot be left keeps no outcome from its caller", async () => {
  const backend = memoryBackend();
  const stubborn = () => {
    const ending = new AbortController();
    ending.signal.removeEventListener = () => {
      throw new Error("no way out");
    };
    return ending;
  };
  const { signal } = stubborn();
  assertEquals(await lock("x", { backend, signal }).run(() => "ran"), "ran");
  const held = await lock("x", { backend }).acquire();
  const ending = stubborn();
  const waiting = assertRejects(() => Lock.acquire("x", { backend, signal: ending.signal }), Error, "enough");
  ending.abort(new Error("enough"));
  await waiting;
  assertEquals((await cleanup({ backend, signal: stubborn().signal })).live, 1);
  await held.release();
});
