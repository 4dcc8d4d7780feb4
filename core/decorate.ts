/**
 * A lock as a decorator of methods, in both of the languages' ways: TC39's, which hand over the method and a context, and
 * that of TypeScript's `experimentalDecorators`, which hand over a class, a name and a property descriptor.
 */

import { describe, refuse } from "./validate.ts";

/** Any function or method. */
export type Method = (this: unknown, ...args: unknown[]) => unknown;

/** The part of `reflect-metadata` that is used, if an app has loaded it. */
interface MetadataReflect {
  getOwnMetadataKeys?(target: object): unknown[];
  getOwnMetadata?(key: unknown, target: object): unknown;
  defineMetadata?(key: unknown, value: unknown, target: object): void;
}

/** Whether these arguments are those of a decorator under `experimentalDecorators`: the second is a method's name. */
export function isLegacy(args: readonly unknown[]): boolean {
  return args.length > 1 && (typeof args[1] === "string" || typeof args[1] === "symbol");
}

/** Replaces the method that a property descriptor describes. */
export function decorateLegacy(args: readonly unknown[], wrap: (fn: unknown) => Method): PropertyDescriptor {
  const [, name, descriptor] = args as [unknown, string | symbol, PropertyDescriptor | undefined];
  const { value, get, set } = descriptor ?? {};
  if (typeof value !== "function") {
    const what = get ?? set ? "an accessor" : typeof descriptor === "number" ? "a parameter" : "a property";
    throw new TypeError(`Cannot decorate ${String(name)}: lock decorates methods only, not ${what}`);
  }
  return { ...descriptor, value: wrap(value) };
}

/** Refuses what is no function that could run under a lock. */
export function assertWrappable(fn: unknown, context?: unknown): asserts fn is Method {
  const kind = (context as ClassMethodDecoratorContext | undefined)?.kind;
  if (kind !== undefined && kind !== "method") {
    throw new TypeError(`Cannot decorate: lock decorates methods only, not a ${kind}`);
  }
  if (typeof fn !== "function") refuse("Cannot wrap: lock takes a function", fn);
  assertNoGenerator(fn, "Cannot wrap");
}

/** Refuses a generator, whose body would run after its lock has been released. */
export function assertNoGenerator(fn: CallableFunction, doing: string): void {
  if (/Generator/.test(Object.prototype.toString.call(fn))) {
    throw new TypeError(`${doing}: a generator would run after its lock is released; use run inside it`);
  }
}

/**
 * Makes a wrapper look like what it wraps: its name, its length, and what decorators below have noted on it. Frameworks
 * look for that: without it, `@lock` above a `@Cron` would silently stop the job.
 */
export function likeOriginal<Wrapper extends CallableFunction>(wrapper: Wrapper, original: Method): Wrapper {
  const { getOwnMetadataKeys, getOwnMetadata, defineMetadata } = Reflect as MetadataReflect;
  if (getOwnMetadataKeys && getOwnMetadata && defineMetadata) {
    for (const key of getOwnMetadataKeys(original)) {
      defineMetadata(key, getOwnMetadata(key, original), wrapper);
    }
  }
  return Object.defineProperties(wrapper, {
    name: { value: original.name, configurable: true },
    length: { value: original.length, configurable: true },
  });
}

/** Refuses a call of `lock` that looks like another one, by the call that was meant. */
export function assertCall(args: readonly unknown[]): void {
  const [identifier, options] = args;
  const isContext =
    typeof (options as ClassMethodDecoratorContext | undefined)?.addInitializer === "function";
  const isNamed = typeof identifier === "string" || Array.isArray(identifier);
  if (isContext || (isLegacy(args) && !isNamed)) {
    throw new TypeError('Cannot decorate: lock is called with an identifier first, as in @lock("report")');
  }
  const shown = typeof identifier === "string" ? describe(identifier) : "…";
  if (typeof options === "function") {
    throw new TypeError(
      `Cannot lock: options must be an object, current value is a function; call lock(${shown}).run(fn)`,
    );
  }
  if (args.length > 2) {
    throw new TypeError(`Cannot lock: it takes no third argument; call lock(${shown}, options).run(fn)`);
  }
}
