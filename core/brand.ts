/**
 * Lets every copy of the library in this process recognise what a class of another copy has made: an app may have one
 * copy, and a package that it uses another. By `instanceof` alone an outage that passes would be a failure for good, and a
 * held lock none.
 *
 * `name` says what instances can be relied on for, with a number that goes up when that changes. A class that extends it
 * is its own, as ever.
 */
export function brand(Class: { readonly prototype: object }, name: string): void {
  const mark = Symbol.for(`holdfast.${name}`);
  Object.defineProperty(Class.prototype, mark, { value: true });
  Object.defineProperty(Class, Symbol.hasInstance, {
    value: function (this: unknown, found: unknown): boolean {
      if (this !== Class) return Function.prototype[Symbol.hasInstance].call(this as CallableFunction, found);
      return typeof found === "object" && found !== null && mark in found;
    },
  });
}

/** What all copies of the library in this process have in common under `name`, made by the first that needs it. */
export function shared<Value>(name: string, make: () => Value): Value {
  const values = globalThis as { [name: symbol]: Value | undefined };
  return values[Symbol.for(`holdfast.${name}`)] ??= make();
}
