/** The conformance suite on a real Redis server, with every client that the backend takes, under Deno and Node. */

import { assert, assertEquals } from "@std/assert";
import { CASES } from "@holdfast/lock/testing";
import { testRedisClients } from "./cases.ts";
import { CLIENTS } from "./clients.ts";
import { missingRedis, RedisServer } from "../support/redis_server.ts";

const missing = missingRedis();
if (missing !== undefined) {
  Deno.test.ignore(`Redis: ${missing}`, () => {});
} else {
  const server = await RedisServer.start();
  globalThis.addEventListener("unload", () => server.stop());
  Deno.test("Redis: the suite under Node, with every client", () => testUnderNode(server.port));
  // The parser of ioredis keeps an interval for a while after a reply that came in pieces. So its cases are not asked
  // about timers, and come last, where no other case meets what they left; node-redis shows what the backend leaves.
  // Deno looks at timers unless both of its sanitizers are off.
  const test = (name: string, fn: () => Promise<void>) => {
    const sanitized = !name.startsWith("Redis, ioredis");
    Deno.test({ name, fn, sanitizeOps: sanitized, sanitizeResources: sanitized });
  };
  testRedisClients(server.port, test, Deno.test.ignore);
}

/** Bundled, clients and all, so that the oldest Node needs neither packages nor TypeScript. */
async function testUnderNode(port: number): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-node-" });
  try {
    const bundle = `${folder}/suite.mjs`;
    const entry = new URL("./node.ts", import.meta.url).href;
    await run(Deno.execPath(), ["bundle", "--quiet", "--output", bundle, entry]);
    await Promise.all(
      Object.keys(CLIENTS).map(async (client) => {
        const report = await run("node", ["--test-reporter=tap", bundle, `${port}`, client]);
        assertEquals(Number(/^# pass (\d+)$/m.exec(report)?.[1]), CASES.length, client);
      }),
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function run(command: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const text = new TextDecoder().decode(stdout);
  const failures = text.split("\n").filter((line) => line.startsWith("not ok")).join("\n");
  assert(success, `${command} failed: ${failures || new TextDecoder().decode(stderr) || text}`);
  return text;
}
