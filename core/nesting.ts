/** Code that asks for a lock while it runs under one: whether it has that already, or would wait for itself. */

import type { LockBackend } from "./backend.ts";
import { LockDeadlockError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import type { CheckedOptions } from "./options.ts";
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
  for (const { identifier, key, how } of locks) {
    const holds = holdsAround(scope, { backend, key });
    if (holds.length === 0) continue;
    const modes = holds.map((hold) => howOf(hold, key));
    const before = participantOf(backend).patientFor(key);
    if ([...before, how].every((claim) => admits(modes, claim))) continue;
    const [other] = holds;
    const heldIdentifier = other.lock.locks?.find((lock) => lock.key === key)?.identifier ?? other.identifier;
    return deadlock({
      identifier,
      other,
      heldIdentifier,
      isReentrant: ownHoldOf(asked) !== undefined,
      called,
    });
  }
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
  return other && deadlock({ identifier, other, heldIdentifier: identifier, isReentrant: true, called });
}

function deadlock(
  { identifier, other, heldIdentifier, isReentrant, called }: {
    readonly identifier: string;
    readonly other: Hold;
    readonly heldIdentifier: string;
    readonly isReentrant: boolean;
    readonly called: CallableFunction;
  },
): LockDeadlockError {
  const error = new LockDeadlockError(identifier, heldIdentifier, other.fencingToken, { isReentrant });
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
