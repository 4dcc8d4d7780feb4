import { strict as assert } from "node:assert";
import type { LockBackend } from "../core/backend.ts";
import { encodeLock, lockIn } from "../core/record/codec.ts";
import { queueKeyOf } from "../core/identifier.ts";
import type { Holder, LockRecord, QueueRecord } from "../core/record/record.ts";
import { cleanup, type CleanupCounts } from "../core/operators/cleanup.ts";
import { forceRelease, type ListedLock, Lock, locks, observe, peek } from "../mod.ts";
import { loseAnswer } from "./probe.ts";
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
    const { holders: [{ token }] } = (await stage.record())!;
    const [{ participant, token: entryToken }] = await stage.queued();
    assert.equal(JSON.stringify(shown).includes(token), false);
    for (const secret of [participant, entryToken]) {
      assert.equal(JSON.stringify(shown).includes(secret), false);
    }
    await held.release();
    await (await waiting).release();
    assert.deepEqual(await listed(stage), []);
  },

  "operator: a look at one lock is one read, and shows holder and queue without their secrets": async (
    stage,
  ) => {
    const { a, b, id } = stage;
    const free = await peek(id, { backend: a });
    assert.deepEqual([free.identifier, free.holders, free.waiters], [id, [], []]);
    const held = await stage.acquire(a, { label: "first" });
    const waiting = stage.acquire(b, { label: "second" });
    await stage.untilWaiting(1);
    const other = stage.another();
    const shown = await peek(id, { backend: other });
    assert.deepEqual([other.reads, other.commits], [1, 0]);
    assert.deepEqual([shown.holders[0].label, shown.holders[0].fencingToken], ["first", held.fencingToken]);
    assert.equal(shown.waiters[0].label, "second");
    const { holders: [{ token }] } = (await stage.record())!;
    const [entry] = await stage.queued();
    for (const secret of [token, entry.token, entry.participant]) {
      assert.ok(!JSON.stringify(shown).includes(secret));
    }
    await held.release();
    await (await waiting).release();
  },

  "operator: an observer of a lock sees it taken, waited for, handed over and free": async (stage) => {
    const { a, b, id } = stage;
    const ending = new AbortController();
    const other = stage.another();
    const observed = observe(id, { backend: other, signal: ending.signal });
    const until = async (holder: string | undefined, waiters: number) => {
      for (;;) {
        const { value } = await observed.next();
        const { holders, waiters: { length } } = value as ListedLock;
        if (holders[0]?.label === holder && length === waiters) return;
      }
    };
    await until(undefined, 0);
    // No renewal shows by chance what the queue alone has to show.
    const held = await stage.acquire(a, { label: "first", renew: false });
    await until("first", 0);
    const waiting = stage.acquire(b, { label: "second" });
    await until("first", 1);
    // Only the first to join writes the lock, too: those behind it join and leave by the queue alone.
    const leaving = new AbortController();
    const left = outcomeOf(stage.acquire(stage.another(), { signal: leaving.signal }));
    await until("first", 2);
    leaving.abort();
    await left;
    await until("first", 1);
    await held.release();
    await until("second", 0);
    await (await waiting).release();
    await until(undefined, 0);
    const last = observed.next();
    ending.abort();
    assert.equal((await last).done, true);
    assert.equal(other.commits, 0);
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

  "operator: a forced release ends the hold, and the holder learns why": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    const lost = lossOf(held);
    assert.equal(await forceRelease(stage.id, { backend: b }), true);
    assert.equal((await lost).reason, "forced");
    assert.equal(await held.release(), false);
    const next = await stage.tryAcquire(b);
    assert.ok(next!.fencingToken > held.fencingToken);
  },

  "operator: a forced release that finds the record changed is decided again": async (stage) => {
    const { a, b, store, id } = stage;
    const held = await stage.acquire(a, { renew: false });
    b.plan(async (apply) => {
      const { version, record } = lockIn(await stage.entry());
      const [{ renewals }] = record.holders;
      const value = encodeLock({ ...record, holders: [{ ...record.holders[0], renewals: renewals + 1 }] });
      assert.equal((await store.commit([{ key: id, version, value }])).ok, true);
      return await apply();
    });
    assert.equal(await forceRelease(id, { backend: b }), true);
    assert.deepEqual((await stage.record())?.holders, []);
    assert.equal(await held.release(), false);
  },

  "operator: a forced release notifies a holder of the same process on the spot": async (stage) => {
    const held = await stage.acquire(stage.a);
    const waiting = stage.acquire(stage.a);
    assert.equal(await forceRelease(stage.id, { backend: stage.a }), true);
    assert.equal(held.held, false);
    assert.equal(held.signal.reason.reason, "forced");
    assert.equal((await waiting).held, true);
  },

  "operator: a forced release hands over to the first in the queue": async (stage) => {
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

  "operator: there is nothing to force where there is no holder": async (stage) => {
    const { a, b } = stage;
    assert.equal(await forceRelease(stage.id, { backend: a }), false);
    assert.equal(await stage.record(), null);
    const held = await stage.acquire(a);
    assert.equal(await forceRelease(stage.id, { backend: b }), true);
    assert.equal(await forceRelease(stage.id, { backend: b }), false);
    await held.release();
  },

  "operator: a store that fails is reported by name": async (stage) => {
    stage.b.fail(new Error("the store is unavailable"));
    const error = await outcomeOf(forceRelease(stage.id, { backend: stage.b })) as Error;
    assert.equal(error.name, "LockBackendError");
    assert.ok(error.message.includes("the store is unavailable"));
  },

  "cleanup: records of crashed processes are removed, and nothing else is touched": async (stage) => {
    const { a, b, id } = stage;
    // A store whose clock proves nothing would have to watch the stale lines for a minute.
    b.skewMs = 1000;
    const now = b.now();
    const long = 10 * 60_000;
    const waiter = {
      participant: "gone",
      token: "g",
      mode: "exclusive",
      limit: 1,
      since: now - long,
    } as const;
    const queue = { v: 1, id: "gone/1", entries: [waiter] } as const;
    const notice = { token: "gone", reason: "forced", leaseMs: 1000 } as const;
    await leaveRecord(stage, "dead", { holders: [holder(now - long)] });
    await leaveRecord(stage, "dead with a queue", { holders: [holder(now - long)], queue: queue.id }, queue);
    await leaveRecord(stage, "queue only", { queue: queue.id, freedAt: now - long }, queue);
    await leaveRecord(stage, "old notice", { notices: [{ ...notice, until: now - long }] });
    const kept = await Promise.all([
      leaveRecord(stage, "running", { holders: [holder(now + long)] }),
      leaveRecord(stage, "running, and one dead", { holders: [holder(now - long), holder(now + long)] }),
      leaveRecord(stage, "queue in use", { queue: queue.id, freedAt: now }, queue),
      leaveRecord(stage, "fresh notice", { notices: [{ ...notice, until: now + long }] }),
    ]);
    const held = await stage.acquire(a);
    const before = await Promise.all(kept.map((key) => stage.entry(key)));
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ live: 5, removed: 4 }));
    assert.deepEqual(await Promise.all(kept.map((key) => stage.entry(key))), before);
    for (const name of ["dead", "dead with a line", "line only", "old note"]) {
      assert.equal((await stage.entry(`${id}/${name}`)).value, null, name);
    }
    assert.equal(held.held, true);
    assert.equal(await held.release(), true);
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ live: 4 }));
  },

  "cleanup: a lease has expired only when the clocks cannot differ by more": async (stage) => {
    const { b, id } = stage;
    b.skewMs = 60_000;
    const now = b.now();
    const key = await leaveRecord(stage, "perhaps", { holders: [holder(now - 50_000)] });
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ live: 1 }));
    b.skewMs = 40_000;
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ removed: 1 }));
    assert.equal((await stage.entry(key)).value, null);
  },

  "cleanup: where clocks mean nothing, an expiry is watched": async (stage) => {
    const { b, id, store } = stage;
    const running = holder(b.now() + 60_000);
    const [dead, alive] = [
      await leaveRecord(stage, "dead", { holders: [running] }),
      await leaveRecord(stage, "alive", { holders: [running] }),
    ];
    b.skewMs = Infinity;
    // Its holder renews it once, after the cleanup has seen it and before a lease has passed.
    b.list = async function* (prefix) {
      yield* store.list(prefix);
      const { version } = await stage.entry(alive);
      const value = encodeLock(recordOf({ holders: [{ ...running, renewals: 1 }] }));
      assert.equal((await store.commit([{ key: alive, version, value }])).ok, true);
    };
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ live: 1, removed: 1 }));
    assert.equal((await stage.entry(dead)).value, null);
    assert.notEqual((await stage.entry(alive)).value, null);
  },

  "cleanup: a watch can be cancelled": async (stage) => {
    const { b, id } = stage;
    const key = await leaveRecord(stage, "alive", { holders: [{ ...holder(b.now()), leaseMs: 300_000 }] });
    b.skewMs = Infinity;
    const ending = new AbortController();
    const cleaning = outcomeOf(cleanup({ backend: b, prefix: id, signal: ending.signal }));
    await stage.leave(50);
    ending.abort("enough");
    assert.equal(await cleaning, "enough");
    assert.notEqual((await stage.entry(key)).value, null);
  },

  "cleanup: a caller that claims an expired record meanwhile keeps it": async (stage) => {
    const { a, b, id, store } = stage;
    const { version } = await stage.entry();
    await store.commit([{
      key: id,
      version,
      value: encodeLock(recordOf({ holders: [holder(b.now() - 60_000)] })),
    }]);
    let held: Lock | undefined;
    b.plan(async (apply) => {
      held = await stage.acquire(a);
      return await apply();
    });
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({ live: 1 }));
    assert.equal(held?.held, true);
    assert.equal(await held?.release(), true);
  },

  "cleanup: a caller that claims an expired record just after it was listed keeps it": async (stage) => {
    const { a, b, id } = stage;
    const value = encodeLock(recordOf({ holders: [holder(b.now() - 60_000)] }));
    await stage.store.commit([{ key: id, version: null, value }]);
    let held: Lock | undefined;
    const backend: LockBackend = {
      skewMs: b.skewMs,
      graceMs: b.graceMs,
      now: () => b.now(),
      read: (keys) => b.read(keys),
      commit: (changes) => b.commit(changes),
      watch: (key, options) => b.watch(key, options),
      async *list(prefix) {
        for await (const entry of b.list(prefix)) {
          held = await stage.acquire(a);
          yield entry;
        }
      },
    };
    assert.deepEqual(await cleanup({ backend, prefix: id }), counts({ live: 1 }));
    assert.equal(held?.held, true);
    assert.equal(await held?.release(), true);
  },

  "cleanup: two at once remove everything once": async (stage) => {
    const { a, b, id } = stage;
    const past = b.now() - 60_000;
    for (let i = 0; i < 20; i++) await leaveRecord(stage, `dead ${i}`, { holders: [holder(past)] });
    const both = await Promise.all([a, b].map((backend) => cleanup({ backend, prefix: id })));
    assert.equal(both[0].removed + both[1].removed, 20);
    for (const { seen, removed, gone } of both) assert.equal(seen, removed + gone);
    assert.deepEqual(await cleanup({ backend: a, prefix: id }), counts({}));
  },

  "cleanup: olderThanMs evicts holders that have held for longer, and they learn why": async (stage) => {
    const { a, b, id } = stage;
    // A store without a clock: the age of a hold is judged by what its process has written of it.
    a.skewMs = 0;
    const old = await stage.acquire(a, { leaseMs: 900 });
    const lost = lossOf(old);
    const waiting = stage.acquire(b);
    await stage.untilWaiting(1);
    // In another process, so that only the store can notify it.
    const backend = stage.another();
    assert.deepEqual(
      await cleanup({ backend, prefix: id, olderThanMs: 3_600_000 }),
      counts({ live: 1 }),
    );
    assert.equal(old.held, true);
    b.skewMs = backend.skewMs = 0;
    await stage.leave(50);
    assert.deepEqual(await cleanup({ backend, prefix: id, olderThanMs: 1 }), counts({ evicted: 1 }));
    assert.equal((await lost).reason, "forced");
    assert.equal((await waiting).held, true);
  },

  "cleanup: olderThanMs notifies a holder of the same process on the spot": async (stage) => {
    const held = await stage.acquire(stage.a);
    stage.a.skewMs = 0;
    await stage.leave(10);
    assert.equal((await cleanup({ backend: stage.a, prefix: stage.id, olderThanMs: 0 })).evicted, 1);
    assert.equal(held.held, false);
    assert.equal(held.signal.reason.reason, "forced");
  },

  "cleanup: waiters whose record vanishes line up again": async (stage) => {
    const { a, b, id, store } = stage;
    const held = await stage.acquire(a, { leaseMs: 300 });
    const lost = lossOf(held);
    const waiting = [b, stage.another()].map((peer) => stage.acquire(peer));
    await stage.untilWaiting(2);
    for (;;) {
      const { version } = await stage.entry();
      if ((await store.commit([{ key: id, version, value: null }])).ok) break;
    }
    const first = await Promise.race(waiting);
    assert.equal(first.held, true);
    assert.equal(await first.release(), true);
    for (const next of waiting) {
      const taken = await next;
      if (taken !== first) assert.equal(await taken.release(), true);
    }
    await lost;
  },

  "cleanup: what is no record is left alone and counted": async (stage) => {
    const { b, id, store } = stage;
    const key = `${id}/other`;
    await store.commit([{ key, version: null, value: '{"v":2,"holders":[]}' }]);
    const before = await stage.entry(key);
    assert.deepEqual(await cleanup({ backend: b, prefix: id, olderThanMs: 0 }), counts({ unreadable: 1 }));
    assert.deepEqual(await stage.entry(key), before);
  },

  "cleanup: a store that fails is reported by name, and the next run ends the work": async (stage) => {
    const { b, id } = stage;
    const key = await leaveRecord(stage, "dead", { holders: [holder(b.now() - 60_000)] });
    b.plan(loseAnswer);
    const error = await outcomeOf(cleanup({ backend: b, prefix: id })) as Error & { identifier: string };
    assert.deepEqual([error.name, error.identifier], ["LockBackendError", key]);
    assert.deepEqual(await cleanup({ backend: b, prefix: id }), counts({}));
  },

  "cleanup: a silent store keeps no caller that cancels": async (stage) => {
    const { b, id } = stage;
    await leaveRecord(stage, "dead", { holders: [holder(b.now() - 60_000)] });
    b.silence();
    const ending = new AbortController();
    const cleaning = outcomeOf(cleanup({ backend: b, prefix: id, signal: ending.signal }));
    await b.called();
    ending.abort("enough");
    assert.equal(await cleaning, "enough");
    b.end();
  },
};

/** A hold whose lease ends at `expiresAt`. */
function holder(expiresAt: number): Holder {
  const token = crypto.randomUUID();
  const leaseMs = 100;
  const since = expiresAt - leaseMs;
  return { token, mode: "exclusive", limit: 1, since, leaseMs, expiresAt, renewals: 0 };
}

function recordOf(parts: Partial<LockRecord>): LockRecord {
  return { v: 1, holders: [], ...parts };
}

/** Leaves a record as dead processes might have, and answers its key. */
async function leaveRecord(
  { id, store }: Stage,
  name: string,
  parts: Partial<LockRecord>,
  queue?: QueueRecord,
): Promise<string> {
  const key = `${id}/${name}`;
  const changes = [{ key, version: null, value: encodeLock(recordOf(parts)) }];
  if (queue !== undefined) {
    changes.push({ key: queueKeyOf(key), version: null, value: JSON.stringify(queue) });
  }
  assert.equal((await store.commit(changes)).ok, true);
  return key;
}

/** These counts, and as many seen. */
function counts(parts: Partial<CleanupCounts>): CleanupCounts {
  const seen = Object.values(parts).reduce((sum, count) => sum + count, 0);
  return { seen, live: 0, removed: 0, evicted: 0, gone: 0, unreadable: 0, ...parts };
}

async function listed(stage: Stage): Promise<ListedLock[]> {
  const found: ListedLock[] = [];
  for await (const listed of locks({ prefix: stage.id, backend: stage.another() })) found.push(listed);
  return found;
}
