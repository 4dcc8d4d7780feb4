// When a lease is over, for the process that holds it.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { memoryBackend } from "../backends/memory.ts";
import { decodeLock } from "../core/record/decode.ts";
import { type Lock, lock, type LockBackend, LockBackendError } from "../mod.ts";
import { freeze } from "../testing/probe.ts";

/** Waits while nothing else keeps the process alive: a held lock does not. */
async function alive(event: Promise<unknown>): Promise<void> {
  const timer = setInterval(() => {}, 1000);
  await event.finally(() => clearInterval(timer));
}

Deno.test("lease: a store that answers late, but within the lease, keeps the lock and takes it back", async () => {
  const store = memoryBackend();
  let late = 0;
  const slow: LockBackend = {
    ...store,
    async commit(changes) {
      await delay(late);
      return await store.commit(changes);
    },
  };
  const held = await lock("x", { backend: slow, leaseMs: 1500 }).acquire();
  // Longer than until the next renewal would be due.
  late = 600;
  await alive((async () => {
    for await (const { value } of store.watch("x", { signal: held.signal })) {
      if (JSON.parse(value!).holders[0].renewals === 2) break;
    }
  })());
  assert(held.held);
  assertEquals(await held.release(), true);
});

Deno.test("lease: a renewal that hangs does not keep the holder from being notified at the lease's end", async () => {
  const store = memoryBackend();
  const hanging = Promise.withResolvers<never>();
  let hangs = false;
  const silent: LockBackend = {
    ...store,
    commit: (changes) => hangs ? hanging.promise : store.commit(changes),
  };
  const heard: string[] = [];
  const onFailure = (message: unknown) => heard.push((message as { error: Error }).error.message);
  subscribe("holdfast:backend-error", onFailure);
  const held = await lock("x", { backend: silent, leaseMs: 100 }).acquire();
  hangs = true;
  const lost = new Promise<void>((resolve) =>
    held.signal.addEventListener("abort", () => {
      heard.push("lost");
      resolve();
    })
  );
  await alive(lost);
  // The renewal is given up long after that. What it comes to then is no news any more.
  hanging.reject(new LockBackendError("the test is over"));
  await delay(0);
  unsubscribe("holdfast:backend-error", onFailure);
  const [loss, why, ...more] = heard;
  assertEquals([loss, more], ["lost", []]);
  assertStringIncludes(why, `Cannot renew lock "x": the store did not answer within`);
});

Deno.test("lease: a process that is frozen just after it has read the time does not believe it holds what others see lapse", async () => {
  const leaseMs = 200;
  let freezing = false;
  const backend = memoryBackend();
  const now = backend.now.bind(backend);
  Object.assign(backend, {
    now() {
      const time = now();
      if (freezing) freeze(leaseMs + 20);
      freezing = false;
      return time;
    },
  });
  const agrees = async (held: Lock) => {
    const [{ key, value }] = await backend.read(["report"]);
    const [{ expiresAt }] = decodeLock(key, value!).holders;
    assertEquals([held.held, expiresAt! > now()], [true, true]);
  };
  freezing = true;
  const held = await lock("report", { backend, leaseMs }).acquire();
  await agrees(held);
  const successor = lock("report", { backend, leaseMs }).acquire();
  freezing = true;
  await held.release();
  await agrees(await successor);
  await (await successor).release();
});

Deno.test("lease: JSON and text of a lock say what it is, and to look at them so changes nothing", async () => {
  const losses: unknown[] = [];
  const hear = (message: unknown) => losses.push(message);
  subscribe("holdfast:lost", hear);
  const backend = memoryBackend();
  const held = await lock("job", { backend, leaseMs: 100, renew: false }).acquire();
  const { fencingToken } = held;
  const shown = (state: string) => ({
    identifier: "job",
    kind: "strong",
    mode: "exclusive",
    state,
    fencingToken,
  });
  assertEquals(JSON.parse(JSON.stringify(held)), shown("held"));
  // Its lease is over, and no timer has run yet: code that only prints it has not looked.
  freeze(101);
  assertEquals(JSON.parse(JSON.stringify({ held })), { held: shown("expired") });
  assertStringIncludes(String(held), "lost, expired");
  assertEquals(losses, []);
  assertEquals([held.held, losses.length], [false, 1]);
  const next = await lock("job", { backend }).acquire();
  await next.release();
  assertEquals(JSON.parse(JSON.stringify(next)).state, "released");
  const both = await lock(["job", { identifier: "rates", mode: "shared" }], { backend }).acquire();
  assertEquals(JSON.parse(JSON.stringify(both)), {
    ...shown("held"),
    identifier: "job, rates",
    fencingToken: both.fencingToken,
    locks: [{ identifier: "job", mode: "exclusive" }, { identifier: "rates", mode: "shared" }],
  });
  await both.release();
  unsubscribe("holdfast:lost", hear);
});
