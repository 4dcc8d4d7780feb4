/** The stores that processes share, as each of them opens them, under any runtime. */

import { Redis } from "ioredis6";
import { commitIfHeld as commitKv, kvBackend, type KvDatabase } from "../../backends/kv.ts";
import {
  commitIfHeld as commitDatastore,
  datastoreBackend,
  datastoreClient,
} from "../../backends/datastore.ts";
import pg from "pg";
import { commitIfHeld as commitPostgres, postgresBackend } from "../../backends/postgres.ts";
import { commitIfHeld as commitRedis, redisBackend } from "../../backends/redis.ts";
import type { Lock, LockBackend } from "../../mod.ts";

/** A store that a process has opened: its locks, and values next to them. */
export interface OpenStore {
  backend: LockBackend;
  read(names: string[]): Promise<(string | null)[]>;
  write(name: string, value: string): Promise<void>;
  /** Writes under the lock; `ready` is called when all is ready to be sent. */
  commit(held: Lock, values: Record<string, string>, ready?: () => Promise<void>): Promise<void>;
  close(): void | Promise<void>;
}

/** Opens the store of this kind. `skewMs` is how far the clocks of its processes may differ, where no server gives the time. */
export function openStore(kind: string, address: string, skewMs?: number): Promise<OpenStore> {
  if (kind === "postgres") return openPostgres(address);
  if (kind === "datastore") return openDatastore(address);
  return kind === "kv" ? openKvStore(address, skewMs) : openRedis(address);
}

type Kv = KvDatabase & {
  set(key: readonly string[], value: Uint8Array): Promise<unknown>;
  close(): void;
};

async function openKv(address: string): Promise<Kv> {
  if ("Deno" in globalThis) return await Deno.openKv(address);
  const { openKv } = await import("@deno/kv");
  // Bun's serialisation is not V8's, so the client needs one. Only bytes are kept here.
  const none = () => {
    throw new Error("only bytes are kept here");
  };
  const serialisation = "Bun" in globalThis ? { encodeV8: none, decodeV8: none } : {};
  return await openKv(address, serialisation);
}

async function openKvStore(
  address: string,
  // Of one machine, as the default database says by itself.
  skewMs = 0,
): Promise<OpenStore> {
  const kv = await openKv(address);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  return {
    backend: kvBackend(kv, { skewMs }),
    async read(names) {
      const entries = await kv.getMany(names.map((name) => [name]));
      return entries.map(({ value }) => value === null ? null : decoder.decode(value as Uint8Array));
    },
    async write(name, value) {
      for (;;) {
        try {
          await kv.set([name], encoder.encode(value));
          return;
        } catch (error) {
          if (!`${error}`.includes("database is locked")) throw error;
        }
      }
    },
    async commit(held, values, ready = () => Promise.resolve()) {
      await commitKv(held, async (atomic) => {
        for (const [name, value] of Object.entries(values)) atomic.set([name], encoder.encode(value));
        await ready();
      });
    },
    close: () => kv.close(),
  };
}

// deno-lint-ignore require-await -- All stores are opened alike.
async function openRedis(address: string): Promise<OpenStore> {
  const client = new Redis(address);
  client.on("error", () => {});
  return {
    backend: redisBackend(client),
    read: (names) => client.mget(names),
    async write(name, value) {
      await client.set(name, value);
    },
    async commit(held, values, ready) {
      await ready?.();
      await commitRedis(held, Object.entries(values).map(([name, value]) => ["SET", name, value]));
    },
    close: () => client.disconnect(),
  };
}

async function openPostgres(address: string): Promise<OpenStore> {
  const pool = new pg.Pool({ connectionString: address });
  pool.on("error", () => {});
  const backend = postgresBackend(pool);
  // Any number of processes may do so at once, as they may make the table of the locks.
  for (;;) {
    try {
      await pool.query("CREATE TABLE IF NOT EXISTS own (name text PRIMARY KEY, value text)");
      break;
    } catch (error) {
      if ((error as { code?: string }).code !== "23505") throw error;
    }
  }
  const write = "INSERT INTO own VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
  return {
    backend,
    async read(names) {
      const { rows } = await pool.query("SELECT name, value FROM own WHERE name = ANY ($1)", [names]);
      return names.map((name) =>
        rows.find((row: Record<string, string>) => row.name === name)?.value ?? null
      );
    },
    async write(name, value) {
      await pool.query(write, [name, value]);
    },
    async commit(held, values, ready) {
      await ready?.();
      await commitPostgres(held, async (query) => {
        for (const entry of Object.entries(values)) await query(write, entry);
      });
    },
    async close() {
      await backend[Symbol.asyncDispose]();
      await pool.end();
    },
  };
}

/**
 * One try. Over REST, which it is on Deno, a limit of the client's keeps a process alive until it has passed, however soon the
 * answer comes.
 */
const ONE_TRY = { timeout: "Deno" in globalThis ? Infinity : 10_000, retry: { retryCodes: [] } };

async function openDatastore(emulatorHost: string): Promise<OpenStore> {
  const projectId = "holdfast-test";
  const client = await datastoreClient({ projectId, emulatorHost });
  const keyOf = (name: string) => ({ path: [{ kind: "Own", name }] });
  const entityOf = (name: string, value: string) => ({
    key: keyOf(name),
    properties: { value: { stringValue: value, excludeFromIndexes: true } },
  });
  return {
    backend: datastoreBackend(client, { projectId, pollMs: 100, timeoutMs: 1000 }),
    async read(names) {
      const keys = names.map((name) => ({ partitionId: { projectId }, ...keyOf(name) }));
      // deno-lint-ignore no-explicit-any -- What the client answers is not described any closer.
      const [{ found }] = await client.lookup({ projectId, keys }, ONE_TRY) as any[];
      return names.map((name) =>
        // deno-lint-ignore no-explicit-any
        found.find(({ entity }: any) => entity.key.path[0].name === name)?.entity.properties.value
          .stringValue ?? null
      );
    },
    async write(name, value) {
      const { key, properties } = entityOf(name, value);
      const upsert = { key: { partitionId: { projectId }, ...key }, properties };
      await client.commit({ projectId, mode: "NON_TRANSACTIONAL", mutations: [{ upsert }] }, ONE_TRY);
    },
    async commit(held, values, ready) {
      await ready?.();
      await commitDatastore(held, (tx) => {
        for (const [name, value] of Object.entries(values)) tx.upsert(entityOf(name, value));
      });
    },
    close: () => client.close(),
  };
}
