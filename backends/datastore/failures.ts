/** What the server's refusals and silences mean. */

import { LockBackendError } from "../../core/errors.ts";
import { causeOf, safeMessageOf } from "../causes.ts";

/** The status codes that are distinguished. */
export const ALREADY_EXISTS = 6;
export const INVALID_ARGUMENT = 3;
export const NOT_FOUND = 5;
export const FAILED_PRECONDITION = 9;
export const ABORTED = 10;
const PERMISSION_DENIED = 7;
const OUT_OF_RANGE = 11;
const UNIMPLEMENTED = 12;
const UNAUTHENTICATED = 16;

/** The codes that waiting does not cure. */
const PERMANENT = new Set([
  INVALID_ARGUMENT,
  NOT_FOUND,
  PERMISSION_DENIED,
  FAILED_PRECONDITION,
  OUT_OF_RANGE,
  UNIMPLEMENTED,
  UNAUTHENTICATED,
]);

/** A call that took too long. */
export class LimitError extends Error {}

/** A failure of a call to `host`, and whether it may pass. */
export function failureOf(cause: unknown, method: string, host = "Datastore"): LockBackendError {
  if (cause instanceof LockBackendError) return cause;
  const code = codeOf(cause);
  const hint = code === PERMISSION_DENIED ? " (the credentials need the role Cloud Datastore User)" : "";
  const transient = code === undefined ? cause instanceof LimitError : !PERMANENT.has(code);
  return new LockBackendError(`${method} at ${host} failed: ${safeMessageOf(cause)}${hint}`, {
    cause: causeOf(cause),
    transient,
  });
}

/** The status code of a failed call. */
export function codeOf(error: unknown): number | undefined {
  const cause = error instanceof LockBackendError ? error.cause : error;
  const code = (cause as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}
