// Bad input is refused with the option, the rule and the value, before anything is sent.
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { metrics } from "@opentelemetry/api";
import { adminHandler } from "../admin.ts";
import { datastoreBackend } from "../backends/datastore.ts";
import { commitIfHeld, kvBackend } from "../backends/kv.ts";
import { memoryBackend } from "../backends/memory.ts";
import { redisBackend } from "../backends/redis.ts";
import { cleanup, cleanupHandler, registerCleanup } from "../cron.ts";
import { instrument } from "../otel.ts";
import { testBackend } from "../testing.ts";
import { decode } from "../core/record/codec.ts";
import { freeze } from "../testing/probe.ts";
import { delay } from "@std/async";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import {
  type Change,
  type CommitResult,
  configure,
  forceRelease,
  Lock,
  lock,
  LOCK_KINDS,
  LockAcquisitionError,
  type LockBackend,
  LockBackendError,
  type LockOptions,
  locks,
} from "../mod.ts";

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

const BAD_OPTIONS: [options: Anything, error: typeof TypeError | typeof RangeError, says: string][] = [
  [null, TypeError, "options must be an object, current value is null"],
  ["fast", TypeError, `options must be an object, current value is "fast"`],
  [{ leaseMS: 5 }, TypeError, "there is no option 'leaseMS'"],
  [{ toString: 5 }, TypeError, "there is no option 'toString'"],
  [[], TypeError, "options must be an object, current value is [object Array]"],
  [{ wait: "no" }, TypeError, `'wait' must be true or false, current value is "no"`],
  [{ renew: 1 }, TypeError, "'renew' must be true or false, current value is 1"],
  [
    { kind: "medium" },
    TypeError,
    `'kind' must be LOCK_KINDS.STRONG or LOCK_KINDS.WEAK, current value is "medium"`,
  ],
  [{ label: 5 }, TypeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: "" }, RangeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: "x".repeat(129) }, RangeError, "'label' must be a string of 1 to 128 characters"],
  [{ label: LONE }, RangeError, "without lone surrogates"],
  [{ signal: {} }, TypeError, "'signal' must be an AbortSignal, current value is [object Object]"],
  [{ signal: new AbortController() }, TypeError, "'signal' must be an AbortSignal"],
  [{ backend: {} }, TypeError, "Cannot use 'backend': it must be a lock backend"],
  [{ backend: null }, TypeError, "such as kvBackend(kv), current value is null"],
  [{ backend: 5 }, TypeError, "such as kvBackend(kv), current value is 5"],
  [{ backend: new Map() }, TypeError, "lacks 'read': [object Map]"],
  ...(["waitForMs", "stealAfterMs", "leaseMs"] as const).flatMap((option) => {
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
  "wait waitForMs stealAfterMs kind leaseMs renew signal backend prefix olderThanMs onProgress " +
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
  // A thief that nobody asked for, and a caller who meant to wait: both would bail or steal.
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

Deno.test("input: an identifier may have any length and any characters, and each is a lock of its own", async () => {
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
    { wait: undefined, waitForMs: undefined, signal: undefined, label: undefined, kind: undefined },
  ];
  for (const options of bounds) {
    const held = await Lock.acquire("x", { backend, ...options });
    assert(await held?.release());
  }
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
  assertThrows(() => forms({}, "method", {}), TypeError, "without 'experimentalDecorators'");
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

Deno.test("input: a reason that looks like a refusal is still the reason", async () => {
  const reason = new LockAcquisitionError("another", 5, []);
  const backend = memoryBackend();
  const held = await lock("x", { backend }).acquire();
  for (const signal of [AbortSignal.abort(reason), undefined]) {
    const ending = new AbortController();
    const options = { backend, signal: signal ?? ending.signal };
    const outcomes = [
      Lock.acquire("x", options),
      lock("x", options)(() => "ran")(),
      lock("x", options).run(() => "ran"),
    ].map((outcome) => assertRejects(() => outcome));
    ending.abort(reason);
    assertEquals(await Promise.all(outcomes), [reason, reason, reason]);
  }
  await held.release();
});

Deno.test("input: a signal by shape is enough, and carries one listener for all who wait", async () => {
  const real = new AbortController();
  let listening = 0;
  let most = 0;
  const signal = {
    get aborted() {
      return real.signal.aborted;
    },
    get reason() {
      return real.signal.reason;
    },
    addEventListener(...args: Parameters<AbortSignal["addEventListener"]>) {
      most = Math.max(most, ++listening);
      real.signal.addEventListener(...args);
    },
    removeEventListener(...args: Parameters<AbortSignal["removeEventListener"]>) {
      listening--;
      real.signal.removeEventListener(...args);
    },
  } as AbortSignal;
  const backend = memoryBackend();
  const held = await lock("x", { backend, signal }).acquire();
  assertEquals(listening, 0);
  const waiting = Array.from({ length: 20 }, () => lock("x", { backend, signal }).acquire());
  await delay(0);
  assertEquals([listening, most], [1, 1]);
  real.abort("enough");
  assertEquals(
    (await Promise.allSettled(waiting)).map((outcome) => outcome.status),
    Array(20).fill("rejected"),
  );
  assertEquals(listening, 0);
  await held.release();
});

Deno.test("input: a silent store is not a taken lock, not even behind another who waits for it", async () => {
  const backend = memoryBackend();
  const over = new LockBackendError("the test is over");
  const ends: (() => void)[] = [];
  let ended = false;
  const never = () => new Promise<never>((_, reject) => ended ? reject(over) : ends.push(() => reject(over)));
  const silent = { ...backend, read: never, commit: never };
  const leaseMs = 300;
  const outcomes = await Promise.allSettled([
    lock("x", { backend: silent, leaseMs }).acquire(),
    Lock.acquire("x", { backend: silent, leaseMs, wait: false }),
    lock("x", { backend: silent, leaseMs, wait: false })(() => "ran")(),
    Lock.acquire("x", { backend: silent, leaseMs, waitForMs: 50 }),
  ]);
  for (const outcome of outcomes) {
    assert(outcome.status === "rejected");
    assertInstanceOf(outcome.reason, LockBackendError);
  }
  ended = true;
  for (const end of ends) end();
  await delay(0);
});

/** Waits while nothing else keeps the process alive: a held lock does not. */
async function alive(event: Promise<unknown>): Promise<void> {
  const timer = setInterval(() => {}, 1000);
  await event.finally(() => clearInterval(timer));
}

Deno.test("input: a store that answers late, but within the lease, keeps the lock and takes it back", async () => {
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

Deno.test("input: a renewal that hangs keeps nobody from being told at the lease's end", async () => {
  const store = memoryBackend();
  const hanging = Promise.withResolvers<never>();
  let hangs = false;
  const silent: LockBackend = {
    ...store,
    commit: (changes) => hangs ? hanging.promise : store.commit(changes),
  };
  const told: string[] = [];
  const onFailure = () => told.push("failure");
  subscribe("holdfast:backend-error", onFailure);
  const held = await lock("x", { backend: silent, leaseMs: 100 }).acquire();
  hangs = true;
  await alive(new Promise((resolve) => held.signal.addEventListener("abort", resolve)));
  told.push("loss");
  // The renewal is given up long after that.
  hanging.reject(new LockBackendError("the test is over"));
  await delay(0);
  unsubscribe("holdfast:backend-error", onFailure);
  assertEquals(told, ["loss", "failure"]);
});

Deno.test("input: a store that throws at once fails by name, to acquire and to release, and holds up nobody", async () => {
  let broken = true;
  const backend = committing((apply) => {
    if (broken) throw new Error("no such table");
    return apply();
  });
  const failed = async (attempt: Promise<unknown>, doing: string) => {
    const error = await assertRejects(() => attempt, LockBackendError);
    assertEquals(error.message, `Cannot ${doing} lock "report": no such table`);
    assertEquals([error.identifier, error.transient], ["report", false]);
  };
  await failed(Lock.acquire("report", { backend }), "acquire");
  broken = false;
  const held = await lock("report", { backend, leaseMs: 100 }).acquire();
  broken = true;
  await failed(held.release(), "release");
  broken = false;
  // The record still names the holder, until its lease has run out.
  const next = await lock("report", { backend }).acquire();
  assertEquals(await next.release(), true);
});

/** A memory backend whose commits are made by `commit`. */
function committing(commit: (apply: () => Promise<CommitResult>) => Promise<CommitResult>): LockBackend {
  const backend = memoryBackend();
  const apply = backend.commit.bind(backend);
  return Object.assign(backend, { commit: (changes: readonly Change[]) => commit(() => apply(changes)) });
}

Deno.test("input: a release that throws when it has done its work has released", async () => {
  let throwing = false;
  const backend = committing((apply) => {
    const done = apply();
    if (!throwing) return done;
    throwing = false;
    throw new LockBackendError("no answer", { transient: true });
  });
  const held = await lock("report", { backend }).acquire();
  const { signal } = held;
  throwing = true;
  assertEquals([await held.release(), signal.aborted], [true, false]);
});

Deno.test("input: a release that fails for good is told at once, by its first cause", async () => {
  let failures = 0;
  let failing = false;
  const backend = committing((apply) => failing ? Promise.reject(new Error(`full ${++failures}`)) : apply());
  const held = await lock("report", { backend }).acquire();
  failing = true;
  const error = await assertRejects(() => held.release(), LockBackendError);
  assertEquals([error.message, failures], ['Cannot release lock "report": full 1', 1]);
});

Deno.test("input: a store that answers with no promise fails by name, once", async () => {
  let broken = false;
  const backend = committing((apply) => broken ? undefined as Anything : apply());
  const held = await lock("report", { backend }).acquire();
  broken = true;
  await assertRejects(() => held.release(), LockBackendError, 'Cannot release lock "report"');
  await assertRejects(
    () => lock("other", { backend }).acquire(),
    LockBackendError,
    'Cannot acquire lock "other"',
  );
});

Deno.test("input: a store that throws at once fails all of the thousands who wait, and sends nothing for them", async () => {
  let broken = false;
  let sent = 0;
  const backend = committing((apply) => {
    if (broken) throw new Error("no such table");
    sent++;
    return apply();
  });
  const held = await lock("report", { backend, leaseMs: 100, renew: false }).acquire();
  const waiting = Array.from({ length: 3000 }, () => lock("report", { backend }).acquire());
  broken = true;
  const outcomes = await Promise.allSettled(waiting);
  assertEquals(new Set(outcomes.map(({ status }) => status)), new Set(["rejected"]));
  await assertRejects(() => lock("other", { backend, wait: false }).acquire(), LockBackendError);
  assertEquals(sent, 1);
  await held.release();
});

Deno.test("input: who is frozen just after it has read the time does not believe to hold what others see lapse", async () => {
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
    const [{ expiresAt }] = decode(key, value).holders;
    assertEquals([held.held, expiresAt > now()], [true, true]);
  };
  freezing = true;
  const held = await lock("report", { backend, leaseMs }).acquire();
  await agrees(held);
  const heir = lock("report", { backend, leaseMs }).acquire();
  freezing = true;
  await held.release();
  await agrees(await heir);
  await (await heir).release();
});

Deno.test("input: a silent store is called by its name", async () => {
  const hanging = Promise.withResolvers<never>();
  const never = () => hanging.promise;
  const backend: LockBackend = {
    ...memoryBackend(),
    name: "Somestore at 10.0.0.5:1",
    read: never,
    commit: never,
  };
  const acquire = () => Lock.acquire("x", { backend, leaseMs: 100, waitForMs: 50 });
  await assertRejects(acquire, LockBackendError, "Somestore at 10.0.0.5:1 did not answer");
  hanging.reject(new LockBackendError("the test is over"));
  await delay(0);
});

Deno.test("input: configure takes backends only", () => {
  assertThrows(() => configure(null as Anything), TypeError, "it takes { strong, weak }");
  assertThrows(() => configure({ strong: {} as Anything }), TypeError, "Cannot use 'strong'");
  assertThrows(() => configure({ fast: memoryBackend() } as Anything), TypeError, "there is no kind 'fast'");
});

Deno.test("input: a refused configure changes nothing", async () => {
  const strong = memoryBackend();
  try {
    configure({ strong });
    assertThrows(() => configure({ strong: memoryBackend(), weak: {} as Anything }), TypeError, "'weak'");
    await using held = await lock("x").acquire();
    assertEquals(await Lock.acquire("x", { backend: strong, wait: false }), null);
    assert(held.held);
  } finally {
    configure({ strong: undefined });
  }
});

Deno.test("input: WEAK uses the strong backend until a weak one is configured", async () => {
  try {
    configure({ strong: memoryBackend() });
    const strong = await lock("x").acquire();
    const options = { kind: LOCK_KINDS.WEAK, wait: false };
    assertEquals(await Lock.acquire("x", options), null);
    configure({ weak: memoryBackend() });
    const weak = await Lock.acquire("x", options);
    assertEquals(weak?.kind, LOCK_KINDS.WEAK);
    await weak?.release();
    await strong.release();
  } finally {
    configure({ strong: undefined, weak: undefined });
  }
});

Deno.test("input: kvBackend refuses what is not a database, and bad options", async () => {
  assertThrows(() => kvBackend(undefined as Anything), TypeError, "'kv' must be a Deno KV database");
  assertThrows(() => kvBackend(Promise.resolve() as Anything), TypeError, "lacks 'get': [object Promise]");
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

Deno.test("input: a closed database is a failure of the store, never a taken lock", async () => {
  const kv = await Deno.openKv(":memory:");
  const backend = kvBackend(kv);
  const held = await lock("held", { backend }).acquire();
  kv.close();
  for (
    const form of [
      () => Lock.acquire("x", { backend, wait: false }),
      () => lock("x", { backend, waitForMs: 50 }).run(() => "ran"),
      () => lock("x", { backend, wait: false })(() => "ran")(),
      () => held.release(),
      () => commitIfHeld(held, (atomic) => atomic.set(["x"], 1)),
    ]
  ) {
    const error = await assertRejects(form, LockBackendError, "the Deno KV database is closed");
    assert(error.identifier === "x" || error.identifier === "held");
    assertInstanceOf(error.cause, LockBackendError);
    assertInstanceOf(error.cause.cause, Error);
  }
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
