/** What became of what was added to the sets: counted, not argued about. */

import type { Added, Hold } from "./history.ts";

/** What a set has in the end, and what its writers were answered. */
export interface SetCounts {
  /** How many were added, as was answered. */
  readonly added: number;
  /** Of these, how many are not there. */
  readonly lost: readonly string[];
  /** How many were refused. */
  readonly refused: number;
  /** Of these, how many are there all the same. */
  readonly stale: readonly string[];
  /** Of how many the outcome is not known. */
  readonly unknown: number;
  /** How many are there more than once. */
  readonly twice: readonly string[];
  /** Those that stand behind one whose fencing token is higher. */
  readonly behind: readonly string[];
}

/** Compares the sets as the store has them in the end with what their writers were answered. */
export function countSets(
  added: readonly Added[],
  sets: ReadonlyMap<string, readonly string[]>,
  holds: readonly Hold[],
): SetCounts {
  const there = new Set([...sets.values()].flat());
  const tokens = new Map(holds.map(({ id, token }) => [id, token]));
  const tokenOf = new Map(added.map(({ element, hold }) => [element, tokens.get(hold) ?? ""]));
  const ended = (outcome: Added["outcome"]) => added.filter((one) => one.outcome === outcome);
  const elements = (those: readonly Added[]) => those.map(({ element }) => element);
  const twice: string[] = [];
  const behind: string[] = [];
  for (const set of sets.values()) {
    const seen = new Set<string>();
    let highest = "";
    for (const element of set) {
      if (seen.has(element)) twice.push(element);
      seen.add(element);
      const token = tokenOf.get(element) ?? "";
      if (token < highest) behind.push(element);
      else highest = token;
    }
  }
  return {
    added: ended("yes").length,
    lost: elements(ended("yes").filter(({ element }) => !there.has(element))),
    refused: ended("no").length,
    stale: elements(ended("no").filter(({ element }) => there.has(element))),
    unknown: ended("unknown").length,
    twice,
    behind,
  };
}
