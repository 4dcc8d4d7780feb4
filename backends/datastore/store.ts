/** Datastore as a backend. */

import { brand } from "../../core/brand.ts";
import type { Change, CommitResult, Entry, LockBackend, WatchOptions } from "../../core/backend.ts";
import { pause, systemClock } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import type { Guard } from "../../core/guard.ts";
import { printable } from "../../core/printable.ts";
import { Backoff } from "../../core/retry.ts";
import { Closing, whenLeft } from "../closing.ts";
import { poll } from "../polling.ts";
import { errorOf, ServerClock } from "../server_clock.ts";
import { begun, committed, queried, timeOf } from "./answers.ts";
import type { DatastoreApi, DatastoreCommit, DatastoreKey, DatastoreTransaction } from "./api.ts";
import { DatastoreCalls } from "./calls.ts";
import { entryOf, isReserved, listedOf, mutationOf, nameIn, nameOf, namesWith } from "./entities.ts";
import { ABORTED, ALREADY_EXISTS, codeOf, FAILED_PRECONDITION, INVALID_ARGUMENT } from "./failures.ts";
import { LEAST_POLL_MS, type StoreOptions } from "./input.ts";
import { transact } from "./transaction.ts";

/** What a look itself may take, added to the pause before it. */
const LOOK_MS = 250;
/** For how long a commit that the server has aborted, and surely not applied, is asked for again. */
const ABORTED_MS = 2000;
const ABORTED_BACKOFF = { leastMs: 10, mostMs: 200, jitter: true };
/** By how much two processes that know the server's time may differ about it. */
const SKEW_MS = 1000;
/** How many entities one page of a listing has. */
const PAGE = 300;
/** How many keys one lookup takes. */
const MAX_READ = 1000;

/** The backend: what it promises stands where it is made, in `datastoreBackend`. */
export class DatastoreStore implements LockBackend, AsyncDisposable {
  static {
    brand(this, "DatastoreStore/1");
  }

  readonly graceMs: number;
  readonly #calls: DatastoreCalls;
  readonly #partition: NonNullable<DatastoreKey["partitionId"]>;
  readonly #kind: string;
  readonly #pollMs: number;
  readonly #clock = new ServerClock(systemClock, { skewMs: SKEW_MS });
  readonly #closing = new Closing("Datastore");

  constructor(api: DatastoreApi, options: StoreOptions) {
    const { projectId, databaseId, namespace, entityKind, pollMs, timeoutMs } = options;
    this.#calls = new DatastoreCalls(api, {
      database: { projectId, databaseId },
      timeoutMs,
      clock: this.#clock,
    });
    this.#partition = { projectId, databaseId, namespaceId: namespace };
    this.#kind = entityKind;
    this.#pollMs = pollMs;
    this.graceMs = pollMs + LOOK_MS;
  }

  get name(): string {
    const { host, trouble } = this.#calls;
    const { projectId, databaseId } = this.#partition;
    const where = host === undefined ? "" : ` at ${host}`;
    const database = databaseId === "" ? "" : `, database ${databaseId}`;
    return trouble.explain(`Datastore${where} (project ${printable(projectId + database)})`);
  }

  get namespace(): string {
    const { projectId, databaseId, namespaceId } = this.#partition;
    return `Datastore ${
      [projectId, databaseId, namespaceId, this.#kind].map((part) => part ?? "").join("/")
    }`;
  }

  /**
   * Before the first answer nothing is judged, and what is written by this machine's clock is checked by the very answer to
   * it: see `assertClock`.
   */
  get skewMs(): number {
    return this.#calls.hasAnswered ? this.#clock.skewMs : SKEW_MS;
  }

  now(): number {
    return this.#clock.now();
  }

  async read(keys: readonly string[]): Promise<readonly Entry[]> {
    if (keys.length > MAX_READ) {
      throw new RangeError(
        `Cannot read: Datastore reads at most ${MAX_READ} keys at once, not ${keys.length}`,
      );
    }
    if (keys.length === 1) return await this.#lookup(keys);
    // Outside of a transaction a lookup of several may show half of a commit, even twice in a row.
    for (const started = systemClock.monotonicMs();;) {
      const transaction = begun(
        await this.#calls.call("beginTransaction", { transactionOptions: { readOnly: {} } }),
      );
      try {
        return await this.#lookup(keys, { transaction });
      } catch (error) {
        if (codeOf(error) !== ABORTED || systemClock.monotonicMs() - started > ABORTED_MS) throw error;
      } finally {
        // Some servers hold writes back until a transaction that has read them is over.
        await this.#calls.rollback(transaction, keys[0]);
      }
    }
  }

  async commit(changes: readonly Change[]): Promise<CommitResult> {
    const alone = changes.length === 1;
    const request = {
      mode: alone ? "NON_TRANSACTIONAL" : "TRANSACTIONAL",
      // Without a transaction, several mutations may be applied in part.
      singleUseTransaction: alone ? undefined : { readWrite: {} },
      mutations: changes.map((change) => mutationOf(change, this.#keyOf(change.key), this.now())),
    };
    const backoff = new Backoff(ABORTED_BACKOFF);
    const aheadMs = this.#clock.aheadAt(systemClock.monotonicMs());
    for (const started = systemClock.monotonicMs();;) {
      const sentMs = systemClock.monotonicMs();
      try {
        const answer = await this.#calls.call("commit", request);
        const version = committed(answer);
        if (version === undefined) return { ok: false };
        const serverMs = timeOf(answer);
        if (serverMs !== undefined && changes.some(({ value }) => value !== null)) {
          assertClock(errorOf(aheadMs, { sentMs, receivedMs: systemClock.monotonicMs(), serverMs }));
        }
        return { ok: true, version };
      } catch (error) {
        const code = codeOf(error);
        if (code === ALREADY_EXISTS) return { ok: false };
        if (code === FAILED_PRECONDITION || code === INVALID_ARGUMENT) {
          return await this.#conflict(changes, error);
        }
        // An aborted commit is the one failure of which it is known that nothing was applied.
        if (code !== ABORTED || systemClock.monotonicMs() - started > ABORTED_MS) throw error;
        await pause(systemClock, backoff.pauseMs());
      }
    }
  }

  watch(key: string, options: WatchOptions): AsyncIterable<Entry> {
    let pauseMs = LEAST_POLL_MS;
    return poll({
      look: async () => (await this.read([key]))[0],
      onLook: (_, { news }) => {
        // Decorrelated: waiters that began together do not stay together.
        const span = 3 * pauseMs - LEAST_POLL_MS;
        pauseMs = news ? LEAST_POLL_MS : Math.min(this.#pollMs, LEAST_POLL_MS + Math.random() * span);
      },
      pauseMs: () => pauseMs,
      closing: this.#closing,
    }, options);
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    for (const start of namesWith(prefix)) {
      for await (const entry of this.#scan(start)) {
        if (entry.key.startsWith(prefix)) yield entry;
      }
    }
  }

  /**
   * Runs `build` in a transaction that then reads the locks' records, and commits it. `undefined` if one of them does not
   * name the hold any more: nothing is written then.
   */
  guarded(
    { identifier, keys, isProof }: Pick<Guard<DatastoreStore>, "identifier" | "keys" | "isProof">,
    build: (tx: DatastoreTransaction) => unknown,
  ): Promise<DatastoreCommit | undefined> {
    const locks = keys.map((key) => this.#keyOf(key));
    return transact(this.#calls, { identifier, locks, isProof, partition: this.#partition, build });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    this.#closing.close();
    await whenLeft(this);
  }

  #keyOf(key: string): DatastoreKey {
    return { partitionId: this.#partition, path: [{ kind: this.#kind, name: nameOf(key) }] };
  }

  async #lookup(keys: readonly string[], readOptions?: object): Promise<readonly Entry[]> {
    const results = await this.#calls.lookup(keys.map((key) => this.#keyOf(key)), readOptions);
    const found = new Map(results.map(entryOf).map((entry) => [entry.key, entry]));
    return keys.map((key) => found.get(key) ?? { key, value: null, version: null });
  }

  /**
   * A refusal may mean that a version was not the one expected, or something that no other version cures, under
   * the same code: a missing index, a database in another mode. What is stored now distinguishes them, for versions
   * only rise. (An emulator calls a version from before its restart an invalid argument.)
   */
  async #conflict(changes: readonly Change[], refusal: unknown): Promise<CommitResult> {
    const entries = await this.#lookup(changes.map(({ key }) => key)).catch((error) => {
      throw error.transient ? error : refusal;
    });
    if (entries.every(({ version }, i) => version === changes[i].version)) throw refusal;
    return changes.length === 1 ? { ok: false, entries } : { ok: false };
  }

  /** The entries whose names begin with `start`, or all. */
  async *#scan(start: string): AsyncIterable<Entry> {
    // A name of this form is refused even where it only bounds a range; what begins with less has it all.
    const from = isReserved(start) ? start.slice(0, -1) : start;
    const keyValue = { partitionId: this.#partition, path: [{ kind: this.#kind, name: from }] };
    const filter = {
      propertyFilter: { property: { name: "__key__" }, op: "GREATER_THAN_OR_EQUAL", value: { keyValue } },
    };
    let startCursor: unknown;
    for (;;) {
      const query = {
        kind: [{ name: this.#kind }],
        filter: from === "" ? undefined : filter,
        order: [{ property: { name: "__key__" }, direction: "ASCENDING" }],
        startCursor,
        limit: { value: PAGE },
      };
      const answer = await this.#calls.call("runQuery", { partitionId: this.#partition, query });
      const { results, last, endCursor } = queried(answer);
      for (const found of results) {
        const name = nameIn(found);
        if (name.startsWith(start)) yield listedOf(found);
        else if (!start.startsWith(name)) { if (from === start) return; }
      }
      if (last) return;
      startCursor = endCursor;
    }
  }
}

/**
 * Refuses a commit that was made by a wrong idea of the server's time, as the first one of a machine whose clock
 * is wrong. Its outcome then counts as unknown: the core looks at the record again and, by a clock that is right
 * now, renews what it finds to be its own before any caller learns that it holds the lock.
 */
function assertClock(wrongMs: number): void {
  if (Math.abs(wrongMs) <= SKEW_MS / 2) return;
  throw new LockBackendError(
    `this machine's clock differed from the server's by about ${Math.round(Math.abs(wrongMs))} ms`,
    { transient: true },
  );
}
