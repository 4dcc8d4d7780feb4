// What every text of the repository must not say, whether people read it or machines run it.
import ts from "typescript";
import { forbiddenIn } from "./support/words.ts";
import { assert, assertEquals } from "@std/assert";

const root = new URL("..", import.meta.url);

/** Every text that is under version control, by its path. */
async function texts(): Promise<Map<string, string>> {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-co", "--exclude-standard"],
    cwd: root,
  }).output();
  const found = new Map<string, string>();
  for (const path of new TextDecoder().decode(stdout).trim().split("\n")) {
    const file = await Deno.readTextFile(new URL(path, root)).catch(() => undefined);
    if (file !== undefined && !file.includes("\0")) found.set(path, file);
  }
  return found;
}

const RUNNERS = "npx|bunx|pnpx|(?:pnpm|yarn) dlx|(?:npm|pnpm|yarn|bun) (?:exec|x|i|install|add)";
const BY_NAME = new RegExp(
  String.raw`\b(?:${RUNNERS})\b([^\n|&;${"`"}]*?)(?<=\s)holdfast\b|\bnpm:holdfast\b`,
  "g",
);

/** The commands that would fetch the package named like the program, which is nobody's, or will be somebody's. */
function strangers(text: string): string[] {
  return [...text.matchAll(BY_NAME)]
    .filter(([, between = ""]) => !/@holdfast\/lock\b|\s--no(-install)?\s/.test(`${between} `))
    .map(([command]) => command);
}

Deno.test("texts: no reader is sent to a package that is not ours", async () => {
  const bad = [
    "npx holdfast ls",
    "npx -y holdfast run",
    "bunx holdfast",
    "npm i -g holdfast",
    "deno run npm:holdfast",
  ];
  assertEquals(bad.map((text) => strangers(text).length), [1, 1, 1, 1, 1]);
  const good = [
    "npx -p @holdfast/lock holdfast ls",
    "npx --no holdfast ls",
    "npm install @holdfast/lock",
    "npx x; holdfast",
  ];
  assertEquals(good.flatMap(strangers), []);
  const found: string[] = [];
  const all = await texts();
  assert(all.has("README.md") && all.has("cli/usage.ts"), "the texts are there to be read");
  for (const [path, text] of all) {
    if (path === "tests/texts_test.ts") continue;
    for (const command of strangers(text)) found.push(`${path}: ${command}`);
  }
  assertEquals(found, []);
});

Deno.test("workflows: actions have a hash, jobs the least permissions, and tests go before a release", async () => {
  const all = await texts();
  const workflows = [...all].filter(([path]) => path.startsWith(".github/workflows/"));
  assertEquals(workflows.length, 2);
  for (const [path, text] of workflows) {
    const used = [...text.matchAll(/\buses: *(.*)/g)].map(([, action]) => action);
    const loose = used.filter((action) =>
      !/^(\.\/\S+|[\w.-]+\/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$/.test(action)
    );
    assertEquals([path, loose], [path, []]);
    assert(/^permissions:( \{\}|\n {2}contents: read)\n(?! )/m.test(text), `${path} says what it may do`);
    assertEquals(text.includes("secrets."), false, "no token is kept");
  }
  const release = all.get(".github/workflows/release.yml")!;
  const [, tests, publish] = release.split(/\n {2}(?=(?:tests|publish):\n)/);
  assert(tests.includes("uses: ./.github/workflows/ci.yml") && !tests.includes("write"));
  assert(publish.includes("needs: tests\n"));
  assertEquals([...release.matchAll(/: write\b/g)].length, 1);
  assertEquals([...publish.matchAll(/(\S+): write\b/g)].map(([, what]) => what), ["id-token"]);
});

Deno.test("workflows: what is fetched to test and to publish has a hash", async () => {
  const all = await texts();
  const run = all.get(".ci/run")!;
  assertEquals([run.includes("npx"), /pip download(?! .*--require-hashes)/.test(run)], [false, false]);
  const { packages } = JSON.parse(all.get(".ci/package-lock.json")!);
  const fetched = Object.entries<{ integrity?: string; version: string }>(packages).filter(([path]) =>
    path !== ""
  );
  assertEquals(fetched.filter(([, { integrity }]) => !integrity?.startsWith("sha512-")), []);
  // One version of Deno everywhere.
  const versions = [...all].flatMap(([, text]) =>
    [...text.matchAll(/\bdeno@(\d+\.\d+\.\d+)/g)].map(([, one]) => one)
  );
  assertEquals([...new Set([...versions, ...fetched.map(([, { version }]) => version)])].length, 1);
  for (const line of all.get(".ci/servers.txt")!.trim().split("\n").filter((line) => !line.startsWith("#"))) {
    assert(/^\S+==\S+ --hash=sha256:[0-9a-f]{64}$/.test(line), line);
  }
});

/** Optional properties that refuse `undefined` under `exactOptionalPropertyTypes`, in the recorded public API. */
function refusingUndefined(api: string): string[] {
  const found: string[] = [];
  const look = (members: string) => {
    for (const [, name, type] of members.matchAll(/(?:^|;) *(?:readonly )?(\w+)\?: ([^;\n]*)/gm)) {
      if (!/\b(undefined|unknown)\b/.test(type)) found.push(name);
    }
    return "";
  };
  // From the inside out, for a member's type may have members itself.
  for (let length = Infinity; api.length < length;) {
    length = api.length;
    api = api.replace(/\{([^{}]*)\}/g, (_, members) => look(members));
  }
  look(api);
  return found;
}

Deno.test("texts: an option that may be omitted may be undefined", async () => {
  const planted = "  wait?: boolean\n  f(a: { b?: string; c?: { d?: number } | undefined }): void";
  assertEquals(refusingUndefined(planted), ["d", "b", "wait"]);
  const api = await Deno.readTextFile(new URL("../docs/api.txt", import.meta.url));
  assertEquals(refusingUndefined(api), []);
  assert(api.includes("waitForMs?: number | undefined"));
});

/** The pages that users and contributors read. */
function isPage(path: string): boolean {
  return /^(docs\/|examples\/)?[\w/.-]+\.md$/.test(path);
}

/** Words that stand in a page for a reason. */
const MEANT: Readonly<Record<string, { readonly words: RegExp; readonly why: string }>> = {
  "CHANGELOG.md": { words: /IN LINE|held by nobody/, why: "quotes what the command line said before" },
};

Deno.test("texts: pages, messages and comments are written in plain words", async () => {
  assertEquals(forbiddenIn("Whoever is in line is told by somebody of its own.").length, 5);
  const planted = "/** A store that somebody\n * has. */\nconst url = 'http://nobody'; // Is\n// told so.";
  assertEquals(commentsIn(planted).flatMap(forbiddenIn).length, 2);
  assertEquals(forbiddenIn("The first process in the queue is notified; a baseline is one line."), []);
  const all = await texts();
  const found: string[] = [];
  for (const [path, text] of all) {
    const said = isPage(path)
      ? [text]
      : isPublished(path, all)
      ? [...messagesIn(path, text), ...commentsIn(text)]
      : isTest(path)
      ? commentsIn(text)
      : [];
    for (const words of said.flatMap(forbiddenIn)) {
      if (MEANT[path]?.words.test(words) !== true) found.push(`${path}: ${words}`);
    }
  }
  assertEquals(found, []);
});

/** The tests, except for these words themselves. */
function isTest(path: string): boolean {
  return /^tests\/(?!texts_test|support\/words)[\w/.]+\.(ts|mjs)$/.test(path);
}

/** Whether it is published code. */
function isPublished(path: string, all: ReadonlyMap<string, string>): boolean {
  const { publish } = JSON.parse(all.get("deno.json")!) as { publish: { include: string[] } };
  return path.endsWith(".ts") && publish.include.some((part) => path === part || path.startsWith(`${part}/`));
}

/** The comments in code, each on one line, and neighbours together. */
function commentsIn(text: string): string[] {
  const comments = text.matchAll(/\/\*\*[^]*?\*\/|(?<=^|\s)\/\/.*(\n\s*\/\/.*)*/gm);
  return [...comments].map(([comment]) => comment.replace(/\n\s*(\*|\/\/) ?/g, " "));
}

/** The texts in code that have several words, such as messages. */
function messagesIn(path: string, text: string): string[] {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest);
  const found: string[] = [];
  const visit = (node: ts.Node) => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateLiteralToken(node)) {
      if (/\w \w/.test(node.text)) found.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

Deno.test("texts: the published configuration links nothing, or Deno warns all who link the package", async () => {
  const { links, publish } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  assertEquals([links, publish.include.includes("deno.json")], [undefined, true]);
});
