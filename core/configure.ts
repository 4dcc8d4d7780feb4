import type { LockBackend } from "./backend.ts";
import { printable } from "./printable.ts";
import { refuse } from "./validate.ts";
import { assertBackend, backendCallFor, type CheckedOptions, isBackend } from "./options.ts";

/** Which backend serves which kind. */
export interface Backends {
  /**
   * For `LOCK_KINDS.STRONG`.
   *
   * @default {undefined} Deno KV, opened on first use
   */
  strong?: LockBackend | undefined;
  /**
   * For `LOCK_KINDS.WEAK`.
   *
   * @default {undefined} the strong one
   */
  weak?: LockBackend | undefined;
}

/** Inherits nothing, as no options do. */
const configured: Backends = Object.create(null);
let openDefault: (() => Promise<LockBackend>) | undefined;
let opening: Promise<LockBackend> | undefined;

/**
 * Sets the backends that serve the kinds from now on, in this process (and in this copy of the library, if there
 * are several). A kind that is omitted stays as it was; `undefined` restores the default. Call it once, at
 * startup, with the same stores in every process: two processes that lock in different stores do not exclude each
 * other.
 *
 * @param backends The backends, by kind.
 * @throws {TypeError} For a value that is not a backend.
 *
 * @example At startup, on Node
 * ```ts ignore
 * import { Redis } from "ioredis";
 * import { configure } from "@holdfast/lock";
 * import { redisBackend } from "@holdfast/lock/backends/redis";
 *
 * configure({ strong: redisBackend(new Redis()) });
 * ```
 *
 * @example
 * ```ts
 * import { configure, lock, LOCK_KINDS } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assert } from "@std/assert";
 *
 * configure({ strong: memoryBackend(), weak: memoryBackend() });
 * const held = await lock("thumbnail", { kind: LOCK_KINDS.WEAK }).acquire();
 * assert(held.kind === LOCK_KINDS.WEAK);
 * await held.release();
 * configure({ strong: undefined, weak: undefined });
 * ```
 */
export function configure(backends: Backends): void {
  if (Object.prototype.toString.call(backends) !== "[object Object]" || isInstance(backends)) {
    const call = isBackend(backends) ? "backend" : backendCallFor(backends);
    refuse(`Cannot configure: it takes { strong, weak }; call configure({ strong: ${call} })`, backends);
  }
  for (const [name, backend] of Object.entries(backends)) {
    if (name !== "strong" && name !== "weak") {
      throw new TypeError(`Cannot configure: there is no kind '${printable(name)}', only strong and weak`);
    }
    if (backend !== undefined) assertBackend(backend, name);
  }
  Object.assign(configured, backends);
}

/** Whether it was made by a class, or looks as if: a client or a backend, and no options. */
function isInstance(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return isBackend(value) || prototype !== null && Object.getPrototypeOf(prototype) !== null;
}

/** Says how the strong backend is opened when none is configured. */
export function setDefaultBackend(open: () => Promise<LockBackend>): void {
  openDefault = open;
}

/** What a caller that has configured one backend only may not know. */
const ONLY_WEAK = 'A weak backend is configured: it serves { kind: "weak" } only';

/** The backend that options select. */
export function backendFor(options: CheckedOptions): LockBackend | Promise<LockBackend> {
  const chosen = options.backend ??
    (options.kind === "weak" ? configured.weak : undefined) ?? configured.strong;
  if (chosen !== undefined) return chosen;
  if (openDefault !== undefined) {
    // One for all, or the callers that come first might get it last. A failure is not kept: the next use tries again.
    return opening ??= openDefault().catch((error) => {
      opening = undefined;
      if (configured.weak === undefined || !(error instanceof TypeError)) throw error;
      throw new TypeError(`${error.message}. ${ONLY_WEAK}`, { cause: error });
    });
  }
  const hint = configured.weak === undefined ? "" : `. ${ONLY_WEAK}`;
  throw new TypeError(`Cannot lock: no backend is configured; call configure({ strong: … }) first${hint}`);
}
