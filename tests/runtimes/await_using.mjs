// Plain JavaScript where the language has `await using`.
import { Lock, lock } from "@holdfast/lock";
import { memoryBackend } from "@holdfast/lock/backends/memory";

const backend = memoryBackend();
const seen = [];
{
  await using held = await lock("x", { backend }).acquire();
  if (held.held) seen.push("held");
}
if (await Lock.acquire("x", { backend, wait: false })) seen.push("released");
console.log(seen.join(" "));
