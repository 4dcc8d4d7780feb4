import { kvBackend } from "@holdfast/lock/backends/kv";
import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
import { testBackend, type TestPeer } from "@holdfast/lock/testing";
import { mapBackend, MapStore } from "./support/map_backend.ts";
import { SideBySide } from "./support/side_by_side.ts";
import { AS_EXCLUSIVE, testLocks } from "../testing/suite.ts";

const stores = new SideBySide();
const { test, skip } = stores;
/** For a machine that is busy with other things: only what hangs runs into it. */
const limitMs = 30_000;

/** Makes one store for both peers of a test; `end` gets it back after the last of them. */
function shared<Store>(
  make: () => Store | Promise<Store>,
  backend: (store: Store) => TestPeer["backend"],
  end: (store: Store) => void = () => {},
): () => Promise<TestPeer> {
  let made: Promise<Store> | undefined;
  let users = 0;
  return async () => {
    users++;
    const store = await (made ??= Promise.resolve(make()));
    const close = () => {
      if (--users > 0) return;
      made = undefined;
      end(store);
    };
    return { backend: backend(store), close };
  };
}

/** Opens one database for both peers of a test. */
function oneHandle(path: string): () => Promise<TestPeer> {
  return shared(() => Deno.openKv(path), (kv) => kvBackend(kv), (kv) => kv.close());
}

const memory = shared(() => new MemoryStore(), (store) => memoryBackend({ store }));
testBackend({ name: "memory", test, skip, limitMs, open: memory });

// The suite must pass what a stranger writes: a Map, and a counter with leading zeros.
const map = shared(() => new MapStore(), mapBackend);
testBackend({ name: "Map", test, skip, limitMs, open: map });

// What is promised of a lock is promised of one that is held in another way, too.
for (const [how, lock] of Object.entries(AS_EXCLUSIVE)) {
  testLocks({ name: `memory: ${how}`, test, open: memory, ...lock });
}

// Open all the time, so that the sanitizers see whatever a test leaves running on it.
const kv = await Deno.openKv(":memory:");
testBackend({
  name: "KV in memory",
  test,
  skip,
  limitMs,
  open: () => ({ backend: kvBackend(kv), close() {} }),
});

const folder = Deno.makeTempDirSync({ prefix: "holdfast-" });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

testBackend({
  name: "KV on a file, one handle",
  test,
  skip,
  limitMs,
  open: oneHandle(`${folder}/one.sqlite`),
});

testBackend({
  name: "KV on a file, two handles",
  test,
  skip,
  limitMs,
  async open() {
    const kv = await Deno.openKv(`${folder}/two.sqlite`);
    return { backend: kvBackend(kv), close: () => kv.close() };
  },
});

stores.register("KV and memory");
