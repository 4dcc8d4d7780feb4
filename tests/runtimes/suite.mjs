/**
 * The conformance suite on any runtime, as its users have it: installed from the tarball. Arguments: the store,
 * its address, and the deviations, as JSON. Says what has failed, and ends by itself: that nothing is left running
 * is part of the test.
 */

import process from "node:process";
import { CASES, testBackend } from "@holdfast/lock/testing";

const [store, address, deviations] = process.argv.slice(2);

/** Opens a client and answers a peer on it. */
const STORES = {
  async memory() {
    const { memoryBackend, MemoryStore } = await import("@holdfast/lock/backends/memory");
    const store = new MemoryStore();
    return () => ({ backend: memoryBackend({ store }), close() {} });
  },
  async kv() {
    const { openKv } = "Deno" in globalThis ? Deno : await import("@deno/kv");
    const { kvBackend } = await import("@holdfast/lock/backends/kv");
    // Bun's serialisation is not V8's, so the client needs one. Locks are bytes and need none.
    const none = () => {
      throw new Error("only bytes are kept here");
    };
    const options = "Bun" in globalThis ? { encodeV8: none, decodeV8: none } : {};
    const kv = await openKv(address, options);
    return () => ({ backend: kvBackend(kv), close() {}, end: () => kv.close() });
  },
  async redis() {
    const { createClient } = await import("redis");
    const { redisBackend } = await import("@holdfast/lock/backends/redis");
    const client = await createClient({ url: address }).connect();
    const backend = redisBackend(client);
    const end = async () => {
      await backend[Symbol.asyncDispose]();
      client.destroy();
    };
    return () => ({ backend, close() {}, end });
  },
  async postgres() {
    const { default: pg } = await import("pg");
    const { postgresBackend } = await import("@holdfast/lock/backends/postgres");
    const pool = new pg.Pool({ connectionString: address });
    const backend = postgresBackend(pool);
    const end = async () => {
      await backend[Symbol.asyncDispose]();
      await pool.end();
    };
    return () => ({ backend, close() {}, end });
  },
  async datastore() {
    const { datastoreBackend, datastoreClient } = await import("@holdfast/lock/backends/datastore");
    const projectId = "holdfast-test";
    const client = await datastoreClient({ projectId, emulatorHost: address });
    return () => ({
      backend: datastoreBackend(client, { projectId }),
      close() {},
      end: () => client.close(),
    });
  },
};

const open = await STORES[store]();
const cases = new Map();
const skipped = [];
testBackend({
  name: store,
  test: (name, play) => cases.set(name, play),
  skip: (name) => skipped.push(name),
  open,
  deviations: JSON.parse(deviations),
  // Several suites share the machine: only what hangs runs into it.
  limitMs: 20_000,
});

/**
 * How often a case is played before it counts as broken. Its leases last a fraction of a second, and several suites
 * share the machine: a process that is not let run for so long loses them.
 */
const TRIES = 4;
let failures = [];
/** Rejections without a handler. A case that fails may leave them behind; any other may not. */
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

let left = [...cases];
let retried = 0;
for (let tries = 1; tries <= TRIES && left.length > 0; tries++) {
  failures = [];
  for (const [name, play] of left) {
    const before = unhandled.length;
    await play().catch((error) => {
      failures.push([name, error]);
      unhandled.length = before;
    });
  }
  left = left.filter(([name]) => failures.some(([failed]) => failed === name));
  if (tries < TRIES) retried += left.length;
}
await open().end?.();
const said = failures.map(([name, error]) => `${name}: ${error.stack}`);
said.push(...unhandled.map((error) => `not handled: ${error.stack}`));
console.log(
  JSON.stringify({ all: CASES.length, played: cases.size, skipped: skipped.length, retried, said }),
);
