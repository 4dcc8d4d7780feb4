/** The command line as a program in a separate process: what it says, and with what it ends. */

import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** How long anything may take before a test fails: far more than it does on a busy machine. */
const DEADLINE_MS = 30_000;

/** Where the program runs, and on which store. */
export interface Place {
  /** The runtime with its arguments, up to the program. */
  readonly program: readonly string[];
  /** `HOLDFAST_BACKEND`. */
  readonly store: string;
  /** The folder to start in. Default: that of the tests. */
  readonly folder?: string;
  /** More of its environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The command line on Deno, from its source. */
export const ON_DENO: readonly string[] = [
  Deno.execPath(),
  ...["run", "--quiet", "--no-check", "--unstable-kv", "-A"],
  fileURLToPath(new URL("../../cli.ts", import.meta.url)),
];

/** One run of the program. */
export class Program implements AsyncDisposable {
  /** The exit code, as soon as it has ended; the name of a signal if that has ended it. */
  readonly code: Promise<number | string>;
  readonly #child: ReturnType<typeof spawn>;
  readonly #said = { out: "", err: "" };
  readonly #closed: Promise<void>;
  #news = () => {};

  constructor({ program, store, folder, env: more }: Place, ...args: string[]) {
    const [file, ...first] = program;
    const env = { ...Deno.env.toObject(), HOLDFAST_BACKEND: store, NO_COLOR: "1", ...more };
    const child = this.#child = spawn(file, [...first, ...args], { env, cwd: folder });
    this.code = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal!)));
    this.#closed = new Promise((resolve) => child.once("close", () => resolve()));
    void this.#closed.then(() => this.#news());
    for (const name of ["out", "err"] as const) {
      child[`std${name}`]!.setEncoding("utf8").on("data", (text: string) => {
        this.#said[name] += text;
        this.#news();
      });
    }
    // It may have ended without reading.
    child.stdin!.on("error", () => {});
  }

  /** Until it has said this, on standard output by default. */
  async says(text: string, where: "out" | "err" = "out"): Promise<this> {
    const deadline = performance.now() + DEADLINE_MS;
    let closed = false;
    void this.#closed.then(() => closed = true);
    while (!this.#said[where].includes(text)) {
      if (closed || performance.now() > deadline) {
        throw new Error(`it never said '${text}', but '${this.#said.out}' and '${this.#said.err}'`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadline - performance.now());
        this.#news = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What it has said on standard output so far. */
  get out(): string {
    return this.#said.out;
  }

  /** Gives it this text, and nothing more, to read. */
  hears(text = ""): this {
    this.#child.stdin!.end(text);
    return this;
  }

  signal(name: NodeJS.Signals): void {
    // Not by the child's own kill: Deno then takes the signal for what ended the child, whatever its exit code.
    process.kill(this.#child.pid!, name);
  }

  /** Until it, and all that write where it writes, have ended. */
  async outcome(): Promise<{ code: number | string; out: string; err: string }> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#child.kill("SIGKILL");
      this.#child.stdout!.destroy();
      this.#child.stderr!.destroy();
    }, DEADLINE_MS);
    await this.#closed;
    clearTimeout(timer);
    if (late) throw new Error(`it did not end; it said '${this.#said.out}' and '${this.#said.err}'`);
    return { code: await this.code, ...this.#said };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    this.#child.stdin!.destroy();
    this.#child.stdout!.destroy();
    this.#child.stderr!.destroy();
    await this.#closed;
  }
}

/** Runs the program to its end, with this to read. */
export async function finish(place: Place, args: string[], input = ""): ReturnType<Program["outcome"]> {
  await using program = new Program(place, ...args);
  return await program.hears(input).outcome();
}
