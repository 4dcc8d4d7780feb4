/** What the server's errors mean. */

import { LockBackendError } from "../../core/errors.ts";
import { causeOf } from "../causes.ts";
import type { Trouble } from "../trouble.ts";

/** The SQLSTATEs that are distinguished. */
const UNDEFINED_TABLE = "42P01";
const SERIALIZATION_FAILURE = "40001";
const DEADLOCK = "40P01";
const INSUFFICIENT_PRIVILEGE = "42501";

/** There is no such prepared statement, or there is one already: a pooler has changed the connection. */
const LOST_STATEMENTS = new Set(["26000", "42P05"]);
/** A column, a type or an index is not what the statements take it for. */
const OTHER_SHAPE = new Set([
  "42703",
  "42804",
  "42883",
  "42809",
  "42P10",
  "23502",
  "23514",
  "42P17",
  "428C9",
]);
/** Another process is about to make the same thing, or has made it. */
const MADE_MEANWHILE = new Set(["23505", "42P07", "42710"]);

/**
 * The classes, and the single codes, that pass by waiting: connections that break, a server that starts, stops, fails over
 * or is full, that is for reading only, or that has ended a statement that took too long.
 */
const PASSING = /^(08|53|57|40|55P03|25006|25P0[34]|XX000|58030)/;

/** How clients say that they were closed, and not that something broke. */
const CLOSED =
  /after calling end on the pool|Client was closed|not queryable|CONNECTION_ENDED|PGlite is closed|Connection closed/i;

/** What the failures say of the table. */
export interface Circumstances {
  /** Its name as messages show it. */
  readonly table: string;
  /** Whether the client is closed for good. */
  readonly closed: boolean;
  /** What has gone wrong since the server last answered. */
  readonly trouble: Trouble;
}

/** The SQLSTATE, or the client's own code, of an error. */
export function codeOf(error: unknown): string | undefined {
  const cause = error instanceof LockBackendError ? error.cause : error;
  const code = (cause as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}

/** What a failure is called, and whether it may pass. */
export function failureOf(error: unknown, { table, closed, trouble }: Circumstances): LockBackendError {
  if (error instanceof LockBackendError) return error;
  const cause = causeOf(error);
  const { message } = cause;
  const code = codeOf(error) ?? "";
  if (closed || CLOSED.test(message) || CLOSED.test(code)) {
    return new LockBackendError(trouble.explain(`the Postgres client is closed (${message})`), { cause });
  }
  if (code === UNDEFINED_TABLE) {
    return new LockBackendError(
      `the table ${table} does not exist: docs/postgres.md has the statement that creates it (${message})`,
      { cause },
    );
  }
  if (code === INSUFFICIENT_PRIVILEGE) {
    return new LockBackendError(
      `a privilege is missing, and SELECT, INSERT, UPDATE and DELETE on ${table} are needed (${message})`,
      { cause },
    );
  }
  if (OTHER_SHAPE.has(code)) {
    return new LockBackendError(
      `the table ${table} is none of Holdfast's, or one of another version (${message})`,
      { cause },
    );
  }
  // What has no SQLSTATE is the network's or the client's; a bad row or type is neither.
  const isSqlState = /^[0-9A-Z]{5}$/.test(code);
  const transient = isSqlState ? PASSING.test(code) : !(error instanceof TypeError);
  return new LockBackendError(transient ? trouble.explain(message) : message, { cause, transient });
}

/** Whether the table is not there. */
export function isUndefinedTable(error: unknown): boolean {
  return codeOf(error) === UNDEFINED_TABLE;
}

/** Whether the statement was refused because of others, and has surely done nothing. */
export function isRefused(error: unknown): boolean {
  const code = codeOf(error);
  return code === SERIALIZATION_FAILURE || code === DEADLOCK;
}

/** Whether the server does not know a prepared statement, and has surely run nothing. */
export function hasLostStatements(error: unknown): boolean {
  return LOST_STATEMENTS.has(codeOf(error) ?? "");
}

/** Whether a privilege is missing. */
export function isForbidden(error: unknown): boolean {
  return codeOf(error) === INSUFFICIENT_PRIVILEGE;
}

/** Whether what was to be created is there by now. */
export function isMadeMeanwhile(error: unknown): boolean {
  return MADE_MEANWHILE.has(codeOf(error) ?? "");
}

/** The failure of an answer that no statement of ours gives. What became of a commit is unknown. */
export function unexpected(what: string): LockBackendError {
  return new LockBackendError(`the client answered a query with ${what}: does it change what it is given?`);
}
