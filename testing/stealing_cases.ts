import { strict as assert } from "node:assert";
import { setTimeout } from "node:timers/promises";
import { type Cases, lossOf } from "./stage.ts";

/** What `stealAfterMs` does, and to which holder. */
export const stealingCases: Cases = {
  "steal: a waiter evicts a holder that is old enough, not before, and it is notified": async (stage) => {
    const { a, b } = stage;
    const started = performance.now();
    const held = await stage.acquire(a, { leaseMs: 300 });
    const thief = await stage.acquire(b, { stealAfterMs: 200 });
    assert.ok(performance.now() - started >= stage.ms(198));
    const { reason, fencingToken } = await lossOf(held);
    assert.deepEqual([reason, fencingToken], ["stolen", held.fencingToken]);
    assert.ok(thief.fencingToken > held.fencingToken);
    assert.equal(held.held, false);
  },

  "steal: a waiter that is cancelled when its eviction is announced has the lock all the same": async (
    stage,
  ) => {
    const { a } = stage;
    for (const options of [{}, { wait: false }]) {
      const held = await stage.acquire(a);
      const ending = new AbortController();
      held.signal.addEventListener("abort", () => ending.abort("no more"));
      const thief = await stage.acquire(a, { stealAfterMs: 0, signal: ending.signal, ...options });
      assert.deepEqual([ending.signal.aborted, thief.held], [true, true]);
      assert.equal(await thief.release(), true);
      assert.equal(await held.release(), false);
    }
  },

  "steal: the release of an evicted holder leaves the new holder alone": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const thief = await stage.acquire(b, { stealAfterMs: 0 });
    // The holder has not been notified yet: the release finds it out.
    assert.equal(await held.release(), false);
    assert.equal((await lossOf(held)).reason, "stolen");
    assert.equal(thief.held, true);
    assert.equal(await stage.tryAcquire(a), null);
    assert.equal(await thief.release(), true);
  },

  "steal: the holder is notified without asking the store for anything else": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 6000 });
    const lost = lossOf(held);
    // By now it watches its own record, and its first renewal is still to come.
    await stage.leave(1100);
    const { commits } = a;
    await stage.acquire(b, { stealAfterMs: 0 });
    assert.equal((await lost).reason, "stolen");
    assert.equal(a.commits, commits);
  },

  "steal: a caller that may not wait evicts an old holder and leaves a young one": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    assert.equal(await stage.tryAcquire(b, { stealAfterMs: 60_000 }), null);
    assert.equal(held.held, true);
    await stage.leave(20);
    // Where clocks mean nothing, its age counts from when it was first seen.
    await setTimeout(Number.isFinite(a.skewMs) ? a.skewMs : 0);
    const thief = await stage.tryAcquire(b, { stealAfterMs: 10 });
    assert.equal(thief?.held, true);
    assert.equal(await held.release(), false);
    assert.equal((await lossOf(held)).reason, "stolen");
    assert.equal(await thief?.release(), true);
  },

  "steal: a waiter evicts a holder of the same process": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a);
    const thief = await stage.acquire(a, { stealAfterMs: 100 });
    // Both are in this process, so it is notified at once.
    assert.equal(held.held, false);
    assert.equal(held.signal.reason.reason, "stolen");
    assert.equal(await held.release(), false);
    assert.equal(await thief.release(), true);
  },

  "steal: a caller that may not wait evicts a holder of the same process": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a);
    assert.equal(await stage.tryAcquire(a, { stealAfterMs: 60_000 }), null);
    const thief = await stage.tryAcquire(a, { stealAfterMs: 0 });
    assert.equal(thief?.held, true);
    assert.equal(held.signal.reason.reason, "stolen");
  },

  "steal: without the option a holder is never evicted": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    assert.equal(await stage.tryAcquire(b, { wait: true, waitForMs: 900 }), null);
    assert.equal(held.held, true);
    assert.equal(await held.release(), true);
  },

  "steal: a holder that has evicted another is evicted in its turn": async (stage) => {
    const { a, b } = stage;
    const third = stage.another();
    const first = await stage.acquire(a);
    const second = await stage.acquire(b, { stealAfterMs: 0 });
    const last = await stage.acquire(third, { stealAfterMs: 0 });
    assert.deepEqual([await first.release(), await second.release()], [false, false]);
    assert.deepEqual([(await lossOf(first)).reason, (await lossOf(second)).reason], ["stolen", "stolen"]);
    assert.equal(last.held, true);
    assert.equal(await last.release(), true);
  },

  "steal: callers behind an evicted holder in its process are served": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a, { leaseMs: 300 });
    const behind = stage.acquire(a);
    const thief = await stage.acquire(b, { stealAfterMs: 0 });
    assert.equal(await thief.release(), true);
    assert.equal((await behind).held, true);
  },

  "steal: a stolen lock goes to the first in the queue": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const order: string[] = [];
    const patient = stage.lock(b).run(() => void order.push("first in the queue"));
    await stage.untilWaiting(1);
    const thief = stage.lock(stage.another(), { stealAfterMs: 50 }).run(() => void order.push("thief"));
    await Promise.all([patient, thief]);
    assert.deepEqual(order, ["first in the queue", "thief"]);
    assert.equal(await held.release(), false);
  },
};
