/** Redis servers for tests and benchmarks: on loopback and free ports, stopped by their process. */

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { setTimeout } from "node:timers/promises";
import { freePort } from "./free_port.ts";

/** The server to start: `redis-server`, or what `HOLDFAST_REDIS_SERVER` names, such as `valkey-server`. */
const BINARY = env.HOLDFAST_REDIS_SERVER ?? "redis-server";
const START_MS = 10_000;

/** Why there can be no server here, or `undefined`. In CI a missing server is a failure, so it is never missing. */
export function missingRedis(): string | undefined {
  if (spawnSync(BINARY, ["--version"]).error === undefined) return undefined;
  if (env.CI === "true") throw new Error(`${BINARY} is not installed, and in CI it must be`);
  return `needs ${BINARY}: apt-get install redis-server, brew install redis`;
}

/** How a server is started. */
export interface RedisServerOptions {
  /** More of its configuration: `["--appendonly", "yes"]`. */
  config?: string[];
  /** The text of its configuration file. A sentinel needs one, and keeps its state there. */
  file?: string;
  /** What its process is started with and by, such as a library that bends its clock. */
  env?: Record<string, string>;
}

/** Our own Redis server, with a separate folder. Nothing of it is kept when it is disposed of. */
export class RedisServer {
  readonly port: number;
  readonly #folder: string;
  readonly #options: RedisServerOptions;
  #process: ReturnType<typeof spawn> | undefined;
  #ended: Promise<unknown> = Promise.resolve();

  private constructor(port: number, options: RedisServerOptions) {
    this.port = port;
    this.#options = options;
    this.#folder = mkdtempSync(join(tmpdir(), "holdfast-redis-"));
  }

  /** Starts a server and waits until it answers. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), options);
    await server.start();
    return server;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** Starts it again, on the same port and folder, after `kill`. */
  async start(): Promise<void> {
    const { config = [], env: more = {}, file } = this.#options;
    const path = join(this.#folder, "server.conf");
    if (file !== undefined) writeFileSync(path, file);
    const base = ["--port", `${this.port}`, "--bind", "127.0.0.1", "--dir", this.#folder, "--save", ""];
    const args = [...file === undefined ? [] : [path], ...base, ...config];
    const child = spawn(BINARY, args, { stdio: "ignore", env: { ...env, ...more } });
    this.#process = child;
    this.#ended = new Promise((resolve) => child.once("exit", resolve));
    const deadline = performance.now() + START_MS;
    while (!(await this.#answers())) {
      if (performance.now() > deadline) throw new Error("redis-server does not answer");
      await setTimeout(10);
    }
  }

  /** Kills it on the spot, as a crash does. */
  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Sends commands on a separate connection, and returns what comes back, raw. */
  ask(...command: string[]): Promise<string> {
    return ask(this.port, command);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #answers(): Promise<boolean> {
    return ask(this.port, ["PING"]).then(
      (reply) => /^[+-]/.test(reply) && !reply.startsWith("-LOADING"),
      () => false,
    );
  }
}

/** One command on a separate connection, and its raw reply, as far as it comes in one piece. */
function ask(port: number, command: string[]): Promise<string> {
  const bytes = command.map((word) => `$${new TextEncoder().encode(word).length}\r\n${word}\r\n`).join("");
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, "127.0.0.1", () => socket.write(`*${command.length}\r\n${bytes}`));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the server has hung up")));
    socket.once("data", (data: Uint8Array) => {
      resolve(new TextDecoder().decode(data));
      socket.destroy();
    });
  });
}
