/** Bad input to the Datastore backend, and servers that cannot be used: a clear error each, and nothing hangs. */

import {
  commitIfHeld,
  datastoreBackend,
  type DatastoreBackendOptions,
  datastoreClient,
  type DatastoreClientOptions,
} from "@holdfast/lock/backends/datastore";
import { memoryBackend } from "@holdfast/lock/backends/memory";
import { Lock, LockBackendError } from "@holdfast/lock";
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { join } from "node:path";
import { withEnvironment } from "../support/environment.ts";
import { freePort } from "../support/free_port.ts";
import { run } from "../support/run.ts";
import type { TestServer } from "./test_server.ts";
import type { Workspace } from "./workspace.ts";
import { clientOf } from "./client_of.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

const projectId = "holdfast-input";

const method = () => Promise.reject(new Error("nothing may be sent"));
const NEVER = clientOf(method);

const BAD_CLIENTS: [client: Anything, says: string][] = [
  [undefined, "'client' must be a v1.DatastoreClient, current value lacks 'lookup': undefined"],
  [null, "current value lacks 'lookup': null"],
  [{ ...NEVER, commit: 5 }, "current value lacks 'commit': [object Object]"],
  ["127.0.0.1:8081", "current value lacks 'lookup'"],
];

const BAD_BACKENDS: [options: Anything, error: typeof TypeError | typeof RangeError, says: string][] = [
  [undefined, TypeError, "'projectId' must be a non-empty string, current value is undefined"],
  [null, TypeError, "'projectId' must be a non-empty string"],
  ["my-project", TypeError, `options must be an object, current value is "my-project"`],
  [{}, TypeError, "'projectId' must be a non-empty string, current value is undefined"],
  [{ projectId: "" }, TypeError, "'projectId' must be a non-empty string"],
  [{ projectId, databaseId: 5 }, TypeError, "'databaseId' must be a string, current value is 5"],
  [{ projectId, namespace: null }, TypeError, "'namespace' must be a string of up to 100 letters"],
  [{ projectId, namespace: "my app" }, TypeError, `current value is "my app"`],
  [{ projectId, namespace: "__x__" }, TypeError, "not of the form __…__"],
  [{ projectId, entityKind: "" }, TypeError, "'entityKind' must be a string of 1 to 1500 bytes"],
  [{ projectId, entityKind: "__Lock__" }, TypeError, "not of the form __…__"],
  [{ projectId, entityKind: "é".repeat(751) }, TypeError, "'entityKind' must be a string of 1 to 1500 bytes"],
  [{ projectId, pollMs: 24 }, RangeError, "'pollMs' must be a whole number of milliseconds from 25 to 60000"],
  [{ projectId, pollMs: "50" }, TypeError, `current value is "50"`],
  [{ projectId, timeoutMs: Infinity }, RangeError, "'timeoutMs' must be a whole number"],
  [{ projectId, poll: 5 }, TypeError, "there is no option 'poll'"],
];

const BAD_MAKERS: [options: Anything, says: string][] = [
  [undefined, "'projectId' must be a non-empty string, current value is undefined"],
  [{ projectId: 5 }, "'projectId' must be a non-empty string, current value is 5"],
  [{ projectId, emulatorHost: "localhost" }, "'emulatorHost' must be host:port such as 127.0.0.1:8081"],
  [{ projectId, emulatorHost: "https://localhost:1" }, "'emulatorHost' must be host:port"],
  [{ projectId, emulatorHost: 8081 }, "'emulatorHost' must be host:port"],
  [{ projectId, emulatorHost: "localhost:0" }, "'emulatorHost' must be host:port"],
  [{ projectId, transport: "http3" }, `'transport' must be "grpc" or "rest", current value is "http3"`],
  [{ projectId, apiEndpoint: "x" }, "there is no option 'apiEndpoint'"],
];

/** Registers the tests. */
export function inputTests(server: TestServer, workspace: Workspace): void {
  Deno.test("Datastore input: what is not a client is refused", async () => {
    for (const [client, says] of BAD_CLIENTS) {
      assertThrows(() => datastoreBackend(client, { projectId }), TypeError, says);
    }
    // Its types bring Node's own along, which disagree with Deno's.
    const { Datastore } = await import(["@google-cloud", "datastore"].join("/"));
    const high = new Datastore({ projectId, apiEndpoint: "127.0.0.1:1" });
    const shown = "await datastoreClient({ projectId })";
    assertThrows(() => datastoreBackend(high, { projectId }), TypeError, shown);
  });

  Deno.test("Datastore input: a client that answers something else is found out, at once", async () => {
    const answers: [method: string, answer: unknown, says: string][] = [
      ["lookup", undefined, "a call with undefined"],
      ["lookup", [], "a call with undefined"],
      ["lookup", "x", 'a call with "x"'],
      ["lookup", [{ found: {} }], "a lookup with [object Object]"],
      ["lookup", [{ found: [5] }], "a lookup with 5"],
      ["lookup", [{ found: [{ version: 5 }] }], "a lookup with undefined"],
      ["lookup", [{ found: [{ entity: {} }] }], "an entity without a version"],
      ["lookup", [{ found: [], readTime: 5 }], "a time with 5"],
      ["lookup", [{ found: [], readTime: { seconds: {} } }], "a time with [object Object]"],
      ["commit", [{}], "a commit without a version"],
      ["commit", [{ mutationResults: [null] }], "a commit with null"],
      ["runQuery", [{ batch: 5 }], "a query with 5"],
      ["beginTransaction", [{}], "a transaction without a name"],
    ];
    for (const [method, answer, says] of answers) {
      const client = { ...NEVER, [method]: () => Promise.resolve(answer) } as Anything;
      const backend = datastoreBackend(client, { projectId });
      const asking: Record<string, () => Promise<unknown>> = {
        lookup: () => backend.read(["x"]),
        commit: () => backend.commit([{ key: "x", version: null, value: "{}" }]),
        runQuery: () => Array.fromAsync(backend.list("")),
        beginTransaction: () => backend.read(["x", "y"]),
      };
      const error = await assertRejects(asking[method], LockBackendError, says);
      assertEquals(error.transient, false, says);
    }
  });

  Deno.test("Datastore input: bad options are refused, and sent nowhere", async () => {
    for (const [options, error, says] of BAD_BACKENDS) {
      assertThrows(() => datastoreBackend(NEVER, options as DatastoreBackendOptions), error, says);
    }
    for (const [options, says] of BAD_MAKERS) {
      await assertRejects(() => datastoreClient(options as DatastoreClientOptions), TypeError, says);
    }
    const foreign = (await Lock.acquire("x", { backend: memoryBackend() }))!;
    await assertRejects(() => commitIfHeld(foreign, () => {}), TypeError, "on a Datastore backend");
    await foreign.release();
  });

  // Until the lease is over, it is tried in the background to take back what may have been claimed.
  const test = (name: string, fn: () => Promise<void>) =>
    Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });
  const leaseMs = 300;

  test("Datastore input: a host that is out or silent is named within waitForMs, or a second", async () => {
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    for (const port of [await freePort(), silent.addr.port]) {
      const emulatorHost = `127.0.0.1:${port}`;
      const client = await datastoreClient({ projectId, emulatorHost });
      for (const options of [{ wait: false }, { waitForMs: 200 }]) {
        const backend = datastoreBackend(client, { projectId });
        const acquire = () => Lock.acquire("x", { backend, leaseMs, ...options });
        const error = await assertRejects(acquire, LockBackendError);
        assert(error.message.includes(emulatorHost), error.message);
      }
      await client.close();
    }
  });

  test("Datastore input: over gRPC, the helper's client asks a silent connection for a sign of life", async () => {
    const client = await datastoreClient({ projectId, emulatorHost: server.host, transport: "grpc" });
    const { _opts } = client as unknown as { _opts: Record<string, unknown> };
    assertEquals([_opts["grpc.keepalive_time_ms"], _opts["grpc.keepalive_timeout_ms"]], [10_000, 5000]);
    await client.close();
  });

  test("Datastore input: in a bundle of CommonJS the installed client is found, and the program does not start", async () => {
    const { href: root } = new URL("../../", import.meta.url);
    const entry = join(workspace.path, "bundled.ts");
    await Deno.writeTextFile(
      entry,
      `import { datastoreClient } from "${root}backends/datastore.ts";
       import { main } from "${root}cli.ts";
       (async () => {
         for (const transport of ["grpc", "rest"] as const) {
           const client = await datastoreClient({ projectId: "p", emulatorHost: "127.0.0.1:1", transport });
           await client.close();
           console.log(transport);
         }
         console.log(await main(["show", "--backend", "redis://127.0.0.1:1"]));
       })();`,
    );
    const args = [
      "bundle",
      "--quiet",
      "--no-lock",
      "--format",
      "cjs",
      "--platform",
      "deno",
      "-o",
      "bundled.cjs",
    ];
    await run(workspace.path, Deno.execPath(), ...args, "bundled.ts");
    assertEquals(await run(workspace.path, "node", "bundled.cjs"), "grpc\nrest\n64\n");
  });

  test("Datastore input: DATASTORE_EMULATOR_HOST says where the emulator is", async () => {
    await withEnvironment({ DATASTORE_EMULATOR_HOST: server.host }, async () => {
      const client = await datastoreClient({ projectId });
      const held = await Lock.acquire("by variable", { backend: datastoreBackend(client, { projectId }) });
      assertEquals(await held?.release(), true);
      await client.close();
    });
    await withEnvironment({ DATASTORE_EMULATOR_HOST: "localhost" }, async () => {
      const why = "'DATASTORE_EMULATOR_HOST' must be host:port";
      await assertRejects(() => datastoreClient({ projectId }), TypeError, why);
    });
  });

  test("Datastore input: what the server refuses for good is reported at once", async () => {
    const client = await datastoreClient({ projectId, emulatorHost: server.host });
    const backend = datastoreBackend(client, { projectId });
    await server.plan({ kind: "denied" });
    const denied = await assertRejects(() => Lock.acquire("denied", { backend }));
    assertInstanceOf(denied, LockBackendError);
    assert(denied.message.includes("Missing or insufficient permissions"), denied.message);
    assert(denied.message.includes("the role Cloud Datastore User"), denied.message);
    assertEquals(denied.identifier, "denied");

    await server.plan({ kind: "no index", method: "runQuery" });
    const list = async () => {
      for await (const _ of backend.list(""));
    };
    const missing = await assertRejects(list, LockBackendError, "no matching index found");
    assertEquals(missing.transient, false);
    await client.close();
  });

  test("Datastore input: a process whose server is out or silent fails and exits, under Node and Deno", async () => {
    const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const hosts = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${silent.addr.port}`];
    const cases = hosts.flatMap((host) => (["node", "deno"] as const).map((runtime) => ({ host, runtime })));
    for (const { host, runtime } of cases) {
      const child = workspace.start("unreachable.mjs", [host], { runtime });
      const { error, message } = await child.next("refused");
      assertEquals(error, "LockBackendError");
      assert(message.includes(host), message);
      // Nothing but the end of the process ends its output.
      await assertRejects(() => child.next("never"), Error, "the child ended");
      await child[Symbol.asyncDispose]();
    }
    silent.close();
  });
}
