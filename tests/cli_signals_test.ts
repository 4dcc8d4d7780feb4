/** How signals reach a command that `holdfast run` runs, where npm, a shell or a container stands before it. */

import { peek } from "@holdfast/lock";
import { redisBackend } from "@holdfast/lock/backends/redis";
import { assert, assertEquals } from "@std/assert";
import { Redis } from "ioredis6";
import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import process from "node:process";
import { onNode } from "./support/cli_on_node.ts";
import { Program } from "./support/cli_program.ts";
import { missingRedis, RedisServer } from "./support/redis_server.ts";

/** What is run under the lock: it says that it was asked to end, and ends. */
const JOB = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";

/** The ways that docs/operations.md names, each with what npm or a container starts. */
const WAYS: Record<string, (folder: string) => readonly string[]> = {
  "npm run, where the script says exec holdfast": (
    folder,
  ) => ["npm", "--prefix", folder, "--silent", "run", "job"],
  "a shell that says exec holdfast": (
    folder,
  ) => ["sh", "-c", `exec ${folder}/node_modules/.bin/holdfast run x -- sh job`],
  "node_modules/.bin/holdfast": (
    folder,
  ) => [`${folder}/node_modules/.bin/holdfast`, "run", "x", "--", "sh", "job"],
  // As the first process of a container, which no signal ends that it does not handle.
  "an ENTRYPOINT": (folder) => [
    ...["unshare", "--pid", "--fork", "--kill-child"],
    ...[`${folder}/node_modules/.bin/holdfast`, "run", "x", "--", "sh", "job"],
  ],
};

const missing = missingRedis();

/** Why no process can be the first of a separate namespace here. */
function missingNamespaces(): string | undefined {
  const { status } = spawnSync("unshare", ["--pid", "--fork", "true"]);
  return status === 0 ? undefined : "needs Linux and the right to make namespaces of processes";
}

for (const [way, commandIn] of Object.entries(WAYS)) {
  const name = `command line: SIGTERM reaches the command through ${way}, and the lock is released`;
  const why = missing ?? (way === "an ENTRYPOINT" ? missingNamespaces() : undefined);
  if (why !== undefined) {
    Deno.test.ignore(`${name} (${why})`, () => {});
    continue;
  }
  Deno.test(name, async () => {
    await using server = await RedisServer.start();
    const store = `redis://127.0.0.1:${server.port}`;
    const folder = dirname(await onNode());
    await Deno.writeTextFile(`${folder}/job`, JOB);
    await Deno.writeTextFile(
      `${folder}/package.json`,
      JSON.stringify({ scripts: { job: "exec holdfast run x -- sh job" } }),
    );
    await using program = new Program({ program: commandIn(folder), store, folder });
    await program.says("ready");
    const pid = way === "an ENTRYPOINT" ? await onlyChildOf(program.pid) : program.pid;
    process.kill(pid, "SIGTERM");
    await program.says("asked");
    await program.outcome();
    const client = new Redis(server.port, "127.0.0.1");
    const ended = new Promise((resolve) => client.once("end", resolve));
    const backend = redisBackend(client);
    assertEquals((await peek("x", { backend })).holders, []);
    await backend[Symbol.asyncDispose]();
    client.disconnect();
    await ended;
  });
}

async function onlyChildOf(pid: number): Promise<number> {
  const children = (await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`)).trim().split(" ");
  assert(children.length === 1, `it has the children ${children}`);
  return Number(children[0]);
}
