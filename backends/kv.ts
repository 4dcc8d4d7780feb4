/**
 * The Deno KV backend: on Deno Deploy, on a local database, in memory, and over KV Connect.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
 * import { assertEquals } from "@std/assert";
 *
 * const kv = await Deno.openKv(":memory:");
 * const backend = kvBackend(kv);
 * await lock("balance", { backend }).run(async (held) => {
 *   const { value } = await kv.get<number>(["balance"]);
 *   await commitIfHeld(held, (atomic) => atomic.set(["balance"], (value ?? 0) + 100));
 * });
 * assertEquals((await kv.get(["balance"])).value, 100);
 * kv.close();
 * ```
 *
 * @module
 */

import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../core/backend.ts";
import { Bell } from "../core/bell.ts";
import { pause, systemClock } from "../core/clock.ts";
import { LockBackendError } from "../core/errors.ts";
import { describe, ownOptions, refuse } from "../core/validate.ts";
import { guardOf } from "../core/guard.ts";
import type { Lock } from "../core/lock.ts";

/** One part of a Deno KV key. */
export type KvKeyPart = Uint8Array | string | number | bigint | boolean | symbol;

/** One entry as Deno KV answers it. */
export interface KvEntry {
  /** The key. */
  readonly key: readonly KvKeyPart[];
  /** The value; `null` if there is none. */
  readonly value: unknown;
  /** The version; `null` if there is none. */
  readonly versionstamp: string | null;
}

/** What a commit of Deno KV came to. */
export type KvCommit = { readonly ok: true; readonly versionstamp: string } | { readonly ok: false };

/** A mutation as data; see `Deno.KvMutation`. */
export interface KvMutation {
  /** The key. */
  readonly key: readonly KvKeyPart[];
  /** What is done to it. */
  readonly type: "set" | "delete" | "sum" | "min" | "max" | "setSuffixVersionstampedKey";
  /** The value, except for `delete`; a `Deno.KvU64` for `sum`, `min` and `max`. */
  readonly value?: unknown;
  /** For `set`: after how many milliseconds the value may be deleted. */
  readonly expireIn?: number;
}

/** An atomic operation of Deno KV while it is put together: `Deno.AtomicOperation` without `commit`. */
export interface KvAtomic {
  /** Makes the commit depend on these versions; see `Deno.AtomicOperation.check`. */
  check(...checks: { key: readonly KvKeyPart[]; versionstamp: string | null }[]): this;
  /** Sets a value; see `Deno.AtomicOperation.set`. */
  set(key: readonly KvKeyPart[], value: unknown, options?: { expireIn?: number }): this;
  /** Deletes a value; see `Deno.AtomicOperation.delete`. */
  delete(key: readonly KvKeyPart[]): this;
  /** Adds to a `Deno.KvU64`; see `Deno.AtomicOperation.sum`. */
  sum(key: readonly KvKeyPart[], n: bigint): this;
  /** Keeps the smaller `Deno.KvU64`; see `Deno.AtomicOperation.min`. */
  min(key: readonly KvKeyPart[], n: bigint): this;
  /** Keeps the larger `Deno.KvU64`; see `Deno.AtomicOperation.max`. */
  max(key: readonly KvKeyPart[], n: bigint): this;
  /** Adds mutations as data; see `Deno.AtomicOperation.mutate`. */
  mutate(...mutations: KvMutation[]): this;
  /** Sends a message to the queue; see `Deno.AtomicOperation.enqueue`. */
  enqueue(
    value: unknown,
    options?: { delay?: number; keysIfUndelivered?: KvKeyPart[][]; backoffSchedule?: number[] },
  ): this;
}

/** What the backend needs of a Deno KV database: a `Deno.Kv`, or one of `npm:@deno/kv`. */
export interface KvDatabase {
  /** Reads one entry. */
  get(key: readonly KvKeyPart[]): Promise<KvEntry>;
  /** Reads up to ten entries of one snapshot. */
  getMany(keys: readonly (readonly KvKeyPart[])[]): Promise<readonly KvEntry[]>;
  /** Lists entries by key. */
  list(selector: { prefix: readonly KvKeyPart[]; start: readonly KvKeyPart[] }): AsyncIterable<KvEntry>;
  /** Begins an atomic operation. */
  atomic(): KvAtomic & { commit(): Promise<KvCommit> };
  /** Streams entries as they change; with `raw`, also those that did not. */
  watch(
    keys: readonly (readonly KvKeyPart[])[],
    options?: { raw?: boolean },
  ): ReadableStream<readonly KvEntry[]>;
}

/** Options of {@linkcode kvBackend}. */
export interface KvBackendOptions {
  /** The key parts under which the locks are kept; not empty. Default: `["holdfast"]`. */
  prefix?: readonly KvKeyPart[];
  /**
   * By how many milliseconds the clocks of the machines that share the database may differ, 0 to 60 000. The
   * lock of a crashed holder frees itself that much later. Default: 1000.
   */
  skewMs?: number;
}

/** How long a busy database is asked again before the failure is handed to the core. */
const BUSY_MS = 2000;
/** The bounds between which an unpushed waiter polls; within them, a share of the time since the last news. */
const POLL_MS = { least: 4, most: 22, share: 1 / 8 };
/** The bounds between which a pushed waiter polls in case a message was lost. */
const BACKSTOP_MS = { least: 1000, most: 10_000, share: 1 };
/** How long the watch of a database is left alone when it has broken; twice as long each time. */
const REOPEN_MS = { least: 100, most: 10_000 };
/** How long npm:@deno/kv may take, at most, to connect a watch again that has ended. */
const RECONNECT_MS = 130_000;
/** Over KV Connect, the clients send a commit again when they got no answer: not before this time has passed. */
const REPEAT_MS = 200;
/** For how long, on top of two leases, it is remembered that a guarded commit was applied. */
const RECEIPT_MS = 300_000;
/** How many of our own latest commits are remembered, to tell their echo from another process's news. */
const OWN_COMMITS = 64;
/** Leaves room for the longest key in the 2048 bytes that Deno KV allows. */
const MAX_PREFIX_BYTES = 512;
/** How many entries Deno KV reads in one snapshot. */
const MAX_READ = 10;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

class KvBackend implements LockBackend {
  readonly kv: KvDatabase;
  readonly skewMs: number;
  readonly graceMs = 250;
  readonly #prefix: readonly KvKeyPart[];
  /** The watch to use, if there is one that is safe. */
  readonly #open: ((key: string) => ReadableStream<readonly KvEntry[]>) | undefined;
  /** Whether a commit may have been sent more than once before it was answered. */
  readonly #repeats: boolean;
  readonly #own = new Set<string>();
  /** Whether the database tells of other processes' commits: learned by seeing it happen, or not happen. */
  #pushes: boolean;
  #polling = 0;
  #committing = 0;

  constructor(kv: KvDatabase, prefix: readonly KvKeyPart[], skewMs: number) {
    this.kv = kv;
    this.skewMs = skewMs;
    this.#prefix = prefix;
    const { Kv } = denoGlobal() ?? {};
    const native = Kv !== undefined && kv instanceof Kv;
    // npm:@deno/kv over KV Connect. Its watch of a file can spin the event loop for ever, and tells of no other
    // process; the one over KV Connect ends the process when its stream breaks, unless it is raw.
    const remote = !native && /^https?:/.test(`${(kv as { url?: unknown }).url}`);
    if (native || remote) {
      this.#open = (key) => kv.watch([this.keyOf(key)], remote ? { raw: true } : undefined);
    }
    this.#repeats = native || remote;
    this.#pushes = remote;
  }

  keyOf(key: string): readonly KvKeyPart[] {
    return [...this.#prefix, key];
  }

  async read(keys: readonly string[]): Promise<readonly Entry[]> {
    if (keys.length > MAX_READ) {
      throw new RangeError(`Cannot read: Deno KV reads at most ${MAX_READ} keys at once, not ${keys.length}`);
    }
    const found = await retried(() =>
      keys.length === 1
        ? this.kv.get(this.keyOf(keys[0])).then((entry) => [entry])
        : this.kv.getMany(keys.map((key) => this.keyOf(key)))
    );
    return found.map((entry, i) => entryOf(keys[i], entry));
  }

  async commit(changes: readonly Change[]): Promise<CommitResult> {
    this.#committing++;
    try {
      const result = await retried(() => this.#send(this.#atomic(changes)));
      if (!result.ok) return { ok: false };
      this.#own.add(result.versionstamp);
      if (this.#own.size > OWN_COMMITS) this.#own.delete(first(this.#own));
      return { ok: true, version: result.versionstamp };
    } finally {
      this.#committing--;
    }
  }

  async *watch(key: string, { signal, idle = false }: WatchOptions): AsyncIterable<Entry> {
    const bell = new Bell();
    signal.addEventListener("abort", bell.ring);
    let last: Entry | undefined;
    const stop = this.#listen(key, (version) => version !== last?.version && bell.ring());
    if (!idle) this.#polling++;
    try {
      // From the last news but one: a hand-off makes two, a renewal one, which is no reason to hurry.
      let quietSince = performance.now();
      let newsAt = quietSince;
      let rung = false;
      while (!signal.aborted) {
        const [entry] = await this.read([key]);
        if (signal.aborted) return;
        if (entry.version !== last?.version) {
          if (last !== undefined && !rung) this.#pushes = false;
          last = entry;
          quietSince = newsAt;
          newsAt = performance.now();
          yield entry;
        }
        const pollMs = idle ? Infinity : this.#pollMs(performance.now() - quietSince);
        const asleep = performance.now();
        await bell.sleep(systemClock, pollMs);
        rung = performance.now() - asleep < pollMs;
      }
    } finally {
      signal.removeEventListener("abort", bell.ring);
      if (!idle) this.#polling--;
      await stop();
    }
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    try {
      for await (const entry of this.kv.list({ prefix: this.#prefix, start: this.keyOf(prefix) })) {
        const key = entry.key.at(-1);
        if (typeof key !== "string" || entry.key.length !== this.#prefix.length + 1) continue;
        if (!key.startsWith(prefix)) return;
        yield entryOf(key, entry);
      }
    } catch (error) {
      throw failure(error);
    }
  }

  now(): number {
    return Date.now();
  }

  #atomic(changes: readonly Change[]) {
    const atomic = this.kv.atomic();
    for (const { key, version } of changes) {
      atomic.check({ key: this.keyOf(key), versionstamp: version });
    }
    for (const { key, value, expireInMs } of changes) {
      if (value === null) atomic.delete(this.keyOf(key));
      // As bytes: the runtimes' own serialisations do not read each other.
      else atomic.set(this.keyOf(key), encoder.encode(value), { expireIn: expireInMs });
    }
    return atomic;
  }

  /** Commits, and throws if what the answer says may be about a commit that was sent again. */
  async #send(atomic: ReturnType<KvDatabase["atomic"]>): Promise<KvCommit> {
    let late = false;
    // In two steps, so that a process that has been frozen meanwhile does not take that for a late answer.
    let timer = systemClock.after(0.45 * REPEAT_MS, () => {
      timer = systemClock.after(0.45 * REPEAT_MS, () => late = true);
    });
    const result = await atomic.commit().finally(() => systemClock.clear(timer));
    if (result.ok || !late || !this.#repeats) return result;
    throw new LockBackendError("a commit that may have been sent twice was refused", { transient: true });
  }

  /** Tells of versions that the database announces. Between processes on one SQLite file it never does. */
  #listen(key: string, tell: (version?: string | null) => void): () => Promise<void> {
    let reader: ReadableStreamDefaultReader<readonly KvEntry[]> | undefined;
    let stopped = false;
    const bell = new Bell();
    const read = async () => {
      reader = this.#open!(key).getReader();
      const forget = memoryOfWatch(this.kv);
      try {
        for (let current = true;; current = false) {
          const { done, value } = await reader.read();
          if (done) return;
          const version = value[0].versionstamp;
          // The echo of our own commit proves nothing, and may come before the commit's own answer.
          const foreign = this.#committing === 0 && version !== null && !this.#own.has(version);
          if (!current && foreign) this.#pushes = true;
          tell(version);
        }
      } finally {
        forget(!stopped);
      }
    };
    const listen = async () => {
      for (let pauseMs = REOPEN_MS.least; !stopped; pauseMs = Math.min(2 * pauseMs, REOPEN_MS.most)) {
        // A failure of the database's own is met by the reading.
        await read().catch(() => {});
        if (stopped) return;
        this.#pushes = false;
        tell();
        await bell.sleep(systemClock, pauseMs);
      }
    };
    const listening = this.#open === undefined ? undefined : listen();
    return async () => {
      stopped = true;
      bell.ring();
      await reader?.cancel().catch(() => {});
      await listening;
    };
  }

  /** The more time has passed without news, the less a little more of it matters. */
  #pollMs(quietMs: number): number {
    const { least, most, share } = this.#pushes ? BACKSTOP_MS : POLL_MS;
    const crowd = Math.ceil(this.#polling / 4);
    return crowd * Math.min(Math.max(least, quietMs * share), most);
  }
}

/**
 * Makes a backend that keeps locks in a Deno KV database: a `Deno.Kv`, or one of `npm:@deno/kv`. The database
 * stays the caller's: it is never closed here. Use one handle per database and process.
 *
 * Throws TypeError or RangeError for what is not a database, or bad options.
 *
 * @example
 * ```ts
 * import { configure, lock } from "@holdfast/lock";
 * import { kvBackend } from "@holdfast/lock/backends/kv";
 *
 * const kv = await Deno.openKv(":memory:");
 * configure({ strong: kvBackend(kv, { prefix: ["my-app", "locks"] }) });
 * await lock("job").run(() => {});
 * configure({ strong: undefined });
 * kv.close();
 * ```
 */
export function kvBackend(kv: KvDatabase, options: KvBackendOptions = {}): LockBackend {
  const methods = ["get", "getMany", "list", "atomic", "watch"] as const;
  const missing = methods.find((name) => typeof kv?.[name] !== "function");
  if (missing !== undefined) {
    throw new TypeError(
      `Cannot make a KV backend: 'kv' must be a Deno KV database such as await Deno.openKv(), ` +
        `current value lacks '${missing}': ${describe(kv)}`,
    );
  }
  const own = ownOptions(options, ["prefix", "skewMs"], "make a KV backend");
  const { prefix = ["holdfast"], skewMs = 1000 } = own;
  if (!Array.isArray(prefix) || prefix.length === 0 || !prefix.every(isKeyPart)) {
    const shown = Array.isArray(prefix) ? `[${prefix.map(describe).join(", ")}]` : describe(prefix);
    throw new TypeError(
      `Cannot make a KV backend: 'prefix' must be a non-empty array of key parts, current value is ${shown}`,
    );
  }
  const bytes = encoder.encode(prefix.join("")).length;
  if (bytes > MAX_PREFIX_BYTES) {
    throw new RangeError(
      `Cannot make a KV backend: 'prefix' must be at most ${MAX_PREFIX_BYTES} bytes, it has ${bytes}`,
    );
  }
  if (!Number.isInteger(skewMs) || skewMs < 0 || skewMs > 60_000) {
    throw new RangeError(
      `Cannot make a KV backend: 'skewMs' must be a whole number of milliseconds from 0 to 60000, ` +
        `current value is ${describe(skewMs)}`,
    );
  }
  return new KvBackend(kv, [...prefix], skewMs);
}

/** Opens the default database of this app. What `lock` uses when nothing is configured. */
export async function openDefaultKvBackend(): Promise<LockBackend> {
  const deno = denoGlobal();
  if (deno === undefined) {
    throw new TypeError(
      "Cannot lock: outside Deno there is no default backend. Configure one at start: " +
        'import { openKv } from "@deno/kv"; import { kvBackend } from "@holdfast/lock/backends/kv"; ' +
        "configure({ strong: kvBackend(await openKv(pathOrUrl)) })",
    );
  }
  if (deno.openKv === undefined) {
    throw new TypeError(
      "Cannot lock: Deno KV is not enabled. Run deno with --unstable-kv, or write " +
        '"unstable": ["kv"] in deno.json, or configure({ strong: … }) with another backend',
    );
  }
  let kv: KvDatabase;
  try {
    kv = await deno.openKv();
  } catch (cause) {
    throw new LockBackendError(`Cannot open the default Deno KV database: ${messageOf(cause)}`, { cause });
  }
  return kvBackend(kv);
}

/**
 * Commits the caller's own mutations in one atomic operation that also proves that the lock is still held:
 * a holder that has lost its lock, without knowing it yet, writes nothing.
 *
 * `build` receives a fresh atomic operation and adds to it; it may be called again when the lock's record
 * has changed meanwhile (a renewal, a new waiter), which never makes the commit fail. Keep the data in the
 * database that keeps the lock. Resolves to what Deno KV answers; `{ ok: false }` only if a check of the
 * caller's own failed. It adds two checks of its own to the caller's; Deno KV takes 100 in all on a local
 * database, 10 over KV Connect and with npm:@deno/kv.
 *
 * The mutations are applied once, even if the client sends the commit again because the answer was lost: for that
 * a small receipt is written beside the lock, which expires after two leases and five minutes.
 *
 * Rejects with `LockLostError` if the lock is no longer held, with what `build` throws (both write nothing),
 * with TypeError if `held` is not a lock on a Deno KV backend, and with `LockBackendError` if the database
 * failed: only then the outcome is unknown.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
 * import { assert } from "@std/assert";
 *
 * const kv = await Deno.openKv(":memory:");
 * const held = await lock("stock", { backend: kvBackend(kv) }).acquire();
 * const result = await commitIfHeld(held, (atomic) => atomic.set(["stock"], 12));
 * assert(result.ok);
 * await held.release();
 * kv.close();
 * ```
 */
export async function commitIfHeld(
  held: Lock,
  build: (atomic: KvAtomic) => unknown,
): Promise<KvCommit> {
  const guard = guardOf(held, { Backend: KvBackend, name: "a Deno KV" });
  const { backend, key, leaseMs } = guard;
  if (typeof build !== "function") refuse("Cannot commit: 'build' must be a function", build);
  const failed = (error: unknown) => {
    throw guard.failure(error);
  };
  for (;;) {
    const proof = await guard.prove();
    const atomic = backend.kv.atomic();
    atomic.check({ key: backend.keyOf(proof.key), versionstamp: proof.version });
    const receipt = [...backend.keyOf(key), crypto.randomUUID()];
    atomic.check({ key: receipt, versionstamp: null });
    atomic.set(receipt, new Uint8Array(), { expireIn: 2 * leaseMs + RECEIPT_MS });
    await build(draftOf(atomic));
    const result = await guard.bounded(retried(() => atomic.commit())).catch(failed);
    if (result.ok) return result;
    // A client that got no answer sends again by itself, and is refused by what it has written before.
    const { versionstamp } = await guard.bounded(retried(() => backend.kv.get(receipt))).catch(failed);
    if (versionstamp !== null) return { ok: true, versionstamp };
    const now = await guard.prove();
    if (now.version === proof.version) return result;
  }
}

/**
 * The atomic operation as the caller's function gets it. Deno's own is a promise by its looks and throws when
 * it is awaited, as what an async function returns is; and its `commit` is not the caller's to call.
 */
function draftOf(atomic: KvAtomic): KvAtomic {
  const draft = {} as Record<string, unknown>;
  for (const name of ["check", "set", "delete", "sum", "min", "max", "mutate", "enqueue"] as const) {
    draft[name] = (...args: never[]) => {
      (atomic[name] as (...args: never[]) => unknown)(...args);
      return draft;
    };
  }
  return draft as unknown as KvAtomic;
}

function entryOf(key: string, { value, versionstamp }: KvEntry): Entry {
  if (versionstamp === null) return { key, value: null, version: null };
  // What is not ours is shown as it is, for the core to refuse.
  const text = value instanceof Uint8Array ? decoder.decode(value) : String(value);
  return { key, value: text, version: versionstamp };
}

/** SQLite refuses a write at once while another process writes; that never means that it was applied. */
async function retried<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  const started = performance.now();
  for (let most = 2;; most = Math.min(2 * most, 50)) {
    try {
      return await ask();
    } catch (error) {
      const busy = messageOf(error).includes("database is locked");
      if (!busy || performance.now() - started > BUSY_MS) throw failure(error);
      await pause(systemClock, 1 + Math.random() * most);
    }
  }
}

/** A failure of the database, and whether it may pass. */
function failure(cause: unknown): LockBackendError {
  // What npm:@deno/kv throws has a stack of its own in the message.
  const [message] = messageOf(cause).split("\n");
  if (cause instanceof LockBackendError) return cause;
  if (
    /database is closed|bad resource|after '\.close' is called/i.test(message) ||
    (cause as Error)?.name === "BadResource"
  ) {
    return new LockBackendError("the Deno KV database is closed", { cause });
  }
  // TypeError is how Deno KV tells of what it will not take: a value too large, a full disk. With a cause, it is
  // how fetch tells of a broken connection.
  const refused = cause instanceof TypeError && cause.cause === undefined || /^TooMany/.test(message);
  const transient = message.includes("database is locked") || !refused;
  return new LockBackendError(message, { cause, transient });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * What npm:@deno/kv keeps of the watch that was just opened, until the database is closed: that is too long, and
 * one that has broken would then end the process. One that was cancelled may still be about to connect again.
 */
function memoryOfWatch(kv: object): (broken: boolean) => void {
  const { watches } = kv as { watches?: Map<number, { onFinalize(): Promise<void> }> };
  if (!(watches instanceof Map)) return () => {};
  let id = -1;
  for (const other of watches.keys()) id = Math.max(id, other);
  return (broken) => {
    const watch = watches.get(id);
    if (broken) watches.delete(id);
    else {
      const timer = systemClock.after(RECONNECT_MS, () => {
        if (watches.delete(id)) watch?.onFinalize().catch(() => {});
      });
      timer.unref();
    }
  };
}

function isKeyPart(part: unknown): boolean {
  return ["string", "number", "bigint", "boolean"].includes(typeof part) && !Number.isNaN(part) ||
    part instanceof Uint8Array;
}

function first<Item>(items: Iterable<Item>): Item {
  for (const item of items) return item;
  throw new RangeError("empty");
}

/** Deno's global where there is one; asked for at run time, so that other runtimes can load this file. */
function denoGlobal():
  | { openKv?: () => Promise<KvDatabase>; Kv?: new (...args: never[]) => unknown }
  | undefined {
  return (globalThis as { Deno?: ReturnType<typeof denoGlobal> }).Deno;
}
