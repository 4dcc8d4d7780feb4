/**
 * Text of others (identifiers, labels, messages of stores) where people read it. A process that may write to the
 * store could otherwise clear the operator's terminal, forge a line of a log, or turn round what stands there:
 * control characters, invisible format characters and line separators are shown as the escapes of JSON, so that
 * what is JSON stays so. The one place that says which characters those are.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped);
}

/** All UTF-16 units of a character, as JSON writes them. */
function escaped(character: string): string {
  return character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
