/** What the Redis backend refuses, and with which words. None of it needs a server. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { memoryBackend } from "@holdfast/lock/backends/memory";
import {
  commitIfHeld,
  hashTag,
  type IoRedisClient,
  type IoRedisCluster,
  type NodeRedisClient,
  redisBackend,
} from "@holdfast/lock/backends/redis";
import { createCluster, createSentinel } from "redis6";
import { Lock, LockBackendError } from "../../mod.ts";

const nothing = () => Promise.resolve(null);
const client: IoRedisClient = {
  options: {},
  status: "ready",
  evalsha: nothing,
  eval: nothing,
  call: nothing,
  duplicate: () => {
    throw new Error("not asked for");
  },
  on: () => {},
  off: () => {},
};

Deno.test("Redis: what is not a client is refused, and told what it lacks", () => {
  const wrong: [unknown, string][] = [
    [undefined, "'evalsha': undefined"],
    [null, "'evalsha': null"],
    ["redis://:secret@localhost", "'evalsha': a text"],
    [{ ...client, duplicate: undefined }, "'duplicate'"],
    [{ ...client, options: undefined }, "'options'"],
    [{ evalSha: nothing, on: nothing, off: nothing, duplicate: nothing }, "'sendCommand'"],
    [{ ...client, nodes: nothing, eval: undefined }, "'eval'"],
  ];
  for (const [value, lacks] of wrong) {
    const error = assertThrows(() => redisBackend(value as IoRedisClient), TypeError, lacks);
    assert(error.message.startsWith("Cannot make a Redis backend: 'client' must be"), error.message);
  }
});

Deno.test("Redis: the clusters and sentinels of node-redis are refused", () => {
  const cluster = createCluster({ rootNodes: [{ url: "redis://127.0.0.1:1" }] });
  const sentinel = createSentinel({ name: "main", sentinelRootNodes: [{ host: "127.0.0.1", port: 1 }] });
  for (const made of [cluster, sentinel]) {
    assertThrows(() => redisBackend(made as unknown as IoRedisClient), TypeError, "made by createClient");
  }
});

Deno.test("Redis: subscriptions whose connection fails, and says so again later, are tried on another one", async () => {
  let opened = 0;
  const failed = Promise.withResolvers<void>();
  const subscriber = () => {
    const fails = opened++ === 0;
    let onError = () => {};
    return {
      on: (event: string, listener: () => void) => event === "error" && (onError = listener),
      connect() {
        if (!fails) return failed.promise;
        setTimeout(() => {
          onError();
          failed.resolve();
        }, 50);
        return Promise.reject(new Error("ERR max number of clients reached"));
      },
      isOpen: true,
      subscribe: nothing,
      unsubscribe: nothing,
      destroy: () => {},
    };
  };
  const server: NodeRedisClient = {
    isOpen: true,
    sendCommand: () => Promise.resolve([`${Date.now()}000`, null]),
    duplicate: subscriber,
    on: () => {},
    off: () => {},
  };
  const backend = redisBackend({ ...server, evalSha: nothing } as NodeRedisClient);
  const { signal } = new AbortController();
  for await (const { value } of backend.watch("job", { signal })) {
    assertEquals(value, null);
    break;
  }
  assertEquals(opened, 2);
  await backend[Symbol.asyncDispose]();
});

Deno.test("Redis: what a client throws at once fails what it was asked, alone or together with others", async () => {
  const evalsha = () => {
    throw new Error("ERR no such thing");
  };
  const backend = redisBackend({ ...client, evalsha });
  const asked = ["a", "b", "c"].map((name) => Lock.acquire(name, { backend }));
  await Promise.all(asked.map((one) => assertRejects(() => one, LockBackendError, "no such thing")));
});

Deno.test("Redis: a prefix that could break the hash tag is refused", () => {
  for (const prefix of ["", "{app}", "app}", "a{b", "\ud800"]) {
    assertThrows(() => redisBackend(client, { prefix }), RangeError, "'prefix' must be a non-empty string");
  }
  assertThrows(
    () => redisBackend(client, { prefix: 7 as unknown as string }),
    TypeError,
    "current value is 7",
  );
  assertThrows(
    () => redisBackend(client, null as unknown as undefined),
    TypeError,
    "options must be an object",
  );
  assertThrows(
    () => redisBackend(client, { prefx: "app" } as unknown as undefined),
    TypeError,
    "there is no option 'prefx', only prefix",
  );
  // In a cluster all locks would share a slot, and hashTag would lie.
  const cluster = { ...client, isCluster: true, nodes: () => [], options: { keyPrefix: "{app}:" } } as const;
  assertThrows(
    () => redisBackend(cluster as unknown as IoRedisCluster),
    RangeError,
    `the 'keyPrefix' of a Cluster must have no braces, or locks share a slot, current value is "{app}:"`,
  );
  assert(redisBackend({ ...client, options: { keyPrefix: "{app}:" } }));
  assert(redisBackend(client, { prefix: "my app:é*?" }));
});

Deno.test("Redis: commitIfHeld refuses what is neither a lock on Redis nor a command", async () => {
  const held = await Lock.acquire("job", { backend: memoryBackend() });
  await assertRejects(() => commitIfHeld(held!, [["SET", "a", "b"]]), TypeError, "a lock on a Redis backend");
  assertThrows(() => hashTag(held!), TypeError, "a lock on a Redis backend");
  await assertRejects(() => commitIfHeld({} as Lock, []), TypeError, "must be a held Lock");
  await held?.release();
});
