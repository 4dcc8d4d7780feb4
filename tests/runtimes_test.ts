/** The package as its users have it: the tarball, installed under every runtime. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { CASES } from "@holdfast/lock/testing";
import { Child } from "./support/child.ts";
import { KvServer, missingDenokv } from "./support/kv_server.ts";
import { missingPostgres, PostgresServer } from "./support/postgres_server.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";
import { run } from "./support/run.ts";
import { findRuntime, folderWith } from "./support/runtimes.ts";

/** How many suites run at the same time: they wait for most of their time. */
const AT_A_TIME = 5;
/** How long a suite may take, and how long its process may take to end after that. */
const LIMIT_MS = 240_000;

const polls = "there is no push: the holder is notified at its next renewal";
const many = "70 processes in one process that poll, or go by HTTP, take longer than a case may";
const slow = "a hand-off takes tens of milliseconds by polling or HTTP, and the case is full of them";

/** A store to run the suite on: where it is, and what cannot be done there. */
interface Store {
  name: string;
  kind: string;
  address: string;
  deviations: Record<string, string>;
}

const root = new URL("..", import.meta.url);
const clean = new AsyncDisposableStack();
const folder = await folderWith(
  "@deno/kv",
  "@google-cloud/datastore",
  "ioredis",
  "pg",
  "postgres",
  "redis",
);
clean.defer(() => Deno.remove(folder, { recursive: true }));
const tarball = join(folder, "lock.tgz");
await run(root, Deno.execPath(), "task", "--quiet", "pack", tarball);

const runtimes: { name: string; path: string; project: string }[] = [];
for (const name of ["Node 20", "Node 22", "Node 24", "Bun"]) {
  const found = await findRuntime(name);
  if ("path" in found) {
    runtimes.push({ name, path: found.path, project: join(folder, name.replace(" ", "-")) });
  } else Deno.test.ignore(`npm: ${found.missing}`, () => {});
}

/** An empty project; what it finds of clients is in the folder above it. */
async function install({ name, path, project }: typeof runtimes[number]): Promise<void> {
  await Deno.mkdir(project);
  await Deno.writeTextFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  if (name === "Bun") await run(project, path, "add", "--ignore-scripts", tarball);
  else await run(project, "npm", "install", "--no-audit", "--no-fund", "--silent", tarball);
  for (
    const script of ["suite.mjs", "consumer.ts", "await_using.mjs", "entry_points.mjs", "loaded_files.mjs"]
  ) {
    await Deno.copyFile(new URL(`runtimes/${script}`, import.meta.url), join(project, script));
  }
}

/** Where the suite runs, and what the stores cannot do there. */
const stores: Store[] = [{ name: "memory", kind: "memory", address: "", deviations: {} }];
const hundred = "hold: a hundred callers in two processes are never two at a time";
const crowd = "wait: many processes wait, more than have a place in the queue";
const random = "hold: two locks taken at random lose no update of the data that they guard";
const notified = "steal: the holder is notified without asking the store for anything else";
stores.push({
  name: "@deno/kv on a file",
  kind: "kv",
  address: join(folder, "kv.sqlite"),
  deviations: { [notified]: polls, [crowd]: many },
});

const redis = missingRedis();
if (redis === undefined) {
  const server = await RedisServer.start();
  clean.defer(() => server.stop());
  stores.push({ name: "Redis", kind: "redis", address: `redis://127.0.0.1:${server.port}`, deviations: {} });
} else Deno.test.ignore(`npm: Redis: ${redis}`, () => {});

const postgres = missingPostgres();
if (postgres === undefined) {
  const server = await PostgresServer.start({ config: ["max_connections=300"] });
  clean.defer(() => server.stop());
  stores.push({ name: "Postgres", kind: "postgres", address: server.url, deviations: {} });
} else Deno.test.ignore(`npm: Postgres: ${postgres}`, () => {});

const denokv = await missingDenokv();
if (denokv === undefined) {
  const server = await KvServer.start();
  clean.use(server);
  stores.push({
    name: "KV Connect",
    kind: "kv",
    address: server.url,
    deviations: { [crowd]: many, [hundred]: slow, [random]: slow },
  });
} else Deno.test.ignore(`npm: KV Connect: ${denokv}`, () => {});

{
  await Deno.copyFile(new URL("datastore/server.mjs", import.meta.url), join(folder, "server.mjs"));
  const server = new Child(new URL(`file://${folder}/server.mjs`), { nodeIn: folder });
  clean.use(server);
  const { grpc } = await server.next("started");
  stores.push({
    name: "Datastore",
    kind: "datastore",
    address: grpc,
    deviations: { [notified]: polls, [crowd]: many, [hundred]: slow, [random]: slow },
  });
}

/** The suite on a store, under a runtime. */
interface Job {
  name: string;
  done: Promise<void>;
  start(): Promise<void>;
}

const jobs: Job[] = [];
function job(name: string, command: string, args: string[], { kind, address, deviations }: Store): void {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  promise.catch(() => {});
  const all = [...args, kind, address, JSON.stringify(deviations)];
  const start = () => play(command, all, Object.keys(deviations).length).then(resolve, reject);
  jobs.push({ name, start, done: promise });
}

/** Plays the suite in a process that must end by itself. */
async function play(command: string, args: string[], skipped: number): Promise<void> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const child = new Deno.Command(command, { args, stdin: "null", stdout: "piped", stderr: "piped", signal })
    .spawn();
  const { success, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout) + decoder.decode(stderr);
  assert(!signal.aborted, `it did not end by itself: ${text}`);
  assert(success, text);
  const { said, retried, ...counts } = JSON.parse(decoder.decode(stdout).trim().split("\n").at(-1)!);
  assertEquals(said.join("\n"), "");
  if (retried > 0) console.log(`${retried} cases were played again`);
  assertEquals(counts, { all: CASES.length, played: CASES.length - skipped, skipped });
}

for (const store of stores) {
  for (const { name, path, project } of runtimes) {
    // The same client code as under Node 24.
    if (store.name === "KV Connect" && (name === "Node 20" || name === "Node 22")) continue;
    // Under Node `tests/postgres` plays it.
    if (store.name === "Postgres" && name !== "Bun") continue;
    job(`${store.name} under ${name}`, path, [join(project, "suite.mjs")], store);
  }
  if (store.name === "KV Connect") {
    const script = new URL("runtimes/suite.mjs", import.meta.url).href;
    job("KV Connect under Deno", Deno.execPath(), ["run", "-A", "--quiet", "--unstable-kv", script], store);
  }
}

/** What runs here runs in separate processes, and outlives the test that started it. */
function test(name: string, play: () => Promise<void>): void {
  Deno.test({ name: `npm: ${name}`, sanitizeOps: false, sanitizeResources: false, fn: play });
}

test("the tarball brings along nothing and runs nothing", async () => {
  await Promise.all(runtimes.map(install));
  for (const { project } of runtimes) {
    const inside = [...Deno.readDirSync(join(project, "node_modules"))].map(({ name }) => name);
    assertEquals(inside.filter((name) => !name.startsWith(".")), ["@holdfast"]);
  }
  const manifest = JSON.parse(
    await Deno.readTextFile(join(runtimes[0].project, "node_modules/@holdfast/lock/package.json")),
  );
  assertEquals([manifest.scripts, manifest.dependencies], [undefined, undefined]);
  const { exports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  assertEquals(Object.keys(manifest.exports), Object.keys(exports));
});

test("the command line is there under every runtime", async () => {
  for (const { path, project } of runtimes) {
    const output = await run(project, path, "node_modules/.bin/holdfast", "--help");
    assert(output.includes("holdfast"), output);
  }
});

test("all entry points share one core", async () => {
  for (const { path, project } of runtimes) {
    assertEquals(await run(project, path, "entry_points.mjs"), "one core\n");
  }
});

test("an import loads the core as one file, and no backend", async () => {
  for (const { path, project } of runtimes.filter(({ name }) => name.startsWith("Node"))) {
    assertEquals(await run(project, path, "loaded_files.mjs"), "mod.js\nshared/core.js\n");
  }
});

test("publint and attw have nothing to say", async () => {
  await run(folder, "npx", "-y", "publint@0.3.25", "run", "--strict", tarball);
  await run(folder, "npx", "-y", "@arethetypeswrong/cli@0.18.5", "--profile", "esm-only", tarball);
});

test("TypeScript compiles all forms for Node 20, decorators and await using too", async () => {
  const [{ path, project }] = runtimes;
  const flags = "--strict --target es2022 --module nodenext --outDir out --lib es2022,dom,esnext.disposable";
  await run(
    project,
    "npx",
    "-y",
    "-p",
    "typescript@5",
    "tsc",
    ...flags.split(" "),
    "consumer.ts",
  );
  assertEquals(await run(project, path, "out/consumer.js"), "wrapper decorator run scope hand\n");
});

for (const { name, path, project } of runtimes.filter(({ name }) => name === "Node 24" || name === "Bun")) {
  test(`await using under ${name}`, async () => {
    assertEquals(await run(project, path, "await_using.mjs"), "held released\n");
  });
}

test("Bun runs decorators as they are", async () => {
  const bun = runtimes.find(({ name }) => name === "Bun");
  if (bun === undefined) return;
  assertEquals(await run(bun.project, bun.path, "consumer.ts"), "wrapper decorator run scope hand\n");
});

for (const [i, { name, done }] of jobs.entries()) {
  test(`the suite on ${name}, and its process ends by itself`, async () => {
    if (i === 0) {
      const waiting = jobs.values();
      for (let n = 0; n < AT_A_TIME; n++) {
        void (async () => {
          for (const { start } of waiting) await start();
        })();
      }
    }
    await done;
  });
}

test("all is cleared away", () => clean.disposeAsync());
