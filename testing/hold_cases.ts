import { strict as assert } from "node:assert";
import { setImmediate } from "node:timers/promises";
import { inspect } from "node:util";
import { type Lock, lock, LOCK_KINDS } from "../mod.ts";
import { freezeAfter, gateRequest } from "./probe.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

/** Holding a lock: for how long, and what it costs. */
export const holdCases: Cases = {
  "hold: a free lock takes one commit to acquire, one to release, and leaves nothing": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a);
    assert.deepEqual([a.commits, a.reads], [1, 0]);
    assert.equal(await held.release(), true);
    assert.deepEqual([a.commits, a.reads], [2, 0]);
    assert.equal(await stage.record(), null);
  },

  "hold: a held lock excludes its own process and others": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    assert.equal(await stage.tryAcquire(a), null);
    assert.equal(await stage.tryAcquire(b), null);
    assert.equal(await held.release(), true);
    assert.notEqual(await stage.tryAcquire(b), null);
  },

  "hold: a held lock says what it is": async (stage) => {
    const held = await stage.acquire(stage.a, { kind: LOCK_KINDS.WEAK });
    assert.equal(held.identifier, stage.id);
    assert.equal(held.kind, "weak");
    assert.equal(held.held, true);
    assert.equal(held.fencingToken, (await stage.entry()).version);
  },

  "hold: neither text nor inspection of a lock shows its secret": async (stage) => {
    const held = await stage.acquire(stage.a);
    const token = (await stage.record())?.holders[0].token;
    assert.ok(token !== undefined);
    for (const text of [String(held), inspect(held, { showHidden: true, depth: 9 }), JSON.stringify(held)]) {
      assert.ok(!text.includes(token), text);
    }
    assert.ok(String(held).includes(stage.id));
    assert.ok(inspect(held).includes(stage.id));
  },

  "hold: a release is not reported as a loss": async (stage) => {
    const held = await stage.acquire(stage.a);
    const { signal } = held;
    await held.release();
    assert.equal(held.held, false);
    assert.equal(signal.aborted, false);
  },

  "hold: releasing again repeats the answer and leaves the next holder alone": async (stage) => {
    const { a, b } = stage;
    for (const next of [a, b]) {
      const old = await stage.acquire(a);
      assert.equal(await old.release(), true);
      const held = await stage.acquire(next);
      const { commits } = a;
      assert.equal(await old.release(), true);
      await old[Symbol.asyncDispose]();
      assert.equal(a.commits, commits);
      assert.equal(held.held, true);
      assert.equal((await stage.record())?.holders.length, 1);
      await held.release();
    }
  },

  "hold: what is released before the age that was asked for stays taken until then, for its own process as well":
    async (stage) => {
      const { a, b } = stage;
      const before = performance.now();
      const held = await stage.acquire(a, { holdAtLeastMs: 600 });
      assert.equal(await held.release(), true);
      assert.deepEqual([a.commits, a.reads, held.held], [2, 0, false]);
      assert.equal(await stage.tryAcquire(a), null);
      assert.equal(await stage.tryAcquire(b), null);
      const next = await stage.acquire(b);
      assert.ok(performance.now() - before >= stage.ms(600));
      assert.ok(next.fencingToken > held.fencingToken);
      assert.equal(await held.release(), true);
      assert.equal(next.held, true);
    },

  "hold: releases called at once are one release": async (stage) => {
    const held = await stage.acquire(stage.a);
    assert.deepEqual(await Promise.all([held.release(), held.release()]), [true, true]);
    assert.equal(stage.a.commits, 2);
  },

  "hold: the fencing token rises across release, hand-off, expiry and eviction": async (stage) => {
    const { a, b } = stage;
    const tokens: string[] = [];
    const first = await stage.acquire(a);
    const handed = stage.acquire(a);
    await first.release();
    const second = await handed;
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    await second.release();
    const third = await waiting;
    await third.release();
    const fourth = await stage.acquire(a, { leaseMs: 100, renew: false });
    const fifth = await stage.acquire(b);
    const sixth = await stage.acquire(a, { stealAfterMs: 0 });
    for (const held of [first, second, third, fourth, fifth, sixth]) tokens.push(held.fencingToken);
    assert.deepEqual(tokens, [...new Set(tokens)].sort());
  },

  "hold: identifiers that look alike are different locks": async ({ a, b, id }) => {
    const long = id.padEnd(600, "x");
    const names = ["n", "N", "n ", " n", "n\u0000", "n/", "n:", "{n}", "é", "e\u0301", "🔒"];
    const identifiers = [...names.map((name) => `${id}${name}`), long, `${long}y`, `${long.slice(0, 512)}`];
    const held = await Promise.all(
      identifiers.map((identifier) => lock(identifier, { backend: a, wait: false }).acquire()),
    );
    for (const identifier of identifiers) {
      const outcome = await outcomeOf(lock(identifier, { backend: b, wait: false }).acquire());
      assert.equal((outcome as Error).name, "LockAcquisitionError");
    }
    for (const one of held) assert.equal(await one.release(), true);
  },

  "hold: a hundred callers in two processes are never two at a time": async (stage) => {
    const { a, b } = stage;
    let inside = 0;
    let runs = 0;
    await Promise.all(Array.from({ length: 100 }, (_, i) =>
      stage.lock(i % 2 === 0 ? a : b).run(async () => {
        assert.equal(++inside, 1);
        await setImmediate();
        inside--;
        runs++;
      })));
    assert.equal(runs, 100);
    await stage.untilGone();
  },

  "hold: two locks taken at random lose no update of the data that they guard": async (stage) => {
    const counts = [0, 0];
    const workers = [stage.a, stage.b, stage.another(), stage.another()].map(async (backend) => {
      for (let i = 0; i < 15; i++) {
        const which = Math.random() < 0.5 ? 0 : 1;
        await lock(`${stage.id}/${which}`, { backend }).run(async () => {
          const before = counts[which];
          for (let turns = Math.random() * 3; turns > 0; turns--) await setImmediate();
          counts[which] = before + 1;
        });
      }
    });
    await Promise.all(workers);
    assert.equal(counts[0] + counts[1], 60);
  },

  "hold: renewal keeps a lock for longer than its lease": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    for (let i = 0; i < 12; i++) {
      await stage.leave(80);
      assert.equal(await stage.tryAcquire(b), null);
    }
    assert.equal(held.held, true);
    assert.equal(held.signal.aborted, false);
    assert.equal(held.fencingToken < ((await stage.entry()).version ?? ""), true);
    assert.equal(await held.release(), true);
  },

  "hold: a lease that is not renewed expires, and its holder is notified": async (stage) => {
    const started = performance.now();
    const held = await stage.acquire(stage.a, { leaseMs: 100, renew: false });
    const { reason, identifier, fencingToken } = await lossOf(held);
    assert.ok(performance.now() - started >= stage.ms(99));
    assert.deepEqual([reason, identifier, fencingToken], ["expired", stage.id, held.fencingToken]);
    assert.equal(held.held, false);
    assert.equal(await held.release(), false);
    await stage.untilGone();
  },

  "hold: the lock of a crashed holder is free when its lease has expired, not before": async (stage) => {
    const { a, b } = stage;
    const started = performance.now();
    await stage.acquire(a, { leaseMs: 300 });
    a.silence();
    const heir = await stage.acquire(b);
    // Clocks count whole milliseconds here and there.
    assert.ok(performance.now() - started >= stage.ms(298));
    assert.equal(heir.held, true);
  },

  "hold: a waiter that never saw the holder alive waits no longer than the lease": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a, { leaseMs: 200 });
    a.silence();
    await stage.leave(100);
    assert.equal((await stage.acquire(b)).held, true);
  },

  "hold: a holder without its store gives up when its lease ends": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, { leaseMs: 150 });
    a.silence();
    assert.equal((await lossOf(held)).reason, "expired");
    assert.equal(held.held, false);
  },

  "hold: a process that was frozen for longer than its lease sees it at the first look": async (stage) => {
    const held = await stage.acquire(stage.a, { leaseMs: 100 });
    const { signal } = held;
    stage.freeze(110);
    assert.equal(held.held, false);
    assert.equal(signal.reason.reason, "expired");
    assert.equal(await held.release(), false);
    await stage.untilGone();
  },

  "hold: a process that was frozen while it was granted asks again": async (stage) => {
    const { a } = stage;
    a.plan(freezeAfter(stage.ms(330)));
    const held = await stage.acquire(a, { leaseMs: 300 });
    assert.equal(held.held, true);
    assert.ok(a.commits > 1);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "hold: a process that was frozen while it handed over asks again for the next one": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a);
    const waiting = stage.acquire(a, { leaseMs: 300 });
    a.plan(freezeAfter(stage.ms(330)));
    assert.equal(await held.release(), true);
    const next = await waiting;
    assert.equal(next.held, true);
    assert.ok(next.fencingToken > held.fencingToken);
    assert.equal(await next.release(), true);
    assert.equal(await stage.record(), null);
  },

  "hold: a renewal that arrives too late extends nothing": async (stage) => {
    const { a, b } = stage;
    const late = gateRequest();
    const held = await stage.acquire(a, { leaseMs: 150 });
    a.plan(late.plan);
    await late.reached;
    a.silence();
    assert.equal((await lossOf(held)).reason, "expired");
    const heir = await stage.acquire(b);
    late.open();
    await late.answered;
    a.heal();
    assert.equal(held.held, false);
    assert.equal(await held.release(), false);
    assert.equal(heir.held, true);
    assert.equal((await stage.record())?.holders[0].fence ?? heir.fencingToken, heir.fencingToken);
    assert.equal(await heir.release(), true);
  },

  "hold: an expired holder does not come back to life": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, { leaseMs: 100 });
    a.silence();
    await lossOf(held);
    a.heal();
    const { commits } = a;
    await stage.leave(150);
    assert.equal(a.commits, commits);
    assert.equal(held.held, false);
    // No other process wanted it, but it was lost all the same.
    assert.equal(await held.release(), false);
  },

  "hold: a release during a renewal is not a loss": async (stage) => {
    const { a, b } = stage;
    const renewal = gateRequest();
    const held = await stage.acquire(a, { leaseMs: 300 });
    const { signal } = held;
    a.plan(renewal.plan);
    await renewal.reached;
    const released = held.release();
    renewal.open();
    assert.equal(await released, true);
    assert.equal(signal.aborted, false);
    await stage.untilGone();
    assert.notEqual(await stage.tryAcquire(b), null);
  },

  "hold: a renewal does not disturb waiters": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    await stage.until((record) => (record?.holders[0].renewals ?? 0) >= 2);
    assert.equal((await stage.queued()).length, 1);
    await held.release();
    assert.equal((await waiting).held, true);
  },

  "hold: a clock that is an hour wrong evicts no holder where clocks mean nothing": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    b.skewMs = Infinity;
    b.shiftMs = 3_600_000;
    const waiting = stage.acquire(b, { waitForMs: 900 });
    assert.equal((await outcomeOf(waiting) as Error).name, "LockAcquisitionError");
    assert.equal(held.held, true);
    // What is judged by watching alone is still judged.
    a.silence();
    assert.equal((await stage.acquire(b)).held, true);
  },

  "hold: a caller that never waits takes over from a crashed holder, even where clocks mean nothing": async (
    stage,
  ) => {
    const { a, b } = stage;
    b.skewMs = Infinity;
    for (const options of [{}, { stealAfterMs: 100 }]) {
      const held = await stage.acquire(a, { leaseMs: options.stealAfterMs === undefined ? 400 : 30_000 });
      // A living holder is left alone, however often one asks.
      if (options.stealAfterMs === undefined) {
        await stage.until((record) => (record?.holders[0].renewals ?? 0) >= 1);
        assert.equal(await stage.tryAcquire(b, options), null);
        a.silence();
      }
      let heir: Lock | null = null;
      while (heir === null) {
        await stage.leave(20);
        heir = await stage.tryAcquire(b, options);
      }
      a.heal();
      assert.equal(heir.fencingToken > held.fencingToken, true);
      assert.equal(await heir.release(), true);
    }
  },

  "hold: a holder evicted by a wrong clock is notified, and leaves the next holder alone": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    b.shiftMs = 3_600_000;
    const robber = await stage.acquire(b, { leaseMs: 2000 });
    assert.equal((await lossOf(held)).identifier, stage.id);
    assert.equal(await held.release(), false);
    assert.equal(robber.held, true);
    assert.equal((await stage.record())?.holders.length, 1);
    assert.equal(await robber.release(), true);
  },

  "hold: one lock object serves many callers at once": async (stage) => {
    const { a } = stage;
    const patient = stage.lock(a);
    const hasty = stage.lock(a, { wait: false });
    const first = await patient.acquire();
    const bailed = await Promise.all([hasty(() => "ran")(), hasty(() => "ran")()]);
    assert.deepEqual(bailed, [undefined, undefined]);
    const waiting = patient.acquire();
    // The calls that failed must not have removed the first one's hold.
    assert.equal(await first.release(), true);
    const second = await waiting;
    assert.equal(second.held, true);
    assert.equal(await first.release(), true);
    assert.equal(second.held, true);
    await noneWhile(stage, second);
  },
};

async function noneWhile(stage: Stage, held: { release(): Promise<boolean> }): Promise<void> {
  assert.equal(await stage.tryAcquire(stage.b), null);
  assert.equal(await held.release(), true);
  assert.equal(await stage.record(), null);
}
