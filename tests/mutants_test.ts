import { assertEquals } from "@std/assert";
import { TABLE } from "./mutants/table.ts";

const ROOT = new URL("..", import.meta.url);

Deno.test("mutants: each breaks one line of the code as it is today", async () => {
  const stale: string[] = [];
  for (const { law, file, from, test } of Object.values(TABLE).flat()) {
    const text = await Deno.readTextFile(new URL(file, ROOT)).catch(() => "");
    if (text.split(from).length !== 2) stale.push(`${law}: ${file} has not exactly one ${from}`);
    const found = await Deno.stat(new URL(test, ROOT)).then(({ isFile }) => isFile, () => false);
    if (!found) stale.push(`${law}: there is no ${test}`);
  }
  assertEquals(stale, []);
});

Deno.test("mutants: each stands for one thing that could break", () => {
  const seen = Map.groupBy(
    Object.values(TABLE).flat(),
    ({ file, from, to }) => JSON.stringify([file, from, to]),
  );
  assertEquals([...seen.values()].filter(({ length }) => length > 1), []);
});
