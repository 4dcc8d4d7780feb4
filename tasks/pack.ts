// Makes the tarball for npm: what `deno pack` makes, with fewer files of JavaScript, and with what it leaves out of
// package.json. The argument is where to write it; default: holdfast-lock-<version>.tgz here.

import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { rollup } from "rollup";

/**
 * The clients that the package looks for by itself, because users named a store, from the first version with which it was
 * seen to work: a range that says more stops installs. Before 0.8.4, @deno/kv refuses to create a key that is not there.
 * What users hand in, such as the API of OpenTelemetry, is no peer.
 */
const CLIENTS = {
  "@deno/kv": ">=0.8.4",
  "@google-cloud/datastore": ">=11",
  "ioredis": ">=5",
  "pg": ">=8",
  "postgres": ">=3",
  "redis": ">=4",
};

/** The versions of Node that let `require` load our modules; `import` works from 20.0 on. */
const NODE = "^20.19.0 || >=22.12.0";

const root = new URL("..", import.meta.url);

async function run(cwd: URL | string, command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd, stdin: "null" }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/**
 * Puts the modules of a package together, because Node takes about a millisecond for each file that it loads. Names and
 * comments stay as they are. Every module is in one file only, so that a process has each class and each table once,
 * whichever entry points it imports: the core is `shared/core.js`.
 */
async function bundle(folder: string, entryPoints: string[]): Promise<void> {
  const build = await rollup({
    input: Object.fromEntries(entryPoints.map((path) => [path.replace(/\.js$/, ""), join(folder, path)])),
    external: (specifier) => specifier.startsWith("node:"),
    treeshake: false,
    onwarn: (warning) => {
      if (warning.code !== "CIRCULAR_DEPENDENCY") throw new Error(warning.message);
    },
  });
  const { output } = await build.generate({
    chunkFileNames: "shared/[name].js",
    hoistTransitiveImports: false,
    minifyInternalExports: false,
    manualChunks: (path) => path.startsWith(join(folder, "core")) ? "core" : undefined,
  });
  await build.close();
  for (const path of await readdir(folder, { recursive: true })) {
    if (path.endsWith(".js")) await Deno.remove(join(folder, path));
  }
  for (const file of output) {
    if (file.type !== "chunk") throw new Error(`${file.fileName} is no JavaScript`);
    const path = join(folder, file.fileName);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeTextFile(path, file.code);
  }
}

const folder = await Deno.makeTempDir({ prefix: "holdfast-pack-" });
try {
  const packed = join(folder, "deno.tgz");
  await run(root, Deno.execPath(), "pack", "--quiet", "--allow-dirty", "--no-source-maps", "-o", packed);
  await run(folder, "tar", "xzf", packed);
  const manifest = join(folder, "package", "package.json");
  const made = JSON.parse(await Deno.readTextFile(manifest));
  const paths = Object.values<{ import: string }>(made.exports).map((entry) => entry.import.slice(2));
  await bundle(join(folder, "package"), paths);
  const repository = Deno.env.get("GITHUB_REPOSITORY");
  const whole = {
    ...made,
    description:
      "A distributed lock for Deno, Node and Bun: Deno KV, Postgres, Redis, Datastore. Leases, fencing, no deadlocks.",
    keywords: [
      "lock",
      "mutex",
      "distributed",
      "lease",
      "fencing",
      "deno",
      "deno-kv",
      "redis",
      "postgres",
      "datastore",
    ],
    // Provenance needs it, and only the publishing workflow knows it.
    ...(repository && { repository: { type: "git", url: `git+https://github.com/${repository}.git` } }),
    // Compilers that resolve as Node 10 did read no `exports`: to them an entry point is a file of its name.
    typesVersions: {
      "*": Object.fromEntries(
        Object.entries<{ types: string }>(made.exports)
          .filter(([name, { types }]) => name !== "." && types !== `${name}.d.ts`)
          .map(([name, { types }]) => [name.slice(2), [types]]),
      ),
    },
    engines: { node: NODE },
    sideEffects: ["./mod.js", "./cli.js"],
    ...(made.exports["./cli"] && { bin: { holdfast: made.exports["./cli"].import } }),
    peerDependencies: CLIENTS,
    peerDependenciesMeta: Object.fromEntries(
      Object.keys(CLIENTS).map((name) => [name, { optional: true }]),
    ),
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
