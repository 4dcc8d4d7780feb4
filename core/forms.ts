import { LockLostError } from "./errors.ts";
import type { Hold } from "./hold.ts";
import { refuse } from "./validate.ts";
import { acquireLock, holdOf, type Lock } from "./lock.ts";
import { checkOptions, type LockOptions } from "./options.ts";
import { callIn, newScope } from "./scope.ts";
import { type LockTargets, targetsIn } from "./targets.ts";

/** What a wrapped function resolves to when it did not run; `never` if the options always let it run. */
export type Bailed<Options> = Options extends
  Omit<LockOptions, "wait" | "waitForMs"> & { wait?: true | undefined; waitForMs?: undefined } ? never
  : undefined;

/** A wrapper for functions and decorator for methods: see {@linkcode lock}. */
export interface LockWrapper<Options, Identified extends unknown[] = unknown[]> {
  /**
   * Returns a function that runs `fn` under the lock, with the same arguments and the same `this`.
   *
   * Its promise resolves to what `fn` returns, or to `undefined` if the lock was taken and the options did
   * not let it wait; then `fn` did not run. It rejects with what `fn` throws, with `LockLostError` if the
   * lock was lost while `fn` ran, with the signal's reason, or with `LockBackendError`.
   */
  <This, Args extends [...Identified, ...unknown[]], Result>(
    fn: (this: This, ...args: Args) => Result,
    context?: ClassMethodDecoratorContext,
  ): (this: This, ...args: Args) => Promise<Awaited<Result> | Bailed<Options>>;
}

/** What {@linkcode lock} returns for an identifier that is known beforehand. */
export interface LockForms<Options> extends LockWrapper<Options> {
  /**
   * Runs `fn` under the lock and resolves to what it returns.
   *
   * Rejects with `LockAcquisitionError` if the lock is taken and the options do not let it wait, with what
   * `fn` throws, with `LockLostError` if the lock was lost while `fn` ran, with the signal's reason, or with
   * `LockBackendError`. A failed release never replaces the outcome of `fn`.
   */
  run<Result>(fn: (held: Lock) => Result): Promise<Awaited<Result>>;

  /**
   * Acquires the lock and resolves to it.
   *
   * Rejects with `LockAcquisitionError` if the lock is taken and the options do not let it wait, with the
   * signal's reason, or with `LockBackendError`.
   */
  acquire(): Promise<Lock>;
}

/** A lock by a name that is made from the arguments of each call: wrapper and decorator only. For the rest, see the other form. */
export function lock<Args extends unknown[], const Options extends LockOptions = Record<never, never>>(
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
