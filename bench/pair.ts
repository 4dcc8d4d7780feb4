/**
 * What a free lock costs here beside another checkout: processor time and garbage of an acquisition and its release on
 * memory, in one process, in turns. Run it with `deno task bench:pair <folder of the other checkout>`, on a
 * machine that has nothing else to do. Only the ratio means anything.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import type * as Memory from "../backends/memory.ts";
import type * as Holdfast from "../mod.ts";

/** How many pairs are timed at once, and how often. */
const PAIRS = 1000;
const ROUNDS = 600;
/** How many pairs the garbage is measured over: so few that nothing is collected meanwhile; and how often. */
const FEW_PAIRS = 1500;
const COLLECTIONS = 9;

interface Checkout {
  readonly name: string;
  /** Acquires and releases so many times. */
  readonly play: (pairs: number) => Promise<void>;
  readonly cpuUs: number[];
  readonly bytes: number[];
}

async function open(name: string, folder: URL): Promise<Checkout> {
  const { Lock }: typeof Holdfast = await import(new URL("mod.ts", folder).href);
  const { memoryBackend }: typeof Memory = await import(new URL("backends/memory.ts", folder).href);
  const backend = memoryBackend();
  const play = async (pairs: number) => {
    for (let i = 0; i < pairs; i++) {
      const held = await Lock.acquire("job", { backend });
      await held!.release();
    }
  };
  return { name, play, cpuUs: [], bytes: [] };
}

async function time({ play, cpuUs }: Checkout): Promise<void> {
  const since = process.cpuUsage();
  await play(PAIRS);
  const { user, system } = process.cpuUsage(since);
  cpuUs.push((user + system) / PAIRS);
}

async function weigh({ play, bytes }: Checkout): Promise<void> {
  (globalThis as { gc?: () => void }).gc!();
  const before = process.memoryUsage().heapUsed;
  await play(FEW_PAIRS);
  bytes.push((process.memoryUsage().heapUsed - before) / FEW_PAIRS);
}

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[figures.length >> 1];
}

const [folder] = Deno.args;
if (folder === undefined) throw new Error("usage: deno task bench:pair <folder of another checkout>");
const checkouts = [
  await open("here", new URL("../", import.meta.url)),
  await open("there", pathToFileURL(`${folder}/`)),
];
// Until both are compiled.
for (let i = 0; i < 10; i++) for (const { play } of checkouts) await play(5000);
for (let round = 0; round < ROUNDS; round++) {
  for (const checkout of round % 2 === 0 ? checkouts : checkouts.toReversed()) await time(checkout);
}
for (let i = 0; i < COLLECTIONS; i++) for (const checkout of checkouts) await weigh(checkout);
for (const { name, cpuUs, bytes } of checkouts) {
  const least = Math.min(...cpuUs).toFixed(2);
  console.log(
    `${name}: ${median(cpuUs).toFixed(2)} us a pair (least ${least}), ${median(bytes).toFixed(0)} bytes`,
  );
}
const [here, there] = checkouts;
const ratio = (figure: (checkout: Checkout) => number) => (figure(here) / figure(there)).toFixed(2);
const ofRounds = median(here.cpuUs.map((us, i) => us / there.cpuUs[i])).toFixed(2);
const ofLeast = ratio(({ cpuUs }) => Math.min(...cpuUs));
const ofBytes = ratio(({ bytes }) => median(bytes));
console.log(`here beside there: time ${ofRounds} (of the least ${ofLeast}), garbage ${ofBytes}`);
