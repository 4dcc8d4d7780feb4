/** The rights of a user that keeps locks, as docs/redis.md names them: enough on every server, and no more. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { Redis } from "ioredis5";
import { createClient } from "redis6";
import { commitIfHeld, redisBackend } from "../../backends/redis.ts";
import { Lock, LockBackendError, locks } from "../../mod.ts";
import { acquire, test, untilQueued, World } from "./world.ts";

const docs = await Deno.readTextFile(new URL("../../docs/redis.md", import.meta.url));

test("ACL: a user with the rights of docs/redis.md can do all that locks need, on its own keys alone", async () => {
  const [, line] = /^ACL SETUSER (.+)$/m.exec(docs)!;
  await using world = await World.start();
  await world.server.ask("ACL", "SETUSER", ...line.replace("<password>", "secret").split(" "));
  const user = { port: world.server.port, host: "127.0.0.1", username: "holdfast", password: "secret" };
  const a = new Redis(user);
  const { port, host, username, password } = user;
  const b = await createClient({ socket: { port, host }, username, password }).connect();
  const [one, two] = [redisBackend(a), redisBackend(b)];
  const held = await acquire(one);
  const waiting = acquire(two);
  await untilQueued(one, 1);
  assertEquals((await Array.fromAsync(locks({ backend: two }))).map(({ identifier }) => identifier), ["job"]);
  await held.release();
  const next = await waiting;
  assertEquals(await commitIfHeld(next, [["SET", "holdfast:mine", "1"]]), ["OK"]);
  await assertRejects(() => commitIfHeld(next, [["SET", "other", "1"]]), LockBackendError);
  assert(await next.release());
  const shared = await Lock.acquire(["x", "y"], { backend: one, mode: "shared" });
  assert(await shared?.release());
  await assertRejects(() => a.get("other"), Error, "NOPERM");
  await one.close();
  await two.close();
  b.destroy();
  const ended = new Promise((resolve) => a.on("end", resolve));
  a.disconnect();
  await ended;
});
