/** What the server's errors mean. */

import { LockBackendError, messageOf } from "../../core/errors.ts";
import { describe } from "../../core/validate.ts";

export const CLOSED = new LockBackendError("the Redis client is closed, or was never connected");

/** What Redis 6 puts before the error of a command in a script. */
const WHERE = /^(ERR Error running script \(call to \S+\): )?@user_script: ?\d+: /;

/** How errors begin that do not pass by waiting. */
const LASTING =
  /^(user_script:|NOAUTH|WRONGPASS|NOPERM|NOPROTO|ERR(?! max number of clients))|subscriber mode/;

/** In what circumstances something failed. */
export interface Circumstances {
  /** Whether the client is closed for good. */
  readonly closed: boolean;
  /** The keys that were asked for, as the server names them. */
  readonly keys: readonly string[];
}

/** What a failure is called, and whether it may pass. */
export function failureOf(error: unknown, { closed, keys }: Circumstances): LockBackendError {
  if (error instanceof LockBackendError) return error;
  const message = messageOf(error).replace(WHERE, "");
  const cause = error;
  if (closed) return new LockBackendError(CLOSED.message, { cause });
  if (message.startsWith("WRONGTYPE")) {
    const names = keys.map(describe).join(" or ");
    return new LockBackendError(`a key of another type is in the way (${names}): ${message}`, { cause });
  }
  if (/^(MOVED|ASK|CROSSSLOT)|non local key/.test(message)) {
    return new LockBackendError(
      `${message} (a cluster needs a client of the cluster, and keeps together only keys of one hash tag)`,
      { cause },
    );
  }
  // What is left is the network's or the server's state: loading, failing over, full, paused.
  return new LockBackendError(message, { cause, transient: !LASTING.test(message) });
}

/** The failure of an answer that no script gives. What became of the commit is unknown. */
export function unexpected(answer: unknown): LockBackendError {
  return new LockBackendError(
    `the server answered a script with ${
      describe(answer)
    }: is the client in a MULTI, or does it map replies?`,
    { transient: true },
  );
}

/** Whether it is the error for keys that are not all in one slot. */
export function isCrossSlot(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("CROSSSLOT");
}
