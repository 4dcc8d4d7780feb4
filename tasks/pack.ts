// Makes the tarball for npm: what `deno pack` makes, and what it leaves out of package.json. The argument is where
// to write it; default: holdfast-lock-<version>.tgz here.

import { join } from "node:path";

/** The clients that users may bring along; each backend takes its own. */
const CLIENTS = ["@deno/kv", "@google-cloud/datastore", "@opentelemetry/api", "ioredis", "redis"];

const root = new URL("..", import.meta.url);
const { imports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));

/** The versions of a package that the tests run with. */
function tested(name: string): string {
  const versions = Object.values<string>(imports)
    .filter((specifier) => specifier.startsWith(`npm:${name}@`))
    .map((specifier) => specifier.slice(`npm:${name}@`.length).replace(/^\d/, "^$&"));
  if (versions.length === 0) throw new Error(`deno.json does not say which ${name} is tested`);
  return versions.join(" || ");
}

async function run(cwd: URL | string, command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd, stdin: "null" }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

const folder = await Deno.makeTempDir({ prefix: "holdfast-pack-" });
try {
  const packed = join(folder, "deno.tgz");
  await run(root, Deno.execPath(), "pack", "--quiet", "--allow-dirty", "--no-source-maps", "-o", packed);
  await run(folder, "tar", "xzf", packed);
  const manifest = join(folder, "package", "package.json");
  const made = JSON.parse(await Deno.readTextFile(manifest));
  const repository = Deno.env.get("GITHUB_REPOSITORY");
  const whole = {
    ...made,
    description:
      "A distributed lock for Deno, Node and Bun: Deno KV, Redis, Datastore. Leases, fencing, no deadlocks.",
    keywords: ["lock", "mutex", "distributed", "lease", "fencing", "deno", "deno-kv", "redis", "datastore"],
    // Provenance needs it, and only the publishing workflow knows it.
    ...(repository && { repository: { type: "git", url: `git+https://github.com/${repository}.git` } }),
    engines: { node: ">=20" },
    sideEffects: ["./mod.js", "./cli.js"],
    ...(made.exports["./cli"] && { bin: { holdfast: made.exports["./cli"].import } }),
    peerDependencies: Object.fromEntries(CLIENTS.map((name) => [name, tested(name)])),
    peerDependenciesMeta: Object.fromEntries(CLIENTS.map((name) => [name, { optional: true }])),
  };
  await Deno.writeTextFile(manifest, JSON.stringify(whole, null, 2) + "\n");
  const name = (await run(join(folder, "package"), "npm", "pack", "--silent", "--pack-destination", folder))
    .trim();
  const target = Deno.args[0] ?? name;
  await Deno.copyFile(join(folder, name), target);
  console.log(target);
} finally {
  await Deno.remove(folder, { recursive: true });
}
