/** What the backend asks of the server: how often, in which words, and what it makes of failures. */

import {
  commitIfHeld,
  type DatastoreApi,
  datastoreBackend,
  type DatastoreBackendOptions,
  datastoreClient,
} from "@holdfast/lock/backends/datastore";
import { Lock, LockBackendError, LockLostError, locks } from "@holdfast/lock";
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { setTimeout } from "node:timers/promises";
import { queueKeyOf } from "../../core/identifier.ts";
import { encodeLock } from "../../core/record/codec.ts";
import { decodeLock } from "../../core/record/decode.ts";
import { assertCloses } from "../support/closing.ts";
// @deno-types="./hands.d.ts"
import { type Asked, handsOn } from "./hands.mjs";
import type { Call, TestServer } from "./test_server.ts";
import type { Workspace } from "./workspace.ts";

const projectId = "holdfast-rpcs";

/** One test's identifier and client, on the server with its log emptied. */
class Scene {
  readonly id = crypto.randomUUID();
  readonly server: TestServer;
  readonly client: DatastoreApi;

  constructor(server: TestServer, client: DatastoreApi) {
    this.server = server;
    this.client = client;
  }

  backend(options: Partial<DatastoreBackendOptions> = {}) {
    return datastoreBackend(this.client, { projectId, timeoutMs: 500, ...options });
  }

  /** The calls since the last time, as `method` or `commit:mutation,…`. */
  async calls(): Promise<string[]> {
    return (await this.server.calls()).map(shown);
  }

  /** An entity of the test's own. */
  key(name: string) {
    return { path: [{ kind: "Own", name: `${this.id}:${name}` }] };
  }
}

function shown({ method, mutations }: Call): string {
  return mutations === undefined ? method : `${method}:${mutations.join()}`;
}

const TESTS: Record<string, (scene: Scene) => Promise<void>> = {
  "a backend that is closed: what every backend does then": async (scene) => {
    await assertCloses({ open: () => scene.backend(), other: scene.backend() });
  },

  "a held lock costs nothing between its renewals": async (scene) => {
    const held = await Lock.acquire(scene.id, { backend: scene.backend() });
    await scene.calls();
    await setTimeout(1500);
    assertEquals(await scene.calls(), []);
    // With a listener it watches its own record, which begins with one look and costs no more.
    held?.signal.addEventListener("abort", () => {});
    await setTimeout(1500);
    assertEquals(await scene.calls(), ["lookup"]);
    await held?.release();
  },

  "a waiter that has seen the record takes a lapsed lease over in one call": async (scene) => {
    const value = deadRecord({ leaseMs: 1500, endsMs: Date.now() + 1500 });
    await scene.backend().commit([{ key: scene.id, version: null, value }]);
    await scene.calls();
    const held = await Lock.acquire(scene.id, { backend: scene.backend() });
    const calls = await scene.calls();
    // Tried, looked, queued; and then only looks at the lock's record until the claim, which ends the queue.
    assertEquals(calls.filter((call) => call !== "lookup"), [
      "commit:insert",
      "commit:upsert,insert",
      "commit:upsert,delete",
    ]);
    assertEquals(calls.at(-1), "commit:upsert,delete");
    await held?.release();
  },

  "a commit whose outcome is unknown is not repeated by the backend": async (scene) => {
    const backend = scene.backend();
    // A connection that has served before: on a new one nothing is ever sent twice.
    await backend.read([scene.id]);
    await scene.calls();
    for (const kind of ["reset", "unavailable after", "unavailable before", "lost"] as const) {
      const change = { key: scene.id + kind, version: null, value: "{}" };
      await scene.server.plan({ kind, method: "commit" });
      const error = await assertRejects(() => backend.commit([change]));
      assertInstanceOf(error, LockBackendError, kind);
      assertEquals(error.transient, true, kind);
      assert(error.message.includes(scene.server.host), error.message);
      assertEquals(await scene.calls(), ["commit:insert"], kind);
      const [{ value }] = await backend.read([change.key]);
      assertEquals(value, kind === "unavailable before" ? null : "{}", kind);
      await scene.calls();
    }
  },

  "an aborted commit, which did nothing, is asked for again": async (scene) => {
    await scene.server.plan({ kind: "aborted" }, { kind: "aborted" });
    const backend = scene.backend();
    assertEquals((await backend.commit([{ key: scene.id, version: null, value: "{}" }])).ok, true);
    assertEquals(await scene.calls(), ["commit:insert", "commit:insert", "commit:insert"]);
  },

  "a storm of aborts ends as a failure that may pass": async (scene) => {
    await scene.server.weather({ aborted: 1 });
    const backend = scene.backend();
    const commit = () => backend.commit([{ key: scene.id, version: null, value: "{}" }]);
    const error = await assertRejects(commit, LockBackendError).finally(() => scene.server.weather({}));
    assertEquals(error.transient, true);
  },

  "a refusal that is no conflict is reported, and ends": async (scene) => {
    const held = (await Lock.acquire(scene.id, { backend: scene.backend() }))!;
    await scene.server.plan(
      ...Array.from({ length: 100 }, () => ({ kind: "no index", method: "commit" } as const)),
    );
    await scene.calls();
    const error = await assertRejects(() => held.release(), LockBackendError, "no matching index found");
    assertEquals([error.transient, error.identifier], [false, scene.id]);
    assertEquals(await scene.calls(), ["commit:delete", "lookup"]);
    const refused = () => Lock.acquire(`${scene.id}+`, { backend: scene.backend() });
    await assertRejects(refused, LockBackendError, "no matching index found");
    // And looks whether anything is to be taken back.
    assertEquals((await scene.calls()).filter((call) => call !== "lookup"), ["commit:insert"]);
  },

  "a conflict is reported with what is there now": async (scene) => {
    const backend = scene.backend();
    const first = await backend.commit([{ key: scene.id, version: null, value: '"1"' }]);
    assert(first.ok);
    await backend.commit([{ key: scene.id, version: first.version, value: '"2"' }]);
    const late = await backend.commit([{ key: scene.id, version: first.version, value: '"3"' }]);
    assertEquals(late, { ok: false, entries: await backend.read([scene.id]) });
  },

  "a machine whose clock is an hour wrong writes leases by the server's": async (scene) => {
    const leaseMs = 60_000;
    for (const hours of [1, -1]) {
      const client = shifted(scene.client, hours * 3_600_000);
      const backend = datastoreBackend(client, { projectId });
      const id = `${scene.id} ${hours}`;
      await scene.calls();
      const held = await Lock.acquire(id, { backend, leaseMs });
      // The first commit contains the server's time; the lease is then written again before any caller holds.
      assertEquals(await scene.calls(), ["commit:insert", "lookup", "commit:upsert"]);
      const [entry] = await backend.read([id]);
      const [{ expiresAt }] = decodeLock(id, entry.value!).holders;
      const serverNow = Date.now() + hours * 3_600_000;
      const wrongMs = expiresAt! - leaseMs - serverNow;
      assert(Math.abs(wrongMs) < 10_000, `${wrongMs} ms off`);
      assertEquals(await held?.release(), true);
      await scene.calls();
      const again = await Lock.acquire(id, { backend });
      assertEquals(await scene.calls(), ["commit:insert"]);
      await again?.release();
    }
  },

  "an entity shows people what they want to know": async (scene) => {
    const held =
      (await Lock.acquire(scene.id, { backend: scene.backend(), leaseMs: 5000, label: "worker 3" }))!;
    const end = new AbortController();
    const waiting = Lock.acquire(scene.id, { backend: scene.backend(), signal: end.signal }).catch(() => {});
    // deno-lint-ignore no-explicit-any
    const look = async (name: string): Promise<Record<string, any>> => {
      const keys = [{ partitionId: { projectId }, path: [{ kind: "HoldfastLock", name }] }];
      // deno-lint-ignore no-explicit-any
      const [{ found }] = await scene.client.lookup({ projectId, keys }, { timeout: Infinity }) as any[];
      return found?.[0]?.entity?.properties ?? {};
    };
    let queue = await look(queueKeyOf(scene.id));
    while (queue.waiters?.integerValue !== "1") queue = await look(queueKeyOf(scene.id));
    const shown = await look(scene.id);
    assertEquals(shown.waiters, undefined);
    assertEquals([shown.holder.stringValue, shown.leaseMs.integerValue], ["worker 3", "5000"]);
    // What a TTL policy takes: a date and time, later than the lease.
    const msOf = (
      { timestampValue: { seconds, nanos } }: Record<string, { seconds: string; nanos?: number }>,
    ) => Number(seconds) * 1000 + (nanos ?? 0) / 1e6;
    assert(msOf(shown.since) < msOf(shown.leaseEnds) && msOf(shown.leaseEnds) < msOf(shown.garbageAt));
    assert(msOf(queue.garbageAt) > msOf(shown.leaseEnds));
    const properties = [...Object.values(shown), ...Object.values(queue)];
    assert(properties.every(({ excludeFromIndexes }) => excludeFromIndexes));
    end.abort();
    await waiting;
    await held.release();
  },

  "foreign entities among the locks: listings say what they are, and go on": async (scene) => {
    const backend = scene.backend({ namespace: scene.id });
    const held = (await Lock.acquire("job", { backend }))!;
    const partitionId = { projectId, databaseId: "", namespaceId: scene.id };
    const put = (name: string, properties: object) =>
      scene.client.commit({
        projectId,
        mode: "NON_TRANSACTIONAL",
        mutations: [{ upsert: { key: { partitionId, path: [{ kind: "HoldfastLock", name }] }, properties } }],
      }, { timeout: Infinity });
    await put("foreign", { cents: { integerValue: 5 } });
    await put("other", { record: { integerValue: 5 } });
    const found: Record<string, string | null> = {};
    for await (const { key, value, version } of backend.list("")) {
      assert(version !== null);
      found[key] = value;
    }
    const { job, ...others } = found;
    assert(job?.startsWith("{"));
    const none = "an entity without a record";
    assertEquals(others, { foreign: none, other: none });
    const listed = await Array.fromAsync(locks({ backend }));
    const readable = listed.filter(({ unreadable }) => unreadable === undefined);
    assertEquals([listed.length, readable.map(({ identifier }) => identifier)], [3, ["job"]]);
    const error = await assertRejects(() => backend.read(["job", "foreign"]), LockBackendError, `"foreign"`);
    assertEquals(error.transient, false);
    await assertRejects(() => Lock.acquire("other", { backend }), LockBackendError, `"other"`);
    await held.release();
  },

  "identifiers that Datastore reserves name locks like any other": async (scene) => {
    const backend = scene.backend();
    const ids = ["__x__", "~__x__", "~", "__", "____", "__x", "_"];
    for (const id of ids) assert(await (await Lock.acquire(id, { backend }))?.release());
    for (const id of ids) await backend.commit([{ key: id, version: null, value: '"x"' }]);
    for (const prefix of ["", "_", "__", "__x__", "~", "~_"]) {
      const listed: string[] = [];
      for await (const { key } of backend.list(prefix)) listed.push(key);
      const expected = ids.filter((id) => id.startsWith(prefix));
      assertEquals(listed.filter((id) => ids.includes(id)).sort(), expected.sort(), prefix);
    }
  },

  "a guarded commit writes, and reads what it writes upon": async (scene) => {
    const held = (await Lock.acquire(scene.id, { backend: scene.backend() }))!;
    const key = scene.key("account");
    const add = (cents: number) =>
      commitIfHeld(held, async (tx) => {
        const [account] = await tx.lookup(key, scene.key("none"));
        const { integerValue = 0 } = (account?.properties?.cents ?? {}) as { integerValue?: number };
        tx.upsert({ key, properties: { cents: { integerValue: Number(integerValue) + cents } } });
      });
    assertEquals([await add(500), await add(25)], [{ ok: true }, { ok: true }]);
    await commitIfHeld(held, async (tx) => {
      const [account, none] = await tx.lookup(key, scene.key("none"));
      assertEquals((account?.properties?.cents as { integerValue: unknown }).integerValue, "525");
      assertEquals(none, undefined);
      tx.delete(key);
    });
    assertEquals(await commitIfHeld(held, (tx) => tx.update({ key })), { ok: false });
    assertEquals(await commitIfHeld(held, (tx) => tx.insert({ key })), { ok: true });
    assertEquals(await commitIfHeld(held, (tx) => tx.insert({ key })), { ok: false });
    await held.release();
    const error = await assertRejects(() => commitIfHeld(held, (tx) => tx.delete(key)), LockLostError);
    assertEquals(error.reason, "released");
  },

  "a guarded commit of an evicted holder writes nothing": async (scene) => {
    const held = (await Lock.acquire(scene.id, { backend: scene.backend() }))!;
    const key = scene.key("evicted");
    let stealer: Lock | null = null;
    // Evicted after it has proven that it holds, and before it commits: only the server can refuse it.
    const late = commitIfHeld(held, async (tx) => {
      stealer ??= await Lock.acquire(scene.id, { backend: scene.backend(), stealAfterMs: 0 });
      tx.upsert({ key });
    });
    const error = await assertRejects(() => late, LockLostError);
    assertEquals(error.reason, "stolen");
    const after = (await stealer!) as Lock;
    await commitIfHeld(after, async (tx) => assertEquals(await tx.lookup(key), [undefined]));
    assertEquals(await after.release(), true);
  },

  "a guarded commit of one that is evicted just before its transaction, or its commit, writes nothing":
    async (
      scene,
    ) => {
      for (const method of ["beginTransaction", "commit"] as const) {
        let rob = async () => {};
        const client = Object.assign(Object.create(scene.client), {
          async [method](request: { transaction?: unknown }, options: object) {
            if (method !== "commit" || request.transaction !== undefined) await rob();
            return await scene.client[method](request, options);
          },
        });
        const held = (await Lock.acquire(scene.id, { backend: datastoreBackend(client, { projectId }) }))!;
        const stealers: (Lock | null)[] = [];
        rob = async () => {
          if (stealers.length > 0) return;
          stealers.push(await Lock.acquire(scene.id, { backend: scene.backend(), stealAfterMs: 0 }));
        };
        const key = scene.key(`evicted before ${method}`);
        const error = await assertRejects(
          () => commitIfHeld(held, (tx) => tx.upsert({ key })),
          LockLostError,
        );
        assertEquals(error.reason, "stolen");
        await commitIfHeld(stealers[0]!, async (tx) => assertEquals(await tx.lookup(key), [undefined]));
        await stealers[0]!.release();
      }
    },

  "a guarded commit that takes long: the lock is renewed meanwhile, and it is built once": async (scene) => {
    const backend = scene.backend();
    const held = (await Lock.acquire(scene.id, { backend, leaseMs: 900 }))!;
    const renewals = async () => JSON.parse((await backend.read([scene.id]))[0].value!).holders[0].renewals;
    const key = scene.key("long");
    let built = 0;
    const long = commitIfHeld(held, async (tx) => {
      built++;
      assertEquals(await tx.lookup(key), [undefined]);
      for (const before = await renewals(); await renewals() < before + 2;) await setTimeout(20);
      tx.upsert({ key });
    });
    assertEquals([await long, built, held.held], [{ ok: true }, 1, true]);
    await held.release();
  },

  "a guarded commit under several locks writes nothing when one of them is lost": async (scene) => {
    const [one, other] = [scene.id, `${scene.id}:other`];
    const held = (await Lock.acquire([one, other], { backend: scene.backend() }))!;
    const key = scene.key("several");
    await commitIfHeld(held, (tx) => tx.upsert({ key }));
    const stealer = (await Lock.acquire(other, { backend: scene.backend(), stealAfterMs: 0 }))!;
    await assertRejects(() => commitIfHeld(held, (tx) => tx.delete(key)), LockLostError);
    await commitIfHeld(stealer, async (tx) => assertEquals((await tx.lookup(key)).length, 1));
    await stealer.release();
  },

  "a guarded commit is tried again when the server aborts it, not when its outcome is unknown": async (
    scene,
  ) => {
    const held = (await Lock.acquire(scene.id, { backend: scene.backend() }))!;
    const key = scene.key("aborted");
    let built = 0;
    const write = () =>
      commitIfHeld(held, (tx) => {
        built++;
        tx.upsert({ key });
      });
    await scene.server.plan({ kind: "aborted", method: "commit" });
    assertEquals(await write(), { ok: true });
    assertEquals(built, 2);
    for (const kind of ["unavailable after", "reset", "lost"] as const) {
      built = 0;
      await scene.server.plan({ kind, method: "commit" });
      await scene.calls();
      const error = await assertRejects(write, LockBackendError);
      assertEquals([error.identifier, error.transient, built], [scene.id, true, 1], kind);
      // It is not sent again either, by us or by the client.
      assertEquals(
        (await scene.calls()).filter((call) => call.startsWith("commit")),
        ["commit:upsert"],
        kind,
      );
    }
    await assertRejects(() => commitIfHeld(held, () => Promise.reject(new Error("mine"))), Error, "mine");
    await held.release();
  },
};

/** Where locks are taken: in this process over REST, or in one under Node over gRPC. */
interface Hands {
  readonly server: TestServer;
  // deno-lint-ignore no-explicit-any
  ask(what: Asked, how: Record<string, unknown>): Promise<any>;
}

const KINDS = [
  "unavailable before",
  "unavailable after",
  "lost",
  "delay",
  "aborted",
  "goaway",
  "reset",
] as const;

/** What is the same over every transport. */
const EVERYWHERE: Record<string, (hands: Hands, id: string) => Promise<void>> = {
  "a free lock: one call to acquire, one to release": async ({ ask, server }, id) => {
    await ask("acquire", { id });
    assertEquals((await server.calls()).map(shown), ["commit:insert"]);
    assertEquals(await ask("release", { id }), true);
    assertEquals((await server.calls()).map(shown), ["commit:delete"]);
  },

  "several records are one call, and all or nothing": async ({ ask, server }, id) => {
    assertEquals(await ask("commit", { ids: [`${id}1`, `${id}2`] }), true);
    assertEquals((await server.calls()).map(shown), ["commit:insert,insert"]);
    assertEquals(await ask("commit", { ids: [`${id}3`, `${id}2`] }), false);
    assertEquals((await server.calls()).map(shown), ["commit:insert,insert"]);
    assertEquals(await ask("commit", { ids: [`${id}3`] }), true);
  },

  "a renewal is one call": async ({ ask, server }, id) => {
    await ask("acquire", { id, leaseMs: 1500 });
    await server.calls();
    const calls: Call[] = [];
    while (calls.length < 2) {
      await setTimeout(20);
      calls.push(...await server.calls());
    }
    assertEquals(calls.map(shown), ["commit:upsert", "commit:upsert"]);
    assertEquals(await ask("release", { id }), true);
  },

  "a takeover of a lapsed lease is three calls": async ({ ask, server }, id) => {
    // Long ago: by the server's clock it has lapsed, however late the answers are by which that is known.
    await ask("commit", { ids: [id], value: deadRecord({ leaseMs: 100, endsMs: Date.now() - 60_000 }) });
    const [dead] = await fencesOf(server, id);
    await server.calls();
    const fence = await ask("acquire", { id, wait: false });
    assertEquals((await server.calls()).map(shown), ["commit:insert", "lookup", "commit:upsert"]);
    assert(fence > dead);
    assertEquals(await ask("release", { id }), true);
  },

  "any fault of an acquisition or a release: held exactly once, and gone after": async (
    { ask, server },
    id,
  ) => {
    await Promise.all(KINDS.map(async (kind) => {
      const own = `${id} ${kind}`;
      await server.also({ kind, ms: 100, method: "commit", id: own });
      const fence = await ask("acquire", { id: own });
      assertEquals(await fencesOf(server, own), [fence], kind);
      const before = (["commit", "lookup"] as const).map((method) => ({ kind, ms: 100, method, id: own }));
      await server.also(...before);
      assertEquals(await ask("release", { id: own }), true, kind);
      await server.spare(own);
      assertEquals(await fencesOf(server, own), [], kind);
    }));
  },

  "any fault of a renewal: the lock is kept": async ({ ask, server }, id) => {
    const fences = new Map<string, string>();
    for (const kind of KINDS) {
      const own = `${id} ${kind}`;
      fences.set(own, await ask("acquire", { id: own, leaseMs: 3000 }));
      await server.also({ kind, ms: 100, method: "commit", id: own });
    }
    await server.calls();
    // Until each has failed to be renewed, and then been renewed.
    const faulty = new Set<string>();
    const renewed = new Set<string>();
    while (renewed.size < KINDS.length) {
      await setTimeout(20);
      for (const { kind, mutations, names: [name], code } of await server.calls()) {
        if (kind !== undefined) faulty.add(name);
        else if (mutations?.[0] === "upsert" && code === 0 && faulty.has(name)) renewed.add(name);
      }
    }
    for (const [own, fence] of fences) {
      assertEquals(await fencesOf(server, own), [fence], own);
      assertEquals(await ask("release", { id: own }), true, own);
    }
  },
};

/** The record that a process left behind which died as a holder, and whose lease ends at `endsMs`. */
function deadRecord({ leaseMs, endsMs }: { leaseMs: number; endsMs: number }): string {
  const times = { since: endsMs - leaseMs, leaseMs, expiresAt: endsMs, renewals: 0 };
  return encodeLock({ v: 1, holders: [{ token: "dead", mode: "exclusive", limit: 1, ...times }] });
}

/** The fencing tokens of a lock's holders, by what the server holds. */
async function fencesOf(server: TestServer, id: string): Promise<string[]> {
  const client = await datastoreClient({ projectId, emulatorHost: server.host });
  try {
    const [{ value, version }] = await datastoreBackend(client, { projectId }).read([id]);
    return value === null ? [] : decodeLock(id, value).holders.map(({ fence }) => fence ?? version ?? "");
  } finally {
    await client.close();
  }
}

/** A client of a server whose clock goes before ours by `ms`. */
function shifted(client: DatastoreApi, ms: number): DatastoreApi {
  const later = (time: { seconds?: unknown; nanos?: number | null } | null | undefined) =>
    time && { ...time, seconds: Number(time.seconds) + ms / 1000 };
  const wrapped: Record<string, unknown> = {};
  for (const method of ["lookup", "commit", "runQuery", "beginTransaction", "rollback"] as const) {
    wrapped[method] = async (request: object, options: object) => {
      // deno-lint-ignore no-explicit-any
      const [answer] = await client[method](request, { ...options, timeout: 5000 }) as any[];
      return [{ ...answer, commitTime: later(answer.commitTime), readTime: later(answer.readTime) }];
    };
  }
  return wrapped as unknown as DatastoreApi;
}

/** Registers the tests. */
export function rpcTests(server: TestServer, workspace: Workspace): void {
  // What the server never answers stays open, as does the connection for the next call.
  const test = (name: string, play: () => Promise<void>) =>
    Deno.test({
      name: `Datastore calls: ${name}`,
      sanitizeOps: false,
      sanitizeResources: false,
      async fn() {
        await server.plan();
        await server.calls();
        await play();
      },
    });

  for (const [title, play] of Object.entries(TESTS)) {
    test(title, async () => {
      const client = await datastoreClient({ projectId, emulatorHost: server.host });
      await play(new Scene(server, client)).finally(() => client.close());
    });
  }
  for (const [title, play] of Object.entries(EVERYWHERE)) {
    test(`REST from Deno: ${title}`, async () => {
      const client = await datastoreClient({ projectId, emulatorHost: server.host });
      const hands = handsOn(client);
      await play({ server, ask: (what, how) => hands[what](how) }, crypto.randomUUID())
        .finally(() => client.close());
    });
    test(`gRPC from Node: ${title}`, async () => {
      await using child = workspace.start("hands.mjs", [server.grpcHost]);
      let number = 0;
      const ask: Hands["ask"] = async (what, how) => {
        const own = String(++number);
        const { value, error } = await child.ask({ ...how, do: what, number: own }, own);
        if (error !== undefined) throw new Error(error);
        return value;
      };
      await play({ server, ask }, crypto.randomUUID());
    });
  }
}
