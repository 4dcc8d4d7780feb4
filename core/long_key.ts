/** What of an identifier every store can hold as a key, in bytes of UTF-8. */
const MAX_KEY_BYTES = 512;
const HASHED = /#sha256:[0-9a-f]{64}$/;
const HASH_CHARS = "#sha256:".length + 64;

/** The key of a long identifier: itself, or as much of it as fits, and a hash that makes it longer than any other. */
export async function longKeyOf(identifier: string): Promise<string> {
  const bytes = new TextEncoder().encode(identifier);
  if (bytes.length <= MAX_KEY_BYTES) return identifier;
  if (HASHED.test(identifier) && bytes.length <= MAX_KEY_BYTES + HASH_CHARS) return identifier;
  // A character that does not fit whole is left out: more might come of it.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const beginning = decoder.decode(bytes.subarray(0, MAX_KEY_BYTES), { stream: true });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${beginning}#sha256:${hash}`;
}
