/** The clients that the Redis backend takes, made and closed alike. */

import { Redis as Redis5 } from "ioredis5";
import { Redis as Redis6 } from "ioredis6";
import { Redis as Valkey } from "iovalkey";
import { createClient as createClient4 } from "redis4";
import { createClient as createClient5 } from "redis5";
import { createClient as createClient6 } from "redis6";
import type { IoRedisClient, IoRedisCluster, NodeRedisClient } from "../../backends/redis.ts";

/** What the backend takes. */
export type AnyClient = IoRedisClient | IoRedisCluster | NodeRedisClient;

/** A client to test with. */
export interface TestClient<Client extends AnyClient = AnyClient> {
  readonly client: Client;
  close(): Promise<void>;
}

/** Connects a client of one make to a server on this machine. */
export type Connect<Client extends AnyClient = AnyClient> = (port: number) => Promise<TestClient<Client>>;

type Listening<Client> = Client & { on(event: "error" | "end", listener: () => void): unknown };

function ioredis<Client extends Listening<IoRedisClient> & { disconnect(): void }>(
  make: (options: { port: number; host: string }) => Client,
): Connect<Client> {
  return async (port) => {
    const client = make({ port, host: "127.0.0.1" });
    // An outage is part of some tests; it shows in the commands.
    client.on("error", () => {});
    await client.call("PING");
    const ended = new Promise<void>((resolve) => client.on("end", resolve));
    const close = () => {
      client.disconnect();
      return ended;
    };
    return { client, close };
  };
}

function nodeRedis(
  make: (options: { socket: { port: number; host: string } }) => Listening<NodeRedisClient> & {
    connect(): Promise<unknown>;
    destroy(): void;
  },
): Connect {
  return async (port) => {
    const client = make({ socket: { port, host: "127.0.0.1" } });
    client.on("error", () => {});
    await client.connect();
    // deno-lint-ignore require-await -- All clients are closed alike.
    return { client, close: async () => client.destroy() };
  };
}

/** The one that most tests use. */
export const IOREDIS_5: Connect<Redis5> = ioredis((options) => new Redis5(options));

/** By name. */
export const CLIENTS: Readonly<Record<string, Connect>> = {
  "node-redis 5": nodeRedis((options) => createClient5(options)),
  "node-redis 6": nodeRedis((options) => createClient6(options)),
  "ioredis 5": IOREDIS_5,
  "ioredis 6": ioredis((options) => new Redis6(options)),
};

/** Clients that are like others: only what distinguishes them is tested with them. */
export const LIKE_OTHERS: Readonly<Record<string, Connect>> = {
  "node-redis 4": nodeRedis((options) => {
    const client = createClient4(options);
    return Object.assign(client, { destroy: () => void client.disconnect() });
  }),
  "iovalkey": ioredis((options) => new Valkey(options)),
};
