/**
 * A wall clock for one process that can be set while it runs, as an operator or a time server does. Our own library that
 * is loaded before the C library: `libfaketime` bends the monotonic clock, too, and does not go together with every runtime.
 */

import { spawnSync } from "node:child_process";
import { run } from "../support/run.ts";

/** Why there can be none here, or `undefined`. */
export function missingCompiler(): string | undefined {
  if (Deno.build.os !== "linux") return "clocks are set on Linux only";
  if (spawnSync("cc", ["--version"]).error === undefined) return undefined;
  return "clocks cannot be set without a C compiler: apt-get install gcc libc6-dev";
}

/** Makes the library in this folder. */
export async function compileClock(folder: string): Promise<string> {
  const path = `${folder}/clock.so`;
  await Deno.writeTextFile(`${folder}/clock.c`, SOURCE);
  await run(folder, "cc", "-O1", "-shared", "-fPIC", "-o", path, "clock.c");
  return path;
}

/** By how much the wall clock of one process is wrong: a number in a file that the process maps into its memory. */
export class WallClock {
  readonly env: Record<string, string>;
  readonly #path: string;
  offsetMs = 0;

  constructor(library: string, path: string) {
    this.#path = path;
    this.env = { LD_PRELOAD: library, HOLDFAST_CLOCK: path };
    this.set(0);
  }

  set(offsetMs: number): void {
    this.offsetMs = offsetMs;
    // Written in place: the process has mapped this very file.
    using file = Deno.openSync(this.#path, { write: true, create: true });
    file.writeSync(new Uint8Array(new BigInt64Array([BigInt(offsetMs)]).buffer));
  }
}

const SOURCE = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset;

static long long offset_ms(void) {
  if (!offset) {
    static long long none = 0;
    void *map = MAP_FAILED;
    const char *path = getenv("HOLDFAST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file >= 0) {
      map = mmap(0, sizeof none, PROT_READ, MAP_SHARED, file, 0);
      close(file);
    }
    offset = map == MAP_FAILED ? &none : map;
  }
  return *offset;
}

int clock_gettime(clockid_t which, struct timespec *now) {
  int result = syscall(SYS_clock_gettime, which, now);
  if (result != 0 || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE)) return result;
  long long nanos = now->tv_nsec + (offset_ms() % 1000) * 1000000;
  now->tv_sec += offset_ms() / 1000 + (nanos >= 1000000000) - (nanos < 0);
  now->tv_nsec = (nanos + 1000000000) % 1000000000;
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (out) *out = exact.tv_sec;
  return exact.tv_sec;
}
`;
