/** Four processes under Node that fight for one lock, with holders that die, and a server that fails. */

import { datastoreClient } from "@holdfast/lock/backends/datastore";
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import type { Child, Message } from "../support/child.ts";
import type { Server } from "../support/datastore_emulators.ts";
import { hostFor, TestServer } from "./test_server.ts";
import type { Workspace } from "./workspace.ts";

const PROCESSES = 4;
const WORKERS = 5;
const ROUNDS = 3;
const FREEZES = 3;
const FROZEN_MS = 1000;
/** Every eighth call goes wrong. */
const WEATHER = {
  "unavailable before": 0.02,
  "unavailable after": 0.02,
  lost: 0.01,
  delay: 0.03,
  aborted: 0.03,
  goaway: 0.01,
  reset: 0.005,
};

interface Span {
  readonly token: string;
  readonly from: number;
  readonly to: number;
}

/** Registers the runs. */
export function workTests(own: TestServer, emulators: readonly Server[], workspace: Workspace): void {
  const servers = [own, ...emulators];
  // All at once: most of it is waiting for the leases of crashed processes.
  let runs: Promise<string>[] | undefined;
  servers.forEach((server, i) => {
    Deno.test({
      name:
        `Datastore work: ${PROCESSES} processes of ${WORKERS} on the ${server.name}, 40% of holders dying`,
      // The server's and the children's pipes outlive the test's reads.
      sanitizeOps: false,
      sanitizeResources: false,
      async fn() {
        runs ??= servers.map((server) => play(server, workspace));
        for (const run of runs) run.catch(() => {});
        console.log(await runs[i]);
      },
    });
  });
}

/** Whether the process holds the lock once more. Where a slow emulator refused it often, it may have ended before that. */
async function holdsAgain(child: Child): Promise<boolean> {
  try {
    await child.next("held");
    return true;
  } catch (error) {
    if (!child.hasEnded) throw error;
    return false;
  }
}

/** Resolves to what has happened, for people. */
async function play(server: Server, workspace: Workspace): Promise<string> {
  if (server instanceof TestServer) await server.weather(WEATHER, 7);
  const host = hostFor(server, "node");
  const messages: Message[] = [];
  const args = [host, String(WORKERS), String(ROUNDS)];
  const children = Array.from(
    { length: PROCESSES },
    () => workspace.start("worker.mjs", args, { listen: (message) => void messages.push(message) }),
  );
  try {
    // One process is killed while its workers hold and wait.
    await children[0].next("held");
    children[0].signal("SIGKILL");
    // Another one is frozen for longer than a lease, wherever its workers are.
    for (let i = 0; i < FREEZES; i++) {
      if (!await holdsAgain(children[1])) break;
      children[1].signal("SIGSTOP");
      await delay(FROZEN_MS);
      children[1].signal("SIGCONT");
    }
    await Promise.all(children.slice(1).map((child) => child.next("finished")));
  } finally {
    await Promise.all(children.map((child) => child[Symbol.asyncDispose]()));
    if (server instanceof TestServer) await server.weather({});
  }

  const journal = await linesOf(server);
  const tokens = journal.map((line) => line.split(" ")[0]);
  assertEquals(tokens, tokens.toSorted(), "a fenced write of an older holder came after one of a newer");
  assertEquals(new Set(journal).size, journal.length, "a fenced write was applied twice");
  for (const { line, outcome } of messages.filter(({ said }) => said === "wrote")) {
    if (outcome !== "unknown") assertEquals(journal.includes(line), outcome === "yes", line);
  }

  const held = messages.filter(({ said }) => said === "held");
  const spans = held.flatMap((span) => span.to === undefined ? [] : [span as unknown as Span]);
  spans.sort((a, b) => a.from - b.from);
  const overlaps = spans.flatMap((span, i) =>
    i > 0 && span.from < spans[i - 1].to ? [[spans[i - 1], span]] : []
  );
  assertEquals(overlaps, [], "two held it at once");
  assertEquals(spans.map(({ token }) => token), spans.map(({ token }) => token).toSorted());
  assertEquals(new Set(held.map(({ token }) => token)).size, held.length, "a token was given twice");
  const dead = held.filter(({ dies }) => dies).length;
  assert(dead > 0 && journal.length > PROCESSES * ROUNDS, "nothing has happened");
  const said = (what: string) => messages.filter((message) => message.said === what).length;
  const unknown = messages.filter(({ outcome }) => outcome === "unknown").length;
  return `${held.length} holds, ${dead} of them died; ${journal.length} fenced writes, ${unknown} of unknown ` +
    `outcome; ${said("refused")} acquisitions and ${said("unreleased")} releases failed`;
}

async function linesOf(server: Server): Promise<string[]> {
  const projectId = "holdfast-test";
  const client = await datastoreClient({ projectId, emulatorHost: server.host });
  const keys = [{ partitionId: { projectId }, path: [{ kind: "Journal", name: "fenced" }] }];
  // deno-lint-ignore no-explicit-any
  const [{ found }] = await client.lookup({ projectId, keys }, { timeout: Infinity }) as any[];
  await client.close();
  const { stringValue } = found?.[0]?.entity?.properties?.lines as { stringValue: string };
  return stringValue.trimEnd().split("\n");
}
