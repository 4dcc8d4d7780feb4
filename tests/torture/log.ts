/** How a process writes down what it asks and is answered: a line at a time, in the file before it acts on it. */

import { openSync, writeSync } from "node:fs";
import type { Line } from "./history.ts";
import { now } from "../support/child.ts";

type Unstamped<L> = L extends Line ? Omit<L, "at"> & { readonly at?: number } : never;

/** The log of one process. A process that is killed in the middle of a line leaves half a line, which is not read. */
export class Log {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "a");
  }

  /** Writes a line; without its own time it has that of now. */
  write(line: Unstamped<Line>): void {
    writeSync(this.#file, JSON.stringify({ at: now(), ...line }) + "\n");
  }
}
