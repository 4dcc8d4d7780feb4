/** The conformance suite on a real Redis server, with every client that the backend takes, for any test runner. */

import { redisBackend } from "@holdfast/lock/backends/redis";
import { testBackend } from "@holdfast/lock/testing";
import { CLIENTS } from "./clients.ts";

type Register = Parameters<typeof testBackend>[0]["test"];

/** Registers the suite for the clients of these names on the server at `port`; `stretch` as in `testBackend`. */
export function testRedisClients(
  port: number,
  test: Register,
  skip: Register,
  names: readonly string[],
  stretch = 1,
): void {
  for (const name of names) {
    const connect = CLIENTS[name];
    testBackend({
      name: `Redis, ${name}`,
      test,
      skip,
      // For a machine that is busy with other things: only what hangs runs into the limit.
      limitMs: 30_000,
      stretch,
      async open() {
        const { client, close } = await connect(port);
        const backend = redisBackend(client);
        return {
          backend,
          async close() {
            await backend[Symbol.asyncDispose]();
            await close();
          },
        };
      },
    });
  }
}
