/** The examples of docs/testing.md, as projects with Vitest and Jest that have the package installed. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { installInto, output } from "./support/installed.ts";
import { folderWith } from "./support/runtimes.ts";

const page = await Deno.readTextFile(new URL("../docs/testing.md", import.meta.url));

/** The blocks of JavaScript of a section; the first section is what stands before all headings. */
function blocksIn(heading: string): string[] {
  const [section] = page.split(heading === "" ? /^/ : `## ${heading}\n`).slice(-1)[0].split("\n## ");
  return [...section.matchAll(/^```js ignore\n([^]*?)^```$/gm)].map(([, code]) => code);
}

/** What stands in package.json, and the command, next to what the page says. */
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

const [code] = blocksIn("").slice(0, 1);

for (const [runner, { files, args, env }] of Object.entries(RUNNERS)) {
  Deno.test(`docs/testing.md: the examples for ${runner} pass`, async () => {
    const folder = await folderWith(runner.toLowerCase());
    try {
      await installInto(folder, ["backends/memory", "testing"]);
      const [tests, ...more] = blocksIn(`With ${runner}`);
      assertEquals(more, []);
      const written = { ...files, "report.js": code, "report.test.js": tests };
      for (const [name, text] of Object.entries(written)) await Deno.writeTextFile(join(folder, name), text);
      const { success, text } = await output(folder, "node", args, env);
      assert(success, text);
      assert(/Tests:? +3 passed/.test(text), text);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
