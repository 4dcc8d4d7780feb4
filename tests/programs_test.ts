// Whole programs in processes of their own: what happens without configuration, and what keeps them alive.
import { assertEquals, assertStringIncludes } from "@std/assert";

/** How long a program may run that is to end by itself. */
const LIMIT_MS = 20_000;

const BACKENDS = {
  memory: `import { memoryBackend } from "$backends/memory.ts"; const backend = memoryBackend();`,
  kv:
    `import { kvBackend } from "$backends/kv.ts"; const backend = kvBackend(await Deno.openKv(":memory:"));`,
};

/** Runs a program and answers what it has printed; says so if it did not end. */
async function program(flags: string[], text: string, env: Record<string, string> = {}): Promise<string> {
  const directory = await Deno.makeTempDir();
  const file = `${directory}/program.ts`;
  const url = (path: string) => new URL(path, import.meta.url).href;
  await Deno.writeTextFile(
    file,
    text.replaceAll("$mod", url("../mod.ts")).replaceAll("$backends", url("../backends")),
  );
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-config", "--no-check", "--quiet", "--allow-all", ...flags, file],
    cwd: directory,
    env: { DENO_DIR: `${directory}/deno`, NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let late = "";
  const limit = setTimeout(() => {
    late = "(did not end)\n";
    child.kill("SIGKILL");
  }, LIMIT_MS);
  try {
    const { stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return decoder.decode(stdout) + decoder.decode(stderr) + late;
  } finally {
    clearTimeout(limit);
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("program: without configuration, the app's own database is opened on first use", async () => {
  const output = await program(
    ["--unstable-kv"],
    `import { lock } from "$mod";
     const fences = await Promise.all([1, 2].map(() => lock("x").run((held) => held.fencingToken)));
     console.log(fences.length, fences[0] < fences[1]);`,
  );
  assertEquals(output, "2 true\n");
});

Deno.test("program: where Deno KV is not enabled, the first use says what to do", async () => {
  const output = await program(
    [],
    `import { lock } from "$mod";
     await lock("x").run(() => {}).catch((error) => console.log(error.name, error.message));`,
  );
  assertStringIncludes(output, "TypeError Cannot lock: Deno KV is not enabled. Run deno with --unstable-kv");
  assertStringIncludes(output, `"unstable": ["kv"]`);
});

Deno.test("program: outside Deno, the first use says what to do", async () => {
  const output = await program(
    [],
    `import { lock } from "$mod";
     delete globalThis.Deno;
     await lock("x").run(() => {}).catch((error) => console.log(error.name, error.message));`,
  );
  assertStringIncludes(output, "TypeError Cannot lock: outside Deno there is no default backend");
  assertStringIncludes(output, "configure({ strong: kvBackend(await openKv(pathOrUrl)) })");
});

Deno.test("program: a default database that cannot be opened is the failure of a lock by name", async () => {
  const output = await program(
    ["--unstable-kv"],
    `import { lock } from "$mod";
     await lock("x").run(() => {}).catch(({ name, identifier }) => console.log(name, identifier));`,
    { DENO_KV_DEFAULT_PATH: "/nonexistent/folder/kv.sqlite" },
  );
  assertEquals(output, "LockBackendError x\n");
});

Deno.test("program: a list that nobody reads fails nobody", async () => {
  const output = await program(
    ["--unstable-kv"],
    `import { locks } from "$mod";
     locks();
     await new Promise((resolve) => setTimeout(resolve, 500));
     console.log("done");`,
    { DENO_KV_DEFAULT_PATH: "/nonexistent/folder/kv.sqlite" },
  );
  assertEquals(output, "done\n");
});

for (const [name, backend] of Object.entries(BACKENDS)) {
  Deno.test(`program: one that waits stays alive, on ${name}`, async () => {
    const output = await program(
      ["--unstable-kv"],
      `import { lock } from "$mod"; ${backend}
       async function main() {
         await lock("x", { backend, leaseMs: 300, renew: false }).acquire();
         await lock("x", { backend }).run(() => console.log("mine"));
       }
       main();`,
    );
    assertEquals(output, "mine\n");
  });

  Deno.test(`program: one that forgot to release ends, on ${name}`, async () => {
    // Longer than it takes until a hold begins to watch its record.
    const output = await program(
      ["--unstable-kv"],
      `import { lock } from "$mod"; ${backend}
       await lock("x", { backend }).acquire();
       await new Promise((resolve) => setTimeout(resolve, 1300));
       console.log("done");`,
    );
    assertEquals(output, "done\n");
  });

  Deno.test(`program: a waiter that gave up keeps nothing alive, on ${name}`, async () => {
    const output = await program(
      ["--unstable-kv"],
      `import { Lock } from "$mod"; ${backend}
       await Lock.acquire("x", { backend });
       console.log(await Lock.acquire("x", { backend, waitForMs: 50, stealAfterMs: 600_000 }));
       const options = { backend, stealAfterMs: 600_000, signal: AbortSignal.timeout(50) };
       await Lock.acquire("x", options).catch(({ name }) => console.log(name));`,
    );
    assertEquals(output, "null\nTimeoutError\n");
  });
}
