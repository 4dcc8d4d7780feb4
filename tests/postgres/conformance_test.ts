/** The conformance suite on a real Postgres server and on PGlite, with every client, under Deno and Node. */

import { assert, assertEquals } from "@std/assert";
import { CASES } from "@holdfast/lock/testing";
import { missingPgBouncer, missingPostgres, PgBouncer, PostgresServer } from "../support/postgres_server.ts";
import { POLLING, testPostgres } from "./cases.ts";
import { CLIENTS, closeLite } from "./clients.ts";

/** Which client plays all of it under Deno, and which under Node; the rest play a slice. */
const PLAYED_HERE = "pg Pool";
const PLAYED_UNDER_NODE = "postgres.js";
/** Of the clients that have played all under Node, what shows whether they are spoken to alike under Deno. */
const SLICE = /: (store|steal|wait): .*(watch|version|commit|robbed|line|handed|crash|turn)/;

const skip = Deno.test.ignore;
const missing = missingPostgres();
if (missing !== undefined) {
  skip(`Postgres: ${missing}`, () => {});
} else {
  const server = await PostgresServer.start({ config: ["max_connections=300"] });
  globalThis.addEventListener("unload", () => server.stop());
  Deno.test(`Postgres: the suite under Node, with ${PLAYED_UNDER_NODE}`, () => testUnderNode(server.port));
  testPostgres(PLAYED_HERE, { port: server.port, test, skip });
  for (const name of Object.keys(CLIENTS).filter((name) => name !== PLAYED_HERE)) {
    testPostgres(name, { port: server.port, test: slice, skip });
  }
  const unmet = missingPgBouncer();
  if (unmet !== undefined) skip(`Postgres behind PgBouncer: ${unmet}`, () => {});
  else {
    const bouncer = await PgBouncer.start(server, "transaction");
    globalThis.addEventListener("unload", () => bouncer[Symbol.asyncDispose]());
    const behind = (name: string, play: () => Promise<void>) => slice(`PgBouncer, ${name}`, play);
    testPostgres("pg Pool", { port: bouncer.port, test: behind, skip, stretch: 2, deviations: POLLING });
  }
}

testPostgres("PGlite", { port: 0, test: slice, skip });
test("Postgres, PGlite: it is closed", closeLite);

/** The clients close their sockets after they have said that they are closed, and PGlite keeps what it has started. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });
}

function slice(name: string, play: () => Promise<void>): void {
  if (SLICE.test(name)) test(name, play);
}

/** Bundled, clients and all, so that the oldest Node needs neither packages nor TypeScript. */
async function testUnderNode(port: number): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-node-" });
  try {
    const bundle = `${folder}/suite.mjs`;
    const entry = new URL("./node.ts", import.meta.url).href;
    await run(Deno.execPath(), [
      "bundle",
      "--quiet",
      "--external",
      "@electric-sql/pglite",
      "--output",
      bundle,
      entry,
    ]);
    const report = await run("node", ["--test-reporter=tap", bundle, `${port}`, PLAYED_UNDER_NODE]);
    assertEquals(Number(/^# pass (\d+)$/m.exec(report)?.[1]), CASES.length);
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
