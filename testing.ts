/**
 * The laws of a lock as tests, for authors of backends: a factory and one call.
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

export { CASES, testBackend } from "./testing/suite.ts";
export type { BackendTest } from "./testing/suite.ts";
export type { TestPeer } from "./testing/stage.ts";
export type * from "./core/backend.ts";
