import { strict as assert } from "node:assert";
import { memoryBackend } from "../backends/memory.ts";
import { proofsOf } from "../core/guard.ts";
import { holdOf } from "../core/lock.ts";
import type { LockRecord } from "../core/record/record.ts";
import { forceRelease, Lock, LockLostError, peek } from "../mod.ts";
import { loseAnswer, loseRequest } from "./probe.ts";
import { type Cases, lossOf, outcomeOf } from "./stage.ts";

/** Locks that are handed over from one process to another, and those that are renewed by hand. */
export const claimCases: Cases = {
  "claims: what is handed over stays taken until another process takes it up, and renews it": async (
    stage,
  ) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    const claim = await held.handOver({ leaseMs: stage.ms(10_000) });
    assert.deepEqual([a.commits, a.reads, held.held, held.signal.aborted], [2, 0, false, false]);
    assert.equal(await stage.tryAcquire(b), null);
    await stage.leave(350);
    assert.equal(await stage.tryAcquire(a), null);
    const { commits, reads } = b;
    const next = await stage.restore(b, claim);
    assert.deepEqual([b.commits - commits, b.reads - reads], [1, 1]);
    assert.ok(next !== null && next.fencingToken > held.fencingToken);
    assert.equal(next.identifier, stage.id);
    await stage.until((record) => (record?.holders[0].renewals ?? 0) >= 2);
    assert.deepEqual([await held.release(), next.held], [false, true]);
    assert.equal(await next.release(), true);
    assert.equal(await stage.record(), null);
  },

  "claims: one that is delivered often makes one holder": async (stage) => {
    const { a, b } = stage;
    const claim = await (await stage.acquire(a)).handOver();
    const found = await Promise.all([a, b, stage.another(), b].map((peer) => stage.restore(peer, claim)));
    const [held, ...others] = found.filter((one) => one !== null);
    assert.deepEqual([held.held, others.length], [true, 0]);
    assert.equal(await stage.restore(a, claim), null);
    assert.equal(await held.release(), true);
    assert.equal(await stage.restore(b, claim), null);
    assert.equal(await stage.record(), null);
  },

  "claims: a process that has handed over proves nothing any more": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const claim = await held.handOver();
    const isOver = async () => {
      const error = await outcomeOf(proofsOf(holdOf(held)));
      assert.ok(error instanceof LockLostError);
      assert.equal(error.reason, "handed-over");
    };
    await isOver();
    const next = await stage.restore(b, claim);
    await isOver();
    assert.equal((await proofsOf(holdOf(next!))).length, 1);
  },

  "claims: one that comes too late finds nothing, and disturbs no holder": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    const started = performance.now();
    const claim = await held.handOver({ leaseMs: stage.ms(200) });
    const next = await waiting;
    assert.ok(performance.now() - started >= stage.ms(198));
    assert.equal(await stage.restore(a, claim), null);
    assert.deepEqual([next.held, await next.release()], [true, true]);
  },

  "claims: waiters are served when the process releases it that has taken it up": async (stage) => {
    const { a, b } = stage;
    const third = stage.another();
    const held = await stage.acquire(a);
    const waiting = stage.acquire(third);
    await stage.untilWaiting(1);
    const next = await stage.restore(b, await held.handOver());
    assert.equal((await stage.queued()).length, 1);
    assert.equal(await next!.release(), true);
    assert.equal((await waiting).held, true);
  },

  "claims: one that is evicted on its way finds nothing": async (stage) => {
    const { a, b } = stage;
    for (const evict of ["stolen", "forced"]) {
      const claim = await (await stage.acquire(a)).handOver();
      const { holders: [{ handedOver, fencingToken }] } = await peek(stage.id, { backend: b });
      assert.equal(handedOver, true);
      if (evict === "forced") assert.equal(await forceRelease(stage.id, { backend: b, fencingToken }), true);
      const thief = await stage.acquire(b, { stealAfterMs: 0 });
      assert.equal(await stage.restore(a, claim), null);
      assert.equal(await thief.release(), true);
    }
  },

  "claims: several locks go together, or not at all": async (stage) => {
    const { a, b } = stage;
    const [x, y] = [stage.idOf("x"), stage.idOf("y")];
    const held = await stage.acquire(a, {}, [x, y]);
    const claim = await held.handOver();
    assert.deepEqual([a.commits, a.reads], [2, 0]);
    assert.deepEqual([await stage.tryAcquire(b, {}, x), await stage.tryAcquire(b, {}, y)], [null, null]);
    const next = await stage.restore(b, claim);
    assert.deepEqual(next?.identifiers, [x, y]);
    assert.ok(next!.fencingToken > held.fencingToken);
    assert.equal((await proofsOf(holdOf(next!))).length, 2);
    const again = await next!.handOver();
    const thief = await stage.acquire(a, { stealAfterMs: 0 }, y);
    assert.equal(await stage.restore(b, again), null);
    assert.deepEqual([thief.held, await thief.release()], [true, true]);
  },

  "claims: a reader's is a reader's, and permits are what they were": async (stage) => {
    const { a, b } = stage;
    const x = stage.idOf("x");
    const [reader, other] = [
      await stage.acquire(a, { mode: "shared" }, x),
      await stage.acquire(b, { mode: "shared" }, x),
    ];
    const moved = await stage.restore(b, await reader.handOver());
    assert.deepEqual([moved?.mode, other.held], ["shared", true]);
    assert.deepEqual([await other.release(), await moved!.release()], [true, true]);
    const three = await stage.acquire(a, { limit: 5, permits: 3 }, x);
    const claim = await three.handOver();
    assert.equal(await stage.tryAcquire(b, { limit: 5, permits: 3 }, x), null);
    const taken = await stage.restore(b, claim);
    assert.equal(await stage.tryAcquire(a, { limit: 5, permits: 3 }, x), null);
    assert.notEqual(await stage.tryAcquire(a, { limit: 5, permits: 2 }, x), null);
    assert.equal(await taken!.release(), true);
  },

  "claims: a hand-over is settled whether its answer or its request is lost": async (stage) => {
    const { a, b } = stage;
    for (const plan of [loseAnswer, loseRequest]) {
      const held = await stage.acquire(a);
      a.plan(plan);
      const claim = await held.handOver();
      b.plan(plan);
      const next = await stage.restore(b, claim);
      assert.equal(next?.held, true);
      assert.equal(await stage.restore(a, claim), null);
      assert.equal(await next!.release(), true);
    }
    assert.equal(await stage.record(), null);
  },

  "claims: one to another store's locks is refused, or finds nothing": async (stage) => {
    const { a, b } = stage;
    const claim = await (await stage.acquire(a)).handOver();
    const other = { ...memoryBackend(), namespace: `not ${a.namespace}` };
    const outcome = await outcomeOf(Lock.restore(claim, { backend: other }));
    if (a.namespace === undefined) assert.equal(outcome, null);
    else {
      assert.ok(outcome instanceof TypeError);
      for (const name of [a.namespace, other.namespace]) assert.ok(outcome.message.includes(name));
    }
    assert.equal((await stage.restore(b, claim))?.held, true);
  },

  "claims: neither the store's keys nor any text but the claim shows the secret": async (stage) => {
    const held = await stage.acquire(stage.a);
    const claim = await held.handOver();
    const token = (await stage.record())?.holders[0].token ?? "";
    assert.match(token, /^claim\/.{36}$/);
    for (const text of [String(held), JSON.stringify(held)]) assert.ok(!text.includes(token), text);
    const spoilt = `${claim.slice(0, -4)}AAAA`;
    const { message } = await outcomeOf(stage.restore(stage.b, spoilt)) as Error;
    assert.ok(!message.includes(claim.slice(20, 40)), message);
    assert.equal((await stage.restore(stage.b, claim))?.held, true);
  },

  "extending: each call renews a lock that is not renewed by itself": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 900, renew: false });
    for (let i = 1; i <= 3; i++) {
      await stage.leave(400);
      await held.extend();
      assert.deepEqual([a.commits, a.reads, held.held], [1 + i, 0, true]);
    }
    assert.equal(await stage.tryAcquire(b), null);
    await held.extend(stage.ms(5000));
    assertExtended(await stage.record(), stage.ms(5000));
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "extending: an evicted holder learns of it": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { renew: false });
    const thief = await stage.acquire(b, { stealAfterMs: 0 });
    const error = await outcomeOf(held.extend());
    assert.ok(error instanceof LockLostError);
    assert.deepEqual([error.reason, held.held, thief.held], ["stolen", false, true]);
  },

  "extending: several locks are one commit": async (stage) => {
    const { a, b } = stage;
    const [x, y] = [stage.idOf("x"), stage.idOf("y")];
    const held = await stage.acquire(a, { leaseMs: 400, renew: false }, [x, y]);
    await Promise.all([held.extend(stage.ms(5000)), held.extend()]);
    assert.deepEqual([a.commits, a.reads], [2, 0]);
    for (const id of [x, y]) {
      assertExtended(await stage.record(id), stage.ms(5000));
      assert.equal(await stage.tryAcquire(b, {}, id), null);
    }
    assert.equal(await held.release(), true);
  },

  "extending: a holder without its store is warned before it has lost the lock": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, { leaseMs: 600 });
    const told: string[] = [];
    held.onLate(() => told.push("late"));
    held.signal.addEventListener("abort", () => told.push("lost"));
    a.silence();
    assert.equal((await lossOf(held)).reason, "expired");
    // A machine that is as busy as that comes to both at once.
    assert.ok(["late,lost", "lost"].includes(told.join()), told.join());
  },
};

/** A lease counts from the call, so that the record says a little less. */
function assertExtended(record: LockRecord | null, leaseMs: number): void {
  const left = record?.holders[0].leaseMs ?? 0;
  assert.ok(left <= leaseMs && left > leaseMs / 2, `a lease of ${left} ms`);
}
