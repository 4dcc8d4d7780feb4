/** Which Deno KV a database is: what it can do that others cannot depends on it. */

import type { KvDatabase } from "./api.ts";

/** Where a database comes from. */
export interface KvOrigin {
  /** From Deno itself, whatever it is connected to. */
  readonly native: boolean;
  /** From `npm:@deno/kv`, over KV Connect. What is neither is `npm:@deno/kv` on a file or in memory, or a stand-in. */
  readonly remote: boolean;
}

/** Where `kv` comes from. */
export function originOf(kv: KvDatabase): KvOrigin {
  const { Kv } = denoGlobal() ?? {};
  const native = Kv !== undefined && kv instanceof Kv;
  return { native, remote: !native && /^https?:/.test(`${(kv as { url?: unknown }).url}`) };
}

/** Deno's global where there is one; asked for at run time, so that other runtimes can load this file. */
export function denoGlobal():
  | { openKv?: () => Promise<KvDatabase>; Kv?: new (...args: never[]) => unknown }
  | undefined {
  return (globalThis as { Deno?: ReturnType<typeof denoGlobal> }).Deno;
}
