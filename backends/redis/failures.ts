/** What the server's errors mean. */

import { LockBackendError, messageOf, UnreadableRecordError } from "../../core/errors.ts";
import { describe } from "../../core/validate.ts";
import { causeOf } from "../causes.ts";
import type { Trouble } from "../trouble.ts";
import { DIGITS, NO_RECORD } from "./scripts.ts";

/** What Redis 6 puts before the error of a command in a script. */
const WHERE = /^(ERR Error running script \(call to \S+\): )?@user_script: ?\d+: /;

/** How errors begin that do not pass by waiting. */
const LASTING =
  /^(user_script:|NOAUTH|WRONGPASS|NOPERM|NOPROTO|ERR(?! max number of clients))|subscriber mode/;

/** In what circumstances something failed. */
export interface Circumstances {
  /** Whether the client is closed for good. */
  readonly closed: boolean;
  /** What the client has complained of. */
  readonly trouble: Trouble;
  /** The keys that were asked for, as the server names them. */
  readonly keys: readonly string[];
}

/** What a failure is called, and whether it may pass. */
export function failureOf(error: unknown, { closed, trouble, keys }: Circumstances): LockBackendError {
  if (error instanceof LockBackendError) return error;
  const cause = causeOf(error);
  const message = cause.message.replace(WHERE, "");
  if (closed) return closedFailure(trouble, cause);
  if (message.startsWith("WRONGTYPE")) {
    const names = keys.map(describe).join(" or ");
    return new UnreadableRecordError(`a key of another type is in the way (${names}): ${message}`, { cause });
  }
  if (/^(MOVED|ASK|CROSSSLOT)|non local key/.test(message)) {
    return new LockBackendError(
      `${message} (a cluster needs a client of the cluster, and keeps together only keys of one hash tag)`,
      { cause },
    );
  }
  // What is left is the network's or the server's state: loading, failing over, full, paused.
  return new LockBackendError(trouble.explain(message), { cause, transient: !LASTING.test(message) });
}

/** The failure of all that is asked of a client that is closed. */
export function closedFailure(trouble: Trouble, cause?: Error): LockBackendError {
  return new LockBackendError(trouble.explain("the Redis client is closed, or was never connected"), {
    cause,
  });
}

/** The failure of an answer that no script gives. What became of the commit is unknown. */
export function unexpected(answer: unknown): LockBackendError {
  // A long text may be a record, and has secrets in it.
  const long = typeof answer === "string" && answer.length > 2 * DIGITS;
  const shown = long ? `a text of ${answer.length} characters` : describe(answer);
  return new LockBackendError(
    `the server answered a script with ${shown}: is the client in a MULTI, or does it map replies?`,
    { transient: true },
  );
}

/** The failure of commands that were refused after the connection broke: some clients then send again what was not answered. */
export function mayHaveRun(): LockBackendError {
  return new LockBackendError(
    "the connection broke, and the client has sent the commands again: whether they have run before is not known",
    { transient: true },
  );
}

/** The failure of reading a key that holds something else than a record. */
export function inTheWay(name: string): UnreadableRecordError {
  return new UnreadableRecordError(
    `something else is in the way under the key ${describe(name)}: ${NO_RECORD}`,
  );
}

/** Whether it is the failure of a key that is no text. */
export function isWrongType(error: unknown): boolean {
  return error instanceof LockBackendError && /\bWRONGTYPE\b/.test(messageOf(error.cause));
}

/** Whether it is the error for keys that are not all in one slot. */
export function isCrossSlot(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("CROSSSLOT");
}
