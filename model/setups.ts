/** What is gone through: who takes part, what they know of time, and how much may go wrong. */

import type { Budget, Setup } from "./world.ts";

const NOTHING: Budget = { ticks: 0, crashes: 0, losses: 0, cancels: 0, sweeps: 0, forces: 0 };
const MUTEX = { mode: "exclusive", limit: 1 } as const;
/** Two clocks that differ by almost what they may. */
const APART = { offsets: [0, 50, 25], skewMs: 60 } as const;

/** All states that there are: no more than some ten thousand. */
const ALL = Infinity;

export const SETUPS: readonly Setup[] = [
  {
    title: "two, nothing goes wrong, to the end",
    ...APART,
    kinds: [["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 1 },
    slice: ALL,
  },
  {
    title: "two, an answer lost or a crash, to the end",
    ...APART,
    kinds: [["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 0, losses: 1, crashes: 1 },
    slice: ALL,
  },
  {
    title: "three, nothing goes wrong, to the end",
    ...APART,
    kinds: [["waits"], ["waits"], ["waits"]],
    how: MUTEX,
    budget: NOTHING,
    slice: 7,
  },
  {
    title: "three for two permits, nothing goes wrong, to the end",
    ...APART,
    kinds: [["waits"], ["waits"], ["waits"]],
    how: { mode: "exclusive", limit: 2 },
    budget: NOTHING,
    slice: 7,
  },
  {
    title: "two, an answer lost, a crash",
    ...APART,
    kinds: [["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 6, crashes: 1, losses: 1 },
    slice: 7,
  },
  {
    title: "two, each asks twice, an answer lost",
    ...APART,
    kinds: [["waits", "waits"], ["waits", "tries"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 4, losses: 1 },
    slice: 7,
  },
  {
    title: "two, one steals, one gives up, an operator evicts",
    ...APART,
    kinds: [["waits"], ["steals"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 5, losses: 1, cancels: 1, forces: 1 },
    slice: 7,
  },
  {
    title: "two, a crash, a cleanup that comes late",
    ...APART,
    kinds: [["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 8, crashes: 1, sweeps: 1, losses: 1 },
    slice: 7,
  },
  {
    title: "two whose clocks mean nothing: all is judged by watching",
    offsets: [0, 100_000],
    skewMs: Infinity,
    kinds: [["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 7, crashes: 1, losses: 1, cancels: 1 },
    slice: 7,
  },
  {
    title: "three, a crash, an answer lost",
    ...APART,
    kinds: [["waits"], ["waits"], ["waits"]],
    how: MUTEX,
    budget: { ...NOTHING, ticks: 4, crashes: 1, losses: 1 },
    slice: 7,
  },
  {
    title: "three for two permits, a crash",
    ...APART,
    kinds: [["waits"], ["waits"], ["waits"]],
    how: { mode: "exclusive", limit: 2 },
    budget: { ...NOTHING, ticks: 4, crashes: 1, losses: 1 },
    slice: 7,
  },
  {
    title: "three readers, an answer lost",
    ...APART,
    kinds: [["waits"], ["waits"], ["steals"]],
    how: { mode: "shared", limit: 1 },
    budget: { ...NOTHING, ticks: 4, losses: 1, cancels: 1 },
    slice: 7,
  },
];
