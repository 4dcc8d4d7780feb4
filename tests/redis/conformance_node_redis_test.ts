/** The conformance suite on a real Redis server, with node-redis under Deno; with the other clients: `conformance_test.ts`. */

import { testRedisClients } from "./cases.ts";
import { missingRedis, RedisServer } from "../support/redis_server.ts";
import { SideBySide } from "../support/side_by_side.ts";

const missing = missingRedis();
if (missing !== undefined) {
  Deno.test.ignore(`Redis: ${missing}`, () => {});
} else {
  const server = await RedisServer.start();
  globalThis.addEventListener("unload", () => server.stop());
  const clients = new SideBySide();
  testRedisClients(server.port, clients.test, clients.skip, ["node-redis 6", "node-redis 5"]);
  clients.register("Redis, node-redis 6 and node-redis 5");
}
