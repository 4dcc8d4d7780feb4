// Cleaning up, by real cron jobs in real processes, by requests, and at a size where memory and time would show.
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { kvBackend } from "../backends/kv.ts";
import { memoryBackend } from "../backends/memory.ts";
import { encodeLock } from "../core/record/codec.ts";
import type { Holder } from "../core/record/record.ts";
import {
  appEngineCron,
  type Authorize,
  bearerSecret,
  cleanup,
  cleanupHandler,
  registerCleanup,
} from "../cron.ts";
import { forceRelease, lock, LockBackendError } from "../mod.ts";
import { Probe } from "../testing/probe.ts";
import { Child, type Message } from "./support/child.ts";
import { withEnvironment } from "./support/environment.ts";

/** The record of a dead process, JSON text. */
function dead(leaseMs = 100): string {
  const expiresAt = Date.now() - 3_600_000;
  const holder: Holder = {
    token: crypto.randomUUID(),
    mode: "exclusive",
    limit: 1,
    since: expiresAt - leaseMs,
    leaseMs,
    expiresAt,
    renewals: 0,
  };
  return encodeLock({ v: 1, holders: [holder] });
}

/** A memory with this many records of dead processes. */
async function deadBackend(count: number): Promise<Probe> {
  const probe = new Probe(memoryBackend());
  for (let i = 0; i < count; i++) {
    await probe.commit([{ key: `dead:${i}`, version: null, value: dead() }]);
  }
  return probe;
}

async function database(): Promise<{ path: string; kv: Deno.Kv } & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-" });
  const path = `${folder}/kv.sqlite`;
  const kv = await Deno.openKv(path);
  return {
    path,
    kv,
    async [Symbol.asyncDispose]() {
      kv.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

async function seed(kv: Deno.Kv, count: number): Promise<void> {
  for (let done = 0; done < count;) {
    const atomic = kv.atomic();
    for (let i = 0; i < 500 && done < count; i++, done++) {
      atomic.set(["holdfast", `dead:${done}`], new TextEncoder().encode(dead()));
    }
    await atomic.commit();
  }
}

const NONE = { seen: 0, live: 0, removed: 0, evicted: 0, gone: 0, unreadable: 0 };
const CHILD = new URL("cron_child.ts", import.meta.url);
const flags = ["--unstable-cron", "--allow-read", "--allow-write", "--allow-env"];

Deno.test("cleanup: ten thousand records, a hundred of them alive, and a cleanup that is killed half-way", async () => {
  await using db = await database();
  await seed(db.kv, 9900);
  const backend = kvBackend(db.kv);
  const held = await Promise.all(
    Array.from({ length: 100 }, (_, i) => lock(`live:${i}`, { backend }).acquire()),
  );
  {
    await using child = new Child(CHILD, { flags, args: ["clean", db.path] });
    // Wherever it is then: the first hundred may be seen before one is removed.
    while ((await child.next("progress")).counts.removed < 1000);
    child.signal("SIGKILL");
  }
  let most = 0;
  const probe = new Probe(backend);
  const progress: number[] = [];
  const { seen, live, removed, ...others } = await cleanup({
    backend: probe,
    onProgress({ seen }) {
      most = Math.max(most, probe.inFlight);
      progress.push(seen);
    },
  });
  assertEquals([live, removed, others], [100, seen - 100, { evicted: 0, gone: 0, unreadable: 0 }]);
  assert(seen <= 9000, `the one that was killed had removed a thousand of them, but there were ${seen}`);
  assert(most > 1 && most <= 32, `${most} records under way at once`);
  assert(progress.every((count, i) => i === progress.length - 1 || count === 100 * (i + 1)), `${progress}`);
  assertEquals(await Promise.all(held.map((held) => held.release())), held.map(() => true));
  assertEquals(await cleanup({ backend }), NONE);
});

Deno.test("registerCleanup: of two processes one cleans up, by Deno.cron", async () => {
  await using db = await database();
  await seed(db.kv, 50);
  let turns = 0;
  const listen = ({ said }: Message) => void (turns += said === "cleaned" ? 1 : 0);
  await using one = new Child(CHILD, { flags, listen, args: ["register", db.path] });
  await using two = new Child(CHILD, { flags, listen, args: ["register", db.path] });
  await Promise.all([one.next("registered"), two.next("registered")]);
  const children = [one, two];
  const cleaned = children.map((child) => child.next("cleaned"));
  const winner = await Promise.race(cleaned.map((done, i) => done.then(() => i)));
  const [child, other] = [children[winner], children[1 - winner]];
  assertEquals((await cleaned[winner]).counts, { ...NONE, seen: 51, live: 1, removed: 50 });
  // The other one has found it taken, again and again, and the first has not begun again.
  for (let i = 0; i < 5; i++) assertEquals((await other.next("skipped")).outcome, "taken");
  assertEquals(turns, 1);
  // It ends at once, although its lock is kept; when that is over, here by force, the other one's turn comes.
  await child.ask("end", "ended");
  const backend = kvBackend(db.kv);
  assertEquals(await forceRelease("holdfast-cleanup", { backend }), true);
  assertEquals((await cleaned[1 - winner]).counts, { ...NONE, seen: 1, live: 1 });
  await other.ask("end", "ended");
  assertEquals(await cleanup({ backend }), { ...NONE, seen: 1, live: 1 });
});

Deno.test("registerCleanup: where there is no cron, it says what to do", async () => {
  await withCron(undefined, () => {
    const error = assertThrows(() => registerCleanup(), TypeError);
    assertStringIncludes(error.message, "cleanupHandler({ authorize })");
    assertStringIncludes(error.message, "croner");
    assertStringIncludes(error.message, "--unstable-cron");
  });
});

Deno.test("registerCleanup: an aborted signal registers nothing, bad input neither", async () => {
  const registered: unknown[] = [];
  const cron = (...args: unknown[]) => {
    registered.push(args.slice(0, 2));
    return Promise.resolve();
  };
  await withCron(cron, async () => {
    await registerCleanup({ signal: AbortSignal.abort() });
    const bad: [string, object][] = [
      ["schedule", { schedule: "often" }],
      ["schedule", { schedule: 5 }],
      ["name", { name: "a:b" }],
      ["name", { name: "" }],
      ["name", { name: "x".repeat(65) }],
      ["olderThanMs", { olderThanMs: -1 }],
      ["backend", { backend: {} }],
      ["sched", { sched: "0 3 * * *" }],
      ["signal", { signal: true }],
    ];
    for (const [option, options] of bad) {
      const error = assertThrows(() => registerCleanup(options));
      assert(error instanceof TypeError || error instanceof RangeError);
      assertStringIncludes(error.message, `'${option}'`);
    }
    assertEquals(registered, []);
    await registerCleanup();
    await registerCleanup({ name: "my cleanup", schedule: "*/5 * * * *" });
    assertEquals(registered, [["holdfast-cleanup", "0 3 * * *"], ["my cleanup", "*/5 * * * *"]]);
  });
});

Deno.test("registerCleanup: a turn that fails rejects, so that Deno.cron tries again", async () => {
  let turn = () => Promise.resolve();
  const cron = (...args: unknown[]) => {
    turn = args[3] as typeof turn;
    return Promise.resolve();
  };
  const backend = await deadBackend(1);
  await withCron(cron, () => registerCleanup({ backend }));
  backend.fail(new LockBackendError("the store is out"));
  await assertRejects(() => turn(), LockBackendError, "the store is out");
});

Deno.test("registerCleanup: a turn does not wait for its lock, which is kept if it was done, and given back if not", async () => {
  let turn = () => Promise.resolve();
  const cron = (...args: unknown[]) => {
    turn = args[3] as typeof turn;
    return Promise.resolve();
  };
  const backend = await deadBackend(1);
  const list = backend.list.bind(backend);
  let turns = 0;
  await withCron(cron, () => registerCleanup({ backend, onProgress: () => void turns++ }));
  backend.list = () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error("no")) }) });
  await assertRejects(() => turn(), LockBackendError, "no");
  backend.list = list;
  await turn();
  assertEquals(turns, 1);
  await turn();
  assertEquals(turns, 1);
  assertEquals(await cleanup({ backend }), { ...NONE, seen: 1, live: 1 });
});

Deno.test("cleanup: bad input is refused before anything is sent", async () => {
  const backend = await deadBackend(1);
  const { commits } = backend;
  const bad: [string, object][] = [
    ["olderThanMs", { olderThanMs: 1.5 }],
    ["olderThanMs", { olderThanMs: "1" }],
    ["olderThanMs", { olderThanMs: Infinity }],
    ["prefix", { prefix: 7 }],
    ["prefix", { prefix: "\ud800" }],
    ["onProgress", { onProgress: true }],
    ["kind", { kind: "medium" }],
    ["signal", { signal: {} }],
    ["older", { older: 1 }],
  ];
  for (const [option, options] of bad) {
    const error = await assertRejects(() => cleanup({ backend, ...options }));
    assert(error instanceof TypeError || error instanceof RangeError);
    assertStringIncludes(error.message, `'${option}'`);
  }
  await assertRejects(() => cleanup(null as never), TypeError);
  assertEquals(backend.commits, commits);
});

Deno.test("cleanup: only what begins with the prefix", async () => {
  const backend = await deadBackend(20);
  assertEquals(await cleanup({ backend, prefix: "dead:1" }), { ...NONE, seen: 11, removed: 11 });
  assertEquals(await cleanup({ backend }), { ...NONE, seen: 9, removed: 9 });
});

Deno.test("cleanup: cancelled in the midst, it stops, and the next one ends the work", async () => {
  const backend = await deadBackend(1000);
  const ending = new AbortController();
  const reason = new Error("enough");
  let seen = 0;
  const cleaning = cleanup({
    backend,
    signal: ending.signal,
    onProgress() {
      if (++seen === 3) ending.abort(reason);
    },
  });
  assertEquals(await cleaning.catch((error) => error), reason);
  assert(await backend.idle(5000));
  const { commits } = backend;
  const { removed } = await cleanup({ backend });
  assert(removed > 0 && removed < 1000);
  assertEquals(backend.commits, commits + removed);
  await assertRejects(() => cleanup({ backend, signal: AbortSignal.abort(reason) }), Error, "enough");
});

Deno.test("cleanup: a listing that fails is a failure of the store", async () => {
  const cause = new Error("the store is out");
  const backend = await deadBackend(1);
  backend.list = () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(cause) }) });
  const error = await assertRejects(() => cleanup({ backend }), LockBackendError, "the store is out");
  assertEquals([error.cause, error.transient], [cause, false]);
});

Deno.test("cleanup: a listing that never answers keeps no caller that cancels", async () => {
  const backend = await deadBackend(1);
  backend.list = () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) });
  const ending = new AbortController();
  const cleaning = cleanup({ backend, signal: ending.signal }).catch((error) => error);
  await Promise.resolve();
  ending.abort("enough");
  assertEquals(await cleaning, "enough");
});

Deno.test("cleanup: what onProgress throws ends it", async () => {
  const backend = await deadBackend(150);
  const fail = () => {
    throw new Error("the caller's own");
  };
  await assertRejects(() => cleanup({ backend, onProgress: fail }), Error, "the caller's own");
  assert(await backend.idle(5000));
});

Deno.test("cleanup: where clocks mean nothing, a long lease is not waited for", async () => {
  const backend = new Probe(memoryBackend());
  await backend.commit([{ key: "long", version: null, value: dead(600_001) }]);
  backend.skewMs = Infinity;
  assertEquals(await cleanup({ backend }), { ...NONE, seen: 1, live: 1 });
});

Deno.test("cleanupHandler: refuses everything by default", async () => {
  const backend = await deadBackend(1);
  const answer = await cleanupHandler({ backend })(request());
  assertEquals(answer.status, 403);
  assertStringIncludes((await answer.json()).error, "without 'authorize'");
  assertEquals((await cleanup({ backend })).removed, 1);
});

Deno.test("cleanupHandler: only true lets a request pass", async () => {
  const backend = await deadBackend(1);
  for (const verdict of [false, undefined, null, 1, "yes", {}, () => true]) {
    const handler = cleanupHandler({ backend, authorize: (() => verdict) as unknown as Authorize });
    const answer = await handler(request());
    assertEquals(answer.status, 403);
    assertEquals(await answer.json(), { error: "'authorize' has refused this request" });
  }
  const own = new Response("not you", { status: 404 });
  assertEquals(await cleanupHandler({ backend, authorize: () => own })(request()), own);
  const fails = cleanupHandler({ backend, authorize: () => Promise.reject(new Error("own")) });
  await assertRejects(() => fails(request()), Error, "own");
  assertEquals((await cleanup({ backend })).removed, 1);
});

Deno.test("cleanupHandler: cleans up and answers the counts; other methods are refused", async () => {
  for (const method of ["GET", "POST"]) {
    const handler = cleanupHandler({ backend: await deadBackend(3), authorize: () => Promise.resolve(true) });
    const answer = await handler(request({}, method));
    assertEquals(answer.status, 200);
    assertEquals(answer.headers.get("content-type"), "application/json");
    assertEquals(await answer.json(), { ...NONE, seen: 3, removed: 3 });
  }
  const answer = await cleanupHandler({ authorize: () => true })(request({}, "DELETE"));
  assertEquals([answer.status, answer.headers.get("allow")], [405, "GET, POST"]);
  assertStringIncludes((await answer.json()).error, "DELETE");
});

Deno.test("cleanupHandler: no other site evicts a holder with a browser's login", async () => {
  const backend = memoryBackend();
  await using held = await lock("x", { backend }).acquire();
  let asked = 0;
  const handler = cleanupHandler({ authorize: () => (asked++, true), backend, olderThanMs: 0 });
  const send = (method: string, headers: Record<string, string>) =>
    handler(
      new Request("https://app.example/cleanup", { method, headers: { cookie: "login=1", ...headers } }),
    );
  const visit = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  const strange: Record<string, string>[] = [
    ...["cross-site", "same-site", "none", ""].map((site) => ({ "sec-fetch-site": site })),
    { "sec-fetch-site": "cross-site", ...visit },
    { origin: "https://evil.example" },
    { origin: "https://app.example.evil.example" },
    { origin: "null" },
  ];
  for (const headers of strange) {
    for (const method of ["GET", "POST"]) {
      const answer = await send(method, headers);
      assertEquals([headers, answer.status, asked], [headers, 403, 0]);
      assertEquals(await answer.json(), { error: "nothing was done: it comes from another site" });
    }
  }
  assertEquals(held.held, true);
  assertEquals((await send("POST", { "sec-fetch-site": "same-origin" })).status, 200);
  assertEquals((await send("GET", { origin: "https://app.example" })).status, 200);
  assertEquals(held.held, false);
});

Deno.test("cleanupHandler: answers HEAD without a body, no body that is large, and nothing to guess about", async () => {
  const handler = cleanupHandler({ authorize: () => true, backend: memoryBackend() });
  const seen: [RequestInit, number, boolean][] = [
    [{ method: "HEAD" }, 405, false],
    [{ method: "PUT" }, 405, true],
    [{ method: "POST", headers: { "content-length": "16385" } }, 413, true],
    [{ method: "POST", headers: { "content-length": "16384" } }, 200, true],
    [{ method: "POST", body: "{}" }, 200, true],
  ];
  for (const [init, status, hasBody] of seen) {
    const answer = await handler(new Request("https://app.example/cleanup", init));
    assertEquals([init, answer.status, answer.body !== null], [init, status, hasBody]);
    assertEquals(answer.headers.get("x-content-type-options"), "nosniff");
    await answer.body?.cancel();
  }
  const refused = cleanupHandler({ authorize: () => new Response("no", { status: 401 }) });
  assertEquals((await refused(new Request("https://app.example", { method: "HEAD" }))).body, null);
});

Deno.test("cleanupHandler: a store that fails, and a signal, are answered with 500 and the reason", async () => {
  const backend = await deadBackend(1);
  backend.fail(new LockBackendError("the store is out", { transient: true }));
  const answer = await cleanupHandler({ backend, authorize: () => true })(request());
  assertEquals(answer.status, 500);
  assertStringIncludes((await answer.json()).error, "the store is out");
  const signal = AbortSignal.abort();
  const cancelled = await cleanupHandler({ backend, signal, authorize: () => true })(request());
  assertEquals([cancelled.status, await cancelled.json()], [500, { error: "the cleanup was cancelled" }]);
});

Deno.test("bearerSecret: accepts requests with the secret, and no others", async () => {
  const secret = "correct-horse-battery-staple";
  const authorize = bearerSecret(secret);
  for (const authorization of [`Bearer ${secret}`, `bearer  ${secret}`]) {
    assertEquals(await authorize(request({ authorization })), true);
  }
  for (
    const authorization of ["", secret, `Basic ${secret}`, `Bearer ${secret}x`, `Bearer ${secret.slice(1)}`]
  ) {
    const answer = await authorize(request(authorization === "" ? {} : { authorization }));
    assert(answer instanceof Response);
    assertEquals(answer.status, 401);
    assertStringIncludes(answer.headers.get("www-authenticate")!, "Bearer");
    assert(!(await answer.text()).includes(secret));
  }
  for (
    const bad of ["", "short", "x".repeat(15), "with a space in between", "schlüssel-schlüssel", undefined]
  ) {
    const error = assertThrows(() => bearerSecret(bad as string), TypeError, "'secret'");
    if (bad) assert(!error.message.includes(bad), "a secret must not be shown");
  }
});

Deno.test("appEngineCron: counts on App Engine only", async () => {
  const authorize = appEngineCron();
  const headers = { "X-Appengine-Cron": "true" };
  await withEnvironment({ GAE_SERVICE: undefined }, async () => {
    assertEquals(await statusOf(authorize(request(headers))), 403);
  });
  await withEnvironment({ GAE_SERVICE: "default" }, async () => {
    assertEquals(await authorize(request(headers)), true);
    assertEquals(await statusOf(authorize(request())), 403);
    assertEquals(await statusOf(authorize(request({ "X-Appengine-Cron": "1" }))), 403);
  });
});

function request(headers: Record<string, string> = {}, method = "GET"): Request {
  return new Request("https://example.com/cleanup", { method, headers });
}

async function statusOf(answer: ReturnType<Authorize>): Promise<number> {
  const refusal = await answer;
  assert(refusal instanceof Response);
  return refusal.status;
}

/** Runs `fn` with another `Deno.cron`. */
async function withCron(cron: unknown, fn: () => unknown): Promise<void> {
  const own = Object.getOwnPropertyDescriptor(Deno, "cron")!;
  Object.defineProperty(Deno, "cron", { value: cron, configurable: true, enumerable: true });
  try {
    await fn();
  } finally {
    Object.defineProperty(Deno, "cron", own);
  }
}
