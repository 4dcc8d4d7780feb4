/** Makes a client of `@google-cloud/datastore` that suits this runtime. Nothing else here loads that package. */

import { AsyncLocalStorage } from "node:async_hooks";
import process from "node:process";
import { LockBackendError, messageOf } from "../../core/errors.ts";
import { ownOptions, refuse } from "../../core/validate.ts";
import { causeOf, reasonOf, safeMessageOf } from "../causes.ts";
import { isMissing, load } from "../loading.ts";
import type { DatastoreApi } from "./api.ts";
import { assertDatabase } from "./input.ts";

/** Options of {@linkcode datastoreClient}. */
export interface DatastoreClientOptions {
  /** The project. Required. */
  projectId: string;
  /**
   * The database. The backend's calls contain it; here it is only checked.
   *
   * @default {""}
   */
  databaseId?: string | undefined;
  /**
   * `host:port` of an emulator, reached without encryption and without credentials.
   *
   * @default {undefined} the environment variable `DATASTORE_EMULATOR_HOST`; without it, the service itself
   */
  emulatorHost?: string | undefined;
  /**
   * The transport.
   *
   * @default {"rest"} on Deno, where a server that closes a gRPC connection aborts the process
   * (denoland/deno#36788); `"grpc"` elsewhere
   */
  transport?: "grpc" | "rest" | undefined;
}

/**
 * A connection that has silently died gets keep-alive pings while calls are in progress, and is replaced if they
 * are not answered. Without them, everything is sent into it for a quarter of an hour. Servers accept pings that
 * are so rare, with calls.
 */
const KEEP_ALIVE = { "grpc.keepalive_time_ms": 10_000, "grpc.keepalive_timeout_ms": 5000 };

/** What gives the request up of the call that is being made, over REST. */
const givesUp = new AsyncLocalStorage<AbortSignal>();

/**
 * Makes a call whose request is given up when the signal aborts: the client offers no way to it, and a request that is
 * never answered would keep a Deno process alive for as long as its connection is open.
 */
export function givenUpBy<Answer>(signal: AbortSignal, call: () => Answer): Answer {
  return givesUp.run(signal, call);
}

/** What is known of the clients that `datastoreClient` made. */
const made = new WeakMap<object, { readonly host: string; readonly rest: boolean }>();

/** Where the server of a client is, and how it is spoken to, if the client was made here. */
export function madeOf(api: object): { readonly host: string; readonly rest: boolean } | undefined {
  return made.get(api);
}

/**
 * Makes a client for {@linkcode datastoreBackend} that suits this runtime: gRPC on Node and Bun, REST on Deno.
 * This function, and nothing else here, loads `@google-cloud/datastore`, which must be installed.
 *
 * @param options The project, and how to reach it.
 * @returns The client. Close it at the end.
 * @throws {TypeError} For bad options.
 * @throws {LockBackendError} If the package, or the credentials of the service, cannot be loaded.
 *
 * @example
 * ```ts
 * import { datastoreClient } from "@holdfast/lock/backends/datastore";
 *
 * async function againstAnEmulator() {
 *   const client = await datastoreClient({ projectId: "demo", emulatorHost: "127.0.0.1:8081" });
 *   await client.close();
 * }
 * ```
 */
export async function datastoreClient(options: DatastoreClientOptions): Promise<
  DatastoreApi & {
    /** Closes the connections. */
    close(): Promise<void>;
  }
> {
  const doing = "make a Datastore client";
  const own = ownOptions(options ?? {}, ["projectId", "databaseId", "emulatorHost", "transport"], doing);
  const { projectId } = assertDatabase(own, doing);
  const { transport = onDeno() ? "rest" : "grpc" } = own;
  if (transport !== "grpc" && transport !== "rest") {
    refuse(`Cannot ${doing}: 'transport' must be "grpc" or "rest"`, transport);
  }
  const emulator = emulatorAddress(own.emulatorHost, doing);
  const rest = transport === "rest";
  const DatastoreClient = await loadClient();
  const host = emulator === undefined
    ? "datastore.googleapis.com"
    : `the emulator ${emulator.hostname}:${emulator.port}`;
  const shared = { projectId, fallback: rest, ...rest ? {} : KEEP_ALIVE };
  const make = (more: object) => new DatastoreClient({ ...shared, ...more });
  let client: Client;
  if (emulator === undefined) {
    const plain = make({});
    // Asked for now: the client's own look at the first call fails outside of any promise that we could await.
    const credentials = await plain.auth.getClient().catch((cause: unknown) => {
      throw new LockBackendError(`Cannot ${doing}: there are no credentials: ${safeMessageOf(cause)}`, {
        cause: causeOf(cause),
      });
    });
    client = rest ? make({ authClient: authOf(credentials) }) : plain;
  } else {
    const options = {
      servicePath: emulator.hostname,
      port: emulator.port,
      protocol: "http",
      // Otherwise the client would look for credentials on the network.
      authClient: authOf(),
    };
    const plain = make(options);
    // The package shows its gRPC nowhere else: to ask for it by name would need a path, which a bundle has not.
    client = rest ? plain : make({ ...options, sslCreds: plain._gaxGrpc.grpc.credentials.createInsecure() });
  }
  made.set(client, { host, rest });
  return client;
}

/** What the client uses of its credentials. */
interface Credentials {
  readonly universeDomain?: string;
  getRequestHeaders(url?: string): Promise<Headers | Record<string, string>>;
}

/** How a REST client gets its headers, and sends. */
function authOf(credentials?: Credentials): object {
  const getRequestHeaders = async (url?: string) => new Headers(await credentials?.getRequestHeaders(url));
  return {
    universeDomain: credentials?.universeDomain ?? "googleapis.com",
    getRequestHeaders,
    async fetch(url: string, { method, headers, body, signal: given }: RequestInit) {
      const signal = givesUp.getStore() ?? given;
      const all = new Headers(headers);
      for (const [name, value] of await getRequestHeaders(url)) all.set(name, value);
      // As a stream: what it can send again, Deno's own fetch does send again when a connection breaks after
      // the request has been received, and the answer to the second one shows the lock as another process's.
      const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body as Uint8Array;
      const stream = new ReadableStream({
        start(controller) {
          controller.enqueue(bytes);
          controller.close();
        },
      });
      const init = { method, headers: all, body: stream, signal, duplex: "half" };
      try {
        return await fetch(url, init);
      } catch (cause) {
        // The reason is in the cause of the cause, and the client passes on only what is on top.
        throw signal?.aborted ? cause : new Error(reasonOf(cause), { cause });
      }
    },
  };
}

type Client = DatastoreApi & { close(): Promise<void> };
type ClientClass = new (options: object) => Client & {
  readonly auth: { getClient(): Promise<Credentials> };
  /** Not in the types of the package; over REST there is no `grpc` in it. */
  readonly _gaxGrpc: { readonly grpc: { readonly credentials: { createInsecure(): unknown } } };
};
type ClientModule = { readonly v1: { readonly DatastoreClient: ClientClass } };

async function loadClient(): Promise<ClientClass> {
  // A name that no tool sees through: this package does not depend on that one.
  const name = ["@google-cloud", "datastore"].join("/");
  try {
    const module = await load(name).catch((error) => {
      if (onDeno()) return load(`npm:${name}@^11`);
      throw error;
    }) as Partial<ClientModule> & { readonly default?: ClientModule };
    return (module.v1 ?? module.default!.v1).DatastoreClient;
  } catch (cause) {
    const what = isMissing(cause, name) || onDeno()
      ? `cannot be loaded, install it (npm install ${name})`
      : "is installed, but cannot be loaded";
    throw new LockBackendError(`Cannot make a Datastore client: ${name} ${what}: ${messageOf(cause)}`, {
      cause: causeOf(cause),
    });
  }
}

/** Where the emulator is, if there is to be one. */
function emulatorAddress(option: unknown, doing: string): { hostname: string; port: number } | undefined {
  const variable = "DATASTORE_EMULATOR_HOST";
  const value = option ?? process.env[variable];
  if (value === undefined || value === "") return undefined;
  const name = option === undefined ? variable : "emulatorHost";
  const text = typeof value === "string" ? value.replace(/^http:\/\//, "") : "";
  const url = /^[^/@?#\s]+:\d+\/?$/.test(text) && URL.canParse(`http://${text}`)
    ? new URL(`http://${text}`)
    : undefined;
  // A URL leaves the default port out.
  const port = Number(/:(\d+)\/?$/.exec(text)?.[1]);
  if (url === undefined || port === 0) {
    refuse(`Cannot ${doing}: '${name}' must be host:port such as 127.0.0.1:8081`, value);
  }
  return { hostname: url.hostname, port };
}

function onDeno(): boolean {
  return "Deno" in globalThis;
}
