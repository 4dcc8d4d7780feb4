// Web Locks beyond the specification: what becomes of them between machines, and the options that the standard lacks.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import type { LockBackend } from "../core/backend.ts";
import { participantOf } from "../core/participant.ts";
import {
  forceRelease,
  lock,
  LockAcquisitionError,
  LockBackendError,
  LockLostError,
  locks as listed,
  releaseAll,
} from "../mod.ts";
import { type LockManager, webLocks, type WebLocksOptions } from "../web_locks.ts";
import { Scene } from "./simulation/scene.ts";
import { Ask, Stage } from "./web_locks/stage.ts";

/** Two processes on one store. */
function processes(): [LockBackend, LockBackend] {
  const store = new MemoryStore();
  return [memoryBackend({ store }), memoryBackend({ store })];
}

/** Holds a lock until it is released. */
async function hold(manager: LockManager, name = "x"): Promise<Ask> {
  const ask = new Ask((callback) => manager.request(name, callback), () => {});
  await ask.granted;
  return ask;
}

/** Why a request has lost its lock, whose promise rejects with an AbortError. */
async function lossOf({ outcome }: Ask): Promise<string> {
  const error = await assertRejects(() => outcome, DOMException);
  assertEquals(error.name, "AbortError");
  assert(error.cause instanceof LockLostError);
  return error.cause.reason;
}

/** What a backend is asked, in order. */
function recorded(backend: LockBackend): string[] {
  const asked: string[] = [];
  for (const name of ["read", "commit", "list"] as const) {
    const original = backend[name].bind(backend) as (...args: unknown[]) => never;
    Object.assign(backend, {
      [name]: (...args: unknown[]) => {
        asked.push(name);
        return original(...args);
      },
    });
  }
  return asked;
}

Deno.test("web locks: releaseAll cancels what waits, and takes what is held, with AbortErrors", async () => {
  const [one, two] = processes();
  const manager = webLocks(one);
  const holder = await hold(manager);
  const waiting = manager.request("x", () => {}).catch((error) => error);
  await manager.query();
  assertEquals(await releaseAll({ timeoutMs: 3000 }), 1);
  assertEquals([await lossOf(holder), (await waiting).name], ["released", "AbortError"]);
  assertEquals(await webLocks(two).request("x", () => "free"), "free");
  await holder.release();
});

Deno.test("web locks, options: a limit on waiting, and the holder of the lock", async () => {
  const [one, two] = processes();
  const holder = await hold(webLocks(one, { label: "worker 3" }));
  const impatient = webLocks(two, { waitForMs: 5 });
  const error = await assertRejects(() => impatient.request("x", () => {}), LockAcquisitionError);
  assertEquals([error.identifier, error.holders[0].label], ["web-locks/x", "worker 3"]);
  await assertRejects(() => webLocks(two).request("x", { waitForMs: 5 }, () => {}), LockAcquisitionError);
  await assertRejects(() => webLocks(two).request("x", { waitForMs: 0 }, () => {}), LockAcquisitionError);
  // What the request says goes before what the manager says.
  const patient = impatient.request("x", { waitForMs: 60_000 }, () => "granted");
  await holder.release();
  assertEquals(await patient, "granted");
});

Deno.test("web locks, options: a bound that is none is refused", async () => {
  const manager = webLocks(memoryBackend());
  const never = () => assert(false);
  await assertRejects(() => manager.request("x", { waitForMs: -1 }, never), RangeError);
  // @ts-expect-error: times are numbers
  await assertRejects(() => manager.request("x", { waitForMs: "5" }, never), TypeError);
});

Deno.test("web locks, options: bad ones are refused when the manager is made", () => {
  const backend = memoryBackend();
  // @ts-expect-error: no backend
  assertThrows(() => webLocks({}), TypeError, "'backend'");
  // @ts-expect-error: no such option
  assertThrows(() => webLocks(backend, { wait: true }), TypeError, "no option 'wait'");
  // @ts-expect-error: no string
  assertThrows(() => webLocks(backend, { prefix: 5 }), TypeError, "'prefix'");
  const bad: WebLocksOptions[] = [{ prefix: "" }, { prefix: "\uD800" }, { prefix: "x".repeat(101) }, {
    leaseMs: 99,
  }, {
    waitForMs: 0.5,
  }, { label: "" }];
  for (const options of bad) assertThrows(() => webLocks(backend, options), RangeError);
});

Deno.test("web locks: query says which process it is, and its label", async () => {
  const [one, two] = processes();
  const [first, second] = [
    await hold(webLocks(one, { label: "one" }), "1"),
    await hold(webLocks(one, { label: null }), "2"),
  ];
  const third = await hold(webLocks(two, { label: "two" }), "3");
  const { held } = await webLocks(two).query();
  assertEquals(held.map(({ name, label }) => [name, label]), [["1", "one"], ["2", undefined], ["3", "two"]]);
  assertEquals(held[0].clientId === held[1].clientId, true);
  assertEquals(held[0].clientId === held[2].clientId, false);
  for (const ask of [first, second, third]) await ask.release();
});

Deno.test("web locks: managers of different prefixes have nothing to do with each other", async () => {
  const [one, two] = processes();
  const first = await hold(webLocks(one, { prefix: "app 1/" }));
  const second = await hold(webLocks(two, { prefix: "app 2/" }));
  assertEquals((await webLocks(one, { prefix: "app 2/" }).query()).held.length, 1);
  assertEquals((await webLocks(one).query()).held, []);
  const identifiers: string[] = [];
  for await (const { identifier } of listed({ backend: two })) identifiers.push(identifier);
  assertEquals(identifiers.sort(), ["app 1/x", "app 2/x"]);
  for (const ask of [first, second]) await ask.release();
});

Deno.test("web locks: a lock that an operator takes away is lost with an AbortError, and its signal says why", async () => {
  const [one, two] = processes();
  const victim = await hold(webLocks(one));
  const held = (await victim.granted)!;
  assertEquals([held.signal.aborted, typeof held.fencingToken], [false, "string"]);
  assertEquals(await forceRelease("web-locks/x", { backend: one }), true);
  assertEquals(await lossOf(victim), "forced");
  assert(held.signal.reason instanceof LockLostError);
  assertEquals(
    await webLocks(two).request("x", { ifAvailable: true }, (lock) => lock!.fencingToken > held.fencingToken),
    true,
  );
  await victim.release();
});

Deno.test("web locks: one whose lease ends is lost with an AbortError, and the next is granted", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const victim = await hold(webLocks(a.backend, { leaseMs: 1000 }), "x");
    a.backend.commit = () => new Promise<never>(() => {});
    const next = webLocks(b.backend).request("x", () => "next");
    assertEquals(await lossOf(victim), "expired");
    assertEquals(await next, "next");
    await victim.release();
  });
});

Deno.test("web locks: the order of requests is that in which they were made, however near the store a process is", async () => {
  const scene = new Scene();
  const [near, far] = [scene.enter(), scene.enter()];
  far.distance.thereMs = far.distance.backMs = 30;
  const order: string[] = [];
  await scene.play(async () => {
    const [a, b] = [webLocks(far.backend, { label: "a" }), webLocks(near.backend, { label: "b" })];
    const holder = await hold(b);
    const request = (manager: LockManager, mark: string) => manager.request("x", () => void order.push(mark));
    const asks = [request(a, "a1"), request(a, "a2")];
    await a.query();
    asks.push(request(b, "b3"));
    await b.query();
    asks.push(request(a, "a4"), request(a, "a5"));
    await a.query();
    asks.push(request(b, "b6"));
    assertEquals((await b.query()).pending.map(({ label }) => label), ["a", "a", "b", "a", "a", "b"]);
    await holder.release();
    await Promise.all(asks);
  });
  assertEquals(order, ["a1", "a2", "b3", "a4", "a5", "b6"]);
});

Deno.test("web locks: the requests of a process that has died are passed", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const holder = await hold(webLocks(a.backend));
    const dying = webLocks(b.backend);
    for (let i = 0; i < 3; i++) dying.request("x", () => {}).catch(() => {});
    await dying.query();
    const next = webLocks(c.backend).request("x", () => "next");
    await webLocks(c.backend).query();
    b.process.kill();
    await holder.release();
    assertEquals(await next, "next");
  });
});

Deno.test("web locks: more requests than a queue has places are all shown to their own process, and served in order", async () => {
  const [one, two] = processes();
  const [a, b] = [webLocks(one), webLocks(two)];
  const stage = new Stage({ a, b });
  const asks = Array.from({ length: 80 }, (_, i) => stage.ask(a, { mark: `${i}` }));
  assertEquals((await stage.query()).pending.length, 79);
  // To others those that have no place in it are not known.
  assertEquals((await stage.query(b)).pending.length, 64);
  for (const ask of asks) {
    await ask.granted;
    await ask.release();
  }
  assertEquals(stage.order, asks.map((_, i) => `${i}`));
});

Deno.test("web locks: a very long name of another process is shown by its beginning and a hash", async () => {
  const [one, two] = processes();
  const name = "long ".repeat(200);
  const holder = await hold(webLocks(one), name);
  const [{ name: own }] = (await webLocks(one).query()).held;
  const [{ name: shown }] = (await webLocks(two).query()).held;
  assertEquals([own === name, shown.startsWith("long long"), /#sha256:[0-9a-f]{64}$/.test(shown)], [
    false,
    true,
    true,
  ]);
  await holder.release();
});

Deno.test("web locks: code that holds a lock and asks for it waits, and is not rejected", async () => {
  const backend = memoryBackend();
  const manager = webLocks(backend);
  await lock("web-locks/x", { backend }).run(async () => {
    const controller = new AbortController();
    const waiting = manager.request("x", { signal: controller.signal }, () => {}).catch((error) => error);
    assertEquals((await manager.query()).pending.length, 1);
    controller.abort("enough");
    assertEquals(await waiting, "enough");
  });
});

Deno.test("web locks: a callback runs in the async context of its request", async () => {
  const context = new AsyncLocalStorage<string>();
  const manager = webLocks(memoryBackend());
  const holder = await context.run("holder", () => hold(manager));
  const waiting = context.run("waiting", () => manager.request("x", () => context.getStore()));
  await manager.query();
  await context.run("releasing", () => holder.release());
  assertEquals(await waiting, "waiting");
});

Deno.test("web locks: a store that fails is a LockBackendError, and the callback is not called", async () => {
  const backend = memoryBackend();
  backend.commit = () => Promise.reject(new Error("no such table"));
  const manager = webLocks(backend);
  await assertRejects(() => manager.request("x", () => assert(false)), LockBackendError, "no such table");
  backend.list = () => {
    throw new Error("no such table");
  };
  await assertRejects(() => manager.query(), LockBackendError, "no such table");
});

Deno.test("web locks: a release that fails changes nothing about the result", async () => {
  const backend = memoryBackend();
  const manager = webLocks(backend, { leaseMs: 100 });
  const { commit } = backend;
  const result = await manager.request("x", () => {
    backend.commit = () => Promise.reject(new Error("no such table"));
    return "done";
  });
  backend.commit = commit;
  assertEquals(result, "done");
});

Deno.test("web locks, cost: two commits where no request waits", async () => {
  const backend = memoryBackend();
  const asked = recorded(backend);
  await webLocks(backend).request("x", () => {});
  assertEquals(asked, ["commit", "commit"]);
});

Deno.test("web locks, cost: all that are asked for at once join the queue by one commit, and each is granted by the release before it", async () => {
  const backend = memoryBackend();
  const asked = recorded(backend);
  const manager = webLocks(backend);
  await Promise.all(Array.from({ length: 10 }, () => manager.request("x", () => {})));
  assertEquals(asked.filter((what) => what === "commit").length, 12);
  assertEquals(asked.length <= 14, true, asked.join(" "));
});

Deno.test("web locks: the DOM's LockManager can be one of ours", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url));
  const text = `
    /// <reference no-default-lib="true" />
    /// <reference lib="dom" />
    /// <reference lib="dom.iterable" />
    /// <reference lib="esnext" />
    import { memoryBackend } from ${url("../backends/memory.ts")};
    import { type LockManager as Ours, webLocks } from ${url("../web_locks.ts")};
    const ours = webLocks(memoryBackend());
    export const standard: LockManager = ours;
    export const asNavigator: Navigator["locks"] = ours;
    export const snapshot: Promise<LockManagerSnapshot> = ours.query();
    export const result: Promise<number> = standard.request("x", { mode: "shared" }, async (lock: Lock | null) => 5);
    export const own: Promise<string> = ours.request("x", async (lock) => lock!.fencingToken);
    export const sync: Promise<number> = ours.request("x", { waitForMs: 5 }, () => 5);
    // @ts-expect-error: a lock manager has both
    export const half: LockManager = { query: () => ours.query() };
    // @ts-expect-error: the standard's lock has no fencing token, so that its manager is none of ours
    export const theirs: Ours = standard;
    // @ts-expect-error: nor is there such a mode
    ours.request("x", { mode: "upgradeable" }, () => {});
  `;
  const folder = await Deno.makeTempDir({ prefix: "holdfast-types-" });
  try {
    const file = join(folder, "dom.ts");
    await Deno.writeTextFile(file, text);
    const args = ["check", "--quiet", "--no-config", pathToFileURL(file).href];
    const { success, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    assertEquals([success, success ? "" : new TextDecoder().decode(stderr)], [true, ""]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("web locks: a request that is over leaves nothing to do", async () => {
  const [one, two] = processes();
  const controller = new AbortController();
  const holder = await hold(webLocks(one));
  const given = webLocks(two).request("x", { signal: controller.signal }, () => {}).catch(() => {});
  await webLocks(two).query();
  controller.abort();
  await given;
  await holder.release();
  for (const backend of [one, two]) {
    await participantOf(backend).whenIdle(5000);
    assertEquals(participantOf(backend).known("web-locks/x"), undefined);
  }
  assertEquals(
    await one.read(["web-locks/x", "web-locks/x#queue"]).then((all) => all.map(({ value }) => value)),
    [
      null,
      null,
    ],
  );
});

Deno.test("web locks, cost: one question where the lock is not available", async () => {
  const [one, two] = processes();
  const holder = await hold(webLocks(one));
  const asked = recorded(two);
  const manager = webLocks(two);
  assertEquals(await manager.request("x", { ifAvailable: true }, (lock) => lock), null);
  assertEquals(asked, ["commit"]);
  await holder.release();
});

Deno.test("web locks, cost: an eviction is a bet, and a commit on what that has found", async () => {
  const [one, two] = processes();
  const holder = await hold(webLocks(one));
  const asked = recorded(two);
  await webLocks(two).request("x", { steal: true }, () => assertEquals(asked, ["commit", "commit"]));
  // At the latest when it is given back.
  await holder.release();
  assertEquals(await lossOf(holder), "stolen");
});

Deno.test("web locks, cost: a query is one listing, and one read for each lock that is waited for", async () => {
  const [one, two] = processes();
  const manager = webLocks(one);
  const holders = [await hold(manager, "1"), await hold(manager, "2")];
  const waiting = manager.request("2", () => {});
  await manager.query();
  const asked = recorded(two);
  await webLocks(two).query();
  assertEquals(asked, ["list", "read"]);
  for (const holder of holders) await holder.release();
  await waiting;
});

Deno.test("web locks: a signal that aborts since the grant, before the callback is called, cancels the request", async () => {
  const [one, two] = processes();
  const controller = new AbortController();
  const onAcquired = () => controller.abort("just now");
  subscribe("holdfast:acquired", onAcquired);
  try {
    const asked = webLocks(one).request("x", { signal: controller.signal }, () => assert(false));
    assertEquals(await asked.catch((error) => error), "just now");
  } finally {
    unsubscribe("holdfast:acquired", onAcquired);
  }
  assertEquals(await webLocks(two).request("x", { ifAvailable: true }, (lock) => lock!.name), "x");
});
