// With which permissions of Deno each entry point does its work: with these, and with none less. They stand in
// docs/operations.md as they stand here.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { missingRedis, RedisServer } from "./support/redis_server.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const LIMIT_MS = 60_000;

interface Entry {
  /** What of it is used, as the docs name it. */
  readonly name: string;
  /** Its permissions, with `<file>` and `<host>` for where the store is. */
  readonly permissions: readonly string[];
  /** A program that prints `done`; the arguments of the command line, which ends with 0; or the same as `name`. */
  readonly program: string | readonly string[];
  readonly env?: Record<string, string>;
}

const MEMORY =
  `import { memoryBackend } from "@holdfast/lock/backends/memory"; const backend = memoryBackend();`;
const FILE = ["--allow-read=<file>", "--allow-write=<file>"];

const ENTRIES: readonly Entry[] = [
  {
    name: "`@holdfast/lock`, `…/backends/memory`",
    permissions: [],
    program: `${MEMORY} import { forceRelease, lock, locks } from "@holdfast/lock";
      await lock("x".repeat(500), { backend }).run(() => {});
      for await (const _ of locks({ backend }));
      await forceRelease("x", { backend });`,
  },
  {
    name: "`@holdfast/lock` on the app's own Deno KV",
    permissions: [],
    program: `import { lock } from "@holdfast/lock"; await lock("x").run(() => {}); ending();`,
    env: { DENO_KV_DEFAULT_PATH: ":memory:" },
  },
  {
    name: "`…/backends/kv` on a file",
    permissions: FILE,
    program:
      `import { lock } from "@holdfast/lock"; import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
      const kv = await Deno.openKv("<file>");
      const write = (held) => commitIfHeld(held, (atomic) => atomic.set(["x"], 1));
      await lock("x", { backend: kvBackend(kv) }).run(write); ending();`,
  },
  {
    name: "`…/backends/redis` with `ioredis`",
    permissions: ["--allow-env", "--allow-net=<host>"],
    program: `import { Redis } from "ioredis6"; import { lock } from "@holdfast/lock";
      import { redisBackend } from "@holdfast/lock/backends/redis";
      const [host, port] = "<host>".split(":");
      const client = new Redis({ host, port, retryStrategy: () => null });
      await lock("x", { backend: redisBackend(client), wait: false }).run(() => {}); ending();`,
  },
  {
    name: "`…/backends/redis` with `redis`",
    permissions: ["--allow-env=REDIS_DEBUG_MAINTENANCE", "--allow-net=<host>"],
    program: `import { createClient } from "redis6"; import { lock } from "@holdfast/lock";
      import { redisBackend } from "@holdfast/lock/backends/redis";
      const client = createClient({ url: "redis://<host>", socket: { reconnectStrategy: false } });
      client.on("error", () => {});
      await client.connect();
      await lock("x", { backend: redisBackend(client), wait: false }).run(() => {}); ending();`,
  },
  {
    name: "`…/backends/datastore` with `datastoreClient`",
    permissions: ["--allow-env", "--allow-net", "--allow-read"],
    program: `import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
      const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => Response.json({}));
      const emulatorHost = "127.0.0.1:" + server.addr.port;
      const client = await datastoreClient({ projectId: "demo", emulatorHost });
      await datastoreBackend(client, { projectId: "demo" }).read(["x"]).catch((error) => {
        if (/access to/.test(error.message)) throw error;
      });
      ending();`,
  },
  {
    name: "`…/admin`, `…/cron`, `…/otel`, `…/web-locks`",
    permissions: [],
    program: `${MEMORY} import { adminHandler, basicSecret } from "@holdfast/lock/admin";
      import { bearerSecret, cleanup, cleanupHandler } from "@holdfast/lock/cron";
      import { instrument } from "@holdfast/lock/otel";
      import { webLocks } from "@holdfast/lock/web-locks";
      const secret = "a-secret-of-this-test";
      const send = async (handler, authorization) => {
        const { status } = await handler(new Request("http://x/", { headers: { authorization } }));
        if (status !== 200) throw new Error(status);
      };
      const authorize = basicSecret(secret);
      await send(adminHandler({ backend, authorize }), "Basic " + btoa("ada:" + secret));
      await send(cleanupHandler({ backend, authorize: bearerSecret(secret) }), "Bearer " + secret);
      await cleanup({ backend });
      await webLocks(backend).request("x", () => {});
      instrument({ metrics: { getMeter: () => new Proxy({}, { get: () => () => ({ add() {}, record() {} }) }) } }).stop();`,
  },
  {
    name: "`…/cron` with `appEngineCron`",
    permissions: ["--allow-env=GAE_SERVICE"],
    program: `${MEMORY} import { appEngineCron, cleanupHandler } from "@holdfast/lock/cron";
      const handler = cleanupHandler({ backend, authorize: appEngineCron() });
      const { status } = await handler(new Request("http://x/", { headers: { "x-appengine-cron": "true" } }));
      if (status !== 200) throw new Error("it has no access to GAE_SERVICE");`,
    env: { GAE_SERVICE: "default" },
  },
  {
    name: "`…/testing`",
    permissions: [],
    program: `import { MemoryStore, memoryBackend } from "@holdfast/lock/backends/memory";
      import { testBackend } from "@holdfast/lock/testing";
      const store = new MemoryStore();
      const cases = [];
      const open = () => ({ backend: memoryBackend({ store }), close() {} });
      testBackend({ name: "memory", test: (_, play) => cases.push(play), open });
      await cases[0]();`,
  },
  {
    name: "`…/cli`: `ls`, `show`, `release`, `cleanup`",
    permissions: FILE,
    program: ["ls", "--backend", "kv:<file>"],
  },
  {
    name: "`…/cli`: `run` with `--label`",
    permissions: ["--allow-env", ...FILE, "--allow-run=sh"],
    program: ["run", "x", "--label", "me", "--backend", "kv:<file>", "--", "sh", "-c", "exit 0"],
  },
  {
    name: "`…/cli`: `run`",
    permissions: ["--allow-env", ...FILE, "--allow-run=sh", "--allow-sys=hostname,uid"],
    program: ["run", "x", "--backend", "kv:<file>", "--", "sh", "-c", "exit 0"],
  },
];

/** Whether the entry point does its work with these permissions, and what it says if not. */
async function tried(
  { program, env }: Entry,
  permissions: readonly string[],
  folder: string,
  host: string,
): Promise<string> {
  const filled = (text: string) => text.replaceAll("<file>", `${folder}/locks.db`).replaceAll("<host>", host);
  let target = [`${root}cli.ts`];
  if (typeof program === "string") {
    target = [`${folder}/program.js`];
    const ending = "function ending() { queueMicrotask(() => Deno.exit()); }";
    await Deno.writeTextFile(
      target[0],
      filled(`${ending}\n${program}\nconsole.log("done");`).replace(
        /ending\(\);\s*console.log\("done"\);$/,
        `console.log("done"); ending();`,
      ),
    );
  } else target.push(...program.map(filled));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...[
        "run",
        "--no-prompt",
        "--quiet",
        "--no-check",
        "--no-lock",
        "--unstable-kv",
        "--config",
        `${root}deno.json`,
      ],
      ...permissions.map(filled),
      ...target,
    ],
    cwd: folder,
    env: { NO_COLOR: "1", ...env },
    signal: AbortSignal.timeout(LIMIT_MS),
  }).output();
  const decoder = new TextDecoder();
  const isDone = typeof program === "string" ? decoder.decode(stdout) === "done\n" : code === 0;
  return isDone ? "done" : decoder.decode(stderr);
}

/** These permissions with one thing less, in each way. */
function less(permissions: readonly string[]): string[][] {
  return permissions.flatMap((permission, i) => {
    const [name, what = ""] = permission.split("=");
    const without = [...permissions.slice(0, i), ...permissions.slice(i + 1)];
    const parts = what.split(",");
    if (parts.length < 2) return [without];
    return parts.map((part) => [...without, `${name}=${parts.filter((other) => other !== part).join(",")}`]);
  });
}

for (const entry of ENTRIES) {
  const { name, permissions } = entry;
  const missing = permissions.includes("--allow-net=<host>") ? missingRedis() : undefined;
  if (missing !== undefined) {
    Deno.test.ignore(`permissions: ${name} (${missing})`, () => {});
    continue;
  }
  Deno.test(`permissions: ${name}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "holdfast-permissions-" });
    const server = permissions.includes("--allow-net=<host>") ? await RedisServer.start() : undefined;
    try {
      const host = `127.0.0.1:${server?.port}`;
      assertEquals(await tried(entry, permissions, folder, host), "done");
      for (const fewer of less(permissions)) {
        const said = await tried(entry, fewer, folder, host);
        assertEquals([fewer, said !== "done"], [fewer, true]);
        assertStringIncludes(said, "access", `${fewer}`);
      }
    } finally {
      await server?.stop();
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("permissions: the docs say them", async () => {
  const docs = (await Deno.readTextFile(`${root}docs/operations.md`)).replace(/ +/g, " ");
  for (const { name, permissions } of ENTRIES) {
    const said = permissions.length === 0 ? "none" : `\`${permissions.join(" ")}\``;
    assertStringIncludes(docs, `| ${name} | ${said} |`);
  }
});
