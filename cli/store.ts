/** Opens the store that a command line names, with the client that is installed. */

import process from "node:process";
import type { LockBackend } from "../core/backend.ts";
import { LockBackendError, quote } from "../core/errors.ts";
import { participantOf } from "../core/participant.ts";
import { causeOf } from "../backends/causes.ts";
import { datastoreBackend, datastoreClient } from "../backends/datastore.ts";
import { kvBackend, type KvDatabase } from "../backends/kv.ts";
import { MACHINES_SKEW_MS, processesSkewMs } from "../backends/kv/clients.ts";
import {
  type PgPool,
  postgresBackend,
  type PostgresBackendOptions,
  type PostgresJs,
} from "../backends/postgres.ts";
import { firstLineOf, load } from "./clients.ts";
import { made, type Opened } from "./opened.ts";
import { openRedis, sentinelsIn } from "./redis.ts";
import { keepSecret } from "./terminal.ts";
import { UsageError } from "./usage.ts";

/** How long a process that leaves waits for what it left in the store to be cleared away. */
const LEAVE_MS = 5000;

/** What can be named. */
const KINDS =
  "kv:<path> of a file, https://<host>, redis://<host>, rediss://<host>, redis-sentinel://<host>/<master>, " +
  "postgres://<host>/<database>, datastore:<project>";

/** An open store. */
export interface Store {
  readonly backend: LockBackend;
  /** Lets acquisitions that were given up clear up behind themselves, and closes the client. */
  close(): Promise<void>;
}

type KvClient = KvDatabase & { close(): void };
type OpenKv = (path: string, options?: object) => Promise<KvClient>;

/** Which store a command line names. */
export interface StoreChoice {
  /** `--backend`. */
  readonly backend?: string;
  /** `--prefix`. */
  readonly prefix?: string;
  /** Whether a token may be sent in clear text. */
  readonly insecure: boolean;
}

/**
 * Opens the store that the command line names, or else the environment. Throws {@linkcode UsageError} for what names none,
 * and LockBackendError if it cannot be opened.
 */
export async function openStore(choice: StoreChoice): Promise<Store> {
  const { spec, prefix } = named(choice);
  keepSecret(secretsIn(spec));
  const open = opener(spec, { ...choice, prefix });
  const { backend, close } = await open().catch((error) => {
    if (error instanceof LockBackendError || error instanceof UsageError) throw error;
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

/** The store and the prefix that the command line names, or else the environment, or else the app's own variables. */
export function named({ backend, prefix }: StoreChoice): { spec: string; prefix: string | undefined } {
  // The prefix of the environment belongs to the store of the environment.
  if (backend !== undefined) return { spec: backend, prefix };
  const { HOLDFAST_BACKEND, HOLDFAST_PREFIX } = process.env;
  return { spec: HOLDFAST_BACKEND || appsOwn(), prefix: prefix ?? (HOLDFAST_PREFIX || undefined) };
}

/** What hosts of apps call the store; of two it cannot be known in which of them the app keeps its locks. */
function appsOwn(): string {
  const { REDIS_URL = "", DATABASE_URL = "" } = process.env;
  const database = /^postgres(ql)?:/.test(DATABASE_URL) ? DATABASE_URL : "";
  if (REDIS_URL === "" || database === "") return REDIS_URL || database;
  throw new UsageError(
    "REDIS_URL and DATABASE_URL both name a store: say with HOLDFAST_BACKEND or --backend which one keeps the locks",
  );
}

/** How the store that `spec` names is opened. Throws {@linkcode UsageError} for what names none. */
export function opener(
  spec: string,
  { prefix, insecure }: Omit<StoreChoice, "backend">,
): () => Promise<Opened> {
  const [, scheme, rest] = /^([a-z]+):(.+)$/s.exec(spec) ?? [];
  if (scheme === "kv" && rest !== ":memory:") return () => openKv(rest, prefix, processesSkewMs());
  if (scheme === "datastore") return () => openDatastore(rest, prefix);
  if (sentinelsIn(spec) !== undefined) return () => openRedis(spec, prefix);
  if (URL.canParse(spec) && new URL(spec).hostname !== "") {
    if (scheme === "http" && !insecure && (process.env.DENO_KV_ACCESS_TOKEN || spec.includes("@"))) {
      throw new UsageError(
        "--backend http://… sends DENO_KV_ACCESS_TOKEN in clear text: use https://, or add --insecure if the " +
          "network is trusted",
      );
    }
    if (scheme === "http" || scheme === "https") return () => openKv(spec, prefix, MACHINES_SKEW_MS);
    if (scheme === "redis" || scheme === "rediss") return () => openRedis(spec, prefix);
    if (scheme === "postgres" || scheme === "postgresql") return () => openPostgres(spec, prefix);
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
  // Not only of what is a URL: several hosts of sentinels are none.
  const [, user = ""] = /\/\/([^/?#]*)@/.exec(spec) ?? [];
  const written = user.slice(user.indexOf(":") + 1);
  const secrets = [spec, user, written, decoded(written)];
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

async function openKv(path: string, prefix: string | undefined, skewMs: number): Promise<Opened> {
  // Locks are kept as bytes. On Bun the client requires functions to read and write other values.
  const foreign = "Bun" in globalThis
    ? { encodeV8: () => new Uint8Array(), decodeV8: () => undefined }
    : undefined;
  const kv = await (await kvOpener())(path, foreign);
  return await made(() => kvBackend(kv, { skewMs, prefix: prefix?.split("/") }), () => kv.close());
}

async function kvOpener(): Promise<OpenKv> {
  const deno = (globalThis as { Deno?: { openKv?: OpenKv } }).Deno;
  if (deno === undefined) return (await load(["@deno/kv"])).openKv as OpenKv;
  if (deno.openKv !== undefined) return deno.openKv;
  throw new LockBackendError("Cannot open the store: Deno KV is not enabled, run deno with --unstable-kv");
}

async function openDatastore(projectId: string, namespace: string | undefined): Promise<Opened> {
  const client = await datastoreClient({ projectId });
  return await made(() => datastoreBackend(client, { projectId, namespace }), () => client.close());
}

/** What is used of the clients, in addition to what the backend uses. */
interface PostgresClients {
  readonly Pool?: new (
    options: { connectionString: string },
  ) => PgPool & { on(event: "error", listener: () => void): unknown; end(): Promise<void> };
  readonly default?: (url: string, options: object) => PostgresJs & { end(options: object): Promise<void> };
}

async function openPostgres(url: string, prefix: string | undefined): Promise<Opened> {
  const clients = await load(["pg", "postgres"]);
  // As a module of CommonJS, `pg` may show its members on its default export only.
  const { Pool = (clients.default as PostgresClients | undefined)?.Pool, default: postgres } =
    clients as PostgresClients;
  const names = prefix?.split(".") ?? [];
  const [table, schema] = names.length === 2 ? [names[1], names[0]] : [prefix, undefined];
  const opened = Pool === undefined
    ? await postgresJs(postgres!(url, { onnotice() {} }), { table, schema })
    : await pgPool(new Pool({ connectionString: url }), { table, schema });
  // A server that is not there is reported at once.
  await opened.backend.read([]).catch(async (error) => {
    await opened.close();
    throw error;
  });
  return opened;
}

async function pgPool(
  pool: InstanceType<NonNullable<PostgresClients["Pool"]>>,
  options: PostgresBackendOptions,
): Promise<Opened> {
  // What breaks shows in the statements.
  pool.on("error", () => {});
  return await made(() => postgresBackend(pool, options), () => pool.end());
}

async function postgresJs(
  sql: ReturnType<NonNullable<PostgresClients["default"]>>,
  options: PostgresBackendOptions,
): Promise<Opened> {
  return await made(() => postgresBackend(sql, options), () => sql.end({ timeout: 1 }));
}
