/** Opens a Redis for the command line: a server, the cluster that one of its nodes stands for, or what sentinels watch. */

import { LockBackendError } from "../core/errors.ts";
import { Backoff } from "../core/retry.ts";
import {
  type IoRedisClient,
  type IoRedisCluster,
  type NodeRedisClient,
  redisBackend,
} from "../backends/redis.ts";
import { load } from "./clients.ts";
import { made, type Opened } from "./opened.ts";

/** After how long a Redis that went away is tried again. */
const RECONNECT_BACKOFF = { leastMs: 50, mostMs: 2000 };

/** How a Redis that sentinels watch is named; the password is that of Redis. */
export const SENTINEL = "redis-sentinel://<host>:<port>[,<host>:<port>…]/<name of the master>";

/** What one client can do in addition to what the backend uses. */
interface Connecting {
  connect(): Promise<unknown>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

type Retry = (times: number) => number | null;

/** Where ioredis is to connect to; only what is used here. */
interface IoRedisOptions {
  readonly host?: string;
  readonly port?: number;
  readonly username?: string | null;
  readonly password?: string | null;
  readonly tls?: object;
  readonly db?: number;
  readonly sentinels?: readonly { host: string; port: number }[];
  readonly name?: string;
  readonly enableTLSForSentinelMode?: boolean;
}

type IoRedis = IoRedisClient & Connecting & { readonly options: IoRedisOptions; disconnect(): void };

interface Unconnected {
  readonly lazyConnect: true;
  readonly retryStrategy: Retry;
  readonly sentinelRetryStrategy: Retry;
}

/** What is used of the two clients, in addition to what the backend uses. */
interface RedisClients {
  readonly Redis?: {
    new (url: string, options: Unconnected): IoRedis;
    new (options: IoRedisOptions & Unconnected): IoRedis;
  };
  readonly Cluster?: new (
    nodes: readonly { host?: string; port?: number }[],
    options: { lazyConnect: true; clusterRetryStrategy: Retry; redisOptions: IoRedisOptions },
  ) => IoRedisCluster & Connecting & { disconnect(): void };
  readonly createClient?: (
    options: {
      url: string;
      socket: { reconnectStrategy: (retries: number, cause: Error) => number | Error };
    },
  ) => NodeRedisClient & Connecting & { destroy(): void };
}

/** A client on its way to be connected: a server that is not there is reported at once, one that goes away is waited for. */
class Connection {
  #isOpen = false;
  #backoff = new Backoff(RECONNECT_BACKOFF);

  readonly retry: Retry = (times) => {
    if (!this.#isOpen) return null;
    if (times === 1) this.#backoff = new Backoff(RECONNECT_BACKOFF);
    return this.#backoff.pauseMs();
  };

  async open(client: Connecting): Promise<void> {
    let failure: Error | undefined;
    client.on("error", (error) => failure = error);
    await client.connect().catch((error) => {
      throw failure ?? error;
    });
    this.#isOpen = true;
  }
}

/** Opens the Redis at `url`. */
export async function openRedis(url: string, prefix: string | undefined): Promise<Opened> {
  const clients = await load(["ioredis", "redis"]) as RedisClients;
  return clients.Redis === undefined
    ? await openNodeRedis(url, prefix, clients)
    : await openIoRedis(url, prefix, clients);
}

async function openIoRedis(url: string, prefix: string | undefined, clients: RedisClients): Promise<Opened> {
  const [Redis, Cluster] = [clients.Redis!, clients.Cluster!];
  const connection = new Connection();
  const { retry } = connection;
  const unconnected = { lazyConnect: true, retryStrategy: retry, sentinelRetryStrategy: retry } as const;
  const watched = sentinelsIn(url);
  const client = watched === undefined
    ? new Redis(url, unconnected)
    : new Redis({ ...watched, ...unconnected });
  await connection.open(client);
  const mode = modeIn(await client.call("INFO", "server").catch(refusedInfo));
  if (mode !== "standalone") client.disconnect();
  if (mode === "sentinel") throw isSentinel();
  if (mode === "standalone") {
    return await made(() => redisBackend(client, { prefix }), () => client.disconnect());
  }
  const { host, port, username, password, tls } = client.options;
  const connecting = new Connection();
  const cluster = new Cluster([{ host, port }], {
    lazyConnect: true,
    clusterRetryStrategy: connecting.retry,
    redisOptions: { username, password, tls },
  });
  await connecting.open(cluster);
  return await made(() => redisBackend(cluster, { prefix }), () => cluster.disconnect());
}

async function openNodeRedis(
  url: string,
  prefix: string | undefined,
  clients: RedisClients,
): Promise<Opened> {
  if (sentinelsIn(url) !== undefined) throw needsIoRedis("sentinels name the server");
  const connection = new Connection();
  const reconnectStrategy = (retries: number, cause: Error) => connection.retry(retries + 1) ?? cause;
  const client = clients.createClient!({ url, socket: { reconnectStrategy } });
  await connection.open(client);
  const mode = modeIn(await client.sendCommand(["INFO", "server"]).catch(refusedInfo));
  if (mode !== "standalone") client.destroy();
  if (mode === "sentinel") throw isSentinel();
  if (mode === "cluster") throw needsIoRedis("the server is a node of a cluster");
  return await made(() => redisBackend(client, { prefix }), () => client.destroy());
}

/** What a server is, as it says itself. */
function modeIn(info: unknown): "standalone" | "sentinel" | "cluster" {
  const [, mode] = /^redis_mode:(\w+)/m.exec(String(info)) ?? [];
  return mode === "sentinel" || mode === "cluster" ? mode : "standalone";
}

/** A user whose access list forbids the question knows what kind of server it is. */
function refusedInfo(error: Error): string {
  if (/^NOPERM/.test(error.message)) return "";
  throw error;
}

function isSentinel(): LockBackendError {
  return new LockBackendError(
    `Cannot open the store: it is a Redis Sentinel, which keeps no locks; name the Redis that it watches: ${SENTINEL}`,
  );
}

function needsIoRedis(why: string): LockBackendError {
  return new LockBackendError(
    `Cannot open the store: ${why}, which takes the npm package ioredis; install it next to @holdfast/lock`,
  );
}

/** What names sentinels in such a URL; `undefined` for any other. */
export function sentinelsIn(url: string): IoRedisOptions | undefined {
  const [, secure, user, hosts, name, db] =
    /^redis(s?)-sentinel:\/\/(?:([^@/]*)@)?([^@/]+)\/([^/?#]+)(?:\/(\d+))?$/.exec(url) ?? [];
  if (hosts === undefined) return undefined;
  const [username, password] = (user ?? "").split(":").map(decodeURIComponent);
  const sentinels = hosts.split(",").map((host) => {
    // As any URL is read, so that addresses of both kinds are.
    const { hostname, port } = new URL(`redis://${host}`);
    return { host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? 26379 : Number(port) };
  });
  return {
    sentinels,
    name: decodeURIComponent(name),
    ...(username && { username }),
    ...(password && { password }),
    ...(db !== undefined && { db: Number(db) }),
    ...(secure === "s" && { tls: {}, enableTLSForSentinelMode: true }),
  };
}
