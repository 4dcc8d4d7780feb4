/** The first line of a message about a commit: which changes it announces, as JSON. */

/** What the first line says, and where the rest begins; `undefined` if it is no list. Any client may have sent it. */
export function indexIn(
  message: string,
): { readonly index: readonly unknown[]; readonly end: number } | undefined {
  const end = message.indexOf("\n") + 1;
  try {
    const index: unknown = JSON.parse(message.slice(0, end));
    return Array.isArray(index) ? { index, end } : undefined;
  } catch {
    // It is none of ours.
    return undefined;
  }
}
