// Nothing is promised in docs/guarantees.md that no test shows: each row names tests, and they are where it says.
import { assert, assertEquals } from "@std/assert";

const DOCS = new URL("../docs/guarantees.md", import.meta.url);

Deno.test("guarantees: every row names a test, and the test is there", async () => {
  const text = await Deno.readTextFile(DOCS);
  const rows = text.split("\n").filter((line) => line.startsWith("| ") && !/^\| (promise|---)/.test(line));
  assert(rows.length > 20);
  for (const row of rows) assert(row.includes("](../"), `no test shows: ${row.slice(0, 80)}`);
  const links = [...text.matchAll(/\[([^\]]+)\]\((\.\.\/[^)]+)\)/g)];
  const missing: string[] = [];
  for (const [, title, path] of links) {
    const source = await Deno.readTextFile(new URL(path, DOCS));
    // A title may be put together there, of a name and the rest.
    if (!source.includes(title)) missing.push(`${path}: ${title}`);
  }
  assertEquals(missing, []);
});
