/** A backend that is disposed of, and a client that is closed. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type RedisBackend, redisBackend } from "../../backends/redis.ts";
import { queueKeyOf } from "../../core/identifier.ts";
import { queueIn } from "../../core/record/codec.ts";
import { LockBackendError } from "../../mod.ts";
import { assertCloses } from "../support/closing.ts";
import { CLIENTS } from "./clients.ts";
import { acquire, test, untilQueued, World } from "./world.ts";

test("a closed client, and one that is closed while a caller waits: an error at once that says so", async () => {
  for (const connect of Object.values(CLIENTS)) {
    await using world = await World.start();
    const { client, close } = await connect(world.server.port);
    const backend = redisBackend(client);
    const held = await acquire((await world.peer()).backend);
    const waiting = assertRejects(() => acquire(backend), LockBackendError, "closed");
    await untilQueued((await world.peer()).backend, 1);
    await close();
    await waiting;
    await assertRejects(() => acquire(backend), LockBackendError, "closed");
    await backend[Symbol.asyncDispose]();
    await held.release();
  }
});

test("a backend that is disposed of: a caller that waited, or has just given up, leaves the queue first", async () => {
  await using world = await World.start();
  const a = await world.peer();
  const held = await acquire(a.backend);
  for (const end of ["gave up", "waits"]) {
    const { client, close } = await CLIENTS["node-redis 6"](world.server.port);
    const backend = redisBackend(client);
    const waiting = acquire(backend, { waitForMs: end === "waits" ? 60_000 : 100 }).catch((error) => error);
    if (end === "gave up") assertEquals(await waiting, null);
    else await untilQueued(a.backend, 1);
    await backend[Symbol.asyncDispose]();
    await close();
    if (end === "waits") assert(await waiting instanceof LockBackendError);
    const [queue] = await a.backend.read([queueKeyOf("job")]);
    assertEquals(queueIn(queue).record.entries, []);
  }
  assert(await held.release());
});

test("the answer to a release is lost after the backend was disposed of: released is released", async () => {
  await using world = await World.start();
  const port = await world.slowPort(0);
  const a = await world.peer(port);
  await (await acquire(a.backend)).release();
  const held = await acquire(a.backend);
  await (a.backend as RedisBackend)[Symbol.asyncDispose]();
  world.loseAnswer();
  assertEquals(await held.release(), true);
  assertEquals(held.signal.aborted, false);
});

test("a backend that is closed: what every backend does then", async () => {
  await using world = await World.start();
  const [a, b] = [await world.peer(), await world.peer()];
  await assertCloses({ open: () => redisBackend(b.client), other: a.backend });
});
