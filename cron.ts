/**
 * Cleaning up on a schedule: by `Deno.cron`, by whatever can call a URL, or by a scheduler of your own.
 *
 * @example On Deno and Deno Deploy, at the top level of the program
 * ```ts
 * import { registerCleanup } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 *
 * const ending = new AbortController();
 * const registered = registerCleanup({ backend: memoryBackend(), signal: ending.signal });
 *
 * ending.abort(); // only to end this example
 * await registered;
 * ```
 *
 * @module
 */

import process from "node:process";
import { Bell } from "./core/bell.ts";
import { assertCleanup } from "./core/cleanup.ts";
import { systemClock } from "./core/clock.ts";
import { describe } from "./core/identifier.ts";
import { cleanup, type CleanupCounts, type CleanupOptions, Lock, LockBackendError } from "./mod.ts";

export { cleanup };
export type { CleanupCounts, CleanupOptions };
export type { LockBackend, LockKind, StoreOptions } from "./mod.ts";

/** For how long the lock of a cleanup is kept at least: instances do not wake up at the very same moment. */
const KEPT_MS = 10_000;

/** Options of {@linkcode registerCleanup}. */
export interface RegisterCleanupOptions extends CleanupOptions {
  /** When to clean up, as `Deno.cron` takes it: five fields, UTC. Default: `"0 3 * * *"`, every night at three. */
  schedule?: string;
  /**
   * The name of the cron job, and the identifier of the lock under which it runs: 1 to 64 letters, digits,
   * spaces, `_` and `-`, the same in all instances. Default: `"holdfast-cleanup"`.
   */
  name?: string;
  /** Ends the job, and a cleanup that is under way. If it is aborted already, nothing is registered. Default: none. */
  signal?: AbortSignal;
}

/**
 * Registers a `Deno.cron` job that runs {@linkcode cleanup}, and returns the promise of `Deno.cron`: it resolves
 * when `signal` has ended the job. On Deno Deploy, call it at the top level of the program.
 *
 * However many instances register it, one cleans up: the job runs under the lock `name`, which it keeps for ten
 * seconds at least, and the others skip that turn. A turn that fails is reported and tried again by `Deno.cron`.
 * The store is chosen as everywhere: `backend`, or the one configured for `kind`, the strong one by default.
 *
 * Throws TypeError or RangeError for bad input, and TypeError where there is no `Deno.cron`.
 *
 * @example
 * ```ts
 * import { registerCleanup } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 *
 * const ending = new AbortController();
 * const registered = registerCleanup({
 *   schedule: "*\/30 * * * *",
 *   backend: memoryBackend(), // omit it to use the configured one
 *   signal: ending.signal, // omit it to clean up as long as the program runs
 *   onProgress: ({ seen, removed }) => console.log(`${removed} of ${seen} records removed`),
 * });
 *
 * ending.abort();
 * await registered;
 * ```
 */
export function registerCleanup(options: RegisterCleanupOptions = {}): Promise<void> {
  assertCleanup(options, "schedule", "name");
  const { schedule = "0 3 * * *", name = "holdfast-cleanup", ...rest } = options;
  assertText(schedule, "schedule", /^\s*\S+(\s+\S+){4}\s*$/, "a cron schedule of five fields");
  assertText(name, "name", /^[\w -]{1,64}$/, "1 to 64 letters, digits, spaces, '_' and '-'");
  const { signal } = rest;
  if (signal?.aborted) return Promise.resolve();
  const cron = (globalThis as { Deno?: { cron?: Cron } }).Deno?.cron;
  if (typeof cron !== "function") {
    throw new TypeError(
      'Cannot register the cleanup: there is no Deno.cron. On Deno, write "unstable": ["cron"] in deno.json or ' +
        "run with --unstable-cron. Elsewhere, serve cleanupHandler({ authorize }) to whatever calls a URL on " +
        "a schedule, or take a scheduler such as npm:croner: " +
        'new Cron("0 3 * * *", lock("holdfast-cleanup", { wait: false })(() => cleanup()))',
    );
  }
  return cron(name, schedule, { signal }, () => cleanupOnce(name, rest));
}

type Cron = (
  name: string,
  schedule: string,
  options: { signal?: AbortSignal },
  handler: () => Promise<void>,
) => Promise<void>;

/** Cleans up, unless another instance does so or has just done so. */
async function cleanupOnce(name: string, options: CleanupOptions): Promise<void> {
  const { signal, kind, backend } = options;
  const started = performance.now();
  try {
    const held = await Lock.acquire(name, { kind, backend, signal, wait: false, label: "cleanup" });
    if (held === null) return;
    try {
      await cleanup(options);
      const bell = new Bell();
      signal?.addEventListener("abort", bell.ring, { once: true });
      if (!signal?.aborted) await bell.sleep(systemClock, KEPT_MS - (performance.now() - started));
      signal?.removeEventListener("abort", bell.ring);
    } finally {
      await held[Symbol.asyncDispose]();
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}

/** Who may call a {@linkcode cleanupHandler}: `true` for those who may, or the refusal for those who may not. */
export type Authorize = (request: Request) => true | Response | Promise<true | Response>;

/** Options of {@linkcode cleanupHandler}. */
export interface CleanupHandlerOptions extends CleanupOptions {
  /**
   * Decides on each request: {@linkcode bearerSecret}, {@linkcode appEngineCron}, or a function of your own that
   * returns `true`, or the Response with which to refuse. Anything but `true` refuses. Default: refuses everybody.
   */
  authorize?: Authorize;
}

/**
 * Makes a handler of web-standard requests that cleans up and answers when that is done: for App Engine's cron,
 * Cloud Scheduler, a CronJob of Kubernetes, or anything else that can call a URL. Many calls at once, or one that
 * is cut off, do no harm.
 *
 * It takes GET (which App Engine sends) and POST, and answers in JSON: 200 with the {@linkcode CleanupCounts};
 * 401 or 403 if `authorize` refuses; 405 for other methods; 500 if the store fails or `signal` has aborted, so that
 * the caller tries again. All but 200 say why in `error`.
 *
 * Throws TypeError or RangeError for bad input. The handler rejects with what `authorize` or `onProgress` throws.
 *
 * @example
 * ```ts
 * import { bearerSecret, cleanupHandler } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const secret = crypto.randomUUID(); // from the environment, in earnest
 * const handler = cleanupHandler({ authorize: bearerSecret(secret), backend: memoryBackend() });
 * // Deno.serve(handler), or a route of your server
 *
 * const url = "https://example.com/cleanup";
 * assertEquals((await handler(new Request(url))).status, 401);
 * const answer = await handler(new Request(url, { headers: { authorization: `Bearer ${secret}` } }));
 * assertEquals(await answer.json(), { seen: 0, live: 0, removed: 0, evicted: 0, gone: 0, skipped: 0 });
 * ```
 */
export function cleanupHandler(options: CleanupHandlerOptions = {}): (request: Request) => Promise<Response> {
  assertCleanup(options, "authorize");
  const { authorize, ...rest } = options;
  if (authorize !== undefined && typeof authorize !== "function") {
    throw new TypeError(
      `Cannot make a handler: 'authorize' must be a function, current value is ${describe(authorize)}`,
    );
  }
  return async (request) => {
    if (request.method !== "GET" && request.method !== "POST") {
      return refusal(405, `use GET or POST, not ${request.method}`, { allow: "GET, POST" });
    }
    if (authorize === undefined) {
      return refusal(403, "nobody may do this: cleanupHandler was made without 'authorize'");
    }
    const verdict: unknown = await authorize(request);
    if (verdict instanceof Response) return verdict;
    if (verdict !== true) return refusal(403, "'authorize' has refused this request");
    try {
      return json(200, await cleanup(rest));
    } catch (error) {
      if (error instanceof LockBackendError) return refusal(500, error.message);
      if (rest.signal?.aborted) return refusal(500, "the cleanup was cancelled");
      throw error;
    }
  };
}

/**
 * Lets those pass who send `Authorization: Bearer <secret>`; refuses others with 401. The comparison takes the
 * same time however much of the secret was guessed. Send it over HTTPS only.
 *
 * Throws TypeError unless `secret` is a text of at least 16 visible ASCII characters: choose a long random one.
 *
 * @example
 * ```ts
 * import { bearerSecret } from "@holdfast/lock/cron";
 * import { assert } from "@std/assert";
 *
 * const authorize = bearerSecret("a secret of your own".replaceAll(" ", "-"));
 * const headers = { authorization: "Bearer a-secret-of-your-own" };
 * assert(await authorize(new Request("https://example.com", { headers })) === true);
 * ```
 */
export function bearerSecret(secret: string): Authorize {
  if (typeof secret !== "string" || !/^[!-~]{16,}$/.test(secret)) {
    // Whatever it is, it may be a secret: it is not shown.
    const value = typeof secret === "string" ? `a string of ${secret.length} characters` : describe(secret);
    throw new TypeError(
      `Cannot check a bearer secret: 'secret' must be at least 16 visible ASCII characters, current value is ${value}`,
    );
  }
  const encoder = new TextEncoder();
  // The platform compares signatures in constant time. With a key of its own, nobody can foresee them.
  const signed = (async () => {
    const random = crypto.getRandomValues(new Uint8Array(32));
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", random, hmac, false, ["sign", "verify"]);
    return { key, signature: await crypto.subtle.sign("HMAC", key, encoder.encode(secret)) };
  })();
  return async (request) => {
    const sent = /^bearer +([!-~]+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const challenge = { "www-authenticate": "Bearer" };
    if (sent === undefined) {
      return refusal(401, "send the header 'Authorization: Bearer <secret>'", challenge);
    }
    const { key, signature } = await signed;
    if (await crypto.subtle.verify("HMAC", key, signature, encoder.encode(sent))) return true;
    return refusal(401, "this is not the secret", { "www-authenticate": 'Bearer error="invalid_token"' });
  };
}

/**
 * Lets App Engine's cron service pass, by its header `X-Appengine-Cron: true`; refuses others with 403.
 *
 * App Engine takes that header out of requests from outside. Anywhere else anybody can send it, so it counts only
 * if the environment says that this is App Engine (`GAE_SERVICE`, which needs `--allow-env=GAE_SERVICE` on Deno).
 * Do not set that variable elsewhere, Cloud Run included: use {@linkcode bearerSecret} there.
 *
 * @example
 * ```ts
 * import { appEngineCron, cleanupHandler } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const handler = cleanupHandler({ authorize: appEngineCron(), backend: memoryBackend() });
 * const answer = await handler(new Request("https://example.com", { headers: { "x-appengine-cron": "true" } }));
 * assertEquals(answer.status, 403); // this is not App Engine
 * ```
 */
export function appEngineCron(): Authorize {
  return (request) => {
    if (!onAppEngine()) {
      return refusal(403, "this is not App Engine (no GAE_SERVICE): anybody could send X-Appengine-Cron");
    }
    if (request.headers.get("x-appengine-cron") === "true") return true;
    return refusal(403, "only App Engine's cron service may do this");
  };
}

function onAppEngine(): boolean {
  try {
    return (process.env.GAE_SERVICE ?? "") !== "";
  } catch {
    // What may not be read is no proof.
    return false;
  }
}

function refusal(status: number, error: string, headers?: Record<string, string>): Response {
  return json(status, { error }, headers);
}

function json(status: number, body: object, headers?: Record<string, string>): Response {
  return Response.json(body, { status, headers: { "cache-control": "no-store", ...headers } });
}

function assertText(value: unknown, option: string, pattern: RegExp, rule: string): void {
  if (typeof value === "string" && pattern.test(value)) return;
  throw new TypeError(
    `Cannot register the cleanup: '${option}' must be ${rule}, current value is ${describe(value)}`,
  );
}
