/**
 * For tests of code that uses locks: {@linkcode TestClock}, a clock that goes on when the test says so. For authors of
 * backends: {@linkcode testBackend}, the suite that every backend must pass.
 *
 * @example With Deno.test; `test` of `node:test`, `bun:test` and others fit as well
 * ```ts
 * import { testBackend } from "@holdfast/lock/testing";
 * import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
 *
 * const tests = new Map<string, () => Promise<void>>();
 * const store = new MemoryStore();
 * testBackend({
 *   name: "memory",
 *   test: (name, fn) => tests.set(name, fn), // your runner's, such as Deno.test
 *   open: () => ({ backend: memoryBackend({ store }), close() {} }),
 * });
 * await tests.get("memory: hold: a held lock says what it is")?.();
 * ```
 *
 * @module
 */

export { TestClock } from "./testing/clock.ts";
export type { Clock, Timer } from "./core/clock.ts";
export { CASES, testBackend } from "./testing/suite.ts";
export type { BackendTest } from "./testing/suite.ts";
export type { TestPeer } from "./testing/stage.ts";
export type * from "./core/backend.ts";
