import { type Input, LOCKING } from "./validate.ts";

/** Identifiers of so many UTF-16 units, which are three bytes of UTF-8 at most, are keys as they are. */
const MAX_PLAIN_UNITS = 170;
/** What of an identifier every store can hold as a key, in bytes of UTF-8. */
const MAX_KEY_BYTES = 512;
const HASHED = /#sha256:[0-9a-f]{64}$/;
const HASH_CHARS = "#sha256:".length + 64;

/** What the key of a lock's queue has behind the key of the lock. No identifier that ends so is a key as it is. */
export const QUEUE = "#queue";

/** Resolves when every hash that was asked for before is known. */
let hashed: Promise<unknown> = Promise.resolve();

/** Refuses what cannot name a lock. */
export function assertIdentifier(
  value: unknown,
  option = "identifier",
  input: Input = LOCKING,
): asserts value is string {
  if (typeof value !== "string" || value === "") {
    input.refuse(`'${option}' must be a non-empty string`, value);
  }
  if (!value.isWellFormed()) input.refuse(`'${option}' must not contain lone surrogates`, value);
}

/** The key of an identifier that is so short that it is its own key: known at once, as in most locks. */
export function plainKeyOf(identifier: string): string | undefined {
  return identifier.length <= MAX_PLAIN_UNITS && !identifier.endsWith(QUEUE) ? identifier : undefined;
}

/** The key under which stores keep the queue of the lock that is kept under `key`. */
export function queueKeyOf(key: string): string {
  return key + QUEUE;
}

/** The key of the lock that a key belongs to: itself, or the one whose queue it is of. */
export function lockKeyOf(key: string): string {
  return key.endsWith(QUEUE) ? key.slice(0, -QUEUE.length) : key;
}

/**
 * The key under which stores keep the lock of an identifier: itself, or for a long one its beginning and a hash. The
 * key of a key is that key, so what a listing shows names the same lock again.
 */
export async function keyOf(identifier: string): Promise<string> {
  const plain = plainKeyOf(identifier);
  if (plain !== undefined) return plain;
  const key = longKeyOf(identifier);
  // A pool of threads makes the hashes, in any order; the callers are answered in the order of their calls.
  const before = hashed;
  hashed = key.then(() => before, () => before);
  await before;
  return await key;
}

/** The key of a long identifier: itself, or as much of it as fits, and a hash that makes it longer than any other. */
async function longKeyOf(identifier: string): Promise<string> {
  const bytes = new TextEncoder().encode(identifier);
  if (bytes.length <= MAX_KEY_BYTES && !identifier.endsWith(QUEUE)) return identifier;
  if (HASHED.test(identifier) && bytes.length <= MAX_KEY_BYTES + HASH_CHARS) return identifier;
  // A character that does not fit whole is left out: more might come of it.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const beginning = decoder.decode(bytes.subarray(0, MAX_KEY_BYTES), { stream: true });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${beginning}#sha256:${hash}`;
}
