/** What the client's answers say. They come as `unknown`, and are refused if they are not what the API promises. */

import { LockBackendError } from "../../core/errors.ts";
import { describe } from "../../core/validate.ts";
import type { DatastoreEntity, DatastoreKey } from "./api.ts";

/** An entity as it is stored. */
export interface Found {
  readonly entity: DatastoreEntity;
  /** As the core compares it. */
  readonly version: string;
}

/** What a client's promise resolves to begins with the answer. */
export function answerOf(resolved: unknown): unknown {
  return listOf(resolved, "a call")[0];
}

/** The moment of the answer by the server's clock, in milliseconds since the Unix epoch; not all servers send it. */
export function timeOf(answer: unknown): number | undefined {
  const { commitTime, readTime } = fieldsOf(answer, "a call");
  const time = commitTime ?? readTime;
  if (time === null || time === undefined) return undefined;
  const { seconds, nanos } = fieldsOf(time, "a time");
  // The client returns 64-bit numbers as strings, or as its own objects.
  const ms = Number(String(seconds ?? 0)) * 1000 + Number(nanos ?? 0) / 1e6;
  if (Number.isFinite(ms)) return ms;
  throw malformed(time, "a time");
}

/** The entities that a lookup has found, and the keys that it has not looked up for want of time. */
export function lookedUp(answer: unknown): { found: readonly Found[]; deferred: readonly DatastoreKey[] } {
  const { found, deferred } = fieldsOf(answer, "a lookup");
  return {
    found: listOf(found, "a lookup").map((result) => foundOf(result, "a lookup")),
    deferred: listOf(deferred, "a lookup") as DatastoreKey[],
  };
}

/** The version that a commit has made; `undefined` if it was not applied because of a `baseVersion`. */
export function committed(answer: unknown): string | undefined {
  const { mutationResults } = fieldsOf(answer, "a commit");
  const results = listOf(mutationResults, "a commit").map((result) => fieldsOf(result, "a commit"));
  if (results.some(({ conflictDetected }) => conflictDetected)) return undefined;
  const version = versionOf(results[0]?.version);
  if (version !== undefined) return version;
  throw new LockBackendError("Datastore answered a commit without a version");
}

/** One page of a query. */
export function queried(answer: unknown): { results: readonly Found[]; last: boolean; endCursor: unknown } {
  const { batch } = fieldsOf(answer, "a query");
  const { entityResults, moreResults, endCursor } = fieldsOf(batch ?? {}, "a query");
  const results = listOf(entityResults, "a query").map((result) => foundOf(result, "a query"));
  // An enumeration comes as its name or as its number.
  const last = results.length === 0 || moreResults === "NO_MORE_RESULTS" || moreResults === 3;
  return { results, last, endCursor: endCursor ?? undefined };
}

/** The name of the transaction that was begun. */
export function begun(answer: unknown): unknown {
  const { transaction } = fieldsOf(answer, "the beginning of a transaction");
  if (transaction) return transaction;
  throw new LockBackendError("Datastore began a transaction without a name");
}

function foundOf(result: unknown, what: string): Found {
  const { entity, version } = fieldsOf(result, what);
  fieldsOf(entity, what);
  const text = versionOf(version);
  if (text !== undefined) return { entity: entity as DatastoreEntity, version: text };
  throw new LockBackendError(`Datastore answered ${what} with an entity without a version`);
}

/** A version as the core compares it: its order as a string is its order as a number. */
function versionOf(version: unknown): string | undefined {
  const digits = String(version ?? "");
  return /^[1-9]\d{0,19}$/.test(digits) ? digits.padStart(20, "0") : undefined;
}

function fieldsOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw malformed(value, what);
}

/** A list, which may be left out when it is empty. */
function listOf(value: unknown, what: string): readonly unknown[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value;
  throw malformed(value, what);
}

function malformed(value: unknown, what: string): LockBackendError {
  return new LockBackendError(
    `Datastore answered ${what} with ${describe(value)}: is the client a v1.DatastoreClient?`,
  );
}
