/** Code that asks for a lock while it runs under one: whether it has that already, or would wait for itself. */

import type { LockBackend } from "./backend.ts";
import { LockDeadlockError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import type { CheckedOptions, QueuedDeadlock } from "./options.ts";
import { participantOf } from "./participant.ts";
import { admits, covers, type Mode } from "./record/modes.ts";
import { findScope, type Scope } from "./scope.ts";
import type { KeyedLock } from "./targets.ts";

/** What code asks for that runs under other locks. */
export interface Nested {
  /** The innermost of these. */
  readonly scope: Scope;
  readonly backend: LockBackend;
  readonly locks: readonly KeyedLock[];
  readonly options: CheckedOptions;
}

/** The innermost hold of exactly these locks, if it lets its code do all that is asked for: the same hold may serve twice. */
export function ownHoldOf({ scope, backend, locks }: Nested): Hold | undefined {
  return findScope(scope, ({ hold }) =>
    isOn(hold, backend) && hold.lock.keys.length === locks.length &&
    locks.every(({ key, how }) => hold.lock.keys.includes(key) && covers(howOf(hold, key), how)) && hold.held)
    ?.hold;
}

/**
 * Says so if the code that asks would wait for ever: for a hold around it, which waits for that code to end, or behind a
 * caller of this process that waits for such a hold and does not give up. What may not wait finds the lock taken; one that
 * steals ends a hold, and so does its lease if that is not renewed. The stack of the error begins where `called` was called.
 */
export function deadlockOf(asked: Nested, called: CallableFunction): LockDeadlockError | undefined {
  const { scope, backend, locks, options } = asked;
  if (!options.mayWait || options.stealAfterMs !== undefined) return undefined;
  for (const lock of locks) {
    const holds = holdsAround(scope, { backend, key: lock.key });
    if (holds.length === 0) continue;
    const modes = holds.map((hold) => howOf(hold, lock.key));
    const before = participantOf(backend).patientFor(lock.key);
    if (![...before, lock.how].every((claim) => admits(modes, claim))) {
      return deadlockAt(asked, { lock, other: holds[0], called });
    }
  }
}

/**
 * The same, once it is queued, behind what waits for a hold around the code in the queue of one of the locks: whether one
 * of another process gives up some time, this one cannot know. One that gives up itself waits.
 */
export function queuedDeadlockOf(asked: Nested, called: CallableFunction): QueuedDeadlock | undefined {
  const { scope, backend, locks, options: { mayWait, waitForMs, signal, stealAfterMs } } = asked;
  if (!mayWait || (waitForMs ?? signal ?? stealAfterMs) !== undefined) return undefined;
  let errors: Map<string, LockDeadlockError> | undefined;
  for (const lock of locks) {
    const [other] = holdsAround(scope, { backend, key: lock.key });
    if (other === undefined) continue;
    // Made now: its stack shows where the code asks.
    (errors ??= new Map()).set(lock.key, deadlockAt(asked, { lock, other, called }));
  }
  return errors && ((key, ahead) => {
    const modes = holdsAround(scope, { backend, key }).map((hold) => howOf(hold, key));
    return modes.length > 0 && ahead.some((entry) => !admits(modes, entry)) ? errors.get(key) : undefined;
  });
}

function deadlockAt(
  asked: Nested,
  { lock: { identifier, key }, other, called }: {
    readonly lock: KeyedLock;
    readonly other: Hold;
    readonly called: CallableFunction;
  },
): LockDeadlockError {
  const heldIdentifier = other.lock.locks?.find((lock) => lock.key === key)?.identifier ?? other.identifier;
  return deadlock({ identifier, other, heldIdentifier, isReentrant: ownHoldOf(asked) !== undefined, called });
}

/**
 * The same of a hold that is to be the only one: for another reader around the code that asks, which waits for that code to
 * end.
 */
export function upgradeDeadlockOf(
  hold: Hold,
  { scope, mayWait, called }: {
    readonly scope: Scope | undefined;
    readonly mayWait: boolean;
    readonly called: CallableFunction;
  },
): LockDeadlockError | undefined {
  const { identifier, mode, lock: { keys: [key], store: { backend } } } = hold;
  if (scope === undefined || !mayWait || mode !== "shared") return undefined;
  const other = holdsAround(scope, { backend, key }).find((around) => around !== hold);
  const how = { doing: "upgrade", heldIdentifier: identifier, isReentrant: true, called };
  return other && deadlock({ identifier, other, ...how });
}

function deadlock(
  { identifier, doing, other, heldIdentifier, isReentrant, called }: {
    readonly identifier: string;
    /** What it wants. Default: to acquire it. */
    readonly doing?: string;
    readonly other: Hold;
    readonly heldIdentifier: string;
    readonly isReentrant: boolean;
    readonly called: CallableFunction;
  },
): LockDeadlockError {
  const error = new LockDeadlockError(identifier, heldIdentifier, other.fencingToken, { isReentrant, doing });
  // A stack has ten frames: without ours there is room for the one that asked before.
  (Error as { captureStackTrace?(error: Error, without: unknown): void }).captureStackTrace?.(error, called);
  return error;
}

/** The holds of this lock under which the code runs, innermost first: those that do not end by themselves. */
function holdsAround(
  scope: Scope,
  { backend, key }: { readonly backend: LockBackend; readonly key: string },
): Hold[] {
  const holds: Hold[] = [];
  findScope(scope, ({ hold }) => {
    const counts = isOn(hold, backend) && hold.lock.keys.includes(key) && hold.options.renew && hold.held;
    if (counts && !holds.includes(hold)) holds.push(hold);
    return false;
  });
  return holds;
}

function isOn({ lock }: Hold, backend: LockBackend): boolean {
  return lock.store.backend === backend;
}

/** How it holds one of its locks now, which may have changed since it was asked for. */
function howOf({ mode, request: { limit, permits }, lock: { locks } }: Hold, key: string): Mode {
  return locks?.find((lock) => lock.key === key)?.how ?? { mode, limit, permits };
}
