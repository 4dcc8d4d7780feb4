/** What can be seen from outside of a process that does not end although its work is done: evidence for people. */

import { join } from "node:path";

/** Its threads and what each waits for, what it has open, and its connections; as far as this system shows them. */
export async function autopsy(pid: number): Promise<string> {
  const proc = `/proc/${pid}`;
  const parts: string[] = [];
  for (const task of await namesIn(join(proc, "task"))) {
    const [comm, wchan, state] = await Promise.all(
      ["comm", "wchan", "syscall"].map((file) => textOf(join(proc, "task", task, file))),
    );
    parts.push(`thread ${task}: ${comm}, waits in ${wchan}, system call ${state}`);
  }
  for (const fd of await namesIn(join(proc, "fd"))) {
    parts.push(`open ${fd}: ${await Deno.readLink(join(proc, "fd", fd)).catch(() => "gone")}`);
  }
  const connections = await new Deno.Command("ss", { args: ["-tnpoi"] }).output().then(
    ({ stdout }) => new TextDecoder().decode(stdout),
    (error) => `no connections are shown: ${error.message}`,
  );
  const own = connections.split(/\n(?=\S)/).filter((line) => line.includes(`pid=${pid},`));
  return [...parts, ...own].join("\n") + "\n";
}

async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) names.push(name);
  } catch (error) {
    // Another system, or it has just ended.
    names.length = 0;
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

async function textOf(path: string): Promise<string> {
  return await Deno.readTextFile(path).then((text) => text.trim(), (error) => error.name);
}
