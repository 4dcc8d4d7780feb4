import {
  assertCall,
  assertNoGenerator,
  assertWrappable,
  decorateLegacy,
  isLegacy,
  likeOriginal,
  type Method,
} from "./decorate.ts";
import { LockAcquisitionError, LockLostError } from "./errors.ts";
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
 * What a decorator answers: `Replaced`, if that fits the method, whose type stays what it was. It must return a promise,
 * also of what it comes to when the lock is taken.
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
   * Returns a function that runs `fn` under the lock, with the same arguments and the same `this`.
   *
   * Its promise resolves to what `fn` returns, or, if the lock was taken and the options did not let it wait, to what
   * `onTaken` returns, by default `undefined`; then `fn` did not run. It rejects with what `fn` throws, with
   * `LockLostError` if the lock was lost while `fn` ran, with the signal's reason, or with `LockBackendError`.
   */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    fn: (this: This, ...args: Args) => Result,
  ): (this: This, ...args: Args) => Promise<Awaited<Result> | Bailed<Options>>;
}

/** What {@linkcode lock} returns for an identifier that is known beforehand. */
export interface LockForms<Options> extends LockWrapper<Options> {
  /**
   * Runs `fn` under the lock and resolves to what it returns.
   *
   * Rejects with `LockAcquisitionError` if the lock is taken and the options do not let it wait (or resolves to what
   * `onTaken` returns, if that is given), with what `fn` throws, with `LockLostError` if the lock was lost while `fn` ran, with the signal's reason, or with
   * `LockBackendError`. A failed release never replaces the outcome of `fn`.
   */
  run<Result>(fn: (held: Lock) => Result): Promise<Awaited<Result> | Skipped<Options, never>>;

  /**
   * Acquires the lock and resolves to it.
   *
   * Rejects with `LockAcquisitionError` if the lock is taken and the options do not let it wait, with the
   * signal's reason, or with `LockBackendError`.
   */
  acquire(): Promise<Lock>;
}

/** A lock by a name that is made from the arguments of each call: wrapper and decorator only. For the rest, see the other form. */
export function lock<Args extends unknown[], const Options extends LockCallOptions = Record<never, never>>(
  identifier: (...args: Args) => LockTargets,
  options?: Options,
): LockWrapper<Options, Args>;
/**
 * A lock by name: a wrapper for functions, a decorator for methods, a block and a scope, all in one. It
 * holds no state, so one can be kept and used by many callers at once.
 *
 * `identifier` is a non-empty string of any length, case matters; or an array of up to 16 of them, for several locks that
 * are taken together, all or none, so that callers which name them in different orders cannot block each other. Each may be
 * held in a way of its own: `[{ identifier: "rates", mode: "shared" }, "account:1"]`. For wrapper and decorator it may also
 * be a function that makes either from the call's arguments.
 *
 * Code that runs under a lock (in `run`, wrapper or decorator) and asks for the same lock again would wait for itself:
 * it is rejected with `LockDeadlockError`, or let through with the option `reentrant`. What `acquire` has acquired is not
 * known to be held by any code: asking for it again waits.
 *
 * Throws TypeError or RangeError for bad input, before anything is sent.
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
    throw lossOf(hold, { cause: error }) ?? error;
  }
  await held[Symbol.asyncDispose]();
  const loss = lossOf(hold, { result });
  if (loss !== undefined) throw loss;
  return result;
}

/** The loss to report, with the function's own error as cause unless that error is the loss itself, or with its result. */
function lossOf({ lost }: Hold, own: ErrorOptions & { result?: unknown }): LockLostError | undefined {
  if (lost === undefined || own.cause === lost) return lost;
  return new LockLostError(lost.identifier, lost.reason, lost.fencingToken, own);
}
