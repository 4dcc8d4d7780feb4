/**
 * What of a client's error is passed on.
 *
 * Clients hang on their errors whatever they worked with: ioredis the command with its arguments, a client of HTTP its
 * request with its headers. In there are holders' secret tokens and passwords, and a program that prints or sends on an
 * error prints them with it. So the cause of a LockBackendError is a copy: what happened, and nothing else.
 */

import { messageOf } from "../core/errors.ts";

/** How many causes of causes are copied. */
const MAX_DEPTH = 4;

/** Redis quotes the arguments of a command that it does not know. */
const ARGUMENTS = /,? with args beginning with:.*$/s;

/** An error's message without what it may quote of a command. */
export function safeMessageOf(error: unknown): string {
  return messageOf(error).replace(ARGUMENTS, "");
}

/** What an error says in one line, and its causes: `fetch` says in a cause why it has failed. */
export function reasonOf(error: unknown, depth: number = MAX_DEPTH): string {
  // Some clients put a stack into their messages.
  const [message] = safeMessageOf(error).split("\n", 1);
  const { cause } = Object(error) as { readonly cause?: unknown };
  if (cause === undefined || depth === 0) return message;
  const reason = reasonOf(cause, depth - 1);
  return message.includes(reason) ? message : `${message}: ${reason}`;
}

/** A copy of an error, with its name, message, code and stack, and the same of its causes. */
export function causeOf(error: unknown, depth: number = MAX_DEPTH): Error {
  const { name = "Error", code, cause, stack = "" }: Partial<Error> & { readonly code?: unknown } =
    error instanceof Error ? error : {};
  const options = cause === undefined || depth === 0 ? undefined : { cause: causeOf(cause, depth - 1) };
  const copy = new Error(safeMessageOf(error), options);
  const frames = stack.split("\n").filter((line) => /^\s+at /.test(line));
  // Not enumerable, as an error's own are.
  const define = (name: string, value: unknown) =>
    Object.defineProperty(copy, name, { value, writable: true, configurable: true });
  define("name", name);
  define("stack", [`${name}: ${copy.message}`, ...frames].join("\n"));
  if (typeof code === "string" || typeof code === "number") Object.assign(copy, { code });
  return copy;
}
