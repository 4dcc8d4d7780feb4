import { strict as assert } from "node:assert";
import { setTimeout } from "node:timers/promises";
import { type Lock, LockAcquisitionError } from "../mod.ts";
import { type Gate, gateAnswer, gateRequest, loseAnswer, type Probe } from "./probe.ts";
import { type Cases, outcomeOf, type Stage } from "./stage.ts";

/** Which waiter comes next, and how one leaves. */
export const waitingCases: Cases = {
  "wait: a waiter is granted when the other process releases": async (stage) => {
    const held = await stage.acquire(stage.a);
    const waiting = stage.acquire(stage.b);
    await stage.untilWaiting(1);
    assert.equal(await held.release(), true);
    const next = await waiting;
    assert.ok(next.fencingToken > held.fencingToken);
    assert.equal(await next.release(), true);
    assert.equal(await stage.record(), null);
  },

  "wait: the waiters of one process are served in order": async (stage) => {
    const order = await served(stage, Array.from({ length: 10 }, () => stage.a), []);
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  },

  "wait: the waiters of several processes are served in order": async (stage) => {
    const order = await served(stage, [stage.b, stage.another(), stage.another(), stage.another()], [
      1,
      2,
      3,
      4,
    ]);
    assert.deepEqual(order, [0, 1, 2, 3]);
  },

  "wait: two processes with many waiters take turns": async (stage) => {
    const { a, b } = stage;
    // Brief holds are passed on within a process first: these are not brief.
    const holdMs = a.graceMs / 10;
    const order = await served(stage, [a, a, a, b, b, b], [0, 0, 0, 1, 1, 1], holdMs);
    assert.deepEqual(order, [3, 0, 4, 1, 5, 2]);
  },

  "wait: brief holds are served in order within each process": async (stage) => {
    const { a, b } = stage;
    const order = await served(stage, [a, a, a, b, b, b], [0, 0, 0, 1, 1, 1]);
    assert.deepEqual(order.filter((i) => i < 3), [0, 1, 2]);
    assert.deepEqual(order.filter((i) => i >= 3), [3, 4, 5]);
  },

  "wait: a hand-off within a process costs one commit": async (stage) => {
    const { a } = stage;
    await served(stage, [a, a, a, a], []);
    // The first acquisition, four hand-offs, the last release.
    assert.deepEqual([a.commits, a.reads], [6, 0]);
    assert.equal(await stage.record(), null);
  },

  "wait: waiters that idle cost no commits": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const waiting = Array.from({ length: 5 }, () => stage.lock(b).run(() => {}));
    await stage.untilWaiting(1);
    await b.idle(0);
    const { commits } = b;
    await stage.leave(300);
    assert.deepEqual([a.commits, b.commits], [1, commits]);
    await held.release();
    await Promise.all(waiting);
  },

  "wait: many processes wait, more than have a place in the queue": async (stage) => {
    const held = await stage.acquire(stage.a);
    let inside = 0;
    const runs = Array.from({ length: 70 }, () =>
      stage.lock(stage.another()).run(async () => {
        assert.equal(++inside, 1);
        assert.ok((await stage.queued()).length <= 64);
        inside--;
      }));
    await stage.untilWaiting(64);
    await held.release();
    await Promise.all(runs);
  },

  "wait: a caller that may not wait asks once and takes no place": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a);
    assert.equal(await stage.tryAcquire(b), null);
    assert.equal(await stage.tryAcquire(b, { wait: true, waitForMs: 0 }), null);
    assert.equal((await stage.queued()).length, 0);
    assert.equal(b.watches, 0);
  },

  "wait: a caller that may not wait does not go before the queue": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const waiting = stage.acquire(b, { label: "first in the queue" });
    await stage.untilWaiting(1);
    await held.release();
    const outcome = await outcomeOf(stage.lock(stage.another(), { wait: false }).acquire());
    assert.ok(outcome instanceof LockAcquisitionError);
    assert.deepEqual(outcome.holders.map(({ label }) => label), ["first in the queue"]);
    assert.equal((await waiting).held, true);
  },

  "wait: waitForMs is waited for, and then the lock is taken": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a, { label: "the other one" });
    const started = performance.now();
    const error = await outcomeOf(stage.lock(b, { waitForMs: 80 }).acquire());
    assert.ok(performance.now() - started >= stage.ms(79));
    assert.ok(error instanceof LockAcquisitionError);
    assert.equal(error.identifier, stage.id);
    assert.ok(error.waitedMs >= 79);
    assert.equal(error.holders[0].label, "the other one");
    assert.ok(error.holders[0].heldForMs >= 79 - a.skewMs);
    await stage.untilWaiting(0);
  },

  "wait: a waiter within the holder's process gives up too, when the store has been asked once": async (
    stage,
  ) => {
    const { a } = stage;
    const held = await stage.acquire(a, { label: "my own" });
    const error = await outcomeOf(stage.lock(a, { waitForMs: 30 }).acquire());
    assert.ok(error instanceof LockAcquisitionError);
    assert.equal(error.holders[0].label, "my own");
    assert.deepEqual([a.commits, a.reads], [1, 1]);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "abort: an aborted signal sends nothing": async (stage) => {
    const signal = AbortSignal.abort("no more");
    assert.equal(await outcomeOf(stage.lock(stage.a, { signal }).acquire()), "no more");
    assert.deepEqual([stage.a.commits, stage.a.reads], [0, 0]);
  },

  "abort: a waiter that is aborted leaves the queue": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const ending = new AbortController();
    const waiting = outcomeOf(stage.acquire(b, { signal: ending.signal }));
    await stage.untilWaiting(1);
    ending.abort("no more");
    assert.equal(await waiting, "no more");
    await stage.untilWaiting(0);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "abort: a place taken while its waiter leaves is given back": async (stage) => {
    const { held, entering } = await abortedOnTheWay(stage);
    entering.open();
    await stage.untilWaiting(0);
    assert.equal(await held.release(), true);
  },

  "abort: a place that lands when others here have cleared up is given back": async (stage) => {
    const { b } = stage;
    const { held, entering } = await abortedOnTheWay(stage);
    // It leaves last, as far as this process knows, and finds no place in the queue.
    assert.equal(await stage.tryAcquire(b), null);
    await b.idle(1000);
    entering.open();
    await stage.untilWaiting(0);
    assert.equal(await held.release(), true);
  },

  "abort: a caller that leaves while it looks at the store does not begin to wait": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 600_000 });
    const ending = new AbortController();
    const { read, watch } = b;
    let waits = false;
    // It bets in vain, and has to look.
    b.plan(async (apply) => {
      const result = await apply();
      return result.ok ? result : { ok: false };
    });
    b.read = (keys) => {
      ending.abort("no more");
      return read.call(b, keys);
    };
    b.watch = (...args) => {
      waits = true;
      return watch.apply(b, args);
    };
    assert.equal(await outcomeOf(stage.acquire(b, { signal: ending.signal })), "no more");
    await b.idle(1000);
    assert.equal(waits, false);
    await stage.untilWaiting(0);
    assert.equal(await held.release(), true);
  },

  "abort: a grant on its way to the store is taken back": async (stage) => {
    const { a } = stage;
    const ending = new AbortController();
    const grant = gateRequest();
    a.plan(grant.plan);
    const waiting = outcomeOf(stage.acquire(a, { signal: ending.signal }));
    await grant.reached;
    ending.abort("no more");
    assert.equal(await waiting, "no more");
    grant.open();
    await stage.untilGone();
  },

  "abort: a grant on its way back is taken back": async (stage) => {
    const { a, b } = stage;
    const ending = new AbortController();
    const grant = gateAnswer();
    a.plan(grant.plan);
    const waiting = outcomeOf(stage.acquire(a, { signal: ending.signal }));
    await grant.reached;
    ending.abort("no more");
    assert.equal(await waiting, "no more");
    const next = stage.acquire(b);
    grant.open();
    assert.equal((await next).held, true);
  },

  "abort: a grant whose answer was lost is taken back": async (stage) => {
    const { a } = stage;
    const ending = new AbortController();
    const lost = gateAnswer();
    a.plan((apply) => loseAnswer(() => lost.plan(apply)));
    const waiting = outcomeOf(stage.acquire(a, { signal: ending.signal }));
    await lost.reached;
    ending.abort("no more");
    assert.equal(await waiting, "no more");
    lost.open();
    await stage.untilGone();
  },

  "abort: a hand-off to a waiter that leaves goes to the next": async (stage) => {
    const { a } = stage;
    for (const gate of [gateRequest(), gateAnswer()]) {
      const ending = new AbortController();
      const held = await stage.acquire(a);
      const leaving = outcomeOf(stage.acquire(a, { signal: ending.signal }));
      const next = stage.acquire(a);
      a.plan(gate.plan);
      const released = held.release();
      await gate.reached;
      ending.abort("no more");
      assert.equal(await leaving, "no more");
      gate.open();
      assert.equal(await released, true);
      assert.equal(await (await next).release(), true);
      await stage.untilGone();
    }
  },

  "abort: a hand-off to the only waiter, which leaves, leaves nothing": async (stage) => {
    const { a } = stage;
    const ending = new AbortController();
    const held = await stage.acquire(a);
    const leaving = outcomeOf(stage.acquire(a, { signal: ending.signal }));
    const gate = gateAnswer();
    a.plan(gate.plan);
    const released = held.release();
    await gate.reached;
    ending.abort("no more");
    gate.open();
    assert.deepEqual(await Promise.all([leaving, released]), ["no more", true]);
    await stage.untilGone();
  },

  "abort: a signal has no effect once the lock is held": async (stage) => {
    const ending = new AbortController();
    const held = await stage.acquire(stage.a, { signal: ending.signal });
    ending.abort();
    assert.equal(held.held, true);
    assert.equal(held.signal.aborted, false);
    assert.equal(await held.release(), true);
  },

  "abort: a caller behind an aborted waiter moves up": async (stage) => {
    const { a, b } = stage;
    for (const behind of [b, stage.another()]) {
      const held = await stage.acquire(a);
      const ending = new AbortController();
      const leaving = outcomeOf(stage.acquire(b, { signal: ending.signal }));
      await stage.untilWaiting(1);
      const next = stage.acquire(behind);
      if (behind !== b) await stage.untilWaiting(2);
      ending.abort("no more");
      assert.equal(await leaving, "no more");
      await held.release();
      assert.equal(await (await next).release(), true);
      await stage.untilGone();
    }
  },

  "abort: waiters come and go in one process and leave no place behind": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    for (let i = 0; i < 10; i++) {
      const ending = new AbortController();
      const leaving = outcomeOf(stage.acquire(b, { signal: ending.signal }));
      await stage.untilWaiting(1);
      ending.abort();
      assert.equal(await stage.tryAcquire(b), null);
      await leaving;
    }
    await stage.untilWaiting(0);
    assert.equal(await held.release(), true);
  },

  "death: the one behind a dead waiter still waits for the holder": async (stage) => {
    const { a, b } = stage;
    const middle = stage.another();
    const held = await stage.acquire(a);
    void outcomeOf(stage.acquire(middle));
    await stage.untilWaiting(1);
    let granted = false;
    const waiting = stage.acquire(b).finally(() => granted = true);
    await stage.untilWaiting(2);
    middle.silence();
    await setTimeout(2 * a.graceMs);
    assert.equal(granted, false);
    assert.equal(await held.release(), true);
    assert.equal((await waiting).held, true);
    assert.equal(held.signal.aborted, false);
  },

  "death: a crashed holder and a crashed first in the queue block no caller, even where clocks mean nothing":
    async (
      stage,
    ) => {
      const { a, b } = stage;
      const middle = stage.another();
      b.skewMs = Infinity;
      await stage.acquire(a, { leaseMs: 300 });
      void outcomeOf(stage.acquire(middle));
      await stage.untilWaiting(1);
      const waiting = stage.acquire(b, { waitForMs: 4000 });
      await stage.untilWaiting(2);
      a.silence();
      middle.silence();
      assert.equal((await waiting).held, true);
    },

  "death: a lease that runs out while several wait goes to the first of them": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a, { leaseMs: 300 });
    const order: string[] = [];
    const first = stage.lock(b).run(() => void order.push("first"));
    await stage.untilWaiting(1);
    const second = stage.lock(stage.another()).run(() => void order.push("second"));
    await stage.untilWaiting(2);
    a.silence();
    await Promise.all([first, second]);
    assert.deepEqual(order, ["first", "second"]);
  },

  "death: a lease that runs out goes to the next in the same process": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, { leaseMs: 100, renew: false });
    const next = await stage.acquire(a);
    assert.equal(held.held, false);
    assert.equal(held.signal.reason.reason, "expired");
    assert.equal(await held.release(), false);
    assert.equal(await next.release(), true);
    assert.equal(await stage.record(), null);
  },

  "death: a process that dies with its waiters blocks no other": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 200 });
    const dying = [1, 2, 3].map(() => outcomeOf(stage.acquire(a)));
    const waiting = stage.acquire(b);
    // Its own waiters join the queue behind the other with its next renewal: there may be two at the first look.
    while ((await stage.queued()).length === 0) await stage.leave(1);
    a.silence();
    assert.equal((await waiting).held, true);
    assert.equal(held.held, false);
    a.end();
    await Promise.all(dying);
  },
};

/**
 * Holds the lock in process `a`, lines up one waiter per process of `peers`, waits after each until so many
 * stand in the store's line as `inLine` says, then lets go: the order in which they were served.
 */
async function served(
  stage: Stage,
  peers: readonly Probe[],
  inLine: readonly number[],
  holdMs = 0,
): Promise<number[]> {
  const order: number[] = [];
  const runs: Promise<unknown>[] = [];
  const held = await stage.acquire(stage.a);
  for (const [i, peer] of peers.entries()) {
    runs.push(
      stage.lock(peer).run(async () => {
        order.push(i);
        if (holdMs > 0) await setTimeout(holdMs);
      }),
    );
    if (inLine.length > 0) await stage.untilWaiting(inLine[i]);
  }
  if (holdMs > 0) await setTimeout(holdMs);
  await held.release();
  await Promise.all(runs);
  return order;
}

/** One process holds the lock, and a waiter of another is aborted while it is joining the queue. */
async function abortedOnTheWay(stage: Stage): Promise<{ held: Lock; entering: Gate }> {
  const { a, b } = stage;
  const held = await stage.acquire(a);
  const ending = new AbortController();
  const entering = gateRequest();
  b.plan((apply) => apply(), entering.plan);
  const waiting = outcomeOf(stage.acquire(b, { signal: ending.signal }));
  await entering.reached;
  ending.abort("no more");
  assert.equal(await waiting, "no more");
  return { held, entering };
}
