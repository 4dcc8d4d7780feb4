// A store that cannot be reached: the error says why, in the words of the client, also where the client fails nothing and
// keeps everything back. No server is needed: what is asked for listens on no port, or says nothing.
import { EventEmitter } from "node:events";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Redis as Redis5, type RedisOptions as Redis5Options } from "ioredis5";
import { Redis as Redis6, type RedisOptions as Redis6Options } from "ioredis6";
import pg from "pg";
import postgres from "postgres";
import { createClient as createClient4 } from "redis4";
import { createClient as createClient6 } from "redis6";
import { datastoreBackend } from "../backends/datastore.ts";
import { kvBackend, type KvDatabase } from "../backends/kv.ts";
import { type PgClient, postgresBackend } from "../backends/postgres.ts";
import { type IoRedisClient, type NodeRedisClient, redisBackend } from "../backends/redis.ts";
import { Lock, type LockBackend, LockBackendError } from "../mod.ts";
import { freePort } from "./support/free_port.ts";
import { SilentServer } from "./support/silent_server.ts";
import { clientOf } from "./datastore/client_of.ts";

const PASSWORD = "the-secret-password";
const WAIT_MS = 100;

interface Peer {
  readonly backend: LockBackend;
  close(): unknown;
}

/** Clients of Postgres by name; the statements of the first fail, and those of the second wait for the next try, too. */
const POSTGRES: Readonly<Record<string, (port: number) => Peer>> = {
  "pg Pool": (port) => {
    const pool = new pg.Pool({ host: "127.0.0.1", port, user: "ada", password: PASSWORD, database: "app" });
    pool.on("error", () => {});
    return { backend: postgresBackend(pool), close: () => pool.end() };
  },
  "postgres.js": (port) => {
    const sql = postgres(`postgres://ada:${PASSWORD}@127.0.0.1:${port}/app`);
    return { backend: postgresBackend(sql), close: () => sql.end({ timeout: 0 }) };
  },
};

/** What a call for a lock fails with. */
async function failureOn(backend: LockBackend, id = "job"): Promise<LockBackendError> {
  const error = await assertRejects(
    () => Lock.acquire(id, { backend, waitForMs: WAIT_MS, leaseMs: 3000 }),
    LockBackendError,
  );
  assert(!Deno.inspect(error, { depth: 9 }).includes(PASSWORD), Deno.inspect(error, { depth: 9 }));
  return error as LockBackendError;
}

function test(name: string, fn: () => Promise<void>): void {
  // Until the lease is over, it is tried in the background to take back what may have been claimed.
  Deno.test({ name: `unreachable: ${name}`, sanitizeOps: false, sanitizeResources: false, fn });
}

for (const [name, connect] of Object.entries(POSTGRES)) {
  test(`${name}: the error says why, also of a server that has fallen silent since`, async () => {
    const port = await freePort();
    const { backend, close } = connect(port);
    const refused = `connect ECONNREFUSED 127.0.0.1:${port}`;
    const where = `Postgres at 127.0.0.1:${port}/app (table "holdfast_lock")`;
    const { message } = await failureOn(backend);
    assert(message.includes(refused), message);
    assertEquals(backend.name, `${where} (last error: ${refused})`);
    {
      await using _ = await SilentServer.start(port);
      const { message } = await failureOn(backend, "another job");
      assert(message.includes(`${where} (last error: ${refused}) did not answer within`), message);
    }
    await close();
  });
}

test("pg Client: one that has lost its connection says what it was lost to", async () => {
  const query = () =>
    Promise.reject(new Error("Client has encountered a connection error and is not queryable"));
  const nothing = () => Promise.resolve();
  const emitter = Object.assign(new EventEmitter(), { query, connect: nothing, end: nothing });
  emitter.on("error", () => {});
  const backend = postgresBackend(emitter as unknown as PgClient);
  emitter.emit("error", new Error("terminating connection due to administrator command"));
  const { message } = await failureOn(backend);
  assertEquals(
    message,
    'Cannot acquire lock "job": the Postgres client is closed (Client has encountered a connection error and is not ' +
      "queryable) (last error: terminating connection due to administrator command)",
  );
  assertEquals(emitter.listenerCount("error"), 1);
  await backend.close();
});

test("pg Pool: where the options name no host, its name says what the environment does", () => {
  const { PGHOST } = Deno.env.toObject();
  Deno.env.set("PGHOST", "db.internal");
  try {
    const pool = new pg.Pool({ database: "app", password: PASSWORD });
    assertEquals(postgresBackend(pool).name, 'Postgres at db.internal:5432/app (table "holdfast_lock")');
  } finally {
    if (PGHOST === undefined) Deno.env.delete("PGHOST");
    else Deno.env.set("PGHOST", PGHOST);
  }
  return Promise.resolve();
});

/** Makes a client of ioredis. */
type MakeIoRedis = (options: Redis5Options) => IoRedisClient & {
  on(event: "error" | "end", listener: () => void): unknown;
  disconnect(): void;
};

const IOREDIS: Readonly<Record<string, MakeIoRedis>> = {
  "ioredis 5": (options) => new Redis5(options),
  "ioredis 6": (options) => new Redis6(options as Redis6Options),
};

for (const [name, make] of Object.entries(IOREDIS)) {
  test(`${name}: the error says why, whether the client keeps commands back or gives them up`, async () => {
    const port = await freePort();
    const options = { port, host: "127.0.0.1", password: PASSWORD };
    const refused = `(last error: connect ECONNREFUSED 127.0.0.1:${port})`;
    const messages = [];
    for (const maxRetriesPerRequest of [null, 0]) {
      const client = make({ ...options, maxRetriesPerRequest });
      client.on("error", () => {});
      const { message } = await failureOn(redisBackend(client));
      assert(message.includes(refused), message);
      messages.push(message);
      client.disconnect();
    }
    assert(messages[0].includes(`Redis at 127.0.0.1:${port} ${refused} did not answer`), messages[0]);
    assert(messages[1].includes("max retries per request limit"), messages[1]);
    const closed = make({ ...options, retryStrategy: () => null });
    closed.on("error", () => {});
    const backend = redisBackend(closed);
    await new Promise<void>((resolve) => closed.on("end", resolve));
    const { message } = await failureOn(backend);
    assertEquals(
      message,
      `Cannot acquire lock "job": the Redis client is closed, or was never connected ${refused}`,
    );
  });
}

/** A client of node-redis that gives up at once. */
type MakeNodeRedis = (socket: { port: number; host: string; reconnectStrategy: false }) =>
  & NodeRedisClient
  & { on(event: "error", listener: () => void): unknown; connect(): Promise<unknown> };

const NODE_REDIS: Readonly<Record<string, MakeNodeRedis>> = {
  "node-redis 4": (socket) => createClient4({ socket, password: PASSWORD }),
  "node-redis 6": (socket) => createClient6({ socket, password: PASSWORD }),
};

for (const [name, make] of Object.entries(NODE_REDIS)) {
  test(`${name}: a client that could not be connected says why`, async () => {
    const port = await freePort();
    const client = make({ port, host: "127.0.0.1", reconnectStrategy: false });
    const backend = redisBackend(client);
    client.on("error", () => {});
    await client.connect().catch(() => {});
    const { message } = await failureOn(backend);
    const refused = `(last error: connect ECONNREFUSED 127.0.0.1:${port})`;
    assertEquals(
      message,
      `Cannot acquire lock "job": the Redis client is closed, or was never connected ${refused}`,
    );
  });
}

/** A function that fails once, and then never answers. */
function failsOnce(error: Error): () => Promise<never> {
  let calls = 0;
  return () => calls++ === 0 ? Promise.reject(error) : new Promise(() => {});
}

test("Datastore: a server that fails and then falls silent", async () => {
  const commit = failsOnce(Object.assign(new Error("14 UNAVAILABLE: connect ECONNREFUSED"), { code: 14 }));
  const unused = () => new Promise<never>(() => {});
  const backend = datastoreBackend(clientOf(unused, { commit }), { projectId: "p", databaseId: "d" });
  assertEquals(backend.name, "Datastore (project p, database d)");
  await failureOn(backend);
  assertEquals(
    backend.name,
    "Datastore (project p, database d) (last error: 14 UNAVAILABLE: connect ECONNREFUSED)",
  );
});

test("Deno KV: a database that fails and then falls silent", async () => {
  const kv = await Deno.openKv(":memory:");
  // As `fetch` of Node fails; the messages of @deno/kv go on with a stack.
  const cause = new Error("connect ECONNREFUSED 10.0.0.5:4512\n    at a line of the stack");
  const get = failsOnce(new TypeError("fetch failed\n    at another", { cause }));
  const backend = kvBackend({ ...likeKv(kv), get, getMany: get } as unknown as KvDatabase);
  assertEquals(backend.name, "Deno KV");
  const failed = "fetch failed: connect ECONNREFUSED 10.0.0.5:4512";
  const { message } = await assertRejects(() => backend.read(["x"]), LockBackendError);
  assertEquals([message, backend.name], [failed, `Deno KV (last error: ${failed})`]);
  kv.close();
});

/** The methods of a database, to be changed. */
function likeKv(kv: Deno.Kv): object {
  return { list: kv.list.bind(kv), atomic: kv.atomic.bind(kv), watch: kv.watch.bind(kv) };
}
