/**
 * Cleaning up on a schedule: with `Deno.cron`, with any service that can call a URL, or with your own scheduler.
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

import { answerTo, json, refusal } from "./http/answers.ts";
import { assertAuthorize, type Authorize, refusedBy } from "./http/authorize.ts";
import { crossSite, isTooLarge } from "./http/requests.ts";
import { checkCleanup, cleanup, type CleanupCounts, type CleanupOptions } from "./core/operators/cleanup.ts";
import { Input } from "./core/validate.ts";
import { publishBackendError } from "./core/events.ts";
import { forceRelease, Lock, LockBackendError, type StoreOptions } from "./mod.ts";

export { cleanup };
export { appEngineCron, bearerSecret } from "./http/authorize.ts";
export type { Authorize } from "./http/authorize.ts";
export type { CleanupCounts, CleanupOptions };
export type { LockBackend, LockKind, StoreOptions } from "./mod.ts";

const REGISTERING: Input = new Input("register the cleanup");
const HANDLING: Input = new Input("make a handler");

/** For how long the lock of a cleanup is kept at least: instances do not start at the very same moment. */
const KEPT_MS = 10_000;

/** Options of {@linkcode registerCleanup}. */
export interface RegisterCleanupOptions extends CleanupOptions {
  /**
   * When to clean up, as `Deno.cron` takes it: five fields, UTC.
   *
   * @default {"0 3 * * *"} every night at three
   */
  schedule?: string | undefined;
  /**
   * The name of the cron job, and the identifier of the lock under which it runs: 1 to 64 letters, digits, spaces,
   * `_` and `-`, the same in all instances.
   *
   * @default {"holdfast-cleanup"}
   */
  name?: string | undefined;
  /**
   * Ends the job, and a cleanup that is in progress. If it is already aborted, nothing is registered.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
}

/**
 * Registers a `Deno.cron` job that runs {@linkcode cleanup}, and returns the promise of `Deno.cron`. On Deno
 * Deploy, call it at the top level of the program.
 *
 * However many instances register it, one cleans up: the job runs under the lock `name`, which stays taken for at
 * least ten seconds (`holdAtLeastMs`), and the others skip that turn. A turn that fails frees the lock, is
 * reported, and is retried by `Deno.cron`. The store is chosen as everywhere: `backend`, or the one configured for
 * `kind`, the strong one by default.
 *
 * @param options The schedule, the store, and which locks.
 * @throws {TypeError | RangeError} For bad input.
 * @throws {TypeError} If there is no `Deno.cron`.
 *
 * @example On Deno and Deno Deploy
 * ```ts ignore
 * import { registerCleanup } from "@holdfast/lock/cron";
 *
 * void registerCleanup(); // every night at three, in one instance
 * ```
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
  const own = checkCleanup(options, { input: REGISTERING, more: ["schedule", "name"] });
  const { schedule = "0 3 * * *", name = "holdfast-cleanup", ...rest } = own;
  assertText(schedule, "schedule", /^\s*\S+(\s+\S+){4}\s*$/, "a cron schedule of five fields");
  assertText(name, "name", /^[\w -]{1,64}$/, "1 to 64 letters, digits, spaces, '_' and '-'");
  const { signal } = rest;
  if (signal?.aborted) return Promise.resolve();
  const cron = (globalThis as { Deno?: { cron?: Cron } }).Deno?.cron;
  if (typeof cron !== "function") {
    throw new TypeError(
      'Cannot register the cleanup: there is no Deno.cron. On Deno, write "unstable": ["cron"] in deno.json or ' +
        "run with --unstable-cron. Elsewhere, serve cleanupHandler({ authorize }) to a service that calls a URL on " +
        "a schedule, or use a scheduler such as croner: " +
        'new Cron("0 3 * * *", lock("holdfast-cleanup", { wait: false, holdAtLeastMs: 10_000 })(() => cleanup()))',
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
  const holdAtLeastMs = KEPT_MS;
  try {
    const held = await Lock.acquire(name, {
      kind,
      backend,
      signal,
      wait: false,
      label: "cleanup",
      holdAtLeastMs,
    });
    if (held === null) return;
    let isDone = false;
    try {
      await cleanup(options);
      isDone = true;
    } finally {
      await held[Symbol.asyncDispose]();
      if (!isDone) await letOthersTry(name, held, { kind, backend });
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}

/** A turn that has failed is retried: the lock that is kept must not look as if the turn had been done. */
async function letOthersTry(name: string, { fencingToken }: Lock, store: StoreOptions): Promise<void> {
  // If the store fails again, other processes wait ten seconds; the caller gets the first error, which matters more.
  await forceRelease(name, { ...store, fencingToken }).catch((error) => publishBackendError(name, error));
}

/** Options of {@linkcode cleanupHandler}. */
export interface CleanupHandlerOptions extends CleanupOptions {
  /**
   * Decides on each request: {@linkcode bearerSecret}, {@linkcode appEngineCron}, or your own function that
   * returns `true`, or the Response with which to refuse. Anything but `true` refuses.
   *
   * @default {undefined} every request is refused
   */
  authorize?: Authorize | undefined;
}

/**
 * Makes a handler of web-standard requests that cleans up and answers when that is done: for App Engine's cron,
 * Cloud Scheduler, a CronJob of Kubernetes, or anything else that can call a URL. Many calls at once, or one that
 * is cut off, do no harm.
 *
 * It takes GET (which App Engine sends) and POST, and answers in JSON: 200 with the {@linkcode CleanupCounts}; 401
 * or 403 if `authorize` refuses; 403 if a browser sends it from anything but a page of the same origin, because
 * any site could otherwise use the browser's login; 405 for other methods; 413 for a large body; 500 if the store
 * fails or `signal` has aborted, so that the caller tries again. Every answer but 200 has the reason in `error`.
 * The handler rejects with what `authorize` or `onProgress` throws.
 *
 * @param options Which requests may call it, the store, and which locks.
 * @returns The handler, for any server.
 * @throws {TypeError | RangeError} For bad input.
 *
 * @example On Deno
 * ```ts ignore
 * import { bearerSecret, cleanupHandler } from "@holdfast/lock/cron";
 *
 * const secret = Deno.env.get("CLEANUP_SECRET") ?? crypto.randomUUID();
 * Deno.serve(cleanupHandler({ authorize: bearerSecret(secret) }));
 * ```
 *
 * @example
 * ```ts
 * import { bearerSecret, cleanupHandler } from "@holdfast/lock/cron";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const secret = crypto.randomUUID(); // from the environment, in production
 * const handler = cleanupHandler({ authorize: bearerSecret(secret), backend: memoryBackend() });
 * // Deno.serve(handler), or a route of your server
 *
 * const url = "https://example.com/cleanup";
 * assertEquals((await handler(new Request(url))).status, 401);
 * const answer = await handler(new Request(url, { headers: { authorization: `Bearer ${secret}` } }));
 * assertEquals(await answer.json(), { seen: 0, live: 0, removed: 0, evicted: 0, gone: 0, unreadable: 0 });
 * ```
 */
export function cleanupHandler(options: CleanupHandlerOptions = {}): (request: Request) => Promise<Response> {
  const { authorize, ...rest } = checkCleanup(options, { input: HANDLING, more: ["authorize"] });
  assertAuthorize(authorize);
  const answer = async (request: Request): Promise<Response> => {
    if (request.method !== "GET" && request.method !== "POST") {
      return refusal(405, `use GET or POST, not ${request.method}`, { allow: "GET, POST" });
    }
    if (isTooLarge(request)) return refusal(413, "this takes no body");
    const foreign = crossSite(request);
    if (foreign !== undefined) return refusal(403, `nothing was done: ${foreign}`);
    const refused = await refusedBy(authorize, request);
    if (refused !== undefined) return refused instanceof Response ? refused : refusal(403, refused);
    try {
      return json(200, await cleanup(rest));
    } catch (error) {
      if (error instanceof LockBackendError) return refusal(500, error.message);
      if (rest.signal?.aborted) return refusal(500, "the cleanup was cancelled");
      throw error;
    }
  };
  return async (request) => answerTo(request, await answer(request));
}

function assertText(value: unknown, option: string, pattern: RegExp, rule: string): void {
  if (typeof value === "string" && pattern.test(value)) return;
  REGISTERING.refuse(`'${option}' must be ${rule}`, value);
}
