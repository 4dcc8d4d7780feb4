/**
 * What people read: on a terminal, where a text may be drawn anew, or on a pipe. Labels and identifiers come from
 * others, so everything leaves by one of the ways here, each of which shows what a terminal would obey as text.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { printable } from "../core/printable.ts";

/** How the output streams of all runtimes look from here. */
interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Prints lines on standard output. */
export function print(lines: Iterable<string>): void {
  let text = "";
  for (const line of lines) text += `${printable(line)}\n`;
  process.stdout.write(text);
}

/** Prints a line in bold, where a terminal shows it and NO_COLOR does not forbid it. */
export function printBold(line: string): void {
  const plain = process.stdout.isTTY !== true || Boolean(process.env.NO_COLOR) || process.env.TERM === "dumb";
  const text = printable(line);
  process.stdout.write(plain ? `${text}\n` : `\x1b[1m${text}\x1b[22m\n`);
}

let secrets: readonly string[] = [];

/** From now on, nothing that is said has any of these texts in it: clients put what they were given in their errors. */
export function keepSecret(texts: readonly string[]): void {
  // The longest first: a part must not be taken out of the whole. What is very short would hit words.
  secrets = texts.filter((text) => text.length > 3).sort((a, b) => b.length - a.length);
}

/** Says something on standard error. */
export function tell(text: string): void {
  const told = secrets.reduce((text, secret) => text.replaceAll(secret, "…"), text);
  process.stderr.write(`holdfast: ${printable(told)}\n`);
}

/** A time span for people. */
export function span(ms: number): string {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  if (seconds < 1) return `${Math.abs(Math.round(ms))} ms`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Lines that are drawn in the place of those before them: on a terminal only, elsewhere they do not appear. */
export class Drawing {
  readonly #output: Output;
  #drawn = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Whether the output is a terminal that can be drawn on. */
  get live(): boolean {
    return this.#output.isTTY === true && process.env.TERM !== "dumb";
  }

  get rows(): number {
    return this.#output.rows || 24;
  }

  get columns(): number {
    return this.#output.columns || 80;
  }

  draw(lines: readonly string[]): void {
    if (!this.live) return;
    // A line that wrapped, or scrolled away, could not be drawn over.
    const shown = lines.slice(0, this.rows - 1).map((line) =>
      [...printable(line)].slice(0, this.columns - 1).join("")
    );
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    this.#output.write(`${up}\r${shown.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
    this.#drawn = shown.length;
  }

  /** Takes what is drawn away. */
  clear(): void {
    if (this.#drawn > 0) this.draw([]);
  }
}

/** Asks for consent if there is a terminal to ask on; without one, nobody is there who could say no. */
export async function consents(question: string): Promise<boolean> {
  if (process.stdin.isTTY !== true) return true;
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await new Promise<string>((resolve) => {
      asking.once("close", () => resolve(""));
      asking.once("SIGINT", () => asking.close());
      asking.question(`${printable(question)} [y/N] `, resolve);
    });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    asking.close();
  }
}
