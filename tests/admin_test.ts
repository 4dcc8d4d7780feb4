// The admin page's handler, without a browser: which requests come in, what is answered, and what is kept out.
import { assert, assertEquals, assertFalse, assertStringIncludes, assertThrows } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { adminHandler, type AdminOptions, basicSecret, bearerSecret } from "../admin.ts";
import { History, WINDOW_MS } from "../admin/history.ts";
import { lasting } from "../admin/html.ts";
import { content } from "../admin/page.ts";
import { inTime, Observer } from "../admin/observer.ts";
import { picture } from "../admin/picture.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { forceRelease, type ListedLock, Lock, type LockBackend, type LockEvents } from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

const URL_ = "https://ops.example/admin/locks";
const SECRET = "a-secret-of-these-tests";
const COOKIE = "__Host-holdfast-admin=…; Path=/; Secure; HttpOnly; SameSite=Strict";
const NASTY = `"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;`;

function page(options: AdminOptions = {}) {
  const store = new MemoryStore();
  const backend = memoryBackend({ store });
  const admin = adminHandler({ backend, authorize: () => true, ...options });
  const get = (query = "", init: RequestInit = {}) => admin(new Request(`${URL_}${query}`, init));
  const acquire = async (identifier: string, label?: string) =>
    (await Lock.acquire(identifier, { backend: memoryBackend({ store }), label }))!;
  return { store, backend, admin, get, acquire };
}

/** What a browser sends when an operator confirms a release. */
function confirmation(
  release: string,
  fencingToken: string,
  asked?: Response,
  text = "",
): [string, RequestInit] {
  const token = /name="token" value="([^"]*)"/.exec(text)?.[1] ?? "0".repeat(32);
  const cookie = asked?.headers.get("set-cookie")?.split(";")[0];
  return [query(release, fencingToken), {
    method: "POST",
    headers: {
      "sec-fetch-site": "same-origin",
      "content-type": "application/x-www-form-urlencoded",
      ...(cookie === undefined ? {} : { cookie }),
    },
    body: `token=${token}`,
  }];
}

function query(release: string, fencingToken: string): string {
  return `?${new URLSearchParams({ release, fencingToken })}`;
}

/** The looks that a stream shows, one after the other. */
async function* frames(response: Response): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
      yield JSON.parse(data!.slice("data: ".length));
    }
  }
}

Deno.test("admin: no request comes in unless authorize says true", async () => {
  const { backend } = page();
  const asked = [() => false, () => undefined, () => "yes", () => 1, () => Promise.resolve(false)];
  for (const authorize of [undefined, ...asked as Anything[]]) {
    const admin = adminHandler({ backend, authorize });
    for (const method of ["GET", "POST", "PUT", "HEAD"]) {
      for (const query of ["", "?view=events", "?release=x&fencingToken=1"]) {
        const response = await admin(new Request(URL_ + query, { method }));
        assertEquals(response.status, 403);
        assertEquals((await response.text()).includes("Forbidden"), method !== "HEAD");
      }
    }
  }
  const login = () => Promise.resolve(Response.redirect("https://ops.example/login"));
  assertEquals((await adminHandler({ backend, authorize: login })(new Request(URL_))).status, 302);
});

Deno.test("admin: the ready-made checks take the secret and nothing else", async () => {
  for (
    const [name, check, sent] of [
      ["Basic", basicSecret(SECRET), (secret: string) => btoa(`ada:${secret}`)],
      ["Bearer", bearerSecret(SECRET), (secret: string) => secret],
    ] as const
  ) {
    const { get } = page({ authorize: check });
    const answer = async (authorization?: string) => {
      const response = await get("", { headers: authorization === undefined ? {} : { authorization } });
      await response.body?.cancel();
      assertEquals(response.headers.has("www-authenticate"), response.status === 401);
      return response.status;
    };
    assertEquals(await answer(`${name} ${sent(SECRET)}`), 200);
    for (
      const wrong of [
        undefined,
        "",
        name,
        `${name} `,
        `${name} ${sent(SECRET + "x")}`,
        `${name} ${sent(SECRET.slice(1))}`,
        `${name} ${sent("")}`,
        `Digest ${sent(SECRET)}`,
        `${name} !!!`,
      ]
    ) assertEquals(await answer(wrong), 401, wrong);
  }
  for (
    const secret of ["", "short", "with a space in it", "ümlaut-in-a-secret", undefined, 5] as Anything[]
  ) {
    assertThrows(() => basicSecret(secret), TypeError, "at least 16 visible ASCII characters");
  }
});

Deno.test("admin: bad options are refused", () => {
  for (
    const [options, says] of [
      [null, "options must be an object"],
      [{ autorize: () => true }, "there is no option 'autorize'"],
      [{ authorize: "yes" }, `'authorize' must be a function, current value is "yes"`],
      [{ title: 5 }, "'title' must be a string, current value is 5"],
      [{ refreshMs: 99 }, "'refreshMs' must be a whole number of milliseconds from 100"],
      [{ refreshMs: "5" }, "'refreshMs' must be a whole number of milliseconds"],
      [{ kind: "odd" }, "'kind' must be LOCK_KINDS.STRONG"],
      [{ backend: {} }, "Cannot use 'backend'"],
    ] as [Anything, string][]
  ) assertThrows(() => adminHandler(options), Error, says);
});

Deno.test("admin: a page's headers let nothing run but its own script and style", async () => {
  const { get, acquire } = page({ title: NASTY });
  const held = await acquire("import", NASTY);
  for (const path of ["", "?find=x", query("import", held.fencingToken), query("gone", "1"), "?release="]) {
    const response = await get(path);
    const text = await response.text();
    const { headers } = response;
    const policy = headers.get("content-security-policy")!;
    for (const tag of ["script", "style"]) {
      const found = [...text.matchAll(new RegExp(`<${tag}>([^]*?)</${tag}>`, "g"))].map(([, inside]) =>
        inside
      );
      assertEquals(found.length, 1);
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(found[0]));
      const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
      assertStringIncludes(policy, `${tag}-src 'sha256-${hash}'`);
    }
    for (
      const rule of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
    ) {
      assertStringIncludes(policy, rule);
    }
    assertFalse(policy.includes("unsafe"));
    assertEquals(
      ["cache-control", "referrer-policy", "x-content-type-options", "content-type"].map((name) =>
        headers.get(name)
      ),
      ["no-store", "same-origin", "nosniff", "text/html; charset=utf-8"],
    );
    const markup = text.replace(/<(script|style)>[^]*?<\/\1>/g, "");
    assertFalse(/ (style|on\w+)="/.test(markup) || /<(script|img|iframe|link rel="style)/.test(markup));
    assertFalse(/(src|href|action)="(https?:)?\/\//.test(markup));
  }
  await held.release();
});

Deno.test("admin: whatever text others give is shown as text", async () => {
  const { get, acquire } = page();
  const held = [
    await acquire(NASTY, NASTY),
    await acquire("a\nb\0c\x85d", "tab\there"),
    await acquire("תור:1", "\u202Edesrever"),
    await acquire("x".repeat(5000), "🔒"),
  ];
  for (const query of ["", `?find=${encodeURIComponent(NASTY)}`]) {
    const text = await (await get(query)).text();
    assertFalse(text.includes("<script>alert") || text.includes("<img"));
    assertStringIncludes(text, "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;");
    assertStringIncludes(text, "&amp;amp;");
  }
  const text = await (await get()).text();
  assertStringIncludes(text, "<bdi>a\\u000ab\\u0000c\\u0085d</bdi>");
  assertStringIncludes(text, "<bdi>\\u202edesrever</bdi>");
  // A field gives back what was typed.
  assertStringIncludes(await (await get("?find=%E2%80%AEdes")).text(), 'value="\u202edes"');
  assertEquals((await (await get("?find=desrever")).text()).includes("תור:1"), true);
  // Each can be released by the link that the page has for it, whatever is in its name.
  const links = [...text.matchAll(/href="(\?release=[^"]*)"/g)].map(([, link]) =>
    link.replaceAll("&amp;", "&")
  );
  assertEquals(links.length, held.length);
  for (const link of links) {
    const asked = await get(link);
    assertEquals(asked.status, 200);
    const [, init] = confirmation("", "", asked, await asked.text());
    assertEquals((await get(link, init)).status, 200);
  }
  for (const lock of held) assertEquals(await lock.release(), false);
});

Deno.test("admin: it shows all holders of a lock, and how each holds or wants it", async () => {
  const { store, get } = page();
  const on = (label: string) => ({ backend: memoryBackend({ store }), label });
  const one = await Lock.acquire("report", { ...on("one"), mode: "shared" });
  const two = await Lock.acquire("report", { ...on("two"), mode: "shared" });
  const three = await Lock.acquire("pool", { ...on("three"), limit: 5, permits: 2 });
  const four = await Lock.acquire([{ identifier: "rates", mode: "shared" }, "account"], on("four"));
  const ending = new AbortController();
  const waiting = Lock.acquire("pool", { ...on("five"), limit: 4, permits: 3, signal: ending.signal });
  const upgrading = two!.upgrade({ signal: ending.signal });
  waiting.catch(() => {});
  upgrading.catch(() => {});
  let text = "";
  const shown = () => text.replace(/<[^>]*>/g, " ").replace(/\s+/g, " ");
  while (!text.includes("five") || !text.includes("only one")) text = await (await get()).text();
  for (
    const says of [
      /Holder one Held for [^M]*Mode shared Lease/,
      /Holder two Held for [^M]*Mode shared, waits to be the only one Lease/,
      /Holder three Held for [^M]*Mode 2 of 5 Lease.*Queued five [^,]*, 3 of 4/,
      /rates Holder four Held for [^M]*Mode shared Lease/,
      /account Holder four Held for [^M]*Lease/,
    ]
  ) assert(says.test(shown()), `${says} in ${shown().slice(-1500)}`);
  ending.abort();
  await Promise.allSettled([waiting, upgrading]);
  for (const held of [one, two, three, four]) await held!.release();
});

Deno.test("admin: what is not there is said", async () => {
  const { get } = page();
  const seen: [string, string, number][] = [
    ["GET", "", 200],
    ["HEAD", "", 200],
    ["HEAD", "?view=events", 200],
    ["GET", "?view=nothing", 404],
    ["GET", "?release=x&fencingToken=1", 404],
    ["GET", "?release=x", 400],
    ["GET", "?release=&fencingToken=1", 400],
    ["POST", "", 405],
    ["PUT", "?release=x&fencingToken=1", 405],
    ["DELETE", "", 405],
  ];
  for (const [method, query, status] of seen) {
    const response = await get(query, { method });
    assertEquals([method, query, response.status], [method, query, status]);
    assertEquals(response.headers.has("allow"), status === 405);
    assertEquals((await response.text()).length > 0, method !== "HEAD");
  }
});

Deno.test("admin: a release is asked for first, and done once", async () => {
  const { get, acquire, backend } = page();
  const held = await acquire("import", "worker 3");
  const { fencingToken } = held;
  const asked = await get(query("import", fencingToken));
  const text = await asked.text();
  assertEquals(asked.status, 200);
  assertStringIncludes(text, "<bdi>worker 3</bdi>");
  // One read, however much there is next to it.
  const forbidden = () => {
    throw new Error("it goes through all that is stored");
  };
  const scanning = page({ backend: { ...backend, list: forbidden } });
  assertEquals((await scanning.get(query("import", fencingToken))).status, 200);
  assertEquals(held.held, true, "asking does nothing");
  const cookie = asked.headers.get("set-cookie")!;
  assertEquals(cookie.replace(/=[0-9a-f]{32};/, "=…;"), COOKIE);
  const confirmed = confirmation("import", fencingToken, asked, text);
  const done = await get(...confirmed);
  assertEquals(done.status, 200);
  assertStringIncludes(await done.text(), "Released by force");
  assertEquals(await held.release(), false);
  const again = await get(...confirmed);
  assertEquals(again.status, 409);
  assertStringIncludes(await again.text(), "has already ended");
  assertEquals((await get(query("import", fencingToken))).status, 404);
  assertStringIncludes(await (await get()).text(), "lost: forced");
});

Deno.test("admin: a release never hits the next holder", async () => {
  const { get, acquire } = page();
  const first = await acquire("import");
  const asked = await get(query("import", first.fencingToken));
  const text = await asked.text();
  await first.release();
  const second = await acquire("import");
  assertEquals((await get(...confirmation("import", first.fencingToken, asked, text))).status, 409);
  assertEquals([second.held, await second.release()], [true, true]);
});

Deno.test("admin: a form that is not of this page and browser releases nothing", async () => {
  const { get, acquire } = page();
  const held = await acquire("import");
  const asked = await get(query("import", held.fencingToken));
  const text = await asked.text();
  const [path, good] = confirmation("import", held.fencingToken, asked, text);
  const headers = good.headers as Record<string, string>;
  const { "sec-fetch-site": _, ...old } = headers;
  const { cookie: __, ...stranger } = headers;
  const forged: RequestInit[] = [
    ...["cross-site", "same-site", "none", ""].map((site) => ({
      ...good,
      headers: { ...headers, "sec-fetch-site": site },
    })),
    ...["https://evil.example", "https://ops.example.evil.example", "https://ops.example:444", "null", ""]
      .map((origin) => ({ ...good, headers: { ...old, origin } })),
    { ...good, headers: stranger },
    { ...good, headers: { ...headers, cookie: "__Host-holdfast-admin=" } },
    { ...good, headers: { ...headers, cookie: `__Host-holdfast-admin=${"0".repeat(32)}` } },
    // Another host of the domain may have set this one.
    { ...good, headers: { ...headers, cookie: headers.cookie.replace("__Host-", "") } },
    { ...good, headers: { ...headers, "content-type": "text/plain" } },
    { ...good, headers: { ...headers, "content-type": "multipart/form-data; boundary=x" } },
    { ...good, body: "" },
    { ...good, body: "token=" },
    { ...good, body: `token=${"0".repeat(32)}` },
    { ...good, body: `${good.body}&${good.body}` },
  ];
  for (const init of forged) {
    const response = await get(path, init);
    assertEquals(response.status, 403, JSON.stringify(init));
    assertStringIncludes(await response.text(), "Nothing was done");
  }
  assertEquals(held.held, true);
  // A browser that does not send Sec-Fetch-Site names the origin, the host of which a proxy has kept.
  const behind = { ...good, headers: { ...old, origin: "http://ops.example" } };
  assertEquals((await get(path, behind)).status, 200);
  assertEquals(await held.release(), false);
});

Deno.test("admin: what a browser asks for another site is refused before it is authorized", async () => {
  let asked = 0;
  const { get, acquire } = page({ authorize: () => (asked++, true) });
  const held = await acquire("import", "worker 3");
  const release = query("import", held.fencingToken);
  const visit = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  for (const site of ["cross-site", "same-site", "none"]) {
    const from = { "sec-fetch-site": site };
    const strange: [string, RequestInit][] = [
      ["", { headers: from }],
      ["", { method: "HEAD", headers: { ...from, ...visit } }],
      ["", { headers: { ...from, ...visit, "sec-fetch-dest": "iframe" } }],
      ["?view=events", { headers: { ...from, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty" } }],
      [release, { headers: { ...from, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" } }],
      [release, { method: "POST", headers: { ...from, ...visit } }],
    ];
    for (const [path, init] of strange) {
      const { status } = await get(path, init);
      assertEquals([path, init, status, asked], [path, init, 403, 0]);
    }
    // A link that a user follows.
    for (const path of ["", release]) {
      assertEquals((await get(path, { headers: { ...from, ...visit } })).status, 200);
    }
    asked = 0;
  }
  assertEquals((await get("", { headers: { origin: "https://evil.example" } })).status, 403);
  assertEquals(asked, 0);
  assertEquals(await held.release(), true);
});

Deno.test("admin: over plain http the cookie does without https, behind a proxy it does not", async () => {
  const { admin, acquire } = page();
  const held = await acquire("import");
  const path = `http://ops.example/locks${query("import", held.fencingToken)}`;
  const cookie = async (headers: HeadersInit) => {
    const response = await admin(new Request(path, { headers }));
    return response.headers.get("set-cookie")!.replace(/=[0-9a-f]{32};/, "=…;");
  };
  assertEquals(await cookie({}), "holdfast-admin=…; HttpOnly; SameSite=Strict");
  assertEquals(await cookie({ "x-forwarded-proto": "https" }), COOKIE);
  assertEquals(await cookie({ "x-forwarded-proto": "https, http" }), COOKIE);
  await held.release();
});

Deno.test("admin: a form that is too large is refused, unread or when that much of it was read", async () => {
  const { get, acquire } = page();
  const held = await acquire("import");
  const asked = await get(query("import", held.fencingToken));
  const [path, good] = confirmation("import", held.fencingToken, asked, await asked.text());
  const headers = { ...good.headers as Record<string, string> };
  const declared = await get(path, { ...good, headers: { ...headers, "content-length": "16385" } });
  assertEquals(declared.status, 413);
  let sent = 0;
  const endless = new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(1024).fill(38));
      sent++;
    },
  });
  const refused = await get(path, { ...good, body: endless });
  assertEquals([refused.status, sent < 20], [403, true]);
  assertEquals(await held.release(), true);
});

Deno.test("admin: a store that holds records of any shape ends neither the page nor the process", async () => {
  const { store, get, acquire } = page({ refreshMs: 100 });
  const shown = frames(await get("?view=events&find=x"));
  assertStringIncludes((await shown.next()).value!, "No lock is held");
  const holder = {
    token: "t",
    mode: "exclusive",
    limit: 1,
    since: 1,
    leaseMs: 1e6,
    expiresAt: 1e15,
    renewals: 0,
  };
  const odd = [{ ...holder, label: 5 }, { ...holder, since: "x", label: {} }, { ...holder, fence: {} }, null];
  for (const [i, holder] of odd.entries()) {
    const value = JSON.stringify({ v: 1, holders: [holder], queue: [{ label: [] }] });
    await memoryBackend({ store }).commit([{ key: `x:${i}`, version: null, value }]);
  }
  for (let frame = ""; !frame.includes("<b>unreadable:</b>");) frame = (await shown.next()).value!;
  for (const find of ["", "x"]) {
    const response = await get(`?find=${find}`);
    assertEquals(response.status, 200);
    assert((await response.text()).split("<b>unreadable:</b> the record of").length > 2);
  }
  for (const { key, version } of await memoryBackend({ store }).read(odd.map((_, i) => `x:${i}`))) {
    await memoryBackend({ store }).commit([{ key, version, value: null }]);
  }
  const held = await acquire("x:y", "worker 3");
  for (let frame = ""; !frame.includes("worker 3");) frame = (await shown.next()).value!;
  await held.release();
  await shown.return(undefined);
});

Deno.test("admin: a viewer that fails is forgotten; the others see on, and the process lives", async () => {
  const { backend } = page();
  const observer = new Observer({ backend }, 1);
  const failing = observer.follow(() => {
    throw new Error("cannot draw");
  });
  let seen = () => {};
  const leave = observer.follow(() => seen());
  for (let i = 0; i < 3; i++) {
    const limit = Promise.withResolvers<void>();
    const timer = setTimeout(limit.reject, 20_000, new Error("the other sees nothing any more"));
    seen = limit.resolve;
    await limit.promise;
    clearTimeout(timer);
  }
  failing();
  leave();
  // Alone, it ends what it has begun: the sanitizers see whether a timer goes on.
  const published = new Promise<LockEvents["holdfast:backend-error"]>((resolve) => {
    subscribe("holdfast:backend-error", function listener(message) {
      unsubscribe("holdfast:backend-error", listener);
      resolve(message as LockEvents["holdfast:backend-error"]);
    });
  });
  observer.follow(() => {
    throw new Error("cannot draw");
  });
  assertStringIncludes(`${(await published).error}`, "cannot draw");
});

Deno.test("admin: no more browsers than a hundred are kept live", async () => {
  const { get } = page();
  const streams = await Promise.all(Array.from({ length: 100 }, () => get("?view=events")));
  const refused = await get("?view=events");
  assertEquals([refused.status, refused.headers.get("retry-after")], [503, "60"]);
  await streams[0].body!.cancel();
  const next = await get("?view=events");
  assertEquals(next.status, 200);
  for (const { body } of [...streams.slice(1), next]) await body!.cancel();
});

Deno.test("admin: a stream shows what is new, and ends with its browser", async () => {
  const { get, acquire } = page({ refreshMs: 100 });
  const response = await get("?view=events");
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const shown = frames(response);
  assertStringIncludes((await shown.next()).value!, "No lock is held");
  const held = await acquire("import", "worker 3");
  let frame = "";
  while (!frame.includes("worker 3")) frame = (await shown.next()).value!;
  await held.release();
  while (!frame.includes(">released<")) frame = (await shown.next()).value!;
  // The sanitizers see whether a timer goes on.
  await shown.return(undefined);
});

Deno.test("admin: the failure of a store is shown, and the store again when it is back", async () => {
  const { backend } = page();
  const { list, read } = backend;
  const admin = adminHandler({ backend, authorize: () => true, refreshMs: 100 });
  const out = () => {
    throw new Error("the store <is> out");
  };
  const fail = () => Object.assign(backend, { list: out, read: out });
  const shown = frames(await admin(new Request(`${URL_}?view=events`)));
  assertStringIncludes((await shown.next()).value!, "No lock is held");
  fail();
  let frame = "";
  while (!frame.includes("the store &lt;is&gt; out")) frame = (await shown.next()).value!;
  assertFalse(frame.includes("No lock is held"), "that is not known");
  for (const path of ["", query("import", "1")]) {
    const response = await admin(new Request(URL_ + path));
    assertEquals(response.status, 503);
    assertStringIncludes(await response.text(), "the store &lt;is&gt; out");
  }
  Object.assign(backend, { list, read });
  while (frame.includes("The store does not answer")) frame = (await shown.next()).value!;
  await shown.return(undefined);
});

Deno.test("admin: a store that is silent does not keep viewers", async () => {
  let ended = false;
  const silent: AsyncIterableIterator<ListedLock> = {
    next: () => new Promise(() => {}),
    return: () => new Promise(() => ended = true),
    [Symbol.asyncIterator]: () => silent,
  };
  const error = await inTime(silent, 10).next().catch((error) => error);
  assertEquals(error.message, "it has been silent for 0.01 s");
  assertEquals(ended, true);
});

Deno.test("admin: however many look, the store is looked at once", async () => {
  let asked = 0;
  let answer = () => {};
  let isAsked = () => {};
  const backend: LockBackend = {
    ...memoryBackend(),
    read: () => Promise.resolve([]),
    commit: () => Promise.reject(new Error("unused")),
    watch: async function* () {},
    now: () => Date.now(),
    list: () => ({
      [Symbol.asyncIterator]: () => ({
        next: () => {
          asked++;
          isAsked();
          return new Promise((resolve) => answer = () => resolve({ done: true, value: undefined }));
        },
      }),
    }),
  };
  const observer = new Observer({ backend }, 100);
  const next = () => new Promise<void>((resolve) => isAsked = resolve);
  let looks = 0;
  let begun = next();
  const leave = Array.from({ length: 500 }, () => observer.follow(() => looks++));
  for (let i = 1; i <= 3; i++) {
    await begun;
    const mine = observer.look();
    assertEquals([asked, observer.look() === mine], [i, true]);
    begun = next();
    answer();
    await mine;
  }
  await begun;
  assertEquals([asked, looks], [4, 1500]);
  for (const go of leave) go();
  answer();
  await observer.look().catch(() => {});
});

Deno.test("admin: many browsers that come and go leave nothing running", async () => {
  const { get, acquire } = page({ refreshMs: 100 });
  const held = await acquire("import");
  for (let round = 0; round < 3; round++) {
    const streams = await Promise.all(Array.from({ length: 100 }, () => get("?view=events")));
    const readers = streams.map(({ body }) => body!.getReader());
    await Promise.all(readers.map((reader) => reader.read()));
    await Promise.all(readers.map((reader) => reader.cancel()));
  }
  await held.release();
});

Deno.test("admin: of very many locks, some are listed and the others counted", async () => {
  const { get, acquire } = page();
  const held = await Promise.all(Array.from({ length: 300 }, (_, i) => acquire(`lock:${1000 + i}`, `w${i}`)));
  const text = await (await get()).text();
  assertEquals(text.match(/<li id="lock=/g)!.length, 100);
  assertStringIncludes(text, "<b>300</b> held");
  assertStringIncludes(text, "and 200 more");
  assertStringIncludes(text, "and 288 more locks, not drawn");
  assertStringIncludes(await (await get("?find=lock:1250")).text(), "<b>1</b> held");
  const more = await Promise.all(Array.from({ length: 1800 }, (_, i) => acquire(`more:${i}`)));
  assertStringIncludes(await (await get()).text(), "Showing the first 2000 locks.");
  // The last one is beyond what a page looks at; a label is found, too.
  const last = await acquire("zzz:last", "the night shift");
  for (const find of ["zzz", "night shift"]) {
    const text = await (await get(`?find=${encodeURIComponent(find)}`)).text();
    assertStringIncludes(text, "<b>1</b> held");
    assertFalse(text.includes("Showing the first"));
    const shown = frames(await get(`?view=events&find=${encodeURIComponent(find)}`));
    assertStringIncludes((await shown.next()).value!, "<bdi>zzz:last</bdi>");
    await shown.return(undefined);
  }
  assertFalse((await (await get("?find=o")).text()).includes("zzz:last"));
  await last.release();
  await Promise.all([...held, ...more].map((lock) => lock.release()));
});

Deno.test("admin: what this process loses while no page is open is remembered", async () => {
  const { backend, get, acquire } = page();
  const held = await acquire("report:lost", "night shift");
  await forceRelease("report:lost", { backend });
  await held.release();
  const text = await (await get()).text();
  assertStringIncludes(text, "<bdi>report:lost</bdi>");
  assertStringIncludes(text, "<bdi>night shift</bdi>");
});

/** A page after these looks, with the script and the style left out. */
function after(history: History, locks: ListedLock[], now: number): string {
  const look = {
    at: now,
    find: "",
    store: "Redis at <here>",
    locks,
    more: false,
    trouble: undefined,
    history,
    losses: [],
  };
  return content(look).text;
}

Deno.test("admin: what needs attention comes first, the list before the picture; the store has its name", () => {
  const dead = listed("zzz", 60_000);
  const locks = [listed("aaa", 1), { ...dead, holders: [{ ...dead.holders[0], leaseLeftMs: -8000 }] }];
  const text = after(new History(), locks, T0);
  assert(text.indexOf("<bdi>zzz</bdi>") < text.indexOf("<bdi>aaa</bdi>"));
  assert(text.indexOf('id="held"') < text.indexOf("The last 5 minutes"));
  assert(text.indexOf("<b>1</b> expired") < text.indexOf("<b>2</b> held"));
  assertStringIncludes(text, "expired 8 s ago");
  assertStringIncludes(text, "<bdi>Redis at &lt;here&gt;</bdi>");
});

Deno.test("admin: one busy lock does not hide a loss, nor which hold it was", () => {
  const history = new History();
  history.see([listed("report", 60_000)], T0, 5000);
  history.end("report", "7", "expired", T0);
  for (let i = 0; i < 100; i++) {
    const busy = listed("busy", 100);
    history.see([{ ...busy, holders: [{ ...busy.holders[0], fencingToken: `${i}` }] }], T0 + i, 5000);
    history.end("busy", `${i}`, i % 20 === 0 ? "stolen" : "released", T0 + i);
  }
  for (let i = 0; i < 50; i++) {
    history.see([listed(`other:${i}`, 10)], T0 + 200, 5000);
    history.end(`other:${i}`, "7", "released", T0 + 200);
  }
  const text = after(history, [], T0 + 1000).split("Recently ended")[1].replace(/<[^>]*>/g, " ").replace(
    /\s+/g,
    " ",
  );
  assert(
    / busy .*lost: stolen.*and 96 more holds, 2 of them lost report .*lost: lease expired other/.test(text),
    text,
  );
  assertStringIncludes(text, "and 32 more locks");
});

const T0 = Date.UTC(2030, 0, 1);

function listed(identifier: string, heldForMs: number | undefined, waitingForMs: number[] = []): ListedLock {
  const how = { mode: "exclusive", limit: 1, permits: 1 } as const;
  const label = undefined;
  const since = new Date(T0);
  return {
    identifier,
    holders: heldForMs === undefined ? [] : [{
      label,
      ...how,
      upgrading: false,
      since,
      heldForMs,
      leaseLeftMs: 5000,
      fencingToken: "7",
      released: false,
      handedOver: false,
    }],
    waiters: waitingForMs.map((ms) => ({ label, ...how, since: new Date(T0 - ms), waitingForMs: ms })),
  };
}

Deno.test("admin: the past is what looks have shown, and what holders have published", () => {
  const history = new History();
  const past = () =>
    [...history.spans].map(({ what, from, to, how }) => [what, from - T0, to && to - T0, how]);
  history.see([listed("x", 3000, [1000])], T0, 2000);
  history.see([listed("x", 4000, [])], T0 + 1000, 2000);
  assertEquals(past(), [["hold", -3000, undefined, undefined], ["wait", -1000, 1000, "gone"]]);
  history.see([], T0 + 2000, 2000);
  assertEquals(past()[0], ["hold", -3000, 2000, "gone"]);
  history.end("x", "7", "stolen", T0 + 1500);
  history.end("x", "7", "released", T0 + 1800);
  history.end("y", "7", "forced", T0 + 1800);
  assertEquals(past()[0], ["hold", -3000, 1500, "stolen"], "the first word of the holder counts");
  history.see([listed("x", 6000)], T0 + 3000, 2000);
  assertEquals(past()[0], ["hold", -3000, 1500, "stolen"], "a look that was under way is late news");
  assertEquals(history.looked, [{ from: T0, to: T0 + 3000 }]);
  history.see([listed("z", 1)], T0 + 4000, 2000);
  history.see([], T0 + 9000, 2000);
  assertEquals(history.looked.length, 2, "there was no look meanwhile");
  assertEquals(past().at(-1), ["hold", 3999, 4000, "gone"], "it was there at the last look");
  history.see([], T0 + 9001 + WINDOW_MS, 2000);
  assertEquals([past().length, history.looked.length], [0, 1], "what is long past is forgotten");
});

Deno.test("admin: a hold that crashed is expired, as far as looks can show, and no release is", () => {
  const holder = (fencingToken: string, leaseLeftMs: number, released = false) => {
    const lock = listed("x", 30_000);
    return [{ ...lock, holders: [{ ...lock.holders[0], fencingToken, leaseLeftMs, released }] }];
  };
  const play = (...looks: [ms: number, locks: ListedLock[]][]) => {
    const history = new History();
    for (const [ms, locks] of looks) history.see(locks, T0 + ms, 5000);
    const [span] = history.spans;
    return [span.how, span.to && span.to - T0];
  };
  const lease = (ms: number, leftMs: number): [number, ListedLock[]] => [ms, holder("1", leftMs)];
  assertEquals(play(lease(0, 20_000), lease(4000, -1000)), [undefined, undefined]);
  assertEquals(play(lease(0, 20_000), lease(4000, -1000), [8000, []]), ["expired", 3000]);
  // The next holder had it at once, so that no look has shown the lease expired.
  assertEquals(play(lease(0, 20_000), lease(4000, 1000), [8000, holder("2", 30_000)]), ["expired", 5000]);
  // Released in time, however short the lease; or before it was kept for a while.
  assertEquals(play(lease(0, 1000), lease(4000, 700), [8000, []]), ["gone", 8000]);
  assertEquals(play(lease(0, 20_000), lease(4000, 19_000), [8000, []]), ["gone", 8000]);
  assertEquals(play(lease(0, 3000), [2000, holder("1", 100, true)], [4000, []]), ["released", 4000]);
  // What the holder says counts more, although it comes later.
  const history = new History();
  history.see(holder("1", 30_000), T0, 5000);
  history.see(holder("1", 1000), T0 + 1000, 5000);
  history.see([], T0 + 3000, 5000);
  history.end("x", "1", "stolen", T0 + 3100);
  assertEquals([...history.spans].map(({ how }) => how), ["stolen"]);
});

Deno.test("admin: the past is bounded", () => {
  const history = new History();
  for (let at = 0; at < 20; at++) {
    history.see(Array.from({ length: 1000 }, (_, i) => listed(`${at}:${i}`, 1)), T0 + at, 1000);
  }
  assert([...history.spans].length <= 6000);
});

Deno.test("admin: the picture has a row per lock, and marks what was lost", () => {
  const history = new History();
  assertStringIncludes(picture(history, T0, () => true).text, "Nothing was held");
  history.see([listed("a", 60_000, [1, 2, 3, 4, 5]), listed("b", 1000)], T0, 1000);
  history.end("b", "7", "expired", T0);
  const drawn = picture(history, T0, () => true).text.split("<figcaption>")[0];
  assertEquals(drawn.match(/class="name"/g)!.length, 2);
  assertEquals(drawn.match(/class="wait"/g)!.length, 3, "as many as there is room for");
  assertEquals(drawn.match(/class="lost"/g)!.length, 1);
  // The lease of "a" has ended: from then on it is not held, and nothing shows it as if it were.
  const later = picture(history, T0 + 65_000, () => true).text.split("<figcaption>")[0];
  assertEquals([drawn, later].map((text) => text.split('"hold on"').length - 1), [1, 0]);
  assertEquals([drawn, later].map((text) => text.split('"hold expired"').length - 1), [0, 1]);
  assertEquals(later.match(/class="lost"/g)!.length, 2);
  assertStringIncludes(later, "expired 1 min 0 s ago");
  assertStringIncludes(drawn, "1 min 0 s, still on");
  assertStringIncludes(drawn, "1 s, lease expired");
  assert(drawn.indexOf('class="lost"') > drawn.lastIndexOf('class="hold'), "nothing covers it");
  assertStringIncludes(drawn, `width="20.00%"`);
  assertFalse(picture(history, T0, (identifier) => identifier === "a").text.includes(">b<"));
});

Deno.test("admin: times as people say them", () => {
  const said = [-5, 0, 432, 999, 1000, 59_999, 60_000, 3_599_999, 3_600_000, 86_400_000 * 3].map(lasting);
  assertEquals(said, [
    "0.0 s",
    "0.0 s",
    "0.4 s",
    "1.0 s",
    "1 s",
    "59 s",
    "1 min 0 s",
    "59 min 59 s",
    "1 h 0 min",
    "3 d 0 h",
  ]);
});
