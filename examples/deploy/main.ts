// A counter that many may increment at once, on Deno KV: locked, cleaned up, and watched. See README.md.
import { lock, LockAcquisitionError } from "@holdfast/lock";
import { adminHandler, basicSecret } from "@holdfast/lock/admin";
import { bearerSecret, cleanupHandler, registerCleanup } from "@holdfast/lock/cron";

const kv = await Deno.openKv();

// Every night at three, in one instance of however many there are.
void registerCleanup();

const admin = adminHandler({ authorize: basicSecret(secret("ADMIN_SECRET")), title: "Locks of the counter" });
const cleanup = cleanupHandler({ authorize: bearerSecret(secret("CLEANUP_SECRET")) });

/** Reads, thinks, and writes: without the lock, counts would be lost. */
async function count(name: string, by: string): Promise<number> {
  return await lock(`counter:${name}`, { label: by, waitForMs: 10_000 }).run(async (held) => {
    const key = ["counters", name];
    const { value } = await kv.get<number>(key);
    await new Promise((resolve) => setTimeout(resolve, 100));
    held.signal.throwIfAborted();
    await kv.set(key, (value ?? 0) + 1);
    return (value ?? 0) + 1;
  });
}

const routes: Record<string, (request: Request) => Response | Promise<Response>> = {
  "/": () => new Response("POST /count/<name> counts. /admin/locks shows the locks, /cleanup cleans up.\n"),
  "/admin/locks": admin,
  "/cleanup": cleanup,
};

async function serve(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const route = routes[pathname];
  if (route !== undefined) return await route(request);
  const name = /^\/count\/([\w-]{1,64})$/.exec(pathname)?.[1];
  if (name === undefined) return new Response("not here\n", { status: 404 });
  if (request.method !== "POST") {
    return new Response("use POST\n", { status: 405, headers: { allow: "POST" } });
  }
  try {
    return Response.json({ count: await count(name, Deno.env.get("DENO_REGION") ?? "this machine") });
  } catch (error) {
    if (!(error instanceof LockAcquisitionError)) throw error;
    return new Response("too many are counting\n", { status: 503, headers: { "retry-after": "5" } });
  }
}

function secret(name: string): string {
  const value = Deno.env.get(name);
  if (value === undefined) throw new Error(`Set ${name} to a long random text`);
  return value;
}

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8000) }, serve);
