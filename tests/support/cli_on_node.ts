/** The command line as its users on Node have it: bundled, next to the client of Redis that they have installed. */

import { assert } from "@std/assert";

let bundling: Promise<string> | undefined;

/** The program for Node, next to the client that its user has installed; made once. */
export function onNode(): Promise<string> {
  return bundling ??= (async () => {
    const folder = await Deno.makeTempDir({ prefix: "holdfast-cli-node-" });
    globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
    const installed = `${folder}/node_modules/ioredis`;
    await Deno.mkdir(installed, { recursive: true });
    await Deno.writeTextFile(`${installed}/package.json`, `{ "exports": "./index.mjs" }`);
    await bundle("../cli_node.ts", `${installed}/index.mjs`);
    await bundle("../../cli.ts", `${folder}/holdfast.mjs`);
    // As npm installs it.
    await Deno.chmod(`${folder}/holdfast.mjs`, 0o755);
    await Deno.mkdir(`${folder}/node_modules/.bin`);
    await Deno.symlink("../../holdfast.mjs", `${folder}/node_modules/.bin/holdfast`);
    return `${folder}/holdfast.mjs`;
  })();
}

async function bundle(source: string, target: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "bundle",
      "--quiet",
      "--platform",
      "deno",
      "--output",
      target,
      new URL(source, import.meta.url).href,
    ],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}
