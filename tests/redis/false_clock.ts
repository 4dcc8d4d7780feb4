import { spawnSync } from "node:child_process";
import { run } from "../support/run.ts";

/** Why no clock can be bent here, or `undefined`. In CI a missing compiler is a failure, so it is never missing. */
export function missingCompiler(): string | undefined {
  if (spawnSync("cc", ["--version"]).error === undefined) return undefined;
  if (Deno.env.get("CI") === "true") throw new Error("cc is not installed, and in CI it must be");
  return "needs a C compiler: apt-get install gcc libc6-dev";
}

/** A clock for a server, which a file bends. `libfaketime` and the allocator of `redis-server` do not go together. */
export class FalseClock implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async make(): Promise<FalseClock> {
    const folder = await Deno.makeTempDir({ prefix: "holdfast-clock-" });
    const clock = new FalseClock(folder);
    await Deno.writeTextFile(`${folder}/clock.c`, CLOCK);
    await clock.set(0);
    await run(folder, "cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c");
    return clock;
  }

  get env(): Record<string, string> {
    return { LD_PRELOAD: `${this.#folder}/clock.so`, HOLDFAST_CLOCK: `${this.#folder}/seconds` };
  }

  async set(seconds: number): Promise<void> {
    await Deno.writeTextFile(`${this.#folder}/seconds`, `${seconds}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Redis reads the time of day from `gettimeofday` alone. */
const CLOCK = `
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  long result = syscall(SYS_gettimeofday, now, zone);
  const char *path = getenv("HOLDFAST_CLOCK");
  char text[32] = {0};
  int file = path ? open(path, O_RDONLY) : -1;
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(file);
  }
  return result;
}
`;
