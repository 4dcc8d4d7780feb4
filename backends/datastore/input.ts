/** How bad input is refused. */

import { describeClient, ownOptions, refuse } from "../../core/validate.ts";
import type { DatastoreApi } from "./api.ts";
import { isReserved, MAX_NAME_BYTES } from "./entities.ts";

/** The least time between two looks at a lock: at one that has just changed. */
export const LEAST_POLL_MS = 25;

/** What the backend is made with. */
export interface StoreOptions {
  readonly projectId: string;
  readonly databaseId: string;
  readonly namespace: string;
  readonly entityKind: string;
  readonly pollMs: number;
  readonly timeoutMs: number;
}

/** Refuses what is not a client of the kind that shows versions. */
export function assertClient(client: unknown): asserts client is DatastoreApi {
  const methods = ["lookup", "commit", "runQuery", "beginTransaction", "rollback"] as const;
  const candidate = client as Partial<Record<string, unknown>> | null | undefined;
  const missing = methods.find((name) => typeof candidate?.[name] !== "function");
  if (missing === undefined) return;
  const highLevel = typeof candidate?.createQuery === "function" && typeof candidate.get === "function";
  throw new TypeError(
    "Cannot make a Datastore backend: 'client' must be a v1.DatastoreClient, " +
      (highLevel
        ? "and this is a Datastore, which hides the versions of entities. Write instead:\n" +
          '  import { datastoreBackend, datastoreClient } from "@holdfast/lock/backends/datastore";\n' +
          "  const backend = datastoreBackend(await datastoreClient({ projectId }), { projectId });"
        : `current value lacks '${missing}': ${describeClient(client)}`),
  );
}

/** Fills in the options of a backend. Throws TypeError or RangeError for bad ones. */
export function storeOptions(given: Partial<StoreOptions>): StoreOptions {
  const doing = "make a Datastore backend";
  const names = ["projectId", "databaseId", "namespace", "entityKind", "pollMs", "timeoutMs"];
  const own = ownOptions(given ?? {}, names, doing);
  const database = assertDatabase(own, doing);
  const { namespace = "", entityKind = "HoldfastLock", pollMs = 500, timeoutMs = 5000 } = own;
  if (typeof namespace !== "string" || !/^[\w.-]{0,100}$/.test(namespace) || isReserved(namespace)) {
    refuse(
      `Cannot ${doing}: 'namespace' must be a string of up to 100 letters, digits, '.', '_' and '-' that is not ` +
        "of the form __…__",
      namespace,
    );
  }
  const kindBytes = typeof entityKind === "string" ? new TextEncoder().encode(entityKind).length : 0;
  if (kindBytes === 0 || kindBytes > MAX_NAME_BYTES || isReserved(entityKind)) {
    refuse(
      `Cannot ${doing}: 'entityKind' must be a string of 1 to ${MAX_NAME_BYTES} bytes that is not of the form __…__`,
      entityKind,
    );
  }
  assertMs({ pollMs }, LEAST_POLL_MS, doing);
  assertMs({ timeoutMs }, 100, doing);
  return { ...database, namespace, entityKind, pollMs, timeoutMs };
}

/** The database that options name. Throws TypeError if they name none. */
export function assertDatabase(
  options: { readonly projectId?: unknown; readonly databaseId?: unknown } | undefined,
  doing: string,
): { readonly projectId: string; readonly databaseId: string } {
  const { projectId, databaseId = "" } = options ?? {};
  if (typeof projectId !== "string" || projectId === "") {
    refuse(`Cannot ${doing}: 'projectId' must be a non-empty string`, projectId);
  }
  if (typeof databaseId !== "string") refuse(`Cannot ${doing}: 'databaseId' must be a string`, databaseId);
  return { projectId, databaseId };
}

function assertMs(option: Record<string, unknown>, least: number, doing: string): void {
  for (const [name, value] of Object.entries(option)) {
    if (Number.isInteger(value) && Number(value) >= least && Number(value) <= 60_000) continue;
    const rule = `Cannot ${doing}: '${name}' must be a whole number of milliseconds from ${least} to 60000`;
    refuse(rule, value, typeof value === "number" ? RangeError : TypeError);
  }
}
