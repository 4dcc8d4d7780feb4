/** The conformance suite on Postgres, with every client that the backend takes, for any test runner. */

import { env } from "node:process";
import { testBackend } from "@holdfast/lock/testing";
import { CLIENTS, type Connect, connectLite } from "./clients.ts";

/** Whether every client plays all of the suite, under Deno and Node; by default most of them play a slice. */
export const PLAYS_ALL = env.HOLDFAST_POSTGRES === "all";
/** What shows whether a client is spoken to alike that has played all of it elsewhere. */
export const SLICE = /: (store|steal|wait): .*(watch|version|commit|robbed|line|handed|crash|turn)/;

/** The clients close their sockets after they have said that they are closed, and PGlite keeps what it has started. */
export const LENIENT = { sanitizeOps: false, sanitizeResources: false };

type Register = Parameters<typeof testBackend>[0]["test"];

/** How the suite is registered. */
export interface CasesOptions {
  readonly port: number;
  readonly test: Register;
  readonly skip: Register;
  readonly stretch?: number;
  /** What cannot be done on this way to the server. */
  readonly deviations?: Record<string, string>;
}

/** Registers the suite for the client of this name. */
export function testPostgres(
  name: string,
  { port, test, skip, stretch = 2, deviations = {} }: CasesOptions,
): void {
  const connect: Connect = name === "PGlite" ? connectLite : CLIENTS[name];
  testBackend({
    name: `Postgres, ${name}`,
    test,
    skip,
    // For a machine that is busy with other things: only what hangs runs into the limit.
    limitMs: 30_000,
    stretch,
    deviations,
    open: () => connect(port),
  });
}

/** What waiters cannot do that poll. */
export const POLLING: Record<string, string> = {
  "steal: the holder is notified without asking the store for anything else":
    "there is no push: the holder is notified at its next renewal",
};
