/** What becomes of locks when a backend is closed: the same for every backend. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import type { LockBackend } from "../../core/backend.ts";
import { queueKeyOf } from "../../core/identifier.ts";
import { queueIn } from "../../core/record/codec.ts";
import { Lock, lock, LockBackendError } from "../../mod.ts";

/** A backend that can be closed, as all of ours can. */
export interface ClosableBackend extends LockBackend, AsyncDisposable {
  close(): Promise<void>;
}

/** Processes that share a store: what is made of one client, again and again, and another one. */
export interface ClosingScene {
  /** Makes a backend of the client that is handed in. */
  open(): ClosableBackend;
  /** Another process. */
  readonly other: LockBackend;
}

/** How many are queued for this lock. */
async function queued(backend: LockBackend, id: string): Promise<number> {
  const [entry] = await backend.read([queueKeyOf(id)]);
  return queueIn(entry).record.entries.length;
}

/** Plays it: a process waits, and its backend is closed, more than once. */
export async function assertCloses({ open, other }: ClosingScene): Promise<void> {
  const id = `closing-${crypto.randomUUID()}`;
  const backend = open();
  const disposed = [LockBackendError, "backend is disposed of"] as const;
  const held = await lock(id, { backend: other }).acquire();
  const own = await lock(`${id} of its own`, { backend }).acquire();
  const waiting = assertRejects(() => lock(id, { backend }).acquire(), ...disposed);
  while (await queued(other, id) === 0) await delay(5);
  await Promise.all([backend.close(), backend[Symbol.asyncDispose]()]);
  await backend.close();
  await waiting;
  // On a store in memory there is no client to be in time for.
  while (await queued(other, id) > 0) await delay(5);
  const error = await assertRejects(() => lock(id, { backend }).acquire(), ...disposed);
  assertEquals((error as LockBackendError).transient, false);
  // What is held is not given up.
  assertEquals([own.held, await own.release()], [true, true]);
  assertEquals(await held.release(), true);
  // The client that was handed in is open, and serves another backend.
  const next = open();
  const again = await Lock.acquire(id, { backend: next, wait: false });
  assert(again !== null && next !== backend);
  assertEquals(await again.release(), true);
  await next.close();
}
