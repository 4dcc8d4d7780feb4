/** How the client of a store is loaded that the user has installed: this package depends on none. */

import { messageOf } from "../core/errors.ts";

/**
 * Loads a module. Bundlers cannot know which, and leave the call as it is because of its comments: some would put in its
 * place what finds none of the packages that are installed.
 */
export function load(specifier: string): Promise<Record<string, unknown>> {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ specifier);
}

/** Whether a package could not be loaded because it is not there, and not because something is wrong with it. */
export function isMissing(error: unknown, name: string): boolean {
  const [line] = messageOf(error).split("\n");
  if (!line.includes(`'${name}'`) && !line.includes(`"${name}"`)) return false;
  return /cannot find (package|module)|not a dependency/i.test(line);
}
