/** Whose requests the handlers take, and how much of them. */

/** How many bytes the body of a request may have: what the handlers read of one is a form of a hundred. */
export const MAX_BODY = 16_384;

const FOREIGN = "it comes from another site";

/**
 * Why a request was not made by a page of the same origin, or `undefined` if it was, or if no browser made it.
 *
 * A browser sends its login (a cookie, the password of Basic authentication) along with whatever any page asks it
 * to send, an image's address included: another site could have its readers evict holders. `Sec-Fetch-Site` is what
 * no page can forge and no proxy breaks. Where there is none (plain http, old browsers), `Origin` must name our
 * host. A link in a mail is `none`, and as foreign as one on a page.
 */
export function crossSite({ headers, url }: Request): string | undefined {
  const site = headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin" ? undefined : FOREIGN;
  const origin = headers.get("origin");
  if (origin === null) return undefined;
  const host = headers.get("host") ?? new URL(url).host;
  return URL.canParse(origin) && new URL(origin).host === host ? undefined : FOREIGN;
}

/** Whether a browser loads a page that people will see by its address: by a link, from wherever, or typed in. */
export function isVisit({ method, headers }: Request): boolean {
  return method === "GET" && headers.get("sec-fetch-mode") === "navigate" &&
    headers.get("sec-fetch-dest") === "document";
}

/** Whether the request says that its body is larger than any that the handlers take. */
export function isTooLarge({ headers }: Request): boolean {
  return Number(headers.get("content-length") ?? 0) > MAX_BODY;
}

/** The body as text, or `undefined` if it is too large, whatever the request says. */
export async function textOf(request: Request): Promise<string | undefined> {
  if (isTooLarge(request)) return undefined;
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_BODY) return undefined;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
