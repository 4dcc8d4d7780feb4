/** The command line on a real terminal: what it draws, asks, and does with what is typed. */

import { locks } from "@holdfast/lock";
import { kvBackend } from "@holdfast/lock/backends/kv";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { bar } from "../cli/view.ts";
import { ON_DENO, type Place, Program } from "./support/cli_program.ts";

const DEADLINE_MS = 60_000;

async function tmux(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("tmux", { args, stdin: "null" }).output();
  const decoder = new TextDecoder();
  assert(success, `tmux ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

async function missingTmux(): Promise<string | undefined> {
  try {
    await tmux("-V");
  } catch {
    if (Deno.env.get("CI") === "true") throw new Error("tmux is not installed, and in CI it must be");
    return "needs tmux: apt-get install tmux, brew install tmux";
  }
}

/** A terminal in which a shell runs, with the program as `./holdfast`. */
class Terminal implements AsyncDisposable {
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  static async open(folder: string, store: string): Promise<Terminal> {
    const words = ON_DENO.map((word) => `'${word}'`).join(" ");
    await Deno.writeTextFile(`${folder}/holdfast`, `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
    const name = `holdfast-test-${crypto.randomUUID()}`;
    const env = ["-e", `HOLDFAST_BACKEND=${store}`, "-e", "ENV=", "-e", "PS1=$ ", "-e", "NO_COLOR="];
    await tmux(
      "-L",
      name,
      "-f",
      "/dev/null",
      "new-session",
      "-d",
      "-x",
      "80",
      "-y",
      "20",
      "-c",
      folder,
      ...env,
      "sh",
    );
    return new Terminal(name);
  }

  /** Types a line. */
  async types(line: string): Promise<void> {
    await tmux("-L", this.#name, "send-keys", "-l", line);
    await this.presses("Enter");
  }

  async presses(key: string): Promise<void> {
    await tmux("-L", this.#name, "send-keys", key);
  }

  /** Until the screen is as wanted. */
  async shows(
    what: string,
    wanted: (screen: string) => boolean = (screen) => screen.includes(what),
    ...more: string[]
  ): Promise<string> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const screen = await tmux("-L", this.#name, "capture-pane", "-p", ...more);
      if (wanted(screen)) return screen;
      assert(performance.now() < deadline, `the terminal never showed ${what}, but:\n${screen}`);
      await delay(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await tmux("-L", this.#name, "kill-server");
  }
}

const missing = await missingTmux();

function test(name: string, play: (terminal: Terminal, place: Place) => Promise<void>): void {
  if (missing !== undefined) {
    return Deno.test.ignore(`command line on a terminal: ${name} (${missing})`, () => {});
  }
  Deno.test(`command line on a terminal: ${name}`, async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "holdfast-cli-" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    const store = `kv:${folder}/locks.db`;
    const terminal = stack.use(await Terminal.open(folder, store));
    await play(terminal, { program: ON_DENO, store });
  });
}

async function holding(place: Place, ...args: string[]): Promise<Program> {
  const options = args.length === 0 ? ["x"] : args;
  const command = ["--", "sh", "-c", "echo held; cat"];
  return await new Program(place, "run", ...options, "--label", "the first", ...command).says("held");
}

test("ls --watch is drawn again in its place, until Ctrl-C", async (terminal, place) => {
  await terminal.types("./holdfast ls --watch");
  await terminal.shows("LOCK  HOLDER  HELD FOR");
  await using holder = await holding(place);
  const screen = await terminal.shows("x     the first  ");
  assertEquals(screen.split("HOLDER").length, 2, screen);
  // It counts without any news.
  const shown = /the first +\S+ \S+/.exec(screen)![0];
  await terminal.shows("another age", (screen) => screen.includes("the first") && !screen.includes(shown));
  const [asOf] = /as of \d\d:\d\d:\d\d/.exec(screen)!;
  await terminal.shows("a later time", (screen) => !screen.includes(asOf));
  // The head is bold.
  await terminal.shows("a bold head", (screen) => screen.includes("\x1b[1mLOCK"), "-e");
  assertEquals((await holder.hears().outcome()).code, 0);
  await terminal.shows("No lock is held or waited for.");
  await terminal.presses("C-c");
  await terminal.types("echo rc=$?");
  await terminal.shows("rc=130");
});

test(
  "while it waits it shows which holder it waits for, and the line goes when it is over",
  async (terminal, place) => {
    await using holder = await holding(place);
    await terminal.types("./holdfast run x -- sh -c 'echo m''ine'; echo rc=$?");
    await terminal.shows(`holdfast: waiting for "x", held by "the first" for `);
    assertEquals((await holder.hears().outcome()).code, 0);
    await terminal.shows("mine");
    assert(!(await terminal.shows("rc=0")).includes("waiting for"));
  },
);

test("ls --watch has room for all columns, and shows what has expired in red", async (terminal, place) => {
  const identifier = "invoice:".repeat(20);
  await using holder = await holding(place, identifier);
  await using frozen = await holding(place, "dead", "--lease", "500ms");
  frozen.signal("SIGSTOP");
  await terminal.types("./holdfast ls --watch");
  const wanted = (screen: string) => screen.includes("\x1b[31mexpired ");
  await terminal.shows("what has expired in red", wanted, "-e");
  const rows = [/^dead .* expired /m, /^invoice:.*… {2}the first {2,}\d+ m?s +\d+ s left +0$/m];
  await terminal.shows("all columns", (screen) => rows.every((row) => row.test(screen)));
  assertEquals((await holder.hears().outcome()).code, 0);
});

test("a lock that stays taken: the line that waits goes, and names the holder", async (terminal, place) => {
  await using holder = await holding(place);
  await terminal.types("./holdfast run x --wait-for 1s -- true; echo rc=$?");
  await terminal.shows(`waiting for "x"`);
  const screen = await terminal.shows("rc=75");
  assert(
    /^holdfast: Cannot acquire lock "x": held by "the first" for \d+ s; waited 1 s$/m.test(screen),
    screen,
  );
  assert(!screen.includes("waiting for"), screen);
  assertEquals((await holder.hears().outcome()).code, 0);
});

test("Ctrl-C while it waits leaves nothing behind", async (terminal, place) => {
  await using _holder = await holding(place);
  await terminal.types("./holdfast run x -- echo never; echo rc=$?");
  await terminal.shows(`waiting for "x"`);
  await terminal.presses("C-c");
  await terminal.shows("rc=130");
  const kv = await Deno.openKv(place.store.slice("kv:".length));
  try {
    for await (const { waiters } of locks({ backend: kvBackend(kv) })) assertEquals(waiters, []);
  } finally {
    kv.close();
  }
});

test("the command reads what is typed, and gets Ctrl-C once", async (terminal) => {
  const script = `trap 'n=$((n+1)); echo "int <$n>"' INT; echo "ready <$n>"; ` +
    `while ! read line; do :; done; echo "got <$line> <$n>"; exit 3`;
  await terminal.types(`cat > script; ./holdfast run x -- sh script; echo rc=$?`);
  await terminal.types(script);
  await terminal.presses("C-d");
  await terminal.shows("ready <>");
  await terminal.presses("C-c");
  await terminal.shows("int <1>");
  await terminal.types("some text");
  await terminal.shows("got <some text> <1>");
  await terminal.shows("rc=3");
});

test("release asks first", async (terminal, place) => {
  await using holder = await holding(place);
  await terminal.types("./holdfast release x --force; echo rc=$?");
  await terminal.shows(`Evict the first (held for `);
  await terminal.types("no");
  await terminal.shows("rc=1");
  await terminal.types("clear; ./holdfast release x --force; echo rc=$?");
  await terminal.shows("[y/N]");
  await terminal.types("y");
  assertStringIncludes(await terminal.shows("rc=0"), `evicted the first from "x"`);
  assertEquals((await holder.hears().outcome()).code, 76);
});

Deno.test("command line: the progress bar of a cleanup", () => {
  const counts = { seen: 50, live: 20, removed: 28, evicted: 2, gone: 0, unreadable: 0 };
  assertEquals(bar(counts, 200), "[########......................] 25 %, 50 seen, 28 removed, 2 evicted");
  assertEquals(bar(counts, 40), `[${"#".repeat(30)}] 100 %, 50 seen, 28 removed, 2 evicted`);
  assertEquals(bar({ ...counts, seen: 0 }, 0).startsWith(`[${"#".repeat(30)}] 100 %`), true);
});
