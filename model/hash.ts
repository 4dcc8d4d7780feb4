/**
 * When two states are the same: if they differ only in the names of versions, of which only the order counts, and in the
 * moment, of which only the distance to all that is remembered counts. States are distinguished by 53 bits.
 */

import { EPOCH, type World } from "./world.ts";

/** A part of a state that most other states share: what never changes about it as one number, and the rest. */
interface Part {
  readonly hash: number;
  readonly versions: readonly string[];
  readonly times: readonly number[];
}

const parts = new WeakMap<object, Part>();
const WHAT_MOVES = /v\d{5}|\b1\d{9}\b/g;

function partOf(thing: object): Part {
  const known = parts.get(thing);
  if (known !== undefined) return known;
  const versions: string[] = [];
  const times: number[] = [];
  const text = JSON.stringify(thing).replaceAll(WHAT_MOVES, (found) => {
    if (!found.startsWith("v")) times.push(Number(found));
    else versions.push(found);
    return found.startsWith("v") ? "v" : "t";
  });
  const hash = new Hash();
  for (let i = 0; i < text.length; i++) hash.add(text.charCodeAt(i));
  const part = { hash: hash.value, versions, times };
  parts.set(thing, part);
  return part;
}

/** Mixes numbers into one of 53 bits. */
class Hash {
  #one = 0xdeadbeef;
  #two = 0x41c6ce57;

  add(value: number): void {
    this.#one = Math.imul(this.#one ^ value, 2654435761);
    this.#two = Math.imul(this.#two ^ value, 1597334677);
  }

  /** A number of any size. */
  addLarge(value: number): void {
    this.add(value | 0);
    this.add((value / 4294967296) | 0);
  }

  get value(): number {
    let [one, two] = [this.#one, this.#two];
    one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
    two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
    return 4294967296 * (2097151 & two) + (one >>> 0);
  }
}

/** The number of a state. */
export function hashOf(world: World): number {
  const { now, lock, queue, processes, ghosts, budget, ends, strays, evicted, highest, freeMs } = world;
  const all = [partOf(lock), partOf(queue), partOf(budget)];
  all.push(partOf({ ends, strays, evicted, highest, freeMs: freeMs ?? -EPOCH }));
  for (const process of processes) all.push(partOf(process));
  for (const ghost of ghosts) all.push(partOf(ghost));
  const names: string[] = [];
  for (const { versions } of all) {
    for (const version of versions) if (!names.includes(version)) names.push(version);
  }
  names.sort();
  const hash = new Hash();
  for (const part of all) {
    hash.addLarge(part.hash);
    for (const version of part.versions) hash.add(names.indexOf(version));
    for (const time of part.times) hash.add(time - now);
  }
  return hash.value;
}
