/** Child processes on stores that they share: what the tests of real processes are played on. */

import { assert } from "@std/assert";
import { delay } from "@std/async";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { queueKeyOf } from "../../core/identifier.ts";
import { decodeLock, decodeQueue } from "../../core/record/decode.ts";
import type { LockRecord, QueueEntry } from "../../core/record/record.ts";
import { bundle } from "../support/bundle.ts";
import { Child, now } from "../support/child.ts";
import { KvServer, missingDenokv } from "../support/kv_server.ts";
import { type OpenStore, openStore } from "./stores.ts";
import { missingPostgres, PostgresServer } from "../support/postgres_server.ts";
import { missingRedis, RedisServer } from "../support/redis_server.ts";
import { findRuntime, folderWith } from "../support/runtimes.ts";

/** A store that processes can share. */
export interface Store {
  name: string;
  kind: string;
  missing?: string;
  /** Whether a holder is notified of its loss by push. */
  pushes: boolean;
  start(): Promise<{ address: string; stop(): Promise<void> }>;
}

const STORES: Store[] = [
  {
    name: "KV on a file",
    kind: "kv",
    pushes: false,
    async start() {
      const folder = await Deno.makeTempDir({ prefix: "holdfast-" });
      return { address: join(folder, "kv.sqlite"), stop: () => Deno.remove(folder, { recursive: true }) };
    },
  },
  {
    name: "KV Connect",
    kind: "kv",
    pushes: true,
    missing: await missingDenokv(),
    async start() {
      const server = await KvServer.start();
      return { address: server.url, stop: () => server[Symbol.asyncDispose]() };
    },
  },
  {
    name: "Redis",
    kind: "redis",
    pushes: true,
    missing: missingRedis(),
    async start() {
      const server = await RedisServer.start();
      return { address: `redis://127.0.0.1:${server.port}`, stop: () => server.stop() };
    },
  },
  {
    name: "Postgres",
    kind: "postgres",
    pushes: true,
    missing: missingPostgres(),
    async start() {
      const server = await PostgresServer.start();
      return { address: server.url, stop: () => server.stop() };
    },
  },
];
const stores = STORES.filter(({ missing }) => missing === undefined);
for (const { name, missing } of STORES) {
  if (missing !== undefined) Deno.test.ignore(`processes: ${name} (${missing})`, () => {});
}

/** What the processes run under, in turn. */
export const runtimes: { name: string; path: string }[] = [];
for (const name of ["Deno", "Node 24", "Bun"]) {
  const found = await findRuntime(name);
  if ("path" in found) runtimes.push({ name, ...found });
  else Deno.test.ignore(`processes: ${found.missing}`, () => {});
}

const folder = await folderWith("@deno/kv");
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const script = new URL("./child.ts", import.meta.url);
const bundled = join(folder, "child.mjs");
await bundle(script, bundled, "@deno/kv");

/** Some child processes on a new store, and the test's own view of it. */
export class Processes implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #store: OpenStore;
  /** Which store it is. */
  readonly name: string;
  readonly pushes: boolean;
  readonly skewMs: number;
  readonly children: readonly Child[];

  private constructor(
    stack: AsyncDisposableStack,
    store: OpenStore,
    { name, pushes }: Store,
    children: readonly Child[],
  ) {
    this.#stack = stack;
    this.#store = store;
    this.name = name;
    this.pushes = pushes;
    this.skewMs = store.backend.skewMs;
    this.children = children;
  }

  /** Starts `count` of them, the first under the runtime number `first`. */
  static async start(on: Store, count: number, first: number): Promise<Processes> {
    await using stack = new AsyncDisposableStack();
    const { kind } = on;
    const { address, stop } = await on.start();
    stack.defer(stop);
    const store = await openStore(kind, address);
    stack.defer(() => store.close());
    const children = Array.from({ length: count }, (_, i) => {
      const { name, path } = runtimes[(first + i) % runtimes.length];
      const args = [kind, address];
      return stack.use(
        name === "Deno"
          ? new Child(script, { flags: ["-A"], args })
          : new Child(pathToFileURL(bundled), { nodeIn: folder, runtime: path, args }),
      );
    });
    await Promise.all(children.map((child) => child.next("started")));
    return new Processes(stack.move(), store, on, children);
  }

  /** What the store knows of a lock; `null` if nothing. */
  async record(key = "shared"): Promise<LockRecord | null> {
    const [{ value }] = await this.#store.backend.read([key]);
    return value === null ? null : decodeLock(key, value);
  }

  /** Which processes are queued for it. */
  async queue(key = "shared"): Promise<readonly QueueEntry[]> {
    const queueKey = queueKeyOf(key);
    const [{ value }] = await this.#store.backend.read([queueKey]);
    const { id, entries } = decodeQueue(queueKey, value ?? '{"v":1,"id":"none","entries":[]}');
    return (await this.record(key))?.queue === id ? entries : [];
  }

  async read(...names: string[]): Promise<(string | null)[]> {
    return await this.#store.read(names);
  }

  /** Until this many processes are queued. */
  async queued(count: number): Promise<void> {
    const deadline = now() + 30_000;
    for (;;) {
      if ((await this.queue()).length === count) return;
      assert(now() < deadline, `there never were ${count} queued`);
      await delay(5);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** How a test is played. */
export interface Playing {
  /** How many processes it needs. */
  readonly count: number;
  /** The number of the runtime that the first of them has. Default: 0. */
  readonly first?: number;
  /** On which stores. Default: on all. */
  readonly on?: (store: Store) => boolean;
}

/** Plays on all stores at the same time. */
export function test(
  title: string,
  { count, first = 0, on = () => true }: Playing,
  play: (processes: Processes) => Promise<void>,
): void {
  // The clients of the test's own keep connections for a while after they are closed.
  Deno.test({ name: `processes: ${title}`, sanitizeOps: false, sanitizeResources: false }, async () => {
    const played = stores.filter(on);
    const outcomes = await Promise.allSettled(played.map(async (store) => {
      await using processes = await Processes.start(store, count, first);
      await play(processes);
    }));
    const failures = outcomes.flatMap((outcome, i) =>
      outcome.status === "rejected" ? [new Error(`on ${played[i].name}`, { cause: outcome.reason })] : []
    );
    if (failures.length > 0) {
      throw new AggregateError(
        failures,
        failures.map(({ message }) => message).join(", "),
      );
    }
  });
}
