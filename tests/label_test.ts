// What a holder is called that does not say so itself.
import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { memoryBackend } from "../backends/memory.ts";
import { encodeLock } from "../core/record/codec.ts";
import { holdOf } from "../core/lock.ts";
import { lock, peek } from "../mod.ts";
import { processLabel, type Runtime } from "../process_label.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A Deno with these permissions, which counts what it was asked for without them. */
function denoWith(granted: readonly string[], env: Record<string, string> = {}) {
  let prompts = 0;
  const guarded = <Value>(permission: string, value: Value): Value => {
    if (!granted.includes(permission)) prompts++;
    return value;
  };
  const Deno: Runtime["Deno"] = {
    pid: 7,
    hostname: () => guarded("hostname", "web-1"),
    env: { get: (name) => guarded(name, env[name]) },
    permissions: {
      querySync(query) {
        const asked = query.name === "sys" ? query.kind : query.variable;
        return { state: granted.includes(asked) ? "granted" : "prompt" };
      },
    },
  };
  return { Deno, prompts: () => prompts };
}

const node = (pid: number, modules: Record<string, object>): Runtime => ({
  process: { pid, getBuiltinModule: (name) => modules[name] },
});

const ON_DEPLOY = { DENO_DEPLOYMENT_ID: "abc123", DENO_REGION: "gcp-europe-west3" };

const LABELS: readonly [string, Runtime, string | undefined][] = [
  ["Deno with --allow-sys", denoWith(["hostname"]), "web-1:7"],
  ["Deno without", denoWith([]), "process 7"],
  [
    "a worker of Deno",
    { ...denoWith(["hostname"]), WorkerGlobalScope: {}, name: "images" },
    "web-1:7 worker images",
  ],
  ["one without a name", { ...denoWith([]), WorkerGlobalScope: {}, name: "" }, "process 7 worker"],
  [
    "Deno Deploy",
    denoWith(["hostname", ...Object.keys(ON_DEPLOY)], ON_DEPLOY),
    "Deno Deploy gcp-europe-west3 abc123",
  ],
  [
    "Deno Deploy, without a region",
    denoWith(["DENO_DEPLOYMENT_ID"], ON_DEPLOY),
    "Deno Deploy abc123",
  ],
  ["a Deno that may read the environment elsewhere", denoWith(Object.keys(ON_DEPLOY)), "process 7"],
  [
    "Node",
    node(8, { "node:os": { hostname: () => "web-2" }, "node:worker_threads": { threadId: 0 } }),
    "web-2:8",
  ],
  [
    "a worker thread of Node, or one of Bun",
    node(8, { "node:os": { hostname: () => "web-2" }, "node:worker_threads": { threadId: 3 } }),
    "web-2:8 worker 3",
  ],
  ["a Node before 20.16", { process: { pid: 8 } }, "process 8"],
  [
    "a runtime that refuses",
    node(8, {
      "node:os": {
        hostname: () => {
          throw new Error("no");
        },
      },
    }),
    "process 8",
  ],
  ["a browser", {}, undefined],
  [
    "a host with a name that is too long",
    node(8, { "node:os": { hostname: () => `${"x".repeat(300)}-1` } }),
    `${"x".repeat(124)}-1:8`,
  ],
];

for (const [name, runtime, expected] of LABELS) {
  Deno.test(`label: ${name}`, () => {
    assertEquals(processLabel(runtime), expected);
    const { prompts } = runtime as Partial<ReturnType<typeof denoWith>>;
    assertEquals(prompts?.() ?? 0, 0);
  });
}

Deno.test("label: a holder and a waiter have that of the process, unless they say another or none", async () => {
  const backend = memoryBackend();
  const labelled = async (label?: string | null) => {
    const held = await lock("x", { backend, label }).acquire();
    const { holders } = await peek("x", { backend });
    await held.release();
    return holders[0].label;
  };
  assertEquals(await labelled(), processLabel());
  assertEquals(await labelled("worker 3"), "worker 3");
  assertEquals(await labelled(null), undefined);
  assert(processLabel()!.endsWith(`:${Deno.pid}`));
});

Deno.test("label: a grant with one is encoded as JSON does", async () => {
  for (const label of ["web-1:7", '"quoted"\n', "web-1:7", undefined, "é"]) {
    const held = await lock("x", { backend: memoryBackend(), label: label ?? null }).acquire();
    const { token, identifier: _, options: { leaseMs } } = holdOf(held);
    const holder = {
      token,
      mode: "exclusive" as const,
      limit: 1,
      since: 5,
      leaseMs,
      expiresAt: 6,
      renewals: 0,
      label,
    };
    assertEquals(encodeLock({ v: 1, holders: [holder] }), JSON.stringify({ v: 1, holders: [holder] }));
    await held.release();
  }
});

Deno.test("label: a program without any permission neither asks for one nor fails", async () => {
  const program = `
    const asked = [];
    for (const [of, name] of [[Deno, "hostname"], [Deno.env, "get"], [Deno.permissions, "request"]]) {
      const call = of[name];
      of[name] = (...given) => {
        // What Deno asks itself for its modules of Node.
        if (given[0] !== "NODE_OPTIONS") asked.push(name);
        return call.apply(of, given);
      };
    }
    const { lock, peek } = await import(${JSON.stringify(new URL("../mod.ts", import.meta.url).href)});
    const { memoryBackend } = await import(${
    JSON.stringify(new URL("../backends/memory.ts", import.meta.url).href)
  });
    const backend = memoryBackend();
    await lock("x", { backend }).acquire();
    const { holders } = await peek("x", { backend });
    console.log(JSON.stringify([holders[0].label, Deno.pid, asked]));`;
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", "--config", `${root}deno.json`, program],
    env: { NO_COLOR: "1" },
  }).output();
  assert(success);
  // \`deno eval\` has all permissions: what it may ask for it asks once.
  const [label, pid, asked] = JSON.parse(new TextDecoder().decode(stdout));
  assertEquals([label.endsWith(`:${pid}`), asked.filter((name: string) => name === "hostname").length], [
    true,
    1,
  ]);

  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, program);
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-check", "--config", `${root}deno.json`, file],
      env: { NO_COLOR: "1" },
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    const [label, pid, asked] = JSON.parse(new TextDecoder().decode(stdout));
    assertEquals([label, asked], [`process ${pid}`, []]);
  } finally {
    await Deno.remove(file);
  }
});
