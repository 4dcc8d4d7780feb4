/**
 * The conformance suite in a separate process, under Node or Deno. Arguments: the server's `host:port`, and
 * the names of the cases to play, as JSON. Says how each has ended.
 */

import process from "node:process";
import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
import { testBackend } from "@holdfast/lock/testing";

/** A lease of 100 ms is short for a server that answers in 20, on a machine that has other work, too. */
const STRETCH = 6;
/** What hangs is to fail; what is slow is to pass. */
const LIMIT_MS = 60_000;
const [emulatorHost, wanted] = process.argv.slice(2);
const projectId = "holdfast-test";
const client = await datastoreClient({ projectId, emulatorHost });
const cases = new Map();
testBackend({
  name: "x",
  test: (name, play) => cases.set(name.slice("x: ".length), play),
  open: () => ({ backend: datastoreBackend(client, { projectId, timeoutMs: LIMIT_MS }), close() {} }),
  stretch: STRETCH,
  limitMs: LIMIT_MS,
});

/** What was rejected and not caught, while the case was played. */
let stray;
process.on("unhandledRejection", (reason) => stray ??= reason);

for (const name of JSON.parse(wanted)) {
  stray = undefined;
  const error = await cases.get(name)().then(() => stray && String(stray), (error) => error.stack);
  console.log(JSON.stringify({ said: name, error }));
}
await client.close();
process.exit();
