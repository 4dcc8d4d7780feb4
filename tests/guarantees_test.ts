// Nothing is promised in docs/guarantees.md that no test shows: each row names tests, and they are where it says.
import { assert, assertEquals } from "@std/assert";
import { KNOWN_FAULTS } from "./simulation/known_faults.ts";

const DOCS = new URL("../docs/guarantees.md", import.meta.url);

/** The rows of all tables, without their heads. */
function rowsOf(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("| ") && !/^\| (promise|fault|---)/.test(line));
}

Deno.test("guarantees: every row names a test, and the test is there", async () => {
  const text = await Deno.readTextFile(DOCS);
  const rows = rowsOf(text);
  assert(rows.length > 20);
  for (const row of rows) {
    assert(/\]\(\.\.\/|deno task sim:faults/.test(row), `no test shows: ${row.slice(0, 80)}`);
  }
  const links = [...text.matchAll(/\[([^\]]+)\]\((\.\.\/[^)]+)\)/g)];
  const missing: string[] = [];
  for (const [, title, path] of links) {
    const source = await Deno.readTextFile(new URL(path, DOCS));
    // A title may be put together there, of a name and the rest.
    if (!source.includes(title)) missing.push(`${path}: ${title}`);
  }
  assertEquals(missing, []);
});

Deno.test("guarantees: every fault of the track record is found today, by the test or the command that it names", async () => {
  const [, record] = (await Deno.readTextFile(DOCS)).split("## Track record");
  const named = rowsOf(record).flatMap((row) =>
    [...row.matchAll(/deno task sim:faults "?([^"`]+)/g)].map(([, text]) => text)
  );
  assert(named.length > 5);
  const unknown = named.filter((text) =>
    !KNOWN_FAULTS.some(({ commit, what }) => `${commit} ${what}`.includes(text))
  );
  assertEquals(unknown, []);
});
