/**
 * A child process that takes and gives lines of JSON: how the tests, the demo and the benchmarks talk to
 * the processes that they start, kill and freeze.
 */

import process from "node:process";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

/** One line that a child has written: what it says, when, and more. */
export interface Message {
  readonly said: string;
  readonly at: number;
  // deno-lint-ignore no-explicit-any
  readonly [more: string]: any;
}

/** How a child is started. */
export interface ChildOptions {
  /** Its Deno permissions and other flags. */
  flags?: string[];
  args?: string[];
  /** Runs the script under Node instead, in this folder. */
  nodeIn?: string;
  /** Which Node, or Bun; default: the one on the PATH. */
  runtime?: string;
  /** More of its environment. */
  env?: Record<string, string>;
  /** The file that its errors are written to; default: they are shown. */
  errors?: string;
  /** Receives every message, at once. */
  listen?: (message: Message) => void;
}

/** How long a message may take before the wait for it fails: far more than any test needs. */
const DEADLINE_MS = 120_000;

/** How far apart two readings of a clock may be between which the wall clock goes on by a millisecond. */
const CLOSE_MS = 0.05;
/** For how long that is waited for: a wall clock may stand still. */
const TICK_MS = 20;

/**
 * The wall clock's time at which the monotonic clock began. `performance.timeOrigin` is that, too, but a runtime that is
 * interrupted between its two readings is wrong for ever: on a busy machine by 300 ms, as has been seen.
 */
function originOf(): number {
  let [origin, closestMs] = [performance.timeOrigin, Infinity];
  for (let tries = 0; tries < 20 && closestMs > CLOSE_MS; tries++) {
    const first = Date.now();
    const started = performance.now();
    let [before, after, wall] = [started, started, first];
    while (wall === first && after - started < TICK_MS) {
      [before, wall, after] = [after, Date.now(), performance.now()];
    }
    const isCloser = wall !== first && after - before < closestMs;
    if (isCloser) [origin, closestMs] = [wall - (before + after) / 2, after - before];
  }
  return origin;
}

const origin = originOf();

/** Now, in milliseconds, comparable between the processes of one machine. */
export function now(): number {
  return origin + performance.now();
}

/** For a child: sends a message to its parent. */
export function say(said: string, more: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ ...more, said, at: now() }));
}

/** For a child: the commands of its parent, until the parent hangs up or dies. */
export function commands<Command>(): AsyncIterable<Command> {
  return parsed(Readable.toWeb(process.stdin) as ReadableStream<Uint8Array>);
}

/** For a parent: one child process. Disposing of it kills it, whatever it is doing. */
export class Child implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  readonly #unread: Message[] = [];
  readonly #waiting = new Set<() => void>();
  #ended = false;

  constructor(
    script: URL,
    { flags = [], args = [], nodeIn, runtime = "node", env, errors, listen }: ChildOptions,
  ) {
    const command = new Deno.Command(nodeIn === undefined ? Deno.execPath() : runtime, {
      args: nodeIn === undefined
        ? ["run", "--quiet", "--unstable-kv", ...flags, script.href, ...args]
        : [...flags, fileURLToPath(script), ...args],
      cwd: nodeIn,
      env,
      stdin: "piped",
      stdout: "piped",
      stderr: errors === undefined ? "inherit" : "piped",
    });
    this.#process = command.spawn();
    this.#stdin = this.#process.stdin.getWriter();
    const written = errors === undefined ? undefined : this.#write(errors);
    this.#reading = Promise.all([this.#read(listen), written]).then(() => {});
  }

  /** Whether it has ended, or been killed. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Sends the child a command; a child that is gone does not hear it. */
  send(command: unknown): void {
    this.#stdin.write(new TextEncoder().encode(JSON.stringify(command) + "\n")).catch(() => {});
  }

  /** The next unread message of this kind; messages of other kinds stay unread. Rejects if none can come. */
  async next(said: string): Promise<Message> {
    const deadline = now() + DEADLINE_MS;
    for (;;) {
      const at = this.#unread.findIndex((message) => message.said === said || message.said === "failed");
      if (at >= 0) {
        const [message] = this.#unread.splice(at, 1);
        if (message.said === said) return message;
        throw new Error(`the child failed: ${message.error}`);
      }
      if (this.#ended) throw new Error(`the child ended before it said '${said}'`);
      if (now() > deadline) throw new Error(`the child did not say '${said}' in ${DEADLINE_MS} ms`);
      await this.#news(deadline - now());
    }
  }

  /** Sends the child a command, and waits for its answer. */
  ask(command: unknown, said: string): Promise<Message> {
    this.send(command);
    return this.next(said);
  }

  /** Sends a signal: SIGKILL, SIGSTOP, SIGCONT. */
  signal(name: Deno.Signal): void {
    this.#process.kill(name);
  }

  /** Whether it ends by itself in this time. */
  async endsWithin(ms: number): Promise<boolean> {
    const deadline = now() + ms;
    while (!this.#ended && now() < deadline) await this.#news(deadline - now());
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#process.status;
    await this.#stdin.abort().catch(() => {});
    await this.#reading;
  }

  async #read(listen?: (message: Message) => void): Promise<void> {
    for await (const message of parsed<Message>(this.#process.stdout)) {
      this.#unread.push(message);
      listen?.(message);
      this.#wake();
    }
    this.#ended = true;
    this.#wake();
  }

  /** Writes its errors to a file, until it ends. */
  async #write(errors: string): Promise<void> {
    const file = await Deno.open(errors, { create: true, append: true });
    await this.#process.stderr.pipeTo(file.writable);
  }

  #news(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#waiting.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

async function* parsed<Line>(stream: ReadableStream<Uint8Array>): AsyncGenerator<Line> {
  let rest = "";
  for await (
    const text of stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
  ) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    // A killed child may leave half a line behind, which is dropped.
    for (const line of lines) yield JSON.parse(line);
  }
}
