// Plays the suite on the runtime's own `navigator.locks`, and prints which cases fail, and how, as JSON.
import process from "node:process";
import type { LockManager } from "../../web_locks.ts";
import { type Case, play } from "./stage.ts";
import { casesOf, SUITE } from "./suite.ts";

/** How long a case may take: all that one waits for is in this process. Those that deviate may never end. */
const LIMIT_MS = 5000;

const { locks } = navigator as unknown as { readonly locks: LockManager };
const { names, ...others } = SUITE;
const failed: Record<string, string> = {};

async function playOn(one: Case): Promise<void> {
  await play(one, { a: locks, b: locks }, LIMIT_MS).catch((error) => failed[one.says] = String(error));
}

// What deviates may reject without any listener.
process.on("unhandledRejection", () => {});
await Promise.all([...casesOf(others)].map(playOn));
// These ask for the same few names.
for (const one of casesOf({ names })) await playOn(one);
console.log(JSON.stringify(failed));
// What deviates may have left locks that are never released.
process.exit();
