/** The package in a folder for Node, without npm: quicker than its tarball, and made of the sources as they are. */

import { assert } from "@std/assert";
import { join } from "node:path";

const root = new URL("../../", import.meta.url);

/** What a command prints, and whether it succeeds. */
export async function output(
  cwd: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ success: boolean; text: string }> {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    env: { NO_COLOR: "1", ...env },
  })
    .output();
  const decoder = new TextDecoder();
  return { success, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Installs the main entry point and these; their files share what they have in common, as those on npm do. */
export async function installInto(folder: string, entryPoints: readonly string[]): Promise<void> {
  const target = join(folder, "node_modules", "@holdfast", "lock");
  await Deno.mkdir(target, { recursive: true });
  const names = ["mod", ...entryPoints];
  const sources = names.map((name) => new URL(`${name}.ts`, root).href);
  const args = [
    "bundle",
    "--quiet",
    "--platform",
    "deno",
    "--code-splitting",
    "--outdir",
    target,
    ...sources,
  ];
  const { success, text } = await output(folder, Deno.execPath(), args);
  assert(success, text);
  const exports = Object.fromEntries(
    names.map((name) => [name === "mod" ? "." : `./${name}`, `./${name}.js`]),
  );
  await Deno.writeTextFile(join(target, "package.json"), JSON.stringify({ type: "module", exports }));
}
