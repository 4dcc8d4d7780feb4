/**
 * Cleaning up on a schedule.
 *
 * @module
 */

export { cleanup } from "./mod.ts";
export type { CleanupCounts, CleanupOptions } from "./mod.ts";
