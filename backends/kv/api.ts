/** What the backend needs of a Deno KV database. */

/** One part of a Deno KV key. */
export type KvKeyPart = Uint8Array | string | number | bigint | boolean | symbol;

/** A key to look for. Deno's own types let a part be a symbol, npm:@deno/kv's do not: none is looked for. */
export type KvSelectorKey = readonly Exclude<KvKeyPart, symbol>[];

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
  readonly expireIn?: number | undefined;
}

/** An atomic operation of Deno KV while it is put together: `Deno.AtomicOperation` without `commit`. */
export interface KvAtomic {
  /** Makes the commit depend on these versions; see `Deno.AtomicOperation.check`. */
  check(...checks: { key: readonly KvKeyPart[]; versionstamp: string | null }[]): this;
  /** Sets a value; see `Deno.AtomicOperation.set`. */
  set(key: readonly KvKeyPart[], value: unknown, options?: { expireIn?: number | undefined }): this;
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
    options?: {
      delay?: number | undefined;
      keysIfUndelivered?: (readonly KvKeyPart[])[] | undefined;
      backoffSchedule?: number[] | undefined;
    },
  ): this;
}

/** What the backend needs of a Deno KV database: a `Deno.Kv`, or one of `npm:@deno/kv`. */
export interface KvDatabase {
  /** Reads one entry. */
  get(key: readonly KvKeyPart[]): Promise<KvEntry>;
  /** Reads up to ten entries of one snapshot. */
  getMany(keys: readonly (readonly KvKeyPart[])[]): Promise<readonly KvEntry[]>;
  /** Lists entries by key. */
  list(
    selector:
      | { prefix: KvSelectorKey; start: KvSelectorKey }
      | { start: KvSelectorKey; end: KvSelectorKey },
    options?: { batchSize?: number | undefined },
  ): AsyncIterable<KvEntry>;
  /** Begins an atomic operation. */
  atomic(): KvAtomic & { commit(): Promise<KvCommit> };
  /** Streams entries as they change; with `raw`, also those that did not. */
  watch(
    keys: readonly (readonly KvKeyPart[])[],
    options?: { raw?: boolean | undefined },
  ): ReadableStream<readonly KvEntry[]>;
}
