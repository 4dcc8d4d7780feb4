// The standard's LockManager over our stores: the suite that is written from the specification, with two managers on one
// store, which are two processes to each other.
import { redisBackend } from "../backends/redis.ts";
import { kvBackend } from "../backends/kv.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import type { LockBackend } from "../core/backend.ts";
import { participantOf } from "../core/participant.ts";
import { webLocks } from "../web_locks.ts";
import { CLIENTS } from "./redis/clients.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";
import { SideBySide } from "./support/side_by_side.ts";
import { play } from "./web_locks/stage.ts";
import { casesOf } from "./web_locks/suite.ts";

/** For how long what a case has begun may go on when it is over: more than a store takes to answer. */
const IDLE_MS = 5000;

/** One process that shares the store of a case. */
interface Peer {
  readonly backend: LockBackend;
  close(): Promise<void>;
}

/** Makes two processes that share one store. */
type Open = () => Promise<readonly [Peer, Peer]>;

const kv = await Deno.openKv(":memory:");
globalThis.addEventListener("unload", () => kv.close());
const nothing = async () => {};

const STORES: Record<string, Open> = {
  memory: () => {
    const store = new MemoryStore();
    const peer = () => ({ backend: memoryBackend({ store }), close: nothing });
    return Promise.resolve([peer(), peer()]);
  },
  "Deno KV": () => {
    const peer = () => ({ backend: kvBackend(kv), close: nothing });
    return Promise.resolve([peer(), peer()]);
  },
};

const missing = missingRedis();
if (missing !== undefined) Deno.test.ignore(`web locks: Redis: ${missing}`, () => {});
else {
  const server = await RedisServer.start();
  globalThis.addEventListener("unload", () => server.stop());
  const peer = async () => {
    const { client, close } = await CLIENTS["node-redis 6"](server.port);
    const backend = redisBackend(client);
    return {
      backend,
      async close() {
        await backend[Symbol.asyncDispose]();
        await close();
      },
    };
  };
  STORES.Redis = async () => [await peer(), await peer()];
}

const stores = new SideBySide();
for (const [where, open] of Object.entries(STORES)) {
  for (const one of casesOf()) {
    stores.test(`${where}: ${one.says}`, async () => {
      const peers = await open();
      try {
        const prefix = `${crypto.randomUUID()}/`;
        const [a, b] = peers.map(({ backend }) => webLocks(backend, { prefix }));
        await play(one, { a, b });
        await Promise.all(peers.map(({ backend }) => participantOf(backend).whenIdle(IDLE_MS)));
      } finally {
        for (const { close } of peers) await close();
      }
    });
  }
}
stores.register("web locks");
