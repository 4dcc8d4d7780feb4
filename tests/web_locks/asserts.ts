// What cases assert, on every runtime.
import assert from "node:assert/strict";

export { assert };

/** The request is refused with an error of this class. */
export async function rejectsWith(promise: Promise<unknown>, Class: ErrorConstructor): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof Class && error.name === Class.name);
}

/** The request is refused with a DOMException of this name. */
export async function rejectsDom(promise: Promise<unknown>, name: string): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof DOMException && error.name === name);
}

/** The request is refused with this very reason. */
export async function rejectsAs(promise: Promise<unknown>, reason: unknown): Promise<void> {
  let is = false;
  await promise.then(() => {}, (error) => is = Object.is(error, reason));
  assert.equal(is, true);
}

/** A callback that must not be called. */
export function never(): never {
  throw new Error("the callback was called");
}
