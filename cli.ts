#!/usr/bin/env node
/**
 * The command line: run a command while holding a lock, list locks, evict their holders. Like `flock(1)`, but
 * across machines.
 *
 * ```sh
 * deno run -A --unstable-kv jsr:@holdfast/lock/cli run nightly --backend kv:/var/lib/locks.db -- ./report.sh
 * npx -p @holdfast/lock -p ioredis holdfast ls --backend redis://localhost:6379
 * ```
 *
 * `holdfast --help` and `holdfast <command> --help` describe all commands, options, stores and exit codes, as does the
 * operators' guide, `docs/operations.md`.
 *
 * @module
 */

import { realpathSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { checkOptions, type LockOptions } from "./core/options.ts";
import { run } from "./cli/run.ts";
import { openStore } from "./cli/store.ts";
import { print, tell } from "./cli/terminal.ts";
import { type CommandLine, duration, EXIT, helpOf, read, UsageError } from "./cli/usage.ts";
import { clean, list, release, show, watch } from "./cli/view.ts";
import type { LockBackend } from "./core/backend.ts";
import { messageOf, quote } from "./core/errors.ts";
import { VERSION } from "./version.ts";

/** How long the process may linger when it has nothing more to do but something keeps it alive. */
const LINGER_MS = 2000;
const MAX_LABEL = 128;

/** What a command line asks to be done in a store. */
type Task = (backend: LockBackend) => Promise<number>;

/**
 * Does what the arguments of a command line say, and resolves to the code to exit with. It uses this process's
 * standard streams and, while it runs a command, its signals. It never rejects: what goes wrong is printed on
 * standard error.
 *
 * @param args The arguments, without the name of the program.
 * @returns The exit code.
 *
 * @example In a program
 * ```ts ignore
 * import { main } from "@holdfast/lock/cli";
 *
 * Deno.exit(await main(["run", "nightly", "--backend", "kv:locks.db", "--", "./report.sh"]));
 * ```
 *
 * @example
 * ```ts
 * import { main } from "@holdfast/lock/cli";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await main(["run", "nightly", "--wait-for", "soon", "--", "true"]), 64);
 * ```
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const line = read(args);
    if (line.version) {
      print([VERSION]);
      return EXIT.done;
    }
    if (line.name === undefined || line.help) {
      print(helpOf(line.name).split("\n"));
      return EXIT.done;
    }
    const task = taskOf(line);
    const { backend, prefix, insecure } = line.options as Record<string, string | undefined>;
    const store = await openStore({ backend, prefix, insecure: Boolean(insecure) });
    try {
      return await task(store.backend);
    } finally {
      await store.close();
    }
  } catch (error) {
    tell(messageOf(error));
    if (!(error instanceof UsageError)) return EXIT.unavailable;
    tell("see holdfast --help");
    return EXIT.usage;
  }
}

/** Checks everything before the store is opened. */
function taskOf(line: CommandLine): Task {
  const { options: { json, yes, token, ...options } } = line;
  switch (line.name!) {
    case "run":
      return runTask(line);
    case "ls": {
      const prefix = operand(line, "prefix") ?? "";
      const view = options.watch === true ? watch : list;
      return (backend) => view(backend, prefix, json === true);
    }
    case "show": {
      const identifier = required(line);
      return (backend) => show(backend, identifier, json === true);
    }
    case "release": {
      const identifier = required(line);
      if (options.force !== true) {
        throw new UsageError("release evicts the current holder: add --force to confirm");
      }
      return (backend) => release(backend, identifier, token as string | undefined, yes === true);
    }
    case "cleanup": {
      const prefix = operand(line, "prefix") ?? "";
      const olderThanMs = duration(options["older-than"], "older-than");
      return (backend) => clean(backend, prefix, olderThanMs, json === true, yes === true);
    }
  }
}

function runTask(line: CommandLine): Task {
  const { options, command } = line;
  const identifiers = allRequired(line);
  if (command.length === 0 || command[0] === "") {
    throw new UsageError("the command to run goes after --: holdfast run <identifier>... -- <command>");
  }
  if (options["no-wait"] && options["wait-for"] !== undefined) {
    throw new UsageError("--no-wait and --wait-for exclude each other");
  }
  const limit = count(options.limit, "limit");
  const permits = count(options.permits, "permits");
  if (options.shared === true && (limit ?? permits) !== undefined) {
    throw new UsageError("--shared and --limit exclude each other");
  }
  const lockOptions: LockOptions = {
    ...(options.shared === true ? { mode: "shared" as const } : { limit, permits }),
    wait: options["no-wait"] !== true,
    waitForMs: duration(options["wait-for"], "wait-for"),
    stealAfterMs: duration(options["steal-after"], "steal-after"),
    leaseMs: duration(options.lease, "lease", 100),
    label: options.label as string | undefined ?? defaultLabel(),
  };
  try {
    checkOptions(lockOptions);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const job = {
    identifiers,
    command,
    options: lockOptions,
    killAfterMs: duration(options["kill-after"], "kill-after") ?? 5000,
    verbose: options.verbose === true,
    quiet: options.quiet === true,
  };
  return (backend) => run(backend, job);
}

function count(text: string | boolean | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,6}$/.test(`${text}`)) {
    throw new UsageError(`--${option} must be a whole number from 1, such as 5, not ${quote(`${text}`)}`);
  }
  return Number(text);
}

function operand({ name, operands }: CommandLine, what: string): string | undefined {
  if (operands.length > 1) throw new UsageError(`${name} takes one ${what}, there are ${operands.length}`);
  return operands[0];
}

function required(line: CommandLine): string {
  operand(line, "identifier");
  return allRequired(line)[0];
}

function allRequired({ name, operands }: CommandLine): readonly string[] {
  if (operands.length > 0 && operands.every(Boolean)) return operands;
  throw new UsageError(`${name} needs an identifier, the name of the lock`);
}

function defaultLabel(): string {
  let user: string;
  try {
    user = userInfo().username;
  } catch {
    // A container may run under a number that has no name.
    user = process.env.USER ?? `${process.getuid?.() ?? "?"}`;
  }
  return `${user}@${hostname()}:${process.pid}`.slice(-MAX_LABEL);
}

/** Whether this is the program itself: what `import.meta.main` says, where there is such a thing. */
function isProgram(): boolean {
  if (typeof import.meta.main === "boolean") return import.meta.main;
  const [, started] = process.argv;
  // In a bundle that is no module there is no URL: the program is the app that the bundle is of.
  const { url } = import.meta as { readonly url?: string };
  return started !== undefined && url !== undefined && realpathSync(started) === fileURLToPath(url);
}

function end(code: number): void {
  process.exitCode = code;
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

if (isProgram()) {
  // The reader of the output may stop early, as head does.
  process.stdout.on("error", () => process.exit(EXIT.done));
  // Not awaited here: what awaits at its top level cannot be required, nor put into a bundle of CommonJS.
  main(process.argv.slice(2)).then(end, (error) => {
    tell(messageOf(error));
    end(EXIT.unavailable);
  });
}
