// Whole programs in processes of their own: what happens without configuration, and what keeps them alive.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";

/** How long a program may run that is to end by itself. */
const LIMIT_MS = 20_000;

const BACKENDS = {
  memory: `import { memoryBackend } from "$backends/memory.ts"; const backend = memoryBackend();`,
  kv:
    `import { kvBackend } from "$backends/kv.ts"; const backend = kvBackend(await Deno.openKv(":memory:"));`,
};

/** Runs a program and answers what it has printed; says so if it did not end. */
async function program(
  flags: string[],
  text: string,
  env: Record<string, string> = {},
  files: Record<string, string> = {},
): Promise<string> {
  const directory = await Deno.makeTempDir();
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(`${directory}/${name}`, content);
  }
  const file = `${directory}/program.ts`;
  const url = (path: string) => new URL(path, import.meta.url).href;
  await Deno.writeTextFile(
    file,
    text.replaceAll("$mod", url("../mod.ts")).replaceAll("$backends", url("../backends")),
  );
  const permissions = flags.some((flag) => flag.startsWith("--allow")) ? [] : ["--allow-all"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-config", "--no-check", "--no-prompt", "--quiet", ...permissions, ...flags, file],
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
    ["--unstable-kv", "--location=https://app.example"],
    `import { lock } from "$mod";
     const fences = await Promise.all([1, 2].map(() => lock("x").run((held) => held.fencingToken)));
     console.log(fences.length, fences[0] < fences[1]);`,
  );
  assertEquals(output, "2 true\n");
});

Deno.test("program: a default database that no other program shares: a warning, once, where that can be known", async () => {
  const warned = async (flags: string[], files: Record<string, string> = {}) => {
    const output = await program(
      ["--unstable-kv", ...flags],
      `import { lock } from "$mod";
       import { openDefaultKvBackend } from "$backends/kv.ts";
       await lock("x").run(() => console.log("ran"));
       await (await openDefaultKvBackend()).close();`,
      {},
      files,
    );
    assert(output.startsWith("ran\n"), output);
    return output.split("the default Deno KV database belongs to this program alone").length - 1;
  };
  assertEquals(await warned([]), 1);
  // The library cannot know that the program runs without it.
  assertEquals(await warned([], { "deno.jsonc": "{}" }), 0);
  assertEquals(await warned(["--location=https://app.example"]), 0);
  assertEquals(await warned(["--allow-env", "--allow-read=/nowhere"]), 0);
});

Deno.test("program: the clocks of a default database's processes are one, if that is surely a file of this machine", async () => {
  const skewMs = async (allowed: string, env: Record<string, string> = {}) =>
    Number(
      await program(
        ["--unstable-kv", allowed],
        `import { openDefaultKvBackend } from "$backends/kv.ts";
         // There is none at these paths: only what is made of it is looked at.
         const kv = { get() {}, getMany() {}, list() {}, atomic() {}, watch() {} };
         Object.defineProperty(Deno, "openKv", { value: () => Promise.resolve(kv) });
         console.log((await openDefaultKvBackend()).skewMs);
         Deno.exit();`,
        env,
      ),
    );
  const here = Deno.build.os === "windows" ? 50 : 0;
  assertEquals(await skewMs("--allow-all"), here);
  assertEquals(await skewMs("--allow-env", { DENO_KV_DEFAULT_PATH: "/data/app.sqlite" }), here);
  assertEquals(await skewMs("--allow-env", { DENO_KV_DEFAULT_PATH: "https://kv.example.com" }), 1000);
  const split = { DENO_KV_PATH_PREFIX: "https://", DENO_KV_DEFAULT_PATH: "kv.example.com" };
  assertEquals(await skewMs("--allow-env", split), 1000);
  for (const name of ["DENO_DEPLOYMENT_ID", "DENO_DEPLOY"]) {
    assertEquals(await skewMs("--allow-env", { [name]: "1" }), 1000);
  }
  // Nobody is asked for a permission: what is not known counts as a server.
  for (const allowed of ["--allow-env=DENO_KV_DEFAULT_PATH", "--allow-read=/nowhere"]) {
    assertEquals(await skewMs(allowed), 1000);
  }
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
  for (
    const call of ["redisBackend(client)", "postgresBackend(pool)", "kvBackend(await openKv(pathOrUrl))"]
  ) {
    assertStringIncludes(output, call);
  }
});

Deno.test("program: a weak backend alone is not taken for a strong one, and the error says so", async () => {
  const output = await program(
    [],
    `import { configure, lock } from "$mod";
     import { memoryBackend } from "$mod/../backends/memory.ts";
     delete globalThis.Deno;
     configure({ weak: memoryBackend() });
     await lock("x", { kind: "weak" }).run(() => console.log("weak"));
     await lock("x").run(() => {}).catch((error) => console.log(error.name, error.message));`,
  );
  assertStringIncludes(output, "weak\nTypeError Cannot lock: outside Deno");
  assertStringIncludes(output, 'A weak backend is configured: it serves { kind: "weak" } only');
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

Deno.test("program: a list that is not read fails no program", async () => {
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

Deno.test("program: a lock that cannot be reached any more is not renewed; one that is kept, or that a form gives back, is", async () => {
  const output = await program(
    ["--v8-flags=--expose-gc"],
    `import { subscribe } from "node:diagnostics_channel";
     import { Lock, lock } from "$mod"; ${BACKENDS.memory}
     const options = { backend, leaseMs: 1500 };
     const forgotten = [];
     subscribe("holdfast:forgotten", ({ identifier }) => forgotten.push(identifier));
     const kept = await Lock.acquire("kept", options);
     await (async () => void await Lock.acquire("dropped", options))();
     const work = Promise.withResolvers();
     const running = lock("run", options).run(() => work.promise);
     const collecting = setInterval(gc, 20);
     const next = await Lock.acquire("dropped", { backend, waitForMs: 15_000 });
     // One that is not renewed would be over by now: it was acquired before the one that is.
     const isTaken = await Lock.acquire("run", { backend, wait: false }) === null;
     console.log(forgotten.join(), next !== null, kept.held, isTaken);
     clearInterval(collecting);
     work.resolve("ran");
     console.log(await running, await kept.release());`,
  );
  assertEquals(output, "dropped true true true\nran true\n");
});
