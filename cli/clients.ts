/** Loads the clients of stores: those that the user has installed. */

import { LockBackendError, messageOf } from "../core/errors.ts";
import { causeOf } from "../backends/causes.ts";
import { isMissing, load as loadModule } from "../backends/loading.ts";

/** Which version of a client Deno fetches where none is named by the import map. */
const RANGES: Readonly<Record<string, string>> = {
  ioredis: "^6.0.0",
  redis: "^6.3.1",
  pg: "^8.23.1",
  postgres: "^3.4.9",
};

/** Loads the first of these packages that is installed: the user's own, on which this package does not depend. */
export async function load(names: readonly string[]): Promise<Record<string, unknown>> {
  const failures: { readonly name: string; readonly cause: unknown }[] = [];
  for (const name of names) {
    const specifiers = "Deno" in globalThis ? [name, `npm:${name}@${RANGES[name]}`] : [name];
    for (const specifier of specifiers) {
      try {
        return await loadModule(specifier);
      } catch (cause) {
        failures.push({ name, cause });
      }
    }
  }
  const broken = failures.find(({ name, cause }) => !isMissing(cause, name) && !("Deno" in globalThis));
  const { name, cause } = broken ?? failures[0];
  const what = broken === undefined
    ? `${names.join(" or ")} must be installed next to @holdfast/lock, with: npm install ${name}`
    : `${name} is installed, but cannot be loaded`;
  throw new LockBackendError(`Cannot open the store: ${what} (${firstLineOf(cause)})`, {
    cause: causeOf(cause),
  });
}

/** A terminal shows one line; clients put stacks into their messages. */
export function firstLineOf(error: unknown): string {
  return messageOf(error).split("\n")[0];
}
