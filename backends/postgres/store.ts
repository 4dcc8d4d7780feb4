/** Postgres as a backend. */

import type {
  Change,
  CommitOptions,
  CommitResult,
  Entry,
  LockBackend,
  WatchOptions,
} from "../../core/backend.ts";
import { systemClock } from "../../core/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import { publishBackendError } from "../../core/events.ts";
import { lockKeyOf, queueKeyOf } from "../../core/identifier.ts";
import { causeOf } from "../causes.ts";
import { whenLeft } from "../closing.ts";
import { errorOf, ServerClock, type TimedAnswer } from "../server_clock.ts";
import { watchThrough } from "../watched.ts";
import {
  type ClientAdapter,
  type PostgresQueryable,
  type PostgresRow,
  rowsOf,
  type Statement,
} from "./clients.ts";
import {
  failureOf,
  hasLostStatements,
  isForbidden,
  isMadeMeanwhile,
  isRefused,
  isUndefinedTable,
} from "./failures.ts";
import type { StoreOptions } from "./input.ts";
import { newsOf } from "./news.ts";
import { entryOf, identifierOf, keyIn, textIn, timeIn, versionIn } from "./rows.ts";
import { type Statements, statementsOf, tableName, TOLERANCE_MS, WHOLE } from "./statements.ts";
import { Subscriptions } from "./subscriptions.ts";

/** How late a notification may be, and what a look itself may take, added to the pause before it. */
const LISTEN_GRACE_MS = 200;
const LOOK_MS = 250;
/** How many rows one page of a listing has. */
const PAGE = 500;
/** After how many deletions, on the average, one sweep follows. */
const SWEEP_EVERY = 1000;
/** How often a commit is sent whose rows have to be made before. */
const MAKE_TRIES = 3;

/** What proves a hold: its record names it, or all of its records do. */
export interface HolderProof {
  readonly keys: readonly string[];
  readonly token: string;
  readonly fence: string;
}

/** The answer to a commit, and of which keys it has rows if it is refused: those of the changes first. */
interface Applied {
  readonly sentMs: number;
  readonly rows: readonly PostgresRow[];
  readonly keys: readonly string[];
}

/** What a refused commit has found, and which watchers it concerns. */
interface Refused extends Pick<Applied, "rows" | "keys"> {
  readonly notify: ((entries: readonly Entry[]) => void) | undefined;
}

/** The backend: what it promises stands where it is made, in `postgresBackend`. */
export class PostgresStore implements LockBackend, AsyncDisposable {
  readonly adapter: ClientAdapter;
  readonly #options: StoreOptions;
  readonly #table: string;
  readonly #statements: Statements;
  readonly #subscriptions: Subscriptions;
  /**
   * Before the first answer, this machine's wall clock is trusted: a commit that it has dated wrongly is refused, by the
   * server if it was ahead, by `#assertClock` if it was behind.
   */
  readonly #clock = new ServerClock(systemClock, { skewMs: 2 * TOLERANCE_MS, wallErrorMs: TOLERANCE_MS });
  /** Whether the server keeps our statements: not behind a pooler that changes connections and does not know of them. */
  #keepsStatements = true;
  #creation: Promise<void> | undefined;
  #untilSweep = Math.ceil(Math.random() * SWEEP_EVERY);

  readonly #onClose: () => void;

  constructor(adapter: ClientAdapter, options: StoreOptions, onClose: () => void) {
    this.#onClose = onClose;
    this.adapter = adapter;
    this.#options = options;
    this.#table = tableName(options.schema, options.table);
    this.#statements = statementsOf(this.#table);
    this.#subscriptions = new Subscriptions(this, options);
  }

  /** With the way in which waiters hear of news, once that is known, and with what has gone wrong since the last answer. */
  get name(): string {
    const { hears } = this.#subscriptions;
    const how = hears === undefined ? "" : hears ? ", listening" : ", polling";
    const { address, trouble } = this.adapter;
    const where = address === undefined ? "" : ` at ${address}`;
    return trouble.explain(`Postgres${where} (table ${this.#table}${how})`);
  }

  get namespace(): string {
    return `Postgres ${this.#table}`;
  }

  /** As long as it is not known whether notifications arrive, news may have to be looked for. */
  get graceMs(): number {
    return this.#subscriptions.hears ? LISTEN_GRACE_MS : this.#options.pollMs + LOOK_MS;
  }

  now(): number {
    return this.#clock.now();
  }

  get skewMs(): number {
    return this.#clock.skewMs;
  }

  get errorMs(): number {
    return this.#clock.uncertaintyMs;
  }

  async read(keys: readonly string[]): Promise<readonly Entry[]> {
    const rows = await this.#ask(this.#statements.read, [jsonOf(keys)]);
    const found = new Map(rows.map((row) => [row.identifier, row]));
    return keys.map((key) => entryOf(key, found.get(identifierOf(key))));
  }

  async commit(changes: readonly Change[], { concerns }: CommitOptions = {}): Promise<CommitResult> {
    // What is sent was written by the clock as it is now, whatever other answers say of it meanwhile.
    const aheadMs = this.#clock.aheadAt(systemClock.monotonicMs());
    const notify = this.#subscriptions.notifier(changes);
    try {
      const { sentMs, rows, keys } = await this.#apply(changes, concerns);
      const [first, ...found] = rows;
      const isDone = first !== undefined && first.identifier === null && (first.outcome ?? "ok") === "ok";
      const answer = this.#learn(first, sentMs);
      if (!isDone) {
        return this.#conflict(changes, { keys, rows: first?.identifier === null ? found : rows, notify });
      }
      const version = versionIn(first);
      this.#assertClock(changes, errorOf(aheadMs, answer));
      notify?.(changes.map(({ key, value }) => ({ key, value, version: value === null ? null : version })));
      if (changes.some(({ value }) => value === null)) this.#sweepSometimes(changes[0].key);
      return { ok: true, version };
    } catch (error) {
      // The server did nothing, because of what others did at the same time.
      if (isRefused(error)) return { ok: false };
      throw error;
    }
  }

  watch(key: string, options: WatchOptions): AsyncIterable<Entry> {
    return watchThrough(this.#subscriptions, key, options);
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    const start = identifierOf(prefix);
    for (let after: string | null = null;;) {
      const rows: readonly PostgresRow[] = await this.#ask(this.#statements.list, [
        start,
        after,
        String(PAGE),
      ]);
      for (const row of rows) {
        const identifier = textIn(row, "identifier");
        // They come in order, so nothing that begins with it comes any more.
        if (!identifier.startsWith(start)) return;
        yield entryOf(keyIn(identifier), row);
      }
      if (rows.length < PAGE) return;
      after = textIn(rows[PAGE - 1], "identifier");
    }
  }

  /** Reads a record and marks it as watched. */
  async mark(key: string): Promise<{ readonly entry: Entry; readonly channel: string }> {
    for (;;) {
      const [row] = await this.#ask(this.#statements.watch, [identifierOf(key)]);
      // None: it was made while this statement ran, which sees it only the next time.
      if (row !== undefined) return { entry: entryOf(key, row), channel: textIn(row, "channel") };
    }
  }

  async channel(): Promise<string> {
    const [row] = await this.#ask(this.#statements.channel, []);
    return textIn(row, "channel");
  }

  async notify(channel: string, message: string): Promise<void> {
    await this.#ask(this.#statements.notify, [channel, message]);
  }

  /**
   * Runs `work` in a transaction that has locked the locks' rows, if their records still name this hold: until the
   * transaction ends, no process can take it away. `undefined` if they do not.
   */
  async guarded<Result>(
    { keys, token, fence }: HolderProof,
    work: (tx: PostgresQueryable) => Promise<Result>,
  ): Promise<{ readonly result: Result } | undefined> {
    const { lockIfHeld: { text } } = this.#statements;
    return await this.adapter.transaction!(async (tx) => {
      const rows = rowsOf(await tx.query(text, [jsonOf(keys), token, fence]));
      return rows.length === keys.length ? { result: await work(tx) } : undefined;
    });
  }

  /** The statement that fails, and with it the transaction that it is in, unless the records name this hold. */
  guardOf({ keys, token, fence }: HolderProof, message: string): { text: string; values: string[] } {
    const { text } = this.#statements.guard;
    return { text, values: [jsonOf(keys), token, fence, message] };
  }

  /** Removes what has not been needed for a day. Answers nothing, for it need not be done at any time. */
  async sweep(): Promise<void> {
    await this.#ask(this.#statements.sweep, []);
  }

  failure(cause: unknown): LockBackendError {
    const { closed, trouble } = this.adapter;
    return failureOf(cause, { table: this.#table, closed, trouble });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    this.#onClose();
    await this.#subscriptions.close();
    // Waiters leave the queue now, for the client is still there.
    await whenLeft(this);
    this.adapter.detach?.();
  }

  /** Sends a commit by the statement that does least. */
  async #apply(
    changes: readonly Change[],
    concerns: readonly string[] | undefined,
  ): Promise<Applied> {
    const { index, extent } = newsOf(changes, concerns);
    const [{ key, version, value, expireInMs }] = changes;
    const at = changes.every(({ isOwn = false }) => isOwn) ? null : String(this.now());
    if (changes.length > 1 || (version === null && value === null) || extent !== WHOLE) {
      return await this.#applyAll(changes, [
        at,
        jsonOf(changes.map(({ key }) => lockKeyOf(key))),
        index,
        extent,
      ]);
    }
    const lock = lockKeyOf(key);
    const isLock = lock === key;
    const { create, replace, delete: remove } = isLock ? this.#statements.lock : this.#statements.queue;
    const keys = [key, isLock ? queueKeyOf(key) : lock];
    const words = [identifierOf(key), index, identifierOf(keys[1])];
    const sentMs = systemClock.monotonicMs();
    const expire = expireInMs === undefined ? null : String(expireInMs);
    const rows = value === null
      ? await this.#send(remove, [...words, version, at])
      : version === null
      ? await this.#send(create, [...words, value, expire])
      : await this.#send(replace, [...words, value, expire, version, at]);
    return { sentMs, rows, keys };
  }

  async #applyAll(
    changes: readonly Change[],
    words: (string | null)[],
  ): Promise<Applied> {
    const input = JSON.stringify(changes.map(({ key, version, value, expireInMs }) => ({
      key: identifierOf(key),
      seen: version,
      record: value,
      expires: expireInMs ?? null,
    })));
    const keys = changes.map(({ key }) => key);
    for (let tries = 1;; tries++) {
      const sentMs = systemClock.monotonicMs();
      const rows = await this.#send(this.#statements.commit, [input, ...words]);
      if (rows[0]?.outcome !== "missing" || tries === MAKE_TRIES) return { sentMs, rows, keys };
      // Surely nothing was done.
      await this.#send(this.#statements.make, [jsonOf(keys)]);
    }
  }

  /**
   * What a refused commit has found. What is as it should be was changed while the statement ran, or refused for
   * the sender's clock, which is right now: a reader sees it as it is.
   */
  #conflict(changes: readonly Change[], { keys, rows, notify }: Refused): CommitResult {
    const found = new Map(rows.map((row) => [row.identifier, row]));
    const entries = keys.map((key) => entryOf(key, found.get(identifierOf(key))));
    if (changes.every(({ version }, i) => version === entries[i].version)) return { ok: false };
    notify?.(entries.slice(0, changes.length));
    return { ok: false, entries };
  }

  /** Refuses what was written by a clock that was behind: it would let others take its holder's lease for over. */
  #assertClock(changes: readonly Change[], behindMs: number): void {
    if (behindMs <= TOLERANCE_MS || changes.every(({ value }) => value === null)) return;
    throw new LockBackendError(`the clock was ${Math.round(behindMs)} ms behind the server's`, {
      transient: true,
    });
  }

  /** Runs a statement whose answer contains the time. */
  async #ask(statement: Statement, values: (string | null)[]): Promise<readonly PostgresRow[]> {
    const sentMs = systemClock.monotonicMs();
    const rows = await this.#send(statement, values);
    if (rows[0]?.now !== undefined) this.#learn(rows[0], sentMs);
    return rows;
  }

  #learn(row: PostgresRow | undefined, sentMs: number): TimedAnswer {
    const receivedMs = systemClock.monotonicMs();
    // A refused commit that has found nothing at all answers no row, and no time.
    if (row === undefined) return { sentMs, receivedMs, serverMs: this.now() };
    const answer = { sentMs, receivedMs, serverMs: timeIn(row) };
    this.#clock.learn(answer);
    return answer;
  }

  /** Runs a statement; makes the table before, if there is none. */
  async #send(statement: Statement, values: (string | null)[]): Promise<readonly PostgresRow[]> {
    try {
      return await this.#run(statement, values);
    } catch (error) {
      if (!isUndefinedTable(error) || !this.#options.createTable) throw error;
      await (this.#creation ??= this.#createTable().finally(() => this.#creation = undefined));
      return await this.#run(statement, values);
    }
  }

  /** Runs a statement as it is. */
  async #run(statement: Statement, values: (string | null)[]): Promise<readonly PostgresRow[]> {
    const keep = this.#keepsStatements;
    const { trouble } = this.adapter;
    try {
      const rows = rowsOf(await this.adapter.query(statement, values, keep));
      trouble.forget();
      return rows;
    } catch (error) {
      if (!keep || !hasLostStatements(error)) {
        const failure = this.failure(error);
        // A statement that the server refuses is an answer.
        if (failure.transient) trouble.note(error);
        throw failure;
      }
      // Nothing has run. Behind such a pooler it would go wrong again and again.
      this.#keepsStatements = false;
      return await this.#run(statement, values);
    }
  }

  /** Any number of processes do that at the same time, and to Postgres that is an error for some of them. */
  async #createTable(): Promise<void> {
    const { createTable: text } = this.#statements;
    await this.#run({ name: "", text }, []).catch((error) => {
      if (isMadeMeanwhile(error)) return;
      if (!isForbidden(error)) throw error;
      const { cause } = error;
      throw new LockBackendError(
        `the table ${this.#table} does not exist, and may not be created: docs/postgres.md has its statement (${
          causeOf(cause).message
        })`,
        { cause },
      );
    });
  }

  #sweepSometimes(identifier: string): void {
    if (--this.#untilSweep > 0) return;
    this.#untilSweep = SWEEP_EVERY;
    this.sweep().catch((error) => publishBackendError(identifier, error));
  }
}

function jsonOf(keys: readonly string[]): string {
  return JSON.stringify(keys.map(identifierOf));
}
