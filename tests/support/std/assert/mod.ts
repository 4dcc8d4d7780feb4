// Stands in for jsr:@std/assert where JSR cannot be reached: only what the tests use.
import nodeAssert from "node:assert/strict";

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

export function assert(condition: unknown, message = "expected a truthy value"): asserts condition {
  nodeAssert.ok(condition, message);
}

export function assertFalse(condition: unknown, message = "expected a falsy value"): void {
  nodeAssert.ok(!condition, message);
}

export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.deepStrictEqual(actual, expected, message as string);
}

export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.notDeepStrictEqual(actual, expected, message as string);
}

export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  nodeAssert.strictEqual(actual, expected, message as string);
}

export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  nodeAssert.ok(actual.includes(expected), message ?? `expected ${actual} to include ${expected}`);
}

export function assertInstanceOf<E extends Error>(
  actual: unknown,
  expected: ErrorClass<E>,
  message?: string,
): asserts actual is E {
  nodeAssert.ok(actual instanceof expected, message ?? `expected ${actual} to be a ${expected.name}`);
}

export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  expected?: ErrorClass<E>,
  includes = "",
): E {
  let thrown: unknown;
  nodeAssert.throws(() => {
    try {
      fn();
    } catch (error) {
      thrown = error;
      throw error;
    }
  });
  return checked(thrown, expected, includes);
}

export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  expected?: ErrorClass<E>,
  includes = "",
): Promise<E> {
  const outcome = await fn().then(() => ({ error: undefined, rejected: false }), (error: unknown) => {
    return { error, rejected: true };
  });
  nodeAssert.ok(outcome.rejected, "expected a rejection");
  return checked(outcome.error, expected, includes);
}

function checked<E extends Error>(error: unknown, expected: ErrorClass<E> | undefined, includes: string): E {
  if (expected !== undefined) assertInstanceOf(error, expected);
  nodeAssert.ok(error instanceof Error, `expected an Error, not ${error}`);
  assertStringIncludes(error.message, includes);
  return error as E;
}
