/** Which Deno KV a database is: what it can do that others cannot depends on it. */

import type { KvDatabase } from "./api.ts";

/** Where a database comes from. */
export interface KvOrigin {
  /** From Deno itself, whatever it is connected to. */
  readonly native: boolean;
  /** From `npm:@deno/kv`, over KV Connect. What is neither is `npm:@deno/kv` on a file or in memory, or a stand-in. */
  readonly remote: boolean;
}

/** What is used of Deno's global. */
interface DenoGlobal {
  readonly openKv?: () => Promise<KvDatabase & { close(): void }>;
  readonly Kv?: new (...args: never[]) => unknown;
  readonly build?: { readonly os: string };
  readonly env?: { get(name: string): string | undefined };
  readonly permissions?: { querySync(query: { name: "env"; variable: string }): { state: string } };
}

/** What the environment says of the default database: that this is Deno Deploy, and where the database is. */
const ON_DEPLOY = ["DENO_DEPLOYMENT_ID", "DENO_DEPLOY"];
const PATH = ["DENO_KV_PATH_PREFIX", "DENO_KV_DEFAULT_PATH"];

/** By how much the clocks of two machines may differ, unless the user knows better. */
export const MACHINES_SKEW_MS = 1000;

/**
 * By how much the clocks of two processes on one machine may differ. They read the same one; but V8 on Windows reads
 * it once a minute, to the nearest of its ticks, and counts on from there.
 */
export function processesSkewMs(): number {
  const { process } = globalThis as { process?: { readonly platform: string } };
  return /^win/.test(denoGlobal()?.build?.os ?? process?.platform ?? "") ? 50 : 0;
}

/** Where `kv` comes from. */
export function originOf(kv: KvDatabase): KvOrigin {
  const { Kv } = denoGlobal() ?? {};
  const native = Kv !== undefined && kv instanceof Kv;
  return { native, remote: !native && /^https?:/.test(`${(kv as { url?: unknown }).url}`) };
}

/**
 * By how much the clocks of those that share the default database of Deno may differ. It is shared by one machine's
 * processes if it is surely a file: if the environment may be read, and names neither Deno Deploy nor a server.
 */
export function defaultSkewMs(): number {
  if (![...ON_DEPLOY, ...PATH].every(isReadable)) return MACHINES_SKEW_MS;
  const valueOf = (name: string) => denoGlobal()?.env?.get(name) ?? "";
  const path = PATH.map(valueOf).join("");
  const isRemote = ON_DEPLOY.some((name) => valueOf(name) !== "") || /^https?:/i.test(path);
  return isRemote ? MACHINES_SKEW_MS : processesSkewMs();
}

/** Whether a variable of the environment may be read without asking the user. */
function isReadable(variable: string): boolean {
  return denoGlobal()?.permissions?.querySync({ name: "env", variable }).state === "granted";
}

/** Deno's global where there is one; asked for at run time, so that other runtimes can load this file. */
export function denoGlobal(): DenoGlobal | undefined {
  return (globalThis as { Deno?: DenoGlobal }).Deno;
}
