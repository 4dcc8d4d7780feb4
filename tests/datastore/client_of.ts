/** Datastore clients without a server. */

import type { DatastoreApi } from "../../backends/datastore/api.ts";

/** A client whose calls all do this, except for `others`. */
export function clientOf(
  call: (request: object) => Promise<never>,
  others: Partial<DatastoreApi> = {},
): DatastoreApi {
  return { lookup: call, commit: call, runQuery: call, beginTransaction: call, rollback: call, ...others };
}
