// Does the jobs of a queue on Redis, in however many workers, one job per account at a time. See README.md.
import { configure, lock, LockLostError, releaseAll } from "@holdfast/lock";
import { redisBackend } from "@holdfast/lock/backends/redis";
import { Redis } from "ioredis";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const backend = redisBackend(redis);
configure({ strong: backend });

const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stopping.abort());

/** One job, under the lock of its account; `signal` aborts if the lock is lost. */
async function work({ id, account }, { signal, fencingToken }) {
  await new Promise((resolve) => setTimeout(resolve, 20)); // what takes time
  signal.throwIfAborted();
  // The account's store rejects a token lower than the highest that it has seen: here, the log shows it.
  await redis.rpush("done", JSON.stringify({ id, account, fencingToken }));
}

while (!stopping.signal.aborted) {
  // The job stays in "doing" until it is done: a worker that crashes loses none.
  const job = await redis.lmove("jobs", "doing", "LEFT", "RIGHT");
  if (job === null) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    continue;
  }
  const { id, account } = JSON.parse(job);
  try {
    await lock(`account:${account}`, { signal: stopping.signal }).run((held) => work({ id, account }, held));
    await redis.lrem("doing", 1, job);
  } catch (error) {
    if (!(error instanceof LockLostError) && !stopping.signal.aborted) console.error(error);
    // Another worker, or this one later, does it.
    await redis.multi().lrem("doing", 1, job).rpush("jobs", job).exec();
  }
}

await releaseAll();
await backend[Symbol.asyncDispose]();
redis.disconnect();
console.log("stopped");
