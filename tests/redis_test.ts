/** The conformance suite on a real Redis server, with every client that the backend takes. */

import { redisBackend } from "@holdfast/lock/backends/redis";
import { testBackend } from "@holdfast/lock/testing";
import { CLIENTS } from "./redis_clients.ts";
import { missingRedis, RedisServer } from "./redis_server.ts";

const missing = missingRedis();
if (missing !== undefined) {
  Deno.test.ignore(`Redis: ${missing}`, () => {});
} else {
  const server = await RedisServer.start();
  globalThis.addEventListener("unload", () => server.stop());

  for (const [name, connect] of Object.entries(CLIENTS)) {
    testBackend({
      name: `Redis, ${name}`,
      test: Deno.test,
      skip: Deno.test.ignore,
      async open() {
        const { client, close } = await connect(server.port);
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
