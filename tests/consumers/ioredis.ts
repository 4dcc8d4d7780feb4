// Both majors of ioredis, alone, as a cluster and behind sentinels.
import { Cluster as Cluster5, Redis as Redis5 } from "ioredis5";
import { Cluster as Cluster6, Redis as Redis6 } from "ioredis6";
import { configure, lock } from "@holdfast/lock";
import { commitIfHeld, redisBackend } from "@holdfast/lock/backends/redis";

export async function main(): Promise<void> {
  const redis = new Redis5({ keyPrefix: "app:", maxRetriesPerRequest: null });
  configure({ strong: redisBackend(redis), weak: redisBackend(new Redis6("redis://localhost")) });
  for (const client of [new Cluster5(["redis://localhost"]), new Cluster6([{ host: "localhost" }])]) {
    redisBackend(client, { prefix: "app" });
  }
  redisBackend(new Redis5({ name: "main", sentinels: [{ host: "localhost", port: 26379 }] }));
  await lock("balance").run(async (held) => {
    await commitIfHeld(held, [["SET", "balance", Number(await redis.get("balance")) + 100]]);
  });
}
