/** The clients that the backend takes: what it needs of each make, and how they are spoken to alike. */

import { printable } from "../../core/printable.ts";
import { describe, describeClient } from "../../core/validate.ts";
import { type Emitter, Trouble } from "../trouble.ts";

/** A row of an answer: its columns by name. */
export type PostgresRow = Record<string, unknown>;

/** What a query answers: rows, or an object that has them. */
export type PostgresAnswer = readonly PostgresRow[] | { readonly rows: readonly PostgresRow[] };

/** Whatever runs statements, such as a transaction. */
export interface PostgresQueryable {
  /** Runs one statement, whose parameters `$1`, `$2` … are texts or `null`, and answers its rows. */
  query(text: string, values: (string | null)[]): PromiseLike<PostgresAnswer>;
}

/**
 * Your own client, if it is none of the others. PGlite is one as it is. Statements may run on any connection, but
 * never within a transaction that other code has begun.
 */
export interface PostgresClient extends PostgresQueryable {
  /** Runs `work` in a transaction, which is rolled back if that rejects. Without it there is no `commitIfHeld`. */
  // deno-lint-ignore no-explicit-any -- The clients' own types say more of what the work gets and answers.
  transaction?(work: (tx: any) => Promise<any>): Promise<any>;
  /** Listens to a channel; resolves to what ends that. Without it waiters poll. */
  listen?(channel: string, onMessage: (payload: string) => void): Promise<() => Promise<unknown>>;
}

/** A statement as `pg` takes it. */
export interface PgQuery {
  /** Under which name the server keeps the statement, if it is to. */
  readonly name?: string | undefined;
  /** The statement. */
  readonly text: string;
  /** Its parameters. */
  readonly values: (string | null)[];
}

/** What the backend needs of a `Client` of `pg`. */
export interface PgClient {
  /** Runs a statement. */
  query(query: PgQuery): Promise<{ readonly rows: PostgresRow[] }>;
  /** Connects; the caller's own client must be connected before. */
  connect(): Promise<unknown>;
  /** Closes the connection. */
  end(): Promise<void>;
  // deno-lint-ignore no-explicit-any -- The client's own types name the arguments of each event.
  /** Listens to an event. */ on(event: string, listener: (...args: any[]) => void): unknown;
  // deno-lint-ignore no-explicit-any -- As above.
  /** Ends listening. */ off(event: string, listener: (...args: any[]) => void): unknown;
}

/** What the backend needs of a `Pool` of `pg`. */
export interface PgPool {
  /** How many connections it has; only a pool has this. */
  readonly totalCount: number;
  /** Runs a statement on any connection. */
  query(query: PgQuery): Promise<{ readonly rows: PostgresRow[] }>;
  /** Lends a connection. */
  connect(): Promise<PgPoolClient>;
}

/** What the backend needs of a connection that a `Pool` of `pg` lends. */
export interface PgPoolClient extends PgClient {
  /** Gives it back, or with `true` closes it. */
  release(destroy?: boolean): void;
}

/** What the backend needs of `postgres` (postgres.js), or of `Bun.sql`. */
export interface PostgresJs {
  /** Runs a statement that is a text. */
  unsafe(
    text: string,
    values?: (string | null)[],
    options?: { prepare?: boolean | undefined },
  ): PromiseLike<readonly PostgresRow[]>;
  // deno-lint-ignore no-explicit-any -- The client's own types say more of what the work gets and answers.
  /** Runs `work` in a transaction. */ begin(work: (sql: any) => Promise<any>): Promise<any>;
}

/** What may be missing, or is not in the client's own types. */
interface MorePgPool extends PgPool, Partial<Emitter> {
  /** What it makes its connections of, and with. */
  readonly Client?: new (options: unknown) => PgClient & { unref?(): void };
  readonly options?: unknown;
  readonly ending?: boolean;
  readonly ended?: boolean;
}

interface MorePostgresJs extends PostgresJs {
  readonly options?: { readonly prepare?: boolean };
  listen?(
    channel: string,
    onMessage: (payload: string) => void,
    onListen: () => void,
  ): Promise<{ unlisten(): Promise<unknown> }>;
}

/** All that {@linkcode adapterOf} takes. */
export type AnyClient = PgPool | PgClient | PostgresJs | PostgresClient;

/** One statement, the name under which it may be kept, and its parameters. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** Runs a statement. */
export type Query = (statement: Statement, values: (string | null)[]) => Promise<readonly PostgresRow[]>;

/** What a connection that listens notifies. */
export interface ListenEvents {
  onMessage(payload: string): void;
  /** It has been interrupted, and listens again: messages may be missing. */
  onResume(): void;
  /** It is of no more use. */
  onEnd(): void;
  /** Something has failed that is not reported to a caller: it was to be closed in any case. */
  onTrouble(cause: unknown): void;
}

/** A connection that listens to a channel. */
export interface Listening {
  close(): Promise<unknown>;
}

/** A client, whatever its make. */
export interface ClientAdapter {
  /** Whether it is known to be closed for good. */
  readonly closed: boolean;
  /** Host and database, as far as the client shows them: never with a password. */
  readonly address?: string | undefined;
  /** What has gone wrong since the server last answered. */
  readonly trouble: Trouble;
  /** Runs a statement, kept by the server if `keep` is set and the client can do that. */
  query(statement: Statement, values: (string | null)[], keep: boolean): PromiseLike<PostgresAnswer>;
  /** Runs `work` in a transaction, which is rolled back if that rejects. */
  transaction?<Result>(work: (tx: PostgresQueryable) => Promise<Result>): Promise<Result>;
  /** Listens to a channel. Rejects with {@linkcode CannotListen} if that is of no use on this client. */
  listen?(channel: string, events: ListenEvents): Promise<Listening>;
  /** Takes our listeners from the client. */
  detach?(): void;
}

/** Why nothing can be heard on a client. */
export class CannotListen extends Error {}

/** Host and database of a client, from its settings. */
function addressOf(settings: unknown): string | undefined {
  const { connectionString, host, port, database } = Object(settings) as Record<string, unknown>;
  const [first] = [host].flat();
  if (typeof first === "string" && first !== "") {
    return printable([`${first}:${[port].flat()[0] ?? 5432}`, database].filter(Boolean).join("/"));
  }
  if (typeof connectionString !== "string" || !URL.canParse(connectionString)) return undefined;
  const { host: of, pathname } = new URL(connectionString);
  return printable(`${of}${pathname}`);
}

class PgPoolAdapter implements ClientAdapter {
  readonly trouble: Trouble = new Trouble();
  readonly detach?: () => void;
  readonly #pool: MorePgPool;
  #address: string | undefined;

  constructor(pool: MorePgPool) {
    this.#pool = pool;
    const isEmitter = typeof pool.on === "function" && typeof pool.off === "function";
    if (isEmitter) this.detach = this.trouble.listenTo(pool as Emitter);
  }

  get closed(): boolean {
    return Boolean(this.#pool.ending || this.#pool.ended);
  }

  get address(): string | undefined {
    return this.#address ??= addressOf(this.#pool.options) ?? this.#defaultAddress();
  }

  /** What the options do not say is in the environment: where to connect to, only a client of the pool's knows. */
  #defaultAddress(): string | undefined {
    const { Client, options } = this.#pool;
    try {
      return typeof Client === "function" ? addressOf(new Client(options)) : undefined;
    } catch (error) {
      this.trouble.note(error);
      return undefined;
    }
  }

  query({ name, text }: Statement, values: (string | null)[], keep: boolean): Promise<PostgresAnswer> {
    return this.#pool.query(keep ? { name, text, values } : { text, values });
  }

  async transaction<Result>(work: (tx: PostgresQueryable) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect();
    // While it is lent out, the pool does not listen, and an error without a listener ends the process.
    const onError = () => {};
    client.on("error", onError);
    let isWhole = false;
    try {
      const result = await begun(client, work);
      isWhole = true;
      return result;
    } catch (error) {
      isWhole = error instanceof RolledBack;
      throw error instanceof RolledBack ? error.cause : error;
    } finally {
      client.off("error", onError);
      client.release(!isWhole);
    }
  }

  /**
   * On a connection like the pool's own rather than on one of them: a pool of one would have none left, and `pool.end()`
   * waits for whatever is lent out.
   */
  async listen(channel: string, events: ListenEvents): Promise<Listening> {
    const { Client, options } = this.#pool;
    if (typeof Client !== "function") throw new CannotListen("the pool does not show its Client");
    const client = new Client(options);
    client.on("error", events.onEnd);
    client.on("end", events.onEnd);
    client.on("notification", (message: { channel: string; payload?: string }) => {
      if (message.channel === channel) events.onMessage(message.payload ?? "");
    });
    try {
      await client.connect();
      await client.query({ text: `LISTEN ${quoted(channel)}`, values: [] });
    } catch (error) {
      await client.end().catch(events.onTrouble);
      throw error;
    }
    // The timers of a waiter keep the process alive, not this connection.
    client.unref?.();
    return { close: () => client.end() };
  }
}

class PgClientAdapter implements ClientAdapter {
  readonly closed = false;
  readonly trouble: Trouble = new Trouble();
  readonly detach: () => void;
  readonly address: string | undefined;
  readonly #client: PgClient & { readonly processID?: number | null };
  /** Settles when the transaction that is open is over. */
  #busy: Promise<unknown> | undefined;

  constructor(client: PgClient) {
    this.#client = client;
    this.address = addressOf(client);
    this.detach = this.trouble.listenTo(client);
  }

  async query(
    { name, text }: Statement,
    values: (string | null)[],
    keep: boolean,
  ): Promise<PostgresAnswer> {
    // What ran within the transaction would be undone with it.
    while (this.#busy !== undefined) await this.#busy;
    return await this.#client.query(keep ? { name, text, values } : { text, values });
  }

  async transaction<Result>(work: (tx: PostgresQueryable) => Promise<Result>): Promise<Result> {
    while (this.#busy !== undefined) await this.#busy;
    const done = begun(this.#client, work);
    this.#busy = Promise.allSettled([done]).then(() => {
      this.#busy = undefined;
    });
    try {
      return await done;
    } catch (error) {
      throw error instanceof RolledBack ? error.cause : error;
    }
  }

  async listen(channel: string, events: ListenEvents): Promise<Listening> {
    const client = this.#client;
    // A pooler makes up the process that it says it is, and on its connections messages go astray.
    const text = "SELECT pg_backend_pid() AS pid";
    const [row] = rowsOf(await this.query({ name: "", text }, [], false));
    if (client.processID !== undefined && Number(row?.pid) !== client.processID) {
      throw new CannotListen("the client is connected through a pooler");
    }
    const onMessage = (message: { channel: string; payload?: string }) => {
      if (message.channel === channel) events.onMessage(message.payload ?? "");
    };
    let isGone = false;
    const onEnd = () => {
      isGone = true;
      events.onEnd();
    };
    client.on("notification", onMessage);
    client.on("end", onEnd);
    const leave = () => {
      client.off("notification", onMessage);
      client.off("end", onEnd);
    };
    try {
      await this.query({ name: "", text: `LISTEN ${quoted(channel)}` }, [], false);
    } catch (error) {
      leave();
      throw error;
    }
    return {
      close: async () => {
        leave();
        // A connection that is gone listens to nothing.
        if (!isGone) await this.query({ name: "", text: `UNLISTEN ${quoted(channel)}` }, [], false);
      },
    };
  }
}

class PostgresJsAdapter implements ClientAdapter {
  readonly closed = false;
  readonly trouble: Trouble = new Trouble();
  readonly address: string | undefined;
  readonly #sql: MorePostgresJs;
  readonly listen?: ClientAdapter["listen"];

  constructor(sql: PostgresJs) {
    this.#sql = sql;
    this.address = addressOf(this.#sql.options);
    const { listen } = this.#sql;
    if (listen !== undefined) this.listen = (channel, events) => this.#listen(channel, events, listen);
  }

  query({ text }: Statement, values: (string | null)[], keep: boolean): PromiseLike<PostgresAnswer> {
    // If the client is set not to prepare statements, there is a reason.
    const prepare = keep && this.#sql.options?.prepare !== false;
    return this.#sql.unsafe(text, values, { prepare });
  }

  transaction<Result>(work: (tx: PostgresQueryable) => Promise<Result>): Promise<Result> {
    return this.#sql.begin((sql: PostgresJs) => work({ query: (text, values) => sql.unsafe(text, values) }));
  }

  async #listen(
    channel: string,
    { onMessage, onResume }: ListenEvents,
    listen: NonNullable<MorePostgresJs["listen"]>,
  ): Promise<Listening> {
    let times = 0;
    const { unlisten } = await listen(channel, onMessage, () => {
      if (times++ > 0) onResume();
    });
    return { close: unlisten };
  }
}

class OwnAdapter implements ClientAdapter {
  readonly trouble: Trouble = new Trouble();
  readonly #client: PostgresClient & { readonly closed?: boolean };
  readonly transaction?: ClientAdapter["transaction"];
  readonly listen?: ClientAdapter["listen"];

  constructor(client: PostgresClient) {
    this.#client = client;
    if (typeof client.transaction === "function") {
      this.transaction = (work) =>
        client.transaction!(async (tx: PostgresQueryable) => {
          const result = await work(tx);
          // If a statement has failed, and the caller has passed over that, this fails, too.
          await tx.query("SELECT 1", []);
          return result;
        });
    }
    if (typeof client.listen === "function") {
      this.listen = async (channel, { onMessage }) => {
        const close = await client.listen!(channel, onMessage);
        return { close: () => this.closed ? Promise.resolve() : close() };
      };
    }
  }

  get closed(): boolean {
    return this.#client.closed === true;
  }

  query({ text }: Statement, values: (string | null)[]): PromiseLike<PostgresAnswer> {
    return this.#client.query(text, values);
  }
}

/** The server has undone a transaction that was to be committed. */
class Aborted extends Error {
  constructor() {
    super("a statement of the transaction has failed, and the server has rolled it back");
  }
}

/** A transaction that was rolled back, and whose connection is as good as new. */
class RolledBack extends Error {}

/** Runs `work` in a transaction on this connection. */
async function begun<Result>(
  client: Pick<PgClient, "query">,
  work: (tx: PostgresQueryable) => Promise<Result>,
): Promise<Result> {
  let isOpen = true;
  const query = (text: string, values: (string | null)[]) => {
    // What comes too late would be on its own, outside of the transaction.
    if (!isOpen) return Promise.reject(new Error("the transaction is over"));
    return client.query({ text, values });
  };
  await client.query({ text: "BEGIN", values: [] });
  let result: Result;
  try {
    result = await work({ query });
  } catch (cause) {
    isOpen = false;
    await client.query({ text: "ROLLBACK", values: [] });
    throw new RolledBack("rolled back", { cause });
  }
  isOpen = false;
  const { command } = await client.query({ text: "COMMIT", values: [] }) as { readonly command?: string };
  // A statement has failed, and the caller has passed over that; the server does not.
  if (command === "ROLLBACK") throw new RolledBack("rolled back", { cause: new Aborted() });
  return result;
}

/** The rows of an answer. */
export function rowsOf(answer: PostgresAnswer): readonly PostgresRow[] {
  const rows = Array.isArray(answer) ? answer : (answer as { rows?: unknown } | null | undefined)?.rows;
  if (Array.isArray(rows)) return rows;
  throw new TypeError(`a query must answer rows, and this one answered ${describe(answer)}`);
}

/** A name as SQL takes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Makes what speaks to a client of any make, and listens to it. Throws TypeError for what is none. */
export function adapterOf(client: AnyClient): () => ClientAdapter {
  const members = client as unknown as Record<string, unknown> | null | undefined;
  const has = (name: string) => typeof members?.[name] === "function";
  const rule =
    "Cannot make a Postgres backend: 'client' must be a Pool or Client of pg, a postgres.js, a PGlite, " +
    "or an object with a function 'query'";
  const lacks = (name: string): never => {
    const shown = describeClient(client);
    throw new TypeError(`${rule}, current value lacks '${name}': ${shown}${hintFor(client)}`);
  };
  if (has("unsafe")) {
    if (!has("begin")) lacks("begin");
    return () => new PostgresJsAdapter(client as PostgresJs);
  }
  if (!has("query")) lacks("query");
  if (has("release") && has("connect")) {
    throw new TypeError(`${rule}; a connection that a pool has lent may be given back: hand in the pool`);
  }
  if (typeof members?.totalCount === "number") {
    if (!has("connect")) lacks("connect");
    return () => new PgPoolAdapter(client as PgPool);
  }
  // The client of pg has both; PGlite has neither.
  if (has("connect") && has("end")) {
    for (const name of ["on", "off"]) if (!has(name)) lacks(name);
    return () => new PgClientAdapter(client as PgClient);
  }
  return () => new OwnAdapter(client as PostgresClient);
}

/** What to do with what people take for a client. */
function hintFor(client: unknown): string {
  if (typeof client === "string" || client instanceof URL) {
    return "; a URL is for the client: new Pool({ connectionString })";
  }
  return typeof client === "function" ? "; call it, with 'new' if it is a class" : "";
}
