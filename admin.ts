/**
 * A page for operators: the holders and waiters of each lock, what happened in the last minutes, and a way to
 * release one by force. One handler of the web's own kind, for any server: `Deno.serve`, `Bun.serve`, Hono, Node.
 *
 * @example
 * ```ts
 * import { adminHandler, basicSecret } from "@holdfast/lock/admin";
 * import { lock } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals, assertStringIncludes } from "@std/assert";
 *
 * const backend = memoryBackend();
 * const secret = crypto.randomUUID(); // from the environment, in production
 * const admin = adminHandler({ authorize: basicSecret(secret), backend });
 * // Deno.serve((request) => new URL(request.url).pathname === "/admin/locks" ? admin(request) : app(request));
 *
 * await using held = await lock("import", { backend, label: "worker 3" }).acquire();
 * const url = "https://example.com/admin/locks";
 * assertEquals((await admin(new Request(url))).status, 401); // a browser asks for the password now
 *
 * const headers = { authorization: `Basic ${btoa(`ada:${secret}`)}` };
 * assertStringIncludes(await (await admin(new Request(url, { headers }))).text(), "worker 3");
 * ```
 *
 * @module
 */

import { History } from "./admin/history.ts";
import { bdi, type Html, html } from "./admin/html.ts";
import { type Look, Observer, rememberLosses } from "./admin/observer.ts";
import { content, outcome, overview, question } from "./admin/page.ts";
import { cookieOf, forgery, headers, tokenOf } from "./admin/requests.ts";
import { messageOf } from "./core/errors.ts";
import { answerTo } from "./http/answers.ts";
import { assertAuthorize, type Authorize, refusedBy } from "./http/authorize.ts";
import { crossSite, isTooLarge, isVisit } from "./http/requests.ts";
import { keyOf } from "./core/identifier.ts";
import { forceRelease, type StoreOptions } from "./core/operators/api.ts";
import { peek } from "./core/operators/observe.ts";
import { checkOptions } from "./core/options.ts";
import { Input } from "./core/validate.ts";

/** For how long the page is kept live before `authorize` is asked again; the browser asks by itself. */
const STREAM_MS = 60_000;
/** How many browsers one handler keeps live at once: each costs memory, and a look its share of the time. */
const MAX_STREAMS = 100;

export { basicSecret, bearerSecret } from "./http/authorize.ts";
export type { Authorize } from "./http/authorize.ts";
export type * from "./core/backend.ts";
export type { StoreOptions } from "./core/operators/api.ts";
export type { LockKind } from "./core/options.ts";

/** Options of {@linkcode adminHandler}. */
export interface AdminOptions extends StoreOptions {
  /**
   * Decides on each request, to look as well as to release: {@linkcode basicSecret}, which a browser can answer,
   * {@linkcode bearerSecret}, or your own function that returns `true`, or the Response with which to refuse, such
   * as a redirect to your login. Anything but `true` refuses.
   *
   * @default {undefined} every request is refused
   */
  authorize?: Authorize | undefined;
  /**
   * The name of the page.
   *
   * @default {"Locks"}
   */
  title?: string | undefined;
  /**
   * Every how many milliseconds the store is read while a browser has the page open, however many have; at least
   * 100. Each look lists all locks.
   *
   * @default {2000}
   */
  refreshMs?: number | undefined;
}

const SERVING: Input = new Input("serve the admin page");
const NAMES = ["authorize", "title", "refreshMs", "kind", "backend"];

/**
 * Makes the handler of the admin page. Give it all requests for one path, whichever; it looks at nothing but the
 * query.
 *
 * The page is one document without outside assets. It works without JavaScript; with it, it stays live by
 * server-sent events. The store is read only while a browser shows the page. The page shows how a hold was lost if
 * this process held it; of a hold of another process it shows only that it is gone.
 *
 * If `authorize` refuses a request, the handler answers with what `authorize` returned, or with 403. It answers
 * 403 to what a browser requests for another site, except to a link that was followed; 400, 404, 405 and 413 to
 * requests that it does not know; 409 if the hold that was to be released has ended meanwhile; 503 if the store
 * fails, or if more than a hundred browsers want to be kept live. Only a form of the page itself, sent from its
 * own origin with the token of this browser, releases a lock, and only from the holder that it showed. What
 * `authorize` throws, the handler rejects with.
 *
 * @param options Which requests may use it, and which store.
 * @returns The handler, for any server.
 * @throws {TypeError | RangeError} For bad input.
 *
 * @example On Deno
 * ```ts ignore
 * import { adminHandler, basicSecret } from "@holdfast/lock/admin";
 *
 * const secret = Deno.env.get("ADMIN_SECRET") ?? crypto.randomUUID();
 * Deno.serve(adminHandler({ authorize: basicSecret(secret) })); // or for one path of your server
 * ```
 *
 * @example
 * ```ts
 * import { adminHandler } from "@holdfast/lock/admin";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { assertEquals } from "@std/assert";
 *
 * const closed = adminHandler({ backend: memoryBackend() });
 * const { status } = await closed(new Request("https://example.org/locks"));
 * assertEquals(status, 403); // every request is refused until you pass authorize
 * ```
 */
export function adminHandler(options: AdminOptions = {}): (request: Request) => Promise<Response> {
  const own = SERVING.own(options, NAMES);
  const { authorize, title = "Locks", kind, backend } = own;
  assertAuthorize(authorize);
  if (typeof title !== "string") SERVING.refuse("'title' must be a string", title);
  const refreshMs = SERVING.time(own.refreshMs, "refreshMs", 100) ?? 2000;
  checkOptions({ kind, backend }, SERVING);
  rememberLosses();
  const admin = new Admin({ kind, backend }, title, refreshMs);
  const answer = async (request: Request): Promise<Response> => {
    const foreign = isVisit(request) ? undefined : crossSite(request);
    if (foreign !== undefined) return await admin.refuse(403, "Forbidden", `Nothing was done: ${foreign}.`);
    const refused = await refusedBy(authorize, request);
    if (refused === undefined) return await admin.answer(request);
    return refused instanceof Response ? refused : await admin.refuse(403, "Forbidden", refused);
  };
  return async (request) => answerTo(request, await answer(request));
}

/** What the handler knows between requests. */
class Admin {
  readonly #store: StoreOptions;
  readonly #frame: { readonly title: string };
  readonly #observer: Observer;
  #streams = 0;

  constructor(store: StoreOptions, title: string, refreshMs: number) {
    this.#store = store;
    this.#frame = { title };
    this.#observer = new Observer(store, refreshMs);
  }

  async answer(request: Request): Promise<Response> {
    const { searchParams: query } = new URL(request.url);
    const release = query.get("release");
    if (release !== null) {
      const fencingToken = query.get("fencingToken");
      if (release === "" || !fencingToken) {
        return await this.refuse(400, "Bad request", "`release` and `fencingToken` are required.");
      }
      if (isRead(request)) return await this.#ask(request, release, fencingToken);
      if (request.method === "POST") return await this.#release(request, release, fencingToken);
      return await this.refuse(405, "Method not allowed", "Only GET, HEAD and POST.", {
        allow: "GET, HEAD, POST",
      });
    }
    if (!isRead(request)) {
      return await this.refuse(405, "Method not allowed", "Only GET and HEAD.", { allow: "GET, HEAD" });
    }
    const find = query.get("find") ?? "";
    const view = query.get("view");
    if (view === "events") return await this.#stream(request, find);
    if (view !== null) return await this.refuse(404, "Not found", "There is no such view.");
    const look = await this.#observer.look(find);
    const status = look.trouble === undefined ? 200 : 503;
    try {
      return new Response(overview(this.#frame, look), { status, headers: await headers() });
    } catch (error) {
      // What the store holds can have any shape.
      return await this.#trouble(error);
    }
  }

  /** Says no, and why. */
  refuse(status: number, what: string, why: string, more?: Record<string, string>): Promise<Response> {
    return this.#say(status, what, html`${why}`, more);
  }

  /** Asks before a release. */
  async #ask(request: Request, identifier: string, fencingToken: string): Promise<Response> {
    try {
      const lock = await peek(identifier, this.#store);
      const holder = lock.holders.find((holder) => holder.fencingToken === fencingToken);
      if (holder !== undefined) {
        const token = tokenOf(request);
        return new Response(question(this.#frame, lock, holder, token), {
          headers: await headers({ "set-cookie": cookieOf(request, token) }),
        });
      }
    } catch (error) {
      return await this.#trouble(error);
    }
    return await this.#gone(404, identifier, fencingToken);
  }

  async #release(request: Request, identifier: string, fencingToken: string): Promise<Response> {
    if (isTooLarge(request)) return await this.refuse(413, "Content too large", "Nothing was done.");
    const forged = await forgery(request);
    if (forged !== undefined) {
      return await this.refuse(403, "Forbidden", `Nothing was done: ${forged}. Go back and try again.`);
    }
    let done: boolean;
    try {
      done = await forceRelease(identifier, { ...this.#store, fencingToken });
    } catch (error) {
      return await this.#trouble(error);
    }
    if (done) this.#observer.history.end(await keyOf(identifier), fencingToken, "forced", Date.now());
    this.#observer.renew();
    if (!done) return await this.#gone(409, identifier, fencingToken);
    return await this.#say(
      200,
      "Released by force",
      html`The holder of ${bdi(identifier)} with fencing token ${fencingToken} was evicted.`,
    );
  }

  /** Sends the page's content again and again, until the browser leaves, or has to show again who it is. */
  async #stream(request: Request, find: string): Promise<Response> {
    const more = { "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no" };
    const sent = await headers(more);
    if (request.method === "HEAD") return new Response(null, { headers: sent });
    if (this.#streams >= MAX_STREAMS) {
      const why = `${MAX_STREAMS} browsers already receive updates, which is the limit.`;
      return await this.refuse(503, "Service unavailable", why, { "retry-after": "60" });
    }
    this.#streams++;
    const observer = this.#observer;
    const encoder = new TextEncoder();
    let leave = () => {};
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        let isOver = false;
        const show = (look: Look) => {
          // Every look shows everything: a browser that has not read the last one yet needs no second one.
          if (isOver || controller.desiredSize! <= 0) return;
          const data = JSON.stringify(contentOf(look));
          controller.enqueue(encoder.encode(`retry: 1000\ndata: ${data}\n\n`));
        };
        const forget = observer.follow(show, find);
        const limit = setTimeout(() => {
          leave();
          controller.close();
        }, STREAM_MS);
        leave = () => {
          if (isOver) return;
          isOver = true;
          this.#streams--;
          forget();
          clearTimeout(limit);
        };
        observer.look(find).then(show).catch((error) => {
          leave();
          controller.error(error);
        });
      },
      // Servers cancel the body when the browser has left; to ask for request.signal makes Deno.serve warn.
      cancel: () => leave(),
    });
    return new Response(body, { headers: sent });
  }

  #gone(status: number, identifier: string, fencingToken: string): Promise<Response> {
    const text = html`The hold of ${bdi(identifier)} with fencing token ${fencingToken} has already ended.`;
    return this.#say(
      status,
      "Nothing to release",
      html`${text} The current holder, if there is one, was not touched.`,
    );
  }

  #trouble(error: unknown): Promise<Response> {
    return this.#say(503, "The store does not answer", html`${messageOf(error)}`);
  }

  async #say(
    status: number,
    title: string,
    text: Html,
    more: Record<string, string> = {},
  ): Promise<Response> {
    return new Response(outcome(this.#frame, title, text), { status, headers: await headers(more) });
  }
}

/** What a look shows; if that cannot be shown, why: a store can hold records of any shape. */
function contentOf(look: Look): string {
  try {
    return content(look).text;
  } catch (trouble) {
    return content({ ...look, locks: [], trouble, history: new History(), losses: [] }).text;
  }
}

function isRead({ method }: Request): boolean {
  return method === "GET" || method === "HEAD";
}
