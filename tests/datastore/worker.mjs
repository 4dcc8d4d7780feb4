/**
 * One process of the run with deaths and faults. Arguments: the server's `host:port`, how many workers, how many
 * rounds each. A round takes the lock, makes two fenced writes with a pause between, and ends with a release or,
 * for 40 of 100, with the death of the holder: no release, no renewal. Says every write and what became of it.
 */

import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { Lock, LockBackendError, LockLostError } from "@holdfast/lock";
import { commitIfHeld, datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";

const [emulatorHost, workers, rounds] = process.argv.slice(2);
const projectId = "holdfast-test";
const leaseMs = 700;
const client = await datastoreClient({ projectId, emulatorHost });
const key = { path: [{ kind: "Journal", name: "fenced" }] };
const shared = backend();
let writes = 0;

function backend() {
  return datastoreBackend(client, { projectId, pollMs: 100, timeoutMs: 400 });
}

function say(said, more = {}) {
  console.log(JSON.stringify({ ...more, said, at: Date.now() }));
}

/** Appends a line to the journal, in a transaction that proves the lock. */
async function write(held) {
  const line = `${held.fencingToken} ${process.pid}.${++writes}`;
  try {
    const { ok } = await commitIfHeld(held, async (tx) => {
      const [journal] = await tx.lookup(key);
      const before = journal?.properties.lines.stringValue ?? "";
      tx.upsert({
        key,
        properties: { lines: { stringValue: `${before}${line}\n`, excludeFromIndexes: true } },
      });
    });
    say("wrote", { line, outcome: ok ? "yes" : "no" });
  } catch (error) {
    if (error instanceof LockLostError) return say("wrote", { line, outcome: "no" });
    if (error instanceof LockBackendError) return say("wrote", { line, outcome: "unknown" });
    throw error;
  }
}

async function work(number) {
  // Some stand in one local line, as in a server; some come as if from a separate process.
  const mine = number % 2 === 0 ? shared : backend();
  for (let round = 0; round < rounds; round++) {
    const dies = Math.random() < 0.4;
    let held;
    try {
      held = await Lock.acquire("worked", {
        backend: mine,
        leaseMs,
        renew: !dies,
        label: `${process.pid}.${number}`,
      });
    } catch (error) {
      if (!(error instanceof LockBackendError)) throw error;
      say("refused", { error: error.message });
      continue;
    }
    // The machine's wall clock, which all processes share: a process that is interrupted at its start may have a
    // performance.timeOrigin that is wrong by more than a hand-over takes. It counts whole milliseconds.
    const from = Date.now() + 1;
    await write(held);
    await sleep(Math.random() * 20);
    await write(held);
    const to = Date.now();
    // A process that was frozen may have lost it long ago.
    say("held", { token: held.fencingToken, from, to: held.held ? to : undefined, dies });
    if (!dies) await held.release().catch((error) => say("unreleased", { error: error.message }));
  }
}

await Promise.all(Array.from({ length: Number(workers) }, (_, number) => work(number)));
say("finished");
process.exit();
