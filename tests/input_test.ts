// Bad input is refused with the option, the rule and the value, before anything is sent.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async";
import { metrics } from "@opentelemetry/api";
import { adminHandler } from "../admin.ts";
import { datastoreBackend } from "../backends/datastore.ts";
import { commitIfHeld, kvBackend } from "../backends/kv.ts";
import { memoryBackend } from "../backends/memory.ts";
import { redisBackend } from "../backends/redis.ts";
import { cleanup, cleanupHandler, registerCleanup } from "../cron.ts";
import { keyOf } from "../core/identifier.ts";
import { holdOf } from "../core/lock.ts";
import {
  configure,
  currentLock,
  forceRelease,
  Lock,
  lock,
  LockBackendError,
  type LockOptions,
  locks,
  observe,
  peek,
  releaseAll,
  releaseOnExit,
} from "../mod.ts";
import { webLocks } from "../web_locks.ts";
import { instrument } from "../otel.ts";
import { testBackend } from "../testing.ts";

/** A backend to which nothing may be sent. */
function untouchable() {
  const backend = memoryBackend();
  const sent: string[] = [];
  for (const name of ["read", "commit", "watch", "list"] as const) {
    Object.assign(backend, { [name]: () => sent.push(name) });
  }
  return { backend, sent };
}

// deno-lint-ignore no-explicit-any
type Anything = any;

const LONE = "lone \ud800 surrogate";

const BAD_IDENTIFIERS: [value: unknown, says: string][] = [
  ["", `'identifier' must be a non-empty string, current value is ""`],
  [undefined, "'identifier' must be a non-empty string, current value is undefined"],
  [null, "'identifier' must be a non-empty string, current value is null"],
  [17, "'identifier' must be a non-empty string, current value is 17"],
  [{}, "'identifier' must be a non-empty string, current value is [object Object]"],
  [Symbol("x"), "'identifier' must be a non-empty string, current value is Symbol(x)"],
  [LONE, "'identifier' must not contain lone surrogates"],
];

/** What names no several locks. */
const BAD_TARGETS: [value: Anything, error: typeof TypeError | typeof RangeError, says: string][] = [
  [[], RangeError, "'identifier' must be 1 to 16 identifiers, current value is [object Array]"],
  [Array(17).fill("x"), RangeError, "'identifier' must be 1 to 16 identifiers"],
  [["a", ""], TypeError, `'identifier[1]' must be a non-empty string, current value is ""`],
  [["a", , "b"], TypeError, "'identifier[1]' must be a non-empty string, current value is undefined"],
  [["a", ["b"]], TypeError, "'identifier[1]' must be a non-empty string, current value is [object Array]"],
  [["a", LONE], TypeError, "'identifier[1]' must not contain lone surrogates"],
  [[{ identifier: "a" }, {}], TypeError, "'identifier[1].identifier' must be a non-empty string"],
  [
    [{ identifier: "a", leaseMs: 5 }],
    TypeError,
    "there is no option 'leaseMs', only identifier, mode, limit",
  ],
  [[Object.create({ identifier: "a" })], TypeError, "'identifier[0].identifier' must be a non-empty string"],
  [
    [{ identifier: "a", mode: "read" }],
    TypeError,
    `'identifier[0].mode' must be "exclusive" or "shared", current value is "read"`,
  ],
  [
    [{ identifier: "a", mode: "shared", limit: 2 }],
    TypeError,
    `'identifier[0].limit' must be omitted with mode "shared"`,
  ],
  [
    [{ identifier: "a", permits: 2 }],
    TypeError,
    "'identifier[0].permits' must be omitted without 'limit', current value is 2",
  ],
  [
    ["b", { identifier: "a", limit: 2, permits: 3 }],
    RangeError,
    "'identifier[1].permits' must be a whole number from 1 to 2, or omitted, current value is 3",
  ],
  [
    [{ identifier: "a", mode: "shared" }, { identifier: "a", limit: 2 }],
    TypeError,
    'Cannot lock: "a" is named twice, and neither way to hold it allows what the other does',
  ],
  [
    [{ identifier: "a", limit: 3, permits: 2 }, { identifier: "a", limit: 2 }],
    TypeError,
    'Cannot lock: "a" is named twice',
  ],
];

const BAD_OPTIONS: [options: Anything, error: typeof TypeError | typeof RangeError, says: string][] = [
  [null, TypeError, "options must be an object, current value is null"],
  ["fast", TypeError, `options must be an object, current value is "fast"`],
  [{ leaseMS: 5 }, TypeError, "there is no option 'leaseMS' (did you mean 'leaseMs'?), only mode, limit"],
  [{ ttl: 5 }, TypeError, "there is no option 'ttl' (did you mean 'leaseMs'?)"],
  [{ expiry: 5 }, TypeError, "there is no option 'expiry' (did you mean 'leaseMs'?)"],
  [{ timeout: 5 }, TypeError, "there is no option 'timeout' (did you mean 'waitForMs'?)"],
  [{ retryCount: 5 }, TypeError, "there is no option 'retryCount' (did you mean 'waitForMs'?)"],
  [{ automaticExtensionThreshold: 5 }, TypeError, "there is no option 'automaticExtensionThreshold', only"],
  [{ toString: 5 }, TypeError, "there is no option 'toString'"],
  [[], TypeError, "options must be an object, current value is [object Array]"],
  [{ wait: "no" }, TypeError, `'wait' must be true or false, current value is "no"`],
  [{ reentrant: 1 }, TypeError, "'reentrant' must be true or false, current value is 1"],
  [{ renew: 1 }, TypeError, "'renew' must be true or false, current value is 1"],
  [
    { kind: "medium" },
    TypeError,
    `'kind' must be LOCK_KINDS.STRONG ("strong") or LOCK_KINDS.WEAK ("weak"), current value is "medium"`,
  ],
  [{ label: 5 }, TypeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: "" }, RangeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: "x".repeat(129) }, RangeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: false }, TypeError, "without lone surrogates, or null"],
  [{ label: LONE }, RangeError, "without lone surrogates"],
  [{ signal: {} }, TypeError, "'signal' must be an AbortSignal, current value is [object Object]"],
  [{ signal: new AbortController() }, TypeError, "'signal' must be an AbortSignal"],
  [{ backend: {} }, TypeError, "Cannot use 'backend': it must be a lock backend"],
  [{ backend: null }, TypeError, "such as kvBackend(kv) or redisBackend(client), current value is null"],
  [{ backend: 5 }, TypeError, "such as kvBackend(kv) or redisBackend(client), current value is 5"],
  [{ backend: new Map() }, TypeError, "lacks 'read': [object Map]"],
  ...(["waitForMs", "stealAfterMs", "leaseMs", "holdAtLeastMs"] as const).flatMap((option) => {
    const least = option === "leaseMs" ? 100 : 0;
    const rule = `'${option}' must be a whole number of milliseconds from ${least} to 2147483647, or omitted`;
    return [
      [{ [option]: "5" }, TypeError, `${rule}, current value is "5"`],
      [{ [option]: null }, TypeError, `${rule}, current value is null`],
      [{ [option]: 500n }, TypeError, `${rule}, current value is 500n`],
      [{ [option]: -1 }, RangeError, `${rule}, current value is -1`],
      [{ [option]: NaN }, RangeError, `${rule}, current value is NaN`],
      [{ [option]: 500.5 }, RangeError, `${rule}, current value is 500.5`],
      [{ [option]: Infinity }, RangeError, `${rule}, current value is Infinity`],
      [{ [option]: 2 ** 31 }, RangeError, `${rule}, current value is 2147483648`],
    ] as [Anything, typeof TypeError, string][];
  }),
  [{ mode: "upgradeable" }, TypeError, `"upgradeable" is reserved; share it, and call upgrade()`],
  [{ mode: "Shared" }, TypeError, `'mode' must be "exclusive" or "shared", current value is "Shared"`],
  [{ mode: null }, TypeError, `'mode' must be "exclusive" or "shared", current value is null`],
  [{ mode: "shared", limit: 2 }, TypeError, `'limit' must be omitted with mode "shared", current value is 2`],
  [{ mode: "shared", permits: 1 }, TypeError, `'permits' must be omitted with mode "shared"`],
  [{ permits: 1 }, TypeError, "'permits' must be omitted without 'limit', current value is 1"],
  [
    { limit: "5" },
    TypeError,
    `'limit' must be a whole number from 1 to 1000000, or omitted, current value is "5"`,
  ],
  [
    { limit: 0 },
    RangeError,
    "'limit' must be a whole number from 1 to 1000000, or omitted, current value is 0",
  ],
  [{ limit: 1.5 }, RangeError, "'limit' must be a whole number from 1 to 1000000"],
  [{ limit: 1_000_001 }, RangeError, "'limit' must be a whole number from 1 to 1000000"],
  [
    { limit: 3, permits: 4 },
    RangeError,
    "'permits' must be a whole number from 1 to 3, or omitted, current value is 4",
  ],
  [{ limit: 3, permits: 0 }, RangeError, "'permits' must be a whole number from 1 to 3"],
  [{ limit: 3, permits: null }, TypeError, "'permits' must be a whole number from 1 to 3"],
  [{ leaseMs: 99 }, RangeError, "'leaseMs' must be a whole number of milliseconds from 100"],
];

Deno.test("input: bad identifiers are refused", async () => {
  const { backend, sent } = untouchable();
  for (const [value, says] of BAD_IDENTIFIERS) {
    assertThrows(() => lock(value as string, { backend }), TypeError, says);
    await assertRejects(() => Lock.acquire(value as string, { backend }), TypeError, says);
    const wrapped = lock(() => value as string, { backend })(() => "ran");
    await assertRejects(() => wrapped(), TypeError, says.replace("'identifier'", "'identifier(...)'"));
  }
  assertEquals(sent, []);
});

Deno.test("input: what names no several locks, or one of them in two ways, is refused", async () => {
  const { backend, sent } = untouchable();
  for (const [value, error, says] of BAD_TARGETS) {
    assertThrows(() => lock(value, { backend }), error, says);
    await assertRejects(() => Lock.acquire(value, { backend }), error, says);
    const wrapped = lock(() => value, { backend })(() => "ran");
    await assertRejects(() => wrapped(), error, says.replace("'identifier", "'identifier(...)"));
  }
  // The key of a long identifier names the same lock, which shows when the keys are known.
  const long = "long ".repeat(200);
  const targets = [{ identifier: long, mode: "shared" }, {
    identifier: await keyOf(long),
    limit: 2,
  }] as const;
  await assertRejects(() => Lock.acquire(targets, { backend }), TypeError, "is named twice");
  assertEquals(sent, []);
});

Deno.test("input: bad options are refused", async () => {
  const { backend, sent } = untouchable();
  for (const [options, error, says] of BAD_OPTIONS) {
    const isBag = Object.prototype.toString.call(options) === "[object Object]";
    const all = isBag ? { backend, ...options } : options;
    assertThrows(() => lock("x", all), error, says);
    await assertRejects(() => Lock.acquire("x", all), error, says);
  }
  assertEquals(sent, []);
});

/** Every function that takes options; those first that load something on the way, in which others would go on. */
const TAKERS: Record<string, (options: Anything) => unknown> = {
  memoryBackend: (options) => memoryBackend(options),
  kvBackend: (options) => kvBackend(KV, options),
  redisBackend: (options) => redisBackend(REDIS, options),
  datastoreBackend: (options) => datastoreBackend(DATASTORE, options),
  lock: (options) => lock("x", options),
  "Lock.acquire": (options) => Lock.acquire("x", options),
  locks: (options) => locks(options),
  forceRelease: (options) => forceRelease("x", options),
  cleanup: (options) => cleanup(options),
  cleanupHandler: (options) => cleanupHandler(options),
  registerCleanup: (options) => registerCleanup(options),
  adminHandler: (options) => adminHandler(options),
  instrument: (options) => instrument({ metrics }, options).stop(),
  LockBackendError: (options) => new LockBackendError("the store is out", options),
  testBackend: (options) => testBackend(options),
};

/** What those take that take no backend, or more. */
const OWN: Record<string, Anything> = {
  registerCleanup: { signal: AbortSignal.abort() },
  instrument: {},
  LockBackendError: {},
  memoryBackend: {},
  kvBackend: {},
  redisBackend: {},
  datastoreBackend: { projectId: "demo" },
  testBackend: { name: "none", test() {}, open() {} },
};

/** What the options of all of them are called, except `name` and `label`, which much else is called, too. */
const OPTIONS =
  "mode limit permits wait waitForMs stealAfterMs kind leaseMs renew signal backend prefix olderThanMs onProgress " +
  "fencingToken authorize title refreshMs schedule identifiers transient identifier store skewMs databaseId " +
  "namespace entityKind pollMs timeoutMs stretch limitMs deviations skip";

const KV = Object.fromEntries(
  ["get", "getMany", "atomic", "watch", "list"].map((name) => [name, () => {}]),
) as Anything;
const REDIS = Object.fromEntries([
  ...["evalsha", "eval", "call", "duplicate", "on", "off"].map((name) => [name, () => {}]),
  ...[["options", {}], ["status", "wait"]],
]) as Anything;
const DATASTORE = Object.fromEntries(
  ["lookup", "runQuery", "beginTransaction", "commit", "rollback"].map((name) => [name, () => {}]),
) as Anything;

Deno.test("input: no option is obeyed that an object only inherits", async () => {
  const backend = memoryBackend();
  const obeyed: string[] = [];
  let taker = "";
  for (const name of OPTIONS.split(" ")) {
    Object.defineProperty(Object.prototype, name, {
      configurable: true,
      get: () => void obeyed.push(`${taker}: ${name}`),
      set(value) {
        Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true });
      },
    });
  }
  const pending: unknown[] = [];
  try {
    for (const [name, take] of Object.entries(TAKERS)) {
      taker = name;
      const own = OWN[name] ?? { backend };
      try {
        pending.push(take(own));
      } catch (error) {
        obeyed.push(`${name}: ${error}`);
      }
    }
  } finally {
    for (const name of OPTIONS.split(" ")) delete (Object.prototype as Anything)[name];
  }
  for (const made of await Promise.all(pending)) if (made instanceof Lock) await made.release();
  assertEquals(obeyed, []);
  // An eviction that no caller asked for, and a caller that meant to wait: both would bail or steal.
  const held = await lock("y", { backend }).acquire();
  const bare = Object.assign(Object.create({ stealAfterMs: 0, wait: false, signal: AbortSignal.abort() }), {
    backend,
  });
  const waiting = lock("y", bare).acquire();
  await held.release();
  await (await waiting).release();
  assertEquals(held.signal.aborted, false);
});

Deno.test("input: no text of others commands the terminal that shows an error or a lock", async () => {
  const evil = "a\x1b[2J\x9b\u202e\u2028\u{e0041}\n";
  const backend = memoryBackend();
  const failing = memoryBackend();
  Object.assign(failing, { read: () => Promise.reject(evil), commit: () => Promise.reject(new Error(evil)) });
  await using held = await lock(evil, { backend, label: evil }).acquire();
  const bad = [{ [evil]: 1 }, { kind: evil }, { wait: Symbol(evil) }, {
    wait: { [Symbol.toStringTag]: evil },
  }];
  const texts = await Promise.all([
    () => lock(evil, { backend, wait: false }).acquire(),
    () => lock(evil, { backend: failing, wait: false }).acquire(),
    () => configure({ [evil]: backend } as Anything),
    ...bad.map((options) => () => lock("x", options as Anything)),
  ].map(async (act) => {
    try {
      await act();
    } catch (error) {
      return (error as Error).message;
    }
  }));
  for (const text of [...texts, `${held}`, Deno.inspect(held)]) {
    assert(
      text!.includes("\\u001b[2J\\u009b\\u202e\\u2028\\udb40\\udc41\\n") || text!.includes("\\u000a"),
      text,
    );
    assert(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text!), text);
  }
});

Deno.test("input: an identifier may have any length and any characters, and each is a separate lock", async () => {
  const backend = memoryBackend();
  const long = "é".repeat(5000);
  const names = [long, `${long}.`, `${long}!`, "x", "X", " x", "\0", "a/b:{c}", "🔒", "__proto__"];
  const held = await Promise.all(names.map((name) => Lock.acquire(name, { backend, wait: false })));
  for (const [i, lock] of held.entries()) {
    assertEquals([lock?.identifier, lock?.held], [names[i], true]);
    assertEquals(await Lock.acquire(names[i], { backend, wait: false }), null);
  }
  const keys: string[] = [];
  for await (const { key } of backend.list("")) keys.push(key);
  // What a listing shows of a long one names the same lock again.
  for (const key of keys) {
    assert(new TextEncoder().encode(key).length < 600);
    assertEquals(await Lock.acquire(key, { backend, wait: false }), null);
  }
  for (const lock of held) assert(await lock?.release());
});

Deno.test("input: the bounds themselves are accepted", async () => {
  const backend = memoryBackend();
  const bounds: LockOptions[] = [
    { leaseMs: 100 },
    { leaseMs: 2 ** 31 - 1, waitForMs: 2 ** 31 - 1, stealAfterMs: 2 ** 31 - 1 },
    { waitForMs: 0, stealAfterMs: 0 },
    { label: "x".repeat(128) },
    { limit: 1, permits: 1 },
    { limit: 1_000_000, permits: 1_000_000 },
    { mode: "exclusive", limit: undefined },
    { mode: "shared", limit: undefined, permits: undefined },
    { wait: undefined, waitForMs: undefined, signal: undefined, label: undefined, kind: undefined },
  ];
  for (const options of bounds) {
    const held = await Lock.acquire("x", { backend, ...options });
    assert(await held?.release());
  }
});

Deno.test("input: an upgrade refuses bad options, and a signal that has aborted", async () => {
  const backend = memoryBackend();
  const held = await lock("x", { backend, mode: "shared" }).acquire();
  const { fencingToken } = held;
  const bad: [Anything, typeof TypeError, string][] = [
    [null, TypeError, "Cannot upgrade: options must be an object"],
    [{ stealAfterMs: 5 }, TypeError, "there is no option 'stealAfterMs', only wait, waitForMs, signal"],
    [{ wait: 1 }, TypeError, "'wait' must be true or false, current value is 1"],
    [{ waitForMs: -1 }, RangeError, "'waitForMs' must be a whole number"],
    [{ signal: {} }, TypeError, "'signal' must be an AbortSignal"],
  ];
  for (const [options, error, says] of bad) await assertRejects(() => held.upgrade(options), error, says);
  const reason = new Error("not today");
  assertEquals(await assertRejects(() => held.upgrade({ signal: AbortSignal.abort(reason) })), reason);
  assertEquals([held.mode, held.fencingToken], ["shared", fencingToken]);
  await held.release();
});

/** What each call says that it cannot do; with an option that is bad, and what it has besides. */
const CALLS: [
  says: string,
  call: (bad: Anything, held: Lock) => unknown,
  options: string,
  also?: Anything,
][] = [
  ["lock", (bad) => lock("x", bad), "wait waitForMs leaseMs kind signal label limit mode permits onTaken"],
  ["lock", (bad) => Lock.acquire("x", bad), "stealAfterMs holdAtLeastMs renew reentrant"],
  ["upgrade", (bad, held) => held.upgrade(bad), "wait waitForMs signal"],
  ["extend", ({ leaseMs }, held) => held.extend(leaseMs), "leaseMs"],
  ["hand over", (bad, held) => held.handOver(bad), "leaseMs"],
  ["restore", (bad, held) => restoreAnew(bad, held), "leaseMs renew signal label"],
  ["look at a lock", (bad) => peek("x", bad), "kind"],
  ["observe a lock", (bad) => observe("x", bad), "kind signal"],
  ["list locks", (bad) => locks(bad), "kind prefix"],
  ["force a release", (bad) => forceRelease("x", bad), "kind fencingToken"],
  ["release all locks", (bad) => releaseAll(bad), "signal timeoutMs"],
  ["release on exit", (bad) => releaseOnExit(bad), "timeoutMs signals"],
  ["clean up", (bad) => cleanup(bad), "kind signal prefix olderThanMs onProgress"],
  ["register the cleanup", (bad) => registerCleanup(bad), "kind prefix olderThanMs schedule name"],
  ["make a handler", (bad) => cleanupHandler(bad), "kind prefix olderThanMs", { authorize: () => true }],
  ["serve the admin page", (bad) => adminHandler(bad), "kind title refreshMs"],
  ["make a lock manager", (bad) => webLocks(memoryBackend(), bad), "prefix leaseMs waitForMs label"],
  ["request a lock", (bad) => webLocks(memoryBackend()).request("x", bad, () => {}), "mode signal waitForMs"],
];

async function restoreAnew(options: Anything, held: Lock): Promise<unknown> {
  const { backend } = holdOf(held).lock.store;
  const other = await lock(crypto.randomUUID(), { backend }).acquire();
  return Lock.restore(await other.handOver(), options);
}

/** What a call says. */
async function refusalOf(call: () => unknown): Promise<string> {
  try {
    const made = await call();
    return `${made}`;
  } catch (error) {
    return (error as Error).message;
  }
}

Deno.test("input: what is bad is refused in the name of the call that it was for", async () => {
  const held = await lock("x", { backend: memoryBackend(), mode: "shared" }).acquire();
  for (const [says, call, options, also] of CALLS) {
    for (const option of options.split(" ")) {
      const said = await refusalOf(() => call({ [option]: { bad: true }, ...also }, held));
      const rule = `Cannot ${says}: '${option}' must `;
      assert(said.startsWith(rule) && said.endsWith("current value is [object Object]"), `${rule} / ${said}`);
    }
    if (says === "extend") continue;
    const unknown = await refusalOf(() => call({ unheardOf: 1 }, held));
    // The standard lets options pass that it does not know.
    if (says !== "request a lock") {
      assert(unknown.startsWith(`Cannot ${says}: there is no option 'unh`), unknown);
    }
  }
  const named: [string, () => unknown][] = [
    ["look at a lock", () => peek("")],
    ["observe a lock", () => observe("")],
    ["force a release", () => forceRelease("")],
    ["find the current lock", () => currentLock("")],
  ];
  for (const [says, call] of named) {
    const rule = `Cannot ${says}: 'identifier' must be a non-empty string`;
    assertEquals(await refusalOf(call), `${rule}, current value is ""`);
  }
  await held.release();
});

Deno.test("input: an aborted signal sends nothing and rejects with its reason", async () => {
  const { backend, sent } = untouchable();
  const reason = new Error("not today");
  const options = { backend, signal: AbortSignal.abort(reason) };
  for (
    const form of [
      () => Lock.acquire("x", options),
      () => lock("x", options).acquire(),
      () => lock("x", options).run(() => "ran"),
      () => lock("x", options)(() => "ran")(),
    ]
  ) assertEquals(await assertRejects(form), reason);
  assertEquals(sent, []);
});

Deno.test("input: what is wrapped, run or decorated must be a function", async () => {
  const { backend, sent } = untouchable();
  const forms = lock("x", { backend }) as Anything;
  assertThrows(() => forms("fn"), TypeError, `lock takes a function, current value is "fn"`);
  assertThrows(() => forms(class {}, { kind: "class" }), TypeError, "decorates methods only, not a class");
  assertThrows(() => forms(() => {}, { kind: "getter" }), TypeError, "decorates methods only, not a getter");
  await assertRejects(() => forms.run(5), TypeError, "it takes a function, current value is 5");
  const named = lock(() => "x", { backend }) as Anything;
  await assertRejects(() => named.run(() => {}), TypeError, "must be a string for run and acquire");
  await assertRejects(() => named.acquire(), TypeError, "must be a string for run and acquire");
  assertThrows(() => new (Lock as Anything)(), TypeError, "acquire one");
  assertEquals(sent, []);
});

Deno.test("input: a generator cannot run under a lock that is gone before its first step", () => {
  assertThrows(
    () => lock("x")(function* () {}),
    TypeError,
    "a generator would run after its lock is released",
  );
  assertThrows(() => lock("x")(async function* () {}), TypeError, "a generator would run after");
});

Deno.test("input: kvBackend refuses what is not a database, and bad options", async () => {
  assertThrows(() => kvBackend(undefined as Anything), TypeError, "'kv' must be a Deno KV database");
  assertThrows(
    () => kvBackend(Promise.resolve() as Anything),
    TypeError,
    "lacks 'get': a promise (is an await missing?)",
  );
  const kv = await Deno.openKv(":memory:");
  for (const prefix of [[], "locks", [null], [{}], [NaN]] as Anything[]) {
    assertThrows(
      () => kvBackend(kv, { prefix }),
      TypeError,
      "'prefix' must be a non-empty array of key parts",
    );
  }
  for (const skewMs of [-1, 0.5, NaN, Infinity, 60_001, "5"] as Anything[]) {
    assertThrows(() => kvBackend(kv, { skewMs }), RangeError, "'skewMs' must be a whole number");
  }
  assertThrows(() => kvBackend(kv, { prefix: [null] as Anything }), TypeError, "current value is [null]");
  assertThrows(
    () => kvBackend(kv, { prefix: ["x".repeat(513)] }),
    RangeError,
    "at most 512 bytes, it has 513",
  );
  assertThrows(() => kvBackend(kv, { perfix: ["x"] } as Anything), TypeError, "there is no option 'perfix'");
  assertThrows(() => kvBackend(kv, null as Anything), TypeError, "options must be an object");
  assertThrows(() => memoryBackend(null as Anything), TypeError, "options must be an object");
  assertThrows(() => memoryBackend({ stor: 1 } as Anything), TypeError, "there is no option 'stor'");
  assertThrows(() => memoryBackend({ store: {} as Anything }), TypeError, "'store' must be a MemoryStore");
  kv.close();
});

Deno.test("input: commitIfHeld refuses what is not a lock on Deno KV", async () => {
  const kv = await Deno.openKv(":memory:");
  const backend = kvBackend(kv);
  await assertRejects(() => commitIfHeld({} as Anything, () => {}), TypeError, "'held' must be a held Lock");
  await assertRejects(
    () => commitIfHeld(null as Anything, () => {}),
    TypeError,
    "'held' must be a held Lock",
  );
  const elsewhere = await lock("x", { backend: memoryBackend() }).acquire();
  await assertRejects(() => commitIfHeld(elsewhere, () => {}), TypeError, "it is on another one");
  await elsewhere.release();
  const held = await lock("x", { backend }).acquire();
  await assertRejects(() => commitIfHeld(held, 5 as Anything), TypeError, "'build' must be a function");
  await held.release();
  kv.close();
});

Deno.test("input: callers of a long identifier are served in the order of their calls", async () => {
  const backend = memoryBackend();
  const identifier = "🔒".repeat(300);
  const served: number[] = [];
  // A pool of threads makes the hashes; here the last that was asked for comes first.
  const { digest } = crypto.subtle;
  const asked: (() => void)[] = [];
  crypto.subtle.digest = async (...args: Parameters<typeof digest>) => {
    await new Promise<void>((resolve) => asked.unshift(resolve));
    return await digest.apply(crypto.subtle, args);
  };
  try {
    const calls = Array.from(
      { length: 100 },
      (_, i) => lock(identifier, { backend }).run(() => void served.push(i)),
    );
    while (asked.length > 0) {
      asked.shift()!();
      await delay(0);
    }
    await Promise.all(calls);
  } finally {
    crypto.subtle.digest = digest;
  }
  assertEquals(served, Array.from({ length: 100 }, (_, i) => i));
});
