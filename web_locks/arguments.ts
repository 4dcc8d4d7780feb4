/** What a request is made of, converted and checked in the order of Web IDL and of the specification. */

import { checkOptions } from "../core/options.ts";
import { Input } from "../core/validate.ts";
import type { GrantedLock, LockMode } from "./types.ts";

const REQUESTING: Input = new Input("request a lock");

/** What is asked for, after all checks. */
export interface Asked {
  readonly name: string;
  readonly mode: LockMode;
  readonly ifAvailable: boolean;
  readonly steal: boolean;
  readonly signal: AbortSignal | undefined;
  readonly waitForMs: number | undefined;
  readonly callback: (lock: GrantedLock | null) => unknown;
}

/** Throws a TypeError for arguments that cannot be converted. */
export function askedBy(name: unknown, second: unknown, rest: readonly unknown[]): Asked {
  const [options, callback] = rest.length > 0 ? [second, rest[0]] : [undefined, second];
  // Throws for a symbol.
  const text = `${name as string}`;
  const dictionary = dictionaryIn(options);
  if (typeof callback !== "function") REQUESTING.refuse("it takes a callback", callback);
  return { name: text, ...dictionary, callback: callback as Asked["callback"] };
}

/** The options, each read once, in the order of their names. */
function dictionaryIn(options: unknown): Omit<Asked, "name" | "callback"> {
  if (
    options !== undefined && options !== null && typeof options !== "object" && typeof options !== "function"
  ) {
    REQUESTING.refuse("options must be an object", options);
  }
  const given = (options ?? {}) as { readonly [member: string]: unknown };
  const ifAvailable = Boolean(given.ifAvailable);
  const mode = modeIn(given.mode);
  const signal = given.signal as AbortSignal | undefined;
  const steal = Boolean(given.steal);
  const waitForMs = given.waitForMs as number | undefined;
  const checked = checkOptions({ signal, waitForMs }, REQUESTING);
  return { ifAvailable, mode, signal: checked.signal, steal, waitForMs };
}

function modeIn(value: unknown): LockMode {
  if (value === undefined) return "exclusive";
  const mode = `${value as string}`;
  if (mode === "shared" || mode === "exclusive") return mode;
  REQUESTING.refuse(`'mode' must be "shared" or "exclusive"`, value);
}

/** What the specification refuses. Throws a DOMException, or the reason of a signal that has aborted. */
export function checkAsked({ name, mode, ifAvailable, steal, signal }: Asked): void {
  if (name.startsWith("-")) unsupported("a name must not begin with '-'");
  if (steal && ifAvailable) unsupported("'steal' and 'ifAvailable' cannot be combined");
  if (steal && mode !== "exclusive") unsupported("'steal' takes exclusive locks only");
  if (signal !== undefined && (steal || ifAvailable)) {
    unsupported("'signal' cannot be combined with 'steal' or 'ifAvailable'");
  }
  if (signal?.aborted) throw signal.reason;
}

function unsupported(why: string): never {
  throw new DOMException(`Cannot request a lock: ${why}`, "NotSupportedError");
}
