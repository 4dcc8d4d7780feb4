/**
 * The conformance suite under Node. Arguments: the server's `host:port`, and the names of the cases to play, as
 * JSON. Plays a few at a time, and says how each has ended.
 */

import process from "node:process";
import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";
import { testBackend } from "@holdfast/lock/testing";

const AT_A_TIME = 3;
const [emulatorHost, wanted] = process.argv.slice(2);
const projectId = "holdfast-test";
const client = await datastoreClient({ projectId, emulatorHost });
const cases = new Map();
testBackend({
  name: "x",
  test: (name, play) => cases.set(name.slice("x: ".length), play),
  open: () => ({ backend: datastoreBackend(client, { projectId }), close() {} }),
});

const names = JSON.parse(wanted);
await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
  for (let name; (name = names.shift()) !== undefined;) {
    const error = await cases.get(name)().then(() => undefined, (error) => error.stack);
    console.log(JSON.stringify({ said: name, error }));
  }
}));
await client.close();
