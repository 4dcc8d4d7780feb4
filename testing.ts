/**
 * The laws of a lock as tests, for whoever writes a backend: a factory and one call.
 *
 * @example
 * ```ts
 * import { testBackend } from "@holdfast/lock/testing";
 * import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
 * import { test } from "node:test";
 *
 * function checkMyBackend() {
 *   const store = new MemoryStore();
 *   testBackend({
 *     name: "memory",
 *     test, // or Deno.test, or test from bun:test
 *     open: () => ({ backend: memoryBackend({ store }), close() {} }),
 *   });
 * }
 * void checkMyBackend;
 * ```
 *
 * @module
 */

export { CASES, testBackend } from "./testing/suite.ts";
export type { BackendTest } from "./testing/suite.ts";
export type { TestPeer } from "./testing/stage.ts";
