/**
 * One Redis server that fails, the processes that share it, and what their locks are asked. The name of each
 * test says the outcome that was expected before it was run.
 */

import { delay } from "@std/async";
import type { Redis } from "ioredis5";
import { redisBackend } from "../../backends/redis.ts";
import type { LockBackend } from "../../core/backend.ts";
import { queueKeyOf } from "../../core/identifier.ts";
import { queueIn } from "../../core/record/codec.ts";
import { Lock, type LockLostError, type LockOptions } from "../../mod.ts";
import { missingRedis, RedisServer, type RedisServerOptions } from "../support/redis_server.ts";
import { type AnyClient, type Connect, IOREDIS_5 } from "./clients.ts";
import { SlowLine } from "./slow_line.ts";

const LIMIT_MS = 20_000;
const missing = missingRedis();

/** Some processes' worth of connections to one server. */
export class World implements AsyncDisposable {
  readonly server: RedisServer;
  readonly #closing: (() => Promise<void>)[] = [];
  readonly #lines: SlowLine[] = [];

  constructor(server: RedisServer) {
    this.server = server;
  }

  static async start(options?: RedisServerOptions): Promise<World> {
    return new World(await RedisServer.start(options));
  }

  peer(port?: number): Promise<{ backend: LockBackend; client: Redis }>;
  peer<Client extends AnyClient>(
    port: number | undefined,
    connect: Connect<Client>,
  ): Promise<{ backend: LockBackend; client: Client }>;
  async peer(
    port = this.server.port,
    connect: Connect = IOREDIS_5,
  ): Promise<{ backend: LockBackend; client: AnyClient }> {
    const { client, close } = await connect(port);
    const backend = redisBackend(client);
    this.#closing.push(async () => {
      await backend[Symbol.asyncDispose]();
      await close();
    });
    return { backend, client };
  }

  /** A replica of the server, in step with it. */
  async replica(): Promise<RedisServer> {
    await this.server.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0");
    const replica = await RedisServer.start({ config: ["--replicaof", "127.0.0.1", `${this.server.port}`] });
    this.#closing.push(() => replica.stop());
    while (!(await replica.ask("INFO", "replication")).includes("master_link_status:up")) await delay(10);
    return replica;
  }

  /** What the lines lead to from now on, for clients that connect again. */
  switchTo(port: number): void {
    for (const line of this.#lines) line.switchTo(port);
  }

  /** The lines cut themselves when the next answer comes, and lose it. */
  loseAnswer(): void {
    for (const line of this.#lines) line.cutting = true;
  }

  /** On the lines' connections for subscriptions nothing comes back any more. */
  deafen(): void {
    for (const line of this.#lines) line.deafen();
  }

  /** On the lines the next one that subscribes is never answered. */
  ignoreSubscription(): void {
    for (const line of this.#lines) line.ignoring = true;
  }

  /** The port of a line to the server that takes `ms` each way. */
  async slowPort(ms: number): Promise<number> {
    const line = await SlowLine.open(this.server.port, ms);
    this.#lines.push(line);
    this.#closing.push(() => line.close());
    return line.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing.reverse()) await close();
    await this.server.stop();
  }
}

/** A test that needs a server, and is reported as ignored where what it needs is missing. */
export function test(name: string, play: () => Promise<void>, unmet: string | undefined = missing): void {
  if (unmet !== undefined) return Deno.test.ignore(`Redis: ${name} (${unmet})`, () => {});
  // A client that loses its server in the middle of its greeting leaves a timer of two seconds behind.
  Deno.test({ name: `Redis: ${name}`, sanitizeOps: false, sanitizeResources: false }, async () => {
    let stop = () => {};
    const limit = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error(`hangs for ${LIMIT_MS} ms`)), LIMIT_MS);
      stop = () => clearTimeout(timer);
    });
    await Promise.race([play(), limit]).finally(stop);
  });
}

export async function acquire(backend: LockBackend, options: LockOptions = {}): Promise<Lock> {
  return (await Lock.acquire("job", { ...options, backend }))!;
}

export function lossOf({ signal }: Lock): Promise<LockLostError> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    else signal.addEventListener("abort", () => resolve(signal.reason), { once: true });
  });
}

/** Until `count` processes are queued. */
export async function untilQueued(backend: LockBackend, count: number, name = "job"): Promise<void> {
  for await (const entry of backend.watch(queueKeyOf(name), { signal: new AbortController().signal })) {
    if (queueIn(entry).record.entries.length === count) return;
  }
}

/** How many scripts the server has been asked to run. */
export async function calls(client: Redis): Promise<number> {
  const stats = await client.info("commandstats");
  const found = stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm);
  return [...found].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** How many connections are for subscriptions only. */
export async function subscribed(world: World): Promise<number> {
  return ((await world.server.ask("CLIENT", "LIST", "TYPE", "pubsub")).match(/ id=|\bid=/g) ?? []).length;
}
