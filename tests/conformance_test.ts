import { kvBackend } from "@holdfast/lock/backends/kv";
import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
import { testBackend, type TestPeer } from "@holdfast/lock/testing";

const { test } = Deno;
const skip = test.ignore;

const store = new MemoryStore();
testBackend({ name: "memory", test, skip, open: () => ({ backend: memoryBackend({ store }), close() {} }) });

/** Opens one database for both peers of a test. */
function shared(path: () => string): () => Promise<TestPeer> {
  let kv: Promise<Deno.Kv> | undefined;
  let users = 0;
  return async () => {
    users++;
    const opened = await (kv ??= Deno.openKv(path()));
    return {
      backend: kvBackend(opened),
      close() {
        if (--users > 0) return;
        kv = undefined;
        opened.close();
      },
    };
  };
}

testBackend({ name: "KV in memory", test, skip, open: shared(() => ":memory:") });

const folder = Deno.makeTempDirSync({ prefix: "holdfast-" });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

testBackend({ name: "KV on a file, one handle", test, skip, open: shared(() => `${folder}/one.sqlite`) });

testBackend({
  name: "KV on a file, two handles",
  test,
  skip,
  async open() {
    const kv = await Deno.openKv(`${folder}/two.sqlite`);
    return { backend: kvBackend(kv), close: () => kv.close() };
  },
});
