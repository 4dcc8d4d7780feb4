/** What the database's failures mean, and how a busy one is asked again. */

import { pause, systemClock } from "../../core/clock.ts";
import { LockBackendError, messageOf } from "../../core/errors.ts";
import { Backoff } from "../../core/retry.ts";
import { causeOf, reasonOf } from "../causes.ts";
import type { Trouble } from "../trouble.ts";

/** How long a busy database is asked again before the failure is handed to the core. */
const BUSY_MS = 2000;
const BUSY_BACKOFF = { leastMs: 2, mostMs: 50, jitter: true };

/** Asks; SQLite refuses a write at once while another process writes, which never means that it was applied. */
export async function retried<Answer>(ask: () => Promise<Answer>, trouble: Trouble): Promise<Answer> {
  const backoff = new Backoff(BUSY_BACKOFF);
  for (const started = systemClock.monotonicMs();;) {
    try {
      const answer = await ask();
      trouble.forget();
      return answer;
    } catch (error) {
      const busy = messageOf(error).includes("database is locked");
      if (!busy || systemClock.monotonicMs() - started > BUSY_MS) {
        const failure = failureOf(error);
        if (failure.transient) trouble.note(error);
        throw failure;
      }
      await pause(systemClock, backoff.pauseMs());
    }
  }
}

/** A failure of the database, and whether it may pass. */
export function failureOf(error: unknown): LockBackendError {
  if (error instanceof LockBackendError) return error;
  const message = reasonOf(error);
  const cause = causeOf(error);
  if (
    /database is closed|bad resource|after '\.close' is called/i.test(message) ||
    cause.name === "BadResource"
  ) {
    return new LockBackendError("the Deno KV database is closed", { cause });
  }
  // Deno KV throws a TypeError for what it does not accept: a value too large, a full disk. With a cause, it is
  // how fetch reports a broken connection.
  const refused = error instanceof TypeError && error.cause === undefined || /^TooMany/.test(message);
  const transient = message.includes("database is locked") || !refused;
  return new LockBackendError(message, { cause, transient });
}
