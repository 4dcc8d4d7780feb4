/** Which requests the handlers may serve: the checks that they share. */

import process from "node:process";
import { describe } from "../core/validate.ts";
import { refusal } from "./answers.ts";

/** Decides which requests a handler may serve: `true`, or the Response that refuses the request. */
export type Authorize = (request: Request) => true | Response | Promise<true | Response>;

/** Refuses an option that is not a check. */
export function assertAuthorize(authorize: unknown): void {
  if (authorize === undefined || typeof authorize === "function") return;
  throw new TypeError(
    `Cannot make a handler: 'authorize' must be a function, current value is ${describe(authorize)}`,
  );
}

/**
 * The refusal of a request, or the reason, if the check gives no Response; `undefined` for one that may pass.
 * Without a check none may.
 */
export async function refusedBy(
  authorize: Authorize | undefined,
  request: Request,
): Promise<Response | string | undefined> {
  if (authorize === undefined) return "the handler was made without 'authorize': it refuses every request";
  const verdict: unknown = await authorize(request);
  if (verdict === true) return undefined;
  return verdict instanceof Response ? verdict : "'authorize' has refused this request";
}

/**
 * Accepts requests with `Authorization: Bearer <secret>`; refuses others with 401. The comparison takes the same
 * time however much of the secret was guessed. Use it over HTTPS only.
 *
 * @param secret A text of at least 16 visible ASCII characters: choose a long random one.
 * @returns The check, for the option `authorize`.
 * @throws {TypeError} If `secret` is not such a text.
 *
 * @example In an app
 * ```ts ignore
 * import { adminHandler, bearerSecret } from "@holdfast/lock/admin";
 *
 * const secret = Deno.env.get("ADMIN_SECRET") ?? crypto.randomUUID();
 * Deno.serve(adminHandler({ authorize: bearerSecret(secret) }));
 * ```
 *
 * @example
 * ```ts
 * import { bearerSecret } from "@holdfast/lock/admin";
 * import { assert } from "@std/assert";
 *
 * const authorize = bearerSecret("a-secret-of-your-choice");
 * const headers = { authorization: "Bearer a-secret-of-your-choice" };
 * assert(await authorize(new Request("https://example.com", { headers })) === true);
 * ```
 */
export function bearerSecret(secret: string): Authorize {
  return secretOf(secret, (request) => {
    const sent = /^bearer +([!-~]+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const how = "send the header 'Authorization: Bearer <secret>'";
    return { sent, how, challenge: sent === undefined ? "Bearer" : 'Bearer error="invalid_token"' };
  });
}

/**
 * Accepts requests that send the secret as the password of HTTP Basic authentication, whatever the user's name;
 * refuses others with 401, and a browser then asks for it. The comparison takes the same time however much of the
 * secret was guessed. Use it over HTTPS only.
 *
 * @param secret A text of at least 16 visible ASCII characters: choose a long random one.
 * @returns The check, for the option `authorize`.
 * @throws {TypeError} If `secret` is not such a text.
 *
 * @example In an app
 * ```ts ignore
 * import { adminHandler, basicSecret } from "@holdfast/lock/admin";
 *
 * const secret = Deno.env.get("ADMIN_SECRET") ?? crypto.randomUUID();
 * Deno.serve(adminHandler({ authorize: basicSecret(secret) }));
 * ```
 *
 * @example
 * ```ts
 * import { basicSecret } from "@holdfast/lock/admin";
 * import { assert } from "@std/assert";
 *
 * const authorize = basicSecret("a-secret-of-your-choice");
 * const headers = { authorization: `Basic ${btoa("ada:a-secret-of-your-choice")}` };
 * assert(await authorize(new Request("https://example.com", { headers })) === true);
 * ```
 */
export function basicSecret(secret: string): Authorize {
  return secretOf(secret, (request) => {
    const sent = /^basic +([\w+/=-]+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const how = "log in with the secret as password";
    return { sent: sent && passwordIn(sent), how, challenge: 'Basic realm="locks", charset="UTF-8"' };
  });
}

/**
 * Accepts requests of App Engine's cron service, by its header `X-Appengine-Cron: true`; refuses others with 403.
 *
 * App Engine removes that header from requests from outside. Anywhere else any client can send it, so it counts
 * only if the environment shows that this is App Engine (`GAE_SERVICE`, which needs `--allow-env=GAE_SERVICE` on
 * Deno). Do not set that variable elsewhere, Cloud Run included: use {@linkcode bearerSecret} there.
 *
 * @returns The check, for the option `authorize`.
 *
 * @example On App Engine
 * ```ts ignore
 * import { appEngineCron, cleanupHandler } from "@holdfast/lock/cron";
 *
 * const cleanup = cleanupHandler({ authorize: appEngineCron() });
 * ```
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
      return refusal(403, "this is not App Engine (no GAE_SERVICE): any client could send X-Appengine-Cron");
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

/** What was sent, how the secret should be sent, and the challenge for the client. */
interface Sent {
  readonly sent: string | undefined;
  readonly how: string;
  readonly challenge: string;
}

function secretOf(secret: string, read: (request: Request) => Sent): Authorize {
  if (typeof secret !== "string" || !/^[!-~]{16,}$/.test(secret)) {
    // Whatever it is, it may be a secret: it is not shown.
    const value = typeof secret === "string" ? `a string of ${secret.length} characters` : describe(secret);
    throw new TypeError(
      `Cannot check a secret: 'secret' must be at least 16 visible ASCII characters, current value is ${value}`,
    );
  }
  const encoder = new TextEncoder();
  // The platform compares signatures in constant time. With a random key, they cannot be predicted.
  const sign = async () => {
    const random = crypto.getRandomValues(new Uint8Array(32));
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", random, hmac, false, ["sign", "verify"]);
    return { key, signature: await crypto.subtle.sign("HMAC", key, encoder.encode(secret)) };
  };
  // At the first request, not before: a program that only makes the check starts nothing.
  let signed: ReturnType<typeof sign> | undefined;
  return async (request) => {
    const { sent, how, challenge } = read(request);
    const headers = { "www-authenticate": challenge };
    if (sent === undefined) return refusal(401, how, headers);
    const { key, signature } = await (signed ??= sign());
    if (await crypto.subtle.verify("HMAC", key, signature, encoder.encode(sent))) return true;
    return refusal(401, "this is not the secret", headers);
  };
}

function passwordIn(credentials: string): string | undefined {
  try {
    const pair = atob(credentials);
    return pair.includes(":") ? pair.slice(pair.indexOf(":") + 1) : undefined;
  } catch {
    // What is not base64 is no password.
    return undefined;
  }
}
