/** The clock: what tests put in its place, and the one that tests are given. */

import { Lock, lock, LockAcquisitionError, peek } from "@holdfast/lock";
import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
import { TestClock } from "@holdfast/lock/testing";
import type * as Clocks from "../core/clock.ts";
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";

// deno-lint-ignore no-explicit-any
type Anything = any;

let day = 0;
/** A wall clock that is set a day forward at every look. */
const leaping = () => 86_400_000 * ++day;

/** What tests replace, by hand or with a library: clocks that stand still or leap, and timers that never ring. */
const FAKES: Record<string, () => Record<string, unknown>> = {
  "Date.now": () => ({ Date: Object.assign(function () {}, { now: leaping }) }),
  "performance": () => ({ performance: { now: () => 0, timeOrigin: 0 } }),
  "timers": () => ({
    setTimeout: () => 0,
    clearTimeout: () => {},
    setInterval: () => 0,
    setImmediate: () => 0,
  }),
};

/** Runs `play` while these stand in the place of the real ones; a method is replaced on its object, too. */
async function withFakes(names: readonly string[], play: () => Promise<void>): Promise<void> {
  const fakes = Object.assign({}, ...names.map((name) => FAKES[name]()));
  const real = Object.getOwnPropertyDescriptors(globalThis) as Record<string, PropertyDescriptor>;
  const [now, dateNow] = [performance.now, Date.now];
  try {
    if (names.includes("performance")) performance.now = () => 0;
    if (names.includes("Date.now")) Date.now = leaping;
    for (const [name, value] of Object.entries(fakes)) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    await play();
  } finally {
    for (const name of Object.keys(fakes)) Object.defineProperty(globalThis, name, real[name]);
    [performance.now, Date.now] = [now, dateNow];
  }
}

for (
  const names of [["Date.now"], ["performance"], ["timers"], ["Date.now", "performance"], Object.keys(FAKES)]
) {
  Deno.test(`clock: where a test replaces ${names.join(" and ")}, leases and limits go on as ever`, async () => {
    await withFakes(names, async () => {
      const store = new MemoryStore();
      const on = () => ({ backend: memoryBackend({ store }) });
      const held = await lock("x", { ...on(), leaseMs: 2000 }).acquire();
      const late = await lock("x", { ...on(), waitForMs: 250 }).acquire().catch((error) => error);
      assertInstanceOf(late, LockAcquisitionError);
      assertEquals([held.held, await held.release()], [true, true]);
      const lost = await lock("x", { ...on(), leaseMs: 300, renew: false }).acquire();
      const next = await lock("x", { ...on() }).acquire();
      assertEquals([lost.held, await next.release()], [false, true]);
    });
  });
}

Deno.test("clock: what was replaced before the library was loaded is not believed either", async () => {
  const before = performance.timeOrigin + performance.now();
  await withFakes(["Date.now", "timers"], async () => {
    const { systemClock } = await import(`${new URL("../core/clock.ts", import.meta.url)}?loaded=late`);
    const aheadMs = systemClock.wallMs() - before;
    assert(aheadMs >= 0 && aheadMs < 3_600_000, `it is ${aheadMs} ms ahead`);
    assert(systemClock.monotonicMs() > 0);
  });
});

Deno.test("clock: a test's clock makes leases, renewals and limits last as long as the test says", async () => {
  const clock = new TestClock(Date.UTC(2030, 0, 1));
  const store = new MemoryStore();
  const on = () => ({ backend: memoryBackend({ store, clock }) });
  const held = await lock("x", on()).acquire();
  assertEquals((await peek("x", on())).holders[0].since, new Date(Date.UTC(2030, 0, 1)));
  // Renewed as long as time goes on in steps, however large they are.
  await clock.advance(24 * 3_600_000);
  assertEquals([held.held, held.signal.aborted], [true, false]);
  const waiting = Lock.acquire("x", { ...on(), waitForMs: 5000 });
  await clock.advance(4999);
  let got: Lock | null | undefined;
  void waiting.then((lock) => got = lock);
  await clock.advance(0);
  assertEquals(got, undefined);
  await clock.advance(1);
  assertEquals(got, null);
  const next = lock("x", on()).acquire();
  await clock.advance(0);
  assertEquals(await held.release(), true);
  await clock.advance(0);
  assert((await next).held);
  const stolen = await Promise.all([
    lock("x", { ...on(), stealAfterMs: 60_000 }).acquire(),
    clock.advance(60_000),
  ]);
  assertEquals([(await next).held, (await next).signal.reason.reason], [false, "stolen"]);
  await stolen[0].release();
  assertEquals((await peek("x", on())).holders, []);
});

Deno.test("clock: bad input is refused", async () => {
  for (const clock of [null, 5, {}, Date] as Anything[]) {
    assertThrows(() => memoryBackend({ clock }), TypeError, "'clock' must be a TestClock");
  }
  assertThrows(() => new TestClock(NaN), TypeError, "'wallMs' must be a finite number");
  await assertRejects(
    () => new TestClock().advance(-1),
    RangeError,
    "'ms' must be a finite number of 0 or more",
  );
});

Deno.test("clock: a Date.now that was replaced before, and passes the time on, shows that a machine was suspended", async () => {
  const real = Date.now;
  let asleepMs = 0;
  Date.now = () => real() + asleepMs;
  try {
    const path = new URL("../core/clock.ts?replaced", import.meta.url).href;
    const { systemClock }: typeof Clocks = await import(path);
    const before = systemClock.wallMs();
    asleepMs = 60_000;
    assert(systemClock.wallMs() - before > 30_000);
  } finally {
    Date.now = real;
  }
});
