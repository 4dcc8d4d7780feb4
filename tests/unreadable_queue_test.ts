// A queue is advice: what cannot be read in its place keeps no process from the lock for ever, and no holder from anything.
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import type { Change } from "../core/backend.ts";
import { UnreadableRecordError } from "../core/errors.ts";
import { queueKeyOf } from "../core/identifier.ts";
import { cleanup } from "../core/operators/cleanup.ts";
import { forceRelease, Lock, lock, type LockBackend, LockBackendError, locks } from "../mod.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";

const QUEUE = queueKeyOf("job");

/** A store in which something is in the way under the key of the queue, so that all that touches it fails. */
function blocked(store: MemoryStore): LockBackend {
  const backend = memoryBackend({ store });
  const [read, commit] = [backend.read.bind(backend), backend.commit.bind(backend)];
  const check = (keys: readonly string[]) => {
    if (keys.includes(QUEUE)) {
      throw new UnreadableRecordError(`a list is in the way under the key "${QUEUE}"`);
    }
  };
  return Object.assign(backend, {
    read: async (keys: readonly string[]) => {
      check(keys);
      return await read(keys);
    },
    commit: async (changes: readonly Change[]) => {
      check(changes.map(({ key }) => key));
      return await commit(changes);
    },
  });
}

/** What listeners hear of the store's failures meanwhile. */
async function failuresDuring(play: () => Promise<unknown>): Promise<unknown[]> {
  const heard: unknown[] = [];
  const hear = (message: unknown) => heard.push(message);
  subscribe("holdfast:backend-error", hear);
  try {
    await play();
  } finally {
    unsubscribe("holdfast:backend-error", hear);
  }
  return heard;
}

Deno.test("unreadable queue: where the store itself cannot read it, only callers that would join it fail", async () => {
  const store = new MemoryStore();
  const [a, b] = [blocked(store), blocked(store)];
  const held = await lock("job", { backend: a }).acquire();
  const error = await assertRejects(() => lock("job", { backend: b }).acquire(), LockBackendError);
  assertEquals([error.identifier, error.message.includes(`in the way under the key "${QUEUE}"`)], [
    "job",
    true,
  ]);
  assertEquals(await Lock.acquire("job", { backend: b, wait: false }), null);
  assertEquals(await held.release(), true);

  const next = await lock("job", { backend: b }).acquire();
  const behind = lock("job", { backend: b }).acquire();
  assertEquals(await next.release(), true);
  assertEquals(await (await behind).release(), true);
});

Deno.test("unreadable queue: where the store itself cannot read it, a lock that names it is not lost", async () => {
  const store = new MemoryStore();
  const [sound, other] = [memoryBackend({ store }), memoryBackend({ store })];
  const held = await lock("job", { backend: sound }).acquire();
  const waiting = lock("job", { backend: other }).acquire();
  while ((await other.read([QUEUE]))[0].value === null);
  const [{ version }] = await other.read([QUEUE]);
  await other.commit([{ key: QUEUE, version, value: null }]);

  // From now on it is in the way for the holder, and for an operator.
  const a = blocked(store);
  Object.assign(sound, { read: a.read, commit: a.commit });
  const listed: unknown[] = [];
  for await (const { holders, waiters, unreadable } of locks({ backend: a })) {
    listed.push([holders.length, waiters.length, unreadable]);
  }
  assertEquals(listed, [[1, 0, undefined]]);
  assertEquals((await cleanup({ backend: a })).live, 1);
  assertEquals(await held.release(), true);
  assertEquals(await (await waiting).release(), true);

  const again = await lock("job", { backend: a }).acquire();
  assertEquals(await forceRelease("job", { backend: a }), true);
  assertEquals(again.held, false);
});

Deno.test("unreadable queue: it is published, by its own key", async () => {
  const store = new MemoryStore();
  const [a, b] = [memoryBackend({ store }), memoryBackend({ store })];
  const held = await lock("job", { backend: a }).acquire();
  assert((await b.commit([{ key: QUEUE, version: null, value: "{" }])).ok);
  let waiting: Promise<Lock> | undefined;
  const heard = await failuresDuring(async () => {
    waiting = lock("job", { backend: b }).acquire();
    while ((await a.read([QUEUE]))[0].value === "{");
  });
  const tellings = heard.map((message) => {
    const { identifier, error } = message as { identifier: string; error: Error };
    return `${identifier}: ${error.message}`;
  });
  // Once for each look, until it is replaced.
  assertEquals([...new Set(tellings)], [`job: the record of "${QUEUE}" cannot be read: it is no JSON`]);
  assertEquals(await held.release(), true);
  assertEquals(await (await waiting!).release(), true);
});
