/**
 * Whether the default database of Deno is shared with other programs. Deno names it after `--location`, or else after the
 * `deno.json` that the program runs with, or else after the program's own file: then another program that asks for the
 * same locks opens another database, and both get them.
 */

import process from "node:process";

/** What is used of Deno's global. */
interface DenoGlobal {
  readonly mainModule: string;
  readonly build: { readonly os: string };
  readonly env: { get(name: string): string | undefined };
  readonly permissions: {
    querySync(query: { name: "env"; variable: string } | { name: "read"; path: URL }): { state: string };
  };
  statSync(path: URL): unknown;
}

/** Any of them says where the database is, or may. */
const ELSEWHERE = ["DENO_DEPLOYMENT_ID", "DENO_DEPLOY", "DENO_KV_PATH_PREFIX", "DENO_KV_DEFAULT_PATH"];
const CONFIGS = ["deno.json", "deno.jsonc"];

let isWarned = false;

/** Warns once, if the default database, which is open by now, is surely this program's own. */
export async function warnOfOwnDatabase(): Promise<void> {
  if (isWarned || !await isOwn()) return;
  isWarned = true;
  process.emitWarning(
    "the default Deno KV database belongs to this program alone, because it has no deno.json and no --location: " +
      "another program that asks for the same locks opens another database, and gets them, too. Open one by its path: " +
      "configure({ strong: kvBackend(await Deno.openKv(path)) })",
    { type: "HoldfastWarning", code: "HOLDFAST_OWN_DATABASE" },
  );
}

/** Whether that is known: no permission is asked for, and what may not be looked at is not known. */
async function isOwn(): Promise<boolean> {
  const deno = (globalThis as { Deno?: DenoGlobal }).Deno;
  if (deno === undefined || (globalThis as { location?: unknown }).location !== undefined) return false;
  const { mainModule } = deno;
  if (!mainModule.startsWith("file:") || !ELSEWHERE.every((name) => valueOf(deno, name) === "")) return false;
  for (let folder = new URL(".", mainModule);; folder = new URL("..", folder)) {
    if (CONFIGS.some((name) => isThere(deno, new URL(name, folder)) !== false)) return false;
    if (folder.pathname === new URL("..", folder).pathname) break;
  }
  const cache = cacheOf(deno);
  if (cache === undefined) return false;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(mainModule));
  const name = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return isThere(deno, new URL(`location_data/${name}/kv.sqlite3`, cache)) === true;
}

/** A variable of the environment, empty if it is not set; `undefined` if it may not be read. */
function valueOf({ env, permissions }: DenoGlobal, variable: string): string | undefined {
  if (permissions.querySync({ name: "env", variable }).state !== "granted") return undefined;
  return env.get(variable) ?? "";
}

/** Whether there is such a file; `undefined` if that may not be known. */
function isThere({ statSync, permissions }: DenoGlobal, path: URL): boolean | undefined {
  if (permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    statSync(path);
    return true;
  } catch {
    // There is none.
    return false;
  }
}

/** Deno's cache, in which the database is, as far as the environment says. */
function cacheOf(deno: DenoGlobal): URL | undefined {
  const ways: readonly (readonly [variable: string, folder: string])[] = [
    ["DENO_DIR", ""],
    ...deno.build.os === "windows"
      ? [["LOCALAPPDATA", "/deno"] as const]
      : deno.build.os === "darwin"
      ? [["HOME", "/Library/Caches/deno"] as const]
      : [["XDG_CACHE_HOME", "/deno"] as const, ["HOME", "/.cache/deno"] as const],
  ];
  for (const [variable, folder] of ways) {
    const value = valueOf(deno, variable);
    if (value === undefined) return undefined;
    if (value !== "") {
      return new URL(`file:///${`${value}${folder}`.replaceAll("\\", "/").replace(/^\//, "")}/`);
    }
  }
}
