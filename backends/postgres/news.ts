/** The text of a message that tells of a commit. */

import type { Change, Entry } from "../../core/backend.ts";
import { indexIn } from "../news_index.ts";
import { DIGITS, WHOLE } from "./statements.ts";

/** A notification is shorter than 8000 bytes. */
const MAX_BYTES = 7999;
/** How many records one message may tell of. */
const MAX_RECORDS = 256;
/** Instead of a record's length: it is deleted; it does not fit in, and must be asked for. */
const GONE = -1;
const TOO_LONG = -2;
/** Names and keys fill a message by themselves: whoever watches anything must look. */
const EVERYTHING = "[null]\n";
const VERSION = new RegExp(`^\\d{${DIGITS}}$`);

/** What a message says. */
export interface News {
  /** The names of the watchers whom it concerns; `null` for all. */
  readonly concerns: readonly string[] | null;
  /** What was changed, as far as it fits in. */
  readonly entries: readonly Entry[];
  /** The keys of what does not fit in; if nothing is told either, it may be any. */
  readonly untold: readonly string[];
}

/**
 * What is sent before the version and, if it is `whole`, the records: a line of JSON with the names of those whom it
 * concerns, or null for all, and the keys, each followed by the length of its record.
 */
export function newsOf(
  changes: readonly Change[],
  concerns: readonly string[] | undefined,
): { readonly index: string; readonly extent: string } {
  const index = (isWhole: boolean) => {
    const told = changes.flatMap((
      { key, value },
    ) => [key, value === null ? GONE : isWhole ? value.length : TOO_LONG]);
    return `${JSON.stringify([concerns ?? null, ...told])}\n`;
  };
  // A character is a byte at least: most records need no closer look.
  const bytes = changes.reduce(
    (sum, { key, value }) => sum + bytesOf(key) + bytesOf(value ?? "") + 8,
    DIGITS,
  );
  const names = concerns === undefined ? 4 : bytesOf(JSON.stringify(concerns));
  if (bytes + names < MAX_BYTES - 100) return { index: index(true), extent: WHOLE };
  const short = index(false);
  const fits = changes.length <= MAX_RECORDS && new TextEncoder().encode(short).length + DIGITS < MAX_BYTES;
  return { index: fits ? short : EVERYTHING, extent: "index" };
}

/** What a message says; `undefined` if it is none of ours. Anybody may have sent it. */
export function newsIn(message: string): News | undefined {
  const found = indexIn(message);
  if (found === undefined) return undefined;
  const { index, end } = found;
  if (index.length % 2 === 0 || index.length > 2 * MAX_RECORDS + 1) return undefined;
  const [concerns, ...told] = index;
  if (concerns !== null && !(Array.isArray(concerns) && concerns.every((name) => typeof name === "string"))) {
    return undefined;
  }
  const version = message.slice(end, end + DIGITS);
  if (!VERSION.test(version)) return undefined;
  const entries: Entry[] = [];
  const untold: string[] = [];
  let at = end + DIGITS;
  for (let i = 0; i < told.length; i += 2) {
    const [key, length] = [told[i], told[i + 1]];
    if (
      typeof key !== "string" || typeof length !== "number" || !Number.isInteger(length) || length < TOO_LONG
    ) return undefined;
    if (length === TOO_LONG) untold.push(key);
    else if (length === GONE) entries.push({ key, value: null, version: null });
    else entries.push({ key, value: message.slice(at, at += length), version });
  }
  return at === message.length ? { concerns, entries, untold } : undefined;
}

/** How many bytes of UTF-8 a text is, escaped as JSON at most twice as many and more: an upper bound. */
function bytesOf(text: string): number {
  // Three bytes for a unit, or six where JSON escapes it, are more than most records need to fit.
  if (text.length * 6 < 2000) return text.length * 6;
  return new TextEncoder().encode(JSON.stringify(text)).length;
}
