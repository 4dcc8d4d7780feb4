/**
 * The Google Cloud Datastore backend, for Firestore in Datastore mode: a lock is one entity, acquired by one
 * commit and released by one. It needs `@google-cloud/datastore`, which is loaded only by
 * {@linkcode datastoreClient}; a client of one's own is handed in.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function nightly(projectId: string) {
 *   const client = await datastoreClient({ projectId });
 *   const backend = datastoreBackend(client, { projectId });
 *   await lock("nightly-report", { backend }).run((held) => held.signal.throwIfAborted());
 *   await client.close();
 * }
 * ```
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../core/backend.ts";
import { Bell } from "../core/bell.ts";
import { pause, systemClock } from "../core/clock.ts";
import { LockBackendError } from "../core/errors.ts";
import { describe, refuse } from "../core/validate.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";

/** A key of `google.datastore.v1`. Without `partitionId` it is in the database and namespace of the locks. */
export interface DatastoreKey {
  /** Where the entity lives. Default: the project, database and namespace of the locks' backend. */
  readonly partitionId?: {
    /** The project. */
    readonly projectId?: string | null;
    /** The database; empty for the default one. */
    readonly databaseId?: string | null;
    /** The namespace; empty for the default one. */
    readonly namespaceId?: string | null;
  } | null;
  /** From the ancestor to the entity: each with a `kind`, and a `name` or an `id`. */
  readonly path?:
    | readonly {
      /** The kind. */
      readonly kind?: string | null;
      /** The name, if it has one. */
      readonly name?: string | null;
      /** The numeric id, if it has one. */
      readonly id?: unknown;
    }[]
    | null;
}

/** An entity of `google.datastore.v1`: `{ key, properties: { cents: { integerValue: 500 } } }`. */
export interface DatastoreEntity {
  /** The key. */
  readonly key?: DatastoreKey | null;
  /** The properties, each a `Value` of the API: `{ stringValue: "x" }`, `{ integerValue: 5 }`, … */
  readonly properties?: Readonly<Record<string, object>> | null;
}

/** A moment as the API answers it. */
export interface DatastoreTimestamp {
  /** Whole seconds since the Unix epoch. */
  readonly seconds?: unknown;
  /** The rest, in nanoseconds. */
  readonly nanos?: number | null;
}

/** One result of a lookup or a query. */
export interface DatastoreResult {
  /** The entity. */
  readonly entity?: DatastoreEntity | null;
  /** Its version. */
  readonly version?: unknown;
}

/** What a commit answers. */
export interface DatastoreCommitAnswer {
  /** One per mutation. */
  readonly mutationResults?:
    | readonly {
      /** The version that it made. */
      readonly version?: unknown;
      /** Whether it was not applied, because of its `baseVersion`. */
      readonly conflictDetected?: boolean | null;
    }[]
    | null;
  /** When it was applied, by the server's clock. */
  readonly commitTime?: DatastoreTimestamp | null;
}

/** What a lookup answers. */
export interface DatastoreLookupAnswer {
  /** The entities that are there. */
  readonly found?: readonly DatastoreResult[] | null;
  /** The keys that were not looked up, for want of time. */
  readonly deferred?: readonly DatastoreKey[] | null;
  /** The moment that the answer shows, by the server's clock. */
  readonly readTime?: DatastoreTimestamp | null;
}

/** What a query answers. */
export interface DatastoreQueryAnswer {
  /** The results. */
  readonly batch?: {
    /** The entities of this batch. */
    readonly entityResults?: readonly DatastoreResult[] | null;
    /** From where to go on. */
    readonly endCursor?: Uint8Array | string | null;
    /** `"NO_MORE_RESULTS"` at the end. */
    readonly moreResults?: unknown;
  } | null;
}

/** What the backend needs of a client: a `v1.DatastoreClient` of `npm:@google-cloud/datastore`. */
export interface DatastoreApi {
  /** Reads entities by key. */
  lookup(request: object, options?: object): Promise<readonly [DatastoreLookupAnswer, ...unknown[]]>;
  /** Writes entities. */
  commit(request: object, options?: object): Promise<readonly [DatastoreCommitAnswer, ...unknown[]]>;
  /** Reads entities by kind and key. */
  runQuery(request: object, options?: object): Promise<readonly [DatastoreQueryAnswer, ...unknown[]]>;
  /** Begins a transaction. */
  beginTransaction(request: object, options?: object): Promise<
    readonly [{
      /** The transaction. */
      readonly transaction?: Uint8Array | string | null;
    }, ...unknown[]]
  >;
  /** Gives a transaction up. */
  rollback(request: object, options?: object): Promise<readonly unknown[]>;
}

/** Options of {@linkcode datastoreBackend}. */
export interface DatastoreBackendOptions {
  /** The project that the database belongs to. Required. */
  projectId: string;
  /** The database. Default: the default one, `""`. */
  databaseId?: string;
  /** The namespace of the locks. Default: the default one, `""`. */
  namespace?: string;
  /** The kind of the locks' entities. Default: `"HoldfastLock"`. */
  entityKind?: string;
  /**
   * For how many milliseconds at most a waiter lets pass between two looks at the lock, 25 to 60 000. There
   * is no push: each look is one billed read, and a released lock is noticed that much later. The pauses
   * begin at 25 ms whenever the lock has changed and grow from there. Default: 500.
   */
  pollMs?: number;
  /**
   * After how many milliseconds without an answer a call counts as failed, 100 to 60 000; its outcome is then
   * found out by reading. Default: 5000.
   */
  timeoutMs?: number;
}

/** Options of {@linkcode datastoreClient}. */
export interface DatastoreClientOptions {
  /** The project. Required. */
  projectId: string;
  /** The database. The calls of the backend name it themselves; here it is only checked. Default: `""`. */
  databaseId?: string;
  /**
   * `host:port` of an emulator, reached without encryption and without credentials. Default: what the
   * environment variable `DATASTORE_EMULATOR_HOST` says; without one, the service itself.
   */
  emulatorHost?: string;
  /**
   * How to speak to the server. Default: `"rest"` on Deno, where a server that closes a gRPC connection aborts
   * the process (denoland/deno#36788); `"grpc"` elsewhere.
   */
  transport?: "grpc" | "rest";
}

/** Between how many milliseconds a changing lock is looked at again. */
const POLL_LEAST_MS = 25;
const DEFAULT_POLL_MS = 500;
/** What a look itself may take, added to the pause before it. */
const LOOK_MS = 250;
const DEFAULT_TIMEOUT_MS = 5000;
/** For how long a commit that the server has aborted, and surely not applied, is asked for again. */
const ABORTED_MS = 2000;
/** By how much two processes that know the server's time may differ about it. */
const SKEW_MS = 1000;
/** What this process may at most not know about the server's time, for SKEW_MS to be honest. */
const CLOCK_UNSURE_MS = 500;
/** By what share two steady clocks may drift apart. */
const CLOCK_DRIFT = 1 / 2000;
/** How many entities one page of a listing has. */
const PAGE = 300;
/** How many keys one lookup takes. */
const MAX_READ = 1000;
const MAX_NAME_BYTES = 1500;

/** For how long a guarded commit that the server aborts is tried anew. */
const GUARDED_MS = 30_000;

/** The status codes that are told apart here. */
const ALREADY_EXISTS = 6;
const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;
/** The codes that waiting does not cure. */
const PERMANENT = new Set([INVALID_ARGUMENT, NOT_FOUND, 7, FAILED_PRECONDITION, 11, 12, 16]);

const encoder = new TextEncoder();

/** What is known of the clients that `datastoreClient` made. */
const made = new WeakMap<object, { readonly host: string; readonly rest: boolean }>();

/**
 * The server's clock as an offset to this process's monotonic one, within bounds: an answer that was sent at
 * `sent` and came at `got` was made in between.
 */
class ServerClock {
  #known: { lo: number; hi: number; at: number } | undefined;

  /** The server's time; before its first answer, this machine's. */
  now(): number {
    const known = this.#known;
    return known === undefined ? Date.now() : performance.now() + (known.lo + known.hi) / 2;
  }

  /**
   * Whether the server's time is known well enough to judge leases by it, and to write when one ends. Before the first
   * answer nothing is judged, and what is written by this machine's clock is checked by the very answer to it.
   */
  get sure(): boolean {
    return this.#known === undefined || this.#known.hi - this.#known.lo <= CLOCK_UNSURE_MS;
  }

  learn(time: DatastoreTimestamp | null | undefined, sent: number): void {
    if (time === null || time === undefined) return;
    const got = performance.now();
    const ms = msOf(time);
    const drift = (got - (this.#known?.at ?? got)) * CLOCK_DRIFT;
    const lo = Math.max(ms - got, (this.#known?.lo ?? -Infinity) - drift);
    const hi = Math.min(ms - sent, (this.#known?.hi ?? Infinity) + drift);
    // Where the two contradict each other, a clock was set or the machine slept: the latest answer is right.
    this.#known = lo <= hi ? { lo, hi, at: got } : { lo: ms - got, hi: ms - sent, at: got };
  }
}

class DatastoreBackend implements LockBackend {
  readonly graceMs: number;
  readonly api: DatastoreApi;
  readonly #database: { readonly projectId: string; readonly databaseId: string };
  readonly #partition: object;
  readonly #kind: string;
  readonly #pollMs: number;
  readonly #timeoutMs: number;
  readonly #clock = new ServerClock();

  constructor(api: DatastoreApi, options: Required<DatastoreBackendOptions>) {
    const { projectId, databaseId, namespace, entityKind, pollMs, timeoutMs } = options;
    this.api = api;
    this.#database = { projectId, databaseId };
    this.#partition = { projectId, databaseId, namespaceId: namespace };
    this.#kind = entityKind;
    this.#pollMs = pollMs;
    this.#timeoutMs = timeoutMs;
    this.graceMs = pollMs + LOOK_MS;
  }

  get name(): string {
    const host = made.get(this.api)?.host;
    return host === undefined ? "Datastore" : `Datastore at ${host}`;
  }

  get skewMs(): number {
    return this.#clock.sure ? SKEW_MS : Infinity;
  }

  now(): number {
    return this.#clock.now();
  }

  keyOf(key: string): DatastoreKey {
    return { partitionId: this.#partition, path: [{ kind: this.#kind, name: nameOf(key) }] };
  }

  async read(keys: readonly string[]): Promise<readonly Entry[]> {
    if (keys.length > MAX_READ) {
      throw new RangeError(
        `Cannot read: Datastore reads at most ${MAX_READ} keys at once, not ${keys.length}`,
      );
    }
    if (keys.length === 1) return await this.#lookup(keys);
    // Outside of a transaction a lookup of several may show half of a commit, even twice in a row.
    for (const started = performance.now();;) {
      const begun = await this.call("beginTransaction", { transactionOptions: { readOnly: {} } });
      const { transaction } = begun;
      try {
        return await this.#lookup(keys, { transaction });
      } catch (error) {
        if (codeOf(error) !== ABORTED || performance.now() - started > ABORTED_MS) throw error;
      } finally {
        // Some servers hold writes back until a transaction that has read them is over.
        await this.call("rollback", { transaction }).catch(() => {});
      }
    }
  }

  async commit(changes: readonly Change[]): Promise<CommitResult> {
    const mutations = changes.map((change) => this.#mutationOf(change));
    const alone = changes.length === 1;
    const request = {
      mode: alone ? "NON_TRANSACTIONAL" : "TRANSACTIONAL",
      // Without a transaction, several mutations may be applied in part.
      singleUseTransaction: alone ? undefined : { readWrite: {} },
      mutations,
    };
    const started = performance.now();
    for (let most = 10;; most = Math.min(2 * most, 200)) {
      const guessed = this.now();
      const sent = performance.now();
      try {
        const answer = await this.call("commit", request);
        const versions = (answer.mutationResults ?? []).map(({ version }) => versionOf(version));
        if (answer.mutationResults?.some(({ conflictDetected }) => conflictDetected)) return { ok: false };
        const [version] = versions;
        if (version === undefined) {
          throw new LockBackendError("Datastore answered a commit without a version");
        }
        const wrote = changes.some(({ value }) => value !== null);
        if (wrote) assertClock(answer.commitTime, guessed, performance.now() - sent);
        return { ok: true, version };
      } catch (error) {
        const code = codeOf(error);
        if (code === ALREADY_EXISTS) return { ok: false };
        if (code === FAILED_PRECONDITION || code === INVALID_ARGUMENT) {
          return await this.#conflict(changes, error);
        }
        // An aborted commit is the one failure of which it is known that nothing was applied.
        if (code !== ABORTED || performance.now() - started > ABORTED_MS) throw error;
        await pause(systemClock, 1 + Math.random() * most);
      }
    }
  }

  /**
   * A refusal may mean that a version was not the one expected, or something that no other version cures, under
   * the same code: a missing index, a database in another mode. What is stored now tells them apart, for versions
   * only rise. (An emulator calls a version from before its restart an invalid argument.)
   */
  async #conflict(changes: readonly Change[], refusal: unknown): Promise<CommitResult> {
    const entries = await this.#lookup(changes.map(({ key }) => key)).catch((error) => {
      throw error.transient ? error : refusal;
    });
    if (entries.every(({ version }, i) => version === changes[i].version)) throw refusal;
    return changes.length === 1 ? { ok: false, entries } : { ok: false };
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    const bell = new Bell();
    signal.addEventListener("abort", bell.ring);
    try {
      let last: Entry | undefined;
      let pauseMs = POLL_LEAST_MS;
      while (!signal.aborted) {
        const [entry] = await this.read([key]);
        if (signal.aborted) return;
        if (last === undefined || entry.version !== last.version) {
          last = entry;
          pauseMs = POLL_LEAST_MS;
          yield entry;
        } else {
          // Decorrelated: waiters that began together do not stay together.
          const span = 3 * pauseMs - POLL_LEAST_MS;
          pauseMs = Math.min(this.#pollMs, POLL_LEAST_MS + Math.random() * span);
        }
        await bell.sleep(systemClock, idle ? Infinity : pauseMs);
      }
    } finally {
      signal.removeEventListener("abort", bell.ring);
    }
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    for (const start of namesWith(prefix)) {
      for await (const entry of this.#scan(start)) {
        if (entry.key.startsWith(prefix)) yield entry;
      }
    }
  }

  /**
   * Runs `build` in a transaction that has read the lock's record under this version, and commits it.
   * `undefined` if the record has changed meanwhile: nothing is written then.
   */
  async guarded(
    key: string,
    version: string | null,
    build: (tx: DatastoreTransaction) => unknown,
  ): Promise<DatastoreCommit | undefined> {
    const begun = await this.call("beginTransaction", { transactionOptions: { readWrite: {} } });
    const { transaction } = begun;
    let open = true;
    try {
      const lookup = async (keys: readonly DatastoreKey[]) => {
        const found: DatastoreResult[] = [];
        for (let ask = keys; ask.length > 0;) {
          const answer = await this.call("lookup", { keys: ask, readOptions: { transaction } });
          found.push(...answer.found ?? []);
          ask = answer.deferred ?? [];
        }
        return found;
      };
      const [lock] = await lookup([this.keyOf(key)]);
      // What the transaction has read cannot change before it commits: the server sees to that.
      if (lock === undefined || versionOf(lock.version) !== version) return undefined;

      const mutations: object[] = [];
      const here = (key: DatastoreKey | null | undefined) => ({
        path: key?.path,
        partitionId: { ...this.#partition, ...key?.partitionId },
      });
      const write = (how: string) => (entity: DatastoreEntity) => {
        mutations.push({ [how]: { ...entity, key: here(entity.key) } });
        return draft;
      };
      const draft: DatastoreTransaction = {
        async lookup(...keys) {
          const asked = keys.map(here);
          const found = new Map(
            (await lookup(asked)).map(({ entity }) => [textOf(entity?.key), entity ?? undefined]),
          );
          return asked.map((key) => found.get(textOf(key)));
        },
        insert: write("insert"),
        update: write("update"),
        upsert: write("upsert"),
        delete(key) {
          mutations.push({ delete: here(key) });
          return draft;
        },
      };
      await build(draft);
      open = false;
      await this.call("commit", { mode: "TRANSACTIONAL", transaction, mutations });
      return { ok: true };
    } catch (error) {
      const code = open ? undefined : codeOf(error);
      if (code === ALREADY_EXISTS || code === NOT_FOUND) return { ok: false };
      throw error;
    } finally {
      // What was read stays locked otherwise, until the server gives the transaction up.
      if (open) await this.call("rollback", { transaction }).catch(() => {});
    }
  }

  /** One call, with a limit and without the client's own repetitions. */
  async call<Method extends keyof DatastoreApi>(
    method: Method,
    request: object,
  ): Promise<Awaited<ReturnType<DatastoreApi[Method]>>[0]> {
    const sent = performance.now();
    const rest = made.get(this.api)?.rest === true;
    // Over REST the client's own limit would keep a Deno process alive until it has passed.
    const options = { timeout: rest ? Infinity : this.#timeoutMs, retry: { retryCodes: [] } };
    try {
      const called = this.api[method]({ ...this.#database, ...request }, options);
      const [answer] = await (rest ? limited(called, this.#timeoutMs) : called);
      const { commitTime, readTime } = answer as DatastoreCommitAnswer & DatastoreLookupAnswer;
      this.#clock.learn(commitTime ?? readTime, sent);
      return answer as Awaited<ReturnType<DatastoreApi[Method]>>[0];
    } catch (error) {
      throw failure(error, method, made.get(this.api)?.host);
    }
  }

  async #lookup(keys: readonly string[], readOptions?: object): Promise<readonly Entry[]> {
    const found = new Map<string, Entry>();
    let ask: readonly DatastoreKey[] = keys.map((key) => this.keyOf(key));
    while (ask.length > 0) {
      const answer = await this.call("lookup", { keys: ask, readOptions });
      for (const result of answer.found ?? []) {
        const entry = entryOf(result);
        found.set(entry.key, entry);
      }
      ask = answer.deferred ?? [];
    }
    return keys.map((key) => found.get(key) ?? { key, value: null, version: null });
  }

  /** The entries whose names begin with `start`, or all. */
  async *#scan(start: string): AsyncIterable<Entry> {
    // A name of this form is refused even where it only bounds a range; what begins with less has it all.
    const from = isReserved(start) ? start.slice(0, -1) : start;
    const keyValue = { partitionId: this.#partition, path: [{ kind: this.#kind, name: from }] };
    const filter = {
      propertyFilter: { property: { name: "__key__" }, op: "GREATER_THAN_OR_EQUAL", value: { keyValue } },
    };
    let startCursor: Uint8Array | string | undefined;
    for (;;) {
      const { batch } = await this.call("runQuery", {
        partitionId: this.#partition,
        query: {
          kind: [{ name: this.#kind }],
          filter: from === "" ? undefined : filter,
          order: [{ property: { name: "__key__" }, direction: "ASCENDING" }],
          startCursor,
          limit: { value: PAGE },
        },
      });
      const results = batch?.entityResults ?? [];
      for (const result of results) {
        const name = result.entity?.key?.path?.at(-1)?.name ?? "";
        if (name.startsWith(start)) yield entryOf(result);
        else if (!start.startsWith(name)) { if (from === start) return; }
      }
      if (results.length === 0 || batch?.moreResults === "NO_MORE_RESULTS" || batch?.moreResults === 3) {
        return;
      }
      startCursor = batch?.endCursor ?? undefined;
    }
  }

  #mutationOf({ key, version, value, expireInMs }: Change): object {
    const where = this.keyOf(key);
    // Said every time: the default of some servers is to write over the newer version.
    const conflictResolutionStrategy = "FAIL";
    // No entity has the version 0: this asks for there being none.
    const baseVersion = version === null ? "0" : version.replace(/^0+(?=.)/, "");
    if (value === null) return { delete: where, baseVersion, conflictResolutionStrategy };
    const entity = { key: where, properties: propertiesOf(value, expireInMs, this.now()) };
    return version === null
      ? { insert: entity }
      : { upsert: entity, baseVersion, conflictResolutionStrategy };
  }
}

/**
 * Makes a backend that keeps locks in Google Cloud Datastore (Firestore in Datastore mode). The client stays
 * the caller's: it is never closed here.
 *
 * Throws TypeError or RangeError for what is not a client, or bad options.
 *
 * @example
 * ```ts
 * import { configure } from "@holdfast/lock";
 * import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function start(projectId: string) {
 *   const client = await datastoreClient({ projectId });
 *   configure({ strong: datastoreBackend(client, { projectId, namespace: "my-app" }) });
 * }
 * ```
 */
export function datastoreBackend(client: DatastoreApi, options: DatastoreBackendOptions): LockBackend {
  assertClient(client);
  const doing = "make a Datastore backend";
  assertOptions(options, doing, [
    "projectId",
    "databaseId",
    "namespace",
    "entityKind",
    "pollMs",
    "timeoutMs",
  ]);
  const { projectId, databaseId = "", namespace = "", entityKind = "HoldfastLock" } = options;
  const { pollMs = DEFAULT_POLL_MS, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  assertProject(projectId, doing);
  assertText(databaseId, "databaseId", doing);
  if (typeof namespace !== "string" || !/^[\w.-]{0,100}$/.test(namespace) || isReserved(namespace)) {
    throw new TypeError(
      `Cannot ${doing}: 'namespace' must be a string of up to 100 letters, digits, '.', '_' and '-' that is not ` +
        `of the form __…__, current value is ${describe(namespace)}`,
    );
  }
  const kindBytes = typeof entityKind === "string" ? encoder.encode(entityKind).length : 0;
  if (kindBytes === 0 || kindBytes > MAX_NAME_BYTES || isReserved(entityKind)) {
    throw new TypeError(
      `Cannot ${doing}: 'entityKind' must be a string of 1 to ${MAX_NAME_BYTES} bytes that is not of the form ` +
        `__…__, current value is ${describe(entityKind)}`,
    );
  }
  assertMs(pollMs, "pollMs", POLL_LEAST_MS, doing);
  assertMs(timeoutMs, "timeoutMs", 100, doing);
  return new DatastoreBackend(client, { projectId, databaseId, namespace, entityKind, pollMs, timeoutMs });
}

/** What a guarded commit came to. */
export type DatastoreCommit =
  /** Everything is written. */
  | { readonly ok: true }
  /** Nothing is written: an entity to insert was there already, or one to update was not. */
  | { readonly ok: false };

/** A transaction while it is put together: what to write when the lock has proven to be held. */
export interface DatastoreTransaction {
  /** Reads entities in the transaction; `undefined` for one that is not there. */
  lookup(...keys: DatastoreKey[]): Promise<readonly (DatastoreEntity | undefined)[]>;
  /** Writes a new entity; one that is there already makes the commit `{ ok: false }`. */
  insert(entity: DatastoreEntity): this;
  /** Writes over an entity; one that is not there makes the commit `{ ok: false }`. */
  update(entity: DatastoreEntity): this;
  /** Writes an entity, new or not. */
  upsert(entity: DatastoreEntity): this;
  /** Deletes an entity, if it is there. */
  delete(key: DatastoreKey): this;
}

/**
 * Commits the caller's own entities in one transaction that also reads the lock and finds it held: a holder
 * that has lost its lock, without knowing it yet, writes nothing.
 *
 * `build` receives a fresh transaction, reads in it and adds to it; it may be called again when the server
 * aborts the transaction, so let it have no other effects. Until it is done the server may hold back other
 * writes to what it has read, the renewal of the lock among them: be quick. The entities must be in the
 * database that keeps the lock, in any namespace. Resolves to whether they are written; `{ ok: false }` only
 * because of an `insert` or `update` of the caller's own.
 *
 * Rejects with `LockLostError` if the lock is no longer held, with what `build` throws (both write nothing),
 * with TypeError if `held` is not a lock on a Datastore backend, and with `LockBackendError` if the server
 * failed: only then the outcome is unknown.
 *
 * @example
 * ```ts
 * import type { Lock } from "@holdfast/lock";
 * import { commitIfHeld } from "@holdfast/lock/backends/datastore";
 *
 * async function deposit(held: Lock, cents: number) {
 *   const key = { path: [{ kind: "Account", name: "ada" }] };
 *   await commitIfHeld(held, async (tx) => {
 *     const [account] = await tx.lookup(key);
 *     const { integerValue = 0 } = (account?.properties?.cents ?? {}) as { integerValue?: number };
 *     tx.upsert({ key, properties: { cents: { integerValue: Number(integerValue) + cents } } });
 *   });
 * }
 * ```
 */
export async function commitIfHeld(
  held: Lock,
  build: (tx: DatastoreTransaction) => unknown,
): Promise<DatastoreCommit> {
  const guard = guardOf(held, { Backend: DatastoreBackend, name: "a Datastore" });
  const { backend, key } = guard;
  if (typeof build !== "function") refuse("Cannot commit: 'build' must be a function", build);
  const started = performance.now();
  for (let most = 20;; most = Math.min(2 * most, 500)) {
    const proof = await guard.prove();
    try {
      const done = await backend.guarded(key, proof.version, build);
      if (done !== undefined) return done;
    } catch (error) {
      if (!(error instanceof LockBackendError)) throw error;
      if (codeOf(error) !== ABORTED || performance.now() - started > GUARDED_MS) {
        throw guard.failure(error);
      }
    }
    await pause(systemClock, 1 + Math.random() * most);
  }
}

/** A `v1.DatastoreClient`, to be closed by who asked for it. */
export interface DatastoreClient extends DatastoreApi {
  /** Closes the connections. */
  close(): Promise<void>;
}

/**
 * Makes a client for {@linkcode datastoreBackend}, the right way for this runtime: gRPC on Node and Bun, REST
 * on Deno. This, and nothing else here, loads `@google-cloud/datastore`, which must be installed.
 *
 * Rejects with TypeError for bad options, and with `LockBackendError` if the package or the credentials of
 * the service cannot be loaded.
 *
 * @example
 * ```ts
 * import { datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function againstAnEmulator() {
 *   const client = await datastoreClient({ projectId: "demo", emulatorHost: "127.0.0.1:8081" });
 *   await client.close();
 * }
 * ```
 */
export async function datastoreClient(options: DatastoreClientOptions): Promise<DatastoreClient> {
  const doing = "make a Datastore client";
  assertOptions(options, doing, ["projectId", "databaseId", "emulatorHost", "transport"]);
  const { projectId, databaseId = "" } = options;
  assertProject(projectId, doing);
  assertText(databaseId, "databaseId", doing);
  const { transport = onDeno() ? "rest" : "grpc" } = options;
  if (transport !== "grpc" && transport !== "rest") {
    throw new TypeError(
      `Cannot ${doing}: 'transport' must be "grpc" or "rest", current value is ${describe(transport)}`,
    );
  }
  const emulator = emulatorAddress(options.emulatorHost, doing);
  const rest = transport === "rest";
  const { DatastoreClient, grpc } = await load(!rest && emulator !== undefined);
  const host = emulator === undefined
    ? "datastore.googleapis.com"
    : `the emulator ${emulator.hostname}:${emulator.port}`;
  const make = (more: object) => new DatastoreClient({ projectId, fallback: rest, ...more });
  let client: DatastoreClient;
  if (emulator === undefined) {
    const plain = make({});
    // Asked for now: the client's own look at the first call fails outside of any promise that we could await.
    const credentials = await plain.auth.getClient().catch((cause: unknown) => {
      throw new LockBackendError(`Cannot ${doing}: there are no credentials: ${messageOf(cause)}`, { cause });
    });
    client = rest ? make({ authClient: authOf(credentials) }) : plain;
  } else {
    client = make({
      servicePath: emulator.hostname,
      port: emulator.port,
      protocol: "http",
      sslCreds: grpc?.credentials.createInsecure(),
      // Otherwise the client would look for credentials on the network.
      authClient: authOf(),
    });
  }
  made.set(client, { host, rest });
  return client;
}

/** What the client uses of its credentials. */
interface Credentials {
  readonly universeDomain?: string;
  getRequestHeaders(url?: string): Promise<Headers | Record<string, string>>;
}

/** How a REST client gets its headers, and sends. */
function authOf(credentials?: Credentials): object {
  const getRequestHeaders = async (url?: string) => new Headers(await credentials?.getRequestHeaders(url));
  return {
    universeDomain: credentials?.universeDomain ?? "googleapis.com",
    getRequestHeaders,
    async fetch(url: string, { method, headers, body, signal }: RequestInit) {
      const all = new Headers(headers);
      for (const [name, value] of await getRequestHeaders(url)) all.set(name, value);
      // As a stream: what it can send again, Deno's own fetch does send again when a connection breaks after
      // the request has been received, and the answer to the second one says that the lock is somebody else's.
      const bytes = typeof body === "string" ? encoder.encode(body) : body as Uint8Array;
      const stream = new ReadableStream({
        start(controller) {
          controller.enqueue(bytes);
          controller.close();
        },
      });
      const init = { method, headers: all, body: stream, signal, duplex: "half" };
      try {
        return await fetch(url, init);
      } catch (cause) {
        // The reason is in the cause of the cause, and the client passes on only what is on top.
        throw signal?.aborted ? cause : new Error(reasonOf(cause), { cause });
      }
    },
  };
}

function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: unknown };
  return cause === undefined ? messageOf(error) : `${messageOf(error)}: ${reasonOf(cause)}`;
}

type ClientModule = {
  v1: {
    DatastoreClient: new (
      options: object,
    ) => DatastoreClient & { auth: { getClient(): Promise<Credentials> } };
  };
};
type Grpc = { credentials: { createInsecure(): unknown } };

async function load(
  withGrpc: boolean,
): Promise<{ DatastoreClient: ClientModule["v1"]["DatastoreClient"]; grpc?: Grpc }> {
  // A name that no tool sees through: this package does not depend on that one.
  const name = ["@google-cloud", "datastore"].join("/");
  try {
    const module = await import(name).catch((error) => {
      if (onDeno()) return import(`npm:${name}@^11`);
      throw error;
    });
    const { DatastoreClient } = (module.v1 ?? module.default.v1) as ClientModule["v1"];
    if (!withGrpc) return { DatastoreClient };
    const { grpc } = createRequire(import.meta.resolve(name))("google-gax") as { grpc: Grpc };
    return { DatastoreClient, grpc };
  } catch (cause) {
    throw new LockBackendError(
      `Cannot make a Datastore client: ${name} cannot be loaded, install it (npm install ${name}): ${
        messageOf(cause)
      }`,
      { cause },
    );
  }
}

/** Where the emulator is, if there is to be one. */
function emulatorAddress(option: unknown, doing: string): { hostname: string; port: number } | undefined {
  const variable = "DATASTORE_EMULATOR_HOST";
  const value = option ?? process.env[variable];
  if (value === undefined || value === "") return undefined;
  const name = option === undefined ? variable : "emulatorHost";
  const text = typeof value === "string" ? value.replace(/^http:\/\//, "") : "";
  const url = /^[^/@?#\s]+:\d+\/?$/.test(text) && URL.canParse(`http://${text}`)
    ? new URL(`http://${text}`)
    : undefined;
  // A URL leaves the default port out.
  const port = Number(/:(\d+)\/?$/.exec(text)?.[1]);
  if (url === undefined || port === 0) {
    throw new TypeError(
      `Cannot ${doing}: '${name}' must be host:port such as 127.0.0.1:8081, current value is ${
        describe(value)
      }`,
    );
  }
  return { hostname: url.hostname, port };
}

function assertClient(client: unknown): asserts client is DatastoreApi {
  const methods = ["lookup", "commit", "runQuery", "beginTransaction", "rollback"] as const;
  const candidate = client as Partial<Record<string, unknown>> | null | undefined;
  const missing = methods.find((name) => typeof candidate?.[name] !== "function");
  if (missing === undefined) return;
  const highLevel = typeof candidate?.createQuery === "function" && typeof candidate.get === "function";
  throw new TypeError(
    "Cannot make a Datastore backend: 'client' must be a v1.DatastoreClient, " +
      (highLevel
        ? "and this is a Datastore, which hides the versions of entities. Write instead:\n" +
          '  import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";\n' +
          "  const backend = datastoreBackend(await datastoreClient({ projectId }), { projectId });"
        : `current value lacks '${missing}': ${describe(client)}`),
  );
}

function assertOptions(options: unknown, doing: string, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`Cannot ${doing}: it takes { projectId, … }, current value is ${describe(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new TypeError(`Cannot ${doing}: there is no option '${unknown}'`);
}

function assertProject(projectId: unknown, doing: string): void {
  if (typeof projectId === "string" && projectId !== "") return;
  throw new TypeError(
    `Cannot ${doing}: 'projectId' must be a non-empty string, current value is ${describe(projectId)}`,
  );
}

function assertText(value: unknown, name: string, doing: string): void {
  if (typeof value === "string") return;
  throw new TypeError(`Cannot ${doing}: '${name}' must be a string, current value is ${describe(value)}`);
}

function assertMs(value: unknown, name: string, least: number, doing: string): void {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= 60_000) return;
  throw new (typeof value === "number" ? RangeError : TypeError)(
    `Cannot ${doing}: '${name}' must be a whole number of milliseconds from ${least} to 60000, ` +
      `current value is ${describe(value)}`,
  );
}

/** Names of this form are Datastore's own. */
function isReserved(name: string): boolean {
  return /^__.*__$/s.test(name);
}

/** The name of the entity of a key: the key itself, except where that is not allowed. */
function nameOf(key: string): string {
  return isReserved(key) || key.startsWith("~") ? `~${key}` : key;
}

function keyOfName(name: string): string {
  return name.startsWith("~") ? name.slice(1) : name;
}

/** With what the names begin whose keys begin with `prefix`. */
function namesWith(prefix: string): readonly string[] {
  if (prefix === "") return [""];
  if (prefix.startsWith("~")) return [`~${prefix}`];
  return "__".startsWith(prefix) || prefix.startsWith("__") ? [prefix, `~${prefix}`] : [prefix];
}

function entryOf({ entity, version }: DatastoreResult): Entry {
  const key = keyOfName(entity?.key?.path?.at(-1)?.name ?? "");
  const { stringValue } = (entity?.properties?.record ?? {}) as { stringValue?: unknown };
  // What is not ours is shown as it is, for the core to refuse.
  return {
    key,
    value: typeof stringValue === "string" ? stringValue : "",
    version: versionOf(version) ?? "",
  };
}

/** A key as text, to find its entity among the answers. */
function textOf(key: DatastoreKey | null | undefined): string {
  const { projectId, databaseId, namespaceId } = key?.partitionId ?? {};
  const path = key?.path?.map(({ kind, name, id }) => [kind, name || String(id)]);
  return JSON.stringify([projectId, databaseId || "", namespaceId || "", path]);
}

/** A version as the core compares it: its order as a string is its order as a number. */
function versionOf(version: unknown): string | undefined {
  const digits = String(version ?? "");
  return /^[1-9]\d{0,19}$/.test(digits) ? digits.padStart(20, "0") : undefined;
}

/** The entity of a record: the record, and what of it a person may want to see in the console. */
function propertiesOf(value: string, expireInMs: number | undefined, now: number): Record<string, object> {
  const { holders, queue } = shown(value);
  const [holder] = holders;
  const timestamp = (ms: unknown) => typeof ms === "number" ? { timestampValue: timestampOf(ms) } : undefined;
  const values: Record<string, object | undefined> = {
    record: { stringValue: value },
    // An entity that is written as it was would keep its version.
    nonce: { integerValue: String(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)) },
    holder: typeof holder?.label === "string" ? { stringValue: holder.label } : undefined,
    since: timestamp(holder?.since),
    leaseMs: typeof holder?.leaseMs === "number" ? { integerValue: String(holder.leaseMs) } : undefined,
    leaseEnds: timestamp(holder?.expiresAt),
    waiters: { integerValue: String(queue.length) },
    garbageAt: expireInMs === undefined ? undefined : timestamp(now + expireInMs),
  };
  const properties: Record<string, object> = {};
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) properties[name] = { ...value, excludeFromIndexes: true };
  }
  return properties;
}

/** What of a record is shown to people. Whatever it is, it must not keep it from being stored. */
function shown(value: string): { holders: readonly Record<string, unknown>[]; queue: readonly unknown[] } {
  try {
    const { holders, queue } = JSON.parse(value);
    return { holders: Array.isArray(holders) ? holders : [], queue: Array.isArray(queue) ? queue : [] };
  } catch {
    return { holders: [], queue: [] };
  }
}

function timestampOf(ms: number): object {
  const seconds = Math.floor(ms / 1000);
  return { seconds: String(seconds), nanos: Math.floor((ms - seconds * 1000) * 1000) * 1000 };
}

function msOf({ seconds, nanos }: DatastoreTimestamp): number {
  return Number(String(seconds ?? 0)) * 1000 + (nanos ?? 0) / 1e6;
}

/**
 * Refuses a commit that was made by a wrong idea of the server's time, as the first one of a machine whose
 * clock is wrong. Its outcome then counts as unknown: the core looks at the record again and, by a clock that
 * is right now, renews what it finds to be its own before anybody is told that he holds the lock.
 */
function assertClock(
  time: DatastoreTimestamp | null | undefined,
  guessed: number,
  tookMs: number,
): void {
  if (time === null || time === undefined) return;
  const ms = msOf(time);
  if (ms >= guessed - CLOCK_UNSURE_MS && ms <= guessed + tookMs + CLOCK_UNSURE_MS) return;
  throw new LockBackendError(
    `this machine's clock differs from the server's by about ${Math.round(ms - guessed)} ms`,
    { transient: true },
  );
}

/** A failure of a call, and whether it may pass. */
function failure(cause: unknown, method: string, host = "Datastore"): LockBackendError {
  if (cause instanceof LockBackendError) return cause;
  const code = codeOf(cause);
  const hint = code === 7 ? " (the credentials need the role Cloud Datastore User)" : "";
  const transient = code === undefined ? cause instanceof LimitError : !PERMANENT.has(code);
  return new LockBackendError(`${method} at ${host} failed: ${messageOf(cause)}${hint}`, {
    cause,
    transient,
  });
}

/** The status code of a failed call. */
function codeOf(error: unknown): number | undefined {
  const cause = error instanceof LockBackendError ? error.cause : error;
  const code = (cause as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A call that took too long. */
class LimitError extends Error {}

function limited<Answer>(answer: Promise<Answer>, ms: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const timer = systemClock.after(ms, () => reject(new LimitError(`no answer within ${ms} ms`)));
    answer.finally(() => systemClock.clear(timer)).then(resolve, reject);
  });
}

function onDeno(): boolean {
  return "Deno" in globalThis;
}
