// The admin page in a real browser: what people see and do.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import axe from "axe-core";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { adminHandler, basicSecret } from "../admin.ts";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { Lock, lock } from "../mod.ts";
import { missingBrowser, startBrowser } from "./support/browser.ts";

const missing = missingBrowser();
const SECRET = "a-secret-of-these-tests";
const SCRIPT = "<script>document.title = 'broken in'</script>";
const login = { username: "ada", password: SECRET };

/** A server with the page under a separate path, and a separate store. */
class Scene implements AsyncDisposable {
  readonly store = new MemoryStore();
  readonly url: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #browser: Browser;
  readonly complaints: string[] = [];
  readonly #closings: (() => Promise<unknown>)[] = [];

  constructor(browser: Browser) {
    this.#browser = browser;
    const admin = adminHandler({
      backend: this.participant(),
      authorize: basicSecret(SECRET),
      refreshMs: 100,
    });
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) =>
        new URL(request.url).pathname === "/admin/locks"
          ? admin(request)
          : new Response("elsewhere", { status: 404 }),
    );
    this.url = `http://localhost:${this.#server.addr.port}/admin/locks`;
  }

  participant() {
    return memoryBackend({ store: this.store });
  }

  async acquire(identifier: string, label?: string, leaseMs?: number): Promise<Lock> {
    return (await Lock.acquire(identifier, { backend: this.participant(), label, leaseMs }))!;
  }

  /** A separate browser on the page, logged in. */
  async open(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext({ httpCredentials: login, ...options });
    this.#closings.push(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("dialog", (dialog) => this.complaints.push(dialog.message()));
    await page.goto(this.url);
    return page;
  }

  /** A separate browser that has not been anywhere. */
  stranger(httpCredentials?: { username: string; password: string }): Promise<BrowserContext> {
    return this.#browser.newContext({ httpCredentials });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closings) await close();
    await this.#server.shutdown();
    // Refusals are answers of the page, which the console lists, too.
    assertEquals(this.complaints.filter((text) => !/status of (403|404|409)/.test(text)), []);
  }
}

const rowOf = (page: Page, identifier: string) =>
  page.locator(".locks > li").filter({ has: page.getByRole("heading", { name: identifier, exact: true }) });

const live = (page: Page) => page.locator("#state.live").waitFor();

/** The text of the element that has the focus. */
const focused = (page: Page) => page.evaluate("document.activeElement.innerText.replace(/\\s+/g, ' ')");

/** What a look for barriers finds. */
async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  return await page.evaluate(
    `axe.run(document, { runOnly: ${JSON.stringify(tags)} }).then(({ violations }) =>
       violations.map(({ id, nodes }) => id + " " + nodes.map(({ target }) => target).join(" ")))`,
  );
}

const CASES: Record<string, (scene: Scene) => Promise<void>> = {
  "lists what is held and which processes wait, and stays live": async (scene) => {
    const page = await scene.open();
    await live(page);
    assertEquals(await page.title(), "Locks");
    await page.getByText("No lock is held or waited for.").waitFor();
    const held = await scene.acquire("invoice:17", "worker 3");
    const row = rowOf(page, "invoice:17");
    await row.getByText("worker 3").waitFor();
    assertStringIncludes(await row.innerText(), held.fencingToken);
    const waiting = lock("invoice:17", { backend: scene.participant(), label: "worker 4" }).acquire();
    await row.locator("ol > li").getByText("worker 4").waitFor();
    await held.release();
    const next = await waiting;
    await row.locator("dl").getByText("worker 4").waitFor();
    await page.locator(".ended li").getByText("worker 3").waitFor();
    await page.locator("#picture .name", { hasText: "invoice:17" }).waitFor();
    await next.release();
    await row.waitFor({ state: "detached" });
    // It is announced, too.
    assert((await page.getByRole("status").last().innerText()).includes("queued"));
  },

  "a label that is a script is text": async (scene) => {
    const held = await scene.acquire(SCRIPT, SCRIPT);
    const page = await scene.open();
    await live(page);
    assertStringIncludes(await rowOf(page, SCRIPT).locator("dl").innerText(), SCRIPT);
    await rowOf(page, SCRIPT).getByRole("link").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("has held it for").waitFor();
    assertEquals(await dialog.locator(".identifier").innerText(), SCRIPT);
    assertEquals(await page.title(), "Locks");
    await held.release();
  },

  "forces a release by mouse, after asking": async (scene) => {
    const held = await scene.acquire("import", "worker 3");
    const page = await scene.open();
    await live(page);
    const dialog = page.getByRole("dialog");
    await rowOf(page, "import").getByRole("link", { name: "Force release…" }).click();
    await dialog.getByRole("link", { name: "Keep it" }).click();
    await dialog.waitFor({ state: "hidden" });
    assertEquals(held.held, true);
    await rowOf(page, "import").getByRole("link").click();
    await dialog.getByRole("button", { name: "Force release" }).click();
    await dialog.getByRole("heading", { name: "Released by force" }).waitFor();
    assertEquals(await held.release(), false);
    assertEquals(page.url(), scene.url, "without leaving the page");
    await page.locator(".ended li").getByText("lost: forced").waitFor();
    await dialog.getByRole("link", { name: "Back to the locks" }).click();
    await page.getByText("No lock is held").waitFor();
  },

  "forces a release by keyboard; the focus stays while the page changes": async (scene) => {
    const held = [await scene.acquire("b", "second"), await scene.acquire("d", "last")];
    const page = await scene.open();
    await live(page);
    await page.keyboard.press("Tab");
    assertEquals(await focused(page), "Skip to what is held");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    const first = await scene.acquire("a", "first");
    const middle = await scene.acquire("c", "middle");
    await rowOf(page, "a").waitFor();
    await rowOf(page, "c").waitFor();
    assertEquals(await focused(page), "Force release… b");
    await first.release();
    await rowOf(page, "a").waitFor({ state: "detached" });
    assertEquals(await focused(page), "Force release… b");
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    await dialog.getByText("second has held it").waitFor();
    assertEquals(await focused(page), "Keep it", "what does no harm comes first");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assertEquals(await focused(page), "Force release… b", "back to where it was");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await dialog.getByRole("heading", { name: "Released by force" }).waitFor();
    assertEquals(await Promise.all([...held, middle].map((lock) => lock.release())), [false, true, true]);
  },

  "says so if the holder has gone meanwhile": async (scene) => {
    const held = await scene.acquire("import", "worker 3");
    const page = await scene.open();
    await live(page);
    await rowOf(page, "import").getByRole("link").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("worker 3").waitFor();
    await held.release();
    const next = await scene.acquire("import", "worker 4");
    await dialog.getByRole("button", { name: "Force release" }).click();
    await dialog.getByText("has already ended").waitFor();
    assertEquals(await next.release(), true);
  },

  "works without JavaScript": async (scene) => {
    const held = [await scene.acquire("import", SCRIPT), await scene.acquire("export", "other")];
    const page = await scene.open({ javaScriptEnabled: false });
    assertEquals(await page.locator(".locks > li").count(), 2);
    assertStringIncludes(await page.locator(".asof").innerText(), "UTC");
    assertEquals(await page.getByRole("button", { name: "Pause" }).count(), 0);
    await page.getByLabel("Find").fill("imp");
    await page.keyboard.press("Enter");
    await page.getByText("Only what contains").waitFor();
    assertEquals(await page.locator(".locks > li").count(), 1);
    await rowOf(page, "import").getByRole("link").click();
    await page.getByRole("heading", { name: "Force the release?" }).waitFor();
    await page.getByRole("link", { name: "Keep it" }).click();
    await rowOf(page, "import").getByRole("link").click();
    await page.getByRole("button", { name: "Force release" }).click();
    await page.getByRole("heading", { name: "Released by force" }).waitFor();
    await page.getByRole("link", { name: "Back to the locks" }).click();
    assertEquals(await page.locator(".locks > li").count(), 1);
    assertEquals(await Promise.all(held.map((lock) => lock.release())), [false, true]);
  },

  "is denied without authorisation": async (scene) => {
    const held = await scene.acquire("import", "worker 3");
    for (const httpCredentials of [undefined, { username: "ada", password: "another-secret-than-that" }]) {
      const context = await scene.stranger(httpCredentials);
      for (const query of ["", "?view=events", "?release=import&fencingToken=1"]) {
        const response = await context.request.get(scene.url + query);
        assertEquals([response.status(), (await response.text()).includes("worker 3")], [401, false]);
      }
      // Chromium shows what is refused as a separate error, or as the answer that it is.
      const page = await context.newPage();
      const response = await page.goto(scene.url).catch(() => null);
      assert(response === null || response.status() === 401);
      await context.close();
    }
    assertEquals(await held.release(), true);
  },

  "another site can neither release nor frame it": async (scene) => {
    const held = await scene.acquire("import");
    const page = await scene.open();
    const release = `${scene.url}?release=import&fencingToken=${held.fencingToken}`;
    await page.goto(release);
    const token = await page.locator("input[name=token]").inputValue();
    // 127.0.0.1 is another site than localhost, and this page of it knows even the token.
    await page.goto(scene.url.replace("localhost", "127.0.0.1").replace("/admin/locks", "/evil"));
    const answered = page.waitForResponse((response) => response.request().method() === "POST");
    await page.evaluate(`{
      const form = document.createElement("form");
      form.method = "post";
      form.action = ${JSON.stringify(release)};
      form.append(Object.assign(document.createElement("input"), { name: "token", value: "${token}" }));
      document.body.append(form);
      form.submit();
    }`);
    assertEquals((await answered).status(), 403);
    await page.getByRole("heading", { name: "Forbidden" }).waitFor();
    const framing = await scene.open();
    await framing.goto(scene.url.replace("/admin/locks", "/evil"));
    const refused = framing.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
    await framing.evaluate(`{
      const frame = document.createElement("iframe");
      frame.src = ${JSON.stringify(scene.url)};
      document.body.append(frame);
    }`);
    scene.complaints.splice(scene.complaints.indexOf((await refused).text()), 1);
    assertEquals(await held.release(), true);
  },

  "can be paused, and goes on": async (scene) => {
    const page = await scene.open();
    await live(page);
    await page.getByRole("button", { name: "Pause" }).click();
    assertEquals(await page.locator("#state-text").innerText(), "Paused");
    const held = await scene.acquire("import", "worker 3");
    await page.getByRole("button", { name: "Resume" }).click();
    await rowOf(page, "import").waitFor();
    await held.release();
  },

  "has no barriers: light on a wide screen, dark on a narrow one": async (scene) => {
    const held = [
      await scene.acquire("invoice:" + "long/".repeat(60), "a label ".repeat(16)),
      await scene.acquire("תור:1", "עובד"),
      await scene.acquire("dead", "gone", 100),
    ];
    const waiting = lock("תור:1", { backend: scene.participant(), label: "next" }).acquire();
    for (const [colorScheme, width] of [["light", 1280], ["dark", 320]] as const) {
      const page = await scene.open({
        colorScheme,
        viewport: { width, height: 700 },
        reducedMotion: "reduce",
      });
      await live(page);
      assertEquals(await barriers(page), []);
      const [list, past] = await Promise.all(
        ["#held", ".past"].map(async (part) => (await page.locator(part).boundingBox())!.y),
      );
      assertEquals(list < past, width === 320, "the list comes first where there is little room");
      const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      assert(overflow as number <= 0, `the page is ${overflow} px too wide`);
      await page.locator("a.release").first().click();
      await page.getByRole("dialog").getByText("has held it for").waitFor();
      assertEquals(await barriers(page), []);
      await page.close();
    }
    await Promise.all(held.map((lock) => lock.release()));
    await (await waiting).release();
  },
};

Deno.test({
  name: missing === undefined ? "admin page" : `admin page: ${missing}`,
  ignore: missing !== undefined,
  async fn(t) {
    const browser = await startBrowser();
    try {
      for (const [name, run] of Object.entries(CASES)) {
        await t.step(name, async () => {
          await using scene = new Scene(browser);
          await run(scene);
        });
      }
    } finally {
      await browser.close();
    }
  },
});
