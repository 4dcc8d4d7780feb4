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
import { errorMonitor } from "node:events";
import * as redis4 from "redis4";
import * as redis5 from "redis5";
import * as redis6 from "redis6";
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

Deno.test("Redis: what is not a client is refused, with what it lacks", () => {
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

Deno.test("Redis: one backend for each client and prefix, until it is closed", async () => {
  const own = { ...client };
  const backend = redisBackend(own);
  assert(backend === redisBackend(own, { prefix: "holdfast" }));
  assert(backend !== redisBackend(own, { prefix: "app" }));
  assert(backend !== redisBackend({ ...own }));
  await backend.close();
  const next = redisBackend(own);
  assert(next !== backend);
  await backend.close();
  assert(next === redisBackend(own));
});

Deno.test("Redis: a backend's name says where it is and what the client complains of, and no password", () => {
  const listeners = new Map<unknown, (error?: unknown) => void>();
  const on = (event: unknown, listener: () => void) => void listeners.set(event, listener);
  const options = { host: "10.0.0.5", port: 6380, db: 3, password: "secret", keyPrefix: "app:" };
  const backend = redisBackend({ ...client, on, options });
  assertEquals(backend.name, "Redis at 10.0.0.5:6380/3");
  listeners.get(errorMonitor)!(new Error("connect ECONNREFUSED 10.0.0.5:6380\u001b[2J"));
  assertEquals(
    backend.name,
    "Redis at 10.0.0.5:6380/3 (last error: connect ECONNREFUSED 10.0.0.5:6380\\u001b[2J)",
  );
  listeners.get("ready")!();
  assertEquals(backend.name, "Redis at 10.0.0.5:6380/3");
  assertEquals(redisBackend({ ...client, options: { name: "main" } }).name, "Redis at main, by sentinels");
  assertEquals(
    redisBackend(redis6.createClient({ url: "redis://u:secret@db:7000/2" })).name,
    "Redis at db:7000/2",
  );
});

const NOWHERE = "redis://127.0.0.1:1";
const CLUSTER = { rootNodes: [{ url: NOWHERE }] };
const SENTINEL = { name: "main", sentinelRootNodes: [{ host: "127.0.0.1", port: 1 }] };

/** What makes clients of `redis` that cannot be used: version 4 has only clusters. */
const NODE_REDIS: Readonly<Record<string, () => Record<string, unknown>>> = {
  "redis 4": () => ({ "a cluster": redis4.createCluster(CLUSTER) }),
  "redis 5": () => clientsOf(redis5),
  "redis 6": () => clientsOf(redis6),
};

function clientsOf(
  { createCluster, createSentinel, createClientPool }: {
    createCluster(options: typeof CLUSTER): unknown;
    createSentinel(options: typeof SENTINEL): unknown;
    createClientPool(): unknown;
  },
): Record<string, unknown> {
  return {
    "a cluster": createCluster(CLUSTER),
    "a sentinel": createSentinel(SENTINEL),
    "a pool": createClientPool(),
  };
}
const INSTEAD: Readonly<Record<string, string>> = {
  "a cluster": "take new Cluster([{ host, port }]) of ioredis",
  "a sentinel": "take new Redis({ name, sentinels }) of ioredis",
  "a pool": "take a client of createClient",
};

for (const [version, make] of Object.entries(NODE_REDIS)) {
  Deno.test(`Redis: the clusters, sentinels and pools of ${version} are refused by name, with what to take instead`, () => {
    for (const [name, client] of Object.entries(make())) {
      const { message } = assertThrows(() => redisBackend(client as IoRedisClient), TypeError);
      assert(message.includes(`, current value is ${name} of node-redis: ${INSTEAD[name]}`), message);
    }
  });
}

Deno.test("Redis: clients of other makes are refused by name, with what to take instead", () => {
  // What distinguishes them: they are looked at in their packages, see the comments in adapters.ts.
  const refused: [unknown, string][] = [
    [{ customCommand: nothing, invokeScript: nothing }, "a client of Valkey GLIDE: take new Redis()"],
    [
      { evalsha: nothing, eval: nothing, createScript: nothing },
      "Upstash's client over REST, which cannot subscribe: take new Redis(url) of ioredis",
    ],
  ];
  for (const [made, message] of refused) {
    assertThrows(() => redisBackend(made as IoRedisClient), TypeError, message);
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
