import { assertEquals } from "@std/assert";
import { MUTANTS } from "./mutants.ts";

Deno.test("mutants: each breaks one line of the code as it is today", async () => {
  const stale: string[] = [];
  for (const { law, file, from } of MUTANTS) {
    const text = await Deno.readTextFile(new URL(`../${file}`, import.meta.url));
    if (text.split(from).length !== 2) stale.push(`${law}: ${file} has not exactly one ${from}`);
  }
  assertEquals(stale, []);
});
