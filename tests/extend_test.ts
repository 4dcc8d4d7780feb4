// A lease that the caller renews by hand, and the warning before it ends; in virtual time.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { LockBackendError, LockLostError } from "../core/errors.ts";
import type { LockEvents } from "../core/events.ts";
import { lock } from "../core/forms.ts";
import type { Lock } from "../core/lock.ts";
import type { LockOptions } from "../core/options.ts";
import { fate, KEY, type Player, Scene } from "./simulation/scene.ts";

const lost = () => new LockBackendError("connection lost", { transient: true });

const acquire = async (player: Player, options: LockOptions = {}, identifier: string | string[] = KEY) => {
  await player.process.pause(1);
  return await lock(identifier, { backend: player.backend, ...options }).acquire();
};

/** The messages of a channel, as they come. */
function heard<Name extends keyof LockEvents>(name: Name): { messages: LockEvents[Name][] } & Disposable {
  const messages: LockEvents[Name][] = [];
  const hear = (message: unknown) => void messages.push(message as LockEvents[Name]);
  subscribe(name, hear);
  return { messages, [Symbol.dispose]: () => void unsubscribe(name, hear) };
}

for (const identifier of [KEY, [KEY, "other"]]) {
  const kind = identifier === KEY ? "one lock" : "several locks";

  Deno.test(`extend: each call makes the lease last from then on, and nothing else does, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 1000 }, identifier);
      for (let i = 0; i < 5; i++) {
        await a.process.pause(900);
        await held.extend();
        assertEquals(scene.record.holders[0].leaseMs, 1000);
      }
      await held.extend(5000);
      await a.process.pause(4900);
      assertEquals([held.held, scene.record.holders[0].leaseMs], [true, 5000]);
      await a.process.pause(101);
      assertEquals([held.held, (held.signal.reason as LockLostError).reason], [false, "expired"]);
    });
  });

  Deno.test(`extend: calls at once need one commit, and each gets what it has asked for, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 1000 }, identifier);
      let commits = 0;
      const commit = a.backend.commit.bind(a.backend);
      a.backend.commit = (changes) => {
        commits++;
        return commit(changes);
      };
      await Promise.all([held.extend(), held.extend(), held.extend(200)]);
      assertEquals(commits, 1);
      // One that wants more than what is under way is written next.
      await Promise.all([held.extend(), a.process.pause(1).then(() => held.extend(9000))]);
      await a.process.pause(8990);
      assertEquals([held.held, commits], [true, 3]);
      assertEquals(await held.release(), true);
    });
  });

  Deno.test(`extend: with renewal on it lasts as long, and is renewed as ever after that, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { leaseMs: 900 }, identifier);
      await held.extend(60_000);
      const untilMs = scene.world.now + 60_000;
      // Whatever is written from now on never ends it sooner.
      while (scene.world.now < untilMs - 1000) {
        const { expiresAt } = scene.record.holders[0];
        assert(expiresAt! >= untilMs - 10, `${expiresAt} ${untilMs}`);
        await a.process.pause(500);
      }
      await a.process.pause(30_000);
      assertEquals([held.held, scene.record.holders[0].leaseMs], [true, 900]);
      await held.release();
    });
  });

  Deno.test(`extend: a lease that is longer already is confirmed, and stays as long, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 5000 }, identifier);
      await a.process.pause(1000);
      await held.extend(100);
      await a.process.pause(3900);
      assertEquals(held.held, true);
      await a.process.pause(101);
      assertEquals(held.held, false);
    });
  });

  Deno.test(`extend: what is over cannot be extended, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const expired = await acquire(a, { renew: false, leaseMs: 100 }, identifier);
      await a.process.pause(101);
      await assertRejects(() => expired.extend(), LockLostError, "ran out");
      const stolen = await acquire(a, { renew: false }, identifier);
      const stealer = await acquire(scene.enter(), { stealAfterMs: 0 }, KEY);
      await assertRejects(() => stolen.extend(), LockLostError, "stealAfterMs");
      await stealer.release();
      const released = await acquire(a, { renew: false }, identifier);
      const extending = assertRejects(() => released.extend(), LockLostError, "released");
      await released.release();
      await extending;
      await assertRejects(() => released.extend(), LockLostError, "released");
    });
  });

  Deno.test(`extend: while the store fails it is tried again, until the lease has run out, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 1000 }, identifier);
      fate(a, () => Promise.reject(lost()), () => Promise.reject(lost()));
      await held.extend();
      assertEquals(held.held, true);
      const fails = () => Promise.reject(lost());
      fate(a, ...Array.from({ length: 500 }, () => fails));
      await assertRejects(() => held.extend(), LockLostError, "ran out");
    });
  });

  Deno.test(`extend: what waiting does not cure is said at once, and the lease runs on, of ${kind}`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 1000 }, identifier);
      fate(a, () => Promise.reject(new LockBackendError("no permission")));
      await assertRejects(() => held.extend(), LockBackendError, "no permission");
      assertEquals(held.held, true);
      await held.extend();
      await a.process.pause(950);
      assertEquals([held.held, await held.release()], [true, true]);
    });
  });

  Deno.test(`late: with a sixth of the lease left callers are warned, once, of ${kind}`, async () => {
    using late = heard("holdfast:late");
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { renew: false, leaseMs: 1200 }, identifier);
      const warned: number[] = [];
      held.onLate((leftMs) => warned.push(leftMs));
      await a.process.pause(990);
      assertEquals(warned, []);
      await a.process.pause(100);
      assertEquals([warned.length, late.messages.length], [1, 1]);
      assert(warned[0] > 190 && warned[0] <= 200, `${warned[0]}`);
      assertEquals([late.messages[0].fencingToken, late.messages[0].leftMs], [held.fencingToken, warned[0]]);
      // A callback that comes later hears of it at once, and all again if it happens again.
      held.onLate(() => warned.push(-1));
      await a.process.pause(1);
      assertEquals(warned.length, 2);
      await held.extend();
      await a.process.pause(1100);
      assertEquals(warned.length, 4);
      await a.process.pause(500);
      assertEquals([held.held, warned.length, late.messages.length], [false, 4, 2]);
    });
  });

  Deno.test(`late: a store that does not answer renewals makes it late, one that does never, of ${kind}`, async () => {
    using late = heard("holdfast:late");
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { leaseMs: 3000 }, identifier);
      held.onLate(() => {});
      await a.process.pause(30_000);
      assertEquals(late.messages.length, 0);
      const fails = () => Promise.reject(lost());
      fate(a, ...Array.from({ length: 500 }, () => fails));
      await a.process.pause(2950);
      assertEquals([held.held, late.messages.length], [true, 1]);
      await a.process.pause(1100);
      assertEquals([held.held, late.messages.length], [false, 1]);
    });
  });
}

Deno.test("extend: an upgrade makes no lease shorter", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const other = await acquire(b, { mode: "shared" });
    const held = await acquire(a, { mode: "shared", renew: false, leaseMs: 1000 });
    await held.extend(20_000);
    const upgrading = held.upgrade();
    await a.process.pause(100);
    assert(scene.record.holders.find(({ upgrades }) => upgrades)!.leaseMs > 19_900);
    await other.release();
    // The answer is lost: what the process knows is less than what it had.
    fate(a, async (apply) => {
      await apply();
      throw lost();
    });
    await upgrading;
    assert(scene.record.holders[0].leaseMs > 19_000);
    await a.process.pause(19_000);
    assertEquals([held.mode, held.held, await held.release()], ["exclusive", true, true]);
  });
});

Deno.test("extend: next to a hold that is not renewed, only those that want it are", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const manual = await acquire(a, { mode: "shared", renew: false, leaseMs: 2000 });
    const usual = await acquire(a, { mode: "shared", leaseMs: 900 });
    const renewals = () => scene.record.holders.map(({ renewals }) => renewals);
    await a.process.pause(1000);
    assertEquals(renewals()[0], 0);
    await manual.extend();
    assertEquals(renewals()[0], 1);
    await a.process.pause(2001);
    assertEquals([manual.held, usual.held], [false, true]);
    await usual.release();
  });
});

Deno.test("late: callers are warned in their own context, and what they throw is not the lock's", async () => {
  const { AsyncLocalStorage } = await import("node:async_hooks");
  const scene = new Scene();
  const a = scene.enter();
  const context = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    seen.push(event.error.message);
  };
  globalThis.addEventListener("error", onError);
  await scene.play(async () => {
    const held: Lock = await acquire(a, { renew: false, leaseMs: 600 });
    context.run("the caller's", () => held.onLate(() => seen.push(context.getStore())));
    held.onLate(() => {
      throw new Error("the caller's error");
    });
    held.onLate(() => seen.push("the third"));
    await a.process.pause(550);
    await held.extend();
    assertEquals(await held.release(), true);
    assertThrows(() => held.onLate(5 as never), TypeError, "it takes a function");
  }).finally(() => globalThis.removeEventListener("error", onError));
  assertEquals(seen, ["the caller's", "the caller's error", "the third"]);
});

Deno.test("extend: refuses what is no lease before anything is sent", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const held = await acquire(a);
    for (const leaseMs of ["5", null, {}]) {
      await assertRejects(() => held.extend(leaseMs as never), TypeError, "'leaseMs' must be a whole number");
    }
    for (const leaseMs of [0, 99, -1, 150.5, NaN, Infinity, 2 ** 31]) {
      await assertRejects(() => held.extend(leaseMs), RangeError, "from 100 to 2147483647");
      await assertRejects(() => held.handOver({ leaseMs }), RangeError, "from 100 to 2147483647");
    }
    await assertRejects(() => held.handOver({ lease: 5 } as never), TypeError, "there is no option 'lease'");
    assertEquals(scene.record.holders[0].renewals, 0);
    await held.release();
  });
});
