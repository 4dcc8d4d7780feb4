/** What the command line says about itself, and how it is read. */

import { parseArgs, type ParseArgsConfig } from "node:util";
import { MAX_MS } from "../core/clock.ts";
import { quote } from "../core/errors.ts";

/** With what the program ends, apart from the exit code of the command that it runs. */
export const EXIT = {
  done: 0,
  /** What was asked about is not there. */
  absent: 1,
  usage: 64,
  unavailable: 69,
  taken: 75,
  lost: 76,
  notExecutable: 126,
  notFound: 127,
  /** Ended by a signal: this, and its number. */
  signalled: 128,
} as const;

/** A command line that cannot be understood. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What a command line comes to. */
export interface CommandLine {
  /** Which command, one of {@linkcode COMMANDS}; `undefined` if none is named. */
  readonly name: CommandName | undefined;
  readonly help: boolean;
  /** Whether the version is asked for. */
  readonly version: boolean;
  /** What is no option, or stands after `--`. */
  readonly operands: readonly string[];
  /** Of `run`: what is to be run. */
  readonly command: readonly string[];
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
}

type Options = NonNullable<ParseArgsConfig["options"]>;

const text = { type: "string" } as const;
const flag = { type: "boolean" } as const;
const COMMON: Options = {
  backend: text,
  prefix: text,
  insecure: flag,
  help: { type: "boolean", short: "h" },
};

const STORES =
  `The store is named by --backend, or by HOLDFAST_BACKEND, which other users of the machine cannot see, or else by
REDIS_URL or DATABASE_URL (postgres://…), if only one of them is set:
  kv:<path>              a Deno KV file (Deno.openKv on Deno, the npm package @deno/kv elsewhere)
  https://…              KV Connect, with DENO_KV_ACCESS_TOKEN (http://… sends it in clear text: --insecure)
  redis://… rediss://…   Redis or Valkey, with the npm package ioredis or redis; with ioredis, the URL of one node of a
                         cluster stands for the cluster
  redis-sentinel://<host>:<port>[,<host>:<port>…]/<master>
                         the Redis that sentinels name as master, with the npm package ioredis
  postgres://…           PostgreSQL, with the npm package pg or postgres
  datastore:<project>    Google Cloud Datastore, with the npm package @google-cloud/datastore

If the app gives its backend its own prefix, pass it with --prefix, or as HOLDFAST_PREFIX with HOLDFAST_BACKEND;
otherwise holdfast works on other locks than the app:
  Redis                  the prefix, behind the keyPrefix of an ioredis client: --prefix app:holdfast
  Deno KV                the key parts, which are strings, with / between them: --prefix my-app/locks
  PostgreSQL             the table, or schema.table
  Datastore              the namespace`;

const NAMES = `If the name of a lock begins with -, write it after --: holdfast show -- -name.`;

const DURATIONS = `Durations: 500ms, 30s, 10m, 2h, 1d.`;

/** Every command: which options it has besides `--backend` and `--help`, and what `--help` says. */
export const COMMANDS = {
  run: {
    options: {
      "no-wait": flag,
      "wait-for": text,
      shared: flag,
      limit: text,
      permits: text,
      "steal-after": text,
      lease: text,
      label: text,
      "kill-after": text,
      verbose: { type: "boolean", short: "v" },
      quiet: { type: "boolean", short: "q" },
    },
    help: `Usage: holdfast run <identifier>... [options] -- <command> [arguments]

Runs the command while holding the lock, or all of several locks, which are acquired together or not at all, and ends
with its exit code. The command gets the standard streams, the signals sent to holdfast, and HOLDFAST_FENCING_TOKEN in
its environment.

  --no-wait            give up at once if the lock is taken
  --wait-for <time>    give up after this time                        (default: wait without limit)
  --shared             hold it together with other shared holders     (default: exclusively)
  --limit <n>          let at most n hold it at the same time         (default: 1)
  --permits <n>        how much of that limit this command takes      (default: 1)
  --steal-after <time> evict a holder that has held it for this long  (default: never)
  --lease <time>       how long the lock stays taken if this machine crashes (default: 30s; renewed while held)
  --label <text>       the name that other processes see              (default: user@host:pid)
  --kill-after <time>  when the lock is lost: from SIGTERM to SIGKILL (default: 5s)
  -v, --verbose        print what is being waited for, even if standard error is no terminal
  -q, --quiet          print nothing, not even that the lock was taken

Start it so that signals reach it: as node_modules/.bin/holdfast, as the ENTRYPOINT of a container, or with exec in a
shell or a script of package.json ("exec holdfast run …"). Through npx, or npm run without exec, a signal may end npm and
leave the command running with the lock held.

Exit code: that of the command; 128+n if signal n ended the command or the wait; 75 if the lock was taken; 76 if it
was lost (the command is then terminated); 126 if the command cannot be run; 127 if it is not found.
${DURATIONS}`,
  },
  ls: {
    options: { json: flag, watch: { type: "boolean", short: "w" } },
    help: `Usage: holdfast ls [<prefix>] [--json] [--watch]

Lists the locks that are held or waited for; with <prefix>, those whose identifier begins with it.

  --json       print one JSON object per line
  -w, --watch  until interrupted, redraw the list every second, or print it whenever it changes if standard output is
               no terminal; with --json, one array per line`,
  },
  show: {
    options: { json: flag },
    help: `Usage: holdfast show <identifier> [--json]

Shows the holders of a lock and the processes that are queued for it. Exit code 1 if there are neither, 69 if its record
cannot be read.`,
  },
  release: {
    options: { force: flag, token: text, yes: { type: "boolean", short: "y" } },
    help: `Usage: holdfast release <identifier> --force [--token <fencing token>] [--yes]

Evicts the holder of a lock, or all holders that share it. A holder is notified, but its program keeps running until it
reacts. Asks first if standard input is a terminal. Exit code 1 if the lock was not held, or you said no; 69 if its record
cannot be read.

  --force          required: without force, only the holder itself can release it
  --token <token>  only the hold with this fencing token, as show and ls --json print it
  -y, --yes        do not ask`,
  },
  cleanup: {
    options: { "older-than": text, json: flag, yes: { type: "boolean", short: "y" } },
    help: `Usage: holdfast cleanup [<prefix>] [--older-than <time>] [--json]

Deletes the records that crashed processes have left behind. A lock that is held is not touched.

  --older-than <time>  also evict every holder that has held a lock for this long, alive or not; asks first if standard
                       input is a terminal
  --json               print the counts as JSON
  -y, --yes            do not ask
${DURATIONS}`,
  },
} satisfies Record<string, { options: Options; help: string }>;

/** The name of a command. */
export type CommandName = keyof typeof COMMANDS;

const OVERVIEW = `Usage: holdfast <command> [options]

A lock across processes and machines.

  run      run a command while holding a lock
  ls       list the locks that are held or waited for
  show     show one lock
  release  evict the holder of a lock
  cleanup  delete the records that crashed processes have left behind

holdfast <command> --help shows the options of a command; holdfast --version prints the version.`;

const EXITS = `Exit codes: 64 the command line is wrong; 69 the store failed or cannot be opened.`;

/** What `--help` prints. */
export function helpOf(name: CommandName | undefined): string {
  return [name === undefined ? OVERVIEW : COMMANDS[name].help, STORES, NAMES, EXITS].join("\n\n");
}

/** Reads a command line. Throws {@linkcode UsageError}. */
export function read(args: readonly string[]): CommandLine {
  const [first = "--help", ...rest] = args;
  if (first === "--help" || first === "-h" || first === "help") {
    return { name: isCommand(rest[0]) ? rest[0] : undefined, help: true, version: false, ...NOTHING };
  }
  if (first === "--version" || first === "-V") {
    return { name: undefined, help: false, version: true, ...NOTHING };
  }
  if (!isCommand(first)) {
    throw new UsageError(`there is no command ${quote(first)}, only ${Object.keys(COMMANDS).join(", ")}`);
  }
  // The command of run has its own options, and is not read here.
  const end = first === "run" ? rest.indexOf("--") : -1;
  const [own, command] = end < 0 ? [rest, []] : [rest.slice(0, end), rest.slice(end + 1)];
  try {
    const { values, positionals } = parseArgs({
      args: own,
      options: { ...COMMON, ...COMMANDS[first].options },
      allowPositionals: true,
    });
    const options = values as CommandLine["options"];
    const line = { name: first, help: options.help === true, version: false, options };
    // What stands between two of them is the name: run -- -name -- command.
    const next = positionals.length === 0 ? command.indexOf("--") : -1;
    if (next < 0) return { ...line, operands: positionals, command };
    return { ...line, operands: command.slice(0, next), command: command.slice(next + 1) };
  } catch (error) {
    // The rest of its messages is advice that does not fit here.
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message.split(/\. |\n/)[0]);
  }
}

const NOTHING = { operands: [], command: [], options: {} } as const;

function isCommand(name: string | undefined): name is CommandName {
  return name !== undefined && Object.hasOwn(COMMANDS, name);
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A duration in milliseconds. Throws {@linkcode UsageError} that names the option, the rule and the value. */
export function duration(value: string | boolean | undefined, option: string, least = 0): number | undefined {
  if (typeof value !== "string") return undefined;
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(value) ?? [];
  const ms = Number(count) * UNITS[unit];
  if (ms >= least && ms <= MAX_MS) return ms;
  throw new UsageError(
    `--${option} must be a duration such as 500ms, 30s, 10m, 2h or 1d, from ${least}ms to ${MAX_MS}ms (24.8 days), ` +
      `current value is ${quote(value)}`,
  );
}
