// The other picture in the README: the admin page with a few locks, as docs/admin.png. Needs Chromium.
import { adminHandler } from "../admin.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { forceRelease, lock, LockLostError } from "../mod.ts";
import { startBrowser } from "../tests/support/browser.ts";

/** For how long the locks of the picture are busy before it is taken. */
const BUSY_MS = 250_000;

const store = new MemoryStore();
const ending = new AbortController();
const { signal } = ending;

/** A worker that takes the lock again and again, each time for about this long. */
async function work(label: string, identifier: string, forMs: number, pauseMs = 300): Promise<void> {
  const backend = memoryBackend({ store });
  while (!signal.aborted) {
    try {
      await lock(identifier, { backend, label, signal }).run((held) =>
        pass(forMs * (0.6 + 0.8 * Math.random()), AbortSignal.any([signal, held.signal]))
      );
      await pass(pauseMs, signal);
    } catch (error) {
      const isExpected = error === signal.reason || error instanceof LockLostError;
      if (!isExpected) throw error;
    }
  }
}

/** Resolves after a while, or as soon as the signal aborts. */
function pass(ms: number, until: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    until.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

const server = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen() {} },
  adminHandler({ authorize: () => true, backend: memoryBackend({ store }), title: "Locks of the shop" }),
);
const workers = [
  ...["worker-1", "worker-2", "worker-3"].map((label) => work(label, "import", 24_000)),
  ...["web-1", "web-2"].map((label) => work(label, "invoice:17", 9000, 14_000)),
  ...["web-1", "web-2", "web-3"].map((label) => work(label, "rates", 14_000, 6000)),
  work("worker-2", "nightly-report", 2 * BUSY_MS),
];
const browser = await startBrowser();
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 820 } });
  await page.goto(`http://127.0.0.1:${server.addr.port}/`);
  await pass(BUSY_MS * 0.7, signal);
  await forceRelease("import", { backend: memoryBackend({ store }) }); // a loss, for the picture
  await pass(BUSY_MS * 0.3, signal);
  await page.screenshot({ path: new URL("../docs/admin.png", import.meta.url).pathname });
} finally {
  ending.abort();
  await browser.close();
  await Promise.all(workers);
  await server.shutdown();
}
