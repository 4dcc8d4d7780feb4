/** The command line in separate processes: on Deno with Deno KV, and on Node with Redis. */

import { Redis } from "ioredis6";
import { forceRelease, type ListedLock, Lock, locks } from "@holdfast/lock";
import { kvBackend } from "@holdfast/lock/backends/kv";
import { redisBackend } from "@holdfast/lock/backends/redis";
import { main } from "@holdfast/lock/cli";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { delay } from "@std/async";
import type { LockBackend } from "../core/backend.ts";
import process from "node:process";
import { memoryBackend } from "../backends/memory.ts";
import { named, opener, secretsIn } from "../cli/store.ts";
import { sentinelsIn } from "../cli/redis.ts";
import { keepSecret, type Line, type Piece, print, tell } from "../cli/terminal.ts";
import { COMMANDS, duration, helpOf, read, UsageError } from "../cli/usage.ts";
import { linesOf, table } from "../cli/table.ts";
import { list, show } from "../cli/view.ts";
import { printable } from "../core/printable.ts";
import { finish, ON_DENO, type Place, Program } from "./support/cli_program.ts";
import { onNode } from "./support/cli_on_node.ts";
import { withEnvironment } from "./support/environment.ts";
import { missingRedis, RedisServer, type RedisServerOptions } from "./support/redis_server.ts";

/** Where a test plays, with a separate view of the store. */
interface Stage extends Place {
  readonly backend: LockBackend;
  /** A separate folder. */
  readonly folder: string;
}

const missing = missingRedis();

function test(name: string, play: (stage: Stage) => Promise<void>): void {
  Deno.test(`command line on Deno with KV: ${name}`, async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await temporary(stack);
    const path = `${folder}/locks.db`;
    const kv = await Deno.openKv(path);
    stack.defer(() => kv.close());
    await play({ program: ON_DENO, store: `kv:${path}`, backend: kvBackend(kv), folder });
  });
  if (missing !== undefined) {
    return Deno.test.ignore(`command line on Node with Redis: ${name} (${missing})`, () => {});
  }
  Deno.test(`command line on Node with Redis: ${name}`, async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await temporary(stack);
    const server = stack.use(await RedisServer.start());
    const client = new Redis({ port: server.port, host: "127.0.0.1" });
    const ended = new Promise((resolve) => client.once("end", resolve));
    stack.defer(async () => {
      client.disconnect();
      await ended;
    });
    const store = `redis://127.0.0.1:${server.port}`;
    const backend = stack.use(redisBackend(client));
    await play({ program: ["node", await onNode()], store, backend, folder });
  });
}

async function temporary(stack: AsyncDisposableStack): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-cli-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  return folder;
}

/** Until the lock, as the store shows it, is as wanted. */
async function until(
  { backend }: Stage,
  wanted: (lock: ListedLock) => boolean,
  identifier = "x",
): Promise<ListedLock> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    for await (const lock of locks({ prefix: identifier, backend })) if (wanted(lock)) return lock;
    assert(performance.now() < deadline, "the lock never was as wanted");
    await delay(20);
  }
}

/** A program that holds the lock until it has nothing more to read. */
async function holding(stage: Stage, ...options: string[]): Promise<Program> {
  return await new Program(stage, "run", "x", ...options, "--", "sh", "-c", "echo held; cat").says("held");
}

test("the command gets standard input and a fencing token, and its exit code is ours", async (stage) => {
  const command = ["sh", "-c", "cat; echo $HOLDFAST_FENCING_TOKEN; echo oops >&2; exit 3"];
  const { code, out, err } = await finish(stage, ["run", "x", "--", ...command], "from standard input\n");
  assertEquals([code, err], [3, "oops\n"]);
  const [line, token] = out.split("\n");
  assertEquals(line, "from standard input");
  const again = await finish(stage, ["run", "x", "--", "sh", "-c", "echo $HOLDFAST_FENCING_TOKEN"]);
  assert(token.length > 0 && token < again.out.trim(), `${token} and then ${again.out}`);
  const unarmed = `${stage.folder}/unarmed`;
  await Deno.writeTextFile(unarmed, "");
  const outcomes = await Promise.all([
    finish(stage, ["run", "a", "--", "no-such-command"]),
    finish(stage, ["run", "b", "--", unarmed]),
    finish(stage, ["run", "c", "--", "sh", "-c", "kill -9 $$"]),
  ]);
  assertEquals(outcomes.map(({ code }) => code), [127, 126, 137]);
  assertStringIncludes(outcomes[0].err, `holdfast: Cannot run "no-such-command": not found`);
  for await (const lock of locks({ backend: stage.backend })) throw new Error(`${lock.identifier} is left`);
});

test("a lock that is taken: 75, and its holder", async (stage) => {
  await using holder = await holding(stage, "--label", "the first");
  const refused = await finish(stage, ["run", "x", "--no-wait", "--", "echo", "never"]);
  assertEquals([refused.code, refused.out], [75, ""]);
  assertStringIncludes(refused.err, `holdfast: Cannot acquire lock "x"`);
  assertStringIncludes(refused.err, `held by "the first"`);
  const late = await finish(stage, ["run", "x", "--wait-for", "1ms", "--quiet", "--", "echo", "never"]);
  assertEquals(late, { code: 75, out: "", err: "" });
  assertEquals((await until(stage, () => true)).waiters, []);
  assertEquals((await holder.hears("bye").outcome()).out, "held\nbye");
});

test("several locks: acquired together or not at all, and the one that is taken is named", async (stage) => {
  await using holder = await holding(stage, "--label", "the first");
  const refused = await finish(stage, ["run", "w", "x", "--no-wait", "--", "echo", "never"]);
  assertEquals([refused.code, refused.out], [75, ""]);
  assertStringIncludes(refused.err, `Cannot acquire lock "x"`);
  await using next = new Program(stage, "run", "w", "x", "--verbose", "--", "echo", "both");
  await next.says(`waiting for "x", held by "the first"`, "err");
  assertEquals((await holder.hears("bye").outcome()).code, 0);
  const { code, out } = await next.outcome();
  assertEquals([code, out], [0, "both\n"]);
  for await (const { identifier } of locks({ backend: stage.backend })) {
    throw new Error(`${identifier} is left`);
  }
});

test("a signal while it waits: 128+n, and nothing left behind", async (stage) => {
  await using holder = await holding(stage, "--label", "the first");
  const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
  await Promise.all(
    Object.entries(signals).map(async ([signal, code]) => {
      await using waiter = new Program(stage, "run", "x", "-v", "--label", signal, "--", "echo", "never");
      await waiter.says(`waiting for "x", held by "the first" for `, "err");
      await until(stage, ({ waiters }) => waiters.some(({ label }) => label === signal));
      waiter.signal(signal as NodeJS.Signals);
      const outcome = await waiter.outcome();
      assertEquals([outcome.code, outcome.out], [code, ""]);
    }),
  );
  assertEquals((await until(stage, () => true)).waiters, []);
  assertEquals((await holder.hears().outcome()).code, 0);
});

test("a signal while the command runs is the command's", async (stage) => {
  const script =
    `trap 'echo usr' USR1; trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done`;
  await using program = await new Program(stage, "run", "x", "--", "sh", "-c", script).says("ready");
  program.signal("SIGUSR1");
  await program.says("usr");
  program.signal("SIGTERM");
  const { code, out } = await program.outcome();
  assertEquals([code, out], [7, "ready\nusr\nterm\n"]);
  // A shell that is between two commands may take note of an interrupt and go on: here it never is.
  await using other = await new Program(
    stage,
    "run",
    "x",
    "--",
    "sh",
    "-c",
    "(echo ready; exec sleep 600); echo no",
  )
    .says("ready");
  // To all of its processes: a shell alone would end only after its sleep.
  other.signal("SIGINT");
  assertEquals(await other.outcome(), { code: 130, out: "ready\n", err: "" });
});

test("the lock is lost: 76; the command is terminated, and then killed", async (stage) => {
  // A lease so short that the holder learns of it at its renewal where it is not notified by push.
  const options = ["--lease", "1s", "--kill-after", "100ms", "--label", "evicted"];
  // The outcome is there only when all that hold its output are dead: also a child that does not obey.
  const obeys =
    `trap 'echo asked; exit 0' TERM; (trap '' TERM; sleep 600) & echo ready; while :; do sleep 0.05; done`;
  await using first = await new Program(stage, "run", "x", ...options, "--", "sh", "-c", obeys).says("ready");
  assert(await forceRelease("x", { backend: stage.backend }));
  const ended = await first.outcome();
  assertEquals([ended.code, ended.out], [76, "ready\nasked\n"]);
  assertStringIncludes(
    ended.err,
    `holdfast: Lost lock "x": an operator evicted it; the command is terminated`,
  );

  // The outcome is there only when all that hold its output are dead, and this one does not obey.
  const stubborn =
    `trap 'echo asked' TERM; (trap '' TERM; sleep 600) & echo ready; while :; do sleep 0.05; done`;
  await using second = await new Program(stage, "run", "x", ...options, "--", "sh", "-c", stubborn).says(
    "ready",
  );
  await using stealer = new Program(stage, "run", "x", "--steal-after", "1ms", "--", "echo", "mine");
  assertEquals((await stealer.hears().outcome()).out, "mine\n");
  const killed = await second.outcome();
  assertEquals([killed.code, killed.out], [76, "ready\nasked\n"]);
  assertStringIncludes(killed.err, `a waiter's stealAfterMs evicted it`);
});

test("a lock that was lost at the very end of the command: 76", async (stage) => {
  // The lease is so long that the holder is not notified before it releases.
  const script = "echo ready; cat";
  await using program = new Program(stage, "run", "x", "--lease", "2h", "--", "sh", "-c", script);
  await program.says("ready");
  assert(await forceRelease("x", { backend: stage.backend }));
  const { code, err } = await program.hears().outcome();
  assertEquals([code, err], [
    76,
    'holdfast: Lost lock "x": an operator evicted it; the command had ended by then\n',
  ]);
});

test("many processes increment a counter: none is lost, and the fencing tokens rise", async (stage) => {
  const [counter, tokens] = [`${stage.folder}/counter`, `${stage.folder}/tokens`];
  await Deno.writeTextFile(counter, "0");
  const script = 'n=$(cat "$0"); echo $HOLDFAST_FENCING_TOKEN >> "$1"; sleep 0.01; echo $((n + 1)) > "$0"';
  const contend = async () => {
    for (let i = 0; i < 3; i++) {
      assertEquals((await finish(stage, ["run", "x", "--", "sh", "-c", script, counter, tokens])).code, 0);
    }
  };
  await Promise.all([contend(), contend(), contend(), contend()]);
  assertEquals((await Deno.readTextFile(counter)).trim(), "12");
  const seen = (await Deno.readTextFile(tokens)).trim().split("\n");
  assertEquals(seen, [...new Set(seen)].sort());
});

test("ls, show, release and cleanup, on a pipe", async (stage) => {
  const evil = "evil\x1b[2J";
  await using holder = await holding(stage, "--label", evil, "--lease", "1s");
  await using waiter = new Program(stage, "run", "x", "--label", "next", "--", "echo", "mine");
  const { holders: [{ fencingToken }] } = await until(stage, ({ waiters }) => waiters.length === 1);

  const table = (await finish(stage, ["ls"])).out;
  const [head, row, ...end] = table.split("\n").map((line) => line.split(/ {2,}/));
  assertEquals([head, end], [["LOCK", "HOLDER", "HELD FOR", "LEASE", "QUEUE"], [[""]]]);
  assertEquals(row.map((cell) => cell.replace(/^\d+ m?s/, "…")), ["x", "evil\\u001b[2J", "…", "… left", "1"]);
  assertEquals((await finish(stage, ["ls", "y"])).out, "LOCK  HOLDER  HELD FOR  LEASE  QUEUE\n");
  const [listed, ...more] = (await finish(stage, ["ls", "x", "--json"])).out.trim().split("\n");
  assertEquals([JSON.parse(listed).holders[0].label, more], [evil, []]);

  const shown = await finish(stage, ["show", "x"]);
  assertEquals(shown.code, 0);
  assertStringIncludes(shown.out, `fencing token  ${fencingToken}\n`);
  assertStringIncludes(shown.out, "queued         next, for ");
  assertEquals((await finish(stage, ["show", "y"])).code, 1);

  const unforced = await finish(stage, ["release", "x"]);
  assertEquals(unforced.code, 64);
  assertStringIncludes(unforced.err, "add --force");
  assertEquals((await finish(stage, ["release", "x", "--force", "--token", "0"])).code, 1);
  const released = await finish(stage, ["release", "x", "--force", "--token", fencingToken]);
  assertEquals([released.code, released.out], [0, `evicted evil\\u001b[2J from "x"\n`]);
  assertEquals((await holder.outcome()).code, 76);
  assertEquals((await waiter.outcome()).out, "mine\n");
  assertEquals((await finish(stage, ["release", "x", "--force"])).code, 1);

  await using old = await holding(stage, "--lease", "1s");
  const clean = JSON.parse((await finish(stage, ["cleanup", "--json"])).out);
  assertEquals([clean.seen, clean.live], [1, 1]);
  const swept = await finish(stage, ["cleanup", "--older-than", "0ms"]);
  assertEquals(swept.out, "1 seen: 0 removed, 1 evicted, 0 live, 0 gone, 0 unreadable\n");
  assertEquals((await old.outcome()).code, 76);
});

test("a lock named like an option is run under, shown and released", async (stage) => {
  const script = ["sh", "-c", "echo held; cat"];
  await using holder = await new Program(stage, "run", "--lease", "1s", "--", "-x", "--", ...script).says(
    "held",
  );
  assertEquals((await finish(stage, ["show", "--", "-x"])).out.split("\n")[0], "-x");
  const released = await finish(stage, ["release", "--force", "--", "-x"]);
  assertEquals([released.code, released.out.endsWith('from "-x"\n')], [0, true]);
  assertEquals((await holder.outcome()).code, 76);
});

Deno.test("command line: a command that is refused at once leaves no lock held: 126", async () => {
  const file = await Deno.makeTempFile();
  try {
    const backend = ["--backend", `kv:${file}`];
    for (const refused of ["x".repeat(3_000_000), "a\0b"]) {
      assertEquals(await main(["run", "x", ...backend, "--", "echo", refused]), 126);
      assertEquals(await main(["run", "x", ...backend, "--no-wait", "--", "true"]), 0);
    }
  } finally {
    await Deno.remove(file);
  }
});

/** Everything that `act` prints. */
async function printed(act: () => Promise<unknown>): Promise<string> {
  const { write } = process.stdout;
  let text = "";
  try {
    process.stdout.write = (more: string) => {
      text += more;
      return true;
    };
    await act();
  } finally {
    process.stdout.write = write;
  }
  return text;
}

Deno.test("command line: ls lists 130 000 locks", async () => {
  const backend = memoryBackend();
  const holder = {
    token: "t",
    mode: "exclusive",
    limit: 1,
    since: 1,
    leaseMs: 100,
    expiresAt: 1,
    renewals: 0,
  };
  const value = JSON.stringify({ v: 1, holders: [holder], queue: [] });
  Object.assign(backend, {
    async *list() {
      for (let i = 0; i < 130_000; i++) yield { key: `lock:${i}`, version: "1", value };
    },
  });
  for (const asJson of [false, true]) {
    const text = await printed(() => list(backend, "", asJson));
    assertEquals(text.split("\n").length, 130_000 + (asJson ? 1 : 2));
  }
});

function listed(identifier: string, label: string, leaseLeftMs: number): ListedLock {
  const how = { mode: "exclusive", limit: 1, permits: 1, label } as const;
  const seen = { since: new Date(0), heldForMs: 3_599_000, leaseLeftMs, fencingToken: "1" };
  return {
    identifier,
    holders: [{ ...how, ...seen, upgrading: false, released: false, handedOver: false }],
    waiters: [{ ...how, since: new Date(0), waitingForMs: 1 }],
  };
}

Deno.test("command line: a table fits its terminal, and only names are shortened", () => {
  const plain = (line: Line) =>
    typeof line === "string"
      ? line
      : line.map((piece) => typeof piece === "string" ? piece : piece.text).join("");
  const found = [
    listed("x".repeat(200), "worker 3 on a machine with a very long name", 29_000),
    listed("발행:".repeat(50), "발행", -3_599_000),
    listed("short", "me", 1000),
  ];
  const [head, first, second, third] = table(found, 80);
  assertEquals(
    plain(head),
    "LOCK              HOLDER            HELD FOR     LEASE                    QUEUE",
  );
  assertEquals(plain(first), "xxxxxxxxxxxxxxx…  worker 3 on a m…  59 min 59 s  29 s left                1");
  assertEquals(plain(second), "발행:발행:발행:…  발행              59 min 59 s  expired 59 min 59 s ago  1");
  assertEquals(plain(third), "short             me                59 min 59 s  1 s left                 1");
  assertEquals([head, second].map((line) => (line as Piece[]).find(({ style }) => style)?.style), [
    "bold",
    "red",
  ]);
  // On a pipe they are whole.
  assertStringIncludes(plain(table(found)[1]), "x".repeat(200));
  const { holders } = found[0];
  const three = table([{ ...found[2], holders: [...holders, ...holders, ...holders] }]).slice(1);
  assertEquals(three.map((line) => plain(line).split(/ {2,}/).slice(4)), [["1"], [], []]);
});

Deno.test("command line: the version is that of the package", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
  for (const flag of ["--version", "-V"]) {
    assertEquals(await printed(async () => assertEquals(await main([flag]), 0)), `${version}\n`);
  }
});

Deno.test("command line: what is unreadable is shown as such", async () => {
  const backend = memoryBackend();
  const lock: ListedLock = { identifier: "x", holders: [], waiters: [], unreadable: "it is \x1bnone" };
  assertEquals(`${table([lock])[1]}`.split(/ {2,}/), ["x", "unreadable: it is \\u001bnone", "-", "-", "0"]);
  const shown = await printed(() => Promise.resolve(print(linesOf(lock))));
  assertEquals(shown, "unreadable     it is \\u001bnone\n");
  // A lock that is free has no fault.
  assertEquals(linesOf({ ...lock, unreadable: undefined }), ["free"]);
  assertEquals(await printed(() => show(backend, "x", false)), "x\nfree\n");
});

Deno.test("command line: an unreadable lock is neither free nor held: 69, whatever is asked of it", async () => {
  const folder = await Deno.makeTempDir();
  const kv = await Deno.openKv(`${folder}/locks.sqlite`);
  await kv.set(["holdfast", "foreign"], "a foreign value");
  await kv.set(["holdfast", "broken"], new TextEncoder().encode('{"v":1,'));
  kv.close();
  const store = ["--backend", `kv:${folder}/locks.sqlite`];
  for (const name of ["foreign", "broken"]) {
    assertEquals(await main(["run", name, ...store, "--", "true"]), 69);
    assertEquals(await main(["show", name, ...store]), 69);
    assertEquals(await main(["show", name, "--json", ...store]), 69);
    assertEquals(await main(["release", name, "--force", "--yes", ...store]), 69);
  }
  // The rest of the store can be read, and was.
  assertEquals(await main(["ls", ...store]), 0);
  assertEquals(await main(["cleanup", ...store]), 0);
  await Deno.remove(folder, { recursive: true });
});

test("ls --watch, on a pipe: again whenever it has changed", async (stage) => {
  await using watcher = new Program(stage, "ls", "--watch", "--json");
  await watcher.says("[]\n");
  await using holder = await holding(stage, "--label", "me");
  await watcher.says('"label":"me"');
  assertEquals((await holder.hears().outcome()).code, 0);
  await watcher.says("}]\n[]\n");
  watcher.signal("SIGINT");
  assert([130, "SIGINT"].includes((await watcher.outcome()).code));
});

Deno.test("command line: a store that cannot be opened is reported, with 69, and without its password", async () => {
  const closed = { program: ON_DENO, store: "redis://me:secret@127.0.0.1:1" };
  const refused = await finish(closed, ["ls"]);
  assertEquals(refused, {
    code: 69,
    out: "",
    err: "holdfast: Cannot open the store: connect ECONNREFUSED 127.0.0.1:1\n",
  });
  for (
    const store of ["rediss://me:secret@", "mysql://me:secret@host", "me:secret@host", "secret", "kv:"]
  ) {
    const { code, err } = await finish({ ...closed, store }, ["ls"]);
    assertEquals([code, err.includes("secret"), err.includes("host,")], [64, false, false], err);
    const scheme = /^(\w+):/.exec(store)?.[1];
    assertStringIncludes(err, scheme === undefined ? ": it names no scheme" : `: its scheme is "${scheme}"`);
  }
});

Deno.test("command line: with --prefix it works on the locks of an app that has a prefix, and on no others", async () => {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-cli-" });
  const kv = await Deno.openKv(`${folder}/locks.db`);
  try {
    const backend = kvBackend(kv, { prefix: ["my-app", "locks"] });
    const held = await Lock.acquire("x", { backend });
    const run = (...options: string[]) =>
      main([
        "run",
        "x",
        "--no-wait",
        "--quiet",
        "--backend",
        `kv:${folder}/locks.db`,
        ...options,
        "--",
        "true",
      ]);
    assertEquals([await run(), await run("--prefix", "my-app/locks")], [0, 75]);
    assertEquals(await held!.release(), true);
    assertEquals(await run("--prefix", "my-app/locks"), 0);
    assertEquals(await run("--prefix", "x".repeat(5000)), 64);
  } finally {
    kv.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("command line: what a URL with sentinels says", () => {
  assertEquals(sentinelsIn("redis://host/main"), undefined);
  assertEquals(sentinelsIn("redis-sentinel://a:1,[::1]:2,c/my%20app"), {
    sentinels: [{ host: "a", port: 1 }, { host: "::1", port: 2 }, { host: "c", port: 26379 }],
    name: "my app",
  });
  assertEquals(sentinelsIn("rediss-sentinel://me:p%40ss@a:1/main/3"), {
    sentinels: [{ host: "a", port: 1 }],
    name: "main",
    username: "me",
    password: "p@ss",
    db: 3,
    tls: {},
    enableTLSForSentinelMode: true,
  });
});

Deno.test({
  name: `command line: the URL of one node stands for its cluster, and sentinels for what they watch${
    missing === undefined ? "" : ` (${missing})`
  }`,
  ignore: missing !== undefined,
  // Clients of sentinels and clusters let some timers run out after they were closed.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const start = async (options: RedisServerOptions) => stack.use(await RedisServer.start(options));
    const config = ["--cluster-enabled", "yes"];
    const [a, b] = [await start({ config }), await start({ config })];
    const slots = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `${from + i}`);
    await a.ask("CLUSTER", "ADDSLOTS", ...slots(0, 8192));
    await b.ask("CLUSTER", "ADDSLOTS", ...slots(8192, 16_384));
    await a.ask("CLUSTER", "MEET", "127.0.0.1", `${b.port}`);
    for (const server of [a, b]) {
      while (!(await server.ask("CLUSTER", "INFO")).includes("cluster_state:ok")) await delay(10);
    }
    const url = (port: number) => `redis://127.0.0.1:${port}`;
    const run = (store: string, name = "x") => main(["run", name, "--backend", store, "--", "true"]);
    // Each in a separate slot: some of them on the other node.
    for (const name of ["1", "2", "3", "4", "5", "6"]) assertEquals(await run(url(a.port), name), 0);

    const master = await start({});
    const file = `sentinel monitor main 127.0.0.1 ${master.port} 1\n`;
    const sentinel = await start({ file, config: ["--sentinel"] });
    assertEquals(await run(url(sentinel.port)), 69);
    assertEquals(await run(`redis-sentinel://127.0.0.1:${sentinel.port}/other`), 69);
    assertEquals(await run(`redis-sentinel://127.0.0.1:1,127.0.0.1:${sentinel.port}/main`), 0);
    assertStringIncludes(await master.ask("INFO", "commandstats"), "cmdstat_evalsha");
  },
});

Deno.test("command line: whatever a client says, the URL of the store is not in it", () => {
  const said: string[] = [];
  const { write } = process.stderr;
  // A fragment and a query are taken over by clients, and come back in their errors.
  const spec = "https://me:pass%77ord@127.0.0.1:1/path?token=abcdefgh";
  try {
    process.stderr.write = (text: string) => said.push(text) > 0;
    keepSecret(secretsIn(spec));
    for (
      const text of [spec, new URL(spec).href, "password", "pass%77ord", "token=abcdefgh", "me:pass%77ord"]
    ) {
      tell(`Cannot open ${text}: it is closed`);
    }
  } finally {
    process.stderr.write = write;
    keepSecret([]);
  }
  assertEquals(said, said.map(() => "holdfast: Cannot open …: it is closed\n"));
});

Deno.test("command line: a token goes over plain http only if --insecure says so", async () => {
  // Nothing listens there, so what is not refused is not opened either.
  const refusing = "http://127.0.0.1:1";
  await withEnvironment({ DENO_KV_ACCESS_TOKEN: "a-token-of-this-test" }, async () => {
    assertThrows(
      () => opener(refusing, { insecure: false }),
      UsageError,
      "sends DENO_KV_ACCESS_TOKEN in clear text",
    );
    assertEquals(await main(["ls", "--backend", refusing]), 64);
    for (
      const open of [opener(refusing, { insecure: true }), opener("https://127.0.0.1:1", { insecure: false })]
    ) assert(open);
  });
  await withEnvironment({ DENO_KV_ACCESS_TOKEN: undefined }, () => {
    assert(opener(refusing, { insecure: false }));
    assertThrows(() => opener("http://me:secret@127.0.0.1:1", { insecure: false }), UsageError, "--insecure");
  });
});

Deno.test("command line: without --backend, the environment names the store, and of two the command line must", async () => {
  const none = {
    HOLDFAST_BACKEND: undefined,
    HOLDFAST_PREFIX: undefined,
    REDIS_URL: undefined,
    DATABASE_URL: undefined,
  };
  const [redis, postgres] = ["redis://r", "postgres://p/d"];
  const seen: [Record<string, string>, string, string | undefined][] = [
    [{}, "", undefined],
    [{ REDIS_URL: redis }, redis, undefined],
    [{ DATABASE_URL: postgres }, postgres, undefined],
    [{ DATABASE_URL: "mysql://m/d" }, "", undefined],
    [{ DATABASE_URL: "mysql://m/d", REDIS_URL: redis }, redis, undefined],
    [{ HOLDFAST_BACKEND: "kv:x", REDIS_URL: redis, DATABASE_URL: postgres }, "kv:x", undefined],
    [{ HOLDFAST_BACKEND: "kv:x", HOLDFAST_PREFIX: "app" }, "kv:x", "app"],
  ];
  for (const [env, spec, prefix] of seen) {
    await withEnvironment({ ...none, ...env }, () => {
      assertEquals(named({ insecure: false }), { spec, prefix });
      // The prefix of the environment is that of its store.
      assertEquals(named({ backend: "kv:y", insecure: false }), { spec: "kv:y", prefix: undefined });
      assertEquals(named({ prefix: "mine", insecure: false }), { spec, prefix: "mine" });
    });
  }
  await withEnvironment({ ...none, REDIS_URL: redis, DATABASE_URL: postgres }, () => {
    assertThrows(
      () => named({ insecure: false }),
      UsageError,
      "REDIS_URL and DATABASE_URL both name a store",
    );
  });
});

Deno.test("command line: on Node, a client that is not installed is named", async () => {
  const { code, err } = await finish({ program: ["node", await onNode()], store: "kv:/nowhere" }, ["ls"]);
  assertEquals(code, 69);
  assertStringIncludes(err, "@deno/kv must be installed next to @holdfast/lock, with: npm install @deno/kv");
});

Deno.test("command line: bad usage is refused before anything is opened, by option, rule and value", async () => {
  for (
    const args of [
      ["bogus"],
      ["run", "x"],
      ["run", "x", "--"],
      ["run", "--", "true"],
      ["run", "x", "", "--", "true"],
      ["run", "x", "--bogus", "--", "true"],
      ["run", "x", "--wait-for", "--", "true"],
      ["run", "x", "--no-wait", "--wait-for", "1s", "--", "true"],
      ["run", "x", "--label", "l".repeat(129), "--", "true"],
      ["ls", "a", "b"],
      ["ls", "--", "a", "b"],
      ["show", "a", "b"],
      ["run", "x", "--", "", "--"],
      ["show"],
      ["release", "x"],
      ["cleanup", "--older-than", "1d"],
      ["ls", "--backend", "kv::memory:"],
      ["ls", "--backend", "mysql://host"],
    ]
  ) assertEquals([args, await main(args)], [args, 64]);
});

Deno.test("command line: durations", () => {
  assertEquals(["500ms", "30s", "10m", "2h", "1d", "0ms"].map((text) => duration(text, "lease")), [
    500,
    30_000,
    600_000,
    7_200_000,
    86_400_000,
    0,
  ]);
  assertEquals(duration(undefined, "lease"), undefined);
  for (const text of ["", "5", "-5s", "1.5s", "5 s", "1w", "s", "600h", "25d", "99ms", "1e3s", "5S"]) {
    const error = assertThrows(() => duration(text, "lease", 100), UsageError);
    assertStringIncludes(
      error.message,
      "--lease must be a duration such as 500ms, 30s, 10m, 2h or 1d, from 100ms",
    );
    assertStringIncludes(error.message, `current value is ${JSON.stringify(text)}`);
  }
});

Deno.test("command line: every command has its help", () => {
  for (const name of Object.keys(COMMANDS) as (keyof typeof COMMANDS)[]) {
    for (const args of [[name, "--help"], ["help", name], [name, "x", "-h"]]) {
      const line = read(args);
      assertEquals([line.name, line.help], [name, true]);
    }
    for (const option of Object.keys(COMMANDS[name].options)) {
      assertStringIncludes(helpOf(name), `--${option}`);
    }
  }
  for (const way of ["exec holdfast run", "node_modules/.bin/holdfast", "ENTRYPOINT"]) {
    assertStringIncludes(helpOf("run"), way);
  }
  for (const args of [[], ["--help"], ["-h"], ["help"]]) assertEquals(read(args).name, undefined);
  assertEquals(read(["run", "x", "--", "ls", "--help"]).help, false);
});

Deno.test("command line: -- separates what is no option", () => {
  const seen = (...args: string[]) => {
    const { operands, command } = read(args);
    return [operands, command];
  };
  assertEquals(seen("show", "--", "-x"), [["-x"], []]);
  assertEquals(seen("show", "-h", "--", "--help"), [["--help"], []]);
  assertEquals(seen("release", "--force", "--", "--"), [["--"], []]);
  assertEquals(seen("ls", "--json", "--", "-x"), [["-x"], []]);
  assertEquals(seen("run", "--label", "l", "--", "-x", "--", "ls", "--", "-l"), [["-x"], ["ls", "--", "-l"]]);
  assertEquals(seen("run", "x", "--", "ls", "--", "-l"), [["x"], ["ls", "--", "-l"]]);
  assertEquals(seen("run", "--", "ls"), [[], ["ls"]]);
});

Deno.test("command line: what others have named does not command the terminal", () => {
  const evil = "a\x1b[2Jb\x9bc\u202ed\ne\u2028\u{e0041}\u00ad";
  const shown = "a\\u001b[2Jb\\u009bc\\u202ed\\u000ae\\u2028\\udb40\\udc41\\u00ad";
  assertEquals([printable(evil), printable(shown)], [shown, shown]);
  const json = printable(JSON.stringify({ evil }));
  assert(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(json));
  assertEquals(JSON.parse(json), { evil });
});
