// Stands in for jsr:@std/async where JSR cannot be reached: only what the tests use.
import { setTimeout } from "node:timers/promises";

export async function delay(ms: number, options: { signal?: AbortSignal } = {}): Promise<void> {
  await setTimeout(ms, undefined, options);
}
