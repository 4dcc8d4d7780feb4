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
