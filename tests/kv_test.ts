// What is particular to Deno KV. What every backend must do is in the conformance suite.
import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld, type KvAtomic, kvBackend, type KvDatabase } from "../backends/kv.ts";
import type { Entry } from "../core/backend.ts";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { DatabaseSync } from "node:sqlite";
import { cleanup } from "../core/operators/cleanup.ts";
import { forceRelease, Lock, lock, LockBackendError, LockLostError, locks } from "../mod.ts";

/** A database in memory that ends with the test. */
function withKv(fn: (kv: Deno.Kv) => Promise<void>): () => Promise<void> {
  return async () => {
    const kv = await Deno.openKv(":memory:");
    try {
      await fn(kv);
    } finally {
      kv.close();
    }
  };
}

/** The same database, with some of its methods replaced. */
function like(kv: Deno.Kv, changed: Partial<KvDatabase>): KvDatabase {
  const bound: Record<string, unknown> = {};
  for (const name of ["get", "getMany", "list", "atomic", "watch"] as const) bound[name] = kv[name].bind(kv);
  return { ...bound, ...changed } as unknown as KvDatabase;
}

async function recordOf(kv: Deno.Kv, key: Deno.KvKey): Promise<unknown> {
  const { value } = await kv.get<Uint8Array>(key);
  return value === null ? null : JSON.parse(new TextDecoder().decode(value));
}

Deno.test(
  "kv: a record is JSON in bytes under the prefix, which every runtime can read",
  withKv(async (kv) => {
    const backend = kvBackend(kv, { prefix: ["app", 7] });
    const held = await lock("a/b", { backend, label: "me" }).acquire();
    const { value } = await kv.get(["app", 7, "a/b"]);
    assert(value instanceof Uint8Array);
    const record = await recordOf(kv, ["app", 7, "a/b"]) as { v: number; holders: { label: string }[] };
    assertEquals([record.v, record.holders.map(({ label }) => label)], [1, ["me"]]);
    await held.release();
    assertEquals((await kv.get(["app", 7, "a/b"])).versionstamp, null);
  }),
);

Deno.test(
  "kv: different prefixes are different locks",
  withKv(async (kv) => {
    const one = await Lock.acquire("x", { backend: kvBackend(kv, { prefix: ["one"] }), wait: false });
    const two = await Lock.acquire("x", { backend: kvBackend(kv, { prefix: ["two"] }), wait: false });
    assert(one !== null && two !== null);
    await one.release();
    await two.release();
  }),
);

Deno.test(
  "kv: a busy database is asked again, for reads and commits alike",
  withKv(async (kv) => {
    let busy = 3;
    const maybe = () => {
      if (busy-- > 0) throw new TypeError("database is locked");
    };
    const backend = kvBackend(like(kv, {
      async get(key) {
        await Promise.resolve();
        maybe();
        return kv.get(key as Deno.KvKey);
      },
      atomic() {
        const atomic = kv.atomic();
        const commit = atomic.commit.bind(atomic);
        atomic.commit = async () => {
          await Promise.resolve();
          maybe();
          return commit();
        };
        return atomic as unknown as ReturnType<KvDatabase["atomic"]>;
      },
    }));
    const held = await Lock.acquire("x", { backend, wait: false });
    assert(held !== null);
    assertEquals(busy, -1);
    busy = 2;
    assertEquals(await Lock.acquire("x", { backend, wait: false }), null);
    busy = 2;
    assert(await held.release());
    assert(busy < 0);
  }),
);

Deno.test(
  "kv: a database that stays busy is a failure of the store that may pass",
  withKv(async (kv) => {
    const locked = () => Promise.reject(new TypeError("database is locked"));
    const backend = kvBackend(like(kv, { get: locked }));
    const error = await assertRejects(() => backend.read(["x"]), LockBackendError, "database is locked");
    assert(error.transient);
    const full = kvBackend(
      like(kv, { get: () => Promise.reject(new TypeError("database or disk is full")) }),
    );
    assert(!(await assertRejects(() => full.read(["x"]), LockBackendError, "disk is full")).transient);
  }),
);

Deno.test(
  "kv: foreign values among the locks: listings and cleanups say what they are, and go on",
  withKv(async (kv) => {
    const backend = kvBackend(kv);
    const held = await lock("job", { backend }).acquire();
    const foreign: Record<string, [value: unknown, shown: string]> = {
      "a number": [5, "number"],
      "a text": ["{}", "string"],
      "a counter": [new Deno.KvU64(5n), "KvU64"],
      "nothing": [undefined, "undefined"],
      "a map": [new Map(), "Map"],
      "bytes": [new Uint8Array([255, 0]), "\ufffd"],
    };
    for (const [key, [value]] of Object.entries(foreign)) await kv.set(["holdfast", key], value);
    const found = new Map<string, string | null>();
    for await (const { key, value, version } of backend.list("")) {
      assert(version !== null);
      found.set(key, value);
    }
    assertEquals(found.size, 7);
    for (const [key, [, shown]] of Object.entries(foreign)) assertStringIncludes(found.get(key)!, shown);
    const listed = await Array.fromAsync(locks({ backend }));
    const readable = listed.filter(({ unreadable }) => unreadable === undefined);
    assertEquals([listed.length, readable.map(({ identifier }) => identifier)], [7, ["job"]]);
    for (const [key, [value, shown]] of Object.entries(foreign)) {
      const { unreadable } = listed.find(({ identifier }) => identifier === key)!;
      // Bytes may be a record of ours that was damaged, and say nothing of themselves.
      const said = value instanceof Uint8Array
        ? "it is no JSON"
        : `it is a Deno KV value that is no record (`;
      assertStringIncludes(unreadable!, said);
      if (!(value instanceof Uint8Array)) assertStringIncludes(unreadable!, shown);
    }
    const { seen, live, unreadable } = await cleanup({ backend });
    assertEquals([seen, live, unreadable], [7, 1, 6]);
    for (const key of Object.keys(foreign)) {
      const error = await assertRejects(() => Lock.acquire(key, { backend }), LockBackendError, `"${key}"`);
      assertEquals(error.transient, false);
    }
    await held.release();
  }),
);

Deno.test("kv: values that this runtime cannot read hide nothing else from listings and cleanups", async () => {
  const path = await Deno.makeTempFile();
  const before = await Deno.openKv(path);
  const names = ["", "a", "b", "b\0", "bé", "bé\u{1f512}", "c", "\uffff\u{10ffff}"];
  const locks = Array.from({ length: 120 }, (_, i) => `job ${i}`);
  for (const name of names) await before.set(["holdfast", name], "foreign value");
  await before.set(["holdfast", "job 7", "below"], "foreign below");
  await before.set(["holdfast", 5], "foreign number");
  for (const key of locks) await kvBackend(before).commit([{ key, version: null, value: "{}" }]);
  before.close();
  // As if another runtime had written them, in a format that this one does not know.
  using database = new DatabaseSync(path);
  database.exec("UPDATE kv SET v = x'ff20aabb' WHERE instr(v, CAST('foreign ' AS BLOB)) > 0");
  const kv = await Deno.openKv(path);
  try {
    const backend = kvBackend(kv);
    for (const prefix of ["", "b", "job 7", "x"]) {
      const entries = await Array.fromAsync(backend.list(prefix));
      const expected = [...names, ...locks].filter((name) => name.startsWith(prefix));
      assertEquals(entries.map(({ key }) => key).sort(), expected.sort(), prefix);
      for (const { key, value } of entries) {
        assertEquals(value, locks.includes(key) ? "{}" : "a Deno KV value that this runtime cannot read");
      }
    }
    const error = await assertRejects(() => backend.read(["bé"]), LockBackendError);
    assertEquals(error.transient, false);
    assertStringIncludes(error.message, '"bé"');
  } finally {
    kv.close();
    await Deno.remove(path);
  }
});

Deno.test("kv: what a store may collect is collected", async () => {
  const path = await Deno.makeTempFile();
  const kv = await Deno.openKv(path);
  try {
    const backend = kvBackend(kv);
    await backend.commit([{ key: "x", version: null, value: "{}", expireInMs: 1 }]);
    // Deno KV sweeps once a minute, and whenever a handle is opened.
    let swept = false;
    for (let tries = 0; tries < 50 && !swept; tries++) {
      (await Deno.openKv(path)).close();
      swept = (await backend.read(["x"]))[0].version === null;
    }
    assert(swept);
  } finally {
    kv.close();
    for (const end of ["", "-wal", "-shm"]) await Deno.remove(path + end).catch(() => {});
  }
});

Deno.test(
  "kv: a holder does not poll where the database itself has no watch",
  withKv(async (kv) => {
    let polls = 0;
    const backend = kvBackend(like(kv, { get: (key) => (polls++, kv.get(key as Deno.KvKey)) }));
    const ending = new AbortController();
    const seen = backend.watch("x", { signal: ending.signal, idle: true })[Symbol.asyncIterator]();
    await seen.next();
    const later = seen.next();
    await delay(100);
    assertEquals(polls, 1);
    ending.abort();
    assertEquals(await later, { done: true, value: undefined });
  }),
);

Deno.test(
  "kv: a watch of the database's own shows what other processes do",
  withKv(async (kv) => {
    let polls = 0;
    const counting = like(kv, { get: (key) => (polls++, kv.get(key as Deno.KvKey)) });
    // Passes for a database of the runtime, whose watch is safe.
    Object.setPrototypeOf(counting, Deno.Kv.prototype);
    const backend = kvBackend(counting);
    const ending = new AbortController();
    const seen = backend.watch("x", { signal: ending.signal, idle: true })[Symbol.asyncIterator]();
    const next = async () => {
      const ended = new AbortController();
      const late = delay(5000, { signal: ended.signal }).then(() => Promise.reject(new Error("no news")));
      try {
        return (await Promise.race([seen.next(), late])).value as Entry;
      } finally {
        ended.abort();
        await late.catch(() => {});
      }
    };
    assertEquals((await next()).version, null);
    const elsewhere = kvBackend(kv);
    for (const value of ["1", "2"]) {
      const [{ version }] = await elsewhere.read(["x"]);
      await elsewhere.commit([{ key: "x", version, value }]);
      assertEquals((await next()).value, value);
    }
    assert(polls <= 5, `${polls} reads for three entries`);
    const later = seen.next();
    ending.abort();
    assertEquals(await later, { done: true, value: undefined });
  }),
);

Deno.test(
  "kv: commitIfHeld writes all of it, and says what the caller's own check came to",
  withKv(async (kv) => {
    const held = await lock("x", { backend: kvBackend(kv) }).acquire();
    const first = await commitIfHeld(held, (atomic) => atomic.set(["a"], 1).set(["b"], 2));
    assert(first.ok);
    assertEquals((await kv.getMany([["a"], ["b"]])).map(({ value }) => value), [1, 2]);
    const second = await commitIfHeld(held, (atomic) => {
      atomic.check({ key: ["a"], versionstamp: null }).delete(["b"]);
    });
    assertEquals(second, { ok: false });
    assertEquals((await kv.get(["b"])).value, 2);
    const third = await commitIfHeld(held, async (atomic) => {
      const { versionstamp } = await kv.get(["a"]);
      return atomic.check({ key: ["a"], versionstamp }).sum(["n"], 5n);
    });
    assert(third.ok);
    assertEquals((await kv.get<Deno.KvU64>(["n"])).value?.value, 5n);
    await held.release();
  }),
);

Deno.test(
  "kv: a commit under several locks is refused when any of them is lost",
  withKv(async (kv) => {
    const backend = kvBackend(kv);
    for (const stolen of ["x", "y"]) {
      const held = await lock(["x", "y"], { backend }).acquire();
      assert((await commitIfHeld(held, (atomic) => atomic.set(["n"], stolen))).ok);
      let stealer: Lock | undefined;
      const stale = async (atomic: KvAtomic) => {
        // Between the look at the records and the commit, where only the store can know.
        stealer ??= await lock(stolen, { backend: kvBackend(kv), stealAfterMs: 0 }).acquire();
        atomic.set(["n"], "stale");
      };
      await assertRejects(() => commitIfHeld(held, stale), LockLostError);
      assertEquals([(await kv.get(["n"])).value, await held.release()], [stolen, false]);
      assert(await stealer?.release());
    }
  }),
);

Deno.test(
  "kv: more locks at once than a commit can change are refused before anything is sent",
  withKv(async (kv) => {
    let sent = 0;
    const backend = kvBackend(like(kv, { atomic: () => (sent++, kv.atomic()) }));
    const names = ["a", "b", "c", "d", "e", "f"];
    await assertRejects(
      () => Lock.acquire(names, { backend }),
      RangeError,
      'Cannot lock "a, b, c, d, e, f" together: Deno KV can take 5 locks at once, not 6',
    );
    assertEquals(sent, 0);
    const held = await Lock.acquire(names.slice(1), { backend });
    assertEquals(held?.identifiers, names.slice(1));
    await held?.release();
  }),
);

Deno.test(
  "kv: what guarded commits leave behind is nothing that listings and cleanups read through",
  withKv(async (kv) => {
    let read = 0;
    const backend = kvBackend(like(kv, {
      async *list(selector, options) {
        for await (const entry of kv.list(selector as Deno.KvListSelector, options)) {
          read++;
          yield entry;
        }
      },
    }));
    const held = await lock("x", { backend }).acquire();
    for (let i = 0; i < 5; i++) assert((await commitIfHeld(held, (atomic) => atomic.set(["n"], i))).ok);
    const all = await Array.fromAsync(kv.list({ prefix: ["holdfast"] }));
    assertEquals(all.length, 6, "a record, and five receipts that will expire");
    for (const prefix of ["", "x"]) {
      read = 0;
      assertEquals((await Array.fromAsync(locks({ backend, prefix }))).length, 1);
      assertEquals(read, 1);
    }
    read = 0;
    const { seen, live } = await cleanup({ backend });
    assertEquals([seen, live, read], [1, 1, 1]);
    await held.release();
  }),
);

Deno.test(
  "kv: commitIfHeld builds once, however many renewals and waiters come before it has committed",
  withKv(async (kv) => {
    const record = async () =>
      await recordOf(kv, ["holdfast", "x"]) as { holders: { renewals: number }[]; queue?: string };
    const renewals = async () => (await record()).holders[0].renewals;
    const untilRenewed = async () => {
      for (const before = await renewals(); await renewals() === before;);
    };
    let tries = 0;
    const backend = kvBackend(like(kv, {
      atomic() {
        const atomic = kv.atomic();
        const [set, commit] = [atomic.set.bind(atomic), atomic.commit.bind(atomic)];
        let isGuarded = false;
        return Object.assign(atomic, {
          set(...args: Parameters<typeof set>) {
            isGuarded ||= args[0][0] === "done";
            return set(...args);
          },
          async commit() {
            // The record is another one than that which proved the hold.
            if (isGuarded && ++tries <= 2) await untilRenewed();
            return commit();
          },
        }) as unknown as ReturnType<KvDatabase["atomic"]>;
      },
    }));
    const held = await lock("x", { backend, leaseMs: 600 }).acquire();
    const ending = new AbortController();
    let waiting: Promise<unknown>;
    let builds = 0;
    const { ok } = await commitIfHeld(held, async (atomic) => {
      atomic.set(["done"], ++builds).sum(["times"], 1n);
      // For longer than it takes until the lock is renewed, and a process is queued.
      waiting = lock("x", { backend: kvBackend(kv), signal: ending.signal }).acquire();
      while ((await record()).queue === undefined);
      await untilRenewed();
      await untilRenewed();
    });
    assertEquals([ok, builds, tries], [true, 1, 3]);
    assertEquals((await kv.get(["done"])).value, 1);
    assertEquals((await kv.get<Deno.KvU64>(["times"])).value?.value, 1n);
    ending.abort();
    await assertRejects(() => waiting);
    await held.release();
  }),
);

Deno.test(
  "kv: what is wrong in a build is refused where it is built",
  withKv(async (kv) => {
    const held = await lock("x", { backend: kvBackend(kv) }).acquire();
    let line = "";
    const building = commitIfHeld(held, (atomic) => {
      try {
        atomic.set(["a"], 1, { expireIn: NaN });
      } catch (error) {
        line = `${error}`;
        throw error;
      }
    });
    await assertRejects(() => building, TypeError);
    assertStringIncludes(line, "TypeError");
    await held.release();
  }),
);

Deno.test(
  "kv: far away, a refusal may be an echo: it is no failure, and all that ask at once get the lock",
  withKv(async (kv) => {
    const failures: unknown[] = [];
    const note = (event: unknown) => void failures.push(event);
    subscribe("holdfast:backend-error", note);
    let refused = 0;
    /** A database of the runtime's own, half of `ms` away. */
    const away = (ms: number) => {
      const far = like(kv, {
        atomic() {
          const atomic = kv.atomic();
          const commit = atomic.commit.bind(atomic);
          atomic.commit = async () => {
            await delay(ms);
            const result = await commit();
            if (!result.ok) refused++;
            return result;
          };
          return atomic as unknown as ReturnType<KvDatabase["atomic"]>;
        },
      });
      return Object.setPrototypeOf(far, Deno.Kv.prototype);
    };
    try {
      const change = [{ key: "y", version: null, value: "{}" }];
      assert((await kvBackend(away(200)).commit(change)).ok);
      assertEquals(await kvBackend(away(200)).commit(change), { ok: false, mayBeEcho: true });
      assertEquals(await kvBackend(away(0)).commit(change), { ok: false });
      refused = 0;
      // Each in a separate process, as far as they know.
      await Promise.all(Array.from({ length: 6 }, async () => {
        const held = await lock("x", { backend: kvBackend(away(200)), leaseMs: 10_000 }).acquire();
        await held.release();
      }));
      assert(refused > 0);
      assertEquals(failures, []);
    } finally {
      unsubscribe("holdfast:backend-error", note);
    }
  }),
);

Deno.test(
  "kv: commitIfHeld writes nothing for a holder that has lost or released the lock, or whose build throws",
  withKv(async (kv) => {
    const backend = kvBackend(kv);
    const write = (held: Lock) => commitIfHeld(held, (atomic) => atomic.set(["a"], 1));
    const evicted = await lock("x", { backend }).acquire();
    const stealer = await lock("x", { backend: kvBackend(kv), stealAfterMs: 0 }).acquire();
    assertEquals((await assertRejects(() => write(evicted), LockLostError)).reason, "stolen");
    assert(evicted.signal.aborted && !evicted.held);
    const oops = new Error("oops");
    assertEquals(
      await assertRejects(() =>
        commitIfHeld(stealer, (atomic) => {
          atomic.set(["a"], 1);
          throw oops;
        })
      ),
      oops,
    );
    await stealer.release();
    assertEquals((await assertRejects(() => write(stealer), LockLostError)).reason, "released");
    const brief = await lock("x", { backend, leaseMs: 100, renew: false }).acquire();
    while (brief.held) await delay(10);
    assertEquals((await assertRejects(() => write(brief), LockLostError)).reason, "expired");
    await brief.release();
    assertEquals((await kv.get(["a"])).value, null);
  }),
);

Deno.test("kv: a closed database is a failure of the store, never a taken lock", async () => {
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

Deno.test("KV: commitIfHeld writes under several locks only while all of them are held", async () => {
  const kv = await Deno.openKv(":memory:");
  try {
    const backend = kvBackend(kv);
    const held = await lock(["a", { identifier: "rates", mode: "shared" }, "c"], { backend }).acquire();
    await commitIfHeld(held, (atomic) => atomic.set(["value"], "first"));
    await forceRelease("rates", { backend });
    await assertRejects(() => commitIfHeld(held, (atomic) => atomic.set(["value"], "second")), LockLostError);
    assertEquals((await kv.get(["value"])).value, "first");
    assertEquals(await held.release(), false);
  } finally {
    kv.close();
  }
});
