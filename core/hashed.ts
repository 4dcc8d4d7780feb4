/** As much of an identifier as fits, and its hash, which makes it longer than any key that has none. */
export async function hashed(bytes: Uint8Array<ArrayBuffer>, maxBytes: number): Promise<string> {
  // A character that does not fit whole is left out: more might come of it.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const beginning = decoder.decode(bytes.subarray(0, maxBytes), { stream: true });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${beginning}#sha256:${hash}`;
}
