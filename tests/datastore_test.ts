/** The Datastore backend against the official emulators. */

import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
import { testBackend } from "@holdfast/lock/testing";
import { HOW_TO_GET, type Server, startEmulators } from "./datastore/emulators.ts";

const PROJECT = "holdfast-test";
const { test } = Deno;
const skip = test.ignore;

const { running, missing } = await startEmulators();
for (const name of missing) skip(`Datastore: the ${name} is not installed; ${HOW_TO_GET}`, () => {});
globalThis.addEventListener("unload", () => running.forEach((server) => void server.stop()));

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

for (const server of running) {
  const client = await datastoreClient({ projectId: PROJECT, emulatorHost: server.host });
  testBackend({
    name: `${server.name}, REST from Deno`,
    test,
    skip,
    open: () => ({ backend: datastoreBackend(client, { projectId: PROJECT }), close() {} }),
    deviations: deviations(server),
  });
}
