/** One process of `handoff.ts`. Its arguments: the database file. */

import { cpuUsage } from "node:process";
import { kvBackend } from "../backends/kv.ts";
import { Lock } from "../mod.ts";
import { commands, now, say } from "../tests/support/child.ts";

type Command =
  /** Holds for `holdMs` and hands on, `times` over. */
  | { do: "pass"; times: number; holdMs: number }
  /** Holds until the next command. */
  | { do: "hold" }
  | { do: "release" }
  /** Waits for the lock, for as long as it takes; says so when it gets it. */
  | { do: "wait" }
  /** Says how much processor time it has used. */
  | { do: "cpu" };

const kv = await Deno.openKv(Deno.args[0]);
const backend = kvBackend(kv, { skewMs: 0 });
let held: Lock | null = null;

async function obey(command: Command): Promise<void> {
  switch (command.do) {
    case "pass": {
      const rounds: { asked: number; from: number; released: number }[] = [];
      for (let i = 0; i < command.times; i++) {
        const asked = now();
        const held = (await Lock.acquire("baton", { backend }))!;
        const from = now();
        await new Promise((resolve) => setTimeout(resolve, command.holdMs));
        await held.release();
        rounds.push({ asked, from, released: now() });
      }
      return say("passed", { rounds });
    }
    case "hold":
    case "wait":
      held = await Lock.acquire("baton", { backend });
      return say("held");
    case "release":
      await held!.release();
      return say("released");
    case "cpu": {
      const { user, system } = cpuUsage();
      return say("used", { cpuMs: (user + system) / 1000 });
    }
  }
}

say("started");
for await (const command of commands<Command>()) {
  obey(command).catch((error) => say("failed", { error: error.stack }));
}
Deno.exit();
