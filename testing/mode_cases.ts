import { strict as assert } from "node:assert";
import { type Lock, LockAcquisitionError, LockLostError } from "../mod.ts";
import { gateAnswer, Latch, loseAnswer } from "./probe.ts";
import { type Cases, lossOf, outcomeOf } from "./stage.ts";

const SHARED = { mode: "shared" } as const;

/** Which holders may hold a lock together. */
export const modeCases: Cases = {
  "shared: any number hold it together, of one process and of several, and none exclusively": async (
    stage,
  ) => {
    const { a, b } = stage;
    const readers = [await stage.acquire(a, SHARED), await stage.acquire(a, SHARED)];
    readers.push(await stage.acquire(b, SHARED), await stage.acquire(stage.another(), SHARED));
    assert.ok(readers.every(({ held, mode }) => held && mode === "shared"));
    assertRising(readers);
    assert.equal(await stage.tryAcquire(a), null);
    assert.equal(await stage.tryAcquire(b), null);
    for (const held of readers) assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "shared: an exclusive holder excludes them": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    assert.equal(held.mode, "exclusive");
    assert.equal(await stage.tryAcquire(a, SHARED), null);
    assert.equal(await stage.tryAcquire(b, SHARED), null);
    assert.equal(await held.release(), true);
    assert.notEqual(await stage.tryAcquire(b, SHARED), null);
  },

  "shared: it costs one commit to acquire and one to release": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, SHARED);
    assert.equal(await held.release(), true);
    assert.deepEqual([a.commits, a.reads], [2, 0]);
    assert.equal(await stage.record(), null);
  },

  "shared: a writer is not passed by readers that come later": async (stage) => {
    const { a, b } = stage;
    const reader = await stage.acquire(a, SHARED);
    const writing = stage.acquire(b);
    await stage.untilWaiting(1);
    const order: string[] = [];
    const later = [
      stage.acquire(a, SHARED).then((held) => (order.push("reader"), held)),
      stage.acquire(stage.another(), SHARED).then((held) => (order.push("reader"), held)),
    ];
    assert.equal(await stage.tryAcquire(stage.another(), SHARED), null);
    await stage.untilWaiting(3);
    await reader.release();
    const writer = await writing;
    order.push("writer");
    await stage.leave(50);
    assert.deepEqual(order, ["writer"]);
    await writer.release();
    assertRising([writer, ...(await Promise.all(later))].slice(0, 2));
    assert.deepEqual(order, ["writer", "reader", "reader"]);
  },

  "shared: a writer waits behind a reader of the same process, and is not passed": async (stage) => {
    const { a, b } = stage;
    const reader = await stage.acquire(a, SHARED);
    const writing = stage.acquire(a);
    await stage.untilWaiting(1);
    assert.equal(await stage.tryAcquire(b, SHARED), null);
    await reader.release();
    assert.equal((await writing).held, true);
  },

  "shared: readers that are next to each other get it in one commit, each with its own token": async (
    stage,
  ) => {
    const { a } = stage;
    const writer = await stage.acquire(a);
    const readers: Promise<Lock>[] = [];
    for (let i = 1; i <= 4; i++) {
      readers.push(stage.acquire(stage.another(), SHARED));
      await stage.untilWaiting(i);
    }
    const behind = stage.acquire(stage.another());
    await stage.untilWaiting(5);
    const { commits } = a;
    await writer.release();
    // It may not have known the waiters: then it is refused once.
    assert.ok(a.commits <= commits + 2);
    const held = await Promise.all(readers);
    assert.equal((await stage.record())?.holders.length, 4);
    assert.equal((await stage.queued()).length, 1);
    const tokens = new Set(held.map(({ fencingToken }) => fencingToken));
    assert.equal(tokens.size, 4);
    assert.ok([...tokens].every((token) => token > writer.fencingToken));
    for (const reader of held) await reader.release();
    const { fencingToken } = await behind;
    assert.ok([...tokens].every((token) => token < fencingToken));
  },

  "shared: the readers of one process take their turn together": async (stage) => {
    const { a, b } = stage;
    const writer = await stage.acquire(a);
    const readers = [1, 2, 3].map(() => stage.acquire(b, SHARED));
    await stage.untilWaiting(1);
    const behind = stage.acquire(stage.another());
    await stage.untilWaiting(2);
    await writer.release();
    const granted = await Promise.all(readers);
    assertRising([writer, ...granted]);
    for (const held of granted) assert.equal(await held.release(), true);
    assert.equal(await (await behind).release(), true);
    await stage.untilGone();
  },

  "shared: the readers of one process are renewed by one commit": async (stage) => {
    const { a } = stage;
    const readers = [];
    for (let i = 0; i < 5; i++) readers.push(await stage.acquire(a, { ...SHARED, leaseMs: 1200 }));
    const { commits } = a;
    // Half a second: the first is due once.
    await stage.until((record) => record!.holders.every(({ renewals }) => renewals > 0));
    assert.equal(a.commits, commits + 1);
    assert.ok(readers.every(({ held }) => held));
  },

  "shared: a dead reader holds a writer up for its lease only": async (stage) => {
    const { a, b } = stage;
    const dead = stage.another();
    await stage.acquire(dead, { ...SHARED, leaseMs: 200 });
    const alive = await stage.acquire(a, SHARED);
    const writing = stage.acquire(b);
    await stage.untilWaiting(1);
    dead.silence();
    assert.equal(await alive.release(), true);
    assert.equal((await writing).held, true);
  },

  "shared: a writer that steals evicts all readers, and they are notified": async (stage) => {
    const { a, b } = stage;
    const readers = [await stage.acquire(a, SHARED), await stage.acquire(stage.another(), SHARED)];
    const writer = await stage.acquire(b, { stealAfterMs: 0 });
    assert.equal(writer.held, true);
    for (const held of readers) {
      assert.equal(await held.release(), false);
      assert.equal((await lossOf(held)).reason, "stolen");
    }
  },

  "limit: as many hold it as it says, and no more": async (stage) => {
    const { a, b } = stage;
    const held = [await stage.acquire(a, { limit: 3 }), await stage.acquire(b, { limit: 3 })];
    held.push(await stage.acquire(a, { limit: 3 }));
    assertRising(held);
    assert.equal(await stage.tryAcquire(a, { limit: 3 }), null);
    assert.equal(await stage.tryAcquire(b, { limit: 3 }), null);
    const error = await outcomeOf(stage.lock(b, { limit: 3, wait: false }).acquire());
    assert.ok(error instanceof LockAcquisitionError);
    assert.equal(error.holders.length, 3);
    const waiting = stage.acquire(b, { limit: 3 });
    await stage.untilWaiting(1);
    assert.equal(await held[0].release(), true);
    assert.equal((await waiting).held, true);
    assert.equal(await stage.tryAcquire(a, { limit: 3 }), null);
  },

  "limit: the least one in force counts": async (stage) => {
    const { a, b } = stage;
    const wide = await stage.acquire(a, { limit: 5 });
    assert.equal(await stage.tryAcquire(b), null);
    assert.equal(await stage.tryAcquire(b, { limit: 1 }), null);
    const narrow = (await stage.tryAcquire(b, { limit: 2 }))!;
    assert.equal(await stage.tryAcquire(stage.another(), { limit: 5 }), null);
    assert.equal(await narrow.release(), true);
    assert.notEqual(await stage.tryAcquire(b, { limit: 5 }), null);
    assert.equal(await wide.release(), true);
  },

  "limit: readers are not admitted together with holders of permits, nor these together with readers": async (
    stage,
  ) => {
    const { a, b } = stage;
    const permit = await stage.acquire(a, { limit: 5 });
    assert.equal(await stage.tryAcquire(b, SHARED), null);
    await permit.release();
    await stage.acquire(a, SHARED);
    assert.equal(await stage.tryAcquire(b, { limit: 5 }), null);
  },

  "limit: a caller that wants many permits is not passed by callers that want few": async (stage) => {
    const { a, b } = stage;
    const three = await stage.acquire(a, { limit: 5, permits: 3 });
    const one = await stage.acquire(b, { limit: 5 });
    const large = stage.acquire(b, { limit: 5, permits: 4 });
    await stage.untilWaiting(1);
    assert.equal(await stage.tryAcquire(stage.another(), { limit: 5 }), null);
    const small = stage.acquire(stage.another(), { limit: 5 });
    await stage.untilWaiting(2);
    await one.release();
    await stage.leave(50);
    assert.equal((await stage.queued()).length, 2);
    await three.release();
    // There are permits for both.
    assert.deepEqual([(await large).held, (await small).held], [true, true]);
    assert.equal(await stage.tryAcquire(a, { limit: 5 }), null);
  },

  "limit: a permit of a crashed holder comes back when its lease expires": async (stage) => {
    const { a, b } = stage;
    const dead = stage.another();
    await stage.acquire(dead, { limit: 2, leaseMs: 200 });
    const alive = await stage.acquire(a, { limit: 2 });
    dead.silence();
    const next = await stage.acquire(b, { limit: 2 });
    assert.deepEqual([alive.held, next.held], [true, true]);
  },

  "limit: each is judged by its own lease, never by a newcomer's shorter one": async (stage) => {
    const { a, b } = stage;
    const long = await stage.acquire(a, { limit: 2, leaseMs: 60_000, renew: false });
    const short = await stage.acquire(stage.another(), { limit: 2, leaseMs: 150, renew: false });
    const next = await stage.acquire(b, { limit: 2, leaseMs: 150 });
    assert.deepEqual([long.held, short.held, next.held], [true, false, true]);
    assert.equal(await stage.tryAcquire(b, { limit: 2, leaseMs: 150 }), null);
  },

  "limit: stealing evicts the oldest holder only": async (stage) => {
    const { a, b } = stage;
    const held = [];
    for (const peer of [a, b, a]) held.push(await stage.acquire(peer, { limit: 3 }));
    const thief = await stage.acquire(stage.another(), { limit: 3, stealAfterMs: 0 });
    assert.equal(thief.held, true);
    assert.equal(await held[0].release(), false);
    assert.equal((await lossOf(held[0])).reason, "stolen");
    assert.equal(await held[1].release(), true);
    assert.equal(await held[2].release(), true);
  },

  "limit: fifty contenders for five are never six, and are five": async (stage) => {
    let inside = 0;
    const five = new Latch();
    const runs = Array.from(
      { length: 50 },
      (_, i) =>
        stage.lock([stage.a, stage.b][i % 2], { limit: 5 }).run(async () => {
          assert.ok(++inside <= 5, `${inside} at once`);
          // The first wait for each other, however long the store takes for each.
          if (inside === 5) five.open();
          await five.passed;
          await stage.leave(2);
          inside--;
        }),
    );
    await Promise.all(runs);
    await stage.untilGone();
  },

  "upgrade: a reader that is alone becomes the only holder in one commit, with a higher token": async (
    stage,
  ) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, SHARED);
    const before = held.fencingToken;
    await held.upgrade();
    assert.deepEqual([held.mode, held.held, a.commits], ["exclusive", true, 2]);
    assert.ok(held.fencingToken > before);
    assert.equal(held.fencingToken, (await stage.entry()).version);
    assert.equal(await stage.tryAcquire(b, SHARED), null);
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "upgrade: it waits for the other readers, before a writer in the queue, and lets no reader in": async (
    stage,
  ) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, SHARED);
    const other = await stage.acquire(b, SHARED);
    const order: string[] = [];
    const writing = stage.acquire(b).then((lock) => (order.push("writer"), lock));
    await stage.untilWaiting(1);
    const upgraded = held.upgrade().then(() => void order.push("upgrade"));
    await stage.until((record) => record!.holders.some(({ upgrades }) => upgrades === true));
    assert.equal(await stage.tryAcquire(stage.another(), SHARED), null);
    assert.equal(held.mode, "shared");
    await other.release();
    await upgraded;
    assert.equal(held.mode, "exclusive");
    await held.release();
    await (await writing).release();
    assert.deepEqual(order, ["upgrade", "writer"]);
  },

  "upgrade: the second of two is refused at once, and both go on": async (stage) => {
    const { a, b } = stage;
    const first = await stage.acquire(a, SHARED);
    const here = await stage.acquire(a, SHARED);
    const second = await stage.acquire(b, SHARED);
    const upgraded = first.upgrade();
    await stage.until((record) => record!.holders.some(({ upgrades }) => upgrades === true));
    assert.equal(await stage.tryAcquire(stage.another(), SHARED), null);
    for (const held of [second, here, first]) {
      const error = await outcomeOf(held.upgrade());
      assert.ok(error instanceof LockAcquisitionError);
      const why = held === first ? /this holder is upgrading it already/ : /another holder is upgrading it/;
      assert.match(error.message, why);
      assert.deepEqual([held.held, held.mode], [true, "shared"]);
    }
    assert.equal(await second.release(), true);
    assert.equal(await here.release(), true);
    await upgraded;
    assert.equal(first.mode, "exclusive");
  },

  "upgrade: one that is given up leaves the lock as it was": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, SHARED);
    const other = await stage.acquire(b, { ...SHARED, label: "the other one" });
    const ending = new AbortController();
    const upgrades = [
      held.upgrade({ wait: false }),
      held.upgrade({ waitForMs: stage.ms(40) }),
      held.upgrade({ signal: ending.signal }),
    ];
    // One at a time.
    assert.ok(await outcomeOf(upgrades[1]) instanceof LockAcquisitionError);
    assert.ok(await outcomeOf(upgrades[2]) instanceof LockAcquisitionError);
    const refused = await outcomeOf(upgrades[0]);
    assert.ok(refused instanceof LockAcquisitionError);
    assert.deepEqual(refused.holders.map(({ label }) => label), ["the other one"]);
    const late = await outcomeOf(held.upgrade({ waitForMs: stage.ms(40) }));
    assert.ok(late instanceof LockAcquisitionError);
    assert.ok(late.waitedMs >= 39);
    const cancelled = outcomeOf(held.upgrade({ signal: ending.signal }));
    await stage.until((record) => record!.holders.some(({ upgrades }) => upgrades === true));
    ending.abort("no more");
    assert.equal(await cancelled, "no more");
    await stage.until((record) => record!.holders.every(({ upgrades }) => upgrades !== true));
    assert.deepEqual([held.held, held.mode, other.held], [true, "shared", true]);
    assert.notEqual(await stage.tryAcquire(stage.another(), SHARED), null);
    assert.equal(await held.release(), true);
  },

  "upgrade: one whose answer was lost is found": async (stage) => {
    const { a } = stage;
    const held = await stage.acquire(a, SHARED);
    const before = held.fencingToken;
    a.plan(loseAnswer);
    await held.upgrade();
    assert.equal(held.mode, "exclusive");
    assert.ok(held.fencingToken > before);
    a.plan(loseAnswer);
    await held.downgrade();
    assert.equal(held.mode, "shared");
    assert.equal(await held.release(), true);
    assert.equal(await stage.record(), null);
  },

  "upgrade: one that lands after it was given up is taken back": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, SHARED);
    const gate = gateAnswer();
    a.plan(gate.plan);
    const ending = new AbortController();
    const upgraded = outcomeOf(held.upgrade({ signal: ending.signal }));
    await gate.reached;
    ending.abort("no more");
    assert.equal(await upgraded, "no more");
    gate.open();
    await stage.until((record) => record!.holders[0].mode === "shared");
    const reader = await stage.acquire(b, SHARED);
    assert.deepEqual([held.held, reader.held], [true, true]);
    assert.equal(await held.release(), true);
  },

  "upgrade: a holder that dies while it waits for that holds others up for its lease only": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, { ...SHARED, leaseMs: 300 });
    const other = await stage.acquire(b, SHARED);
    void outcomeOf(held.upgrade());
    await stage.until((record) => record!.holders.some(({ upgrades }) => upgrades === true));
    a.silence();
    const next = await stage.acquire(b, SHARED);
    assert.deepEqual([other.held, next.held], [true, true]);
  },

  "upgrade: a lock that is lost or released is not upgraded": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a, SHARED);
    const other = await stage.acquire(b, SHARED);
    const waiting = outcomeOf(held.upgrade());
    await stage.until((record) => record!.holders.some(({ upgrades }) => upgrades === true));
    await held.release();
    for (const error of [await waiting, await outcomeOf(held.upgrade()), await outcomeOf(held.downgrade())]) {
      assert.ok(error instanceof LockLostError);
      assert.equal(error.reason, "released");
    }
    const more = await stage.acquire(a, SHARED);
    const losing = outcomeOf(more.upgrade());
    const thief = await stage.acquire(stage.another(), { stealAfterMs: 0 });
    const error = await losing;
    assert.ok(error instanceof LockLostError);
    assert.equal(error.reason, "stolen");
    assert.equal(await other.release(), false);
    assert.equal(thief.held, true);
  },

  "downgrade: it admits the readers that are next, in one commit, with a higher token": async (stage) => {
    const { a, b } = stage;
    const held = await stage.acquire(a);
    const readers = [stage.acquire(b, SHARED)];
    await stage.untilWaiting(1);
    readers.push(stage.acquire(stage.another(), SHARED));
    await stage.untilWaiting(2);
    const writing = stage.acquire(stage.another());
    await stage.untilWaiting(3);
    const before = held.fencingToken;
    const { commits } = a;
    await held.downgrade();
    assert.deepEqual([held.mode, held.held], ["shared", true]);
    assert.ok(held.fencingToken > before);
    assert.ok(a.commits <= commits + 2);
    for (const reader of await Promise.all(readers)) assert.equal(await reader.release(), true);
    assert.equal(await held.release(), true);
    assert.equal(await (await writing).release(), true);
  },

  "upgrade, downgrade: one that has a limit has no other mode": async (stage) => {
    const held = await stage.acquire(stage.a, { limit: 2 });
    for (const change of [held.upgrade(), held.downgrade()]) {
      assert.ok(await outcomeOf(change) instanceof TypeError);
    }
    assert.deepEqual([held.held, held.mode], [true, "exclusive"]);
  },

  "downgrade, upgrade: what is called at once takes effect in the order of the calls": async (stage) => {
    const held = await stage.acquire(stage.a);
    await Promise.all([held.downgrade(), held.upgrade(), held.downgrade()]);
    assert.equal(held.mode, "shared");
    await Promise.all([held.upgrade(), held.downgrade(), held.upgrade()]);
    assert.deepEqual([held.mode, held.held], ["exclusive", true]);
    assert.equal(await held.release(), true);
  },
};

function assertRising(held: readonly Lock[]): void {
  for (const [i, { fencingToken }] of held.entries()) {
    if (i > 0) assert.ok(fencingToken > held[i - 1].fencingToken);
  }
}
