/** Under which locks the code runs that asks: by its async context, and only where `run`, wrapper or decorator are used. */

import { AsyncLocalStorage } from "node:async_hooks";
import { channel } from "node:diagnostics_channel";
import type { Hold } from "./hold.ts";

/** A function that runs under a lock. */
export interface Scope {
  readonly hold: Hold;
  /** The lock, as its function sees it. */
  readonly held: object;
  /** What it is called in. */
  readonly outer: Scope | undefined;
  /** Whether its function has ended: what it has started, and not waited for, may still run in its context. */
  isOver: boolean;
}

/** Made for the first function that runs under a lock: some runtimes make every promise dearer once there is one. */
let scopes: AsyncLocalStorage<Scope> | undefined;

/** The innermost scope of the code that asks. */
export function currentScope(): Scope | undefined {
  return scopes?.getStore();
}

/** A scope within that of the calling code. */
export function newScope({ hold, held }: Pick<Scope, "hold" | "held">): Scope {
  return { hold, held, outer: currentScope(), isOver: false };
}

/** A function that is about to run under a lock: a subscriber may put another in its place that calls it. */
export interface Run {
  /** That of the acquisition, as in all events. */
  readonly id: number;
  fn: () => unknown;
}

/** Where {@linkcode Run}s are announced: telemetry makes the span of the hold the parent of what runs under it. */
export const RUN = "holdfast:run";
const runs = channel(RUN);

/** Calls `fn` in a scope. The caller that awaits what it returns says when the scope is over. */
export function callIn<Result>(scope: Scope, fn: () => Result): Result {
  scopes ??= new AsyncLocalStorage();
  if (!runs.hasSubscribers) return scopes.run(scope, fn);
  const run: Run = { id: scope.hold.event.id, fn };
  runs.publish(run);
  return scopes.run(scope, run.fn) as Result;
}

/** The innermost of these scopes whose function has not ended yet and that `is` holds for. */
export function findScope(innermost: Scope | undefined, is: (scope: Scope) => boolean): Scope | undefined {
  for (let scope = innermost; scope !== undefined; scope = scope.outer) {
    if (!scope.isOver && is(scope)) return scope;
  }
}
