import { assertEquals } from "@std/assert";
import { KNOWN_FAULTS } from "./simulation/known_faults.ts";

Deno.test("known faults: each puts back what fits the code as it is today", async () => {
  const stale: string[] = [];
  for (const { what, edits } of KNOWN_FAULTS) {
    for (const { file, from } of edits) {
      const text = await Deno.readTextFile(new URL(`../${file}`, import.meta.url));
      if (text.split(from).length !== 2) stale.push(`${what}: ${file} has not exactly one ${from}`);
    }
  }
  assertEquals(stale, []);
});
