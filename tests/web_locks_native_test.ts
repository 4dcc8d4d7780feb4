// The same suite on the runtimes' own `navigator.locks`: what they are known to do otherwise is data, with reasons, and must
// fail. It shows that the suite asks for what the standard says, and not for what we do.
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { run } from "./support/run.ts";
import { findRuntime } from "./support/runtimes.ts";
import { SideBySide } from "./support/side_by_side.ts";
import { DEVIATIONS } from "./web_locks/deviations.ts";
import { casesOf } from "./web_locks/suite.ts";

const folder = await Deno.makeTempDir({ prefix: "holdfast-web-locks-" });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const ARGS: Readonly<Record<string, string[]>> = { "Node 24": [], "Deno": ["run", "--allow-all"] };

const bundle = join(folder, "native.mjs");
const source = new URL("./web_locks/native.ts", import.meta.url).pathname;
await run(folder, Deno.execPath(), "bundle", "--quiet", "--platform=deno", "--output", bundle, source);

/** Plays the suite under a runtime: which cases fail, and how. */
async function failuresOn(path: string, args: readonly string[]): Promise<Record<string, string>> {
  return JSON.parse(await run(folder, path, ...args, bundle));
}

const runtimes = new SideBySide();
for (const [name, args] of Object.entries(ARGS)) {
  const runtime = await findRuntime(name);
  const title = `${name}: the suite on the runtime's own locks`;
  if ("missing" in runtime) runtimes.skipBecause(runtime.missing, title);
  else {
    runtimes.test(title, async () => {
      const failures = await failuresOn(runtime.path, args);
      const deviations = DEVIATIONS[name];
      const unexpected = Object.entries(failures).filter(([says]) => !Object.hasOwn(deviations, says));
      assertEquals(unexpected, [], "these cases fail, and are not known to");
      const mended = Object.keys(deviations).filter((says) => !Object.hasOwn(failures, says));
      assertEquals(mended, [], "these deviations are none any more");
    });
  }
}
runtimes.register("web locks");

Deno.test("web locks: each deviation is of a case, and has a reason", () => {
  const cases = new Set([...casesOf()].map(({ says }) => says));
  for (const deviations of Object.values(DEVIATIONS)) {
    for (const [says, reason] of Object.entries(deviations)) {
      assertEquals([cases.has(says), reason !== ""], [true, true], says);
    }
  }
});
