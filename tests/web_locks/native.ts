// Plays the suite on the runtime's own `navigator.locks`, and prints which cases fail, and how, as JSON.
import type { LockManager } from "../../web_locks.ts";
import { play } from "./stage.ts";
import { casesOf } from "./suite.ts";

const own = (navigator as unknown as { locks: LockManager }).locks;
const failed: Record<string, string> = {};
let count = 0;
for (const one of casesOf()) {
  count++;
  await play(one, { a: own, b: own }).catch((error) => failed[one.says] = String(error).slice(0, 300));
}
console.log(JSON.stringify({ count, failed }));
