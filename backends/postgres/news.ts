/** The text of a message that announces a commit. */

import type { Change, Entry } from "../../core/backend.ts";
import { indexIn } from "../news_index.ts";
import { DIGITS, WHOLE } from "./statements.ts";

/** A notification is shorter than 8000 bytes. */
const MAX_BYTES = 7999;
/** How many records one message may announce. */
const MAX_RECORDS = 256;
/** Instead of a record's length: it is deleted; it does not fit in, and must be asked for. */
const GONE = -1;
const TOO_LONG = -2;
/** Names and keys fill a message by themselves: every watcher must look. */
const EVERYTHING = "[null]\n";
const VERSION = new RegExp(`^\\d{${DIGITS}}$`);

/** What a message says. */
export interface News {
  /** The names of the watchers that it concerns; `null` for all. */
  readonly concerns: readonly string[] | null;
  /** What was changed, as far as it fits in. */
  readonly entries: readonly Entry[];
  /** The keys of what does not fit in; if there are none either, it may be any. */
  readonly untold: readonly string[];
}

/**
 * What is sent before the version and, if it is `whole`, the records: a line of JSON with the names of those that it
 * concerns, or null for all, and the keys, each followed by the length of its record.
 */
export function newsOf(
  changes: readonly Change[],
  concerns: readonly string[] | undefined,
): { readonly index: string; readonly extent: string } {
  if (changes.length > MAX_RECORDS) return { index: EVERYTHING, extent: "index" };
  const names = concerns === undefined ? "null" : JSON.stringify(concerns);
  const index = indexOf(names, changes, (value) => value.length);
  if (fits(index, changes)) return { index, extent: WHOLE };
  const short = indexOf(names, changes, () => TOO_LONG);
  return { index: fits(short, []) ? short : EVERYTHING, extent: "index" };
}

/** The first line of a message, with what it says of each record that is not deleted. */
function indexOf(names: string, changes: readonly Change[], say: (value: string) => number): string {
  let index = `[${names}`;
  for (const { key, value } of changes) {
    index += `,${JSON.stringify(key)},${value === null ? GONE : say(value)}`;
  }
  return `${index}]\n`;
}

/** Whether a line, a version and records fit into a notification. */
function fits(index: string, changes: readonly Change[]): boolean {
  let units = index.length + DIGITS;
  for (const { value } of changes) units += value?.length ?? 0;
  // A unit is three bytes of UTF-8 at most: most messages need no closer look.
  if (3 * units <= MAX_BYTES) return true;
  const encoder = new TextEncoder();
  let bytes = encoder.encode(index).length + DIGITS;
  for (const { value } of changes) bytes += encoder.encode(value ?? "").length;
  return bytes <= MAX_BYTES;
}

/** What a message says; `undefined` if it is none of ours. Any client may have sent it. */
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
