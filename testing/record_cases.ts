import { strict as assert } from "node:assert";
import type { CommitResult } from "../core/backend.ts";
import { cleanup } from "../core/operators/cleanup.ts";
import { forceRelease, type ListedLock, locks } from "../mod.ts";
import { type Cases, outcomeOf, type Stage } from "./stage.ts";

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
const WAITER = { seat: "s", mode: "exclusive", limit: 1, since: NOW };

/** A record, with parts that are wrong. */
function record(parts: Record<string, unknown>): string {
  return JSON.stringify({ v: 1, holders: [HOLDER], queue: [], ...parts });
}

/** A record of one holder, with members that are wrong. */
function held(members: Record<string, unknown>): string {
  return record({ holders: [{ ...HOLDER, ...members }] });
}

/** The nastiest that a store may hold under the key of a lock: each was once granted, or kept a caller for ever. */
const MALFORMED: Readonly<Record<string, string>> = {
  "no JSON": '{"v":1,"holders":[],',
  "JSON that is no record": "[]",
  "a format that is newer": '{"v":2,"holders":[],"queue":[]}',
  "a holder whose lease has no end": held({ expiresAt: undefined }),
  "a holder whose lease ends at a text": held({ expiresAt: "soon" }),
  "a holder whose label is null": held({ label: null }),
  "a holder whose lease is longer than any": held({ leaseMs: 2 ** 31 }),
  "a holder of an unknown mode": held({ mode: "upgradeable" }),
  "two holders of one name": record({ holders: [HOLDER, HOLDER] }),
  "more holders than there may be": record({
    holders: Array.from({ length: 65 }, (_, i) => ({ ...HOLDER, token: `t${i}` })),
  }),
  "a line of nobody": record({ holders: [], queue: [null] }),
  "a place in line without a name": record({ holders: [], queue: [{ ...WAITER, seat: "" }] }),
  "a moment that is a text": record({ holders: [], queue: [WAITER], freedAt: "x" }),
  "evictions that are a number": record({ evicted: 5 }),
};

/** What is no record of a lock: the lock is nobody's to take, and nothing else suffers. */
export const recordCases: Cases = {
  ...Object.fromEntries(
    Object.entries(MALFORMED).map(([what, text]) => [
      `record: ${what} is refused by name, and left alone`,
      (stage: Stage) => refuse(stage, text),
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
};

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
