/**
 * Which process really was in: marks in the file system that only one process can make at a time (O_EXCL), and a register in the store.
 * Neither knows a lock. A mark that is there already may be of one that was killed: the checker knows.
 */

import { closeSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "./log.ts";

/** Makes a file, unless it is there; answers what stands in it then. */
function make(path: string, text: string): string | undefined {
  for (;;) {
    try {
      const file = openSync(path, "wx");
      writeSync(file, text);
      closeSync(file);
      return undefined;
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST") throw error;
    }
    const there = read(path);
    if (there !== undefined) return there;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
    return undefined;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // Another has been here.
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
}

/** What a process leaves for the others to meet. */
export class Witness {
  readonly #folder: string;
  readonly #log: Log;

  constructor(folder: string, log: Log) {
    this.#folder = folder;
    this.#log = log;
  }

  /** A fencing token belongs to one hold, for ever. */
  claimToken(lock: string, token: string, id: string): void {
    const other = make(join(this.#folder, `${lock}-${token.replaceAll(/\W/g, "_")}`), id);
    if (other !== undefined) this.#log.write({ do: "met", id, other, kind: "token" });
  }

  /** A process that believes that it holds the lock alone. One that was here before is noted, and its mark replaced. */
  enter(lock: string, id: string): void {
    const path = this.#path(lock);
    for (let other = make(path, id); other !== undefined; other = make(path, id)) {
      this.#log.write({ do: "met", id, other, kind: "mark" });
      remove(path);
    }
  }

  leave(lock: string, id: string): void {
    if (read(this.#path(lock)) === id) remove(this.#path(lock));
  }

  #path(lock: string): string {
    return join(this.#folder, `in-${lock}`);
  }
}

/** Which process is in now, by its mark. */
export function markOf(folder: string, lock: string): string | undefined {
  return read(join(folder, `in-${lock}`));
}
