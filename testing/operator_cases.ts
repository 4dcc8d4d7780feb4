import { strict as assert } from "node:assert";
import { forceRelease, type ListedLock, Lock, locks } from "../mod.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

/** What an operator sees of the locks on a store, and can do about them. */
export const operatorCases: Cases = {
  "operator: a listing shows holders and waiters, without their secrets": async (stage) => {
    const { a, b } = stage;
    assert.deepEqual(await listed(stage), []);
    const held = await stage.acquire(a, { label: "first", leaseMs: 5000 });
    const waiting = stage.acquire(b, { label: "second" });
    await stage.untilWaiting(1);
    const [shown, ...others] = await listed(stage);
    assert.deepEqual([shown.identifier, others], [stage.id, []]);
    const [holder] = shown.holders;
    const [waiter] = shown.waiters;
    assert.deepEqual([holder.label, holder.mode, waiter.label, waiter.mode], [
      "first",
      "exclusive",
      "second",
      "exclusive",
    ]);
    assert.equal(holder.fencingToken, held.fencingToken);
    assert.ok(holder.leaseLeftMs <= stage.ms(5000) + a.skewMs && holder.since instanceof Date);
    assert.ok(holder.heldForMs >= 0 && waiter.waitingForMs >= 0 && waiter.since instanceof Date);
    const { holders: [{ token }], queue: [{ seat }] } = (await stage.record())!;
    assert.equal(JSON.stringify(shown).includes(token), false);
    assert.equal(JSON.stringify(shown).includes(seat), false);
    await held.release();
    await (await waiting).release();
    assert.deepEqual(await listed(stage), []);
  },

  "operator: a listing is of those that begin with the prefix": async (stage) => {
    const { a, id } = stage;
    const held = await Promise.all(
      ["x:1", "x:2", "y:1"].map((name) => Lock.acquire(`${id}/${name}`, { backend: a })),
    );
    const found: string[] = [];
    for await (const { identifier } of locks({ prefix: `${id}/x:`, backend: stage.b })) {
      found.push(identifier);
    }
    await Promise.all(held.map((held) => held?.release()));
    assert.deepEqual(found.sort(), [`${id}/x:1`, `${id}/x:2`]);
  },

  "operator: a forced release ends the hold and tells the holder why": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    const lost = lossOf(held);
    assert.equal(await forceRelease(stage.id, { backend: b }), true);
    assert.equal((await lost).reason, "forced");
    assert.equal(await held.release(), false);
    const next = await stage.tryAcquire(b);
    assert.ok(next!.fencingToken > held.fencingToken);
  },

  "operator: a forced release tells a holder of its own process on the spot": async (stage) => {
    const held = await stage.acquire(stage.a);
    const waiting = stage.acquire(stage.a);
    assert.equal(await forceRelease(stage.id, { backend: stage.a }), true);
    assert.equal(held.held, false);
    assert.equal(held.signal.reason.reason, "forced");
    assert.equal((await waiting).held, true);
  },

  "operator: a forced release hands over to the first in line": async (stage) => {
    const { a, b } = stage;
    await stage.acquire(a);
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    assert.equal(await forceRelease(stage.id, { backend: stage.another() }), true);
    assert.equal((await waiting).held, true);
  },

  "operator: a forced release by fencing token leaves every other holder alone": async (stage) => {
    const { a, b } = stage;
    const first = await stage.acquire(a);
    const { fencingToken } = first;
    await first.release();
    const second = await stage.acquire(a);
    assert.equal(await forceRelease(stage.id, { backend: b, fencingToken }), false);
    assert.equal(second.held, true);
    assert.equal(await forceRelease(stage.id, { backend: b, fencingToken: second.fencingToken }), true);
    assert.equal(await second.release(), false);
  },

  "operator: there is nothing to force where nobody holds": async (stage) => {
    const { a, b } = stage;
    assert.equal(await forceRelease(stage.id, { backend: a }), false);
    assert.equal(await stage.record(), null);
    const held = await stage.acquire(a);
    assert.equal(await forceRelease(stage.id, { backend: b }), true);
    assert.equal(await forceRelease(stage.id, { backend: b }), false);
    await held.release();
  },

  "operator: a store that fails is told by name": async (stage) => {
    stage.b.fail(new Error("the store is out"));
    const error = await outcomeOf(forceRelease(stage.id, { backend: stage.b })) as Error;
    assert.equal(error.name, "LockBackendError");
    assert.ok(error.message.includes("the store is out"));
  },
};

async function listed(stage: Stage): Promise<ListedLock[]> {
  const found: ListedLock[] = [];
  for await (const listed of locks({ prefix: stage.id, backend: stage.another() })) found.push(listed);
  return found;
}
