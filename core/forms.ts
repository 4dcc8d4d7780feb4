import { LockLostError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import { refuse } from "./validate.ts";
import { acquireLock, holdOf, type Lock } from "./lock.ts";
import { checkOptions, type LockOptions } from "./options.ts";
import { callIn, newScope } from "./scope.ts";
import { type LockTargets, targetsIn } from "./targets.ts";

/** What a wrapped function resolves to if it did not run; `never` if the options always let it run. */
export type Bailed<Options> = Options extends
  Omit<LockOptions, "wait" | "waitForMs"> & { wait?: true | undefined; waitForMs?: undefined } ? never
  : undefined;

/** A wrapper for functions and decorator for methods: see {@linkcode lock}. */
export interface LockWrapper<Options, Identified extends unknown[] = unknown[]> {
  /**
   * Returns a function that runs `fn` under the lock, with the same arguments and the same `this`. Its promise
   * resolves to what `fn` returns, or to `undefined` if the lock was taken and the options did not let it wait;
   * then `fn` did not run. It rejects with what `fn` throws, with `LockLostError` if the lock was lost while `fn`
   * ran, with the signal's reason, or with `LockBackendError`.
   *
   * @typeParam This The `this` of the function.
   * @typeParam Args Its arguments.
   * @typeParam Result What it returns.
   * @param fn The function, or the method that is decorated.
   * @param context What the language passes to a decorator of a method.
   * @returns The wrapped function.
   * @throws {TypeError} If `fn` is not a function, or is a generator.
   */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    fn: (this: This, ...args: Args) => Result,
    context?: ClassMethodDecoratorContext,
  ): (this: This, ...args: Args) => Promise<Awaited<Result> | Bailed<Options>>;
}

/** What {@linkcode lock} returns for an identifier that is known beforehand. */
export interface LockForms<Options> extends LockWrapper<Options> {
  /**
   * Runs `fn` under the lock, and resolves to what it returns. A failed release never replaces the outcome of
   * `fn`.
   *
   * @typeParam Result What `fn` returns.
   * @param fn The function. It gets the held lock.
   * @returns What `fn` returns, once the lock is released.
   * @throws {LockAcquisitionError} If the lock is taken and the options do not let it wait.
   * @throws {LockLostError} If the lock was lost while `fn` ran; what `fn` threw is its `cause`.
   * @throws {LockBackendError} If the store fails before the lock is held.
   * @throws {unknown} What `fn` throws, or the signal's reason.
   */
  run<Result>(fn: (held: Lock) => Result): Promise<Awaited<Result>>;

  /**
   * Acquires the lock, and resolves to it. Release it, or hold it with `await using`.
   *
   * @returns The held lock.
   * @throws {LockAcquisitionError} If the lock is taken and the options do not let it wait.
   * @throws {LockBackendError} If the store fails.
   * @throws {unknown} The signal's reason, when it aborts.
   */
  acquire(): Promise<Lock>;
}

/**
 * Creates a wrapper or decorator whose identifier is computed from the arguments of each call. `run` and `acquire`
 * are not available: the identifier is not known before the call.
 *
 * @typeParam Args The arguments of the function from which the identifier is computed.
 * @typeParam Options The options, from which the type of the result follows.
 * @param identifier Makes the identifier, or several, from the call's arguments. A method's `this` is its `this`.
 * @param options How to acquire and hold the lock.
 * @returns A wrapper for functions, which is a decorator for methods as well.
 * @throws {TypeError | RangeError} For bad input, before anything is sent.
 *
 * @example
 * ```ts ignore
 * import { lock } from "@holdfast/lock";
 *
 * const charge = lock((user: string) => `charge:${user}`)(
 *   async (user: string, cents: number) => `${user} paid ${cents}`,
 * );
 * await charge("ada", 500);
 * ```
 */
export function lock<Args extends unknown[], const Options extends LockOptions = Record<never, never>>(
  identifier: (...args: Args) => LockTargets,
  options?: Options,
): LockWrapper<Options, Args>;
/**
 * Creates a lock with the given identifier. Use it to wrap a function, to decorate a method, to run a block, or to
 * hold a scope. It is stateless: create it once and share it.
 *
 * Code that runs under a lock (in `run`, wrapper or decorator) and asks for the same lock again would wait for
 * itself: the call is rejected with `LockDeadlockError`, or admitted with the option `reentrant`. A lock from
 * `acquire` may be held by any code: asking for it again waits.
 *
 * @typeParam Options The options, from which the type of the result follows.
 * @param identifier A non-empty, case-sensitive string of any length; or an array of up to 16 of them, for several
 * locks that are taken together, all or none, so that callers that name them in different orders cannot block each
 * other. Each may be held in its own mode: `[{ identifier: "rates", mode: "shared" }, "account:1"]`.
 * @param options How to acquire and hold the lock.
 * @returns The lock, in all its forms.
 * @throws {TypeError | RangeError} For bad input, before anything is sent.
 *
 * @example In an app
 * ```ts ignore
 * import { lock } from "@holdfast/lock";
 *
 * await lock("nightly-report").run(async (held) => {
 *   // One process at a time is here, on all machines.
 *   await buildReport({ signal: held.signal }); // aborts if the lock is lost
 * });
 * ```
 *
 * @example A wrapped function
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const charge = lock((user: string) => `charge:${user}`, { backend })(
 *   async (user: string, cents: number) => `${user} paid ${cents}`,
 * );
 * assertEquals(await charge("ada", 100), "ada paid 100");
 * ```
 *
 * @example A method
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * class Report {
 *   runs = 0;
 *   @lock("report", { backend })
 *   async refresh() {
 *     return ++this.runs;
 *   }
 * }
 * assertEquals(await new Report().refresh(), 1);
 * ```
 *
 * @example A block
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const result = await lock("report", { backend }).run(async (held) => {
 *   held.signal.throwIfAborted();
 *   return "done";
 * });
 * assertEquals(result, "done");
 * ```
 *
 * @example A scope
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * const backend = memoryBackend();
 * {
 *   await using held = await lock("report", { backend }).acquire();
 *   assert(held.held);
 * }
 * ```
 */
export function lock<const Options extends LockOptions = Record<never, never>>(
  identifier: LockTargets,
  options?: Options,
): LockForms<Options>;
export function lock(
  identifier: LockTargets | ((...args: never[]) => unknown),
  options?: LockOptions,
): LockForms<LockOptions> {
  const checked = checkOptions(options);
  const named = typeof identifier === "function" ? undefined : targetsIn(identifier, checked);

  const forms = (fn: unknown, context?: unknown, ...legacy: unknown[]) => {
    assertWrappable(fn, context, legacy);
    const wrapped = async function (this: unknown, ...args: never[]): Promise<unknown> {
      const names = typeof identifier === "function"
        ? targetsIn(identifier.apply(this, args), checked, "identifier(...)")
        : named!;
      const held = await acquireLock(names, checked, null);
      return held === null ? undefined : await runUnder(held, () => fn.apply(this, args));
    };
    return Object.defineProperties(wrapped, {
      name: { value: fn.name, configurable: true },
      length: { value: fn.length, configurable: true },
    });
  };

  const acquire = async () => {
    if (named === undefined) {
      throw new TypeError("Cannot lock: 'identifier' must be a string for run and acquire, it is a function");
    }
    return await acquireLock(named, checked);
  };
  const run = async (fn: (held: Lock) => unknown) => {
    if (typeof fn !== "function") refuse("Cannot run: it takes a function", fn);
    const held = await acquire();
    return await runUnder(held, () => fn(held));
  };
  return Object.assign(forms, { run, acquire }) as LockForms<LockOptions>;
}

/** Runs `fn` and releases. The loss of the lock goes before the outcome of `fn`; a failed release never. */
async function runUnder<Result>(held: Lock, fn: () => Result): Promise<Awaited<Result>> {
  const hold = holdOf(held);
  hold.keep();
  const scope = newScope({ hold, held });
  let result: Awaited<Result>;
  try {
    result = await callIn(scope, fn);
    scope.isOver = true;
  } catch (error) {
    scope.isOver = true;
    await held[Symbol.asyncDispose]();
    throw lossOf(hold, { cause: error }) ?? error;
  }
  await held[Symbol.asyncDispose]();
  const loss = lossOf(hold);
  if (loss !== undefined) throw loss;
  return result;
}

/** The loss to report, with the function's own error as cause unless that error is the loss itself. */
function lossOf({ lost }: Hold, own?: ErrorOptions): LockLostError | undefined {
  if (lost === undefined || own === undefined || own.cause === lost) return lost;
  return new LockLostError(lost.identifier, lost.reason, lost.fencingToken, own);
}

type Method = (this: unknown, ...args: unknown[]) => unknown;

function assertWrappable(fn: unknown, context: unknown, legacy: unknown[]): asserts fn is Method {
  if (legacy.length > 0 || typeof context === "string" || typeof context === "symbol") {
    throw new TypeError(
      "Cannot decorate: lock is a TC39 decorator; compile without 'experimentalDecorators'",
    );
  }
  const kind = (context as ClassMethodDecoratorContext | undefined)?.kind;
  if (kind !== undefined && kind !== "method") {
    throw new TypeError(`Cannot decorate: lock decorates methods only, not a ${kind}`);
  }
  if (typeof fn !== "function") refuse("Cannot wrap: lock takes a function", fn);
  if (/Generator/.test(Object.prototype.toString.call(fn))) {
    throw new TypeError("Cannot wrap: a generator would run after its lock is released; use run inside it");
  }
}
