/**
 * One Postgres server for a file of tests, the processes that share it, and what their locks are asked. The name of each
 * test says the outcome that was expected before it was run.
 */

import { delay } from "@std/async";
import pg from "pg";
import type { PostgresBackendOptions } from "@holdfast/lock/backends/postgres";
import { Lock, type LockBackend, type LockLostError, type LockOptions } from "../../mod.ts";
import { missingPostgres, PostgresServer } from "../support/postgres_server.ts";
import { SlowLine } from "../redis/slow_line.ts";
import { CLIENTS, pgPool, type TestPeer } from "./clients.ts";

const LIMIT_MS = 20_000;
export const missing = missingPostgres();

/** The server of this file, which most of its tests share. */
export const server = missing === undefined
  ? await PostgresServer.start({
    config: ["max_connections=100", "shared_preload_libraries=pg_stat_statements"],
  })
  : undefined;
globalThis.addEventListener("unload", () => server?.stop());

/** Some processes' worth of connections to a server. */
export class World implements AsyncDisposable {
  readonly server: PostgresServer;
  readonly #stack = new AsyncDisposableStack();
  readonly #lines: SlowLine[] = [];
  readonly #owns: boolean;

  constructor(own?: PostgresServer) {
    this.server = own ?? server!;
    this.#owns = own !== undefined;
  }

  /** A process with a separate pool. */
  peer(
    { port = this.server.port, options, config }: {
      port?: number;
      options?: PostgresBackendOptions;
      config?: pg.PoolConfig;
    } = {},
  ): TestPeer & { pool: pg.Pool } {
    const peer = pgPool(port, options, config);
    this.#stack.defer(() => peer.close());
    return peer;
  }

  /** A process with another client. */
  async peerWith(name: string, port = this.server.port, options?: PostgresBackendOptions): Promise<TestPeer> {
    const peer = await CLIENTS[name](port, options);
    this.#stack.defer(() => peer.close());
    return peer;
  }

  /** A session of another program. */
  async session(config: pg.ClientConfig = {}): Promise<pg.Client> {
    const client = new pg.Client({ host: "127.0.0.1", port: this.server.port, user: "postgres", ...config });
    client.on("error", () => {});
    await client.connect();
    this.#stack.defer(() => client.end());
    return client;
  }

  async use(server: PostgresServer): Promise<PostgresServer> {
    this.#stack.use(server);
    return await Promise.resolve(server);
  }

  /** The port of a line to the server that takes `ms` each way. */
  async slowPort(ms: number): Promise<number> {
    const line = await SlowLine.open(this.server.port, ms);
    this.#lines.push(line);
    this.#stack.defer(() => line.close());
    return line.port;
  }

  /** What the lines lead to from now on, for clients that connect again. */
  switchTo(port: number): void {
    for (const line of this.#lines) line.switchTo(port);
  }

  /** The lines cut themselves when the next answer comes, and lose it. */
  loseAnswer(): void {
    for (const line of this.#lines) line.cutting = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    if (this.#owns) await this.server.stop();
  }
}

/** A test that needs a server, and is reported as ignored where what it needs is missing. */
export function test(name: string, play: () => Promise<void>, unmet: string | undefined = missing): void {
  if (unmet !== undefined) return Deno.test.ignore(`Postgres: ${name} (${unmet})`, () => {});
  // A client that loses its server in the middle of a greeting leaves timers behind.
  Deno.test({ name: `Postgres: ${name}`, sanitizeOps: false, sanitizeResources: false }, async () => {
    let stop = () => {};
    const limit = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error(`hangs for ${LIMIT_MS} ms`)), LIMIT_MS);
      stop = () => clearTimeout(timer);
    });
    await Promise.race([play(), limit]).finally(stop);
  });
}

/** An identifier that no other test has. */
export function fresh(): string {
  return `job-${crypto.randomUUID()}`;
}

export async function acquire(backend: LockBackend, id: string, options: LockOptions = {}): Promise<Lock> {
  return (await Lock.acquire(id, { ...options, backend }))!;
}

export function lossOf({ signal }: Lock): Promise<LockLostError> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    else signal.addEventListener("abort", () => resolve(signal.reason), { once: true });
  });
}

/** Until a process is queued for this lock, and listens. */
export async function untilQueued({ sql }: TestPeer, id: string, table = "holdfast_lock"): Promise<void> {
  for (;;) {
    const rows = await sql(
      `SELECT record FROM ${table} WHERE identifier = '${id}#queue' AND record IS NOT NULL`,
    );
    if (rows.length === 1) return;
    await delay(10);
  }
}

/** Until the watchers of this lock are notified of its changes. */
export async function untilWatched({ sql }: TestPeer, id: string): Promise<void> {
  for (;;) {
    const rows = await sql(
      `SELECT 1 FROM holdfast_lock WHERE identifier = '${id}' AND watched_until > now()`,
    );
    if (rows.length === 1) return;
    await delay(10);
  }
}
