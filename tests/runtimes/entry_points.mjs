// All entry points in one process: whichever of them is imported, there is one core. What one configures, throws or
// watches, the others know.
import { strict as assert } from "node:assert";
import { cleanup } from "@holdfast/lock/cron";
import { instrument } from "@holdfast/lock/otel";
import { adminHandler } from "@holdfast/lock/admin";
import { main } from "@holdfast/lock/cli";
import { testBackend } from "@holdfast/lock/testing";
import { commitIfHeld as commitOnDatastore } from "@holdfast/lock/backends/datastore";
import { commitIfHeld as commitOnKv, kvBackend } from "@holdfast/lock/backends/kv";
import { commitIfHeld as commitOnRedis } from "@holdfast/lock/backends/redis";
import { memoryBackend } from "@holdfast/lock/backends/memory";
import { webLocks } from "@holdfast/lock/web-locks";
import { configure, Lock, LockBackendError } from "@holdfast/lock";

for (const entry of [instrument, main, testBackend]) assert.equal(typeof entry, "function");

const backend = memoryBackend();
configure({ strong: backend });
const held = await Lock.acquire("x");

// The class of the lock, and the participant behind it.
for (
  const [commit, name] of [[commitOnKv, "KV"], [commitOnRedis, "Redis"], [commitOnDatastore, "Datastore"]]
) {
  await assert.rejects(
    commit(held, () => {}),
    new RegExp(`must be a lock on .*${name} backend, it is on another one`),
  );
}

// The locks of this process, whichever copy asks.
const prefix = "web/";
await webLocks(backend, { prefix }).request("y", async ({ name }) => {
  assert.equal(name, "y");
  assert.equal(await Lock.acquire("web/y", { wait: false }), null);
});

// The configured backend, and the class of the error.
const page = await adminHandler({ authorize: () => true })(new Request("http://localhost/"));
assert.equal(page.status, 200);
const broken = kvBackend({ get: refuse, getMany: refuse, list: refuse, atomic: refuse, watch: refuse });
await assert.rejects(cleanup({ backend: broken }), LockBackendError);

// The holders of this process: one that is evicted learns it without asking the store.
const { evicted } = await cleanup({ olderThanMs: 0 });
assert.deepEqual([evicted, held.held, held.signal.reason.reason], [1, false, "forced"]);
console.log("one core");

function refuse() {
  throw new Error("out of order");
}
