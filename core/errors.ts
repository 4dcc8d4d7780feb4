import { brand } from "./brand.ts";
import { printable } from "./printable.ts";

/** What is known of a holder without its secret token. */
export interface HolderInfo {
  /** The label of its process, or `undefined`. */
  readonly label: string | undefined;
  /** For how many milliseconds it had held the lock, by the store's clock as seen from here. */
  readonly heldForMs: number;
}

/**
 * The lock was taken, and the options did not let the caller wait (any longer).
 *
 * `run` and `acquire` reject with it; the wrapper and the decorator resolve to `undefined` instead, and
 * `Lock.acquire` to `null`.
 *
 * @example In an app
 * ```ts ignore
 * import { lock, LockAcquisitionError } from "@holdfast/lock";
 *
 * try {
 *   await lock("report", { waitForMs: 5000 }).run(() => buildReport());
 * } catch (error) {
 *   if (!(error instanceof LockAcquisitionError)) throw error;
 *   console.log(`busy: ${error.holders[0]?.label}`);
 * }
 * ```
 *
 * @example
 * ```ts
 * import { configure, lock, LockAcquisitionError } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const held = await lock("report", { backend, label: "first" }).acquire();
 * try {
 *   await lock("report", { backend, wait: false }).acquire();
 * } catch (error) {
 *   assert(error instanceof LockAcquisitionError);
 *   assert(error.holders[0].label === "first");
 * }
 * await held.release();
 * ```
 */
export class LockAcquisitionError extends Error {
  static {
    brand(this, "LockAcquisitionError/1");
  }

  /** Always `"LockAcquisitionError"`. */
  override readonly name = "LockAcquisitionError";
  /** The identifier that was asked for. */
  readonly identifier: string;
  /** How long the caller waited, in milliseconds. */
  readonly waitedMs: number;
  /**
   * The holders when the lock was last seen, for an upgrade the others that share it; empty if it was free but others
   * were first in the queue.
   */
  readonly holders: readonly HolderInfo[];

  /** Made by the library; there is no need to make one by hand. */
  constructor(
    identifier: string,
    waitedMs: number,
    holders: readonly HolderInfo[],
    how: {
      doing?: string | undefined;
      because?: string | undefined;
      held?: string | undefined;
      free?: string | undefined;
    } = {},
  ) {
    const { doing = "acquire", because, held = "held by", free = "others are first in the queue" } = how;
    const who = because ?? (holders.length === 0 ? free : `${held} ` +
      holders.map(({ label, heldForMs }) =>
        `${label === undefined ? "a holder without label" : quote(label)} for ${heldForMs} ms`
      ).join(", "));
    super(`Cannot ${doing} lock ${quote(identifier)}: waited ${waitedMs} ms, ${who}`);
    this.identifier = identifier;
    this.waitedMs = waitedMs;
    this.holders = holders;
  }
}

/**
 * Why a lock was lost: its lease ran out unrenewed (`expired`), a waiter's `stealAfterMs` evicted it
 * (`stolen`), or an operator did (`forced`). `released`: it had been released before, by the caller itself (this stands
 * only in what `commitIfHeld` and other calls on the lock reject with), or by `releaseAll` or `releaseOnExit` while the
 * caller was at work, which the message says.
 * `handed-over`: the caller itself had handed it over (only in what such calls reject with, too).
 */
export type LossReason = "expired" | "stolen" | "forced" | "released" | "handed-over";

/**
 * The lock was lost while it was held: another holder may be at work.
 *
 * It is the `reason` of the lock's `signal`, and `run`, wrapper and decorator reject with it; the caller's own
 * error, if there was one, is its `cause`.
 *
 * @example In an app
 * ```ts ignore
 * import { lock, LockLostError } from "@holdfast/lock";
 *
 * try {
 *   await lock("import").run(({ signal }) => importRows({ signal }));
 * } catch (error) {
 *   if (!(error instanceof LockLostError)) throw error;
 *   console.error(`another process may have imported at the same time: ${error.reason}`);
 * }
 * ```
 *
 * @example
 * ```ts
 * import { lock, LockLostError } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const slow = await lock("import", { backend }).acquire();
 * const next = await lock("import", { backend, stealAfterMs: 0 }).acquire();
 * assert(await slow.release() === false);
 * assert(slow.signal.reason instanceof LockLostError);
 * assert(slow.signal.reason.reason === "stolen");
 * await next.release();
 * ```
 */
export class LockLostError extends Error {
  static {
    brand(this, "LockLostError/1");
  }

  /** Always `"LockLostError"`. */
  override readonly name = "LockLostError";
  /** The identifier of the lost lock. */
  readonly identifier: string;
  /** Why it was lost. */
  readonly reason: LossReason;
  /** The fencing token of the hold that was lost. */
  readonly fencingToken: string;
  /**
   * What the function returned that ran under the lock, if it came to its end although the lock was lost: its work is
   * done, so do not repeat it blindly. Without a result there is no such property. Logs do not show it.
   */
  declare readonly result?: unknown;

  /** Made by the library; there is no need to make one by hand. */
  constructor(
    identifier: string,
    reason: LossReason,
    fencingToken: string,
    options?: ErrorOptions & { result?: unknown; because?: string | undefined },
  ) {
    super(`Lost lock ${quote(identifier)}: ${options?.because ?? LOSSES[reason]}`, options);
    if (options !== undefined && "result" in options) {
      Object.defineProperty(this, "result", { value: options.result, configurable: true });
    }
    this.identifier = identifier;
    this.reason = reason;
    this.fencingToken = fencingToken;
  }
}

const LOSSES: Record<LossReason, string> = {
  expired: "its lease ran out before it could be renewed",
  stolen: "a waiter's stealAfterMs evicted it",
  forced: "an operator evicted it",
  released: "it had been released before",
  "handed-over": "it had been handed over before",
};

/**
 * Code that runs under a lock, in `run`, wrapper or decorator, has asked for the same lock again: it would have
 * waited for itself for ever, perhaps behind another caller that waits for it. The stack shows where it asked, and on
 * V8 (Deno, Node), after that, where it had asked before.
 *
 * Pass the held lock on, ask with `reentrant: true` (for exactly the same locks, and no more than the hold
 * allows), or, for work that the code does not await, ask from outside: see `docs/features.md`.
 *
 * @example In an app
 * ```ts ignore
 * import { lock } from "@holdfast/lock";
 *
 * const report = lock("report", { reentrant: true }); // without it, the inner call rejects with LockDeadlockError
 * await report.run(() => report.run(() => buildReport()));
 * ```
 *
 * @example
 * ```ts
 * import { lock, LockDeadlockError } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertRejects } from "@std/assert";
 *
 * const report = lock("report", { backend: memoryBackend() });
 * await report.run(() => assertRejects(() => report.run(() => {}), LockDeadlockError));
 * ```
 */
export class LockDeadlockError extends Error {
  static {
    brand(this, "LockDeadlockError/1");
  }

  /** Always `"LockDeadlockError"`. */
  override readonly name = "LockDeadlockError";
  /** The identifier that was asked for; of several, the one that is held. */
  readonly identifier: string;
  /** The identifier under which the lock is held: of a very long one, another may name the same lock. */
  readonly heldIdentifier: string;
  /** The fencing token of the hold under which the code runs. */
  readonly fencingToken: string;

  /** Made by the library; there is no need to make one by hand. */
  constructor(
    identifier: string,
    heldIdentifier: string,
    fencingToken: string,
    how: { isReentrant?: boolean | undefined; doing?: string | undefined } = {},
  ) {
    const { isReentrant = true, doing = "acquire" } = how;
    super(
      `Cannot ${doing} lock ${quote(identifier)}: the code that asks runs under it already` +
        (heldIdentifier === identifier ? "" : `, as ${quote(heldIdentifier)},`) +
        " and would wait for itself; pass the held lock on" +
        (isReentrant ? ", or ask with reentrant: true" : ""),
    );
    this.identifier = identifier;
    this.heldIdentifier = heldIdentifier;
    this.fencingToken = fencingToken;
  }
}

/**
 * The store failed: it could not be reached, did not answer in time, or refused what was asked. A store's failure
 * is never reported as a taken lock.
 *
 * Backends throw it without an `identifier`; what the public functions throw carries the identifier, and the
 * backend's error as `cause`. The cause of that one is a copy of the client's own error: its name, message and
 * `code`, without the commands and requests that clients attach to their errors, because these contain secrets.
 *
 * @example In an app
 * ```ts ignore
 * import { lock, LockBackendError } from "@holdfast/lock";
 *
 * try {
 *   await lock("report").run(() => buildReport());
 * } catch (error) {
 *   if (!(error instanceof LockBackendError)) throw error;
 *   console.error(error.identifier, error.message, error.cause);
 * }
 * ```
 *
 * @example
 * ```ts
 * import { lock, LockBackendError } from "@holdfast/lock";
 * import { kvBackend } from "@holdfast/lock/backends/kv";
 * import { assert } from "@std/assert";
 *
 * const kv = await Deno.openKv(":memory:");
 * const backend = kvBackend(kv);
 * kv.close();
 * const error = await lock("report", { backend }).acquire().then(() => null, (error) => error);
 * assert(error instanceof LockBackendError);
 * assert(error.identifier === "report");
 * ```
 */
export class LockBackendError extends Error {
  static {
    brand(this, "LockBackendError/1");
  }

  /** Always `"LockBackendError"`. */
  override readonly name = "LockBackendError";
  /** The identifier of the lock, if one is concerned. */
  readonly identifier: string | undefined;
  /** Whether the same call may succeed a little later: the core then tries again by itself. */
  readonly transient: boolean;

  /**
   * For authors of backends: throw it with `transient: true` for an outage that may pass, and with
   * `transient: false` for what will not pass by waiting (a closed client, a wrong password).
   */
  constructor(
    message: string,
    options: ErrorOptions & { identifier?: string | undefined; transient?: boolean | undefined } = {},
  ) {
    const own: typeof options = { __proto__: null, ...options } as object;
    super(message, own);
    this.identifier = own.identifier;
    this.transient = own.transient ?? false;
  }
}

/**
 * What a store holds under a key is no record that this version can read: no caller may take the lock for free,
 * and no caller that looks at many locks fails because of it. The core's own, and the backends', where they see
 * that it is none.
 */
export class UnreadableRecordError extends LockBackendError {
  static {
    brand(this, "UnreadableRecordError/1");
  }
}

/** Whether what has failed may succeed a little later. */
export function isTransient(error: unknown): boolean {
  return error instanceof LockBackendError && error.transient;
}

/** The store's failure, told to the caller under the name of the lock that it concerns. */
export function backendError(identifier: string, doing: string, cause: unknown): LockBackendError {
  return new LockBackendError(`Cannot ${doing} lock ${quote(identifier)}: ${printable(messageOf(cause))}`, {
    identifier,
    cause,
    transient: isTransient(cause),
  });
}

/** What an error says, whatever it is. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Several addresses of one host fail together, without a message.
  return error.message || (error as Partial<AggregateError>).errors?.map(messageOf).join(", ") || error.name;
}

/** A name as messages show it: quoted, cut where it is very long, and printable. */
export function quote(name: string): string {
  return printable(JSON.stringify(name.length > 100 ? name.slice(0, 99) + "…" : name));
}
