/** A real browser for tests: Chromium, without a window. */

import { type Browser, chromium } from "playwright-core";
import { spawnSync } from "node:child_process";
import { env } from "node:process";

/** The browser to start: `chromium`, or what `HOLDFAST_CHROMIUM` names, such as `google-chrome`. */
const BINARY = env.HOLDFAST_CHROMIUM ?? "/usr/bin/chromium";

/** Why there can be no browser here, or `undefined`. In CI a missing one is a failure, so it is never missing. */
export function missingBrowser(): string | undefined {
  if (spawnSync(BINARY, ["--version"]).error === undefined) return undefined;
  if (env.CI === "true") throw new Error(`${BINARY} is not installed, and in CI it must be`);
  return `needs ${BINARY}: apt-get install chromium, or HOLDFAST_CHROMIUM=<path of a Chromium or Chrome>`;
}

/** Starts the browser. */
export function startBrowser(): Promise<Browser> {
  // Tests may run as root in a container, where Chromium has no separate sandbox and little shared memory.
  return chromium.launch({ executablePath: BINARY, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}
