/** What of a request, and of the answer to it, keeps strangers out. */

import { HEADERS } from "../http/answers.ts";
import { textOf } from "../http/requests.ts";
import { SCRIPT, STYLE } from "./assets.ts";

const COOKIE = "holdfast-admin";
const TOKEN = /^[0-9a-f]{32}$/;

let policy: Promise<string> | undefined;

/** What every answer says: no other page may frame it, no cache may keep it, and nothing but ours runs in it. */
export async function headers(more: Record<string, string> = {}): Promise<Headers> {
  return new Headers({
    ...HEADERS,
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": await (policy ??= contentPolicy()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    // Not "no-referrer": with that, browsers hide the origin of our form from us.
    "referrer-policy": "same-origin",
    ...more,
  });
}

async function contentPolicy(): Promise<string> {
  return [
    "default-src 'none'",
    `script-src '${await digest(SCRIPT)}'`,
    `style-src '${await digest(STYLE)}'`,
    "img-src data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function digest(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return `sha256-${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}`;
}

/** The token of the browser's session here: the one in its cookie, or a new one. */
export function tokenOf(request: Request): string {
  const name = cookieName(request);
  const cookies = (request.headers.get("cookie") ?? "").split(/; */);
  const token = cookies.find((cookie) => cookie.startsWith(`${name}=`))?.slice(name.length + 1);
  if (token !== undefined && TOKEN.test(token)) return token;
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** The cookie that keeps the token; it comes back only with requests that our own pages make. */
export function cookieOf(request: Request, token: string): string {
  const rules = isSecure(request) ? "Path=/; Secure; HttpOnly; SameSite=Strict" : "HttpOnly; SameSite=Strict";
  return `${cookieName(request)}=${token}; ${rules}`;
}

/** Over https with a prefix by which browsers take it from no other host, such as a subdomain's, and not over http. */
function cookieName(request: Request): string {
  return isSecure(request) ? `__Host-${COOKIE}` : COOKIE;
}

/** Whether the browser came by https: to us, or to the proxy before us. A client that forges the header harms only itself. */
function isSecure({ url, headers }: Request): boolean {
  const [forwarded = ""] = headers.get("x-forwarded-proto")?.split(",") ?? [];
  return new URL(url).protocol === "https:" || forwarded.trim() === "https";
}

/**
 * Why a POST, which comes from our own origin, is not of a form that we have made for this browser, or `undefined`
 * if it is: it has the token that is in the cookie, which no other site can read, or make the browser send. The
 * token needs no memory here: any instance may answer the form of any other.
 */
export async function forgery(request: Request): Promise<string | undefined> {
  const type = request.headers.get("content-type") ?? "";
  if (!type.startsWith("application/x-www-form-urlencoded")) return "it is not the page's own form";
  const text = await textOf(request);
  if (text === undefined) return "it is too large";
  const sent = new URLSearchParams(text).getAll("token");
  // If there is no cookie, the token to compare with is a new one, which no form has.
  return sent.length === 1 && sent[0] === tokenOf(request)
    ? undefined
    : "its token is not that of this browser";
}
