/** What is asked for: one lock, or several that are taken together, each of which may be held in its own mode. */

import { quote } from "./errors.ts";
import { assertIdentifier, keyOf } from "./identifier.ts";
import { checkMode, type ExclusiveLockOptions, type SharedLockOptions } from "./options.ts";
import { type Mode, strongerOf } from "./record/modes.ts";
import { LOCKING } from "./validate.ts";

/** One of several locks that are taken together, and how it is held: what the options say of none of the others. */
export type LockTarget =
  & {
    /** Names the lock: a non-empty string of any length; case matters. */
    identifier: string;
  }
  & (ExclusiveLockOptions | SharedLockOptions);

/**
 * What names a lock, or several that are taken together, all or none: an identifier, or an array of up to 16.
 *
 * In an array, an object says of one of them how it is held, by `mode`, or `limit` and `permits`. One that says none of
 * these, and a plain identifier, are held as the options say. One that is named twice is held in the way that allows all
 * that the other does: exclusively, if it is named so once.
 */
export type LockTargets = string | readonly (string | LockTarget)[];

/** A lock by its identifier, and how it is to be held. */
export interface NamedLock {
  readonly identifier: string;
  readonly how: Mode;
}

/** The same with the key under which stores keep it. */
export interface KeyedLock extends NamedLock {
  readonly key: string;
}

/** What was asked for, checked: an identifier that is held as the options say; or locks, each once, sorted. */
export type Targets = string | readonly NamedLock[];

/** How many locks can be asked for at once: each is a record, and all are written in one commit. */
export const MAX_TARGETS = 16;

const MEMBERS = ["identifier", "mode", "limit", "permits"];

/** What `value` names, to be held as `options` say where it says nothing itself. Refuses what names no locks. */
export function targetsIn(value: unknown, options: Mode, option = "identifier"): Targets {
  if (!Array.isArray(value)) {
    assertIdentifier(value, option);
    return value;
  }
  if (value.length === 0 || value.length > MAX_TARGETS) {
    LOCKING.refuse(`'${option}' must be 1 to ${MAX_TARGETS} identifiers`, value, RangeError);
  }
  const locks: NamedLock[] = [];
  // By index, for an array may have holes.
  for (let i = 0; i < value.length; i++) locks.push(targetIn(value[i], options, `${option}[${i}]`));
  const distinct = distinctBy(locks, ({ identifier }) => identifier);
  const [first, ...others] = distinct.sort((a, b) => a.identifier < b.identifier ? -1 : 1);
  return others.length === 0 && first.how === options ? first.identifier : distinct;
}

function targetIn(value: unknown, options: Mode, option: string): NamedLock {
  const isObject = Object.prototype.toString.call(value) === "[object Object]";
  if (!isObject) {
    assertIdentifier(value, option);
    return { identifier: value, how: options };
  }
  const { identifier, mode, limit, permits } = LOCKING.own(value as LockTarget, MEMBERS);
  assertIdentifier(identifier, `${option}.identifier`);
  if (mode === undefined && limit === undefined && permits === undefined) return { identifier, how: options };
  return { identifier, how: checkMode({ mode, limit, permits } as LockTarget, `${option}.`) };
}

/** What messages call them together. */
export function nameOf(targets: Targets): string {
  return typeof targets === "string" ? targets : targets.map(({ identifier }) => identifier).join(", ");
}

/** The locks that these name, each once: the key of a long identifier is an identifier itself, which names the same lock. */
export async function locksOf(targets: Targets, options: Mode): Promise<readonly KeyedLock[]> {
  const named = typeof targets === "string" ? [{ identifier: targets, how: options }] : targets;
  const keys = await Promise.all(named.map(({ identifier }) => keyOf(identifier)));
  return distinctBy(named.map((lock, i) => ({ ...lock, key: keys[i] })), ({ key }) => key);
}

/** Each lock once. Refuses one that is named in two ways, neither of which allows all that the other does. */
function distinctBy<Named extends NamedLock>(
  locks: readonly Named[],
  keyOf: (lock: Named) => string,
): Named[] {
  const distinct = new Map<string, Named>();
  for (const lock of locks) {
    const { how = lock.how } = distinct.get(keyOf(lock)) ?? {};
    const strongest = strongerOf(how, lock.how);
    if (strongest === undefined) {
      throw new TypeError(
        `Cannot lock: ${
          quote(lock.identifier)
        } is named twice, and neither way to hold it allows what the other does`,
      );
    }
    distinct.set(keyOf(lock), { ...lock, how: strongest });
  }
  return [...distinct.values()];
}
