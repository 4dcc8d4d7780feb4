/** Opens the store that a command line names, with the client that is installed. */

import process from "node:process";
import type { LockBackend } from "../core/backend.ts";
import { LockBackendError, messageOf, quote } from "../core/errors.ts";
import { participantOf } from "../core/participant.ts";
import { Backoff } from "../core/retry.ts";
import { causeOf } from "../backends/causes.ts";
import { datastoreBackend, datastoreClient } from "../backends/datastore.ts";
import { kvBackend, type KvDatabase } from "../backends/kv.ts";
import { MACHINES_SKEW_MS, processesSkewMs } from "../backends/kv/clients.ts";
import { type PgPool, postgresBackend, type PostgresJs } from "../backends/postgres.ts";
import { type IoRedisClient, type NodeRedisClient, redisBackend } from "../backends/redis.ts";
import { keepSecret } from "./terminal.ts";
import { UsageError } from "./usage.ts";

/** How long a process that leaves waits for what it left in the store to be cleared away. */
const LEAVE_MS = 5000;

/** What can be named. */
const KINDS =
  "kv:<path> of a file, https://<host>, redis://<host>, rediss://<host>, postgres://<host>/<database>, " +
  "datastore:<project>";

/** After how long a Redis that went away is tried again. */
const RECONNECT_BACKOFF = { leastMs: 50, mostMs: 2000 };

/** An open store. */
export interface Store {
  readonly backend: LockBackend;
  /** Lets acquisitions that were given up clear up behind themselves, and closes the client. */
  close(): Promise<void>;
}

interface Opened {
  readonly backend: LockBackend;
  close(): unknown;
}

type KvClient = KvDatabase & { close(): void };
type OpenKv = (path: string, options?: object) => Promise<KvClient>;

/**
 * Opens the store that is `given`, or else the environment; one that would send a token in the clear only if
 * `insecure` says so. Throws {@linkcode UsageError} for what names none, and LockBackendError if it cannot be opened.
 */
export async function openStore(given: string | undefined, insecure: boolean): Promise<Store> {
  const spec = given ?? process.env.HOLDFAST_BACKEND ?? "";
  keepSecret(secretsIn(spec));
  const open = opener(spec, insecure);
  const { backend, close } = await open().catch((error) => {
    if (error instanceof LockBackendError) throw error;
    throw new LockBackendError(`Cannot open the store: ${firstLineOf(error)}`, { cause: causeOf(error) });
  });
  return {
    backend,
    async close() {
      await participantOf(backend).whenIdle(LEAVE_MS);
      await close();
    },
  };
}

/** How the store that `spec` names is opened. Throws {@linkcode UsageError} for what names none. */
export function opener(spec: string, insecure: boolean): () => Promise<Opened> {
  const [, scheme, rest] = /^([a-z]+):(.+)$/s.exec(spec) ?? [];
  if (scheme === "kv" && rest !== ":memory:") return () => openKv(rest, processesSkewMs());
  if (scheme === "datastore") return () => openDatastore(rest);
  if (URL.canParse(spec) && new URL(spec).hostname !== "") {
    if (scheme === "http" && !insecure && (process.env.DENO_KV_ACCESS_TOKEN || spec.includes("@"))) {
      throw new UsageError(
        "--backend http://… sends DENO_KV_ACCESS_TOKEN in clear text: use https://, or add --insecure if the " +
          "network is trusted",
      );
    }
    if (scheme === "http" || scheme === "https") return () => openKv(spec, MACHINES_SKEW_MS);
    if (scheme === "redis" || scheme === "rediss") return () => openRedis(spec);
    if (scheme === "postgres" || scheme === "postgresql") return () => openPostgres(spec);
  }
  const [, named] = /^([a-z][a-z\d+.-]*):/i.exec(spec) ?? [];
  // Nothing else of it: it may have a password anywhere.
  const value = named === undefined ? "it names no scheme" : `its scheme is ${quote(named)}`;
  if (spec === "") {
    throw new UsageError(`no store is named: set HOLDFAST_BACKEND or add --backend (${KINDS})`);
  }
  throw new UsageError(`--backend, or HOLDFAST_BACKEND, must be one of ${KINDS}: ${value}`);
}

/** What no message may repeat: the URL as it was given and as clients write it, and what is secret in it. */
export function secretsIn(spec: string): readonly string[] {
  if (!spec.includes("//")) return [];
  const secrets = [spec];
  if (URL.canParse(spec)) {
    const { href, username, password, search } = new URL(spec);
    secrets.push(href, `${username}:${password}`, password, decoded(password), search.slice(1));
  }
  return secrets;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A percent sign that encodes nothing.
    return text;
  }
}

async function openKv(path: string, skewMs: number): Promise<Opened> {
  // Locks are kept as bytes. On Bun the client wants to be told how to read and write other values.
  const foreign = "Bun" in globalThis
    ? { encodeV8: () => new Uint8Array(), decodeV8: () => undefined }
    : undefined;
  const kv = await (await kvOpener())(path, foreign);
  return { backend: kvBackend(kv, { skewMs }), close: () => kv.close() };
}

async function kvOpener(): Promise<OpenKv> {
  const deno = (globalThis as { Deno?: { openKv?: OpenKv } }).Deno;
  if (deno === undefined) return (await load(["@deno/kv"])).openKv as OpenKv;
  if (deno.openKv !== undefined) return deno.openKv;
  throw new LockBackendError("Cannot open the store: Deno KV is not enabled, run deno with --unstable-kv");
}

async function openDatastore(projectId: string): Promise<Opened> {
  const client = await datastoreClient({ projectId });
  return { backend: datastoreBackend(client, { projectId }), close: () => client.close() };
}

/** What is used of the classes of the two clients, beside what the backend uses. */
interface RedisClients {
  readonly Redis?: new (
    url: string,
    options: { lazyConnect: true; retryStrategy: (times: number) => number | null },
  ) => IoRedisClient & Connecting & { disconnect(): void };
  readonly createClient?: (
    options: {
      url: string;
      socket: { reconnectStrategy: (retries: number, cause: Error) => number | Error };
    },
  ) => NodeRedisClient & Connecting & { destroy(): void };
}

interface Connecting {
  connect(): Promise<unknown>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

async function openRedis(url: string): Promise<Opened> {
  const { Redis, createClient } = await load(["ioredis", "redis"]) as RedisClients;
  // A server that is not there is told at once; one that goes away is waited for, as long as the lease runs.
  let connected = false;
  let failure: Error | undefined;
  let backoff = new Backoff(RECONNECT_BACKOFF);
  const again = (times: number) => {
    if (times === 1) backoff = new Backoff(RECONNECT_BACKOFF);
    return backoff.pauseMs();
  };
  const connect = async (client: Connecting) => {
    client.on("error", (error) => failure = error);
    await client.connect().catch((error) => {
      throw failure ?? error;
    });
    connected = true;
  };
  if (Redis !== undefined) {
    const retryStrategy = (times: number) => connected ? again(times) : null;
    const client = new Redis(url, { lazyConnect: true, retryStrategy });
    await connect(client);
    const backend = redisBackend(client);
    const close = async () => {
      await backend[Symbol.asyncDispose]();
      client.disconnect();
    };
    return { backend, close };
  }
  const reconnectStrategy = (retries: number, cause: Error) => connected ? again(retries + 1) : cause;
  const client = createClient!({ url, socket: { reconnectStrategy } });
  await connect(client);
  const backend = redisBackend(client);
  const close = async () => {
    await backend[Symbol.asyncDispose]();
    client.destroy();
  };
  return { backend, close };
}

/** What is used of the clients, beside what the backend uses. */
interface PostgresClients {
  readonly Pool?: new (
    options: { connectionString: string },
  ) => PgPool & { on(event: "error", listener: () => void): unknown; end(): Promise<void> };
  readonly default?: (url: string, options: object) => PostgresJs & { end(options: object): Promise<void> };
}

async function openPostgres(url: string): Promise<Opened> {
  const clients = await load(["pg", "postgres"]);
  // As a module of CommonJS, `pg` may show its members on its default export only.
  const { Pool = (clients.default as PostgresClients | undefined)?.Pool, default: postgres } =
    clients as PostgresClients;
  if (Pool !== undefined) {
    const pool = new Pool({ connectionString: url });
    // What breaks shows in the statements.
    pool.on("error", () => {});
    const backend = postgresBackend(pool);
    const close = async () => {
      await backend[Symbol.asyncDispose]();
      await pool.end();
    };
    // A server that is not there is told at once.
    await backend.read([]).catch(async (error) => {
      await close();
      throw error;
    });
    return { backend, close };
  }
  const sql = postgres!(url, { onnotice() {} });
  const backend = postgresBackend(sql);
  const close = async () => {
    await backend[Symbol.asyncDispose]();
    await sql.end({ timeout: 1 });
  };
  await backend.read([]).catch(async (error) => {
    await close();
    throw error;
  });
  return { backend, close };
}

/** Which version of a client Deno fetches where none is named by the import map. */
const RANGES: Readonly<Record<string, string>> = {
  ioredis: "^6.0.0",
  redis: "^6.3.1",
  pg: "^8.23.1",
  postgres: "^3.4.9",
};

/** Loads the first of these packages that is installed: the user's own, on which this package does not depend. */
async function load(names: readonly string[]): Promise<Record<string, unknown>> {
  let failure: unknown;
  for (const name of names) {
    const specifiers = "Deno" in globalThis ? [name, `npm:${name}@${RANGES[name]}`] : [name];
    for (const specifier of specifiers) {
      try {
        return await import(specifier);
      } catch (cause) {
        failure ??= cause;
      }
    }
  }
  const [first] = names;
  throw new LockBackendError(
    `Cannot open the store: ${names.join(" or ")} must be installed beside @holdfast/lock, ` +
      `with: npm install ${first} (${firstLineOf(failure)})`,
    { cause: causeOf(failure) },
  );
}

/** A terminal shows one line; clients put stacks into their messages. */
function firstLineOf(error: unknown): string {
  return messageOf(error).split("\n")[0];
}
