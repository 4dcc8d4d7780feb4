// Payments, one at a time per customer, in however many instances: Hono on Node, with locks on Redis. See README.md.
import { serve } from "@hono/node-server";
import { configure, lock, LockAcquisitionError, releaseOnExit } from "@holdfast/lock";
import { commitIfHeld, redisBackend } from "@holdfast/lock/backends/redis";
import { Hono } from "hono";
import { Redis } from "ioredis";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
configure({ strong: redisBackend(redis) });
releaseOnExit(); // a deployment does not block the locks of this instance for a lease

const app = new Hono();

app.post("/customers/:id/payments", async (c) => {
  const { id } = c.req.param();
  const { amount } = await c.req.json();
  const balance = await lock(`customer:${id}`, { waitForMs: 5000 }).run(async (held) => {
    const before = Number(await redis.get(`balance:${id}`) ?? 0);
    await new Promise((resolve) => setTimeout(resolve, 50)); // the payment provider
    // Redis writes this only if the lock is still held.
    await commitIfHeld(held, [["SET", `balance:${id}`, before + amount]]);
    return before + amount;
  });
  return c.json({ balance });
});

app.onError((error, c) => {
  if (error instanceof LockAcquisitionError) {
    return c.text("this customer is busy\n", 503, { "retry-after": "5" });
  }
  console.error(error);
  return c.text("failed\n", 500);
});

serve(
  { fetch: app.fetch, port: Number(process.env.PORT ?? 3000) },
  ({ port }) => console.log(`listening on ${port}`),
);
