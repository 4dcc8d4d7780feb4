import { AssertionError } from "node:assert";
import { systemClock } from "../core/clock.ts";
import type { LockOptions } from "../mod.ts";
import { within } from "../core/time_limit.ts";
import { claimCases } from "./claim_cases.ts";
import { failureCases } from "./failure_cases.ts";
import { formCases } from "./form_cases.ts";
import { holdCases } from "./hold_cases.ts";
import { modeCases } from "./mode_cases.ts";
import { operatorCases } from "./operator_cases.ts";
import { recordCases } from "./record_cases.ts";
import { Stage, type TestPeer } from "./stage.ts";
import { stealingCases } from "./stealing_cases.ts";
import { togetherCases } from "./together_cases.ts";
import { storeCases } from "./store_cases.ts";
import { waitingCases } from "./waiting_cases.ts";
import { webLockCases } from "./web_lock_cases.ts";

/** What {@linkcode testBackend} needs to know. */
export interface BackendTest {
  /** The name of the tests: `"<name>: <case>"`. */
  name: string;
  /** Registers a test: `Deno.test`, `test` of `node:test` or `bun:test`, or a similar function. */
  test: (name: string, fn: () => Promise<void>) => unknown;
  /** Opens a connection to the store. Called twice per test; both peers must reach the same store. */
  open: () => TestPeer | Promise<TestPeer>;
  /**
   * By what factor the times of the cases are stretched, from 1: their leases, waits and limits. For a store, or a
   * machine, whose answers may take long against a lease of 100 ms.
   *
   * @default {1}
   */
  stretch?: number | undefined;
  /**
   * For how many milliseconds a case may run before it fails. Without `stretch` the default is below the 5 seconds
   * after which Bun ends a test.
   *
   * @default {undefined} 4800 times `stretch`
   */
  limitMs?: number | undefined;
  /**
   * The cases, by name, that this store cannot pass, each with the reason. They are reported as skipped, never
   * left out.
   *
   * @default {undefined} none
   */
  deviations?: Readonly<Record<string, string>> | undefined;
  /**
   * Registers a test as skipped: `Deno.test.ignore`, `test.skip`.
   *
   * @default {test} with an empty test whose name contains the reason
   */
  skip?: ((name: string, fn: () => Promise<void>) => unknown) | undefined;
}

const files = [
  storeCases,
  recordCases,
  holdCases,
  waitingCases,
  modeCases,
  stealingCases,
  togetherCases,
  claimCases,
  webLockCases,
  formCases,
  operatorCases,
  failureCases,
];
const cases = new Map(files.flatMap((file) => Object.entries(file)));

/** The names of all cases, as `deviations` takes them. */
export const CASES: readonly string[] = [...cases.keys()];

/** For how long a case may run unless it is said otherwise. */
const CASE_LIMIT_MS = 4800;

/**
 * Registers one test for each law that a backend, and the locks on it, must obey. Each uses its own identifiers
 * and cleans up after itself, so the store may be one that others use.
 *
 * @param options The backend, and the test runner.
 * @throws {TypeError} If `deviations` names a case that does not exist, or gives no reason.
 * @throws {RangeError} For times that are out of range.
 *
 * @example With Deno's test runner
 * ```ts ignore
 * import { testBackend } from "@holdfast/lock/testing";
 * import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
 *
 * const store = new MemoryStore();
 * testBackend({
 *   name: "memory",
 *   test: (name, fn) => Deno.test(name, fn), // or test of node:test or bun:test
 *   open: () => ({ backend: memoryBackend({ store }), close() {} }),
 * });
 * ```
 *
 * @example A store that cannot pass one of the cases
 * ```ts
 * import { testBackend } from "@holdfast/lock/testing";
 * import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const skipped: string[] = [];
 * const store = new MemoryStore();
 * testBackend({
 *   name: "mine",
 *   test: () => {}, // Deno.test, or test from node:test or bun:test
 *   skip: (name) => skipped.push(name), // Deno.test.ignore, or test.skip
 *   open: () => ({ backend: memoryBackend({ store }), close() {} }),
 *   deviations: { "store: a listing is complete, however long": "it cannot list yet" },
 * });
 * assertEquals(skipped, ["mine: store: a listing is complete, however long (deviates: it cannot list yet)"]);
 * ```
 */
export function testBackend(options: BackendTest): void {
  const own = { __proto__: null, ...options };
  const { name, test, open, deviations = {}, skip = test, stretch = 1 } = own;
  const { limitMs = CASE_LIMIT_MS * stretch } = own;
  if (!(Number.isFinite(stretch) && stretch >= 1)) {
    throw new RangeError(`Cannot test: 'stretch' must be a number from 1, current value is ${stretch}`);
  }
  if (!(Number.isFinite(limitMs) && limitMs > 0)) {
    throw new RangeError(`Cannot test: 'limitMs' must be milliseconds above 0, current value is ${limitMs}`);
  }
  for (const [deviation, reason] of Object.entries(deviations)) {
    if (!cases.has(deviation)) throw new TypeError(`Cannot deviate: there is no case "${deviation}"`);
    if (typeof reason !== "string" || reason === "") {
      throw new TypeError(`Cannot deviate: the case "${deviation}" needs a reason`);
    }
  }
  for (const [title, play] of cases) {
    if (Object.hasOwn(deviations, title)) {
      skip(`${name}: ${title} (deviates: ${deviations[title]})`, () => Promise.resolve());
    } else {
      test(`${name}: ${title}`, () => perform(play, { open, stretch, limitMs }));
    }
  }
}

/** How locks are held that are no others than exclusive ones. */
export const AS_EXCLUSIVE: Readonly<
  Record<string, { readonly how: LockOptions; readonly readers: number; readonly which: RegExp }>
> = {
  // All permits of three: no other caller has any.
  "a semaphore of one": {
    how: { limit: 3, permits: 3 },
    readers: 0,
    which: /^(hold|wait|abort|death|steal):/,
  },
  "the exclusive side of a lock that is shared": {
    how: { mode: "exclusive" },
    readers: 2,
    which: /^(hold|wait):/,
  },
};

/** Registers the cases of these rooms once more, on locks that are held so: what is promised of a lock is promised of them. */
export function testLocks(
  { name, test, open, how, readers, which }: Pick<BackendTest, "name" | "test" | "open"> & {
    readonly how: LockOptions;
    readonly readers: number;
    /** Which cases, by the beginning of their names. */
    readonly which: RegExp;
  },
): void {
  for (const [title, play] of cases) {
    if (!which.test(title)) continue;
    const afterReaders = async (stage: Stage) => {
      const peer = stage.another();
      const shared = await Promise.all(
        Array.from({ length: readers }, () => stage.acquire(peer, { mode: "shared" })),
      );
      for (const held of shared) await held.release();
      await play(stage);
    };
    test(`${name}: ${title}`, () =>
      perform(readers > 0 ? afterReaders : play, { open, how, stretch: 1, limitMs: 30_000 }));
  }
}

async function perform(
  play: (stage: Stage) => Promise<void>,
  { open, how, stretch, limitMs }: {
    readonly open: BackendTest["open"];
    readonly how?: LockOptions;
    readonly stretch: number;
    readonly limitMs: number;
  },
): Promise<void> {
  const stage = new Stage([await open(), await open()], { stretch, how });
  const failures: unknown[] = [];
  const late = () => new AssertionError({ message: `the case did not end within ${limitMs} ms` });
  await within(play(stage), limitMs, { clock: systemClock, late }).catch((error) => failures.push(error));
  await stage.close().catch((error) => failures.push(error));
  // What went wrong first explains what went wrong in cleaning up.
  if (failures.length > 0) throw failures[0];
}
