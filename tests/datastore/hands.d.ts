import type { DatastoreApi } from "@holdfast/lock/backends/datastore";

/** What can be asked; see `hands.mjs`. */
export type Asked = "acquire" | "release" | "commit";

export function handsOn(
  client: DatastoreApi,
): Record<Asked, (how: Record<string, unknown>) => Promise<unknown>>;
