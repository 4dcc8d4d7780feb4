import { refuse } from "./validate.ts";

/** Identifiers of so many UTF-16 units, which are three bytes of UTF-8 at most, are keys as they are. */
const MAX_KEY_UNITS = 170;

/** Refuses what cannot name a lock. */
export function assertIdentifier(value: unknown, option = "identifier"): asserts value is string {
  if (typeof value !== "string" || value === "") {
    refuse(`Cannot lock: '${option}' must be a non-empty string`, value);
  }
  if (!value.isWellFormed()) refuse(`Cannot lock: '${option}' must not contain lone surrogates`, value);
}

/**
 * The key under which stores keep the lock of an identifier: itself, or for a long one its beginning
 * and a hash. The key of a key is that key, so what a listing shows names the same lock again. A promise only for
 * long ones: the common case stays free of a turn of the event loop.
 */
export function keyOf(identifier: string): string | Promise<string> {
  if (identifier.length <= MAX_KEY_UNITS) return identifier;
  return import("./long_key.ts").then(({ longKeyOf }) => longKeyOf(identifier));
}
