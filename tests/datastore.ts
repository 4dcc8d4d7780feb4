/** The Datastore backend: against the official emulators where they are installed, and a server of our own. */

import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
import { CASES, testBackend } from "@holdfast/lock/testing";
import { HOW_TO_GET, type Server, startEmulators } from "./datastore/emulators.ts";
import { TestServer } from "./datastore/test_server.ts";
import { Workspace } from "./datastore/workspace.ts";
import { inputTests } from "./datastore/input.ts";
import { rpcTests } from "./datastore/rpcs.ts";
import { ruleTests } from "./datastore/rules.ts";
import { workTests } from "./datastore/work.ts";

const PROJECT = "holdfast-test";
const { test } = Deno;
const skip = test.ignore;

const workspace = await Workspace.make();
const own = await TestServer.start(workspace);
const { running, missing } = await startEmulators();
for (const name of missing) skip(`Datastore: the ${name} is not installed; ${HOW_TO_GET}`, () => {});
const servers: readonly Server[] = [own, ...running];
globalThis.addEventListener("unload", () => {
  for (const server of servers) void server.stop();
  Deno.removeSync(workspace.path, { recursive: true });
});

/** What the backend cannot do on this server, and why. */
function deviations({ tellsTime }: Server): Record<string, string> {
  const noPush = "there is no push: the holder is told at its next renewal";
  const polls = "70 processes that poll cannot hand a lock on 70 times in the few seconds of a case";
  const noClock = "this server tells no time: others' leases are judged by watching only";
  return {
    "steal: the holder is told without asking the store for anything else": noPush,
    "wait: many processes wait, more than have a place in line": polls,
    ...(tellsTime ? {} : {
      "hold: who is robbed by a wrong clock is told, and leaves the robber alone": noClock,
      "steal: who may not wait evicts an old holder and leaves a young one": noClock,
    }),
  };
}

for (const server of servers) {
  const client = await datastoreClient({ projectId: PROJECT, emulatorHost: server.host });
  testBackend({
    name: `${server.name}, REST from Deno`,
    test,
    skip,
    open: () => ({ backend: datastoreBackend(client, { projectId: PROJECT }), close() {} }),
    deviations: deviations(server),
  });
}

for (const server of servers) {
  const skipped = deviations(server);
  const played = CASES.filter((title) => !Object.hasOwn(skipped, title));
  const host = server instanceof TestServer ? server.grpcHost : server.host;
  let child: ReturnType<Workspace["start"]> | undefined;
  for (const title of CASES) {
    const name = `${server.name}, gRPC from Node: ${title}`;
    if (Object.hasOwn(skipped, title)) {
      skip(`${name} (deviates: ${skipped[title]})`, () => {});
      continue;
    }
    // One child plays all cases, so its pipes outlive each test.
    test({ name, sanitizeOps: false, sanitizeResources: false }, async () => {
      child ??= workspace.start("conformance.mjs", [host, JSON.stringify(played)]);
      const { error } = await child.next(title);
      if (title === played.at(-1)) await child[Symbol.asyncDispose]();
      if (error !== undefined) throw new Error(error);
    });
  }
}

ruleTests(servers);
rpcTests(own);
inputTests(own, workspace);
workTests(own, running, workspace);
