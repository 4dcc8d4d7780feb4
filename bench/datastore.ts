/**
 * Calls and time of one lock, here and by the published algorithm of `@google-automations/datastore-lock`, on the
 * same emulator in the same run: `deno task bench:datastore`. Only the ratio means anything.
 *
 * The algorithm, as published: to acquire, begin a transaction, read the lock, write it with an expiry by this
 * machine's clock, commit; to release, begin, read and compare the owner, delete, commit.
 */

import { type DatastoreApi, datastoreBackend, datastoreClient } from "../backends/datastore.ts";
import { Lock } from "../mod.ts";
import { HOW_TO_GET, startEmulators } from "../tests/support/datastore_emulators.ts";

const ROUNDS = 200;
const WAIT_MS = 15_000;
const projectId = "holdfast-bench";

// deno-lint-ignore no-explicit-any
type Anything = any[];

/** Counts the calls. */
function counted(client: DatastoreApi): { api: DatastoreApi; calls: () => number } {
  let calls = 0;
  const api: Record<string, unknown> = {};
  for (const method of ["lookup", "commit", "runQuery", "beginTransaction", "rollback"] as const) {
    api[method] = (request: object, options: object) => {
      calls++;
      return client[method](request, options);
    };
  }
  return { api: api as unknown as DatastoreApi, calls: () => calls };
}

/** The other algorithm, without its back-off: there is no contention here. */
class Published {
  readonly #client: DatastoreApi;
  readonly #owner = crypto.randomUUID();

  constructor(client: DatastoreApi) {
    this.#client = client;
  }

  #in(write: (key: object, owner: string | undefined) => object | undefined) {
    return async (name: string): Promise<boolean> => {
      const options = () => ({ timeout: 5000, retry: { retryCodes: [] } });
      const key = { partitionId: { projectId }, path: [{ kind: "Lock", name }] };
      const [{ transaction }] = await this.#client.beginTransaction({ projectId }, options()) as Anything;
      const request = { projectId, keys: [key], readOptions: { transaction } };
      const [{ found }] = await this.#client.lookup(request, options()) as Anything;
      const owner = found?.[0]?.entity?.properties?.owner as { stringValue: string } | undefined;
      const mutation = write(key, owner?.stringValue);
      if (mutation === undefined) return false;
      await this.#client.commit(
        { projectId, mode: "TRANSACTIONAL", transaction, mutations: [mutation] },
        options(),
      );
      return true;
    };
  }

  readonly acquire = this.#in((key, owner) =>
    owner === undefined
      ? {
        upsert: {
          key,
          properties: {
            owner: { stringValue: this.#owner },
            expires: { integerValue: String(Date.now() + 30_000) },
          },
        },
      }
      : undefined
  );

  readonly release = this.#in((key, owner) => owner === this.#owner ? { delete: key } : undefined);
}

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}

async function timed(times: number[], act: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  await act();
  times.push(performance.now() - started);
}

const { running, missing } = await startEmulators();
for (const name of missing) console.log(`without the ${name}: ${HOW_TO_GET}`);
try {
  console.log("| emulator | | calls: acquire | release | median ms: acquire | release |");
  console.log("| --- | --- | --- | --- | --- | --- |");
  for (const { name, host } of running) {
    const client = await datastoreClient({ projectId, emulatorHost: host });
    const ours = counted(client);
    const theirs = counted(client);
    const backend = datastoreBackend(ours.api, { projectId });
    const other = new Published(theirs.api);
    const times = { ours: [[], []] as number[][], theirs: [[], []] as number[][] };
    const calls = { ours: [0, 0], theirs: [0, 0] };
    // In turns, so that what else the machine does hits both alike.
    for (let i = 0; i < ROUNDS; i++) {
      let held: Lock | null = null;
      const before = [ours.calls(), theirs.calls()];
      await timed(times.ours[0], async () => held = await Lock.acquire(`bench-${i}`, { backend }));
      await timed(times.theirs[0], () => other.acquire(`bench-${i}`));
      const between = [ours.calls(), theirs.calls()];
      await timed(times.ours[1], () => held!.release());
      await timed(times.theirs[1], () => other.release(`bench-${i}`));
      calls.ours[0] += between[0] - before[0];
      calls.theirs[0] += between[1] - before[1];
      calls.ours[1] += ours.calls() - between[0];
      calls.theirs[1] += theirs.calls() - between[1];
    }
    const row = (who: "ours" | "theirs", label: string) => {
      const counts = calls[who].map((count) => (count / ROUNDS).toFixed(1)).join(" | ");
      return `| ${name} | ${label} | ${counts} | ${
        times[who].map((one) => median(one).toFixed(1)).join(" | ")
      } |`;
    };
    console.log(row("ours", "Holdfast"));
    console.log(row("theirs", "datastore-lock's algorithm"));

    const holder = await Lock.acquire("idle", { backend });
    const waiting = counted(client);
    const end = new AbortController();
    const waiter = Lock.acquire("idle", {
      backend: datastoreBackend(waiting.api, { projectId }),
      signal: end.signal,
    }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const from = waiting.calls();
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    const reads = (waiting.calls() - from) * 60_000 / WAIT_MS;
    end.abort();
    await waiter;
    await holder!.release();
    console.log(`a waiting process asks ${reads.toFixed(0)} times a minute (${name}, pollMs 500)`);
    await client.close();
  }
} finally {
  for (const server of running) await server.stop();
}
