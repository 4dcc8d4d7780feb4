/** Postgres servers, and a PgBouncer before them, for tests and benchmarks: on loopback and free ports. */

import { spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process, { env } from "node:process";
import { setTimeout } from "node:timers/promises";
import { freePort } from "./free_port.ts";

const START_MS = 30_000;
/** Where Debian puts the programs of each version. */
const DEBIAN = "/usr/lib/postgresql";

/** The folder of the server's programs. */
const BIN = env.HOLDFAST_POSTGRES_BIN ?? findBin();

function findBin(): string | undefined {
  const said = spawnSync("pg_config", ["--bindir"], { encoding: "utf8" });
  const folders = said.status === 0 ? [said.stdout.trim()] : [];
  if (existsSync(DEBIAN)) {
    const newest = readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a));
    folders.push(...newest.map((version) => join(DEBIAN, version, "bin")));
  }
  return folders.find((folder) => existsSync(join(folder, "initdb")));
}

/** Why there can be no server here, or `undefined`. In CI a missing server is a failure, so it is never missing. */
export function missingPostgres(): string | undefined {
  if (BIN !== undefined) return undefined;
  if (env.CI === "true") throw new Error("PostgreSQL is not installed, and in CI it must be");
  return "needs PostgreSQL: apt-get install postgresql, brew install postgresql";
}

/** The same of PgBouncer. */
export function missingPgBouncer(): string | undefined {
  if (missingPostgres() !== undefined) return missingPostgres();
  if (spawnSync("pgbouncer", ["--version"]).error === undefined) return undefined;
  if (env.CI === "true") throw new Error("PgBouncer is not installed, and in CI it must be");
  return "needs PgBouncer: apt-get install pgbouncer, brew install pgbouncer";
}

/** Postgres refuses root, so it then runs as the user that its package has made. */
const user = process.getuid?.() === 0 ? userNamed("postgres") : undefined;

/** It may not look into the folder that the tests are in, and needs none. */
const AS_USER = { ...user, cwd: tmpdir() };

function userNamed(name: string): { uid: number; gid: number } | undefined {
  const [uid, gid] = ["-u", "-g"].map((flag) =>
    Number(spawnSync("id", [flag, name], { encoding: "utf8" }).stdout)
  );
  return uid > 0 ? { uid, gid } : undefined;
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-postgres-"));
  chmodSync(folder, 0o700);
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  return folder;
}

function runProgram(program: string, args: string[]): void {
  const { status, stderr, stdout, error } = spawnSync(join(BIN!, program), args, {
    ...AS_USER,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${program} failed: ${error ?? ""}${stderr}${stdout}`);
}

/** A program that is started, and stopped by its process. */
class Program {
  readonly #child: ReturnType<typeof spawn>;
  readonly ended: Promise<unknown>;

  constructor(command: string, args: string[], stdio: "ignore" = "ignore") {
    this.#child = spawn(command, args, { stdio, ...AS_USER });
    this.ended = new Promise((resolve) => this.#child.once("exit", resolve));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async end(signal: "SIGKILL" | "SIGINT" | "SIGQUIT" | "SIGTERM"): Promise<void> {
    this.#child.kill(signal);
    await this.ended;
  }
}

/** How a server is started. */
export interface PostgresServerOptions {
  /** More of its configuration: `["synchronous_commit=off"]`. */
  config?: string[];
}

/** Our own Postgres server. Nothing of it is kept when it is disposed of. */
export class PostgresServer {
  readonly port: number;
  readonly folder: string;
  readonly #config: string[];
  #program: Program | undefined;

  private constructor(port: number, folder: string, { config = [] }: PostgresServerOptions) {
    this.port = port;
    this.folder = folder;
    this.#config = config;
  }

  /** Makes a server, starts it and waits until it answers. */
  static async start(options: PostgresServerOptions = {}): Promise<PostgresServer> {
    const server = new PostgresServer(await freePort(), newFolder(), options);
    const auth = ["-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "--no-sync"];
    runProgram("initdb", ["-D", join(server.folder, "data"), ...auth]);
    appendFileSync(
      join(server.folder, "data", "pg_hba.conf"),
      "host replication all 127.0.0.1/32 trust\n",
    );
    await server.start();
    return server;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  get pid(): number {
    return this.#program!.pid;
  }

  /** Starts it, again after `crash`. */
  async start(): Promise<void> {
    const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", ...this.#config];
    const args = [
      "-D",
      join(this.folder, "data"),
      "-p",
      `${this.port}`,
      ...settings.flatMap((one) => ["-c", one]),
    ];
    this.#program = new Program(join(BIN!, "postgres"), args);
    const deadline = performance.now() + START_MS;
    while (!isReady(this.port)) {
      if (performance.now() > deadline) throw new Error("postgres does not answer");
      await setTimeout(20);
    }
  }

  /** A copy that follows it, and can be promoted. */
  async replica(): Promise<PostgresServer> {
    const replica = new PostgresServer(await freePort(), newFolder(), { config: this.#config });
    const source = ["-h", "127.0.0.1", "-p", `${this.port}`, "-U", "postgres"];
    runProgram("pg_basebackup", [
      ...source,
      "-D",
      join(replica.folder, "data"),
      "-R",
      "-X",
      "stream",
      "--no-sync",
      "-c",
      "fast",
    ]);
    await replica.start();
    return replica;
  }

  /** From now on this role needs its password. */
  demandPassword(role: string): void {
    const path = join(this.folder, "data", "pg_hba.conf");
    writeFileSync(path, `host all ${role} 127.0.0.1/32 scram-sha-256\n${readFileSync(path, "utf8")}`);
    runProgram("pg_ctl", ["reload", "-D", join(this.folder, "data")]);
  }

  /** Makes a replica a separate server. */
  promote(): void {
    runProgram("pg_ctl", ["promote", "-D", join(this.folder, "data"), "-w"]);
  }

  /** Ends it as a crash does: as `pg_ctl stop -m immediate`. */
  async crash(): Promise<void> {
    await this.#program?.end("SIGQUIT");
  }

  /** Stops or goes on with every process of the server. */
  signalAll(signal: "SIGSTOP" | "SIGCONT"): void {
    const children = spawnSync("ps", ["--ppid", `${this.pid}`, "-o", "pid="], { encoding: "utf8" }).stdout;
    for (const pid of [this.pid, ...children.trim().split(/\s+/).map(Number)]) {
      try {
        if (pid > 0) process.kill(pid, signal);
      } catch {
        // It has ended by itself.
      }
    }
  }

  async stop(): Promise<void> {
    await this.#program?.end("SIGQUIT");
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function isReady(port: number): boolean {
  const args = ["-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres", "-q"];
  return spawnSync(join(BIN!, "pg_isready"), args).status === 0;
}

/** A PgBouncer before a server. */
export class PgBouncer {
  readonly port: number;
  readonly #folder: string;
  readonly #program: Program;

  private constructor(port: number, folder: string, program: Program) {
    this.port = port;
    this.#folder = folder;
    this.#program = program;
  }

  static async start(server: PostgresServer, mode: "transaction" | "session"): Promise<PgBouncer> {
    const [port, folder] = [await freePort(), newFolder()];
    writeFileSync(join(folder, "users.txt"), '"postgres" ""\n');
    writeFileSync(
      join(folder, "pgbouncer.ini"),
      `[databases]
* = host=127.0.0.1 port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${folder}/users.txt
pool_mode = ${mode}
max_client_conn = 200
default_pool_size = 20
ignore_startup_parameters = extra_float_digits
`,
    );
    if (user !== undefined) chownSync(join(folder, "pgbouncer.ini"), user.uid, user.gid);
    const program = new Program("pgbouncer", ["-q", join(folder, "pgbouncer.ini")]);
    const deadline = performance.now() + START_MS;
    while (!(await connects(port))) {
      if (performance.now() > deadline) throw new Error("pgbouncer does not answer");
      await setTimeout(20);
    }
    return new PgBouncer(port, folder, program);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program.end("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** What the server has written to its log, if its configuration says that it has one in its folder. */
export function logOf(server: PostgresServer): string {
  const folder = join(server.folder, "data", "log");
  return readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8")).join("");
}
