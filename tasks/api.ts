// The public API as text, one entry point after the other: what `deno doc` says, without the prose. Writes
// docs/api.txt; with --check, fails if that is no longer what is written there, or something lacks documentation.

const root = new URL("..", import.meta.url);
const recorded = new URL("docs/api.txt", root);
const { exports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));

async function doc(...args: string[]): Promise<string> {
  const env = { NO_COLOR: "1" };
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", ...args],
    cwd: root,
    env,
  }).output();
  const decoder = new TextDecoder();
  if (success) return decoder.decode(stdout);
  console.error(decoder.decode(stderr));
  Deno.exit(1);
}

/** A line as it is compared: `deno doc` indents it, and may dress it up. */
function bare(line: string): string {
  return line.replaceAll(/[`\s]/g, "");
}

/** Every line of prose in this part of what `deno doc --json` says. */
function* prose(part: unknown): Generator<string> {
  if (typeof part !== "object" || part === null) return;
  for (const [name, value] of Object.entries(part)) {
    if (name === "doc" && typeof value === "string") yield* value.split("\n").map(bare);
    else yield* prose(value);
  }
}

await doc("--lint", ...Object.values<string>(exports));
let text = "";
for (const [name, path] of Object.entries<string>(exports)) {
  const said = new Set(prose(JSON.parse(await doc("--json", path))));
  const lines = (await doc(path)).split("\n").filter((line) =>
    !said.has(bare(line)) && !/^\s*(@\w+.*|Defined in .*)?$/.test(line)
  );
  text += `${name === "." ? "" : "\n"}# ${name}\n\n${lines.join("\n")}\n`;
}

if (!Deno.args.includes("--check")) await Deno.writeTextFile(recorded, text);
else if (text !== await Deno.readTextFile(recorded).catch(() => "")) {
  console.error("The public API has changed. If that is meant, record it with: deno task api");
  Deno.exit(1);
}
