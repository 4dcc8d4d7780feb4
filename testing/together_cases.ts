import { strict as assert } from "node:assert";
import { forceRelease } from "../core/operators/api.ts";
import { Lock, LockAcquisitionError, LockLostError } from "../mod.ts";
import { gateRequest, loseAnswer } from "./probe.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

const SHARED = { mode: "shared" } as const;

/** Several locks that are taken together: all or none. */
export const togetherCases: Cases = {
  "together: all are taken in one commit, and given back in one": async (stage) => {
    const { a } = stage;
    const [x, y, z] = idsOf(stage);
    const held = await stage.acquire(a, {}, [z, x, y, x]);
    assert.deepEqual(held.identifiers, [x, y, z]);
    assert.deepEqual([a.commits, a.reads], [1, 0]);
    for (const id of [x, y, z]) {
      const record = await stage.record(id);
      assert.deepEqual(record?.holders.map(({ fence }) => fence), [held.fencingToken]);
    }
    assert.equal(await held.release(), true);
    assert.deepEqual([a.commits, a.reads], [2, 0]);
    assert.deepEqual(await Promise.all([x, y, z].map((id) => stage.record(id))), [null, null, null]);
  },

  "together: what is released before the age that was asked for stays taken until then, all of it": async (
    stage,
  ) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const before = performance.now();
    const held = await stage.acquire(a, { holdAtLeastMs: 600 }, [x, y]);
    assert.equal(await held.release(), true);
    assert.deepEqual([a.commits, a.reads, held.held], [2, 0, false]);
    assert.equal(await stage.tryAcquire(a, {}, x), null);
    assert.equal(await stage.tryAcquire(b, {}, y), null);
    const next = await stage.acquire(b, {}, [y, x]);
    assert.ok(performance.now() - before >= stage.ms(600));
    assert.ok(next.fencingToken > held.fencingToken);
  },

  "together: if one of them is taken, none is": async (stage) => {
    const { a, b } = stage;
    const [x, y, z] = idsOf(stage);
    await stage.acquire(a, { label: "the other one" }, y);
    assert.equal(await stage.tryAcquire(b, {}, [x, y, z]), null);
    const error = await outcomeOf(stage.lock(b, { wait: false }, [x, y, z]).acquire());
    assert.ok(error instanceof LockAcquisitionError);
    assert.equal(error.identifier, y);
    assert.deepEqual(error.holders.map(({ label }) => label), ["the other one"]);
    assert.deepEqual([await stage.record(x), await stage.record(z)], [null, null]);
    const others = await stage.tryAcquire(b, {}, [x, z]);
    assert.equal(others?.held, true);
  },

  "together: a caller that waits for them is granted when the last one is free": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const [first, second] = [await stage.acquire(a, {}, x), await stage.acquire(a, {}, y)];
    const waiting = stage.acquire(b, {}, [x, y]);
    await stage.untilWaiting(1, x);
    await stage.untilWaiting(1, y);
    await first.release();
    // The first is not evicted meanwhile.
    assert.equal(await stage.tryAcquire(stage.another(), {}, x), null);
    await second.release();
    const held = await waiting;
    assert.ok(held.fencingToken > first.fencingToken && held.fencingToken > second.fencingToken);
    assert.equal(await held.release(), true);
    assert.deepEqual([await stage.record(x), await stage.record(y)], [null, null]);
  },

  "together: others wait behind them, and are granted when they are given back": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, {}, [x, y]);
    const order: string[] = [];
    const run = (peer: typeof a, id: string | readonly string[], name: string) =>
      stage.lock(peer, {}, id).run(() => void order.push(name));
    const one = run(b, y, "y");
    await stage.untilWaiting(1, y);
    const both = run(stage.another(), [y, x], "both");
    await stage.untilWaiting(2, y);
    const last = run(stage.another(), x, "x");
    await stage.untilWaiting(2, x);
    await held.release();
    await Promise.all([one, both, last]);
    assert.deepEqual(order, ["y", "both", "x"]);
    assert.deepEqual([await stage.record(x), await stage.record(y)], [null, null]);
  },

  "together: callers that ask for the same in another order do not block each other": async (stage) => {
    const [x, y, z] = idsOf(stage);
    const inside = new Set<string>();
    const eat = async (ids: readonly string[]) => {
      const peer = stage.another();
      for (let i = 0; i < 3; i++) {
        await stage.lock(peer, {}, ids).run(async () => {
          for (const id of ids) assert.equal(inside.has(id), false);
          for (const id of ids) inside.add(id);
          await stage.leave(2);
          for (const id of ids) inside.delete(id);
        });
      }
    };
    await Promise.all([eat([x, y]), eat([y, z]), eat([z, x])]);
    assert.deepEqual(await Promise.all([x, y, z].map((id) => stage.record(id))), [null, null, null]);
  },

  "together: each is held in its own mode": async (stage) => {
    const { a, b } = stage;
    const [x, y, z] = idsOf(stage);
    const held = await stage.acquire(a, {}, [y, { identifier: x, mode: "shared" }, z]);
    assert.deepEqual([a.commits, a.reads, held.mode], [1, 0, "exclusive"]);
    assert.deepEqual([x, y, z, "?"].map((id) => held.modeOf(id)), [
      "shared",
      "exclusive",
      "exclusive",
      undefined,
    ]);
    assert.equal(await stage.tryAcquire(b, {}, x), null);
    assert.equal(await stage.tryAcquire(b, SHARED, y), null);
    const reader = await stage.acquire(b, SHARED, x);
    assert.deepEqual([reader.held, held.held], [true, true]);
    for (const change of [held.upgrade(), held.downgrade()]) {
      assert.ok(await outcomeOf(change) instanceof TypeError);
    }
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(y), null);
    assert.equal(await reader.release(), true);
    assert.equal(await stage.record(x), null);
  },

  "together: what is not said of one of them, the options say": async (stage) => {
    const { a, b } = stage;
    const [x, y, z] = idsOf(stage);
    const targets = [{ identifier: x }, y, { identifier: z, limit: 2 }];
    const held = await stage.acquire(a, SHARED, targets);
    const modes = await Promise.all([x, y, z].map(async (id) => {
      const [{ mode, limit }] = (await stage.record(id))!.holders;
      return [mode, limit];
    }));
    assert.deepEqual(modes, [["shared", 1], ["shared", 1], ["exclusive", 2]]);
    const other = await stage.acquire(b, SHARED, targets);
    assert.deepEqual([held.held, other.held], [true, true]);
    const error = await outcomeOf(stage.lock(b, { ...SHARED, wait: false }, targets).acquire());
    assert.ok(error instanceof LockAcquisitionError);
    assert.equal(error.identifier, z);
    assert.deepEqual([await held.release(), await other.release()], [true, true]);
  },

  "together: one that is named twice is held in the way that allows more": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const shared = { identifier: x, mode: "shared" } as const;
    const held = await stage.acquire(a, {}, [shared, y, x]);
    assert.deepEqual([held.identifiers, held.modeOf(x)], [[x, y], "exclusive"]);
    assert.equal(await stage.tryAcquire(b, SHARED, x), null);
    await held.release();
    const alone = await stage.acquire(a, {}, [shared, shared]);
    assert.deepEqual([alone.identifiers, alone.mode], [[x], "shared"]);
    await alone.upgrade();
    assert.equal(alone.mode, "exclusive");
    assert.equal(await alone.release(), true);
  },

  "together: one that is shared waits behind a writer, and is granted with the other readers": async (
    stage,
  ) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const writer = await stage.acquire(a, {}, x);
    const both = stage.acquire(b, {}, [{ identifier: x, mode: "shared" }, y]);
    await stage.untilWaiting(1, x);
    const reading = stage.acquire(stage.another(), SHARED, x);
    await stage.untilWaiting(2, x);
    await writer.release();
    const [held, reader] = await Promise.all([both, reading]);
    assert.deepEqual([held.held, reader.held], [true, true]);
    assert.ok(held.fencingToken > writer.fencingToken);
    assert.deepEqual([await held.release(), await reader.release()], [true, true]);
    assert.deepEqual([await stage.record(x), await stage.record(y)], [null, null]);
  },

  "together: what is handed over is held as it was": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, {}, [y, { identifier: x, mode: "shared" }]);
    const restored = await Lock.restore(await held.handOver(), { backend: b });
    assert.deepEqual(restored!.identifiers, [x, y]);
    assert.deepEqual([restored!.modeOf(x), restored!.modeOf(y)], ["shared", "exclusive"]);
    const reader = await stage.acquire(stage.another(), SHARED, x);
    assert.equal(reader.held, true);
    assert.equal(await stage.tryAcquire(stage.another(), SHARED, y), null);
    assert.deepEqual([await restored!.release(), await reader.release()], [true, true]);
    assert.deepEqual([await stage.record(x), await stage.record(y)], [null, null]);
  },

  "together: they are renewed together": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, { leaseMs: 600 }, [x, y]);
    await stage.leave(700);
    assert.equal(held.held, true);
    assert.deepEqual([await stage.tryAcquire(b, {}, x), await stage.tryAcquire(b, {}, y)], [null, null]);
    assert.equal(await held.release(), true);
  },

  "together: if one of them is lost, all are, and the others are free when it is let go of": async (
    stage,
  ) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, {}, [x, y]);
    const lost = lossOf(held);
    assert.equal(await forceRelease(y, { backend: b }), true);
    const loss = await lost;
    assert.ok(loss instanceof LockLostError);
    assert.equal(loss.reason, "forced");
    assert.equal(held.held, false);
    assert.equal(await stage.tryAcquire(b, {}, x), null);
    const next = stage.acquire(b, {}, [x, y]);
    assert.equal(await held.release(), false);
    assert.equal((await next).held, true);
  },

  "together: a caller that gives up leaves no queue behind": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, {}, x);
    const controller = new AbortController();
    const waiting = outcomeOf(stage.acquire(b, { signal: controller.signal }, [x, y]));
    await stage.untilWaiting(1, x);
    controller.abort("enough");
    assert.equal(await waiting, "enough");
    await stage.untilWaiting(0, x);
    await stage.untilWaiting(0, y);
    assert.equal(await held.release(), true);
  },

  "together: no holder is evicted for them in vain": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const [young, old] = [await stage.acquire(a, {}, x), await stage.acquire(a, {}, y)];
    await stage.leave(20);
    assert.equal(await stage.tryAcquire(b, { stealAfterMs: 600_000 }, [x, y]), null);
    const thief = await stage.acquire(b, { stealAfterMs: 0 }, [x, y]);
    assert.equal(thief.held, true);
    assert.deepEqual([await young.release(), await old.release()], [false, false]);
  },

  "together: a grant whose answer was lost is found on all of them": async (stage) => {
    const { a } = stage;
    const [x, y] = idsOf(stage);
    a.plan(loseAnswer);
    const held = await stage.acquire(a, {}, [x, y]);
    assert.equal(held.held, true);
    const fences = [await stage.record(x), await stage.record(y)].map((it) => it?.holders[0].fence);
    assert.deepEqual(fences, [held.fencingToken, held.fencingToken]);
    assert.equal(await held.release(), true);
    assert.deepEqual([await stage.record(x), await stage.record(y)], [null, null]);
  },

  "together: a release whose answer was lost is a release": async (stage) => {
    const { a, b } = stage;
    const [x, y] = idsOf(stage);
    const held = await stage.acquire(a, {}, [x, y]);
    a.plan(loseAnswer);
    assert.equal(await held.release(), true);
    assert.equal((await stage.tryAcquire(b, {}, [x, y]))?.held, true);
  },

  "together: what is granted to one that has given up is taken back": async (stage) => {
    const { a } = stage;
    const [x, y] = idsOf(stage);
    const gate = gateRequest();
    a.plan(gate.plan);
    const controller = new AbortController();
    const asking = outcomeOf(stage.acquire(a, { signal: controller.signal }, [x, y]));
    await gate.reached;
    controller.abort("enough");
    assert.equal(await asking, "enough");
    gate.open();
    await gate.answered;
    await a.idle(Infinity);
    await stage.untilGone(x);
    await stage.untilGone(y);
  },
};

function idsOf(stage: Stage): readonly [string, string, string] {
  return [stage.idOf("x"), stage.idOf("y"), stage.idOf("z")];
}
