// The example app, copied out and started as its README says, in two processes on one database.
import { forceRelease, peek } from "@holdfast/lock";
import { kvBackend } from "@holdfast/lock/backends/kv";
import { assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";

const SECRETS = { ADMIN_SECRET: "the-secret-of-operators", CLEANUP_SECRET: "the-secret-of-the-cleanup" };
const ROOT = new URL("..", import.meta.url);

/** A folder with the app as a user would copy it; JSR's library is the one of this clone. */
async function copyOut(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-example-" });
  const app = new URL("examples/deploy/", ROOT);
  for await (const { name, isFile } of Deno.readDir(app)) {
    if (isFile) await Deno.copyFile(new URL(name, app), `${folder}/${name}`);
  }
  const config = JSON.parse(await Deno.readTextFile(`${folder}/deno.json`));
  config.links = [decodeURIComponent(ROOT.pathname)];
  await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
  return folder;
}

/** One process of the app, which has said where it listens. */
class App implements AsyncDisposable {
  readonly url: string;
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  private constructor(child: Deno.ChildProcess, url: string, reading: Promise<void>) {
    this.#child = child;
    this.url = url;
    this.#reading = reading;
  }

  static async start(folder: string, env: Record<string, string>): Promise<App> {
    // The command of its task, without the task's shell between us and the process.
    const { tasks } = JSON.parse(await Deno.readTextFile(`${folder}/deno.json`));
    const child = new Deno.Command(Deno.execPath(), {
      args: tasks.start.split(" ").slice(1),
      cwd: folder,
      env: { ...env, PORT: "0", DENO_DIR: `${folder}/deno`, NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let text = "";
    const url = Promise.withResolvers<string>();
    const reading = (async () => {
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        const port = /Listening on \S+:(\d+)\//.exec(text)?.[1];
        if (port !== undefined) url.resolve(`http://localhost:${port}`);
      }
      url.reject(new Error(`the app has ended: ${text}`));
    })();
    try {
      return new App(child, await url.promise, reading);
    } catch (error) {
      await child.status;
      throw error;
    }
  }

  async ask(path: string, init: RequestInit = {}): Promise<[status: number, text: string]> {
    const response = await fetch(this.url + path, init);
    return [response.status, await response.text()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    await this.#child.status;
    await this.#reading;
  }
}

Deno.test("example: the app on Deno Deploy counts, shows, and cleans up, in two processes", async () => {
  const folder = await copyOut();
  try {
    await using first = await App.start(folder, SECRETS);
    await using second = await App.start(folder, SECRETS);
    const [, greeting] = await first.ask("/");
    assertStringIncludes(greeting, "/admin/locks");

    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => [first, second][i % 2].ask("/count/visits", { method: "POST" })),
    );
    const counts = answers.map(([, text]) => JSON.parse(text).count).sort((a, b) => a - b);
    assertEquals(counts, Array.from({ length: 12 }, (_, i) => i + 1), "none is lost, none comes twice");

    const admin = { authorization: `Basic ${btoa(`ada:${SECRETS.ADMIN_SECRET}`)}` };
    const [status, page] = await second.ask("/admin/locks", { headers: admin });
    assertEquals(status, 200);
    assertStringIncludes(page, "<title>Locks of the counter</title>");
    const bearer = { authorization: `Bearer ${SECRETS.CLEANUP_SECRET}` };
    const [cleaned, report] = await first.ask("/cleanup", { headers: bearer });
    assertEquals([cleaned, "removed" in JSON.parse(report)], [200, true]);

    for (
      const [path, init, expected] of [
        ["/admin/locks", {}, 401],
        ["/admin/locks", { headers: bearer }, 401],
        ["/cleanup", {}, 401],
        ["/cleanup", { headers: admin }, 401],
        ["/count/visits", {}, 405],
        ["/count/a%2Fb", { method: "POST" }, 404],
        ["/toString", {}, 404],
        ["/admin/locks/", {}, 404],
      ] as [string, RequestInit, number][]
    ) assertEquals([path, (await first.ask(path, init))[0]], [path, expected]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("example: a count whose lock is lost is not written", async () => {
  const folder = await copyOut();
  try {
    await using app = await App.start(folder, SECRETS);
    assertEquals((await app.ask("/count/lost", { method: "POST" }))[0], 200);
    const kv = await Deno.openKv(await databaseIn(`${folder}/deno/location_data`));
    try {
      const backend = kvBackend(kv);
      for (let isEarly = false; !isEarly;) {
        const { value: before } = await kv.get(["counters", "lost"]);
        const askedAt = performance.now();
        const asking = app.ask("/count/lost", { method: "POST" });
        while ((await peek("counter:lost", { backend })).holders.length === 0) await delay(1);
        const isEvicted = await forceRelease("counter:lost", { backend });
        // It works for 100 ms before it writes; on a machine that is slower than that, the next one is tried.
        isEarly = isEvicted && performance.now() - askedAt < 100;
        const [status] = await asking;
        if (!isEarly) continue;
        assertEquals([status, (await kv.get(["counters", "lost"])).value], [503, before]);
      }
    } finally {
      kv.close();
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** The only database that an app has opened. */
async function databaseIn(folder: string): Promise<string> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir(folder)) found.push(`${folder}/${name}/kv.sqlite3`);
  assertEquals(found.length, 1);
  return found[0];
}

Deno.test("example: without its secrets the app does not start", async () => {
  const folder = await copyOut();
  try {
    const error = await App.start(folder, { ADMIN_SECRET: SECRETS.ADMIN_SECRET, CLEANUP_SECRET: "" })
      .catch((error) => error);
    assertStringIncludes(error.message, "must be at least 16 visible ASCII characters");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
