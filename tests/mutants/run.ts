// Breaks the code on purpose, one line at a time, and shows which test notices: a test that cannot fail is a
// defect. `deno task mutants` plays all areas, `deno task mutants kv redis` these, and `--law=<text>` only the
// laws that contain the text; `--file=core/record/queue.ts` plays the area `rules` in that file alone. It prints a table for each area, and fails if a mutant survives. Each test is played on the
// unbroken code first: one that is red there proves nothing. The area `rules` has no table: there everything is broken
// that the operators can break.

import { Copy } from "./copy.ts";
import type { Mutant } from "./mutant.ts";
import { playRules } from "./rules.ts";
import { TABLE } from "./table.ts";

/** The area of the pure rules. */
const RULES = "rules";

/** What a table has room for, on one line. */
const SHOWN = 70;

/** Which error went past all tests, and which of them ran then: not every such error is of the broken line's making. */
function uncaught(output: string): string | undefined {
  const [, from, error] = /^Uncaught (error from .+?) FAILED$[^]*?^error: (.+)$/m.exec(output) ?? [];
  if (from === undefined) return undefined;
  const running = /^(.+?) \.\.\. cancelled/m.exec(output)?.[1] ?? from;
  return `${running}: uncaught ${error}`;
}

/** Plays a mutant's tests on the code as it is now in the copy: whether they pass, and which of them went red. */
async function test(
  copy: Copy,
  { test, filter }: Mutant,
): Promise<{ passed: boolean; red: string | undefined }> {
  const filters = filter === undefined ? [] : ["--filter", filter];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "--fail-fast", ...filters, test],
    cwd: copy.path,
    env: { NO_COLOR: "1", SIM_SHRINK: "no" },
  }).output();
  if (success) return { passed: true, red: undefined };
  const decoder = new TextDecoder();
  const output = decoder.decode(stdout) + decoder.decode(stderr);
  const red = /^(.+?) \.\.\. FAILED/m.exec(output)?.[1] ?? /^(.+?) => /m.exec(output)?.[1] ??
    uncaught(output) ??
    /(Uncaught \w+Error: .+)$/m.exec(output)?.[1];
  const why = /Law \d broken[^:]*: ([^\n]*)/.exec(output)?.[1];
  return { passed: false, red: red === undefined || why === undefined ? red : `${red}: ${why}` };
}

/** Why tests prove nothing: they are red on the unbroken code, too. By file and filter. */
const useless = new Map<string, string | undefined>();

/** Whether a test noticed the mutant, and which, or why none did. */
async function play(copy: Copy, mutant: Mutant): Promise<{ noticed: boolean; what: string }> {
  const { law, file, from, to, filter } = mutant;
  const tests = JSON.stringify([mutant.test, filter]);
  if (!useless.has(tests)) {
    const { passed, red } = await test(copy, mutant);
    useless.set(tests, passed ? undefined : `**none: red on the unbroken code, too**: ${red ?? mutant.test}`);
  }
  const why = useless.get(tests);
  if (why !== undefined) return { noticed: false, what: why };
  const breaking = (text: string) => {
    if (text.split(from).length !== 2) throw new Error(`${law}: ${file} has not exactly one ${from}`);
    return text.replace(from, () => to);
  };
  const { red } = await copy.changed(file, breaking, () => test(copy, mutant));
  return { noticed: red !== undefined, what: red ?? "**none: it survived**" };
}

/** Plays the mutants of one area, and answers how many were not noticed. */
async function playArea(copy: Copy, area: string, mutants: readonly Mutant[]): Promise<number> {
  console.log(`\n## ${area}\n\n| law | broken | which test went red |\n| --- | --- | --- |`);
  let survived = 0;
  for (const mutant of mutants) {
    const { noticed, what } = await play(copy, mutant);
    if (!noticed) survived++;
    const line = (code: string) => "`" + code.trim().split("\n")[0].slice(0, SHOWN) + "`";
    const { law, file, from, to } = mutant;
    const change = `${file}: ${line(from)} → ${to === "" ? "(nothing)" : line(to)}`;
    console.log(`| ${law} | ${change} | ${what} |`);
  }
  console.log(`\n${area}: ${mutants.length - survived} of ${mutants.length} noticed`);
  return survived;
}

const LAW = "--law=";
const FILE = "--file=";
const optionIn = (option: string) => Deno.args.find((arg) => arg.startsWith(option))?.slice(option.length);
const law = optionIn(LAW) ?? "";
const file = optionIn(FILE);
const areasIn = Deno.args.filter((arg) => !arg.startsWith(LAW) && !arg.startsWith(FILE));
// A file is one of the rules'.
const named = file === undefined || areasIn.length > 0 ? areasIn : [RULES];
const areas = [...Object.keys(TABLE), RULES];
const unknown = named.filter((area) => !areas.includes(area));
if (unknown.length > 0) {
  console.error(`There is no area '${unknown.join("', '")}', only ${areas.join(", ")}.`);
  Deno.exit(2);
}
const wanted = named.length > 0 ? named : areas;
let survived = wanted.includes(RULES) && law === "" ? await playRules(file) : 0;
const tables = wanted.filter((area) => area !== RULES);
if (tables.length > 0) {
  await using copy = await Copy.make();
  for (const area of tables) {
    const mutants = TABLE[area].filter((mutant) => mutant.law.includes(law));
    if (mutants.length > 0) survived += await playArea(copy, area, mutants);
  }
}
if (survived > 0) {
  console.log(`\n${survived} survived`);
  Deno.exit(1);
}
