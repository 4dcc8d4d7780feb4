// Faults of the track record (docs/guarantees.md) that no other test shows by itself, as stories in virtual time.
import { assertEquals, assertInstanceOf } from "@std/assert";
import { LockBackendError } from "../core/errors.ts";
import { fate, Scene } from "./simulation/scene.ts";

Deno.test("track record: a release whose answer was lost for longer than the lease is an unknown outcome", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await a.acquire({ leaseMs: 1000, renew: false });
    held.keep();
    // It lands, and the next answer comes when another process may have had the lock since.
    fate(a, async (apply) => {
      await apply();
      a.distance.backMs = 900;
      await a.process.pause(400);
      throw new LockBackendError("connection lost", { transient: true });
    });
    const outcome = await held.release().catch((error) => error);
    assertInstanceOf(outcome, LockBackendError);
    assertEquals(
      outcome.message,
      'Cannot release lock "job": the answer to the release was lost, and the lease has ended since',
    );
    await (await b.acquire()).release();
  });
});

Deno.test("track record: an upgrade that is asked for while one that was given up is taken back is a new one", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  a.distance.backMs = 200;
  await scene.play(async () => {
    const held = await a.acquire({ mode: "shared", leaseMs: 60_000 });
    const givenUp = new AbortController();
    const how = { mayWait: true, waitForMs: undefined };
    const first = held.changeMode("exclusive", { ...how, signal: givenUp.signal }).catch(() => "given up");
    await a.process.pause(50);
    givenUp.abort();
    assertEquals([await first, scene.record.holders[0].mode], ["given up", "exclusive"]);
    // It has landed: the process hears of that, and takes it back.
    while (held.mode === "shared") await a.process.pause(1);
    let isAlone = false;
    const second = held.changeMode("exclusive", { ...how, signal: undefined }).then(() => isAlone = true);
    const other = await b.acquire({ mode: "shared", leaseMs: 60_000 });
    await a.process.pause(1000);
    assertEquals([scene.record.holders.length, isAlone], [2, false]);
    await other.release();
    await second;
    assertEquals(scene.record.holders.map(({ mode }) => mode), ["exclusive"]);
    await held.release();
  });
});
