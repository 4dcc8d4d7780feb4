import { run } from "./run.ts";

/** Bundles a script for Node and Bun, which know no TypeScript, except for what it imports from these packages. */
export async function bundle(script: URL, to: string, ...external: string[]): Promise<void> {
  const root = new URL("../..", import.meta.url);
  const except = external.flatMap((name) => ["--external", name]);
  await run(root, Deno.execPath(), "bundle", "--quiet", ...except, "-o", to, script.href);
}
