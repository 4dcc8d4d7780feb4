import { quote } from "./errors.ts";

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

/** Throws for bad input: the rule that it breaks, and what it is. */
export function refuse(rule: string, value: unknown, Refusal: ErrorConstructor = TypeError): never {
  throw new Refusal(`${rule}, current value is ${describe(value)}`);
}

/** A value as an error message shows it. */
export function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Object.prototype.toString.call(value);
  return String(value);
}
