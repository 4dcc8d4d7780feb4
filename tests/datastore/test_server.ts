import type { Child } from "../support/child.ts";
import type { Server } from "../support/datastore_emulators.ts";
import type { Workspace } from "./workspace.ts";

/** What happens to a call; see `server.mjs`. */
export interface Fault {
  readonly kind?:
    | "unavailable before"
    | "unavailable after"
    | "lost"
    | "delay"
    | "aborted"
    | "goaway"
    | "reset"
    | "denied"
    | "no index";
  readonly ms?: number;
  readonly method?: string;
  /** Only for a call that has this in its request. */
  readonly id?: string;
}

/** A call as the server has logged it. */
export interface Call {
  readonly method: string;
  readonly mutations?: readonly string[];
  /** The names of the entities that it reads or writes. */
  readonly names: readonly string[];
  readonly kind?: string;
  readonly code: number;
}

/** Where a server is to be reached by what the backend speaks on this runtime. */
export function hostFor(server: Server, runtime: "node" | "deno"): string {
  return server instanceof TestServer && runtime === "node" ? server.grpcHost : server.host;
}

/** The small server of this folder, running under Node. */
export class TestServer implements Server {
  readonly name = "test server";
  readonly tellsTime = true;
  /** Where it speaks REST, for Deno. */
  readonly host: string;
  /** Where it speaks gRPC, for Node. */
  readonly grpcHost: string;
  readonly #child: Child;

  private constructor(child: Child, rest: string, grpc: string) {
    this.#child = child;
    this.host = rest;
    this.grpcHost = grpc;
  }

  static async start(workspace: Workspace): Promise<TestServer> {
    const child = workspace.start("server.mjs");
    const { rest, grpc } = await child.next("started");
    return new TestServer(child, rest, grpc);
  }

  /** Says what happens to the next calls. */
  async plan(...faults: Fault[]): Promise<void> {
    await this.#child.ask({ do: "plan", faults }, "done");
  }

  /** Says what happens to further calls. */
  async also(...faults: Fault[]): Promise<void> {
    await this.#child.ask({ do: "plan more", faults }, "done");
  }

  /** None of the faults that were planned for `id` any more. */
  async spare(id: string): Promise<void> {
    await this.#child.ask({ do: "plan no more", id }, "done");
  }

  /** Faults by chance from now on, by their shares; none for `{}`. */
  async weather(rates: Record<string, number>, seed = 1): Promise<void> {
    await this.#child.ask({ do: "weather", rates, seed }, "done");
  }

  /** The calls since the last time. */
  async calls(): Promise<Call[]> {
    return (await this.#child.ask({ do: "log" }, "log")).calls;
  }

  async stop(): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
