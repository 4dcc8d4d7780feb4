// A counter that many may increment at once, on Deno KV: locked, cleaned up, and watched. See README.md.
import { configure, lock, LockAcquisitionError, LockLostError } from "@holdfast/lock";
import { adminHandler, basicSecret } from "@holdfast/lock/admin";
import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";
import { bearerSecret, cleanupHandler, registerCleanup } from "@holdfast/lock/cron";

// One database for the counters and for the locks that guard them: only so can a write depend on a lock.
const kv = await Deno.openKv();
configure({ strong: kvBackend(kv) });

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
    const next = (value ?? 0) + 1;
    // Rejects if the lock was lost meanwhile, even if this instance does not know it yet: then nothing is written.
    await commitIfHeld(held, (atomic) => atomic.set(key, next));
    return next;
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
    const why = error instanceof LockAcquisitionError
      ? "too many requests wait for this counter"
      : error instanceof LockLostError
      ? "the lock was lost"
      : undefined;
    if (why === undefined) throw error;
    return new Response(`${why}\n`, { status: 503, headers: { "retry-after": "5" } });
  }
}

function secret(name: string): string {
  const value = Deno.env.get(name);
  if (value === undefined) throw new Error(`Set ${name} to a long random text`);
  return value;
}

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8000) }, serve);
