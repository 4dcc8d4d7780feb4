// What may be done about a lock, tried on a store that holds something else under its key, or its queue's.
import { memoryBackend, MemoryStore } from "../../backends/memory.ts";
import type { Entry, LockBackend } from "../../core/backend.ts";
import { systemClock } from "../../core/clock.ts";
import { cleanup, type CleanupCounts } from "../../core/operators/cleanup.ts";
import { queueKeyOf } from "../../core/identifier.ts";
import { decodeLock, decodeQueue } from "../../core/record/decode.ts";
import { within } from "../../core/time_limit.ts";
import { forceRelease, type ListedLock, Lock, lock, locks } from "../../mod.ts";
import { assert, assertEquals } from "@std/assert";
import type { Kind, Malformed } from "./records.ts";

/** How long one operation may take before it counts as hanging. */
const HANGS_MS = 10_000;
const KEY = "a lock";
const QUEUE_KEY = queueKeyOf(KEY);
const SOUND = "a sound one";

/** What a cleanup has done that has done nothing. */
const NONE: CleanupCounts = { seen: 0, live: 0, removed: 0, evicted: 0, gone: 0, unreadable: 0 };

interface Scene {
  readonly backend: LockBackend;
  /** The same store, as another process has it. */
  readonly other: LockBackend;
  readonly third: LockBackend;
}

/** What an operation came to: its result, or its error. */
type Outcome = unknown;

/** Each asks for the lock in its way; all must reject. */
const asking: Record<string, (backend: LockBackend) => Promise<unknown>> = {
  "waits without limit": (backend) => Lock.acquire(KEY, { backend }),
  "does not wait": (backend) => Lock.acquire(KEY, { backend, wait: false }),
  "waits a little, and steals": (backend) => Lock.acquire(KEY, { backend, waitForMs: 5, stealAfterMs: 0 }),
  "releases by force": (backend) => forceRelease(KEY, { backend }),
};

/** Tries everything on a malformed record, and throws if any of it does not end as it should. */
export async function tryAll({ kind, text }: Malformed): Promise<void> {
  if (kind === "lock") await refuseAll(text);
  else await passOver(text);
}

/** A lock that is no record is refused. */
async function refuseAll(text: string): Promise<void> {
  for (const [name, ask] of Object.entries(asking)) {
    const { backend, other } = scene();
    await plant(other, text);
    assertRefused(await outcomeOf(ask(backend)), name);
    await assertStands(other, text);
  }
  await listAndClean(text);
  await turnsUnderWaiter(text);
  await turnsUnderHolder(text);
}

/** A queue that is no record is void. */
async function passOver(text: string): Promise<void> {
  for (const [name, ask] of Object.entries(asking)) {
    const { backend, other } = scene();
    await plant(other, text, QUEUE_KEY);
    const outcome = await outcomeOf(ask(backend));
    if (outcome instanceof Lock) assertEquals(await outcome.release(), true, name);
    else assertEquals(outcome, false, name);
    assertEquals(await cleanup({ backend }), { ...NONE, seen: 1, removed: 1 }, name);
  }
  const { backend, other, third } = scene();
  const held = await lock(KEY, { backend: other }).acquire();
  const waiting = lock(KEY, { backend }).acquire();
  while ((await entryAt(other, QUEUE_KEY)).value === null);
  await overwrite(other, text, QUEUE_KEY);
  const joined = lock(KEY, { backend: third }).acquire();
  const listed: ListedLock[] = [];
  for await (const one of locks({ backend })) listed.push(one);
  assertEquals(listed.map(({ holders, unreadable }) => [holders.length, unreadable]), [[1, undefined]]);
  assertEquals((await cleanup({ backend })).live, 1);
  await overwrite(other, text, QUEUE_KEY);
  assertEquals(await held.release(), true);
  const first = await outcomeOf(Promise.race([waiting, joined]));
  assert(first instanceof Lock, `${first}`);
  assertEquals(await first.release(), true);
  for (const next of [await waiting, await joined]) await next.release();
  for (const key of [KEY, QUEUE_KEY]) assertEquals((await entryAt(other, key)).value, null);
}

/** Tries everything on records that are in order, however odd: all must end, and none with a failure of the store. */
export async function endAll({ lock: text, queue }: Readonly<Record<Kind, string>>): Promise<void> {
  for (const [name, ask] of Object.entries(asking)) {
    if (name === "waits without limit") continue;
    const { backend, other } = scene();
    await plant(other, text);
    await plant(other, queue, QUEUE_KEY);
    const outcome = await outcomeOf(ask(backend));
    assert(!(outcome instanceof Error), `${name}: ${outcome}`);
    await assertReadable(other);
    if (outcome instanceof Lock) await outcome.release();
    await assertReadable(other);
  }
  const { backend, other } = scene();
  await plant(other, text);
  await plant(other, queue, QUEUE_KEY);
  for await (const { unreadable } of locks({ backend })) assertEquals(unreadable, undefined);
  assertEquals((await cleanup({ backend })).unreadable, 0);
}

/** Listings and cleanup say what is wrong, and go on with the rest. */
async function listAndClean(text: string): Promise<void> {
  const { backend, other } = scene();
  await plant(other, text);
  await using _held = await lock(SOUND, { backend: other }).acquire();
  const listed: ListedLock[] = [];
  for await (const one of locks({ backend })) listed.push(one);
  assertEquals(listed.map(({ identifier }) => identifier).sort(), [KEY, SOUND]);
  for (const { identifier, holders, waiters, unreadable } of listed) {
    if (identifier === SOUND) assertEquals([holders.length, unreadable], [1, undefined]);
    else assert(unreadable?.includes(KEY) && holders.length + waiters.length === 0);
  }
  JSON.stringify(listed);
  const { seen, live, unreadable } = await cleanup({ backend, olderThanMs: 1_000_000 });
  assertEquals([seen, live, unreadable], [2, 1, 1]);
  await assertStands(other, text);
}

/** The record turns bad while a process waits for the lock. */
async function turnsUnderWaiter(text: string): Promise<void> {
  const { backend, other } = scene();
  const held = await lock(KEY, { backend: other }).acquire();
  const waiting = outcomeOf(lock(KEY, { backend }).acquire());
  await overwrite(other, text);
  assertRefused(await waiting, "waiting already");
  await assertStands(other, text);
  await held[Symbol.asyncDispose]();
}

/** The record turns bad while a process holds the lock. */
async function turnsUnderHolder(text: string): Promise<void> {
  const { backend, other } = scene();
  const held = await lock(KEY, { backend }).acquire();
  await overwrite(other, text);
  assertRefused(await outcomeOf(held.release()), "releasing");
  await assertStands(other, text);
}

function scene(): Scene {
  const store = new MemoryStore();
  const open = () => memoryBackend({ store });
  return { backend: open(), other: open(), third: open() };
}

async function entryAt(store: LockBackend, key: string): Promise<Entry> {
  const [entry] = await store.read([key]);
  return entry;
}

async function plant(store: LockBackend, value: string, key: string = KEY): Promise<void> {
  assert((await store.commit([{ key, version: null, value }])).ok);
}

async function overwrite(store: LockBackend, value: string, key: string = KEY): Promise<void> {
  for (;;) {
    const { version } = await entryAt(store, key);
    if ((await store.commit([{ key, version, value }])).ok) return;
  }
}

async function assertStands(store: LockBackend, value: string): Promise<void> {
  assertEquals((await entryAt(store, KEY)).value, value, "the record was changed");
}

function outcomeOf(asked: Promise<unknown>): Promise<Outcome> {
  const late = () => new Error("it hangs");
  return within(asked, HANGS_MS, { clock: systemClock, late }).catch((error) => error);
}

/** What was written over odd records are records: no process is locked out by what others did. */
async function assertReadable(store: LockBackend): Promise<void> {
  const lock = await entryAt(store, KEY);
  if (lock.value !== null) decodeLock(KEY, lock.value);
  const queue = await entryAt(store, QUEUE_KEY);
  if (queue.value !== null) decodeQueue(QUEUE_KEY, queue.value);
}

/** There is one right answer: the store's failure, under the name of the lock, that says what is wrong. */
function assertRefused(outcome: Outcome, doing: string): void {
  const { name, identifier, message } = outcome as { name?: string; identifier?: string; message?: string };
  const right = name === "LockBackendError" && identifier === KEY && message?.includes("cannot be read: ");
  assert(right, `${doing}: ${outcome instanceof Lock ? "granted" : outcome}`);
}
