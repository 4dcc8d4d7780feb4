// Both majors of redis (node-redis), with either protocol, and with replies mapped.
import { createClient as createClient5 } from "redis5";
import { createClient as createClient6, RESP_TYPES } from "redis6";
import { configure } from "@holdfast/lock";
import { redisBackend } from "@holdfast/lock/backends/redis";

export async function main(): Promise<void> {
  const client = await createClient5({ url: "redis://localhost" }).connect();
  configure({ strong: redisBackend(client), weak: redisBackend(createClient6()) });
  redisBackend(createClient6({ RESP: 3, database: 1 }));
  redisBackend(createClient5().withTypeMapping({ [RESP_TYPES.NUMBER]: String }));
}
