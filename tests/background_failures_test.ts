// What fails in the background, where no caller's promise can reject, is published with the lock that it concerns.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { DatastoreCalls } from "../backends/datastore/calls.ts";
import { kvBackend } from "../backends/kv.ts";
import { type NodeRedisClient, redisBackend } from "../backends/redis.ts";
import { ServerClock } from "../backends/server_clock.ts";
import { systemClock } from "../core/clock.ts";
import type { LockBackend, LockEvents } from "../mod.ts";
import { clientOf } from "./datastore/client_of.ts";

const CHANNEL = "holdfast:backend-error";

/** The first failure that is published while `act` is at work, which ends when that has come. */
async function published(act: (over: AbortSignal) => Promise<unknown>): Promise<LockEvents[typeof CHANNEL]> {
  const { promise, resolve } = Promise.withResolvers<LockEvents[typeof CHANNEL]>();
  const hear = (message: unknown) => resolve(message as LockEvents[typeof CHANNEL]);
  const over = new AbortController();
  subscribe(CHANNEL, hear);
  try {
    const acting = act(over.signal);
    const message = await promise;
    over.abort();
    await acting;
    return message;
  } finally {
    unsubscribe(CHANNEL, hear);
  }
}

/** Watches until `signal` aborts, or else for one entry. */
async function watch(backend: LockBackend, signal?: AbortSignal): Promise<void> {
  for await (const _ of backend.watch("job", { signal: signal ?? new AbortController().signal })) {
    if (signal === undefined) return;
  }
}

function assertTold({ identifier, error }: LockEvents[typeof CHANNEL], text: string): void {
  assertEquals(identifier, "job");
  assertStringIncludes(String(error), text);
}

Deno.test("background failures: Deno KV's stream of a watch breaks", async () => {
  using kv = await Deno.openKv(":memory:");
  kv.watch = () => new ReadableStream({ start: (controller) => controller.error(new Error("a reset")) });
  assertTold(await published((over) => watch(kvBackend(kv), over)), "a reset");
});

Deno.test("background failures: Deno KV's stream of a watch refuses to be cancelled", async () => {
  using kv = await Deno.openKv(":memory:");
  kv.watch = () => new ReadableStream({ cancel: () => Promise.reject(new Error("no cancelling")) });
  assertTold(await published(() => watch(kvBackend(kv))), "no cancelling");
});

Deno.test("background failures: Redis's connection for subscriptions cannot be opened", async () => {
  const nothing = () => Promise.resolve(null);
  const refused = () => Promise.reject(new Error("ERR max number of clients reached"));
  const duplicate = () => ({
    isOpen: false,
    on: () => {},
    connect: refused,
    subscribe: nothing,
    unsubscribe: nothing,
    destroy: () => {},
  });
  const client = {
    isOpen: true,
    sendCommand: () => Promise.resolve([`${Date.now()}000`, null]),
    evalSha: nothing,
    duplicate,
    on: () => {},
    off: () => {},
  };
  await using backend = redisBackend(client as NodeRedisClient);
  assertTold(await published((over) => watch(backend, over)), "max number of clients");
});

Deno.test("background failures: Datastore does not take a transaction back", async () => {
  const refused = () => Promise.reject(new Error("no rollback"));
  const database = { projectId: "p", databaseId: "" };
  const calls = new DatastoreCalls(clientOf(refused), {
    database,
    timeoutMs: 1000,
    clock: new ServerClock(systemClock, { skewMs: 1000 }),
  });
  assertTold(await published(() => calls.rollback("t", "job")), "no rollback");
});
