/** The examples for Node with Redis, started as their package.json says. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { join } from "node:path";
import { Program } from "./support/cli_program.ts";
import { installInto } from "./support/installed.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";
import { folderWith } from "./support/runtimes.ts";
import ts from "typescript";

const missing = missingRedis();

/** An example in a folder with what it imports, and the command of its script, without the shell of npm. */
async function install(example: string, stack: AsyncDisposableStack) {
  const source = new URL(`../examples/${example}/`, import.meta.url);
  const { dependencies, scripts } = JSON.parse(await Deno.readTextFile(new URL("package.json", source)));
  const folder = await folderWith(...Object.keys(dependencies).filter((name) => name !== "@holdfast/lock"));
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  await installInto(folder, ["backends/redis"]);
  const [, command, script] = /^exec (node) (\S+)$/.exec(scripts.start)!;
  const typed = await Deno.readTextFile(new URL(script.replace(".js", ".ts"), source)).catch(() => undefined);
  if (typed === undefined) await Deno.copyFile(new URL(script, source), join(folder, script));
  else {
    const { compilerOptions } = JSON.parse(await Deno.readTextFile(new URL("tsconfig.json", source)));
    const options = { ...compilerOptions, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
    await Deno.writeTextFile(join(folder, script), ts.transpile(typed, options));
  }
  return { folder, program: [command, script] };
}

function test(name: string, fn: (server: RedisServer, stack: AsyncDisposableStack) => Promise<void>): void {
  if (missing !== undefined) return Deno.test.ignore(`example: ${name} (${missing})`, () => {});
  Deno.test(`example: ${name}`, async () => {
    await using stack = new AsyncDisposableStack();
    await fn(stack.use(await RedisServer.start()), stack);
  });
}

test("two instances with Hono on Redis book every payment, and none twice", async (server, stack) => {
  const { folder, program } = await install("hono", stack);
  const urls = await Promise.all([1, 2].map(async () => {
    const env = { PORT: "0", REDIS_URL: `redis://127.0.0.1:${server.port}` };
    const instance = stack.use(new Program({ program, store: "", folder, env }));
    await instance.says("listening on ");
    await instance.says("\n");
    return `http://127.0.0.1:${/listening on (\d+)/.exec(instance.out)![1]}`;
  }));
  const pay = async (url: string, customer: string) => {
    const response = await fetch(`${url}/customers/${customer}/payments`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ amount: 10 }),
    });
    return (await response.json()).balance;
  };
  const balances = await Promise.all(Array.from({ length: 10 }, (_, i) => pay(urls[i % 2], "ada")));
  assertEquals(balances.sort((a, b) => a - b), Array.from({ length: 10 }, (_, i) => 10 * (i + 1)));
  assertEquals(await pay(urls[1], "bob"), 10);
});

test(
  "workers on Redis do every job, one at a time per account, and stop when they are asked to",
  async (server, stack) => {
    const { folder, program } = await install("worker", stack);
    const jobs = Array.from({ length: 12 }, (_, id) => JSON.stringify({ id, account: `a${id % 2}` }));
    await server.ask("RPUSH", "jobs", ...jobs);
    const env = { REDIS_URL: `redis://127.0.0.1:${server.port}` };
    const workers = [1, 2, 3].map(() => stack.use(new Program({ program, store: "", folder, env })));
    while (!(await server.ask("LLEN", "done")).startsWith(":12")) await delay(20);
    for (const worker of workers) worker.signal("SIGTERM");
    for (const worker of workers) {
      assertEquals(await worker.outcome(), {
        code: 0,
        out: "stopped\n",
        err: "",
      });
    }
    assertEquals(await server.ask("LLEN", "doing"), ":0\r\n");
    assertEquals(await server.ask("LLEN", "jobs"), ":0\r\n");
    const done = (await server.ask("LRANGE", "done", "0", "-1")).split("\r\n").filter((line) =>
      line.startsWith("{")
    )
      .map((line) => JSON.parse(line));
    assertEquals(new Set(done.map(({ id }) => id)).size, 12);
    for (const account of ["a0", "a1"]) {
      const tokens = done.filter((job) => job.account === account).map(({ fencingToken }) => fencingToken);
      assert(tokens.every((token, i) => i === 0 || token > tokens[i - 1]), `${tokens}`);
    }
  },
);

test(
  "of two instances of NestJS one does each firing of a job, and both stop when they are asked to",
  async (server, stack) => {
    const { folder, program } = await install("nestjs", stack);
    const env = { REDIS_URL: `redis://127.0.0.1:${server.port}` };
    const instances = [1, 2].map(() => stack.use(new Program({ program, store: "", folder, env })));
    for (const instance of instances) await instance.says("started");
    while (!/^:[2-9]/.test(await server.ask("LLEN", "reports"))) await delay(50);
    for (const instance of instances) instance.signal("SIGTERM");
    for (const instance of instances) assertEquals(await instance.code, "SIGTERM");
    const seconds = (await server.ask("LRANGE", "reports", "0", "-1")).match(/\d+-\d+-\d+T[\d:]+/g)!;
    assertEquals(seconds.length, new Set(seconds).size, `${seconds}`);
  },
);
