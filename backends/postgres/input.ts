/** How bad input is refused. */

import { ownOptions, refuse } from "../../core/validate.ts";
import { LEAST_POLL_MS, type Notifications } from "./subscriptions.ts";

/** How many bytes a name has at most in Postgres, which cuts off the rest. */
const MAX_NAME_BYTES = 63;
const NOTIFICATIONS = ["auto", "listen", "poll"];

/** What the backend is made with. */
export interface StoreOptions {
  readonly table: string;
  readonly schema: string | undefined;
  readonly createTable: boolean;
  readonly notifications: Notifications;
  readonly pollMs: number;
}

/** Fills in the options of a backend. Throws TypeError or RangeError for bad ones. */
export function storeOptions(given: Partial<StoreOptions>): StoreOptions {
  const doing = "make a Postgres backend";
  const names = ["table", "schema", "createTable", "notifications", "pollMs"];
  const { table = "holdfast_lock", schema, createTable = true, notifications = "auto", pollMs = 500 } =
    ownOptions(
      given,
      names,
      doing,
    );
  assertName({ table }, doing);
  if (schema !== undefined) assertName({ schema }, doing);
  if (typeof createTable !== "boolean") {
    refuse(`Cannot ${doing}: 'createTable' must be a boolean`, createTable);
  }
  if (!NOTIFICATIONS.includes(notifications)) {
    refuse(`Cannot ${doing}: 'notifications' must be "auto", "listen" or "poll"`, notifications);
  }
  if (!Number.isInteger(pollMs) || pollMs < LEAST_POLL_MS || pollMs > 60_000) {
    const rule =
      `Cannot ${doing}: 'pollMs' must be a whole number of milliseconds from ${LEAST_POLL_MS} to 60000`;
    refuse(rule, pollMs, typeof pollMs === "number" ? RangeError : TypeError);
  }
  return { table, schema, createTable, notifications, pollMs };
}

function assertName(option: Record<string, unknown>, doing: string): void {
  for (const [name, value] of Object.entries(option)) {
    const rule = `Cannot ${doing}: '${name}' must be a name of 1 to ${MAX_NAME_BYTES} bytes, without NUL`;
    if (typeof value !== "string") refuse(rule, value);
    const bytes = new TextEncoder().encode(value).length;
    if (bytes === 0 || bytes > MAX_NAME_BYTES || value.includes("\0") || !value.isWellFormed()) {
      refuse(rule, value, RangeError);
    }
  }
}
