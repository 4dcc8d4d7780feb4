/** The runtimes that the package is for, and a folder in which they find what they import. */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

/** By name: how npm gets it, and how it says where it is. */
const COMMANDS: Readonly<Record<string, string[]>> = {
  "Node 20": ["node@20", "-p", "process.execPath"],
  "Node 22": ["node@22", "-p", "process.execPath"],
  "Node 24": ["node@24", "-p", "process.execPath"],
  "Bun": ["bun@1", "-e", "console.log(process.execPath)"],
};

/** Where a runtime's program is; for one that cannot be had here, why not. In CI all can be had. */
export async function findRuntime(name: string): Promise<{ path: string } | { missing: string }> {
  if (name === "Deno") return { path: Deno.execPath() };
  // Test files run at the same time, and npx cannot install one package twice at once.
  const turn = await Deno.open(join(tmpdir(), "holdfast-npx.lock"), { create: true, write: true });
  try {
    await turn.lock(true);
    const path = await run(Deno.cwd(), "npx", "-y", ...COMMANDS[name]);
    return { path: path.trim() };
  } catch (error) {
    if (Deno.env.get("CI") === "true") throw error;
    return { missing: `needs ${name}, which npm gets: npx -y ${COMMANDS[name][0]}` };
  } finally {
    turn.close();
  }
}

/** Makes the project of a user: the packages that `folder` says, in the versions that it has tested, and our own. */
export async function projectFrom(folder: URL): Promise<string> {
  const project = await Deno.makeTempDir({ prefix: "holdfast-project-" });
  await Deno.writeTextFile(join(project, "deno.json"), JSON.stringify({ nodeModulesDir: "auto" }));
  // Under other names, or Deno would take these packages for those of this repository.
  await Deno.copyFile(new URL("dependencies.json", folder), join(project, "package.json"));
  await Deno.copyFile(new URL("dependencies.lock", folder), join(project, "deno.lock"));
  await run(project, Deno.execPath(), "install", "--quiet", "--frozen");
  await addPackage(project);
  return project;
}

/** Puts our package into a project, as its tarball has it. */
async function addPackage(project: string): Promise<void> {
  const root = new URL("../../", import.meta.url);
  const tarball = join(project, "lock.tgz");
  await run(root, Deno.execPath(), "task", "--quiet", "pack", tarball);
  const folder = join(project, "node_modules/@holdfast/lock");
  await Deno.mkdir(folder, { recursive: true });
  await run(folder, "tar", "xzf", tarball, "--strip-components=1");
}

/** Makes a folder in which Node and Bun find these clients, in the versions that deno.json says. */
export async function folderWith(...clients: string[]): Promise<string> {
  const root = new URL("../../", import.meta.url);
  const folder = await Deno.makeTempDir({ prefix: "holdfast-runtimes-" });
  const tested = JSON.parse(await Deno.readTextFile(new URL("deno.json", root))).imports;
  const imports = Object.fromEntries(clients.map((name) => {
    const specifier = Object.values<string>(tested).findLast((value) => value.startsWith(`npm:${name}@`));
    return [name, specifier];
  }));
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ nodeModulesDir: "auto", imports }));
  await Deno.writeTextFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await Deno.copyFile(new URL("deno.lock", root), join(folder, "deno.lock"));
  await run(folder, Deno.execPath(), "install", "--quiet");
  return folder;
}
