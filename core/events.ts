import { channel } from "node:diagnostics_channel";

const backendErrors = channel("holdfast:backend-error");

/**
 * Tells of a store's failure that no caller can be given, because the caller's own outcome goes first:
 * subscribers of the diagnostics channel `holdfast:backend-error` receive `{ identifier, error }`.
 */
export function publishBackendError(identifier: string, error: unknown): void {
  if (backendErrors.hasSubscribers) backendErrors.publish({ identifier, error });
}
