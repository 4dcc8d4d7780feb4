import { strict as assert } from "node:assert";
import type { CommitResult } from "../core/backend.ts";
import { queueKeyOf } from "../core/identifier.ts";
import { cleanup } from "../core/operators/cleanup.ts";
import { forceRelease, type ListedLock, locks } from "../mod.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

const NOW = Date.now();
const HOLDER = {
  token: "t",
  mode: "exclusive",
  limit: 1,
  since: NOW,
  leaseMs: 100,
  expiresAt: NOW + 60_000,
  renewals: 0,
};

/** A record, with parts that are wrong. */
function record(parts: Record<string, unknown>): string {
  return JSON.stringify({ v: 1, holders: [HOLDER], ...parts });
}

/** A record of one holder, with members that are wrong. */
function held(members: Record<string, unknown>): string {
  return record({ holders: [{ ...HOLDER, ...members }] });
}

/** The nastiest that a store may hold under the key of a lock: each was once granted, or kept a caller for ever. */
const MALFORMED: Readonly<Record<string, string>> = {
  "no JSON": '{"v":1,"holders":[],',
  "JSON that is no record": "[]",
  "a format that is newer": '{"v":2,"holders":[]}',
  "a holder whose lease has no end": held({ expiresAt: undefined }),
  "a holder whose lease ends at a text": held({ expiresAt: "soon" }),
  "a holder whose label is null": held({ label: null }),
  "a holder whose lease is longer than any": held({ leaseMs: 2 ** 31 }),
  "a holder of an unknown mode": held({ mode: "upgradeable" }),
  "two holders of one name": record({ holders: [HOLDER, HOLDER] }),
  "more holders than there may be": record({
    holders: Array.from({ length: 65 }, (_, i) => ({ ...HOLDER, token: `t${i}` })),
  }),
  "a holder that is null": record({ holders: [null] }),
  "a queue without a name": record({ queue: "" }),
  "a moment that is a text": record({ holders: [], queue: "q", freedAt: "x" }),
  "notices that are a number": record({ notices: 5 }),
};

const ENTRY = { participant: "p", token: "t", mode: "exclusive", limit: 1, since: NOW };

/** What a store may hold under the key of a queue; of the name of the queue that a lock names, where it says one. */
const MALFORMED_QUEUES: Readonly<Record<string, (id: string) => string>> = {
  "no JSON": () => '{"v":1,"id":',
  "the record of a lock": () => record({}),
  "a format that is newer": (id) => JSON.stringify({ v: 2, id, entries: [] }),
  "an entry without a token": (id) => JSON.stringify({ v: 1, id, entries: [{ ...ENTRY, token: undefined }] }),
  "more entries than there may be": (id) => {
    const entries = Array.from({ length: 65 }, (_, i) => ({ ...ENTRY, participant: `p${i}` }));
    return JSON.stringify({ v: 1, id, entries });
  },
};

/**
 * A value that is no record of a lock: no caller gets the lock, and nothing else is affected. A value that is no record
 * of a queue is void, and affects no caller.
 */
export const recordCases: Cases = {
  ...Object.fromEntries(
    Object.entries(MALFORMED).map(([what, text]) => [
      `record: ${what} is refused by name, and left alone`,
      (stage: Stage) => refuse(stage, text),
    ]),
  ),

  ...Object.fromEntries(
    Object.entries(MALFORMED_QUEUES).map(([what, textOf]) => [
      `record: a queue that is ${what} is void, and keeps no caller from the lock`,
      (stage: Stage) => passOver(stage, textOf),
    ]),
  ),

  "record: one that turns bad while a cleanup removes it is counted, and the cleanup goes on": async (
    stage,
  ) => {
    const { b, id, store } = stage;
    const [bad, dead] = [`${id}/bad`, `${id}/dead`];
    for (const key of [bad, dead]) {
      const value = held({ since: NOW - 60_000, expiresAt: NOW - 50_000 });
      assert.equal((await store.commit([{ key, version: null, value }])).ok, true);
    }
    const turnBad = async (apply: () => Promise<CommitResult>) => {
      const { version } = await stage.entry(bad);
      await store.commit([{ key: bad, version, value: "no record" }]);
      return await apply();
    };
    b.plan(turnBad, turnBad);
    const { seen, unreadable, removed } = await cleanup({ backend: b, prefix: id });
    assert.deepEqual([seen, unreadable, removed], [2, 1, 1]);
    assert.equal((await stage.entry(bad)).value, "no record");
  },

  "record: a queue that cannot be read keeps no operator from evicting the holder": async (stage) => {
    const { a, b, id, store } = stage;
    const held = await stage.acquire(a);
    const [lock, queue] = await store.read([id, queueKeyOf(id)]);
    const named = { ...JSON.parse(lock.value!), queue: "q" };
    named.holders[0].fence = held.fencingToken;
    const written = await store.commit([
      { key: id, version: lock.version, value: JSON.stringify(named) },
      { key: queueKeyOf(id), version: queue.version, value: "no record" },
    ]);
    assert.equal(written.ok, true);
    assert.equal(await forceRelease(id, { backend: b }), true);
    assert.equal((await lossOf(held)).reason, "forced");
    assert.equal((await stage.acquire(b)).held, true);
  },
};

async function passOver(stage: Stage, textOf: (id: string) => string): Promise<void> {
  const { a, b, id, store } = stage;
  const key = queueKeyOf(id);
  const overwrite = async () => {
    const name = (await stage.record())?.queue ?? "none";
    const { version } = await stage.entry(key);
    const value = textOf(name);
    assert.equal((await store.commit([{ key, version, value }])).ok, true);
    return value;
  };

  // Next to a lock that names no queue it means nothing, and is garbage to a cleanup.
  await overwrite();
  const first = await stage.acquire(a);
  assert.equal(await first.release(), true);
  const counts = await cleanup({ backend: b, prefix: id });
  assert.deepEqual([counts.seen, counts.removed], [1, 1]);
  assert.equal((await stage.entry(key)).version, null);

  // It turns bad while others wait: the next one that joins replaces it, and the holder does not notice.
  const held = await stage.acquire(a);
  const queued = stage.acquire(b);
  await stage.untilWaiting(1);
  const value = await overwrite();
  assert.deepEqual(await waitersOf(stage), [[1, 0, undefined]]);
  // Where clocks mean nothing a cleanup watches for a lease: meanwhile the waiter looks, and joins again.
  if (b.skewMs !== Infinity) {
    const named = await cleanup({ backend: b, prefix: id });
    assert.deepEqual([named.seen, named.live, named.unreadable], [2, 1, 1]);
    assert.equal((await stage.entry(key)).value, value);
  }
  const joined = stage.acquire(stage.another());
  await stage.untilWaiting(1);
  assert.deepEqual(await waitersOf(stage), [[1, 1, undefined]]);
  assert.equal(held.held, true);

  // It turns bad again while its lock is held: the holder gives the lock back, and those that wait get it.
  await overwrite();
  assert.equal(await held.release(), true);
  const next = await Promise.race([queued, joined]);
  assert.equal(await next.release(), true);
  for (const waiting of [queued, joined]) {
    const taken = await waiting;
    if (taken !== next) assert.equal(await taken.release(), true);
  }
  await stage.untilGone();

  // And an operator gets through.
  await stage.acquire(a);
  const last = stage.acquire(b);
  await stage.untilWaiting(1);
  await overwrite();
  assert.equal(await forceRelease(id, { backend: b }), true);
  assert.equal(await (await last).release(), true);
}

/** Of each lock in the listing: how many hold it, how many wait for it, and whether it can be read. */
async function waitersOf({ b, id }: Stage): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { holders, waiters, unreadable } of locks({ prefix: id, backend: b })) {
    found.push([holders.length, waiters.length, unreadable]);
  }
  return found;
}

async function refuse(stage: Stage, text: string): Promise<void> {
  const { a, b, id, store } = stage;
  assert.equal((await store.commit([{ key: id, version: null, value: text }])).ok, true);
  const before = await stage.entry();
  assertRefused(await outcomeOf(stage.tryAcquire(a)), id);
  assertRefused(await outcomeOf(stage.acquire(b)), id);
  assertRefused(await outcomeOf(stage.acquire(a, { stealAfterMs: 0 })), id);
  assertRefused(await outcomeOf(forceRelease(id, { backend: b })), id);
  const found: ListedLock[] = [];
  for await (const lock of locks({ prefix: id, backend: b })) found.push(lock);
  const [{ identifier, holders, waiters, unreadable }] = found;
  assert.deepEqual([found.length, identifier, holders, waiters], [1, id, [], []]);
  assert.ok(unreadable?.includes("cannot be read: "));
  const counts = await cleanup({ backend: a, prefix: id, olderThanMs: 0 });
  assert.deepEqual([counts.seen, counts.unreadable], [1, 1]);
  assert.deepEqual(await stage.entry(), before);
}

/** The failure of the store, under the name of the lock, that says what is wrong. */
function assertRefused(outcome: unknown, id: string): void {
  const { name, identifier, message } = outcome as { name?: string; identifier?: string; message?: string };
  assert.deepEqual([name, identifier], ["LockBackendError", id]);
  assert.ok(message?.includes("cannot be read: "));
}
