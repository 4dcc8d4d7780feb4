/** Runs a command while holding a lock. */

import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import type { LockBackend } from "../core/backend.ts";
import { type HolderInfo, LockAcquisitionError, quote } from "../core/errors.ts";
import type { Lock } from "../core/lock.ts";
import { lock } from "../core/forms.ts";
import type { ListedLock } from "../core/operators/listing.ts";
import { peek } from "../core/operators/observe.ts";
import type { LockOptions } from "../core/options.ts";
import { Drawing, span, tell } from "./terminal.ts";
import { EXIT } from "./usage.ts";

/** What is to be run, under which lock. */
export interface Job {
  /** Several are acquired together. */
  readonly identifiers: readonly string[];
  readonly command: readonly string[];
  readonly options: LockOptions;
  readonly killAfterMs: number;
  readonly verbose: boolean;
  readonly quiet: boolean;
}

/** Signals that end a program by default; the command gets them instead. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
type Signal = NodeJS.Signals;

/** How long a wait lasts before it is reported. */
const PATIENCE_MS = 250;
/** How often the report is updated, on a terminal, and after how many times the store is asked again. */
const WORD_MS = 1000;
const WORDS = 5;

/** Runs the job, and resolves to the code to exit with. */
export async function run(backend: LockBackend, job: Job): Promise<number> {
  let received = (_signal: Signal) => {};
  const listeners = SIGNALS.map((signal) => [signal, () => received(signal)] as const);
  for (const [signal, listener] of listeners) process.on(signal, listener);
  try {
    const cancelling = new AbortController();
    let cancelled: Signal | undefined;
    received = (signal) => {
      // A second signal does not wait until nothing is left behind.
      if (cancelled !== undefined) process.exit(codeOf(signal));
      cancelled = signal;
      cancelling.abort();
    };
    const held = await acquire(backend, job, cancelling.signal);
    if (typeof held === "number") return cancelled === undefined ? held : codeOf(cancelled);
    if (cancelled === undefined) return await hold(held, job, (listener) => received = listener);
    await held.release();
    return codeOf(cancelled);
  } finally {
    for (const [signal, listener] of listeners) process.off(signal, listener);
  }
}

async function acquire(backend: LockBackend, job: Job, signal: AbortSignal): Promise<Lock | number> {
  const { identifiers, options, quiet } = job;
  const target = identifiers.length === 1 ? identifiers[0] : identifiers;
  const waiting = new Waiting(backend, job);
  try {
    return await lock(target, { ...options, backend, signal }).acquire();
  } catch (error) {
    if (signal.aborted) return EXIT.taken;
    if (!(error instanceof LockAcquisitionError)) throw error;
    // First the line that says what it waits for goes: it would take this one with it.
    waiting.stop();
    if (!quiet) tell(refusal(error));
    return EXIT.taken;
  } finally {
    waiting.stop();
  }
}

/** What people read about a lock that is taken: its holders, and times in words. */
function refusal({ identifier, holders, waitedMs }: LockAcquisitionError): string {
  const by = holders.map((holder) => `${nameOf(holder)} for ${span(holder.heldForMs)}`);
  const what = by.length === 0 ? "other processes are queued before this one" : `held by ${by.join(" and ")}`;
  return `Cannot acquire lock ${quote(identifier)}: ${what}${
    waitedMs < 1 ? "" : `; waited ${span(waitedMs)}`
  }`;
}

function nameOf({ label }: HolderInfo): string {
  return label === undefined ? "a holder without label" : quote(label);
}

/** Runs the command while the lock is held, and releases the lock. */
async function hold(held: Lock, job: Job, receive: (to: (signal: Signal) => void) => void): Promise<number> {
  const { signal } = held;
  const command = start(job.command, held.fencingToken);
  if (command === undefined) {
    // Nothing has run: others need not wait for the end of the lease.
    await held.release();
    return EXIT.notExecutable;
  }
  receive((name) => command.forward(name));
  let killing: ReturnType<typeof setTimeout> | undefined;
  const lost = () => {
    tell(`${signal.reason.message}; the command is terminated`);
    command.kill("SIGTERM");
    killing = setTimeout(() => command.kill("SIGKILL"), job.killAfterMs);
  };
  if (signal.aborted) lost();
  else signal.addEventListener("abort", lost);
  const code = await command.ended;
  signal.removeEventListener("abort", lost);
  clearTimeout(killing);
  const terminated = signal.aborted;
  // None of its children may go on without the lock.
  if (terminated) command.killRest();
  try {
    if (await held.release()) return code;
    if (!terminated) tell(`${signal.reason.message}; the command had ended by then`);
    return EXIT.lost;
  } catch (error) {
    // The command has done its work under the lock; others have to wait for the end of the lease.
    tell((error as Error).message);
    return code;
  }
}

/** Starts the command; `undefined` if it is refused at once, such as for arguments that are too long. */
function start(command: readonly string[], fencingToken: string): Command | undefined {
  try {
    return new Command(command, fencingToken);
  } catch (error) {
    tell(`Cannot run ${quote(command[0])}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The command, running. */
class Command {
  /** Its exit code, or what stands for it. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;
  /**
   * Whether it leads its own process group, so that signals reach its children, too. On a terminal it must
   * stay in ours, or could not read from there.
   */
  readonly #leads = process.stdin.isTTY !== true && process.platform !== "win32";

  constructor([file, ...args]: readonly string[], fencingToken: string) {
    const env = { ...process.env, HOLDFAST_FENCING_TOKEN: fencingToken };
    const child = this.#child = spawn(file, args, { stdio: "inherit", detached: this.#leads, env });
    this.ended = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve(code ?? codeOf(signal!)));
      child.on("error", (error) => {
        // It is running: only a signal could not be delivered.
        if (child.pid !== undefined) return;
        const { code } = error as { code?: string };
        tell(`Cannot run ${quote(file)}: ${code === "ENOENT" ? "not found" : error.message}`);
        resolve(code === "ENOENT" ? EXIT.notFound : EXIT.notExecutable);
      });
    });
  }

  /** Passes a signal on that was sent to us. */
  forward(signal: Signal): void {
    // What asks to end goes to all; the others mean what the command has made of them.
    if (signal === "SIGUSR1" || signal === "SIGUSR2") return this.#send(signal, false);
    // What is typed on a terminal goes to all of its foreground group: the command has got it, too.
    const typed = !this.#leads && (signal === "SIGINT" || signal === "SIGQUIT");
    if (!typed) this.kill(signal);
  }

  /** Sends a signal to it and, where it leads its group, to its children. */
  kill(signal: Signal): void {
    this.#send(signal, this.#leads);
  }

  /** Kills what is left of its group after its own end. */
  killRest(): void {
    if (this.#leads) this.#send("SIGKILL", true);
  }

  #send(signal: Signal, toGroup: boolean): void {
    const { pid, exitCode, signalCode } = this.#child;
    const over = exitCode !== null || signalCode !== null;
    if (pid === undefined || (over && !toGroup)) return;
    try {
      // Not by the child's own kill: Deno then takes the signal for what ended it, whatever its exit code.
      process.kill(toGroup ? -pid : pid, signal);
    } catch {
      // No process is left.
    }
  }
}

/** Shows which holder is waited for, meanwhile: on a terminal in one line that is updated, elsewhere only if asked to. */
class Waiting {
  readonly #backend: LockBackend;
  readonly #job: Job;
  readonly #drawing = new Drawing(process.stderr);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;
  #seen: { readonly lock: ListedLock; readonly at: number } | undefined;
  #words = 0;
  #told = "";

  constructor(backend: LockBackend, job: Job) {
    this.#backend = backend;
    this.#job = job;
    const { quiet, verbose } = job;
    if (!quiet && (verbose || this.#drawing.live)) this.#again(PATIENCE_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#drawing.clear();
  }

  #again(ms: number): void {
    // What cannot be said ends neither the wait nor the program.
    this.#timer = setTimeout(() => void this.#say().catch(() => {}), ms);
  }

  /** The first of the locks that another holds, or that others are queued for. */
  async #missing(): Promise<ListedLock | undefined> {
    const backend = this.#backend;
    const looks = this.#job.identifiers.map((identifier) => peek(identifier, { backend }));
    // If a look fails, so does the acquisition, and says so.
    const locks = await Promise.all(looks).catch(() => undefined);
    return locks?.find(({ holders }) => holders.length > 0) ??
      locks?.find(({ waiters }) => waiters.length > 0) ??
      locks?.[0];
  }

  async #say(): Promise<void> {
    if (this.#words++ % WORDS === 0) {
      const lock = await this.#missing();
      if (lock !== undefined) this.#seen = { lock, at: performance.now() };
    }
    if (this.#stopped) return;
    if (this.#seen !== undefined) {
      const { lock: { identifier, holders: [holder, ...others], waiters }, at } = this.#seen;
      const more = others.length === 0 ? "" : ` and ${others.length} more`;
      const who = holder === undefined ? "free" : `held by ${nameOf(holder)}${more}`;
      const since = holder === undefined ? 0 : holder.heldForMs + performance.now() - at;
      const held = holder === undefined ? "" : ` for ${span(since)}`;
      const queue = waiters.length > 1 ? `, ${waiters.length} processes queued` : "";
      const text = `waiting for ${quote(identifier)}, ${who}${held}${queue}`;
      const news = holder?.fencingToken ?? "";
      if (this.#drawing.live) this.#drawing.draw([`holdfast: ${text}`]);
      else if (news !== this.#told) tell(text);
      this.#told = news;
    }
    this.#again(WORD_MS);
  }
}

function codeOf(signal: Signal): number {
  return EXIT.signalled + constants.signals[signal];
}
