/**
 * What people read: on a terminal, where a text may be drawn again, or on a pipe. Labels and identifiers come from
 * others, so everything leaves by one of the ways here, each of which shows what a terminal would obey as text.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { printable } from "../core/printable.ts";
import { cut, widthOf } from "./columns.ts";

/** A part of a line that a terminal shows in its own style. */
export interface Piece {
  readonly text: string;
  readonly style: "bold" | "red";
}

/** A line of output. */
export type Line = string | readonly (string | Piece)[];

/** What marks the beginning and the end of a style on a terminal. */
const STYLES = { bold: ["\x1b[1m", "\x1b[22m"], red: ["\x1b[31m", "\x1b[39m"] } as const;

/** How the output streams of all runtimes look from here. */
interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Prints lines on standard output. */
export function print(lines: Iterable<Line>): void {
  const isStyled = showsStyles(process.stdout);
  let text = "";
  for (const line of lines) text += `${shown(line, isStyled)}\n`;
  process.stdout.write(text);
}

/** Whether lines on this output are for people at a terminal. */
export function isTerminal({ isTTY }: Output = process.stdout): boolean {
  return isTTY === true && process.env.TERM !== "dumb";
}

/** Whether an output shows styles, and `NO_COLOR` does not forbid them. */
function showsStyles(output: Output): boolean {
  return isTerminal(output) && !process.env.NO_COLOR;
}

/** A line as it is written, with as much of its text as fits into `width` cells. */
function shown(line: Line, isStyled: boolean, width = Infinity): string {
  let text = "";
  let left = width;
  for (const piece of typeof line === "string" ? [line] : line) {
    const [words, style] = typeof piece === "string" ? [piece] : [piece.text, piece.style];
    const fitting = width === Infinity ? printable(words) : cut(printable(words), left);
    if (width !== Infinity) left -= widthOf(fitting);
    text += style !== undefined && isStyled ? STYLES[style].join(fitting) : fitting;
  }
  return text;
}

let secrets: readonly string[] = [];

/** From now on, no message contains any of these texts: clients put what they were given in their errors. */
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
    return isTerminal(this.#output);
  }

  get rows(): number {
    return this.#output.rows || 24;
  }

  get columns(): number {
    return this.#output.columns || 80;
  }

  draw(lines: readonly Line[]): void {
    if (!this.live) return;
    const isStyled = showsStyles(this.#output);
    // A line that wrapped, or scrolled away, could not be drawn over.
    const drawn = lines.slice(0, this.rows - 1).map((line) => shown(line, isStyled, this.columns - 1));
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    this.#output.write(`${up}\r${drawn.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
    this.#drawn = drawn.length;
  }

  /** Removes what is drawn. */
  clear(): void {
    if (this.#drawn > 0) this.draw([]);
  }
}

/** Asks for consent if there is a terminal to ask on; without one, the command line itself is the consent. */
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
