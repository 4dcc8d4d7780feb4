import type { LockBackend } from "./backend.ts";
import { brand } from "./brand.ts";
import { onArrival } from "./arrivals.ts";
import { claimOf, readClaim } from "./claim.ts";
import { type LossReason, quote } from "./errors.ts";
import { GUARD, guardFor } from "./guard.ts";
import { Hold } from "./hold.ts";
import { assertIdentifier, plainKeyOf } from "./identifier.ts";
import { printable } from "./printable.ts";
import { backendFor } from "./configure.ts";
import {
  type CheckedOptions,
  checkExtension,
  checkHandOver,
  checkOptions,
  checkRestore,
  checkUpgrade,
  type HandOverOptions,
  type LockKind,
  type LockMode,
  type LockOptions,
  type RestoreOptions,
  type UpgradeOptions,
} from "./options.ts";
import { participantOf } from "./participant.ts";
import { deadlockOf, ownHoldOf } from "./nesting.ts";
import type { Done } from "./request.ts";
import { restore } from "./restore.ts";
import { currentScope, findScope, type Scope } from "./scope.ts";
import { type KeyedLock, locksOf, type LockTargets, nameOf, type Targets, targetsIn } from "./targets.ts";
import { refuse } from "./validate.ts";

/** Makes the public face of a hold; the class itself shows no way to. */
let lockOf: (hold: Hold, isNested?: boolean) => Lock;
let holdBehind: (lock: Lock) => Hold | undefined;

/** What JSON shows of a {@linkcode Lock}. */
export interface LockJson {
  /** The identifier that was asked for; of several, all of them with commas between them. */
  readonly identifier: string;
  /** The kind that was asked for. */
  readonly kind: LockKind;
  /** How the lock is held. */
  readonly mode: LockMode;
  /** Whether it is held, as far as this process knows; if not, that it was released or handed over, or why it was lost. */
  readonly state: "held" | LossReason;
  /** The fencing token of the hold. */
  readonly fencingToken: string;
  /** Of several locks that are held together, each, and how it is held. Absent if it is one. */
  readonly locks?:
    | readonly {
      /** Its identifier. */
      readonly identifier: string;
      /** How it is held. */
      readonly mode: LockMode;
    }[]
    | undefined;
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
    brand(this, "Lock/1");
    Object.defineProperty(this.prototype, GUARD, {
      value(this: Lock) {
        return #hold in this ? guardFor(this.#hold) : undefined;
      },
    });
  }

  private constructor(hold: Hold, isNested = false) {
    if (!(hold instanceof Hold)) throw new TypeError("Cannot make a Lock: acquire one");
    this.#hold = hold;
    this.#isNested = isNested;
    if (!isNested) hold.ownedBy(this);
  }

  /**
   * Acquires the lock of `identifier`, a non-empty string of any length; case matters. An array of up to 16 of them stands
   * for several locks that are taken together, all or none, in whatever order they are named; each may be held in a way of
   * its own.
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
  static acquire(identifier: LockTargets, options?: LockOptions): Promise<Lock | null> {
    try {
      const checked = checkOptions(options);
      return acquireLock(targetsIn(identifier, checked), checked, null);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes up the lock that `handOver` has made this claim to: in another process, or in a later call. It is renewed from
   * then on. Each claim is honoured once: delivered twice, it makes one holder.
   *
   * Resolves to `null` if there is nothing to take up any more: another call has done so, the claim's time is over, or the
   * lock was evicted meanwhile. It waits for nothing but the store, which it asks again for as long as a lease if that does
   * not answer: the lock may have been taken up by then. Of several locks it takes up all or none.
   *
   * Everything about the lock is as it was (identifier, kind, mode, limit, permits, what is left of `holdAtLeastMs`),
   * but it is a grant of its own: `fencingToken` is a new, higher one. So a resource that checks it, and `commitIfHeld`,
   * refuse late writes of the process that has handed over.
   *
   * Rejects with TypeError if `claim` is no claim, or one to locks of another kind of backend or of another prefix than
   * `backend`; with RangeError or TypeError for bad options, with the signal's reason when that aborts, and with
   * `LockBackendError` if the store fails: the claim may then still be good.
   *
   * @example
   * ```ts
   * import { Lock } from "@holdfast/lock";
   * import { memoryBackend } from "@holdfast/lock/backends/memory";
   * import { assert, assertEquals } from "@std/assert";
   *
   * const backend = memoryBackend();
   * const here = await Lock.acquire("invoice:17", { backend });
   * const claim = await here!.handOver({ leaseMs: 60_000 }); // send it along with the job
   *
   * const there = await Lock.restore(claim, { backend }); // in another process
   * assert(there !== null && there.fencingToken > here!.fencingToken);
   * assertEquals(await Lock.restore(claim, { backend }), null); // the message came twice
   * await there.release();
   * ```
   */
  static restore(claim: string, options?: RestoreOptions): Promise<Lock | null> {
    return new Promise((resolve, reject) => {
      restore(readClaim(claim), checkRestore(options), (hold, error, refused) => {
        if (hold !== undefined) resolve(lockOf(hold));
        else if (refused) resolve(null);
        else reject(error);
      });
    });
  }

  /** The identifier that was asked for; of several, all of them with commas between them. */
  get identifier(): string {
    return this.#hold.identifier;
  }

  /** The identifiers of all the locks that are held, each once, sorted: most often one. */
  get identifiers(): readonly string[] {
    return identifiersOf(this.#hold);
  }

  /** The kind that was asked for. */
  get kind(): LockKind {
    return this.#hold.options.kind;
  }

  /**
   * How the lock is held: `"exclusive"`, also with a `limit`, or `"shared"`. Of several that are held in different modes,
   * `"exclusive"`; `modeOf` tells them apart.
   */
  get mode(): LockMode {
    return this.#hold.mode;
  }

  /** How the lock of this identifier is held; `undefined` if it is not one of `identifiers`. */
  modeOf(identifier: string): LockMode | undefined {
    const { mode, lock: { locks }, identifier: name } = this.#hold;
    if (locks === undefined) return identifier === name ? mode : undefined;
    return locks.find((lock) => lock.identifier === identifier)?.how.mode;
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
   * Makes a shared lock exclusive, without letting go of it. Resolves once all others that share it have left; from the
   * call on no other caller is let in, and it goes before the waiters. It is a grant of its own: `fencingToken` is a new
   * one. Of an exclusive lock it does nothing.
   *
   * Rejects with `LockAcquisitionError` if others share the lock and the options do not let it wait (any longer), or at
   * once if another holder is upgrading it already: each would wait for the other. Rejects with the signal's reason when
   * that aborts, with `LockLostError` when the lock is lost or released, and with `LockBackendError` if the store fails.
   * The lock is then held as before.
   *
   * @example
   * ```ts
   * import { lock } from "@holdfast/lock";
   * import { memoryBackend } from "@holdfast/lock/backends/memory";
   * import { assertEquals } from "@std/assert";
   *
   * const backend = memoryBackend();
   * await lock("report", { backend, mode: "shared" }).run(async (held) => {
   *   const isOutdated = true; // read it, together with others
   *   if (isOutdated) await held.upgrade({ waitForMs: 5000 });
   *   assertEquals(held.mode, "exclusive"); // write it
   *   await held.downgrade();
   *   assertEquals(held.mode, "shared");
   * });
   * ```
   */
  upgrade(options?: UpgradeOptions): Promise<void> {
    try {
      return this.#hold.startWatching().changeMode("exclusive", checkUpgrade(options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Makes an exclusive lock shared, without letting go of it, and lets those in that are next and share it. It is a grant
   * of its own: `fencingToken` is a new one. Of a shared lock it does nothing.
   *
   * Rejects with TypeError for a lock with a `limit`, which others may hold at the same time, with `LockLostError`
   * when the lock is lost or released, and with `LockBackendError` if the store fails; it is then shared as soon as
   * the store answers.
   */
  downgrade(): Promise<void> {
    const { limit } = this.#hold.options;
    if (limit > 1) {
      return Promise.reject(new TypeError("Cannot downgrade: a lock with a 'limit' cannot be shared"));
    }
    return this.#hold.changeMode("shared", checkUpgrade());
  }

  /**
   * Renews the lease now: when it resolves, the store has confirmed that the lock is held for at least `leaseMs` from the
   * call on. For code without timers, such as a serverless function that is frozen between requests, ask with
   * `renew: false` and call this at the steps of the work. It never makes a lease shorter. Default: the lock's `leaseMs`.
   *
   * Rejects with `LockLostError` if the lock is lost, released or handed over, also while the store cannot be reached; with
   * `LockBackendError` if the store fails in a way that waiting does not cure; and with TypeError or RangeError for a
   * `leaseMs` that is none.
   *
   * @example
   * ```ts
   * import { Lock } from "@holdfast/lock";
   * import { memoryBackend } from "@holdfast/lock/backends/memory";
   * import { assert } from "@std/assert";
   *
   * const held = await Lock.acquire("import", { backend: memoryBackend(), renew: false, leaseMs: 10_000 });
   * for (const _chunk of ["first", "second"]) {
   *   await held!.extend(); // ten seconds for each
   *   assert(held!.held);
   * }
   * await held!.release();
   * ```
   */
  async extend(leaseMs?: number): Promise<void> {
    return await this.#hold.extend(checkExtension(leaseMs));
  }

  /**
   * Calls `warn` when the lock is close to being lost, with what is left of its lease in milliseconds: a renewal is overdue
   * by half the lease, so that a sixth of it is left. Either the store cannot be reached, or the process was busy, or with
   * `renew: false` it is time to `extend`. What was begun can still be brought to a safe end.
   *
   * It is called again if that happens again, and at once if it is so already; never after the lock is over. A process that
   * was frozen may be told of the loss instead, by `signal`. The same is published on the diagnostics channel
   * `holdfast:late`, for those who look at all locks of a process.
   *
   * Throws TypeError if `warn` is no function.
   *
   * @example
   * ```ts
   * import { Lock } from "@holdfast/lock";
   * import { memoryBackend } from "@holdfast/lock/backends/memory";
   *
   * const held = await Lock.acquire("import", { backend: memoryBackend() });
   * const stop = new AbortController();
   * held!.onLate(() => stop.abort()); // finish the row, and begin no other
   * await held!.release();
   * ```
   */
  onLate(warn: (leftMs: number) => void): void {
    if (typeof warn !== "function") refuse("Cannot warn: it takes a function", warn);
    this.#hold.onLate(warn);
  }

  /**
   * Hands the lock over to the process that passes the claim to `Lock.restore`: it stays taken, for everybody else, until
   * then. From the call on this process does not hold it any more: `held` is `false`, it is not renewed, `commitIfHeld` is
   * refused; `signal` does not abort, for nothing was lost. `release` does nothing and says `false`.
   *
   * Resolves to the claim, a string, when the store has taken note of it. **The claim contains a secret**: whoever has it
   * can take the lock. Send it where you would send a password, and keep it out of logs and URLs. It is good for `leaseMs`;
   * if no process takes it up until then, others get the lock. Called again, it repeats the first outcome.
   *
   * Rejects with `LockLostError` if the lock is lost or released, with `LockBackendError` if the store could not be told
   * until the lease ended by itself, with TypeError or RangeError for bad options, and with TypeError for a lock that was
   * let through by `reentrant`, which is the outermost's to hand over. See `Lock.restore` for an example.
   */
  async handOver(options?: HandOverOptions): Promise<string> {
    if (this.#isNested) {
      throw new TypeError(
        "Cannot hand over: the lock is that of a caller around this code, which gives it back",
      );
    }
    const hold = this.#hold;
    const { leaseMs = hold.options.leaseMs } = checkHandOver(options);
    return claimOf(hold, await hold.handOver(leaseMs));
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
    const { identifier, kind, mode, fencingToken } = this;
    const { state, lock: { locks } } = this.#hold;
    const shown = { identifier, kind, mode, state, fencingToken };
    if (locks === undefined) return shown;
    return { ...shown, locks: locks.map(({ identifier, how: { mode } }) => ({ identifier, mode })) };
  }

  /** Names the lock, without its secret token. */
  toString(): string {
    const { state: found } = this.#hold;
    const isLost = found !== "held" && found !== "released" && found !== "handed-over";
    const state = isLost ? `lost, ${found}` : found.replace("-", " ");
    const text = `${
      JSON.stringify(this.identifier)
    }, ${this.kind}, ${this.mode}, ${state}, fencingToken: ${this.fencingToken}`;
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
export function acquireLock(targets: Targets, options: CheckedOptions): Promise<Lock>;
export function acquireLock(
  targets: Targets,
  options: CheckedOptions,
  taken: null,
): Promise<Lock | null>;
export function acquireLock(
  targets: Targets,
  options: CheckedOptions,
  taken?: null,
): Promise<Lock | null> {
  return new Promise((resolve, reject) => {
    const scope = currentScope();
    const done: Done = (hold, error, refused) => {
      if (hold !== undefined) resolve(lockOf(hold));
      else if (refused && taken === null) resolve(null);
      else reject(error);
    };
    const ask = (backend: LockBackend, locks: readonly KeyedLock[]) => {
      throwIfAborted(options);
      if (scope !== undefined) {
        const asked = { scope, backend, locks, options };
        const own = options.reentrant ? ownHoldOf(asked) : undefined;
        if (own !== undefined) return resolve(lockOf(own, true));
        const error = deadlockOf(asked, acquireLock);
        if (error !== undefined) return reject(error);
      }
      const participant = participantOf(backend);
      const identifier = nameOf(targets);
      const checked = heldAs(options, locks);
      if (locks.length === 1) {
        return participant.acquire({ identifier, key: locks[0].key, options: checked }, done);
      }
      const apart = backend.whyApart?.(locks.map(({ key }) => key));
      if (apart !== undefined) throw new RangeError(`Cannot lock ${quote(identifier)} together: ${apart}`);
      participant.acquireAll({ identifier, locks, options: checked }, done);
    };
    throwIfAborted(options);
    const backend = backendFor(options);
    const key = typeof targets === "string" ? plainKeyOf(targets) : undefined;
    if (key !== undefined && !(backend instanceof Promise)) {
      return ask(backend, [{ key, identifier: key, how: options }]);
    }
    onArrival({ identifier: nameOf(targets), backend, locks: locksOf(targets, options) }, ask, reject);
  });
}

/** The options of a request for these locks. Of several, one that is exclusive says how they are held together. */
function heldAs(options: CheckedOptions, locks: readonly KeyedLock[]): CheckedOptions {
  const [first] = locks;
  const { how } = locks.find(({ how: { mode } }) => mode === "exclusive") ?? first;
  if (how === options) return options;
  const { mode, limit, permits } = how;
  return { ...options, mode, limit, permits };
}

/** What all the locks of a hold are called. */
function identifiersOf({ identifier, lock: { locks } }: Hold): readonly string[] {
  return locks?.map((lock) => lock.identifier) ?? [identifier];
}

/**
 * The lock under which the calling code runs: of the innermost `run`, wrapper or decorator around it, or of the innermost
 * of `identifier`, alone or together with others. `undefined` where there is none, or its function has ended. One that was
 * lost meanwhile says so: `held` is `false`, and `signal` has aborted.
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
  const is = ({ hold }: Scope) => identifier === undefined || identifiersOf(hold).includes(identifier);
  return findScope(currentScope(), is)?.held as Lock | undefined;
}

function throwIfAborted({ signal }: CheckedOptions): void {
  if (signal?.aborted) throw signal.reason;
}

/** What is behind a held lock that this copy of the library has made. */
export function holdOf(held: Lock): Hold {
  return holdBehind(held)!;
}
