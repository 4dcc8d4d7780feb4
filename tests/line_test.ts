// Those that wait in one process, in order.
import { assertEquals } from "@std/assert";
import { Line } from "../core/line.ts";

Deno.test("line: first come first, even if some leave", () => {
  const line = new Line<string>();
  const seen = () => [line.size, line.first, [...line].join("")];
  assertEquals([line.delete("a"), seen()], [false, [0, undefined, ""]]);
  for (const name of "abcd") line.add(name);
  assertEquals(seen(), [4, "a", "abcd"]);
  assertEquals([line.delete("b"), line.delete("b"), seen()], [true, false, [3, "a", "acd"]]);
  assertEquals([line.delete("a"), seen()], [true, [2, "c", "cd"]]);
  line.add("a");
  assertEquals(seen(), [3, "c", "cda"]);
  for (const name of "cda") assertEquals(line.delete(name), true);
  assertEquals(seen(), [0, undefined, ""]);
  line.add("b");
  assertEquals(seen(), [1, "b", "b"]);
});
