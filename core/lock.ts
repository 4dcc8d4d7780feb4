import type { LockBackend } from "./backend.ts";
import { backendError, LockBackendError, LockDeadlockError, type LossReason } from "./errors.ts";
import { Hold } from "./hold.ts";
import { assertIdentifier, keyOf, plainKeyOf } from "./identifier.ts";
import { printable } from "./printable.ts";
import { refuse } from "./validate.ts";
import { backendFor } from "./configure.ts";
import { type CheckedOptions, checkOptions, type LockKind, type LockOptions } from "./options.ts";
import { participantOf } from "./participant.ts";
import { admits, type Mode } from "./record/modes.ts";
import { currentScope, findScope, type Scope } from "./scope.ts";

/** Makes the public face of a hold; the class itself shows no way to. */
let lockOf: (hold: Hold, isNested?: boolean) => Lock;
let holdBehind: (lock: Lock) => Hold | undefined;

/** What JSON shows of a {@linkcode Lock}. */
export interface LockJson {
  /** The identifier that was asked for. */
  readonly identifier: string;
  /** The kind that was asked for. */
  readonly kind: LockKind;
  /** Whether it is held, as far as this process knows; if not, that it was released, or why it was lost. */
  readonly state: "held" | LossReason;
  /** The fencing token of the hold. */
  readonly fencingToken: string;
}

/**
 * A held lock.
 *
 * @example
 * ```ts
 * import { Lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const held = await Lock.acquire("invoice:17", { backend, wait: false });
 * if (held === null) throw new Error("somebody else is at it");
 * try {
 *   assert(held.held);
 * } finally {
 *   assert(await held.release());
 * }
 * ```
 */
export class Lock {
  readonly #hold: Hold;
  /** Whether another one, around this, has acquired it and is to give it back. */
  readonly #isNested: boolean;

  static {
    lockOf = (hold, isNested) => new Lock(hold, isNested);
    holdBehind = (lock) => #hold in lock ? lock.#hold : undefined;
  }

  private constructor(hold: Hold, isNested = false) {
    if (!(hold instanceof Hold)) throw new TypeError("Cannot make a Lock: acquire one");
    this.#hold = hold;
    this.#isNested = isNested;
    if (!isNested) hold.ownedBy(this);
  }

  /**
   * Acquires the lock of `identifier`, a non-empty string of any length; case matters.
   *
   * Resolves to `null` if the lock is taken and the options do not let it wait (any longer). Rejects with
   * TypeError or RangeError for bad input, with the signal's reason when that aborts, and with
   * `LockBackendError` if the store fails.
   *
   * @example
   * ```ts
   * import { Lock } from "@holdfast/lock";
   * import { memoryBackend } from "@holdfast/lock/backends/memory";
   * import { assert } from "@std/assert";
   *
   * const backend = memoryBackend();
   * const first = await Lock.acquire("cron", { backend });
   * assert(await Lock.acquire("cron", { backend, waitForMs: 20 }) === null);
   * await first?.release();
   * ```
   */
  static acquire(identifier: string, options?: LockOptions): Promise<Lock | null> {
    try {
      assertIdentifier(identifier);
      return acquireLock(identifier, checkOptions(options), null);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The identifier that was asked for. */
  get identifier(): string {
    return this.#hold.identifier;
  }

  /** The kind that was asked for. */
  get kind(): LockKind {
    return this.#hold.options.kind;
  }

  /**
   * Rises with every grant of this identifier, in the order of strings. A resource that keeps the highest
   * one it has seen can refuse whoever comes with a lower one.
   */
  get fencingToken(): string {
    return this.#hold.fencingToken;
  }

  /**
   * Whether the lock is still held, as far as this process knows. Conservative and without I/O: `true` only
   * while the lease that the store confirmed is running. The first look after its end aborts `signal` on the
   * spot. An eviction shows as soon as this process is told; `commitIfHeld` asks the store itself.
   */
  get held(): boolean {
    return this.#hold.startWatching().held;
  }

  /**
   * Aborts with a `LockLostError` the moment the lock is lost, at the latest when its lease ends; never on
   * a normal release. After a freeze, code that runs before the first timer may find a signal that it kept
   * not aborted yet; reading it from the lock, like `held`, is exact.
   */
  get signal(): AbortSignal {
    return this.#hold.startWatching().signal;
  }

  /**
   * Releases the lock. `true` if it was ours and is now free, or handed to the next in line; `false` if it
   * had been lost. Calling it again repeats the outcome and touches nothing.
   *
   * Rejects with `LockBackendError` if the store could not be told until the lease ended by itself.
   *
   * A lock that was let through by `reentrant` is released by the outermost: here it says whether it is still held, and
   * does nothing.
   */
  release(): Promise<boolean> {
    return this.#isNested ? Promise.resolve(this.#hold.held) : this.#hold.release();
  }

  /**
   * Releases at the end of an `await using` block. Never throws: a failure of the store is published on
   * the diagnostics channel `holdfast:backend-error`, and the lease then ends by itself.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isNested) await this.#hold.releaseQuietly();
  }

  /** What `JSON.stringify` shows: what the lock is, without its secret token. To look at it so changes nothing. */
  toJSON(): LockJson {
    const { identifier, kind, fencingToken } = this;
    return { identifier, kind, state: this.#hold.state, fencingToken };
  }

  /** Names the lock, without its secret token. */
  toString(): string {
    const { state: found } = this.#hold;
    const state = found === "held" || found === "released" ? found : `lost, ${found}`;
    const text = `${
      JSON.stringify(this.identifier)
    }, ${this.kind}, ${state}, fencingToken: ${this.fencingToken}`;
    return `Lock { ${printable(text)} }`;
  }

  /** What `console.log` shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/**
 * What every form comes down to. If the lock is taken, and may not be waited for (any longer), it resolves to `null`
 * where the form wants that, and rejects where not. Expects a checked identifier.
 */
export function acquireLock(identifier: string, options: CheckedOptions): Promise<Lock>;
export function acquireLock(identifier: string, options: CheckedOptions, taken: null): Promise<Lock | null>;
export function acquireLock(
  identifier: string,
  options: CheckedOptions,
  taken?: null,
): Promise<Lock | null> {
  return new Promise((resolve, reject) => {
    const scope = currentScope();
    const ask = (backend: LockBackend, key: string) => {
      throwIfAborted(options);
      const outer = scope && heldAround(scope, backend, key);
      if (outer !== undefined) {
        if (options.reentrant) return resolve(lockOf(outer, true));
        if (isDeadlock(outer, options)) return reject(deadlock(identifier, outer));
      }
      participantOf(backend).acquire({ identifier, key, options }, (hold, error, refused) => {
        if (hold !== undefined) resolve(lockOf(hold));
        else if (refused && taken === null) resolve(null);
        else reject(error);
      });
    };
    throwIfAborted(options);
    const backend = backendFor(options);
    const key = plainKeyOf(identifier);
    if (key !== undefined && !(backend instanceof Promise)) ask(backend, key);
    else {
      const arrival = { cancel: reject };
      arriving.add(arrival);
      Promise.all([opened(backend, identifier), keyOf(identifier)]).then((found) => {
        // Cancelled meanwhile, it asks for nothing any more.
        if (arriving.has(arrival)) ask(...found);
      }).catch(reject).finally(() => arriving.delete(arrival));
    }
  });
}

/** The hold of this lock under which the code runs that asks for it, if there is one that is not over. */
function heldAround(scope: Scope, backend: LockBackend, key: string): Hold | undefined {
  return findScope(
    scope,
    ({ hold }) => hold.lock.key === key && hold.lock.store.backend === backend && hold.held,
  )?.hold;
}

/**
 * Whether whoever waits for `outer` to end, while the code under it waits for this, waits for ever. What may not wait
 * finds it taken; one that steals ends it, and so does its lease if that is not renewed.
 */
function isDeadlock(
  { request, options: { renew } }: Hold,
  { mayWait, stealAfterMs }: CheckedOptions,
): boolean {
  return mayWait && stealAfterMs === undefined && renew && !admits([request], EXCLUSIVE);
}

function deadlock(identifier: string, { identifier: heldIdentifier, fencingToken }: Hold): LockDeadlockError {
  const error = new LockDeadlockError(identifier, heldIdentifier, fencingToken);
  // A stack has ten frames: without ours there is room for the one that asked before.
  (Error as { captureStackTrace?(error: Error, without: unknown): void }).captureStackTrace?.(
    error,
    acquireLock,
  );
  return error;
}

/** How a request asks for a lock. */
const EXCLUSIVE: Mode = { mode: "exclusive", limit: 1 };

/**
 * The lock under which the calling code runs: of the innermost `run`, wrapper or decorator around it, or of the innermost
 * of `identifier`. `undefined` where there is none, or its function has ended. One that was lost meanwhile says so:
 * `held` is `false`, and `signal` has aborted.
 *
 * Throws TypeError for what cannot be an identifier.
 *
 * @example
 * ```ts
 * import { currentLock, lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert, assertEquals } from "@std/assert";
 *
 * function pay() {
 *   assert(currentLock("account:1")?.held, "call this under the lock of the account");
 * }
 * await lock("account:1", { backend: memoryBackend() }).run(pay);
 * assertEquals(currentLock(), undefined);
 * ```
 */
export function currentLock(identifier?: string): Lock | undefined {
  if (identifier !== undefined) assertIdentifier(identifier);
  const is = ({ hold }: Scope) => identifier === undefined || hold.identifier === identifier;
  return findScope(currentScope(), is)?.held as Lock | undefined;
}

/** The calls that wait for their backend to be opened, or for the key of a long identifier. */
const arriving = new Set<{ cancel(reason: unknown): void }>();

/** Cancels those that have not come to ask their backend yet. */
export function cancelArrivals(reason: unknown): void {
  for (const arrival of arriving) arrival.cancel(reason);
  arriving.clear();
}

function throwIfAborted({ signal }: CheckedOptions): void {
  if (signal?.aborted) throw signal.reason;
}

async function opened(backend: LockBackend | Promise<LockBackend>, identifier: string): Promise<LockBackend> {
  try {
    return await backend;
  } catch (error) {
    throw error instanceof LockBackendError ? backendError(identifier, "acquire", error) : error;
  }
}

/** For the backends' `commitIfHeld`: what is behind a held lock. Throws TypeError for anything else. */
export function holdOf(held: Lock): Hold {
  const hold = typeof held === "object" && held !== null ? holdBehind(held) : undefined;
  if (hold === undefined) refuse("Cannot commit: 'held' must be a held Lock", held);
  return hold;
}
