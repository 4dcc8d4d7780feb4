/** The command that `loss.ts` runs under a lock: it says when it is asked to end. */

import process from "node:process";
import { now } from "../tests/support/child.ts";

process.on("SIGTERM", () => {
  console.log(`told ${now()}\nbye`);
  process.exit();
});
setInterval(() => {}, 1000);
console.log("ready");
