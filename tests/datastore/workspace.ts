/** A folder in which Node finds this package, as it would be published, and the official client. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Child, type Message } from "../support/child.ts";
import { run } from "../support/run.ts";

const SCRIPTS = ["server.mjs", "conformance.mjs", "worker.mjs", "unreachable.mjs", "hands.mjs"];

/** How a script is started. */
export interface StartOptions {
  /** Default: `"node"`. */
  runtime?: "node" | "deno";
  /** Receives every message, at once. */
  listen?: (message: Message) => void;
}

export class Workspace {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Workspace> {
    const root = new URL("../../", import.meta.url);
    const path = await Deno.makeTempDir({ prefix: "holdfast-node-" });
    const { imports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
    const name = "@google-cloud/datastore";
    await Deno.writeTextFile(
      join(path, "deno.json"),
      JSON.stringify({ nodeModulesDir: "auto", imports: { [name]: imports[name] } }),
    );
    await Deno.copyFile(new URL("deno.lock", root), join(path, "deno.lock"));
    await run(path, Deno.execPath(), "install", "--quiet");
    const tarball = join(path, "package.tgz");
    await run(root, Deno.execPath(), "pack", "--quiet", "--allow-dirty", "-o", tarball);
    const target = join(path, "node_modules", "@holdfast", "lock");
    await Deno.mkdir(target, { recursive: true });
    await run(path, "tar", "xzf", tarball, "-C", target, "--strip-components=1");
    for (const script of SCRIPTS) {
      await Deno.copyFile(new URL(script, import.meta.url), join(path, script));
    }
    return new Workspace(path);
  }

  /** Starts one of the scripts: under Node in this folder, or under Deno as it is. */
  start(script: string, args: string[] = [], { runtime = "node", listen }: StartOptions = {}): Child {
    return runtime === "deno"
      ? new Child(new URL(script, import.meta.url), { flags: ["--allow-all"], args, listen })
      : new Child(pathToFileURL(join(this.path, script)), { nodeIn: this.path, args, listen });
  }

  async remove(): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
