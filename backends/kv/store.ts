/** Deno KV as a backend. */

import { brand } from "../../core/brand.ts";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../../core/backend.ts";
import { systemClock } from "../../core/clock.ts";
import { type LockBackendError, quote, UnreadableRecordError } from "../../core/errors.ts";
import { describe } from "../../core/validate.ts";
import { printable } from "../../core/printable.ts";
import { Closing, whenLeft } from "../closing.ts";
import { Trouble } from "../trouble.ts";
import type { KvCommit, KvDatabase, KvEntry, KvKeyPart, KvSelectorKey } from "./api.ts";
import { originOf } from "./clients.ts";
import { failureOf, retried } from "./failures.ts";
import { isUnreadable, listAll } from "./listing.ts";
import { KvWatcher } from "./watcher.ts";

/** Over KV Connect, the clients send a commit again when they got no answer: not before this time has passed. */
const REPEAT_MS = 200;
/** The version of an entry that can be listed but not read. */
const NO_VERSION = "0".repeat(20);
/** How many entries Deno KV reads in one snapshot. */
const MAX_READ = 10;

const encoder = new TextEncoder();
/** Below this are the receipts of guarded commits: bytes come before all texts, so that no listing of records reads them. */
const RECEIPTS = encoder.encode("receipts");
/** What is stored is shown as it is, with its byte order mark, for the core to refuse. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** How a store is made. */
export interface KvStoreOptions {
  readonly prefix: KvSelectorKey;
  readonly skewMs: number;
  /** Closes the database, if that was opened for this store. */
  readonly closeDatabase?: () => void;
}

/** The backend: what it promises stands where it is made, in `kvBackend`. */
export class KvStore implements LockBackend, AsyncDisposable {
  static {
    brand(this, "KvStore/1");
  }

  readonly kv: KvDatabase;
  /** What has gone wrong since the database last answered. */
  readonly trouble: Trouble = new Trouble();
  readonly skewMs: number;
  readonly graceMs = 250;
  readonly #prefix: KvSelectorKey;
  readonly #watcher: KvWatcher;
  /** Whether a commit may have been sent more than once before it was answered. */
  readonly #repeats: boolean;
  readonly #closing = new Closing("Deno KV");
  #closeDatabase: (() => void) | undefined;

  constructor(kv: KvDatabase, { prefix, skewMs, closeDatabase }: KvStoreOptions) {
    this.kv = kv;
    this.skewMs = skewMs;
    this.#prefix = prefix;
    this.#closeDatabase = closeDatabase;
    const origin = originOf(kv);
    this.#watcher = new KvWatcher(this, { origin, closing: this.#closing });
    this.#repeats = origin.native || origin.remote;
  }

  /** Where it is, if the client shows that: only `npm:@deno/kv` over KV Connect does. */
  get name(): string {
    const { url } = this.kv as { readonly url?: unknown };
    const where = URL.canParse(String(url)) ? ` at ${printable(new URL(String(url)).host)}` : "";
    return this.trouble.explain(`Deno KV${where}`);
  }

  get namespace(): string {
    return `Deno KV ${JSON.stringify(this.#prefix.map(String))}`;
  }

  keyOf(key: string): readonly KvKeyPart[] {
    return [...this.#prefix, key];
  }

  /** A separate key for the receipt of a guarded commit. */
  newReceiptKey(): readonly KvKeyPart[] {
    return [...this.#prefix, RECEIPTS, crypto.randomUUID()];
  }

  async read(keys: readonly string[]): Promise<readonly Entry[]> {
    if (keys.length > MAX_READ) {
      throw new RangeError(`Cannot read: Deno KV reads at most ${MAX_READ} keys at once, not ${keys.length}`);
    }
    const found = await retried(
      () =>
        keys.length === 1
          ? this.kv.get(this.keyOf(keys[0])).then((entry) => [entry])
          : this.kv.getMany(keys.map((key) => this.keyOf(key))),
      this.trouble,
    ).catch((error) => {
      throw isUnreadable(error) ? inTheWay("a value that this runtime cannot read", keys, error) : error;
    });
    return found.map((entry, i) => entryOf(keys[i], entry));
  }

  async commit(changes: readonly Change[]): Promise<CommitResult> {
    const { result, isLate } = await this.#watcher.committing(() =>
      retried(() => send(this.#atomic(changes)), this.trouble)
    );
    if (result.ok) return { ok: true, version: result.versionstamp };
    return isLate && this.#repeats ? { ok: false, mayBeEcho: true } : { ok: false };
  }

  whyApart(keys: readonly string[]): string | undefined {
    const most = MAX_READ / 2;
    return keys.length <= most ? undefined : `Deno KV can take ${most} locks at once, not ${keys.length}`;
  }

  watch(key: string, options: WatchOptions): AsyncIterable<Entry> {
    return this.#watcher.watch(key, options);
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    try {
      for await (const entry of listAll(this.kv, { prefix: this.#prefix, from: prefix })) {
        if ("unreadable" in entry) {
          const { unreadable: key } = entry;
          if (!key.startsWith(prefix)) return;
          const value = "a Deno KV value that this runtime cannot read";
          yield { key, value, version: NO_VERSION, foreign: true };
          continue;
        }
        const key = entry.key.at(-1);
        if (typeof key !== "string" || entry.key.length !== this.#prefix.length + 1) continue;
        if (!key.startsWith(prefix)) return;
        yield listedOf(key, entry);
      }
    } catch (error) {
      throw failureOf(error);
    }
  }

  now(): number {
    return systemClock.wallMs();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    this.#closing.close();
    await whenLeft(this);
    this.#closeDatabase?.();
    this.#closeDatabase = undefined;
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
}

/** Commits. An answer is late if the client may have sent the commit again before it came. */
async function send(
  atomic: ReturnType<KvDatabase["atomic"]>,
): Promise<{ readonly result: KvCommit; readonly isLate: boolean }> {
  let isLate = false;
  // In two steps, so that a process that has been frozen meanwhile does not take that for a late answer.
  let timer = systemClock.after(0.45 * REPEAT_MS, () => {
    timer = systemClock.after(0.45 * REPEAT_MS, () => isLate = true);
  });
  const result = await atomic.commit().finally(() => systemClock.clear(timer));
  return { result, isLate };
}

/** The entry of a record. Throws LockBackendError for what is none. */
function entryOf(key: string, found: KvEntry): Entry {
  if (found.versionstamp === null || found.value instanceof Uint8Array) return listedOf(key, found);
  throw inTheWay(foreign(found), [key]);
}

function inTheWay(what: string, keys: readonly string[], failure?: LockBackendError): UnreadableRecordError {
  const names = keys.map(quote).join(" or ");
  return new UnreadableRecordError(`${what} is in the way under the key ${names}`, { cause: failure?.cause });
}

/** The entry as a listing shows it: what is no record of ours says what it is. */
function listedOf(key: string, found: KvEntry): Entry {
  const { value, versionstamp } = found;
  if (versionstamp === null) return { key, value: null, version: null };
  if (value instanceof Uint8Array) return { key, value: decoder.decode(value), version: versionstamp };
  return { key, value: foreign(found), version: versionstamp, foreign: true };
}

/** What a foreign value is called; its content is not shown. */
function foreign({ value }: KvEntry): string {
  const kind = typeof value === "object" || value === undefined ? describe(value) : `a ${typeof value}`;
  return `a Deno KV value that is no record (${kind})`;
}
