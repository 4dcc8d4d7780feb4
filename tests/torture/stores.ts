/** The stores that are tortured: how each is started, what can be done to it, and what it is held to. */

import { join } from "node:path";
import { startEmulators } from "../support/datastore_emulators.ts";
import { KvServer, missingDenokv } from "../support/kv_server.ts";
import { missingPostgres, PostgresServer } from "../support/postgres_server.ts";
import { missingRedis, RedisServer } from "../support/redis_server.ts";
import { run } from "../support/run.ts";

/** What can be done to a store that runs. */
export interface TorturedStore {
  /** What `openStore` calls it. */
  readonly kind: string;
  /** Where it listens; none if it is a file, which no network leads to. */
  readonly port?: number;
  /** Its address, if it is reached by this port. */
  address(port: number): string;
  /** How far the clocks of processes may differ, and are set apart; `Infinity`: the server gives the time. */
  readonly skewMs: number;
  /** What Node has to find. */
  readonly clients: readonly string[];
  /** Kills it on the spot, and starts it again on what it has kept. */
  kill?(): Promise<void>;
  start?(): Promise<void>;
  signal?(name: "SIGSTOP" | "SIGCONT"): void;
  /** Leaves no room for a byte, or some again. */
  fillDisk?(): Promise<void>;
  freeDisk?(): Promise<void>;
  stop(): Promise<void>;
}

/** A store, before it is started. */
export interface StoreKind {
  readonly title: string;
  /** Whether waiters hear of a change from the store. */
  readonly pushes: boolean;
  missing(): Promise<string | undefined> | string | undefined;
  start(folder: string): Promise<TorturedStore>;
  /** What cannot be done to it, and why. */
  readonly spared: Readonly<Record<string, string>>;
}

const NO_SKEW = { skewMs: 0 };
const ONE_CLOCK = "the processes of a file share the clock of their machine: that is the assumption";
const NO_FILE = "only a file on a small disk can fill it";
const IN_MEMORY = "the emulator keeps everything in memory, and would forget all locks";

/** Of Datastore there are two emulators. */
function emulator(title: string): StoreKind {
  return {
    title,
    pushes: false,
    missing: () => undefined,
    spared: { "store killed": IN_MEMORY, "disk full": NO_FILE },
    async start() {
      const { running: [server], missing } = await startEmulators((name) => name === title);
      if (server === undefined) throw new Error(`the ${missing[0]} is not installed`);
      const { host, pid } = server;
      return {
        kind: "datastore",
        clients: ["@google-cloud/datastore"],
        port: Number(host.split(":")[1]),
        address: (port) => `127.0.0.1:${port}`,
        skewMs: Infinity,
        signal: (name) => Deno.kill(pid!, name),
        stop: () => server.stop(),
      };
    },
  };
}

/** How large the disk is that a KV file fills. */
const DISK_MIB = 48;

async function smallDisk(folder: string): Promise<string | undefined> {
  const disk = join(folder, "disk");
  await Deno.mkdir(disk);
  try {
    await run(folder, "mount", "-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", disk);
    return disk;
  } catch {
    // Not every user may mount: the fault is then left out, and the report says so.
    return undefined;
  }
}

async function fill(path: string): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  for (let bytes = 1 << 20; bytes > 0;) {
    try {
      await file.write(new Uint8Array(bytes));
    } catch {
      // There is less room than that.
      bytes >>= 1;
    }
  }
}

export const STORES: Readonly<Record<string, StoreKind>> = {
  kv: {
    title: "Deno KV on a file",
    pushes: false,
    missing: () => undefined,
    spared: { "clock set": ONE_CLOCK, "store killed": "a file has no process" },
    async start(folder) {
      const disk = await smallDisk(folder);
      const ballast = join(disk ?? folder, "ballast");
      return {
        ...NO_SKEW,
        kind: "kv",
        clients: ["@deno/kv"],
        address: () => join(disk ?? folder, "kv.sqlite"),
        ...disk !== undefined && {
          fillDisk: () => fill(ballast),
          freeDisk: () => Deno.remove(ballast),
        },
        async stop() {
          if (disk !== undefined) await run(folder, "umount", "-l", disk);
        },
      };
    },
  },
  "kv-connect": {
    title: "Deno KV over the network (denokv)",
    pushes: true,
    missing: missingDenokv,
    spared: { "disk full": NO_FILE },
    async start() {
      const server = await KvServer.start();
      return {
        kind: "kv",
        clients: ["@deno/kv"],
        port: server.port,
        address: (port) => `http://127.0.0.1:${port}`,
        skewMs: 1000,
        kill: () => server.kill(),
        start: () => server.start(),
        signal: (name) => Deno.kill(server.pid, name),
        stop: () => server[Symbol.asyncDispose](),
      };
    },
  },
  redis: {
    title: "Redis, every write on disk (appendfsync always)",
    pushes: true,
    missing: missingRedis,
    spared: { "disk full": NO_FILE },
    async start() {
      const server = await RedisServer.start({
        config: ["--appendonly", "yes", "--appendfsync", "always"],
      });
      return {
        kind: "redis",
        clients: [],
        port: server.port,
        address: (port) => `redis://127.0.0.1:${port}`,
        skewMs: Infinity,
        kill: () => server.kill(),
        start: () => server.start(),
        signal: (name) => Deno.kill(server.pid, name),
        stop: () => server.stop(),
      };
    },
  },
  postgres: {
    title: "Postgres",
    pushes: true,
    missing: missingPostgres,
    spared: { "disk full": NO_FILE },
    async start() {
      const server = await PostgresServer.start();
      return {
        kind: "postgres",
        clients: [],
        port: server.port,
        address: (port) => `postgres://postgres@127.0.0.1:${port}/postgres`,
        skewMs: Infinity,
        kill: () => server.crash(),
        start: () => server.start(),
        signal: (name) => server.signalAll(name),
        stop: () => server.stop(),
      };
    },
  },
  datastore: emulator("Datastore emulator"),
  firestore: emulator("Firestore emulator in Datastore mode"),
};
