import type { LockBackend } from "./backend.ts";
import { defaultLabel } from "./default_label.ts";
import type { ChangeOptions } from "./mode_change.ts";
import { MAX_LIMIT, type Mode } from "./record/modes.ts";
import type { LockAcquisitionError, LockDeadlockError } from "./errors.ts";
import { describe, Input, LOCKING, refuse } from "./validate.ts";

/**
 * The kinds of lock. They choose the backend: `STRONG` for work that must never run twice; `WEAK` for work that
 * merely should not, on a faster store that may lose a lock. Until a weaker backend is configured, `WEAK` uses the
 * strong one. An identifier names one lock per backend, whatever the kind.
 */
export const LOCK_KINDS: {
  /** On the strong backend: Deno KV unless configured otherwise. */
  readonly STRONG: "strong";
  /** On the weak backend; on the strong one until a weak one is configured. */
  readonly WEAK: "weak";
} = { STRONG: "strong", WEAK: "weak" };

/** One of {@linkcode LOCK_KINDS}. */
export type LockKind = "strong" | "weak";

/** Options of every form of lock. All times are whole milliseconds up to 2 147 483 647 (24.8 days). */
export type LockOptions = CommonLockOptions & (ExclusiveLockOptions | SharedLockOptions);

/** The modes of a lock: held by one at a time (or by as many as a `limit` says), or by any number that share it. */
export type LockMode = "exclusive" | "shared";

/** The options of a lock that is held by one at a time, or by so many at a time: a semaphore. */
export interface ExclusiveLockOptions {
  /**
   * No other caller holds the lock, unless `limit` says otherwise.
   *
   * @default {"exclusive"}
   */
  mode?: "exclusive" | undefined;
  /**
   * How many may hold the lock at once, on all machines: from 1 to 1 000 000. If callers pass different limits,
   * the lowest one in force counts, among the caller's own and those of all holders. At most 64 hold a lock at
   * once, whatever the limit; the next one waits.
   *
   * @default {1}
   */
  limit?: number | undefined;
  /**
   * How much of the `limit` this call takes, up to all of it. Callers are served in the order of the queue, so
   * callers that want few permits do not overtake one that wants many.
   *
   * @default {1}
   */
  permits?: number | undefined;
}

/** The options of a lock that is shared. */
export interface SharedLockOptions {
  /**
   * Any number may hold the lock together as long as each says `"shared"`, up to 64; no caller may hold it
   * exclusively at the same time. A caller behind a waiting exclusive one waits, too, so neither starves.
   */
  mode: "shared";
  /** A shared lock has no limit. */
  limit?: undefined;
  /** A shared lock has no permits. */
  permits?: undefined;
}

/** Options of every form of lock, however it is held. */
export interface CommonLockOptions {
  /**
   * Whether to wait if the lock is taken. If `false`, `waitForMs` is ignored. A store that does not answer for
   * five seconds, or for `leaseMs` if that is less, makes the call fail with a `LockBackendError`.
   *
   * @default {true}
   */
  wait?: boolean | undefined;
  /**
   * How many milliseconds to wait at most. 0 does not wait. If the store has not answered at all by then, the call
   * gets one second in total before it fails with a `LockBackendError`.
   *
   * @default {undefined} no limit
   */
  waitForMs?: number | undefined;
  /**
   * Evict a holder that has had the lock for this many milliseconds, even if it is alive; its `signal` aborts.
   * Choose it longer than any legitimate hold: the evicted lock goes to the first in the queue, not necessarily to
   * this caller, so a short time evicts one holder after another. For a hold of another process, the store's clock
   * counts, on the late side: up to the backend's `skewMs` later. 0 evicts any holder at once.
   *
   * @default {undefined} never
   */
  stealAfterMs?: number | undefined;
  /**
   * Which backend: one of `LOCK_KINDS`. `backend` takes precedence.
   *
   * @default {LOCK_KINDS.STRONG}
   */
  kind?: LockKind | undefined;
  /**
   * How many milliseconds the lock stays taken if its holder crashes. At least 100. A live holder renews it every
   * third of that.
   *
   * @default {30_000}
   */
  leaseMs?: number | undefined;
  /**
   * Keep the lock taken until it has been held for this many milliseconds, even if it is released sooner: for jobs
   * that several machines start at about the same time, and that should run once. Neither the release nor the
   * process waits for that. It applies to releases only: the lock of a crashed holder is free when its lease
   * expires.
   *
   * @default {0}
   */
  holdAtLeastMs?: number | undefined;
  /**
   * Whether the lease is renewed while the lock is held. If `false`, the lock is lost when `leaseMs` has passed,
   * unless it is extended.
   *
   * @default {true}
   */
  renew?: boolean | undefined;
  /**
   * Whether code that runs under this lock already, in `run`, wrapper or decorator, is admitted when it asks for
   * it again: it then runs under the same hold, which the outermost call releases. Only for exactly the same
   * locks, and for no more than that hold allows. If `false`, it is rejected with `LockDeadlockError`.
   *
   * @default {false}
   */
  reentrant?: boolean | undefined;
  /**
   * Aborts the acquisition: the call rejects at once with the signal's reason and leaves nothing behind. It has no
   * effect once the lock is held.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
  /**
   * A human-readable name for this holder, shown in listings and error messages: up to 128 characters. `null` is
   * none.
   *
   * @default {undefined} host, process and worker, such as `"web-1:4242 worker 3"`, as far as they are known
   * without a request for permission. On Deno without `--allow-sys` it is the process alone
   */
  label?: string | null | undefined;
  /**
   * The store that keeps this lock; takes precedence over `kind`.
   *
   * @default {undefined} the one configured for `kind`
   */
  backend?: LockBackend | undefined;
}

/** Options of the function `lock`. */
export type LockCallOptions = LockOptions & {
  /**
   * What to do instead, if the lock is taken and the options do not let the call wait (any longer). What it returns is
   * what `run`, wrapper and decorator then resolve to, so that a caller can tell a function that was skipped from one that
   * ran and returned nothing. It is called with the error that names the holders. Not for `acquire`. Default: wrapper
   * and decorator resolve to `undefined`, `run` rejects with that error.
   */
  onTaken?: ((error: LockAcquisitionError) => unknown) | undefined;
};

/**
 * Options that always let a call wait until it has the lock: of a variable of this type is known that the function runs.
 * One of type `LockOptions` could say anything.
 */
export type WaitingLockOptions = LockOptions & { wait?: true | undefined; waitForMs?: undefined };

/** Options of an upgrade from shared to exclusive. */
export interface UpgradeOptions {
  /**
   * Whether to wait while others share the lock. If `false`, the store is asked once.
   *
   * @default {true}
   */
  wait?: boolean | undefined;
  /**
   * How many milliseconds to wait at most. 0 does not wait.
   *
   * @default {undefined} no limit
   */
  waitForMs?: number | undefined;
  /**
   * Aborts the upgrade: the call rejects at once with the signal's reason, and the lock is shared as before.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
}

/** Options of `Lock.handOver`. */
export interface HandOverOptions {
  /**
   * For how many milliseconds the claim is valid: from 100 to 2 147 483 647 (24.8 days), whole ones. No process
   * renews it meanwhile, so choose it longer than the transit to the next process takes, and no longer than others
   * can wait if it never arrives.
   *
   * @default {undefined} the lock's own `leaseMs`
   */
  leaseMs?: number | undefined;
}

/** Options of `Lock.restore`. */
export interface RestoreOptions {
  /**
   * The store that keeps the lock.
   *
   * @default {undefined} the one configured for the kind of the lock
   */
  backend?: LockBackend | undefined;
  /**
   * The lease from now on, in milliseconds, at least 100.
   *
   * @default {undefined} as before
   */
  leaseMs?: number | undefined;
  /**
   * Whether the lease is renewed while the lock is held.
   *
   * @default {true}
   */
  renew?: boolean | undefined;
  /**
   * Aborts the call: it rejects at once with the signal's reason, and the claim may then be used.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
  /**
   * The label of the new holder, as `LockOptions.label`.
   *
   * @default {undefined} as there
   */
  label?: string | null | undefined;
}

/** Options of a restore after validation. */
export type CheckedRestore =
  & Pick<CheckedOptions, "renew" | "signal" | "label" | "backend">
  & { readonly leaseMs: number | undefined };

/** Options after validation, with the defaults filled in. */
export interface CheckedOptions extends Mode {
  readonly mayWait: boolean;
  readonly waitForMs: number | undefined;
  readonly stealAfterMs: number | undefined;
  readonly kind: LockKind;
  readonly leaseMs: number;
  readonly holdAtLeastMs: number | undefined;
  readonly renew: boolean;
  readonly reentrant: boolean;
  readonly signal: AbortSignal | undefined;
  readonly label: string | undefined;
  readonly backend: LockBackend | undefined;
  /** Internal: the token of a hold that was handed over, if that is asked for. */
  readonly restores?: string | undefined;
  /**
   * Whether it has its own entry in the queue, because order between requests of one process is promised; hears of
   * its place.
   */
  readonly ownEntry?: OwnEntry | undefined;
  /** Whether it goes before the queue. */
  readonly goesFirst?: boolean | undefined;
  /** Says so if code that asks under a hold of one of the locks would wait for itself. */
  readonly deadlock?: QueuedDeadlock | undefined;
}

/** What to reject with, if those that are `ahead` in the queue of a lock wait for a hold around the code that asks. */
export type QueuedDeadlock = (key: string, ahead: readonly Mode[]) => LockDeadlockError | undefined;

/** One that waits in its own entry. */
export interface OwnEntry {
  /** It is in the queue, or waits outside it because there is no place; perhaps more than once. */
  onPlaced(): void;
}

const NAMES: readonly (keyof LockOptions)[] = [
  "mode",
  "limit",
  "permits",
  "wait",
  "waitForMs",
  "stealAfterMs",
  "kind",
  "leaseMs",
  "holdAtLeastMs",
  "renew",
  "reentrant",
  "signal",
  "label",
  "backend",
];

/** How long a label may be, in UTF-16 units. */
export const MAX_LABEL_UNITS = 128;
const MIN_LEASE_MS = 100;

/**
 * The one place where options are checked: those of the calls that ask for a lock, and of every other `input` that has
 * some of them. Throws TypeError or RangeError before anything is sent.
 */
export function checkOptions(given: LockOptions = {}, input: Input = LOCKING): CheckedOptions {
  const options = input.own(given, NAMES);
  const wait = input.flag(options.wait, "wait") ?? true;
  const waitForMs = input.time(options.waitForMs, "waitForMs", 0);
  if (options.backend !== undefined) assertBackend(options.backend, "backend");
  const { mode, limit, permits } = checkMode(options);
  return {
    mode,
    limit,
    permits,
    mayWait: wait && waitForMs !== 0,
    waitForMs,
    stealAfterMs: input.time(options.stealAfterMs, "stealAfterMs", 0),
    kind: kind(options.kind, input),
    leaseMs: input.time(options.leaseMs, "leaseMs", MIN_LEASE_MS) ?? 30_000,
    holdAtLeastMs: input.time(options.holdAtLeastMs, "holdAtLeastMs", 0),
    renew: input.flag(options.renew, "renew") ?? true,
    reentrant: input.flag(options.reentrant, "reentrant") ?? false,
    signal: input.signal(options.signal),
    label: label(options.label, input),
    backend: options.backend,
  };
}

/** The same for the function `lock`, which has one option more. */
export function checkCall(
  given: LockCallOptions = {},
): { readonly checked: CheckedOptions; readonly onTaken: LockCallOptions["onTaken"] } {
  if (given === null || typeof given !== "object" || !Object.hasOwn(given, "onTaken")) {
    return { checked: checkOptions(given), onTaken: undefined };
  }
  const { onTaken, ...options } = given;
  if (onTaken !== undefined && typeof onTaken !== "function") {
    LOCKING.refuse("'onTaken' must be a function", onTaken);
  }
  return { checked: checkOptions(options), onTaken };
}

const UPGRADING: Input = new Input("upgrade");
const EXTENDING: Input = new Input("extend");
const RESTORING: Input = new Input("restore");
/** The input of a hand-over. */
export const HANDING_OVER: Input = new Input("hand over");

/** The same for an upgrade. Throws the signal's reason if it has aborted already. */
export function checkUpgrade(given: UpgradeOptions = {}): ChangeOptions {
  const options = UPGRADING.own(given, ["wait", "waitForMs", "signal"]);
  const wait = UPGRADING.flag(options.wait, "wait") ?? true;
  const waitForMs = UPGRADING.time(options.waitForMs, "waitForMs", 0);
  const signal = UPGRADING.signal(options.signal);
  if (signal?.aborted) throw signal.reason;
  return { mayWait: wait && waitForMs !== 0, waitForMs, signal };
}

/** The same for a hand-over. */
export function checkHandOver(given: HandOverOptions = {}): HandOverOptions {
  const { leaseMs } = HANDING_OVER.own(given, ["leaseMs"]);
  return { leaseMs: checkExtension(leaseMs, HANDING_OVER) };
}

/** How long a lease is to be from now on. */
export function checkExtension(leaseMs: number | undefined, input: Input = EXTENDING): number | undefined {
  return input.time(leaseMs, "leaseMs", MIN_LEASE_MS);
}

/** The same for a restore. */
export function checkRestore(given: RestoreOptions = {}): CheckedRestore {
  const options = RESTORING.own(given, ["backend", "leaseMs", "renew", "signal", "label"]);
  if (options.backend !== undefined) assertBackend(options.backend, "backend");
  return {
    backend: options.backend,
    leaseMs: checkExtension(options.leaseMs, RESTORING),
    renew: RESTORING.flag(options.renew, "renew") ?? true,
    signal: RESTORING.signal(options.signal),
    label: label(options.label, RESTORING),
  };
}

/** How a lock is held unless the options say otherwise. */
const EXCLUSIVE: Mode = { mode: "exclusive", limit: 1, permits: undefined };

/** How a lock is to be held. `where` it is said stands before the names of the options in messages. */
export function checkMode(
  { mode = "exclusive", limit, permits }: ExclusiveLockOptions | SharedLockOptions,
  where = "",
): Mode {
  if (mode === "exclusive" && limit === undefined && permits === undefined) return EXCLUSIVE;
  if (mode !== "exclusive" && mode !== "shared") {
    const hint = mode === "upgradeable" ? ' ("upgradeable" is reserved; share it, and call upgrade())' : "";
    LOCKING.refuse(`'${where}mode' must be "exclusive" or "shared"${hint}`, mode);
  }
  if (mode === "shared") {
    const isOmitted = `must be omitted with mode "shared"`;
    if (limit !== undefined) LOCKING.refuse(`'${where}limit' ${isOmitted}`, limit);
    if (permits !== undefined) LOCKING.refuse(`'${where}permits' ${isOmitted}`, permits);
    return { mode, limit: 1 };
  }
  const most = LOCKING.count(limit, `${where}limit`, MAX_LIMIT) ?? 1;
  if (limit === undefined && permits !== undefined) {
    LOCKING.refuse(`'${where}permits' must be omitted without 'limit'`, permits);
  }
  const taken = LOCKING.count(permits, `${where}permits`, most);
  return { mode, limit: most, permits: taken === 1 ? undefined : taken };
}

function kind(value: unknown, input: Input): LockKind {
  if (value === undefined) return LOCK_KINDS.STRONG;
  if (value === LOCK_KINDS.STRONG || value === LOCK_KINDS.WEAK) return value;
  input.refuse(`'kind' must be LOCK_KINDS.STRONG ("strong") or LOCK_KINDS.WEAK ("weak")`, value);
}

function label(value: unknown, input: Input): string | undefined {
  if (value === undefined) return defaultLabel();
  if (value === null) return undefined;
  const isText = typeof value === "string";
  if (isText && value.length > 0 && value.length <= MAX_LABEL_UNITS && value.isWellFormed()) return value;
  const rule =
    `'label' must be a string of 1 to ${MAX_LABEL_UNITS} characters without lone surrogates, or null`;
  input.refuse(rule, value, isText ? RangeError : TypeError);
}

const checkedBackends = new WeakSet<object>();

/** What a backend must have: methods, and times. */
const MEMBERS = ["read", "commit", "watch", "list", "now", "skewMs", "graceMs"];

/** By which function each make of client becomes a backend: by what tells that make from the others. */
const BACKEND_CALLS: readonly (readonly [string, string])[] = [
  ["atomic", "kvBackend(kv)"],
  ["evalsha", "redisBackend(client)"],
  ["sendCommand", "redisBackend(client)"],
  ["unsafe", "postgresBackend(sql)"],
  ["query", "postgresBackend(pool)"],
];

/** The call that makes a backend of what was handed in, as far as one can tell. */
export function backendCallFor(value: unknown): string {
  const members = Object(value) as Record<string, unknown>;
  return BACKEND_CALLS.find(([name]) => typeof members[name] === "function")?.[1] ??
    "kvBackend(kv) or redisBackend(client)";
}

/** Whether it has what a backend must have. */
export function isBackend(value: unknown): boolean {
  const members = Object(value) as Record<string, unknown>;
  return MEMBERS.every((name) => members[name] !== undefined);
}

/** Refuses what is not a backend, naming the option it came in. */
export function assertBackend(value: unknown, option: string): asserts value is LockBackend {
  const candidate = value as Partial<Record<string, unknown>> | null | undefined;
  const rule = `Cannot use '${option}': it must be a lock backend such as ${backendCallFor(value)}`;
  if (typeof candidate !== "object" || candidate === null) refuse(rule, value);
  // Every lock asks.
  if (checkedBackends.has(candidate)) return;
  for (const name of MEMBERS) {
    const member = candidate[name];
    if (name.endsWith("Ms") ? typeof member === "number" : typeof member === "function") continue;
    throw new TypeError(`${rule}, current value lacks '${name}': ${describe(value)}`);
  }
  checkedBackends.add(candidate);
}
