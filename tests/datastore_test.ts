/** The Datastore backend: against the official emulators where they are installed, and our own server. */

import { CASES } from "@holdfast/lock/testing";
import type { Child } from "./support/child.ts";
import { HOW_TO_GET, type Server, startEmulators } from "./support/datastore_emulators.ts";
import { inputTests } from "./datastore/input.ts";
import { rpcTests } from "./datastore/rpcs.ts";
import { ruleTests } from "./datastore/rules.ts";
import { hostFor, TestServer } from "./datastore/test_server.ts";
import { workTests } from "./datastore/work.ts";
import { Workspace } from "./datastore/workspace.ts";

const { test } = Deno;
const skip = test.ignore;

const workspace = await Workspace.make();
const [own, quiet, { running, missing }] = await Promise.all([
  TestServer.start(workspace),
  // One without faults.
  TestServer.start(workspace),
  startEmulators(),
]);
for (const name of missing) skip(`Datastore: the ${name} is not installed; ${HOW_TO_GET}`, () => {});
const servers: readonly Server[] = [quiet, ...running];
globalThis.addEventListener("unload", () => {
  for (const one of [own, ...servers, ...runs]) void one.stop();
  Deno.removeSync(workspace.path, { recursive: true });
});

/** What the backend cannot do on this server, and why. */
function deviations({ tellsTime }: Server): Record<string, string> {
  const noPush = "there is no push: the holder is notified at its next renewal";
  const polls = "70 processes that poll cannot hand a lock on 70 times in the few seconds of a case";
  const noClock = "this server gives no time: others' leases are judged by watching only";
  return {
    "steal: the holder is notified without asking the store for anything else": noPush,
    "wait: many processes wait, more than have a place in the queue": polls,
    ...(tellsTime ? {} : {
      "hold: a holder evicted by a wrong clock is notified, and leaves the next holder alone": noClock,
    }),
  };
}

/** The conformance suite on one server, played by a separate process. */
class Conformance {
  readonly name: string;
  readonly skipped: Record<string, string>;
  readonly #played: string[];
  readonly #server: Server;
  readonly #runtime: "node" | "deno";
  #child: Child | undefined;

  constructor(server: Server, runtime: "node" | "deno") {
    this.name = `${server.name}, ${runtime === "node" ? "gRPC from Node" : "REST from Deno"}`;
    this.#server = server;
    this.#runtime = runtime;
    this.skipped = deviations(server);
    this.#played = CASES.filter((title) => !Object.hasOwn(this.skipped, title));
  }

  /** Begins to play; `first` is the share of the cases that is left for the end. */
  start(first: number): void {
    const begin = Math.floor(first * this.#played.length);
    const order = [...this.#played.slice(begin), ...this.#played.slice(0, begin)];
    const args = [hostFor(this.#server, this.#runtime), JSON.stringify(order)];
    this.#child ??= workspace.start("conformance.mjs", args, { runtime: this.#runtime });
  }

  async stop(): Promise<void> {
    await this.#child?.[Symbol.asyncDispose]();
  }

  async outcomeOf(title: string): Promise<void> {
    const { error } = await this.#child!.next(title);
    if (title === this.#played.at(-1)) await this.stop();
    if (error !== undefined) throw new Error(error);
  }
}

// The test server stands in for what is missing. Where nothing is, playing there too would only cost time.
const stages = missing.length > 0 ? servers : running;
if (stages === running) skip("Datastore: conformance of the test server (both emulators are here)", () => {});
const runs = (["deno", "node"] as const).flatMap((runtime) =>
  stages.map((server) => new Conformance(server, runtime))
);
for (const run of runs) {
  for (const title of CASES) {
    const name = `${run.name}: ${title}`;
    if (Object.hasOwn(run.skipped, title)) {
      skip(`${name} (deviates: ${run.skipped[title]})`, () => {});
      continue;
    }
    // The children and their pipes outlive a test.
    test({ name, sanitizeOps: false, sanitizeResources: false }, async () => {
      // All at once, for most of a case is waiting, and each from another case on, for some do a lot.
      runs.forEach((run, i) => run.start(i / runs.length));
      await run.outcomeOf(title);
    });
  }
}

ruleTests(servers);
rpcTests(own, workspace);
inputTests(own, workspace);
workTests(own, running, workspace);
