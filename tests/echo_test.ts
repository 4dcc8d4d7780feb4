// A refusal that may be an echo: a client has sent a commit twice unasked, and the second copy was refused by what the first
// has written. Only the store can say which it was; in virtual time.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { LockBackendError } from "../core/errors.ts";
import { guardOf } from "../core/guard.ts";
import { cleanup } from "../core/operators/cleanup.ts";
import { forceRelease, Lock } from "../mod.ts";
import { SimBackend } from "./simulation/backend.ts";
import { fate, KEY, Scene } from "./simulation/scene.ts";

/** It is applied, and reported as refused. */
const echo = async (apply: () => Promise<unknown>) => {
  await apply();
  return { ok: false, mayBeEcho: true } as const;
};
/** It is not applied, and no process can be sure of that. */
const lost = () => Promise.resolve({ ok: false, mayBeEcho: true } as const);

/** Plays a story in which no failure may be published. */
async function withoutFailures(scene: Scene, story: () => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  const note = (event: unknown) => void failures.push(event);
  subscribe("holdfast:backend-error", note);
  try {
    await scene.play(story);
  } finally {
    unsubscribe("holdfast:backend-error", note);
  }
  assertEquals(failures, []);
}

Deno.test("echo: a lock is acquired, renewed and given back, and each time the first commit is refused by its echo", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await withoutFailures(scene, async () => {
    fate(a, echo);
    const hold = await a.acquire({ leaseMs: 3000 });
    fate(a, echo);
    await a.process.pause(10_000);
    assert(hold.held && scene.record.holders[0].renewals >= 3);
    fate(a, echo);
    assertEquals([await hold.release(), scene.version], [true, null]);
  });
});

Deno.test("echo: what was refused and is not there is tried again: a grant, a renewal, a release", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await withoutFailures(scene, async () => {
    for (const count of [1, 3]) {
      fate(a, ...Array.from({ length: count }, () => lost));
      const hold = await a.acquire({ leaseMs: 3000 });
      fate(a, ...Array.from({ length: count }, () => lost));
      await a.process.pause(2000);
      assert(hold.held && scene.record.holders[0].renewals > 0);
      fate(a, ...Array.from({ length: count }, () => lost));
      assertEquals([await hold.release(), scene.version], [true, null]);
    }
  });
});

Deno.test("echo: it costs no patience: a caller that is refused so for longer than any outage is waited out gets the lock", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  b.distance.thereMs = b.distance.backMs = 300;
  await withoutFailures(scene, async () => {
    const hold = await a.acquire({ leaseMs: 60_000 });
    fate(b, ...Array.from({ length: 20 }, () => lost));
    const waiting = b.acquire({ leaseMs: 3000 });
    await a.process.pause(20 * 600);
    await hold.release();
    const next = await waiting;
    assert(next.held && scene.world.now > 12_000);
    await next.release();
  });
});

Deno.test("echo: a caller that may not wait learns what is there: the lock, or that it is taken", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await withoutFailures(scene, async () => {
    fate(a, echo);
    const held = await Lock.acquire(KEY, { backend: a.backend, wait: false });
    assert(held !== null);
    fate(b, lost);
    assertEquals(await Lock.acquire(KEY, { backend: b.backend, wait: false }), null);
    await held.release();
  });
});

Deno.test("echo: an operator learns what came of it: a lock that was forced, a record that was removed", async () => {
  const scene = new Scene();
  const [a, operator] = [scene.enter(), scene.enter()];
  await withoutFailures(scene, async () => {
    for (const way of [echo, lost]) {
      const hold = await a.acquire();
      fate(operator, way);
      assertEquals(await forceRelease(KEY, { backend: operator.backend }), true);
      assertEquals([await hold.release(), hold.lost?.reason], [false, "forced"]);
    }
    const hold = await a.acquire();
    fate(operator, async (apply) => {
      // What it forces has been given back meanwhile.
      await hold.release();
      return await apply();
    });
    assertEquals(await forceRelease(KEY, { backend: operator.backend }), false);
    // No process needs to hear of a loss any more.
    await a.process.pause(100_000);
    for (const way of [echo, lost]) {
      const dead = scene.enter();
      await dead.acquire({ leaseMs: 100 });
      dead.process.kill();
      await a.process.pause(1000);
      fate(operator, way);
      assertEquals((await cleanup({ backend: operator.backend })).removed, 1);
    }
  });
});

Deno.test("guard: a commit that is refused again and again is given up after half a minute, by an error that says so", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const held = (await Lock.acquire(KEY, { backend: a.backend }))!;
    const tries = guardOf(held, { Backend: SimBackend, name: "a simulated" }).tries();
    let count = 0;
    const error = await assertRejects(async () => {
      for (;;) {
        await tries.again();
        count++;
      }
    }, LockBackendError);
    assertEquals(
      error.message,
      `Cannot commit under lock "job": nothing was written: the lock's record has changed during every try, for 30000 ms`,
    );
    assert(count > 100 && scene.world.now >= 30_000 && scene.world.now < 31_000);
    await held.release();
  });
});
