/** The examples of docs/testing.md, as projects with Vitest and Jest that have the package installed. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { folderWith } from "./support/runtimes.ts";

const root = new URL("..", import.meta.url);
const page = await Deno.readTextFile(new URL("docs/testing.md", root));

/** The blocks of JavaScript of a section; the first section is what stands before all headings. */
function blocksIn(heading: string): string[] {
  const [section] = page.split(heading === "" ? /^/ : `## ${heading}\n`).slice(-1)[0].split("\n## ");
  return [...section.matchAll(/^```js\n([^]*?)^```$/gm)].map(([, code]) => code);
}

/** What stands in package.json, and the command, beside what the page says. */
const RUNNERS: Record<
  string,
  { files: Record<string, string>; args: string[]; env: Record<string, string> }
> = {
  Vitest: { files: {}, args: ["node_modules/vitest/vitest.mjs", "run"], env: {} },
  Jest: {
    files: { "jest.config.json": JSON.stringify({ transform: {} }) },
    args: ["--no-warnings", "node_modules/jest/bin/jest.js"],
    env: { NODE_OPTIONS: "--experimental-vm-modules" },
  },
};

async function run(cwd: string, command: string, args: string[], env: Record<string, string> = {}) {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    env: { NO_COLOR: "1", ...env },
  })
    .output();
  const decoder = new TextDecoder();
  return { success, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** What the examples import, as a package; its files share what they have in common, as in the one on npm. */
async function installInto(folder: string): Promise<void> {
  const target = join(folder, "node_modules", "@holdfast", "lock");
  await Deno.mkdir(target, { recursive: true });
  const exports = { ".": "mod", "./backends/memory": "backends/memory", "./testing": "testing" };
  const sources = Object.values(exports).map((name) => new URL(`${name}.ts`, root).href);
  const args = [
    "bundle",
    "--quiet",
    "--platform",
    "deno",
    "--code-splitting",
    "--outdir",
    target,
    ...sources,
  ];
  const { success, text } = await run(folder, Deno.execPath(), args);
  assert(success, text);
  await Deno.writeTextFile(
    join(target, "package.json"),
    JSON.stringify({
      type: "module",
      exports: Object.fromEntries(Object.entries(exports).map(([name, path]) => [name, `./${path}.js`])),
    }),
  );
}

const [code] = blocksIn("").slice(0, 1);

for (const [runner, { files, args, env }] of Object.entries(RUNNERS)) {
  Deno.test(`docs/testing.md: the examples for ${runner} pass`, async () => {
    const folder = await folderWith(runner.toLowerCase());
    try {
      await installInto(folder);
      const [tests, ...more] = blocksIn(`With ${runner}`);
      assertEquals(more, []);
      const written = { ...files, "report.js": code, "report.test.js": tests };
      for (const [name, text] of Object.entries(written)) await Deno.writeTextFile(join(folder, name), text);
      const { success, text } = await run(folder, "node", args, env);
      assert(success, text);
      assert(/Tests:? +3 passed/.test(text), text);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
