/**
 * Takes, holds and gives back locks on command, in this process or, run as a program, in a separate one, by
 * lines of JSON: `{ do, id, … }`. Argument: the server's `host:port`.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { Lock } from "@holdfast/lock";
import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";

const projectId = "holdfast-rpcs";

export function handsOn(client) {
  const held = new Map();
  const backend = (timeoutMs = 500) => datastoreBackend(client, { projectId, timeoutMs });
  return {
    /** Resolves to the fencing token, or `null` if the lock is taken. */
    async acquire({ id, ...options }) {
      const lock = await Lock.acquire(id, { ...options, backend: backend() });
      held.set(id, lock);
      return lock?.fencingToken ?? null;
    },
    /** Resolves to whether it was held until now. */
    release({ id }) {
      return held.get(id).release();
    },
    /**
     * Commits `value` under each of `ids`, all new, with one call; resolves to whether they are written. Nothing repeats
     * it, and it may be the first call of its process, which has a connection to make.
     */
    async commit({ ids, value = "{}" }) {
      const changes = ids.map((key) => ({ key, version: null, value }));
      return (await backend(10_000).commit(changes)).ok;
    },
  };
}

if (process.argv[1]?.endsWith("hands.mjs")) {
  const client = await datastoreClient({ projectId, emulatorHost: process.argv[2] });
  const hands = handsOn(client);
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: what, number, ...more } = JSON.parse(line);
    hands[what](more).then((value) => ({ value }), (error) => ({ error: error.stack })).then((outcome) =>
      console.log(JSON.stringify({ ...outcome, said: number }))
    );
  }
  process.exit();
}
