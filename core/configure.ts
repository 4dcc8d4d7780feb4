import type { LockBackend } from "./backend.ts";
import { printable } from "./printable.ts";
import { refuse } from "./validate.ts";
import { assertBackend, type CheckedOptions } from "./options.ts";

/** Which backend serves which kind. */
export interface Backends {
  /** For `LOCK_KINDS.STRONG`. Default: Deno KV, opened on first use. */
  strong?: LockBackend | undefined;
  /** For `LOCK_KINDS.WEAK`. Default: the strong one. */
  weak?: LockBackend | undefined;
}

/** Inherits nothing, as no options do. */
const configured: Backends = Object.create(null);
let openDefault: (() => Promise<LockBackend>) | undefined;
let opening: Promise<LockBackend> | undefined;

/**
 * Sets the backends that serve the kinds from now on, in this process (and in this copy of the library, if there are more). What is omitted stays as it
 * was; `undefined` goes back to the default. Call it once, at start, with the same stores in every
 * process: two processes that lock in different stores do not exclude each other.
 *
 * Throws TypeError for what is not a backend.
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
  if (typeof backends !== "object" || backends === null) {
    refuse("Cannot configure: it takes { strong, weak }", backends);
  }
  for (const [name, backend] of Object.entries(backends)) {
    if (name !== "strong" && name !== "weak") {
      throw new TypeError(`Cannot configure: there is no kind '${printable(name)}', only strong and weak`);
    }
    if (backend !== undefined) assertBackend(backend, name);
  }
  Object.assign(configured, backends);
}

/** Says how the strong backend is opened when none is configured. */
export function setDefaultBackend(open: () => Promise<LockBackend>): void {
  openDefault = open;
}

/** The backend that options select. */
export function backendFor(options: CheckedOptions): LockBackend | Promise<LockBackend> {
  const chosen = options.backend ??
    (options.kind === "weak" ? configured.weak : undefined) ?? configured.strong;
  if (chosen !== undefined) return chosen;
  if (openDefault !== undefined) {
    // One for all, or those who come first might get it last. A failure is not kept: the next use tries again.
    return opening ??= openDefault().catch((error) => {
      opening = undefined;
      throw error;
    });
  }
  throw new TypeError("Cannot lock: no backend is configured; call configure({ strong: … }) first");
}
