// What a user writes in TypeScript: all forms of a lock. Compiled by TypeScript for Node, and run as it is by Bun.
import { Lock, lock, type LockOptions } from "@holdfast/lock";
import { memoryBackend } from "@holdfast/lock/backends/memory";

const options = { backend: memoryBackend() } satisfies LockOptions;
const seen: string[] = [];

class Report {
  @lock("x", options)
  async refresh(text: string): Promise<void> {
    seen.push(await Promise.resolve(text));
  }
}

const wrapped: (text: string) => Promise<number> = lock("x", options)((text: string) => seen.push(text));
await wrapped("wrapper");
await new Report().refresh("decorator");
await lock("x", options).run(() => seen.push("run"));
{
  await using held = await lock("x", options).acquire();
  if (held.held) seen.push("scope");
}
const held: Lock | null = await Lock.acquire("x", { ...options, wait: false });
if (await held?.release()) seen.push("hand");
console.log(seen.join(" "));
