/** The conformance suite on a real Redis server: with ioredis under Deno, and with every client under Node. */

import { testRedisClients } from "./cases.ts";
import { UnderNode } from "./under_node.ts";
import { missingRedis, RedisServer } from "../support/redis_server.ts";
import { SideBySide } from "../support/side_by_side.ts";

const missing = missingRedis();
if (missing !== undefined) {
  Deno.test.ignore(`Redis: ${missing}`, () => {});
} else {
  const server = await RedisServer.start();
  globalThis.addEventListener("unload", () => server.stop());
  // The parser of ioredis keeps an interval for a while after a reply that came in pieces. So its cases are not asked
  // about timers, and have this file for themselves; node-redis, in the other, shows what the backend leaves.
  // Deno looks at timers unless both of its sanitizers are off.
  const unsanitized = { sanitizeOps: false, sanitizeResources: false };
  const clients = new SideBySide();
  const underNode = new UnderNode(server.port);
  globalThis.addEventListener("unload", () => underNode.stop());
  // What runs under Node waits for most of its time, too, and does so meanwhile.
  const begin: typeof clients.test = (name, play) =>
    clients.test(name, () => {
      void underNode.start();
      return play();
    });
  testRedisClients(server.port, begin, clients.skip, ["ioredis 6", "ioredis 5"]);
  clients.register("Redis, ioredis 6 and ioredis 5", unsanitized);
  Deno.test({
    name: "Redis: the suite under Node, with every client",
    fn: () => underNode.start(),
    ...unsanitized,
  });
}
