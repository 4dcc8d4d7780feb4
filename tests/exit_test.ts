// A process that is asked to end releases its locks, and ends as it would have: real processes, real signals.
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findRuntime } from "./support/runtimes.ts";
import { run } from "./support/run.ts";

const CHILD = fileURLToPath(new URL("exit_child.ts", import.meta.url));

/** What a process says when the next signal is to come. */
const CUES = /^(ready|releasing)$/gm;

/** How a process ends that gets these signals, one at each cue, and what it has said besides. */
async function ending(
  command: string[],
  signals: Deno.Signal[],
): Promise<{ said: string[]; status: string }> {
  const [program, ...args] = command;
  const child = new Deno.Command(program, { args, stdin: "null", stdout: "piped" }).spawn();
  let text = "";
  let sent = 0;
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const cues = text.match(CUES)?.length ?? 0;
    while (sent < Math.min(cues, signals.length)) child.kill(signals[sent++]);
  }
  const { code, signal } = await child.status;
  const said = text.replaceAll(CUES, "").split("\n").filter(Boolean).sort();
  return { said, status: signal ?? `${code}` };
}

const folder = await Deno.makeTempDir({ prefix: "holdfast-" });
const bundle = join(folder, "exit_child.mjs");
const bun = await findRuntime("Bun");
const missing = "missing" in bun ? bun.missing : undefined;
/** How a child is run, by runtime: under Deno without any permission. */
const RUNTIMES: Record<string, string[] | undefined> = {
  Deno: [Deno.execPath(), "run", "--quiet", "--no-prompt", CHILD],
  Node: ["node", bundle],
  Bun: "path" in bun ? [bun.path, bundle] : undefined,
};
await run(folder, Deno.execPath(), "bundle", "--quiet", "--platform=deno", "--output", bundle, CHILD);

/** What a child does; which signals it gets; what it says; how it ends. */
const CASES: [does: string, signals: Deno.Signal[], said: string[], status: string][] = [
  ["usual", ["SIGTERM"], ["released"], "SIGTERM"],
  ["usual", ["SIGINT"], ["released"], "SIGINT"],
  // What is rejected by the exit ends nothing before all is released.
  ["waits", ["SIGTERM"], ["released", "released", "released"], "SIGTERM"],
  ["runs", ["SIGTERM"], ["released", "released"], "SIGTERM"],
  // Another listener decides.
  ["listens", ["SIGTERM"], ["heard", "released"], "7"],
  // The second one is not made to wait.
  ["silent store", ["SIGTERM", "SIGINT"], [], "SIGINT"],
  ["disposed", ["SIGTERM"], [], "SIGTERM"],
  // Nothing keeps a process alive that has nothing to do.
  ["ends", [], ["released"], "0"],
];

for (const [name, command] of Object.entries(RUNTIMES)) {
  const title = `exit: ${name}: locks are released, and the process ends as it would have`;
  if (command === undefined) {
    Deno.test.ignore(`${title} (${missing})`, () => {});
    continue;
  }
  Deno.test(title, async () => {
    const ended = await Promise.all(CASES.map(([does, signals]) => ending([...command, does], signals)));
    const found = CASES.map(([does, signals], i) => [does, signals, ended[i].said, ended[i].status]);
    assertEquals(found, CASES);
  });
}

Deno.test("exit: the bundle goes", () => Deno.remove(folder, { recursive: true }));
