/** One process of `exit_test.ts`, under any runtime. Its argument says what it has to do with signals. */

import { writeSync } from "node:fs";
import process from "node:process";
import { memoryBackend } from "../backends/memory.ts";
import { lock, releaseOnExit } from "../mod.ts";

const [does] = process.argv.slice(2);
// At once: what a stream still has to write goes with the process.
const say = (text: string) => writeSync(1, `${text}\n`);

const backend = memoryBackend();
let releases = 0;
const commit = backend.commit.bind(backend);
backend.commit = async (changes) => {
  const isRelease = changes[0].value === null;
  if (isRelease && does === "silent store") {
    say("releasing");
    return await new Promise(() => {});
  }
  // In turns, as a store that is not near.
  if (isRelease && does !== "usual") await new Promise((resolve) => setTimeout(resolve, 50 * ++releases));
  const answer = await commit(changes);
  if (isRelease) say("released");
  return answer;
};

const exit = releaseOnExit(does === "silent store" ? { timeoutMs: 60_000 } : {});
if (does === "listens") {
  process.on("SIGTERM", () => {
    say("heard");
    setTimeout(() => process.exit(7), 300);
  });
}
if (does === "disposed") exit[Symbol.dispose]();
const held = await lock("job", { backend }).acquire();
const others = does === "waits" ? ["a", "b"] : [];
for (const other of others) await lock(other, { backend }).acquire();
if (does === "ends") await held.release();
else setInterval(() => {}, 1000);
say("ready");
// Nothing catches what these reject with: it must not end the process before it has released its locks.
if (does === "waits") await lock("job", { backend }).acquire();
if (does === "runs") {
  await lock("run", { backend }).run(({ signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
  );
}
