// Which way the imports of this project point.
import { assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ROOT = new URL("..", import.meta.url);

/** All that the files below some paths import, as `file: import`, with paths from the root. */
async function importsOf(...paths: string[]): Promise<[file: string, imported: string][]> {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-co", "--exclude-standard", "--", ...paths],
    cwd: fileURLToPath(ROOT),
  }).output();
  const files = new TextDecoder().decode(stdout).split("\n").filter((file) => file.endsWith(".ts"));
  const found: [string, string][] = [];
  for (const file of files) {
    const text = await Deno.readTextFile(new URL(file, ROOT)).catch(() => "");
    // Not with what CommonJS and AMD import: all of these are ES modules, and TypeScript takes every function that is
    // named `define` for AMD's, and the first text in its array for a module.
    for (const { fileName } of ts.preProcessFile(text, true, false).importedFiles) {
      const isPath = fileName.startsWith(".");
      found.push([
        file,
        isPath ? new URL(fileName, new URL(file, ROOT)).href.slice(ROOT.href.length) : fileName,
      ]);
    }
  }
  return found;
}

/** The files and folders that are published and may have code in them. */
async function publishedPaths(): Promise<string[]> {
  const { publish } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  return publish.include.filter((path: string) => !path.includes(".") || path.endsWith(".ts"));
}

Deno.test("layout: the demo and the benchmarks use of the tests what is there for it", async () => {
  const imports = await importsOf("demo", "bench");
  const used = imports.filter(([, imported]) => imported.startsWith("tests/"));
  assertEquals(used.filter(([, imported]) => !imported.startsWith("tests/support/")), []);
  assertEquals(used.length > 0, true);
});

Deno.test("layout: what is published imports nothing but itself and the platform", async () => {
  const published = await publishedPaths();
  const imports = await importsOf(...published);
  const isOwn = (imported: string) =>
    published.some((path) => imported === path || imported.startsWith(`${path}/`));
  assertEquals(imports.filter(([, imported]) => !isOwn(imported) && !imported.startsWith("node:")), []);
  assertEquals(imports.length > 100, true);
});

Deno.test("layout: no imports of what is published go in a circle, not even those of types", async () => {
  const imports = await importsOf(...await publishedPaths());
  // What imports nothing that is left is in no circle.
  let left = imports;
  for (let count = Infinity; left.length < count;) {
    count = left.length;
    const importing = new Set(left.map(([file]) => file));
    left = left.filter(([, imported]) => importing.has(imported));
  }
  assertEquals(left, []);
});
