/** The package in projects of its users: with the real clients, compiled by the compilers that they have. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { run } from "./support/run.ts";
import { projectFrom } from "./support/runtimes.ts";

const FILES = ["options.ts", "kv.ts", "ioredis.ts", "node_redis.ts", "postgres.ts"];

const folder = new URL("consumers/", import.meta.url);
const project = await projectFrom(folder);
for (const file of [...FILES, "check.mjs"]) {
  await Deno.copyFile(new URL(file, folder), join(project, file));
}

Deno.test("consumers: the real clients fit as they are, under TypeScript 5.0", async () => {
  const said = await run(
    project,
    "node",
    "check.mjs",
    "typescript50",
    "NodeNext",
    "CommonJS",
    "--",
    ...FILES,
  );
  assertEquals(said, ["NodeNext", "CommonJS"].map((way) => `${way}: 5.0.4\n`).join(""));
});

Deno.test("consumers: the real clients fit as they are, under the newest TypeScript", async () => {
  const tsc = join(project, "node_modules/typescript7/bin/tsc");
  const strict =
    "--noEmit --strict --exactOptionalPropertyTypes --skipLibCheck false --target es2022 --types node";
  assert((await run(project, "node", tsc, "--version")).startsWith("Version 7."));
  for (const way of ["--module nodenext", "--module esnext --moduleResolution bundler"]) {
    assertEquals(
      await run(project, "node", tsc, ...`${strict} --lib es2022 ${way}`.split(" "), ...FILES),
      "",
    );
  }
});

Deno.test("consumers: versions that apps pin stop no install", async () => {
  const app = join(project, "app");
  await Deno.mkdir(app);
  const dependencies = {
    "@deno/kv": "0.8.4",
    "@holdfast/lock": "file:../lock.tgz",
    "@opentelemetry/api": "1.9.0",
    ioredis: "5.8.2",
    pg: "8.11.0",
    postgres: "3.3.5",
    redis: "4.7.1",
  };
  await Deno.writeTextFile(join(app, "package.json"), JSON.stringify({ private: true, dependencies }));
  // It resolves them all, as an install does, and fetches none.
  await run(app, "npm", "install", "--package-lock-only", "--no-audit", "--no-fund", "--silent");
});

Deno.test("consumers: all is cleared away", () => Deno.remove(project, { recursive: true }));
