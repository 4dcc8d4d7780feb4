/**
 * The conformance suite on a real Postgres server with every client, under Deno and Node, and on PGlite under Node. For
 * its time, one client plays all of it under Deno, one under Node, and the rest a slice next to the first; with
 * `HOLDFAST_POSTGRES=all`, as `deno task conformance:postgres` sets it, each plays all of it under both.
 */

import { assert, assertEquals } from "@std/assert";
import { CASES } from "@holdfast/lock/testing";
import { missingPgBouncer, missingPostgres, PgBouncer, PostgresServer } from "../support/postgres_server.ts";
import { folderWith } from "../support/runtimes.ts";
import { SideBySide } from "../support/side_by_side.ts";
import { LENIENT, PLAYS_ALL, POLLING, SLICE, testPostgres } from "./cases.ts";
import { CLIENTS } from "./clients.ts";

/** Which client plays all of it under Deno, and which under Node; the rest play a slice. */
const PLAYED_HERE = "pg Pool";
const PLAYED_UNDER_NODE = "postgres.js";
const UNDER_NODE = PLAYS_ALL ? [...Object.keys(CLIENTS), "PGlite"] : [PLAYED_UNDER_NODE];
const stores = new SideBySide();
const { test, skip } = stores;
const slice = (name: string, play: () => Promise<void>) => {
  if (PLAYS_ALL || SLICE.test(name)) test(name, play);
};
const ignore = (why: string) => Deno.test.ignore(why, () => {});

const missing = missingPostgres();
if (missing !== undefined) ignore(`Postgres: ${missing}`);
else {
  const server = await PostgresServer.start({ config: ["max_connections=300"] });
  globalThis.addEventListener("unload", () => server.stop());
  for (const name of UNDER_NODE) {
    Deno.test(`Postgres: the suite under Node, with ${name}`, () => testUnderNode(server.port, name));
  }
  for (const name of Object.keys(CLIENTS)) {
    testPostgres(name, { port: server.port, test: name === PLAYED_HERE ? test : slice, skip });
  }
  const unmet = missingPgBouncer();
  if (unmet !== undefined) ignore(`Postgres behind PgBouncer: ${unmet}`);
  else {
    const bouncer = await PgBouncer.start(server, "transaction");
    globalThis.addEventListener("unload", () => bouncer[Symbol.asyncDispose]());
    const behind: typeof test = (name, play) => slice(`PgBouncer, ${name}`, play);
    testPostgres("pg Pool", { port: bouncer.port, test: behind, skip, stretch: 2, deviations: POLLING });
  }
}
stores.register("Postgres", LENIENT);

/** Bundled, clients and all, so that the oldest Node needs neither packages nor TypeScript. */
async function testUnderNode(port: number, name: string): Promise<void> {
  const making = name === "PGlite"
    ? folderWith("@electric-sql/pglite")
    : Deno.makeTempDir({ prefix: "holdfast-node-" });
  const folder = await making;
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
    const report = await run("node", ["--test-reporter=tap", bundle, `${port}`, name]);
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
