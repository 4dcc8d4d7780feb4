// What the package weighs, and how long it takes to import: writes the table in the README, and records the size of the
// core. With --check, only fails if the core has outgrown what is recorded: a ratchet. It may grow for a reason, and
// recording a new size is a deliberate act; a budget must never cost a clear name or a clear file.

import { gzip } from "node:zlib";
import { promisify } from "node:util";

/** The recorded size of the core, in bytes, minified and compressed. */
const RECORD = new URL("size.txt", import.meta.url);
/** How much of the recorded size the core may weigh without a new record. */
const TOLERANCE = 1.03;
/** How often each runtime imports it; the table has the middle one. */
const IMPORTS = 11;
const BEGIN = "<!-- size: deno task size -->";
const END = "<!-- /size -->";

const root = new URL("..", import.meta.url);
const folder = await Deno.makeTempDir({ prefix: "holdfast-size-" });

async function run(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd: root }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trim();
}

/** What a module and all that it imports weigh, minified and compressed. */
async function weigh(module: string, ...externals: string[]): Promise<number> {
  const bundle = `${folder}/bundle.js`;
  const external = externals.flatMap((name) => ["--external", name]);
  await run(Deno.execPath(), "bundle", "--quiet", "--minify", ...external, "-o", bundle, module);
  return (await promisify(gzip)(await Deno.readFile(bundle), { level: 9 })).length;
}

/** How long a runtime takes to import the package, in milliseconds. */
async function importTime(program: string, ...flags: string[]): Promise<number> {
  const module = new URL(`file://${folder}/package/mod.js`);
  const script = `${folder}/import.mjs`;
  await Deno.writeTextFile(
    script,
    `const from = performance.now(); await import("${module}"); console.log(performance.now() - from);`,
  );
  const times: number[] = [];
  for (let i = 0; i < IMPORTS; i++) times.push(Number(await run(program, ...flags, script)));
  return times.toSorted((a, b) => a - b)[(IMPORTS - 1) / 2];
}

const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;

try {
  const core = await weigh("mod.ts", "./backends/kv.ts");
  if (Deno.args.includes("--check")) {
    const recorded = Number(await Deno.readTextFile(RECORD));
    console.log(`The core weighs ${core} bytes, ${recorded} are recorded`);
    if (!(core <= TOLERANCE * recorded)) {
      throw new Error(
        "The core has outgrown its recorded size; if it must: deno task size, and say why in the commit",
      );
    }
  } else {
    await Deno.writeTextFile(RECORD, `${core}\n`);
    const tarball = `${folder}/lock.tgz`;
    await run(Deno.execPath(), "task", "--quiet", "pack", tarball);
    await run("tar", "xzf", tarball, "-C", folder);
    const rows = [["the core: `@holdfast/lock`, minified + gzip", kib(core)]];
    rows.push(["with the Deno KV backend, which it loads on first use", kib(await weigh("mod.ts"))]);
    rows.push([
      "the npm tarball: all backends, the conformance suite, types",
      kib((await Deno.stat(tarball)).size),
    ]);
    const runtimes: [string, string, string[]][] = [["Deno", Deno.execPath(), [
      "run",
      "--allow-all",
      "--quiet",
    ]]];
    for (const version of [20, 22, 24]) {
      const path = await run("npx", "-y", `node@${version}`, "-p", "process.execPath");
      runtimes.push([`Node ${version}`, path, []]);
    }
    runtimes.push(["Bun", await run("npx", "-y", "bun@1", "-e", "console.log(process.execPath)"), []]);
    for (const [name, path, flags] of runtimes) {
      rows.push([`import under ${name}`, `${(await importTime(path, ...flags)).toFixed(0)} ms`]);
    }
    const table = ["| what | how much |", "| --- | --- |", ...rows.map((row) => `| ${row.join(" | ")} |`)]
      .join("\n");
    const file = new URL("README.md", root);
    const text = await Deno.readTextFile(file);
    const [before, after] = [text.indexOf(BEGIN), text.indexOf(END)];
    if (before < 0 || after < 0) throw new Error("README.md has no place for the table");
    await Deno.writeTextFile(file, `${text.slice(0, before)}${BEGIN}\n\n${table}\n\n${text.slice(after)}`);
    await run(Deno.execPath(), "fmt", "--quiet", "README.md");
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
