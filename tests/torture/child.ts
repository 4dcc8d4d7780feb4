/**
 * One process of a torture run, under any runtime. Its argument is a {@linkcode Role}, as JSON. It writes down what it does in a separate log, says that it has started, and ends by itself once it is asked to: what then keeps it alive is a leak.
 */

import { Redis } from "ioredis6";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers";
import { openStore } from "../processes/stores.ts";
import { commands, say } from "../support/child.ts";
import { type BadLock, badLock } from "./bad_locks.ts";
import { type Lanes, playAll, playEach } from "./lanes.ts";
import { Log } from "./log.ts";
import { type Acquire, holdfast } from "./tested_lock.ts";
import { Witness } from "./witness.ts";

/** What a process is to do. */
export interface Role {
  readonly name: string;
  readonly runtime: string;
  /** The store, and its address. */
  readonly kind: string;
  readonly address: string;
  /** Where logs and marks are kept. */
  readonly folder: string;
  readonly leaseMs: number;
  /** How far the clocks of the processes may differ, where no server gives the time. */
  readonly skewMs: number;
  /** The locks that are known to be bad that it plays, next to Holdfast; if there is none, it plays all lanes. */
  readonly bad: readonly BadLock[];
}

const SIZE_EVERY_MS = 5000;
/** After how long a process that is done should not be there any more. */
const KEPT_MS = 5000;

const role = JSON.parse(process.argv[2]) as Role;
const log = new Log(join(role.folder, "logs", `${role.name}.jsonl`));
log.write({ do: "start", name: role.name, runtime: role.runtime });
const store = await openStore(role.kind, role.address, role.skewMs);
let isOver = false;
const lanes: Lanes = {
  name: role.name,
  store,
  acquire: holdfast(store),
  log,
  witness: new Witness(join(role.folder, "marks"), log),
  leaseMs: role.leaseMs,
  isOver: () => isOver,
};
const client = role.bad.length > 0 ? new Redis(role.address) : undefined;
client?.on("error", () => {});

function play(): Promise<void> {
  if (client === undefined) return playAll(lanes);
  const locks = new Map<string, Acquire>([["holdfast", lanes.acquire]]);
  for (const fault of role.bad) locks.set(fault, badLock(fault, client));
  return playEach(lanes, locks);
}

const sizes = setInterval(
  () => log.write({ do: "size", rssBytes: process.memoryUsage().rss }),
  SIZE_EVERY_MS,
);
const playing = play();
say("started");
for await (const command of commands<{ do: "end" }>()) {
  if (command.do === "end") break;
}
isOver = true;
await playing;
clearInterval(sizes);
await store.close();
client?.disconnect();
log.write({ do: "end" });
say("ended");
// Only what should not be there keeps it alive for so long.
setTimeout(() => log.write({ do: "kept", by: process.getActiveResourcesInfo?.() ?? [] }), KEPT_MS).unref();
