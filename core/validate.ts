/** How bad input is refused: by the option, the rule and the value, before anything is sent. */

import { MAX_MS } from "./clock.ts";
import { quote } from "./errors.ts";
import { printable } from "./printable.ts";

/** Throws for bad input: the rule that it breaks, and what it is. */
export function refuse(rule: string, value: unknown, Refusal: ErrorConstructor = TypeError): never {
  throw new Refusal(`${rule}, current value is ${describe(value)}`);
}

/** A value as an error message shows it. */
export function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function") {
    return "a promise (is an await missing?)";
  }
  return printable(
    typeof value === "object" && value !== null ? Object.prototype.toString.call(value) : String(value),
  );
}

/** The same of what was handed in as a client: a text is a URL then, which may have a password in it. */
export function describeClient(client: unknown): string {
  return typeof client === "string" ? "a text" : describe(client);
}

/** An object that inherits nothing: made and read faster than `{ __proto__: null }`, which every acquisition would pay. */
class Bare {
  static {
    Object.setPrototypeOf(this.prototype, null);
  }
}

/**
 * The options that are the object's own, as an object that inherits nothing: another library may have put
 * `stealAfterMs` on the prototype of all objects, and a caller may make options of others with `Object.create`.
 * Refuses what is no object, or has a name that is not in `names`: it may be a slip.
 */
export function ownOptions<Options extends object>(
  options: Options,
  names: readonly string[],
  doing: string,
): Options {
  if (Object.prototype.toString.call(options) !== "[object Object]") {
    refuse(`Cannot ${doing}: options must be an object`, options);
  }
  for (const name of Object.keys(options)) {
    if (names.includes(name)) continue;
    const meant = meantBy(name, names);
    const hint = meant === undefined ? "" : ` (did you mean '${meant}'?)`;
    throw new TypeError(
      `Cannot ${doing}: there is no option '${printable(name)}'${hint}, only ${names.join(", ")}`,
    );
  }
  return Object.assign(new Bare(), options);
}

/** What other libraries call our options: by ours, and without the unit. */
const OTHER_NAMES: Readonly<Record<string, RegExp>> = {
  leaseMs: /^(ttl|expir(y|es?|ation|ein)|lease(time|duration)?|duration|lock(for|timeout|ttl))$/,
  waitForMs:
    /^((acquire|wait|lock)?timeout|wait(for|time|limit)?|max(imum)?wait|acquisitiontimeout|retr(y|ies).*)$/,
  renew: /^(auto)?(renew(al)?|extend|refresh|heartbeat)$/,
  label: /^(name|owner|holder|value)$/,
  backend: /^(store|client|adapter|redis|kv)$/,
  limit: /^(max(concurrency|holders)?|concurrency|permits?count)$/,
  mode: /^(shared|exclusive|read|write)$/,
};

/** The option that the caller probably meant by `name`. */
function meantBy(name: string, names: readonly string[]): string | undefined {
  const bare = (text: string) =>
    text.toLowerCase().replace(/[_-]|(in)?(ms|s|sec|seconds|milliseconds|millis)$/g, "");
  const word = bare(name);
  return names.find((option) => bare(option) === word || OTHER_NAMES[option]?.test(word));
}

/** Checks the input of one call, which every refusal names, as in "Cannot extend". */
export class Input {
  /** What the call does. */
  readonly doing: string;

  constructor(doing: string) {
    this.doing = doing;
  }

  /** Throws for bad input: the call, the rule that it breaks, and what it is. */
  refuse(rule: string, value: unknown, Refusal: ErrorConstructor = TypeError): never {
    refuse(`Cannot ${this.doing}: ${rule}`, value, Refusal);
  }

  /** The options that are the object's own, see {@linkcode ownOptions}. */
  own<Options extends object>(options: Options, names: readonly string[]): Options {
    return ownOptions(options, names, this.doing);
  }

  /** A time, if it is given. */
  time(value: unknown, option: string, least: number): number | undefined {
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= MAX_MS) {
      return value;
    }
    const rule = `'${option}' must be a whole number of milliseconds from ${least} to ${MAX_MS}, or omitted`;
    this.refuse(rule, value, typeof value === "number" ? RangeError : TypeError);
  }

  /** A number of things, if it is given. */
  count(value: unknown, option: string, most: number): number | undefined {
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) return value;
    const rule = `'${option}' must be a whole number from 1 to ${most}, or omitted`;
    this.refuse(rule, value, typeof value === "number" ? RangeError : TypeError);
  }

  /** A yes or no, if it is given. */
  flag(value: unknown, option: string): boolean | undefined {
    if (value === undefined || typeof value === "boolean") return value;
    this.refuse(`'${option}' must be true or false`, value);
  }

  /** A signal, if it is given. */
  signal(value: unknown): AbortSignal | undefined {
    if (value === undefined) return undefined;
    // By shape, not by class: a signal may come from another realm or a polyfill.
    const candidate = value as Partial<AbortSignal> | null;
    if (
      typeof candidate === "object" && candidate !== null && typeof candidate.aborted === "boolean" &&
      typeof candidate.addEventListener === "function" &&
      typeof candidate.removeEventListener === "function"
    ) return value as AbortSignal;
    this.refuse("'signal' must be an AbortSignal", value);
  }
}

/** The input of the calls that ask for a lock. */
export const LOCKING: Input = new Input("lock");
