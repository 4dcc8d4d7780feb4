/** One process of `cron_test.ts`. Its arguments are what it does and the database file. */

import { kvBackend } from "../backends/kv.ts";
import { cleanup, registerCleanup } from "../cron.ts";
import type { LockEvents } from "../mod.ts";
import { subscribe } from "node:diagnostics_channel";
import { commands, say } from "./support/child.ts";

const [does, path] = Deno.args;
const kv = await Deno.openKv(path);
const backend = kvBackend(kv);

if (does === "clean") {
  await cleanup({ backend, onProgress: (counts) => say("progress", { counts }) });
  say("cleaned");
} else {
  subscribe("holdfast:bailed", (message) => {
    const { identifier, outcome } = message as LockEvents["holdfast:bailed"];
    if (identifier === "holdfast-cleanup") say("skipped", { outcome });
  });
  // Deno fires all jobs this often, whatever their schedule.
  Deno.env.set("DENO_CRON_TEST_SCHEDULE_OFFSET", "100");
  const ending = new AbortController();
  const { signal } = ending;
  const registered = registerCleanup({ backend, signal, onProgress: (counts) => say("cleaned", { counts }) });
  say("registered");
  for await (const _ of commands()) {
    ending.abort();
    await registered;
    break;
  }
  say("ended");
}
kv.close();
