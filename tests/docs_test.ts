// The examples of the docs that `deno test --doc` leaves out, because they need a store or a framework: they compile
// against the clients' own types, and those that need none run, with locks in memory.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";

const root = new URL("..", import.meta.url);

/** The pages whose examples are read here. */
const PAGES = [
  "README.md",
  "docs/deno-deploy.md",
  "docs/datastore.md",
  "docs/migrating-from-djangae.md",
  "docs/migrating-from-redlock.md",
  "docs/node.md",
  "docs/postgres.md",
  "docs/troubleshooting.md",
];
/** The pages whose examples run where they can. */
const RUNNING = ["README.md", "docs/migrating-from-redlock.md", "docs/troubleshooting.md"];
/** Packages whose types are written down here: too large to be fetched for a few lines. */
const STUBS: Record<string, string> = {
  "@nestjs/common": "nestjs",
  "@nestjs/core": "nestjs",
  "@nestjs/schedule": "nestjs",
  bullmq: "bullmq",
  express: "express",
  fastify: "fastify",
  hono: "hono",
  redlock: "redlock",
  vitest: "vitest",
};

interface Example {
  readonly page: string;
  /** The line of the page that it begins after. */
  readonly line: number;
  readonly code: string;
}

/** The examples of a page that are marked `ignore`. */
function examplesOf(page: string, text: string): Example[] {
  return [...text.matchAll(/^[ ]{0,3}```(?:ts|tsx) ignore\n(.*?)^[ ]{0,3}```/gms)].map((
    { 1: code, index },
  ) => ({
    page,
    line: text.slice(0, index).split("\n").length,
    code,
  }));
}

/** The same of the documentation in a source. */
function examplesIn(source: string, text: string): Example[] {
  return [...text.matchAll(/^[ \t]*\/\*\*.*?\*\//gms)].flatMap(({ 0: comment, index }) => {
    const before = text.slice(0, index).split("\n").length - 1;
    const prose = comment.replaceAll(/^[ \t]*\*[ ]?/gm, "");
    return examplesOf(source, prose).map((example) => ({ ...example, line: before + example.line }));
  });
}

/** The published sources, by their paths. */
async function sources(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const add = async (path: string) => {
    const url = new URL(path, root);
    if (path.endsWith(".ts")) found.set(path, await Deno.readTextFile(url));
    else if ((await Deno.stat(url)).isDirectory) {
      for await (const { name } of Deno.readDir(url)) await add(`${path}/${name}`);
    }
  };
  const { publish } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  for (const path of publish.include) await add(path);
  return found;
}

/** Whether it can run as it is: it needs nothing but Holdfast. */
function runs({ page, code }: Example): boolean {
  const imports = [...code.matchAll(/from "([^"]+)"/g)].map(([, name]) => name);
  return RUNNING.includes(page) && !code.includes("Deno.cron") &&
    imports.every((name) => name.startsWith("@holdfast/lock") && !/backends\/(?!memory)/.test(name));
}

/** Writes the examples as modules of a separate program, whose `main.ts` runs those that can run. */
async function write(directory: string, examples: readonly Example[]): Promise<void> {
  const { exports, imports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const own = Object.entries<string>(exports).map((
    [name, path],
  ) => [`@holdfast/lock${name.slice(1)}`, new URL(path, root).href]);
  const stubs = Object.entries(STUBS).map((
    [name, stub],
  ) => [name, new URL(`tests/docs/stubs/${stub}.d.ts`, root).href]);
  const config = {
    imports: {
      ...imports,
      ...Object.fromEntries(own),
      ...Object.fromEntries(stubs),
      "@std/assert": new URL("tests/support/std/assert/mod.ts", root).href,
      ioredis: imports.ioredis6,
      redis: imports.redis6,
    },
    unstable: ["kv", "cron"],
    compilerOptions: { lib: ["deno.window", "deno.unstable"] },
  };
  await Deno.writeTextFile(`${directory}/deno.json`, JSON.stringify(config));
  const given = await Deno.readTextFile(new URL("tests/docs/given.ts", root));
  await Deno.writeTextFile(`${directory}/given.ts`, given);
  const main = ['import "./given.ts";'];
  for (const example of examples) {
    const name = `${example.page.replaceAll(/\W/g, "_")}_${example.line}.ts`;
    await Deno.writeTextFile(`${directory}/${name}`, `${example.code}\nexport {};\n`);
    if (runs(example)) main.push(`await import("./${name}");`);
  }
  main.push("Deno.exit();");
  await Deno.writeTextFile(`${directory}/main.ts`, main.join("\n"));
}

async function deno(directory: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: directory,
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

Deno.test("docs: every example compiles, and those that need no store run", async () => {
  const examples: Example[] = [];
  for (const page of PAGES) {
    examples.push(...examplesOf(page, await Deno.readTextFile(new URL(page, root))));
  }
  for (const [path, text] of await sources()) examples.push(...examplesIn(path, text));
  assert(examples.filter(runs).length > 8, "there are examples that run");
  const directory = await Deno.makeTempDir();
  try {
    await write(directory, examples);
    // One that does not compile, to see that such are found.
    await Deno.writeTextFile(`${directory}/broken.ts`, 'import { lock } from "@holdfast/lock";\nlock(1);\n');
    const { output } = await deno(directory, "check", "--quiet", ".");
    const faults = output.split(/\n(?=TS\d+ )/).filter((fault) => !fault.includes(`${directory}/broken.ts`));
    assertEquals(faults, []);
    assertStringIncludes(output, `${directory}/broken.ts`);
    const run = await deno(directory, "run", "--quiet", "--no-check", "-A", "main.ts");
    assertEquals(run.code, 0, run.output);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

/** The headings of the messages in the page of troubles: each is what the code says, with … for what differs. */
function messagesIn(page: string): string[] {
  return [...page.matchAll(/^### `(.+)`$/gm)].flatMap(([, messages]) => messages.split("`; `"));
}

Deno.test("docs: the messages in the page of troubles are those of the code", async () => {
  const code = [...(await sources()).values()].join("\n");
  const isSaid = (message: string) =>
    message.split("…").every((part) =>
      part.trim().split(/(?<=^(?:Cannot|Lost)) /).every((words) => code.includes(words.trim()))
    );
  const messages = messagesIn(await Deno.readTextFile(new URL("docs/troubleshooting.md", root)));
  assert(messages.length > 12, "there are messages");
  assertEquals(messages.filter((message) => !isSaid(message)), []);
  assertEquals(isSaid("Cannot acquire lock … because of the weather"), false);
});

/** What a heading is called in links, as GitHub makes it. */
function anchorOf(heading: string): string {
  const text = heading.replaceAll(/`|\[|\]\([^)]*\)/g, "").toLowerCase();
  return text.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(/\s/g, "-");
}

Deno.test("docs: links to pages, files and headings of the repository lead somewhere", async () => {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-co", "--exclude-standard", "*.md"],
    cwd: root,
  }).output();
  const pages = new TextDecoder().decode(stdout).trim().split("\n").filter((page) =>
    !page.startsWith("tests/")
  );
  const anchors = async (path: URL) =>
    [...(await Deno.readTextFile(path)).replaceAll(/^```.*?^```/gms, "").matchAll(/^#+ (.*)$/gm)]
      .map(([, heading]) => anchorOf(heading));
  const dead: string[] = [];
  let count = 0;
  for (const page of pages) {
    const url = new URL(page, root);
    const text = (await Deno.readTextFile(url)).replaceAll(/^```.*?^```/gms, "");
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      count++;
      const [path, anchor] = target.split("#");
      const to = new URL(path === "" ? url.href.split("/").at(-1)! : path, url);
      const isThere = await Deno.stat(to).then(() => true, () => false);
      if (!isThere || anchor !== undefined && !(await anchors(to)).includes(anchor)) {
        dead.push(`${page}: ${target}`);
      }
    }
  }
  assert(count > 60, "there are links");
  assertEquals(dead, []);
});
