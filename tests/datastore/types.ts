import type { v1 } from "@google-cloud/datastore";
import type { DatastoreApi } from "@holdfast/lock/backends/datastore";

/** The official client is what the backend takes. Only type-checked. */
export const fits = (client: v1.DatastoreClient): DatastoreApi => client;
