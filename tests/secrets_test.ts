/** No error of ours shows a secret: a program that prints, logs or sends one on would give a lock or a server away. */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { inspect } from "node:util";
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { Redis as Redis5 } from "ioredis5";
import { Redis as Redis6 } from "ioredis6";
import { datastoreBackend } from "../backends/datastore.ts";
import { kvBackend, type KvDatabase } from "../backends/kv.ts";
import { commitIfHeld, redisBackend } from "../backends/redis.ts";
import { tagOf } from "../backends/redis/store.ts";
import { openStore } from "../cli/store.ts";
import { Lock, type LockBackend, LockBackendError } from "../mod.ts";
import { CLIENTS } from "./redis/clients.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";
import { clientOf } from "./datastore/client_of.ts";

const PASSWORD = "the-wrong-password";
const WRITTEN = "what-the-caller-writes";

const CHANNELS = ["bailed", "lost", "released", "backend-error"].map((name) => `holdfast:${name}`);

/** Collects what could betray a secret, and the secrets that went to the store. */
class Ears implements Disposable {
  readonly secrets = new Set([PASSWORD, WRITTEN]);
  readonly #heard: unknown[] = [];
  readonly #hear = (message: unknown) => void this.#heard.push(message);

  constructor() {
    for (const name of CHANNELS) subscribe(name, this.#hear);
  }

  /** Overhears the tokens in what a client is given. */
  tap<Client extends object>(client: Client): Client {
    const seen = (value: unknown): void => {
      const text = typeof value === "string" ? value : inspect(value, { depth: Infinity });
      for (const [, token] of text.matchAll(/\\?"token\\?":\\?"([^"\\]+)/g)) this.secrets.add(token);
    };
    for (const name of ["evalsha", "eval", "call", "sendCommand", "commit"]) {
      const own = (client as Record<string, unknown>)[name];
      if (typeof own !== "function") continue;
      Object.assign(client, {
        [name]: (...args: unknown[]) => {
          args.forEach(seen);
          return own.apply(client, args);
        },
      });
    }
    return client;
  }

  /** What went wrong, as a LockBackendError whose causes are bare. */
  async failure(doing: Promise<unknown>): Promise<LockBackendError> {
    const error = await doing.then(
      (value) => assert(false, `no failure: ${inspect(value)}`),
      (error) => error,
    );
    assertInstanceOf(error, LockBackendError, inspect(error));
    this.#heard.push(error);
    return error;
  }

  check(expected: { readonly tokens: boolean }): void {
    assertEquals(this.secrets.size > 2, expected.tokens);
    assert(this.#heard.length > 0);
    for (const one of this.#heard) {
      for (const text of textsOf(one)) {
        for (const secret of this.secrets) assert(!text.includes(secret), `${secret} in ${text}`);
      }
    }
  }

  [Symbol.dispose](): void {
    for (const name of CHANNELS) unsubscribe(name, this.#hear);
  }
}

/** All that loggers make of a value. */
function textsOf(value: unknown): string[] {
  const withErrors = (_: string, value: unknown) =>
    value instanceof Error
      ? Object.fromEntries(
        Object.getOwnPropertyNames(value).map((name) => [name, value[name as keyof Error]]),
      )
      : value;
  return [
    String(value),
    inspect(value, { depth: Infinity, showHidden: true }),
    Deno.inspect(value, { depth: 100 }),
    JSON.stringify(value),
    JSON.stringify(value, withErrors),
  ];
}

function acquire(backend: LockBackend, name = "job"): Promise<Lock | null> {
  return Lock.acquire(name, { backend, leaseMs: 300, wait: false });
}

function redisTest(name: string, play: () => Promise<void>): void {
  const missing = missingRedis();
  if (missing !== undefined) return Deno.test.ignore(`secrets: Redis, ${name} (${missing})`, () => {});
  test(`Redis, ${name}`, play);
}

/** Until the lease is over, it is tried in the background to take back what may have been claimed. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `secrets: ${name}`, sanitizeOps: false, sanitizeResources: false, fn });
}

for (const [name, connect] of Object.entries(CLIENTS)) {
  redisTest(`${name}: no failure shows a holder's token, or what the caller writes`, async () => {
    await using server = await RedisServer.start();
    using ears = new Ears();
    const { client, close } = await connect(server.port);
    const backend = redisBackend(ears.tap(client));
    const held = (await acquire(backend, "held"))!;
    await ears.failure(commitIfHeld(held, [["SET", "key", WRITTEN, "NO-SUCH-OPTION"]]));
    await server.ask("CONFIG", "SET", "maxmemory", "1");
    const { message } = await ears.failure(acquire(backend));
    assert(message.includes("OOM"), message);
    const many = Array.from({ length: 5 }, (_, i) => acquire(backend, `job ${i}`));
    await Promise.all(many.map((one) => ears.failure(one)));
    await server.ask("CONFIG", "SET", "maxmemory", "0");
    await server.ask("RPUSH", `holdfast:${tagOf("job")}:job`, WRITTEN);
    await ears.failure(acquire(backend));
    await server.kill();
    await ears.failure(acquire(backend, "another"));
    // An ioredis client that is about to connect again publishes no end when it is closed.
    await server.start();
    let back: Lock | null = null;
    while (back === null) back = await acquire(backend, "back").catch(() => null);
    await back.release();
    await close();
    await ears.failure(acquire(backend, "closed"));
    await backend[Symbol.asyncDispose]();
    ears.check({ tokens: true });
  });

  redisTest(`${name}: a server that quotes the command it does not know is not quoted`, async () => {
    await using server = await RedisServer.start({
      config: ["--rename-command", "EVALSHA", "", "--rename-command", "EVAL", ""],
    });
    using ears = new Ears();
    const { client, close } = await connect(server.port);
    const backend = redisBackend(ears.tap(client));
    // The shorter the names before it, the more of the record is quoted.
    const { message } = await ears.failure(acquire(backend, "j"));
    assert(message.includes("unknown command"), message);
    assert(!message.includes("holdfast:"), message);
    await backend[Symbol.asyncDispose]();
    await close();
    ears.check({ tokens: true });
  });
}

redisTest("a wrong password is not shown", async () => {
  await using server = await RedisServer.start({ config: ["--requirepass", "right"] });
  using ears = new Ears();
  const options = { port: server.port, host: "127.0.0.1", password: PASSWORD };
  for (const client of [new Redis5(options), new Redis6(options)]) {
    client.on("error", () => {});
    const ended = new Promise((resolve) => client.on("end", resolve));
    await ears.failure(acquire(redisBackend(ears.tap(client))));
    client.disconnect();
    await ended;
  }
  const { message } = await ears.failure(
    openStore({ backend: `redis://:${PASSWORD}@127.0.0.1:${server.port}`, insecure: false }),
  );
  assert(message.includes("WRONGPASS"), message);
  const watched = `redis-sentinel://:${PASSWORD}@127.0.0.1:1,127.0.0.1:2/main`;
  await ears.failure(openStore({ backend: watched, insecure: false }));
  await ears.failure(openStore({ backend: `redis://user:${PASSWORD}@127.0.0.1:1`, insecure: false }));
  ears.check({ tokens: true });
});

/** What a client of HTTP throws: with its request, its headers and what was sent, also further down. */
function talkative(request: unknown): Error {
  const config = { headers: { Authorization: `Bearer ${PASSWORD}` }, body: JSON.stringify(request) };
  const cause = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET", config });
  return Object.assign(new Error("the service is not available", { cause }), {
    code: 14,
    config,
    response: { config },
    toJSON: () => ({ config }),
  });
}

test("Datastore, a client that hangs its request on its errors", async () => {
  using ears = new Ears();
  const fails = (request: object) => Promise.reject(talkative(request));
  const backend = datastoreBackend(ears.tap(clientOf(fails)), { projectId: "p" });
  const error = await ears.failure(acquire(backend));
  assertEquals([error.transient, error.message.includes("the service is not available")], [true, true]);
  await ears.failure(backend.read(["a", "b"]));
  ears.check({ tokens: true });
  // What happened is still there to be looked at.
  const { cause } = (await ears.failure(backend.read(["a"]))) as {
    cause: Error & { code: number; cause: Error };
  };
  assertEquals([cause.name, cause.code, cause.cause.message], ["Error", 14, "read ECONNRESET"]);
  assert(cause.stack!.includes("secrets_test.ts"), cause.stack);
});

test("Deno KV, a client that hangs its request on its errors", async () => {
  using ears = new Ears();
  const kv = await Deno.openKv(":memory:");
  const fails = () => Promise.reject(talkative({ password: PASSWORD }));
  const failing = {
    get: fails,
    getMany: fails,
    watch: (keys: Deno.KvKey[]) => kv.watch(keys),
    list: async function* () {
      yield await fails();
    },
    atomic() {
      const atomic = kv.atomic();
      const { set } = atomic;
      atomic.set = (key, value, options) => {
        const [, token] = /"token":"([^"]+)/.exec(new TextDecoder().decode(value as Uint8Array)) ?? [];
        ears.secrets.add(token);
        return set.call(atomic, key, value, options);
      };
      atomic.commit = fails;
      return atomic;
    },
  } as unknown as KvDatabase;
  const backend = kvBackend(failing);
  await ears.failure(acquire(backend));
  await ears.failure(backend.read(["a", "b"]));
  await ears.failure(Array.fromAsync(backend.list("")));
  kv.close();
  ears.check({ tokens: true });
});
