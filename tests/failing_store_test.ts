// A store that is silent, throws, or fails: what callers of a lock learn.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import {
  type Change,
  type CommitResult,
  forceRelease,
  Lock,
  lock,
  type LockBackend,
  LockBackendError,
} from "../mod.ts";

Deno.test("failing store: a silent store is not a taken lock, not even behind another that waits for it", async () => {
  const backend = memoryBackend();
  const over = new LockBackendError("the test is over");
  const ends: (() => void)[] = [];
  let ended = false;
  const never = () => new Promise<never>((_, reject) => ended ? reject(over) : ends.push(() => reject(over)));
  const silent = { ...backend, read: never, commit: never };
  const leaseMs = 300;
  const outcomes = await Promise.allSettled([
    lock("x", { backend: silent, leaseMs }).acquire(),
    Lock.acquire("x", { backend: silent, leaseMs, wait: false }),
    lock("x", { backend: silent, leaseMs, wait: false })(() => "ran")(),
    Lock.acquire("x", { backend: silent, leaseMs, waitForMs: 50 }),
  ]);
  for (const outcome of outcomes) {
    assert(outcome.status === "rejected");
    assertInstanceOf(outcome.reason, LockBackendError);
  }
  ended = true;
  for (const end of ends) end();
  await delay(0);
});

Deno.test("failing store: a silent store is called by its name", async () => {
  const hanging = Promise.withResolvers<never>();
  const never = () => hanging.promise;
  const backend: LockBackend = {
    ...memoryBackend(),
    name: "Somestore at 10.0.0.5:1",
    read: never,
    commit: never,
  };
  const acquire = () => Lock.acquire("x", { backend, leaseMs: 100, waitForMs: 50 });
  await assertRejects(acquire, LockBackendError, "Somestore at 10.0.0.5:1 did not answer");
  hanging.reject(new LockBackendError("the test is over"));
  await delay(0);
});

/** A memory backend whose commits are made by `commit`. */
function committing(commit: (apply: () => Promise<CommitResult>) => Promise<CommitResult>): LockBackend {
  const backend = memoryBackend();
  const apply = backend.commit.bind(backend);
  return Object.assign(backend, { commit: (changes: readonly Change[]) => commit(() => apply(changes)) });
}

Deno.test("failing store: a store that throws at once fails by name, to acquire and to release, and delays no other", async () => {
  let broken = true;
  const backend = committing((apply) => {
    if (broken) throw new Error("no such table");
    return apply();
  });
  const failed = async (attempt: Promise<unknown>, doing: string) => {
    const error = await assertRejects(() => attempt, LockBackendError);
    assertEquals(error.message, `Cannot ${doing} lock "report": no such table`);
    assertEquals([error.identifier, error.transient], ["report", false]);
  };
  await failed(Lock.acquire("report", { backend }), "acquire");
  broken = false;
  const held = await lock("report", { backend, leaseMs: 100 }).acquire();
  broken = true;
  await failed(held.release(), "release");
  broken = false;
  // The record still names the holder, until its lease has run out.
  const next = await lock("report", { backend }).acquire();
  assertEquals(await next.release(), true);
});

Deno.test("failing store: a release that throws when it has done its work has released", async () => {
  let throwing = false;
  const backend = committing((apply) => {
    const done = apply();
    if (!throwing) return done;
    throwing = false;
    throw new LockBackendError("no answer", { transient: true });
  });
  const held = await lock("report", { backend }).acquire();
  const { signal } = held;
  throwing = true;
  assertEquals([await held.release(), signal.aborted], [true, false]);
});

Deno.test("failing store: a release that was lost on its way has not released what was forced meanwhile", async () => {
  let loses = false;
  const store = new MemoryStore();
  const operator = memoryBackend({ store });
  const backend = memoryBackend({ store });
  const commit = backend.commit.bind(backend);
  backend.commit = async (changes) => {
    if (!loses) return await commit(changes);
    loses = false;
    await forceRelease("report", { backend: operator });
    throw new LockBackendError("no answer", { transient: true });
  };
  const held = await lock("report", { backend }).acquire();
  const { signal } = held;
  loses = true;
  assertEquals(await held.release(), false);
  assertEquals([signal.aborted, signal.reason.reason], [true, "forced"]);
});

Deno.test("failing store: a release that fails for good is reported at once, by its first cause", async () => {
  let failures = 0;
  let failing = false;
  const backend = committing((apply) => failing ? Promise.reject(new Error(`full ${++failures}`)) : apply());
  const held = await lock("report", { backend }).acquire();
  failing = true;
  const error = await assertRejects(() => held.release(), LockBackendError);
  assertEquals([error.message, failures], ['Cannot release lock "report": full 1', 1]);
});

Deno.test("failing store: a store that answers with no promise fails by name, once", async () => {
  let broken = false;
  const backend = committing((apply) => broken ? undefined as unknown as Promise<CommitResult> : apply());
  const held = await lock("report", { backend }).acquire();
  broken = true;
  await assertRejects(() => held.release(), LockBackendError, 'Cannot release lock "report"');
  await assertRejects(
    () => lock("other", { backend }).acquire(),
    LockBackendError,
    'Cannot acquire lock "other"',
  );
});

Deno.test("failing store: a store that throws at once fails all of the thousands that wait, and sends nothing for them", async () => {
  let broken = false;
  let sent = 0;
  const backend = committing((apply) => {
    if (broken) throw new Error("no such table");
    sent++;
    return apply();
  });
  const held = await lock("report", { backend, leaseMs: 100, renew: false }).acquire();
  const waiting = Array.from({ length: 3000 }, () => lock("report", { backend }).acquire());
  broken = true;
  const outcomes = await Promise.allSettled(waiting);
  assertEquals(new Set(outcomes.map(({ status }) => status)), new Set(["rejected"]));
  await assertRejects(() => lock("other", { backend, wait: false }).acquire(), LockBackendError);
  assertEquals(sent, 1);
  await held.release();
});

Deno.test("failing store: a caller that releases once more as soon as it hears that a release has failed gets the same outcome", async () => {
  let broken = false;
  const backend = committing((apply) => {
    if (broken) throw new Error("no such table");
    return apply();
  });
  const held = await lock("report", { backend, leaseMs: 1000 }).acquire();
  broken = true;
  const outcomes: Promise<unknown>[] = [];
  const release = () => void outcomes.push(held.release().catch((error) => error));
  subscribe("holdfast:released", release);
  try {
    release();
    const [first] = await Promise.all(outcomes);
    assertEquals(outcomes.length, 2);
    assertInstanceOf(first, LockBackendError);
    assertEquals(await outcomes[1], first);
  } finally {
    unsubscribe("holdfast:released", release);
  }
});
