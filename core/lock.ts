import type { LockBackend } from "./backend.ts";
import { brand } from "./brand.ts";
import { onArrival } from "./arrivals.ts";
import { claimOf, readClaim } from "./claim.ts";
import { type LossReason, quote } from "./errors.ts";
import { publishBackendError } from "./events.ts";
import { afterExit } from "./exiting.ts";
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
  type QueuedDeadlock,
  type RestoreOptions,
  type UpgradeOptions,
} from "./options.ts";
import { participantOf } from "./participant.ts";
import { deadlockOf, ownHoldOf, queuedDeadlockOf, upgradeDeadlockOf } from "./nesting.ts";
import type { Done } from "./request.ts";
import { restore } from "./restore.ts";
import { currentScope, findScope, type Scope } from "./scope.ts";
import { type KeyedLock, locksOf, type LockTargets, nameOf, type Targets, targetsIn } from "./targets.ts";
import { Input, refuse } from "./validate.ts";

const FINDING: Input = new Input("find the current lock");

/** Makes the public object of a hold; the class has no public constructor. */
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
  /**
   * Whether it is held, as far as this process knows; if not, that it was released or handed over, or the reason
   * of the loss.
   */
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
 * @example In an app
 * ```ts ignore
 * import { Lock } from "@holdfast/lock";
 *
 * const held = await Lock.acquire("import", { waitForMs: 2000 });
 * if (held === null) {
 *   console.log("another process is importing");
 * } else {
 *   try {
 *     await importRows({ signal: held.signal });
 *   } finally {
 *     await held.release();
 *   }
 * }
 * ```
 *
 * @example
 * ```ts
 * import { Lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const held = await Lock.acquire("invoice:17", { backend, wait: false });
 * if (held === null) throw new Error("another process is at work");
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
    // `using` cannot wait for the release. It asks for this before it runs anything, and so the lock is released. It is not in
    // the types, or compilers would let it pass.
    if (Symbol.dispose !== undefined) {
      Object.defineProperty(this.prototype, Symbol.dispose, {
        configurable: true,
        get(this: Lock) {
          if (#hold in this && !this.#isNested) {
            const { identifier } = this;
            this.release().catch((error) => publishBackendError(identifier, error));
          }
          throw new TypeError(
            "Cannot dispose of a lock at once: write 'await using', which waits for its release",
          );
        },
      });
    }
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
   * Acquires the lock of `identifier`. Resolves to `null` if the lock is taken and the options do not let it wait
   * (any longer).
   *
   * @param identifier A non-empty, case-sensitive string of any length; or an array of up to 16 of them, for
   * several locks that are taken together, all or none, whatever their order. Each may be held in its own mode.
   * @param options How to acquire and hold the lock.
   * @returns The held lock, or `null`.
   * @throws {TypeError | RangeError} For bad input.
   * @throws {LockBackendError} If the store fails.
   * @throws {unknown} The signal's reason, when it aborts.
   *
   * @example In an app
   * ```ts ignore
   * import { Lock } from "@holdfast/lock";
   *
   * const held = await Lock.acquire("import", { waitForMs: 2000 });
   * if (held === null) {
   *   console.log("another process is importing");
   * } else {
   *   try {
   *     await importRows({ signal: held.signal });
   *   } finally {
   *     await held.release();
   *   }
   * }
   * ```
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
   * Restores the lock for which `handOver` has made this claim: in another process, or in a later call. From then
   * on it is held and renewed here. Each claim is honoured once: delivered twice, it makes one holder.
   *
   * Resolves to `null` if there is nothing to restore any more: another call has done so, the claim has expired,
   * or the lock was evicted meanwhile. It waits for nothing but the store, and retries for the length of a lease
   * if that does not answer: the lock may have been restored by then. Of several locks it restores all or none.
   *
   * The lock is as it was (identifier, kind, mode, limit, permits, the rest of `holdAtLeastMs`), but it is a new
   * grant: `fencingToken` is a new, higher one. So a resource that checks it, and `commitIfHeld`, reject late
   * writes of the process that has handed the lock over.
   *
   * @param claim What `handOver` resolved to.
   * @param options The store, and how to hold the lock from now on.
   * @returns The held lock, or `null`.
   * @throws {TypeError | RangeError} If `claim` is no claim, or one for locks of another kind of backend or of
   * another prefix than `backend`; and for bad options.
   * @throws {LockBackendError} If the store fails: the claim may then still be valid.
   * @throws {unknown} The signal's reason, when it aborts.
   *
   * @example In the worker of a queue
   * ```ts ignore
   * import { Lock } from "@holdfast/lock";
   *
   * async function onMessage(message: { invoice: number; claim: string }) {
   *   const held = await Lock.restore(message.claim);
   *   if (held === null) return; // delivered twice, or too late
   *   try {
   *     await invoice(String(message.invoice), held.signal);
   *   } finally {
   *     await held.release();
   *   }
   * }
   * await onMessage({ invoice: 17, claim: await handedOver });
   * ```
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
        else afterExit(() => reject(error));
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
   * How the lock is held: `"exclusive"`, also with a `limit`, or `"shared"`. Of several that are held in different
   * modes, `"exclusive"`; `modeOf` has the mode of each.
   */
  get mode(): LockMode {
    return this.#hold.mode;
  }

  /**
   * How the lock of this identifier is held.
   *
   * @param identifier One of `identifiers`.
   * @returns Its mode, or `undefined` if it is not one of `identifiers`.
   */
  modeOf(identifier: string): LockMode | undefined {
    const { mode, lock: { locks }, identifier: name } = this.#hold;
    if (locks === undefined) return identifier === name ? mode : undefined;
    return locks.find((lock) => lock.identifier === identifier)?.how.mode;
  }

  /**
   * A string that increases (in lexicographic order) with every grant of this identifier. A resource that
   * remembers the highest one it has seen can reject writes with a lower one.
   */
  get fencingToken(): string {
    return this.#hold.fencingToken;
  }

  /**
   * Whether the lock is still held, as far as this process knows. Conservative and without I/O: `true` only while
   * the lease that the store confirmed is running. The first read after its end aborts `signal` on the spot. An
   * eviction is visible as soon as this process learns of it; `commitIfHeld` asks the store itself.
   */
  get held(): boolean {
    return this.#hold.startWatching().held;
  }

  /**
   * Aborts with a `LockLostError` the moment the lock is lost, at the latest when its lease expires; never on a
   * normal release. After a freeze, code that runs before the first timer may still see a signal that it stored as
   * not aborted; reading it from the lock, like `held`, is exact.
   */
  get signal(): AbortSignal {
    return this.#hold.startWatching().signal;
  }

  /**
   * Makes a shared lock exclusive, without releasing it. Resolves once all others that share it have left; from
   * the call on no other caller is admitted, and the upgrade goes before the waiters. It is a new grant:
   * `fencingToken` is a new one. It does nothing to an exclusive lock. If it rejects, the lock is held as before.
   * Upgrades and downgrades take effect in the order of the calls: one that is called while another is under way
   * begins after it, so that the last one says how the lock is held.
   *
   * @param options Whether and for how long to wait.
   * @throws {LockAcquisitionError} If others share the lock and the options do not let it wait (any longer); or at
   * once, if another holder is already upgrading: each would wait for the other; or if this one is.
   * @throws {TypeError | RangeError} For bad options; and for a lock with a `limit`, which others may hold at the
   * same time, and for several locks that are held together, unless all of them are exclusive.
   * @throws {LockDeadlockError} If the calling code also runs under another hold of the same lock, which waits for it.
   * @throws {LockLostError} When the lock is lost or released.
   * @throws {LockBackendError} If the store fails.
   * @throws {unknown} The signal's reason, when it aborts.
   *
   * @example In an app
   * ```ts ignore
   * import { lock } from "@holdfast/lock";
   *
   * await lock("report", { mode: "shared" }).run(async (held) => {
   *   if (cache.has("report")) return; // read it, together with others
   *   await held.upgrade({ waitForMs: 5000 });
   *   await buildReport({ signal: held.signal }); // write it, alone
   * });
   * ```
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
      const checked = checkUpgrade(options);
      const { mayWait } = checked;
      const deadlock = upgradeDeadlockOf(this.#hold, {
        scope: currentScope(),
        mayWait,
        called: this.upgrade,
      });
      if (deadlock !== undefined) throw deadlock;
      return this.#hold.startWatching().changeMode("exclusive", checked);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Makes an exclusive lock shared, without releasing it, and admits the next waiters that share it. It is a new
   * grant: `fencingToken` is a new one. It does nothing to a shared lock. After an `upgrade` that is under way, it
   * waits for the end of that.
   *
   * @throws {TypeError} For a lock with a `limit`, which others may hold at the same time; and for several locks that
   * are held together, unless all of them are shared.
   * @throws {LockLostError} When the lock is lost or released.
   * @throws {LockBackendError} If the store fails; the lock is then shared as soon as the store answers.
   */
  downgrade(): Promise<void> {
    return this.#hold.changeMode("shared", checkUpgrade());
  }

  /**
   * Renews the lease now: when it resolves, the store has confirmed that the lock is held for at least `leaseMs`,
   * counted from the call. For code without timers, such as a serverless function that is frozen between requests:
   * use `renew: false`, and call this at the steps of the work. It never makes a lease shorter.
   *
   * @param leaseMs The new lease, in milliseconds from now. Omitted, it is the lock's `leaseMs`.
   * @throws {LockLostError} If the lock is lost, released or handed over, also while the store cannot be reached.
   * @throws {LockBackendError} If the store fails in a way that does not pass.
   * @throws {TypeError | RangeError} For a bad `leaseMs`.
   *
   * @example In an app
   * ```ts ignore
   * import { Lock } from "@holdfast/lock";
   *
   * const held = await Lock.acquire("import", { renew: false, leaseMs: 10_000 });
   * for (const page of [1, 2, 3]) {
   *   await held?.extend(); // ten seconds for each page
   *   await importRows({ page });
   * }
   * await held?.release();
   * ```
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
   * Calls `warn` when the lock is close to being lost, with the rest of its lease in milliseconds: a renewal is
   * overdue by half the lease, so that a sixth of it is left. Either the store cannot be reached, or the process
   * was busy, or with `renew: false` it is time to `extend`. Work in progress can still be brought to a safe end.
   *
   * It is called again if that happens again, and at once if it is already so; never after the lock has ended. In
   * a process that was frozen, `signal` may abort instead. The same is published on the diagnostics channel
   * `holdfast:late`, for all locks of a process.
   *
   * @param warn Gets the rest of the lease, in milliseconds.
   * @throws {TypeError} If `warn` is not a function.
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
   * Hands the lock over to the process that passes the claim to `Lock.restore`: until then it stays taken for all
   * others. From the call on this process does not hold it any more: `held` is `false`, it is not renewed, and
   * `commitIfHeld` rejects; `signal` does not abort, since nothing was lost. `release` does nothing, and resolves
   * to `false`.
   *
   * Resolves to the claim when the store has confirmed it. **The claim contains a secret**: a process that has it
   * can take the lock. Send it where you would send a password, and keep it out of logs and URLs. It is valid for
   * `leaseMs`; if no process restores the lock until then, others get it. Called again, without a `leaseMs` or with
   * the same one, it repeats the first outcome.
   *
   * @param options For how long the claim is valid.
   * @returns The claim, a string.
   * @throws {LockLostError} If the lock is lost or released.
   * @throws {LockBackendError} If the store did not confirm it before the lease expired.
   * @throws {TypeError | RangeError} For bad options; for another `leaseMs` than in the call that has handed the lock
   * over; and for a lock that was admitted by `reentrant`, which only the outermost call can hand over.
   *
   * @example In a request that leaves the work to a queue
   * ```ts ignore
   * import { Lock } from "@holdfast/lock";
   *
   * const held = await Lock.acquire("invoice:17", { wait: false });
   * const claim = await held?.handOver({ leaseMs: 60_000 });
   * if (claim !== undefined) await queue.send({ invoice: 17, claim });
   * ```
   */
  async handOver(options?: HandOverOptions): Promise<string> {
    if (this.#isNested) {
      throw new TypeError(
        "Cannot hand over: the lock is that of a caller around this code, which gives it back",
      );
    }
    const hold = this.#hold;
    const { leaseMs } = checkHandOver(options);
    return claimOf(hold, await hold.handOver(leaseMs));
  }

  /**
   * Releases the lock. Calling it again repeats the outcome and touches nothing.
   *
   * For a lock that was admitted by `reentrant`, the outermost call releases: here it resolves to whether the lock
   * is still held, and does nothing.
   *
   * @returns `true` if the lock was still held and is now free, or handed to the next in the queue; `false` if it
   * had been lost.
   * @throws {LockBackendError} If the release did not reach the store before the lease expired.
   */
  release(): Promise<boolean> {
    return this.#isNested ? Promise.resolve(this.#hold.held) : this.#hold.release();
  }

  /**
   * Releases at the end of an `await using` block. Never throws: a failure of the store is published on the
   * diagnostics channel `holdfast:backend-error`, and the lock frees itself when the lease expires.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isNested) await this.#hold.releaseQuietly();
  }

  /**
   * What `JSON.stringify` shows: what the lock is, without its secret token. It changes nothing.
   *
   * @returns An object without methods.
   */
  toJSON(): LockJson {
    const { identifier, kind, mode, fencingToken } = this;
    const { state, lock: { locks } } = this.#hold;
    const shown = { identifier, kind, mode, state, fencingToken };
    if (locks === undefined) return shown;
    return { ...shown, locks: locks.map(({ identifier, how: { mode } }) => ({ identifier, mode })) };
  }

  /**
   * Describes the lock, without its secret token.
   *
   * @returns A text for people.
   */
  toString(): string {
    const { state: found } = this.#hold;
    const isLost = found !== "held" && found !== "released" && found !== "handed-over";
    const state = isLost ? `lost, ${found}` : found.replace("-", " ");
    const text = `${
      JSON.stringify(this.identifier)
    }, ${this.kind}, ${this.mode}, ${state}, fencingToken: ${this.fencingToken}`;
    return `Lock { ${printable(text)} }`;
  }

  /**
   * What `console.log` shows.
   *
   * @returns The same as `toString`.
   */
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
      else afterExit(() => reject(error));
    };
    const ask = (backend: LockBackend, locks: readonly KeyedLock[]) => {
      throwIfAborted(options);
      let deadlock: QueuedDeadlock | undefined;
      if (scope !== undefined) {
        const asked = { scope, backend, locks, options };
        const own = options.reentrant ? ownHoldOf(asked) : undefined;
        if (own !== undefined) return resolve(lockOf(own, true));
        const error = deadlockOf(asked, acquireLock);
        if (error !== undefined) return reject(error);
        deadlock = queuedDeadlockOf(asked, acquireLock);
      }
      const participant = participantOf(backend);
      const identifier = nameOf(targets);
      const held = heldAs(options, locks);
      const checked = deadlock === undefined ? held : { ...held, deadlock };
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
    const { signal } = options;
    onArrival(
      { identifier: nameOf(targets), backend, locks: locksOf(targets, options), signal },
      ask,
      (error) => afterExit(() => reject(error)),
    );
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
 * The lock under which the calling code runs: of the innermost `run`, wrapper or decorator around it, or of the
 * innermost of `identifier`, alone or together with others. If it was lost meanwhile, its `held` is `false`, and
 * its `signal` has aborted.
 *
 * @param identifier Only a lock of this identifier. Omitted: any.
 * @returns The held lock; `undefined` if there is none, or its function has ended.
 * @throws {TypeError} For an invalid identifier.
 *
 * @example In a function that must run under a lock
 * ```ts ignore
 * import { currentLock, lock } from "@holdfast/lock";
 *
 * async function post(account: string) {
 *   const held = currentLock(`account:${account}`);
 *   if (held === undefined) throw new Error("call this under the lock of the account");
 *   await invoice(account, held.signal);
 * }
 * await lock("account:ada").run(() => post("ada"));
 * ```
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
  if (identifier !== undefined) assertIdentifier(identifier, "identifier", FINDING);
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
