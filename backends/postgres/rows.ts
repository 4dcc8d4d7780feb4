/** What the server keeps, as entries. */

import type { Entry } from "../../core/backend.ts";
import type { PostgresRow } from "./clients.ts";
import { unexpected } from "./failures.ts";
import { DIGITS } from "./statements.ts";

/** The time of an answer, or a version: microseconds since 1970. */
const MICROS = new RegExp(`^-?\\d{1,${DIGITS}}$`);

/** A key as the table holds it: a text of Postgres has no NUL in it. */
export function identifierOf(key: string): string {
  return /[\\\0]/.test(key) ? key.replaceAll("\\", "\\\\").replaceAll("\0", "\\0") : key;
}

/** The key that an identifier in the table stands for. */
export function keyIn(identifier: string): string {
  if (!identifier.includes("\\")) return identifier;
  return identifier.replace(/\\(.)/gs, (_, char) => char === "0" ? "\0" : char);
}

/** A column that must be a text. */
export function textIn(row: PostgresRow, column: string): string {
  const value = row[column];
  if (typeof value === "string") return value;
  throw unexpected(`a row whose '${column}' is ${value === null ? "null" : `a ${typeof value}`}`);
}

/** The server's time, in milliseconds. */
export function timeIn(row: PostgresRow): number {
  const text = textIn(row, "now");
  if (!MICROS.test(text)) throw unexpected("a time that is none");
  return Number(text) / 1000;
}

/** A version as all others see it. */
export function versionIn(row: PostgresRow): string {
  const text = textIn(row, "version");
  if (!MICROS.test(text)) throw unexpected("a version that is none");
  return text.padStart(DIGITS, "0");
}

/** The entry of `key` in a row: a row without a record is what a deleted one has left. */
export function entryOf(key: string, row: PostgresRow | undefined): Entry {
  if (row === undefined || row.record === null) return { key, value: null, version: null };
  return { key, value: textIn(row, "record"), version: versionIn(row) };
}
