/** Asks a server that does not answer for a lock, says what comes of it, and ends. */

import process from "node:process";
import { Lock } from "@holdfast/lock";
import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";

const projectId = "holdfast-input";
const client = await datastoreClient({ projectId, emulatorHost: process.argv[2] });
const backend = datastoreBackend(client, { projectId });
await Lock.acquire("x", { backend, waitForMs: 300, leaseMs: 3000 }).catch((error) =>
  console.log(JSON.stringify({ said: "refused", error: error.name, message: error.message, at: 0 }))
);
await client.close();
