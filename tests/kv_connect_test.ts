// What networks do to Deno KV, with the client of Deno and with the one for Node and Bun.
import { openKv } from "@deno/kv";
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld, kvBackend, type KvDatabase } from "@holdfast/lock/backends/kv";
import { Lock, lock, type LockBackend } from "../mod.ts";
import { Proxy } from "./support/kv_proxy.ts";
import { ACCESS_TOKEN, KvServer, missingDenokv } from "./support/kv_server.ts";

type Database = KvDatabase & { close(): void };

/** Far longer than any of these tests needs. */
const LIMIT_MS = 30_000;

/** By name: how each client opens a database. */
const CLIENTS: Record<string, (url: string) => Promise<Database>> = {
  "Deno.openKv": (url) => Deno.openKv(url),
  "@deno/kv": (url) => openKv(url, { implementation: "remote" }),
};

const missing = await missingDenokv();
if (missing !== undefined) {
  Deno.test.ignore(`KV Connect: ${missing}`, () => {});
} else {
  for (const [name, open] of Object.entries(CLIENTS)) faultTests(name, open);
}

/** A server, a way to it that can be broken, and two processes that go that way. */
interface Scene {
  server: KvServer;
  proxy: Proxy;
  kv: Database;
  a: LockBackend;
  b: LockBackend;
}

function faultTests(name: string, open: (url: string) => Promise<Database>): void {
  function test(title: string, play: (scene: Scene) => Promise<void>): void {
    // The clients keep their own connections and timers for a while after they are closed.
    Deno.test(
      { name: `KV Connect, ${name}: ${title}`, sanitizeOps: false, sanitizeResources: false },
      async () => {
        await using server = await KvServer.start();
        using proxy = new Proxy(server.url, ACCESS_TOKEN);
        // Deno's client asks for a new token when one is refused; the other only when little of its time is left.
        if (name === "@deno/kv") proxy.tokenMs = 60_000;
        const [kv, other] = [await open(proxy.url), await open(proxy.url)];
        const done = new AbortController();
        const limit = delay(LIMIT_MS, done).then(() => Promise.reject(new Error("it did not end in time")));
        try {
          await Promise.race([play({ server, proxy, kv, a: kvBackend(kv), b: kvBackend(other) }), limit]);
        } finally {
          done.abort();
          await limit.catch(() => {});
          kv.close();
          other.close();
        }
      },
    );
  }

  test("an acquisition that is sent twice holds once, and a release that is sent twice has released", async ({ proxy, a, b }) => {
    proxy.loseAnswers("atomic_write");
    const held = await lock("x", { backend: a }).acquire();
    assertEquals(await Lock.acquire("x", { backend: b, wait: false }), null);
    proxy.loseAnswers("atomic_write");
    assertEquals(await held.release(), true);
    const next = await Lock.acquire("x", { backend: b, wait: false });
    assert(next !== null);
    await next.release();
  });

  test("a guarded commit that is sent twice is applied once", async ({ proxy, kv, a }) => {
    const held = await lock("x", { backend: a }).acquire();
    await commitIfHeld(held, (atomic) => atomic.sum(["paid"], 5n));
    proxy.loseAnswers("atomic_write");
    const sent = proxy.calls.atomic_write;
    const { ok } = await commitIfHeld(held, (atomic) => atomic.sum(["paid"], 5n));
    assert(proxy.calls.atomic_write >= sent + 2, "the client did not send it again");
    assert(ok);
    assertEquals(((await kv.get(["paid"])).value as Deno.KvU64).value, 10n);
    assertEquals(await held.release(), true);
  });

  test("an eviction is announced by push, also after all streams were lost", async ({ proxy, a, b }) => {
    for (const cut of [false, true]) {
      proxy.calls.watch = 0;
      // Its next renewal is a week away.
      const held = await lock("x", { backend: a, leaseMs: 2 ** 31 - 1 }).acquire();
      const aborted = new Promise((resolve) => held.signal.addEventListener("abort", resolve));
      await opened(proxy, 1);
      if (cut) {
        proxy.cutStreams();
        await opened(proxy, 2);
      }
      const stealer = await lock("x", { backend: b, stealAfterMs: 0 }).acquire();
      await aborted;
      assertEquals(held.signal.reason.reason, "stolen");
      assertEquals(await stealer.release(), true);
      await held.release();
    }
  });

  test("a waiter gets the lock after its stream was lost", async ({ proxy, a, b }) => {
    const held = await lock("x", { backend: a }).acquire();
    const waiting = lock("x", { backend: b }).acquire();
    await opened(proxy, 1);
    proxy.cutStreams();
    await opened(proxy, 2);
    assertEquals(await held.release(), true);
    assertEquals(await (await waiting).release(), true);
  });

  test("streams that are deaf, not closed, are opened again", async ({ proxy, a, b }) => {
    const names = ["one", "another"];
    const held = await Promise.all(names.map((name) => lock(name, { backend: a }).acquire()));
    const waiting = names.map((name) => lock(name, { backend: b }).acquire());
    // That the server announces what others commit is known from here on: an idle watch hears of it in no other way.
    const ending = new AbortController();
    const announced = b.watch("a record", { signal: ending.signal, idle: true })[Symbol.asyncIterator]();
    await announced.next();
    await opened(proxy, names.length + 1);
    const hearing = announced.next();
    await a.commit([{ key: "a record", version: null, value: "{}" }]);
    await hearing;
    const before = proxy.calls.watch;
    proxy.deafen();
    await held[0].release();
    await (await waiting[0]).release();
    // The one on which nothing has been missed, too: what is announced next comes on another.
    await opened(proxy, before + 1);
    await held[1].release();
    await (await waiting[1]).release();
    ending.abort();
    await announced.next();
  });

  test("a lock survives the server's restart, and so do its waiters", async ({ server }) => {
    // Not by way of the proxy, which would answer for a server that does not.
    const [kv, other] = [await open(server.url), await open(server.url)];
    const held = await lock("x", { backend: kvBackend(kv), leaseMs: 60_000 }).acquire();
    const waiting = lock("x", { backend: kvBackend(other), leaseMs: 60_000 }).acquire();
    while ((await kvBackend(kv).read(["x"]))[0].value?.includes("queue") !== true) await delay(5);
    await server.kill();
    const releasing = held.release();
    await delay(100);
    await server.start();
    assertEquals(await releasing, true);
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    assertEquals(await next.release(), true);
    kv.close();
    other.close();
  });

  test("an expired token is renewed", async ({ proxy, a, b }) => {
    const held = await lock("x", { backend: a }).acquire();
    const waiting = lock("x", { backend: b }).acquire();
    await opened(proxy, 1);
    proxy.revokeTokens();
    assertEquals(await held.release(), true);
    assertEquals(await (await waiting).release(), true);
  });
}

/** Until this many watches have been opened and have shown the current state. */
async function opened(proxy: Proxy, count: number): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while ((proxy.calls.watch ?? 0) < count && performance.now() < deadline) await delay(5);
  await delay(100);
}
