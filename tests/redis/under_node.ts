import { assert, assertEquals } from "@std/assert";
import { CASES } from "@holdfast/lock/testing";
import { CLIENTS } from "./clients.ts";

/** The suite under the oldest Node, bundled, clients and all, so that it needs neither packages nor TypeScript. */
export class UnderNode {
  readonly #port: number;
  readonly #stop = new AbortController();
  #played: Promise<void> | undefined;

  constructor(port: number) {
    this.#port = port;
  }

  /** Begins, once; resolves when all of it has passed. */
  start(): Promise<void> {
    this.#played ??= this.#play();
    this.#played.catch(() => {});
    return this.#played;
  }

  /** Ends what still runs. */
  stop(): void {
    this.#stop.abort();
  }

  async #play(): Promise<void> {
    const folder = await Deno.makeTempDir({ prefix: "holdfast-node-" });
    try {
      const bundle = `${folder}/suite.mjs`;
      const entry = new URL("./node.ts", import.meta.url).href;
      await this.#run(Deno.execPath(), ["bundle", "--quiet", "--output", bundle, entry]);
      await Promise.all(
        Object.keys(CLIENTS).map(async (client) => {
          const report = await this.#run("node", ["--test-reporter=tap", bundle, `${this.#port}`, client]);
          assertEquals(Number(/^# pass (\d+)$/m.exec(report)?.[1]), CASES.length, client);
        }),
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }

  async #run(command: string, args: string[]): Promise<string> {
    const { signal } = this.#stop;
    const { success, stdout, stderr } = await new Deno.Command(command, { args, signal }).output();
    const text = new TextDecoder().decode(stdout);
    const failures = text.split("\n").filter((line) => line.startsWith("not ok")).join("\n");
    assert(success, `${command} failed: ${failures || new TextDecoder().decode(stderr) || text}`);
    return text;
  }
}
