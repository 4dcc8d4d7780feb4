/** The self-hosted server of Deno KV: on loopback and a free port, stopped by its process. */

import { delay } from "@std/async";
import { freePort } from "./free_port.ts";

/** What its clients must show it. */
export const ACCESS_TOKEN = "holdfast-test-token";

const START_MS = 20_000;
/** Where it is: where `.ci/run` has compiled it, or on the PATH. */
const COMPILED = Deno.env.get("HOLDFAST_DENOKV");
const BINARY = COMPILED ?? "denokv";

/**
 * Why there can be no server here, or `undefined`. In CI, one that was to be compiled and is missing is a failure. The
 * test command alone cannot compile it, even in CI: that takes cargo and many minutes, while nothing else may run. It
 * shows then that it skips these tests.
 */
export async function missingDenokv(): Promise<string | undefined> {
  if (await starts()) return undefined;
  const failure = await Deno.readTextFile(`${BINARY}.failed`).catch(() => undefined);
  const why = failure === undefined
    ? "needs denokv: cargo install denokv --locked"
    : `denokv could not be installed: ${failure.trim()}`;
  if (COMPILED !== undefined && Deno.env.get("CI") === "true") {
    throw new Error(`in CI it must be there: ${why}`);
  }
  return why;
}

async function starts(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(BINARY, { args: ["--help"], stdout: "null", stderr: "null" })
      .output();
    return success;
  } catch {
    return false;
  }
}

export class KvServer implements AsyncDisposable {
  readonly #port: number;
  readonly #folder: string;
  #process: Deno.ChildProcess | undefined;

  private constructor(port: number, folder: string) {
    this.#port = port;
    this.#folder = folder;
  }

  static async start(): Promise<KvServer> {
    // Where all clients look for it, in this process and its children.
    Deno.env.set("DENO_KV_ACCESS_TOKEN", ACCESS_TOKEN);
    const server = new KvServer(await freePort(), await Deno.makeTempDir({ prefix: "holdfast-denokv-" }));
    await server.start();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number {
    return this.#process!.pid;
  }

  /** Starts it again, on the same port and data, after `kill`. */
  async start(): Promise<void> {
    const args = ["--sqlite-path", `${this.#folder}/kv.sqlite`, "serve"];
    args.push("--access-token", ACCESS_TOKEN, "--addr", `127.0.0.1:${this.#port}`);
    this.#process = new Deno.Command(BINARY, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
    const deadline = performance.now() + START_MS;
    while (!await this.#answers()) {
      if (performance.now() > deadline) throw new Error("denokv does not answer");
      await delay(20);
    }
  }

  /** Kills it on the spot, as a crash does. */
  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.status;
    this.#process = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Deno.remove(this.#folder, { recursive: true });
  }

  #answers(): Promise<boolean> {
    return fetch(this.url).then((response) => response.body?.cancel()).then(() => true, () => false);
  }
}
