/**
 * Breaks the pure rules in every way that the operators know, and shows what no test notices. The tests of the
 * rules are pure as well, so each mutant is played in a worker of its own, in milliseconds.
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Copy } from "./copy.ts";
import { EQUIVALENTS } from "./equivalents.ts";
import { type Mutation, mutationsOf } from "./operators.ts";

/** The folder of the rules. */
const SOURCES = "core/record";
/** The files that test them. */
const TESTS = ["tests/rules_test.ts", "tests/codec_test.ts", "tests/record_test.ts"];
/** What the rules and their tests import. */
const NEEDED = ["core", "deno.json", "tests/rules", ...TESTS];

/**
 * How long the tests may take with a mutant, which may never end. All of them take some milliseconds, but on a machine that
 * is busy it takes seconds until they start: one that is late is played once more, alone, and has half a minute.
 */
const LIMIT_MS = 10_000;
const LONG_LIMIT_MS = 30_000;
/** What a line of the report has room for on either side of a change. */
const SHOWN = 40;

interface Mutant extends Mutation {
  readonly file: string;
}

/** A mutant that was played, and what went red. */
interface Played {
  readonly mutant: Mutant;
  readonly noticed: string | undefined;
}

/** Instead of a test, for a mutant that never ends. */
const LATE = `did not end in ${LONG_LIMIT_MS} ms`;

/** What went red, or `undefined` if nothing did. */
async function noticedBy(tests: readonly string[], limitMs: number): Promise<string | undefined> {
  const worker = new Worker(new URL("./rules_worker.ts", import.meta.url), { type: "module" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise((resolve) => {
      timer = setTimeout(() => resolve(LATE), limitMs);
      worker.onmessage = ({ data: { count, red, why } }) => {
        if (red === undefined && count === 0) resolve("there are no tests");
        else resolve(red === undefined ? undefined : `${red}: ${why}`);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        resolve(event.message);
      };
      worker.postMessage(tests);
    });
  } finally {
    clearTimeout(timer);
    worker.terminate();
  }
}

/** Plays mutants one after the other in a copy of the project. */
async function playIn(mutants: Iterable<Mutant>, limitMs: number): Promise<Played[]> {
  await using copy = await Copy.make(...NEEDED);
  const tests = TESTS.map((test) => pathToFileURL(join(copy.path, test)).href);
  const broken = await noticedBy(tests, LONG_LIMIT_MS);
  if (broken !== undefined) throw new Error(`the tests of the rules are red without any mutant: ${broken}`);
  const played: Played[] = [];
  for (const mutant of mutants) {
    const noticed = await copy.changed(mutant.file, () => mutant.text, () => noticedBy(tests, limitMs));
    played.push({ mutant, noticed });
  }
  return played;
}

/** A change, with as much of its line around it as there is room for. */
function shown({ from, to }: Mutation): string {
  let start = 0;
  while (start < from.length && from[start] === to[start]) start++;
  let end = 0;
  while (end < Math.min(from.length, to.length) - start && from.at(-1 - end) === to.at(-1 - end)) end++;
  const cut = (code: string) =>
    (start > SHOWN ? "…" : "") +
    code.slice(Math.max(0, start - SHOWN), code.length - Math.max(0, end - SHOWN)) +
    (end > SHOWN ? "…" : "");
  return "`" + cut(from) + "` → `" + cut(to) + "`";
}

/** Plays mutants of the rules as several at once, and again, alone, those that were late. */
async function playAll(mutants: readonly Mutant[]): Promise<Played[]> {
  // Each takes the next one when it is done with the last.
  const queue = mutants.values();
  const played = (await Promise.all(
    Array.from({ length: navigator.hardwareConcurrency }, () => playIn(queue, LIMIT_MS)),
  )).flat().sort((a, b) => mutants.indexOf(a.mutant) - mutants.indexOf(b.mutant));
  const late = played.filter(({ noticed }) => noticed === LATE).map(({ mutant }) => mutant);
  const again = late.length > 0 ? await playIn(late, LONG_LIMIT_MS) : [];
  return played.map((once) => again.find(({ mutant }) => mutant === once.mutant) ?? once);
}

/**
 * Plays all mutants of the rules, or those of one file, such as `core/record/queue.ts`; prints what came of them, and
 * answers how many survived.
 */
export async function playRules(only: string | undefined): Promise<number> {
  const started = performance.now();
  const root = new URL("../../", import.meta.url);
  const names: string[] = [];
  for await (const { name, isFile } of Deno.readDir(new URL(SOURCES, root))) {
    if (isFile && name.endsWith(".ts")) names.push(name);
  }
  const mutants: Mutant[] = [];
  for (const name of names.sort()) {
    const file = `${SOURCES}/${name}`;
    if (only !== undefined && file !== only) continue;
    const source = await Deno.readTextFile(new URL(file, root));
    mutants.push(...mutationsOf(source).map((mutation) => ({ ...mutation, file })));
  }
  if (mutants.length === 0) throw new Error(`no rules in ${only ?? SOURCES}`);
  const played = await playAll(mutants);
  const survivors = played.filter(({ noticed }) => noticed === undefined).map(({ mutant }) => mutant);
  const late = played.filter(({ noticed }) => noticed === LATE).map(({ mutant }) => mutant);

  const known = EQUIVALENTS.filter(({ file }) => only === undefined || file === only);
  const accepted = known.map((equivalent) => ({
    ...equivalent,
    mutants: survivors.filter((mutant) =>
      (["file", "code", "from", "to"] as const).every((part) => mutant[part] === equivalent[part])
    ),
  }));
  const equivalent = new Set(accepted.flatMap(({ mutants }) => mutants));
  const real = survivors.filter((mutant) => !equivalent.has(mutant));
  const stale = accepted.filter(({ mutants }) => mutants.length !== 1);

  const place = ({ file, line, within }: Mutant) => `${file}:${line} ${within === "" ? "" : `${within}() `}`;
  console.log("\n## rules\n");
  for (const { because, mutants } of accepted) {
    for (const mutant of mutants) console.log(`equivalent: ${place(mutant)}${shown(mutant)}: ${because}`);
  }
  for (const mutant of late) console.log(`${LATE}: ${place(mutant)}${shown(mutant)}`);
  for (const mutant of real) {
    console.log(`**survived**: ${place(mutant)}${shown(mutant)} (${mutant.operator})`);
  }
  for (const { file, code, from, to, mutants } of stale) {
    const what = mutants.length === 0 ? "not equivalent, or gone" : "more than one";
    console.log(`**${what}**: ${file} \`${code}\`: \`${from}\` → \`${to}\``);
  }
  const seconds = Math.round((performance.now() - started) / 1000);
  const noticed = mutants.length - survivors.length;
  const breaking = mutants.length - equivalent.size;
  // Rounded down: 100 is all of them.
  const score = Math.floor(1000 * noticed / breaking) / 10;
  console.log(
    `\nrules: ${noticed} of ${mutants.length} noticed, ${equivalent.size} equivalent, ${real.length} survived: ` +
      `mutation score of ${only ?? SOURCES} ${score} % (${seconds} s)`,
  );
  return real.length + stale.length;
}
