import { quote } from "./errors.ts";

/** What of an identifier every store can hold as a key, in bytes of UTF-8. */
const MAX_KEY_BYTES = 512;
const HASHED = /#sha256:[0-9a-f]{64}$/;
const HASH_CHARS = "#sha256:".length + 64;

const encoder = new TextEncoder();

/** Refuses what cannot name a lock. */
export function assertIdentifier(value: unknown, option = "identifier"): asserts value is string {
  if (typeof value !== "string") {
    throw new TypeError(
      `Cannot lock: '${option}' must be a non-empty string, current value is ${describe(value)}`,
    );
  }
  if (value === "") {
    throw new TypeError(`Cannot lock: '${option}' must be a non-empty string, current value is ""`);
  }
  if (!value.isWellFormed()) {
    throw new TypeError(
      `Cannot lock: '${option}' must not contain lone surrogates, current value is ${quote(value)}`,
    );
  }
}

/**
 * The key under which stores keep the lock of an identifier: itself, or for a long one its beginning
 * and a hash. The key of a key is that key, so what a listing shows names the same lock again.
 */
export async function keyOf(identifier: string): Promise<string> {
  const bytes = encoder.encode(identifier);
  if (bytes.length <= MAX_KEY_BYTES) return identifier;
  if (HASHED.test(identifier) && bytes.length <= MAX_KEY_BYTES + HASH_CHARS) return identifier;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${beginning(bytes)}#sha256:${hash}`;
}

/** Whether `keyOf` needs no hash, so that the common case stays free of a turn of the event loop. */
export function isKey(identifier: string): boolean {
  return identifier.length <= MAX_KEY_BYTES / 3;
}

/** As much of the identifier as fits: the hash behind it makes it longer than any key that is none. */
function beginning(bytes: Uint8Array): string {
  let end = MAX_KEY_BYTES;
  // A character that does not fit whole is left out.
  while ((bytes[end] & 0xc0) === 0x80) end--;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, end));
}

/** A value as an error message shows it. */
export function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Object.prototype.toString.call(value);
  return String(value);
}
