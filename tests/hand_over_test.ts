// A lock that one process hands over, and another takes up; in virtual time.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { LockBackendError, LockLostError } from "../core/errors.ts";
import { lock } from "../core/forms.ts";
import { proofsOf } from "../core/guard.ts";
import { holdOf, Lock } from "../core/lock.ts";
import { isInTransit } from "../core/record/record.ts";
import type { LockOptions, RestoreOptions } from "../core/options.ts";
import { fate, KEY, type Player, Scene } from "./simulation/scene.ts";

const lost = () => new LockBackendError("connection lost", { transient: true });

const acquire = ({ backend }: Player, options: LockOptions = {}, identifier: string | string[] = KEY) =>
  lock(identifier, { backend, ...options }).acquire();

const restore = ({ backend }: Player, claim: string, options: RestoreOptions = {}) =>
  Lock.restore(claim, { backend, ...options });

/** Several locks are asked for a turn later: the story is to go on until then. */
const acquireBoth = async (player: Player, options: LockOptions = {}) => {
  await player.process.pause(1);
  return await acquire(player, options, [KEY, "other"]);
};

Deno.test("hand over: the lock is taken until another process takes it up, which renews it", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquire(a, { leaseMs: 600, label: "a" });
    const { signal } = first;
    await a.process.pause(100);
    const claim = await first.handOver();
    await a.process.pause(1);
    assertEquals([first.held, signal.aborted, a.participant.known(KEY), a.process.timers.size], [
      false,
      false,
      undefined,
      0,
    ]);
    assertEquals(scene.record.holders.map((holder) => [isInTransit(holder), holder.leaseMs, holder.label]), [
      [true, 600, "a"],
    ]);
    assertEquals(await Lock.acquire(KEY, { backend: c.backend, wait: false }), null);
    await a.process.pause(300);
    const second = await restore(b, claim, { label: "b" });
    assert(second !== null && second.held && second.fencingToken > first.fencingToken);
    assertEquals(scene.record.holders.map((holder) => [isInTransit(holder), holder.leaseMs, holder.label]), [
      [false, 600, "b"],
    ]);
    await b.process.pause(3000);
    assertEquals([second.held, first.held, await first.release(), signal.aborted], [
      true,
      false,
      false,
      false,
    ]);
    assertEquals(await second.release(), true);
    assertEquals(scene.version, null);
  });
});

Deno.test("hand over: a claim is honoured once, however often it is delivered, at once or later", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const claim = await (await acquire(a)).handOver();
    const found = await Promise.all([b, c, b].map((player) => restore(player, claim)));
    const [held, ...others] = found.filter((one) => one !== null);
    assertEquals(others, []);
    assertEquals(await restore(c, claim), null);
    assertEquals(await held.release(), true);
    assertEquals(await restore(a, claim), null);
    assertEquals(scene.version, null);
  });
});

Deno.test("hand over: one that comes too late finds nothing, and takes nothing from the next holder", async () => {
  const scene = new Scene();
  const [a, b, c] = [
    scene.enter({ skewMs: 100 }),
    scene.enter({ skewMs: 100 }),
    scene.enter({ skewMs: 100 }),
  ];
  await scene.play(async () => {
    const claim = await (await acquire(a)).handOver({ leaseMs: 500 });
    const next = await acquire(c);
    assertEquals(await restore(b, claim), null);
    assertEquals([next.held, await next.release()], [true, true]);
    // Nor if no other process wants it.
    const again = await (await acquire(a)).handOver({ leaseMs: 500 });
    await b.process.pause(601);
    assertEquals(await restore(b, again), null);
  });
});

Deno.test("hand over: by its lease, however long the one of the lock is", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const claim = await (await acquire(a, { leaseMs: 500 })).handOver({ leaseMs: 60_000 });
    await b.process.pause(59_000);
    const held = await restore(b, claim);
    assertEquals(scene.record.holders[0].leaseMs, 500);
    assertEquals(await held?.release(), true);
  });
});

Deno.test("hand over: what it was handed over from proves nothing any more, before and after it is taken up", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquire(a);
    const claim = await first.handOver();
    const isOver = () => assertRejects(() => proofsOf(holdOf(first)), LockLostError, "handed over");
    await isOver();
    const second = await restore(b, claim);
    await isOver();
    assertEquals((await proofsOf(holdOf(second!))).length, 1);
    await assertRejects(() => first.upgrade(), LockLostError, "handed over");
    await assertRejects(() => first.extend(), LockLostError, "handed over");
    assertEquals([first.toJSON().state, second!.toJSON().state], ["handed-over", "held"]);
    assert(String(first).includes(", handed over, "));
    await second!.release();
  });
});

Deno.test("hand over: called again it repeats the claim; after a release, or a loss, it is refused", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const first = await acquire(a);
    const claims = await Promise.all([
      ...[first.handOver({ leaseMs: 5000 }), first.handOver({ leaseMs: 5000 }), first.handOver()],
      first.release(),
    ]);
    assertEquals(claims.slice(1), [claims[0], claims[0], false]);
    await assertRejects(
      () => first.handOver({ leaseMs: 100 }),
      TypeError,
      "Cannot hand over: 'leaseMs' must be omitted, or 5000 as in the call that has handed the lock over, " +
        "current value is 100",
    );
    assertEquals(await restore(a, String(claims[0])).then((held) => held!.release()), true);
    const released = await acquire(a);
    await released.release();
    await assertRejects(() => released.handOver(), LockLostError, "released");
    const expired = await acquire(a, { leaseMs: 100, renew: false });
    await a.process.pause(101);
    await assertRejects(() => expired.handOver(), LockLostError, "ran out");
    // The process that it was stolen from learns of it when it hands over.
    const stolen = await acquire(a);
    const stealer = await acquire(scene.enter(), { stealAfterMs: 0 });
    await assertRejects(() => stolen.handOver(), LockLostError, "stealAfterMs");
    assertEquals([stolen.signal.aborted, await stolen.release()], [true, false]);
    await stealer.release();
  });
});

Deno.test("hand over: of several locks all go, in one claim, or none", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquireBoth(a);
    const claim = await first.handOver();
    assertEquals(a.process.timers.size, 0);
    for (const name of [KEY, "other"]) {
      assertEquals(await Lock.acquire(name, { backend: c.backend, wait: false }), null);
    }
    const second = await restore(b, claim);
    assertEquals(second?.identifiers, [KEY, "other"]);
    assert(second!.fencingToken > first.fencingToken);
    assertEquals((await proofsOf(holdOf(second!))).length, 2);
    await b.process.pause(60_000);
    assertEquals([second!.held, await restore(c, claim)], [true, null]);
    // One of them is stolen on its way: the claim is to both.
    const again = await second!.handOver();
    const stealer = await acquire(c, { stealAfterMs: 0 }, "other");
    assertEquals(await restore(b, again), null);
    assertEquals(scene.record.holders.map(isInTransit), [true]);
    assertEquals(await stealer.release(), true);
  });
});

Deno.test("hand over: in its mode and with its permits, next to others that hold the lock", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const [reader, other] = [await acquire(a, { mode: "shared" }), await acquire(c, { mode: "shared" })];
    const upgrade = reader.upgrade().catch((error) => error.reason);
    await a.process.pause(50);
    const claim = await reader.handOver();
    assertEquals([await upgrade, scene.record.holders.some(({ upgrades }) => upgrades)], [
      "handed-over",
      false,
    ]);
    const taken = await restore(b, claim);
    assertEquals([taken?.mode, other.held, scene.record.holders.length], ["shared", true, 2]);
    await other.release();
    await taken!.upgrade();
    assertEquals(await taken!.release(), true);

    const three = await acquire(a, { limit: 5, permits: 3 });
    const moved = await restore(b, await three.handOver());
    assertEquals(scene.record.holders.map(({ limit, permits }) => [limit, permits]), [[5, 3]]);
    assertEquals(await Lock.acquire(KEY, { backend: c.backend, limit: 5, permits: 3, wait: false }), null);
    assertEquals(await moved!.release(), true);
  });
});

Deno.test("hand over: what is left of holdAtLeastMs counts from when it is taken up", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquire(a, { holdAtLeastMs: 2000 });
    await a.process.pause(1500);
    const claim = await first.handOver();
    const second = await restore(b, claim);
    const fromMs = scene.world.now;
    assertEquals(await second!.release(), true);
    const third = await acquire(a);
    const keptMs = scene.world.now - fromMs;
    assert(keptMs > 450 && keptMs < 600, `${keptMs}`);
    await third.release();
    // What has its age already is not kept.
    const old = await acquire(a, { holdAtLeastMs: 1000 });
    await a.process.pause(1500);
    assertEquals(await (await restore(b, await old.handOver()))!.release(), true);
    assertEquals(scene.version, null);
  });
});

Deno.test("hand over: a waiter gets the lock when the claim has expired, or its new holder has released it", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquire(a);
    const waiting = acquire(c);
    await a.process.pause(50);
    const claim = await first.handOver({ leaseMs: 5000 });
    const second = await restore(b, claim);
    await b.process.pause(6000);
    assertEquals([second!.held, await second!.release()], [true, true]);
    const third = await waiting;
    assert(third.fencingToken > second!.fencingToken);
    const next = acquire(a);
    await third.handOver({ leaseMs: 1000 });
    const fromMs = scene.world.now;
    const heir = await next;
    assert(scene.world.now - fromMs < 1050, `${scene.world.now - fromMs}`);
    await heir.release();
  });
});

for (const isSeveral of [false, true]) {
  const kind = isSeveral ? "of several locks" : "of one lock";
  const ask = (player: Player, options?: LockOptions) =>
    isSeveral ? acquireBoth(player, options) : acquire(player, options);

  Deno.test(`hand over: whose answer was lost has landed, ${kind}`, async () => {
    const scene = new Scene();
    const [a, b] = [scene.enter(), scene.enter()];
    await scene.play(async () => {
      const first = await ask(a, { leaseMs: 500 });
      fate(a, async (apply) => {
        await apply();
        // The look that settles it is answered when the lease is over.
        a.distance.backMs = 501;
        throw lost();
      });
      const claim = await first.handOver({ leaseMs: 5000 });
      assertEquals(scene.record.holders.map(isInTransit), [true]);
      assertEquals(await (await restore(b, claim))!.release(), true);
      assertEquals(scene.version, null);
    });
  });

  Deno.test(`hand over: which was lost on its way is sent again, ${kind}`, async () => {
    const scene = new Scene();
    const [a, b] = [scene.enter(), scene.enter()];
    await scene.play(async () => {
      const first = await ask(a);
      fate(a, () => Promise.reject(lost()));
      const claim = await first.handOver();
      assertEquals(await (await restore(b, claim))!.release(), true);
    });
  });

  Deno.test(`hand over: a restore whose answer was lost is the holder, and the only one, ${kind}`, async () => {
    const scene = new Scene();
    const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
    await scene.play(async () => {
      for (const isTold of [true, false]) {
        const claim = await (await ask(a)).handOver();
        fate(b, async (apply) => {
          await apply();
          if (isTold) throw lost();
          // For as long as answers are waited for.
          return await new Promise(() => {});
        });
        const second = await restore(b, claim);
        assertEquals([second?.held, await restore(c, claim)], [true, null]);
        assertEquals(await second!.release(), true);
        assertEquals(scene.version, null);
      }
    });
  });

  Deno.test(`hand over: a restore that is cancelled leaves the claim, or nothing, ${kind}`, async () => {
    const scene = new Scene();
    const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
    await scene.play(async () => {
      for (const landsFirst of [false, true]) {
        const claim = await (await ask(a)).handOver();
        const controller = new AbortController();
        fate(b, async (apply) => {
          if (!landsFirst) {
            controller.abort(new Error("enough"));
            throw lost();
          }
          await apply();
          controller.abort(new Error("enough"));
          throw lost();
        });
        await assertRejects(() => restore(b, claim, { signal: controller.signal }), Error, "enough");
        await b.process.pause(3000);
        const other = await restore(c, claim);
        // What had landed is given back.
        assertEquals(other === null, landsFirst);
        if (landsFirst) assertEquals(scene.version, null);
        await other?.release();
      }
    });
  });
}

Deno.test("hand over: a store that fails for good says so; the lock then ends with its lease", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const first = await acquire(a, { leaseMs: 500 });
    fate(a, () => Promise.reject(new LockBackendError("no permission")));
    await assertRejects(() => first.handOver(), LockBackendError, "Cannot hand over lock");
    assertEquals([first.held, await first.release()], [false, false]);
    await b.process.pause(600);
    const second = await acquire(b);
    await second.release();
    const claim = await (await acquire(a)).handOver();
    fate(b, () => Promise.reject(new LockBackendError("no permission")));
    await assertRejects(() => restore(b, claim), LockBackendError, "Cannot acquire lock");
    assertEquals(await (await restore(b, claim))!.release(), true);
  });
});

Deno.test("hand over: inside run, the work is over and its result counts", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const claim = await lock(KEY, { backend: a.backend }).run((held) => held.handOver());
    const second = await restore(b, claim);
    assertEquals(await second!.release(), true);
    const again = lock(KEY, { backend: a.backend, reentrant: true });
    await again.run(() =>
      again.run((held) => assertRejects(() => held.handOver(), TypeError, "around this code"))
    );
  });
});

Deno.test("hand over: others that ask in the same process get neither the claim nor in its way", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const claim = await (await acquire(a)).handOver();
    const waiting = acquire(b);
    await b.process.pause(50);
    const tried = Lock.acquire(KEY, { backend: b.backend, wait: false });
    const second = await restore(b, claim);
    assertEquals([second?.held, await tried], [true, null]);
    await second!.release();
    assertEquals(await (await waiting).release(), true);
    assertEquals(scene.version, null);
  });
});
