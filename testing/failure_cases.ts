import { strict as assert } from "node:assert";
import { LockAcquisitionError, LockBackendError, type LockOptions } from "../mod.ts";
import { gateAnswer, gateRequest, loseAnswer, loseRequest, type Probe } from "./probe.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

/** A store that answers late, wrong, twice or never. */
export const failureCases: Cases = {
  "failure: an acquisition whose answer was lost holds exactly once": async (stage) => {
    const { a, b } = stage;
    a.plan(loseAnswer);
    const held = await stage.acquire(a);
    await holdsOnce(stage, held.fencingToken);
    assert.equal(await stage.tryAcquire(b), null);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "failure: an acquisition whose answers are lost again and again holds exactly once": async (stage) => {
    const { a } = stage;
    a.plan(loseAnswer, loseAnswer, loseRequest, loseAnswer);
    const held = await stage.acquire(a);
    await holdsOnce(stage, held.fencingToken);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "failure: a caller that may not wait settles a lost answer too": async (stage) => {
    const { a } = stage;
    a.plan(loseAnswer);
    assert.equal((await stage.tryAcquire(a))?.held, true);
  },

  "failure: a lost request is sent again": async (stage) => {
    const { a } = stage;
    a.plan(loseRequest, loseRequest);
    const held = await stage.acquire(a);
    a.plan(loseRequest);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "failure: a place in the queue whose answer was lost is taken once": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    b.plan((apply) => apply(), loseAnswer);
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    await stage.leave(50);
    assert.equal((await stage.queued()).length, 1);
    b.plan(loseAnswer);
    assert.equal(await held.release(), true);
    const next = await waiting;
    await holdsOnce(stage, next.fencingToken);
    assert.equal(await next.release(), true);
    assert.equal(await stage.record(), null);
  },

  "failure: a release whose answer was lost has released": async (stage) => {
    const { a, b } = stage;
    for (const waits of [false, true]) {
      const held = await stage.acquire(a);
      const { signal } = held;
      const waiting = waits ? stage.acquire(b) : undefined;
      if (waits) await stage.untilWaiting(1);
      a.plan(loseAnswer);
      assert.equal(await held.release(), true);
      assert.equal(signal.aborted, false);
      const next = await (waiting ?? stage.acquire(b));
      assert.equal(next.held, true);
      assert.equal(await next.release(), true);
      assert.equal(await stage.record(), null);
    }
  },

  "failure: a renewal whose answer was lost costs no holder the lock": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    a.plan(loseAnswer, loseAnswer, loseRequest);
    for (let i = 0; i < 12; i++) {
      await stage.leave(50);
      assert.equal(await stage.tryAcquire(b), null);
    }
    assert.equal(held.held, true);
    assert.equal(held.signal.aborted, false);
    assert.equal(await held.release(), true);
  },

  "failure: a hand-off whose answer was lost grants once": async (stage) => {
    const { a, b } = stage;
    let inside = 0;
    const held = await stage.acquire(a);
    const runs = [1, 2, 3].map(() =>
      stage.lock(a).run(async () => {
        assert.equal(++inside, 1);
        assert.equal(await stage.tryAcquire(b), null);
        inside--;
      })
    );
    a.plan(loseAnswer, loseAnswer);
    assert.equal(await held.release(), true);
    await Promise.all(runs);
    await stage.untilGone();
  },

  "failure: a grant that takes longer than its lease is not passed off as a hold": async (stage) => {
    const { a, b } = stage;
    const late = gateAnswer();
    a.plan(late.plan);
    const leaseMs = 400;
    const waiting = stage.acquire(a, { leaseMs });
    await late.reached;
    // By stealing: a slow store may take longer to see the lease out than the late one to look again.
    const other = await stage.acquire(b, { stealAfterMs: 0 });
    let granted = false;
    waiting.then(() => granted = true).catch(() => {});
    await stage.leave(leaseMs);
    late.open();
    await stage.leave(50);
    assert.equal(granted, false);
    assert.equal(await other.release(), true);
    const held = await waiting;
    assert.equal(held.held, true);
    await holdsOnce(stage, held.fencingToken);
  },

  "failure: what is not a record is neither taken for one nor touched": async (stage) => {
    const { a, store, id } = stage;
    for (const value of ["not JSON", '"text"', "null", "{}", '{"v":2,"holders":[]}', "[]"]) {
      const { version } = await stage.entry();
      assert.equal((await store.commit([{ key: id, version, value }])).ok, true);
      for (const wait of [true, false]) {
        const error = await outcomeOf(stage.lock(a, { wait }).acquire());
        assert.ok(error instanceof LockBackendError, String(error));
        assert.equal(error.identifier, id);
      }
      assert.equal((await stage.entry()).value, value);
    }
  },

  "failure: a holder whose record was overwritten is notified": async (stage) => {
    const { a, store, id } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    const { version } = await stage.entry();
    assert.equal((await store.commit([{ key: id, version, value: null }])).ok, true);
    await lossOf(held);
    assert.equal(await held.release(), false);
    assert.equal(await stage.record(), null);
  },

  "failure: a store that fails for good is an error at once, not a taken lock": async (stage) => {
    const { a, b } = stage;
    const cause = new LockBackendError("wrong password");
    const plain = new Error("out of memory");
    for (const error of [cause, plain]) {
      a.fail(error);
      for (const options of [{}, { wait: false }, { waitForMs: 20 }]) {
        const outcome = await outcomeOf(stage.lock(a, options).acquire());
        assert.ok(outcome instanceof LockBackendError);
        assert.deepEqual([outcome.identifier, outcome.cause], [stage.id, error]);
      }
    }
    assert.notEqual(await stage.tryAcquire(b), null);
  },

  "failure: an outage that passes is waited out": async (stage) => {
    const { a } = stage;
    a.fail(new LockBackendError("no route", { transient: true }));
    const waiting = stage.acquire(a);
    await stage.leave(50);
    a.heal();
    assert.equal((await waiting).held, true);
  },

  "failure: an outage that lasts is an error, not a taken lock": async (stage) => {
    const { a } = stage;
    for (const options of [{}, { wait: false }, { waitForMs: 50 }]) {
      a.fail(new LockBackendError("no route", { transient: true }));
      const outcome = await outcomeOf(stage.lock(a, { leaseMs: 200, ...options }).acquire());
      assert.ok(outcome instanceof LockBackendError);
      assert.deepEqual([outcome.identifier, outcome.transient], [stage.id, true]);
      // It now tries to take back what may have landed; that ends with an outage for good.
      a.fail(new LockBackendError("wrong password"));
      await a.called();
    }
  },

  "failure: a store that can be read but not written to is an error, not a taken lock": async (stage) => {
    const { a } = stage;
    // A full disk, or a replica: for ever, and for far more tries than a caller should make.
    a.plan(...Array.from({ length: 1000 }, () => loseRequest));
    const error = await outcomeOf(stage.acquire(a, { leaseMs: 300 }));
    assert.ok(error instanceof LockBackendError && error.transient, `${error}`);
    assert.ok(a.commits < 50, `it tried ${a.commits} times`);
  },

  "failure: a silent store is an error when waitForMs is over": async (stage) => {
    await gaveUp(stage, { waitForMs: 50 });
  },

  "failure: a silent store is an error for a caller that may not wait": async (stage) => {
    await gaveUp(stage, { wait: false, leaseMs: 200 });
  },

  "failure: an abort does not wait for a silent store": async (stage) => {
    const { a } = stage;
    const ending = new AbortController();
    a.silence();
    const waiting = outcomeOf(stage.lock(a, { signal: ending.signal }).acquire());
    await stage.leave(20);
    ending.abort("no more");
    assert.equal(await waiting, "no more");
    a.end();
  },

  "failure: a silent store does not keep the holder from being notified": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 400 });
    // One that goes through, so that the end of the lease is no longer that of the grant.
    await stage.until((record) => (record?.holders[0].renewals ?? 0) >= 1);
    a.silence();
    const heir = await stage.acquire(b);
    assert.equal((await lossOf(held)).reason, "expired");
    assert.equal(heir.held, true);
  },

  "failure: a waiter whose watch breaks gets the lock all the same": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    b.fail(new LockBackendError("no route", { transient: true }));
    assert.equal(await held.release(), true);
    await b.called();
    b.heal();
    assert.equal((await waiting).held, true);
  },

  "failure: a request that arrives after its sender gave it up grants nothing": async (stage) => {
    const { a } = stage;
    const late = gateRequest();
    a.plan(late.plan);
    const held = await stage.acquire(a, { leaseMs: 300 });
    late.open();
    await late.answered;
    await holdsOnce(stage, held.fencingToken);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "failure: a release that does not reach the store ends with the lease": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 200 });
    a.fail(new LockBackendError("no route", { transient: true }));
    const error = await outcomeOf(held.release());
    assert.ok(error instanceof LockBackendError);
    assert.equal(error.identifier, stage.id);
    assert.equal((await stage.acquire(b)).held, true);
  },

  "failure: a release during an outage that passes has released": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    a.fail(new LockBackendError("no route", { transient: true }));
    const released = held.release();
    await stage.leave(50);
    a.heal();
    assert.equal(await released, true);
    assert.notEqual(await stage.tryAcquire(b), null);
  },
};

/** The store names one holder, whose grant had this fencing token. */
async function holdsOnce(stage: Stage, fencingToken: string): Promise<void> {
  const { version } = await stage.entry();
  const holders = (await stage.record())?.holders ?? [];
  assert.equal(holders.length, 1);
  assert.equal(holders[0].fence ?? version, fencingToken);
}

async function gaveUp(stage: Stage, options: LockOptions): Promise<void> {
  const silent: Probe = stage.a;
  silent.silence();
  const error = await outcomeOf(stage.lock(silent, options).acquire());
  assert.ok(error instanceof LockBackendError, String(error));
  assert.ok(!(error instanceof LockAcquisitionError));
  assert.equal(error.identifier, stage.id);
  silent.end();
}
