/** How names, which may be any strings, become identifiers, which may not. */

/** What is escaped: lone surrogates, which no store keeps, what begins an escape, and what stores put behind identifiers. */
const ESCAPED = /[%#\p{Surrogate}]/gu;
const ESCAPES = /%([0-9A-F]{4})/g;

/** A name as a part of an identifier. */
export function escaped(name: string): string {
  return name.replace(
    ESCAPED,
    (unit) => "%" + unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0"),
  );
}

/** The name that was escaped. */
export function unescaped(text: string): string {
  return text.replace(ESCAPES, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}
