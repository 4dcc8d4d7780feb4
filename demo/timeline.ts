/** Draws what the processes did: a row each, time from left to right, a new block every few seconds. */

/** What a process does at one moment. */
export type State = "busy" | "waits" | "holds" | "sends" | "killed" | "frozen" | "asleep" | "gone";

type Colour = "red" | "green" | "yellow" | "blue" | "magenta" | "cyan" | "dim" | "bold";

const CODES: Record<Colour, number> = {
  bold: 1,
  dim: 2,
  red: 31,
  green: 32,
  yellow: 33,
  blue: 34,
  magenta: 35,
  cyan: 36,
};

const ROWS: Colour[] = ["green", "blue", "magenta", "yellow"];

/** Text in a colour, where colours are wanted. */
export function paint(text: string, colour: Colour): string {
  return Deno.noColor || !Deno.stdout.isTerminal() ? text : `\x1b[${CODES[colour]}m${text}\x1b[0m`;
}

interface Note {
  readonly at: number;
  readonly name: string;
  readonly mark: string;
  readonly colour: Colour;
  readonly text: string;
}

const BLOCK_MS = 5000;
const MARGIN = 7;

/** The course of the demo, as far as it is known. */
export class Timeline {
  readonly #names: readonly string[];
  #startedAt = Infinity;
  readonly #columns: number;
  readonly #cells: number;
  readonly #states = new Map<string, { at: number; state: State }[]>();
  readonly #notes: Note[] = [];

  constructor(names: readonly string[], columns: number) {
    this.#names = names;
    this.#columns = columns;
    this.#cells = Math.max(20, Math.min(columns - MARGIN - 1, 100));
    for (const name of names) this.#states.set(name, []);
  }

  /** Time is counted from here. */
  start(at: number): void {
    this.#startedAt = at;
  }

  /** From `at` on, `name` is in this state. */
  enter(name: string, state: State, at: number): void {
    this.#states.get(name)!.push({ at: at - this.#startedAt, state });
  }

  /** Something worth a mark in the row and a line below it. */
  note(name: string, at: number, mark: string, colour: Colour, text: string): void {
    this.#notes.push({ name, at: at - this.#startedAt, mark, colour, text });
  }

  /** The block that a moment falls into. */
  blockAt(at: number): number {
    return Math.max(0, Math.floor((at - this.#startedAt) / BLOCK_MS));
  }

  /** One block, as far as time has come. */
  draw(block: number, now: number): string[] {
    const from = block * BLOCK_MS;
    const until = Math.min(now - this.#startedAt, from + BLOCK_MS);
    const notes = this.#notes.filter(({ at }) => at >= from && at < from + BLOCK_MS);
    const rows = this.#names.map((name, i) => {
      const label = paint(name.padEnd(MARGIN), ROWS[i]);
      return label + this.#row(name, ROWS[i], from, until, notes.filter((note) => note.name === name));
    });
    const lines = notes.map(({ at, mark, colour, text }) => {
      const note = `${mark} ${(at / 1000).toFixed(1)} s  ${text}`;
      // A line that wraps would be drawn over wrongly.
      return " ".repeat(MARGIN) + paint(note.slice(0, this.#columns - MARGIN - 1), colour);
    });
    return [...rows, this.#axis(from), ...lines, ""];
  }

  #row(name: string, colour: Colour, from: number, until: number, notes: readonly Note[]): string {
    const cellMs = BLOCK_MS / this.#cells;
    let row = "";
    for (let start = from; start + cellMs / 2 < until; start += cellMs) {
      const note = notes.find(({ at }) => at >= start && at < start + cellMs);
      // Each cell shows one instant, its middle: so two that held at once would show.
      row += note ? paint(note.mark, note.colour) : cell(this.#stateAt(name, start + cellMs / 2), colour);
    }
    return row;
  }

  #stateAt(name: string, at: number): State {
    return this.#states.get(name)!.findLast((entry) => entry.at <= at)?.state ?? "busy";
  }

  #axis(from: number): string {
    const seconds = BLOCK_MS / 1000;
    let axis = "";
    for (let i = 0; i < seconds; i++) {
      axis = axis.padEnd(Math.round(i * this.#cells / seconds)) + `╵${from / 1000 + i} s`;
    }
    return paint(" ".repeat(MARGIN) + axis, "dim");
  }
}

function cell(state: State, colour: Colour): string {
  switch (state) {
    case "holds":
      return paint("█", colour);
    case "waits":
      return paint("─", "dim");
    case "killed":
      return paint("▒", "red");
    case "frozen":
      return paint("▒", "cyan");
    case "asleep":
      return paint("░", "cyan");
    case "sends":
      return paint("▒", "yellow");
    case "busy":
    case "gone":
      return " ";
  }
}
