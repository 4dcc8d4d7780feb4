import {
  assertCall,
  assertNoGenerator,
  assertWrappable,
  decorateLegacy,
  isLegacy,
  likeOriginal,
  type Method,
} from "./decorate.ts";
import { LockAcquisitionError, type LockLostError } from "./errors.ts";
import { afterExit } from "./exiting.ts";
import type { Hold } from "./hold.ts";
import { refuse } from "./validate.ts";
import { acquireLock, holdOf, type Lock } from "./lock.ts";
import { checkCall, type LockCallOptions } from "./options.ts";
import { callIn, newScope } from "./scope.ts";
import { type LockTargets, type Targets, targetsIn } from "./targets.ts";

/**
 * What a wrapped function resolves to when it did not run: what `onTaken` returns, or `undefined`; `never` if the options
 * always let it run.
 */
export type Bailed<Options> = Options extends
  Omit<LockCallOptions, "wait" | "waitForMs"> & { wait?: true | undefined; waitForMs?: undefined } ? never
  : Skipped<Options, undefined>;

/** What `onTaken` returns, or `Otherwise` if there is none. */
export type Skipped<Options, Otherwise> = Options extends
  { onTaken: (error: LockAcquisitionError) => infer Value } ? Awaited<Value>
  : Otherwise;

/** Why a method cannot be decorated, as compilers show it. */
export interface WrongMethod<Rule extends string> {
  /** What it must be. */
  readonly rule: Rule;
}

/**
 * The type of a decorator's result: `Replaced`, if that fits the method, whose type stays as it was. The method must return
 * a promise, which includes what it resolves to when the lock is taken.
 */
export type Decorated<Options, Result, Replaced> = [Result] extends [PromiseLike<infer Value>]
  ? [Bailed<Options>] extends [Value] ? Replaced
  : WrongMethod<"the lock may be taken: return Promise<… | undefined>, or let it wait">
  : WrongMethod<"make the method async: its caller gets a promise">;

/** A wrapper for functions and decorator for methods: see {@linkcode lock}. */
export interface LockWrapper<Options, Identified extends unknown[] = unknown[]> {
  /** Decorates a method, as TC39's decorators do. */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    method: (this: This, ...args: Args) => Result,
    context: ClassMethodDecoratorContext,
  ): Decorated<
    Options,
    Result,
    (this: This, ...args: Args) => Promise<Awaited<Result> | Bailed<Options>>
  >;
  /** Decorates a method, as TypeScript does with `experimentalDecorators`: for NestJS, TypeORM and the like. */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    target: object,
    name: string | symbol,
    descriptor: { value?: ((this: This, ...args: Args) => Result) | undefined },
  ): Decorated<Options, Result, void>;
  /**
   * Returns a function that runs `fn` under the lock, with the same arguments and the same `this`. Its promise
   * resolves to what `fn` returns, or, if the lock was taken and the options did not let it wait, to what `onTaken`
   * returns, by default `undefined`; then `fn` did not run. It rejects with what `fn` throws, with `LockLostError`
   * if the lock was lost while `fn` ran, with the signal's reason, or with `LockBackendError`.
   *
   * @typeParam This The `this` of the function.
   * @typeParam Args Its arguments.
   * @typeParam Result What it returns.
   * @param fn The function.
   * @returns The wrapped function.
   * @throws {TypeError} If `fn` is not a function, or is a generator.
   */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    fn: (this: This, ...args: Args) => Result,
  ): (this: This, ...args: Args) => Promise<Awaited<Result> | Bailed<Options>>;
}

/** What {@linkcode lock} returns for an identifier that is known beforehand. */
export interface LockForms<Options> extends LockWrapper<Options> {
  /**
   * Runs `fn` under the lock, and resolves to what it returns; or to what `onTaken` returns, if that is given, the
   * lock is taken and the options do not let it wait. A failed release never replaces the outcome of `fn`.
   *
   * @typeParam Result What `fn` returns.
   * @param fn The function. It gets the held lock.
   * @returns What `fn` returns, once the lock is released; or what `onTaken` returns.
   * @throws {LockAcquisitionError} If the lock is taken, the options do not let it wait, and there is no
   * `onTaken`.
   * @throws {LockLostError} If the lock was lost while `fn` ran; what `fn` threw is its `cause`, and what it
   * returned its `result`.
   * @throws {LockBackendError} If the store fails before the lock is held.
   * @throws {unknown} What `fn` throws, or the signal's reason.
   */
  run<Result>(fn: (held: Lock) => Result): Promise<Awaited<Result> | Skipped<Options, never>>;

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
export function lock<Args extends unknown[], const Options extends LockCallOptions = Record<never, never>>(
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
export function lock<const Options extends LockCallOptions = Record<never, never>>(
  identifier: LockTargets,
  options?: Options,
): LockForms<Options>;
export function lock(
  identifier: LockTargets | ((...args: never[]) => unknown),
  options?: LockCallOptions,
  ...more: unknown[]
): LockForms<LockCallOptions> {
  if (more.length > 0 || options !== undefined) assertCall([identifier, options, ...more]);
  const { checked, onTaken } = checkCall(options);
  const named = typeof identifier === "function" ? undefined : targetsIn(identifier, checked);

  /** The lock; what its function is to be skipped for; or `null`, which stands for `undefined`. */
  const lockOrSkip = async (names: Targets): Promise<Lock | { readonly skipped: unknown } | null> => {
    if (onTaken === undefined) return await acquireLock(names, checked, null);
    try {
      return await acquireLock(names, checked);
    } catch (error) {
      if (!(error instanceof LockAcquisitionError)) throw error;
      return { skipped: await onTaken(error) };
    }
  };

  const wrap = (fn: unknown, context?: unknown) => {
    assertWrappable(fn, context);
    const wrapped = async function (this: unknown, ...args: never[]): Promise<unknown> {
      const names = typeof identifier === "function"
        ? targetsIn(identifier.apply(this, args), checked, "identifier(...)")
        : named!;
      const held = await lockOrSkip(names);
      if (held === null || "skipped" in held) return held?.skipped;
      return await runUnder(held, () => fn.apply(this, args));
    };
    return likeOriginal(wrapped as Method, fn);
  };
  const forms = (...args: unknown[]) => isLegacy(args) ? decorateLegacy(args, wrap) : wrap(args[0], args[1]);

  const assertNamed = (): Targets => {
    if (named !== undefined) return named;
    throw new TypeError("Cannot lock: 'identifier' must be a string for run and acquire, it is a function");
  };
  const acquire = async () => {
    const names = assertNamed();
    if (onTaken !== undefined) {
      throw new TypeError("Cannot acquire: 'onTaken' is for run, wrapper and decorator; call Lock.acquire");
    }
    return await acquireLock(names, checked);
  };
  const run = async (fn: (held: Lock) => unknown) => {
    if (typeof fn !== "function") refuse("Cannot run: it takes a function", fn);
    assertNoGenerator(fn, "Cannot run");
    const names = assertNamed();
    const held = onTaken === undefined ? await acquireLock(names, checked) : await lockOrSkip(names);
    if (held === null || "skipped" in held) return held?.skipped;
    return await runUnder(held, () => fn(held));
  };
  return Object.assign(forms, { run, acquire }) as unknown as LockForms<LockCallOptions>;
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
    return await failing(lossOf(hold, { cause: error }) ?? error);
  }
  await held[Symbol.asyncDispose]();
  const loss = lossOf(hold, { result });
  if (loss !== undefined) return await failing(loss);
  return result;
}

/** Rejects: at once, or when the process has released its locks to end. */
function failing(error: unknown): Promise<never> {
  return new Promise((_, reject) => afterExit(() => reject(error)));
}

/** The loss to report, with the function's own error as cause unless that error is the loss itself, or with its result. */
function lossOf(hold: Hold, own: ErrorOptions & { result?: unknown }): LockLostError | undefined {
  const { lost } = hold;
  return lost === undefined || own.cause === lost ? lost : hold.lossBy(lost.reason, own);
}
