/**
 * `deno task model`: every state that a few processes, an unreliable store and an operator can bring about in so many actions,
 * over the very functions of `core/record/` that Holdfast runs. It goes no deeper once it knows 400 000 of them, or as
 * `--states` says; `--depth 12` goes to that depth at most, `--slice` as far as CI does, `--only text` plays the setups whose
 * titles contain it. Of every so many states one is followed to its end, to see that all who wait get the lock: `--settle 20`.
 */

import { parseArgs } from "node:util";
import { explore, type Explored } from "./explore.ts";
import { SETUPS } from "./setups.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    depth: { type: "string", default: "Infinity" },
    slice: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    settle: { type: "string", default: "20" },
    states: { type: "string", default: "400000" },
  },
});

function line(
  { states, transitions, depth, complete, worstTicks, seconds }: Explored,
  title: string,
): string {
  const to = complete ? `all there are (${depth} actions)` : `${depth} actions`;
  return `| ${title} | ${to} | ${states} | ${transitions} | ${worstTicks} | ${seconds.toFixed(1)} |`;
}

console.log("| who takes part | depth | states | transitions | worst wait, ticks | seconds |");
console.log("| --- | --- | --- | --- | --- | --- |");
let total = 0;
let isOk = true;
for (const setup of SETUPS.filter(({ title }) => title.includes(values.only))) {
  const depth = values.slice ? setup.slice : Number(values.depth);
  const explored = explore(setup, {
    depth,
    most: Number(values.states),
    settleEvery: Number(values.settle),
    onDepth: (at, states) => console.error(`${setup.title}: ${at} actions, ${states} states`),
  });
  total += explored.states;
  console.log(line(explored, setup.title));
  const { violation } = explored;
  if (violation === undefined) continue;
  isOk = false;
  console.log(
    `\n**${violation.what}**\n\n${violation.trace.map((what, i) => `${i + 1}. ${what}`).join("\n")}\n`,
  );
}
console.log(`\n${total} states, ${isOk ? "no law broken" : "a law is broken"}`);
if (!isOk) Deno.exit(1);
