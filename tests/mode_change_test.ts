// A hold is upgraded and downgraded: in which order, what is said when it cannot be, and what is left; in virtual time.
import { assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { LockAcquisitionError, LockBackendError, LockLostError } from "../core/errors.ts";
import { holdOf } from "../core/lock.ts";
import { Lock, lock, type LockOptions } from "../mod.ts";
import { fate, KEY, type Player, Scene } from "./simulation/scene.ts";

const SHARED = { mode: "shared" } as const;

function acquire({ backend }: Player, options: LockOptions = SHARED): Promise<Lock> {
  return lock(KEY, { backend, ...options }).acquire();
}

/** What became of a call. */
function outcomeOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(() => "done", (error) => error);
}

const kindOf = (outcome: unknown) => outcome instanceof Error ? outcome.name : outcome;

/** A signal that counts those that listen to it. */
class CountingSignal extends EventTarget {
  listeners = 0;
  aborted = false;
  reason: unknown;

  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    this.listeners++;
    super.addEventListener(...args);
  }

  override removeEventListener(...args: Parameters<EventTarget["removeEventListener"]>): void {
    this.listeners--;
    super.removeEventListener(...args);
  }

  abort(reason: unknown): void {
    this.aborted = true;
    this.reason = reason;
    this.dispatchEvent(new Event("abort"));
  }
}

Deno.test("mode: an upgrade that is refused names those that share the lock, in this process and in others", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await acquire(a, { ...SHARED, label: "the first" });
    const here = await acquire(a, { ...SHARED, label: "another one here" });
    const refused = () => assertRejects(() => held.upgrade({ wait: false }), LockAcquisitionError);
    const alike = async (names: string[]) => {
      for (const options of [{ wait: false }, { waitForMs: 50 }]) {
        const { message, holders } = await assertRejects(() => held.upgrade(options), LockAcquisitionError);
        assertEquals(holders.map(({ label }) => label), names);
        const said = holders.map(({ label, heldForMs }) => `"${label}" for ${heldForMs} ms`).join(", ");
        assertEquals(message.replace(/waited \d+/, "waited so many"), rule + said);
      }
    };
    const rule = `Cannot upgrade lock "job": waited so many ms, shared with `;
    await alike(["another one here"]);
    const there = await acquire(b, { ...SHARED, label: "one elsewhere" });
    await alike(["another one here", "one elsewhere"]);
    await here.release();
    await alike(["one elsewhere"]);
    // So does one that is refused because another upgrades.
    const more = await acquire(a, { ...SHARED, label: "one more here" });
    const upgrading = outcomeOf(more.upgrade());
    const { message, holders } = await refused();
    assertEquals(message.includes("another holder is upgrading it"), true);
    assertEquals(holders.map(({ label }) => label), ["one more here", "one elsewhere"]);
    for (const reader of [more, there, held]) assertEquals(await reader.release(), true);
    assertInstanceOf(await upgrading, LockLostError);
  });
});

type Call = (held: Lock) => Promise<void>;
const up: Call = (held) => held.upgrade();
const tryUp: Call = (held) => held.upgrade({ wait: false });
const down: Call = (held) => held.downgrade();

/** Calls at once, from a hold of this mode, next to another reader or not; what becomes of each, and how it is held then. */
const ORDERS: [
  from: "exclusive" | "shared",
  calls: Call[],
  outcomes: string[],
  ends: string,
  besides?: true,
][] = [
  ["exclusive", [down, up, down], ["done", "done", "done"], "shared"],
  ["exclusive", [down, up], ["done", "done"], "exclusive"],
  ["exclusive", [up, down], ["done", "done"], "shared"],
  ["exclusive", [down, down, up, down, up], Array(5).fill("done"), "exclusive"],
  ["exclusive", [down, tryUp, tryUp], ["done", "done", "LockAcquisitionError"], "exclusive"],
  ["shared", [up, down], ["done", "done"], "shared"],
  ["shared", [up, down, up], ["done", "done", "done"], "exclusive"],
  ["shared", [up, up, down], ["done", "LockAcquisitionError", "done"], "shared"],
  ["shared", [down, up], ["done", "done"], "exclusive"],
  ["shared", [tryUp, down, tryUp], Array(3).fill("LockAcquisitionError").with(1, "done"), "shared", true],
];

for (const [from, calls, outcomes, ends, besides] of ORDERS) {
  const named = calls.map((call) => call === down ? "down" : "up").join(", ");
  Deno.test(`mode: ${named}, of a hold that is ${from}, take effect in this order`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a, { mode: from });
      if (besides) await acquire(scene.enter());
      const found = await Promise.all(calls.map((call) => outcomeOf(call(held)).then(kindOf)));
      const mode = () => scene.record.holders.find(({ fence }) => fence === held.fencingToken)?.mode;
      assertEquals([found, held.mode, mode()], [outcomes, ends, ends]);
      // And so it stays.
      await a.process.pause(5000);
      assertEquals([held.mode, mode(), held.held], [ends, ends, true]);
      assertEquals(await held.release(), true);
    });
  });
}

Deno.test("mode: a downgrade waits for the upgrade that was called before, and both are done when the others have left", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await acquire(a);
    const other = await acquire(b);
    const seen: string[] = [];
    const changes = [held.upgrade(), held.downgrade()].map((call) =>
      call.then(() => void seen.push(held.mode))
    );
    await a.process.pause(500);
    assertEquals([seen, scene.record.holders.some(({ upgrades }) => upgrades)], [[], true]);
    await other.release();
    await Promise.all(changes);
    assertEquals(seen, ["exclusive", "shared"]);
    await held.release();
  });
});

Deno.test("mode: one that waits for its turn is cancelled at once, and leaves neither a timer nor a listener", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await acquire(a, {});
    a.distance.backMs = 800;
    const signal = new CountingSignal();
    const calls = [
      held.downgrade(),
      held.upgrade({ waitForMs: 60_000, signal: signal as unknown as AbortSignal }),
      held.downgrade(),
    ];
    const outcomes = calls.map(outcomeOf);
    assertEquals(signal.listeners, 1);
    await a.process.pause(100);
    const beforeMs = scene.world.now;
    signal.abort("enough");
    assertEquals([await outcomes[1], scene.world.now, signal.listeners], ["enough", beforeMs, 0]);
    assertEquals(await Promise.all(outcomes), ["done", "enough", "done"]);
    assertEquals([held.mode, (await acquire(b)).held], ["shared", true]);
    a.distance.backMs = 1;
    assertEquals(await held.release(), true);
    await a.process.pause(5000);
    assertEquals(a.process.timers.size, 0);
  });
});

for (const end of ["released", "lost", "handed over"] as const) {
  Deno.test(`mode: all that is under way or waits for its turn is rejected when the hold is ${end}`, async () => {
    const scene = new Scene();
    const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
    await scene.play(async () => {
      const held = await acquire(a);
      const other = await acquire(b);
      const signal = new CountingSignal();
      const options = { signal: signal as unknown as AbortSignal, waitForMs: 600_000 };
      const outcomes = [held.upgrade(options), held.downgrade(), held.upgrade(options)].map(outcomeOf);
      await a.process.pause(100);
      if (end === "released") assertEquals(await held.release(), true);
      else if (end === "handed over") await held.handOver({ leaseMs: 1000 });
      else {
        const thief = await acquire(c, { stealAfterMs: 0 });
        await a.process.pause(50_000);
        await thief.release();
      }
      for (const outcome of await Promise.all(outcomes)) {
        assertInstanceOf(outcome, LockLostError);
        assertEquals(outcome.reason, end === "lost" ? "stolen" : end.replace(" ", "-"));
      }
      assertEquals(signal.listeners, 0);
      await other.release();
      await a.process.pause(5000);
      assertEquals(a.process.timers.size, 0);
    });
  });
}

Deno.test("mode: an upgrade after one that was given up, and has landed, is not taken back behind its caller", async () => {
  for (const waitsMs of [0, 1, 2, 3]) {
    const scene = new Scene();
    const a = scene.enter();
    await scene.play(async () => {
      const held = await acquire(a);
      const ending = new AbortController();
      const given = outcomeOf(held.upgrade({ signal: ending.signal }));
      ending.abort("enough");
      assertEquals(await given, "enough");
      // It lands, and is taken back; meanwhile it is wanted again.
      await a.process.pause(waitsMs);
      await held.upgrade();
      assertEquals(held.mode, "exclusive");
      await a.process.pause(5000);
      assertEquals([held.mode, scene.record.holders.map(({ mode }) => mode)], ["exclusive", ["exclusive"]]);
      await held.release();
    });
  }
});

Deno.test("mode: an upgrade after a downgrade that has failed is not undone by it later", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const held = await acquire(a, {});
    fate(a, () => Promise.reject(new LockBackendError("no permission")));
    await assertRejects(() => held.downgrade(), LockBackendError, "Cannot downgrade lock");
    assertEquals(held.mode, "exclusive");
    await held.upgrade();
    assertEquals(held.mode, "exclusive");
    await a.process.pause(5000);
    assertEquals([held.mode, scene.record.holders.map(({ mode }) => mode)], ["exclusive", ["exclusive"]]);
    await held.release();
  });
});

Deno.test("mode: a store that is silent is not reported as others that share the lock", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    for (const options of [{ waitForMs: 50 }, { wait: false }]) {
      const held = await acquire(a);
      await a.process.pause(1);
      const { read, commit } = a.backend;
      a.backend.read = a.backend.commit = () => new Promise<never>(() => {});
      const beforeMs = scene.world.now;
      const error = await assertRejects(() => held.upgrade(options), LockBackendError);
      assertEquals(error.message.startsWith('Cannot upgrade lock "job": '), true);
      assertEquals(scene.world.now - beforeMs <= 5000, true);
      Object.assign(a.backend, { read, commit });
      await held.release();
    }
  });
});

for (const from of ["shared", "exclusive"] as const) {
  for (const isTold of [true, false]) {
    const how = isTold ? "is answered" : "is not answered";
    Deno.test(`mode: of a hold that is ${from}, what is handed over while a change ${how} can be taken up`, async () => {
      const scene = new Scene();
      const [a, b] = [scene.enter(), scene.enter()];
      await scene.play(async () => {
        const held = await acquire(a, { mode: from });
        fate(a, async (apply) => {
          const answer = await apply();
          if (isTold) return answer;
          throw new LockBackendError("connection lost", { transient: true });
        });
        const change = outcomeOf(from === "shared" ? held.upgrade() : held.downgrade());
        const claim = await held.handOver();
        assertInstanceOf(await change, LockLostError);
        const [{ mode }] = scene.record.holders;
        assertEquals(mode, from === "shared" ? "exclusive" : "shared");
        const taken = await Lock.restore(claim, { backend: b.backend });
        assertEquals([taken?.mode, taken?.held], [mode, true]);
        assertEquals(await taken!.release(), true);
      });
    });
  }
}

Deno.test("mode: a lock with a limit is neither upgraded nor downgraded, alone or with others", async () => {
  const scene = new Scene();
  const { backend } = scene.enter();
  await scene.play(async () => {
    const alone = await lock(KEY, { backend, limit: 2 }).acquire();
    const together = await lock([{ identifier: "a", limit: 3 }, "b"], { backend }).acquire();
    for (const held of [alone, together]) {
      const rule = "with a 'limit' others may hold the lock at the same time";
      await assertRejects(() => held.upgrade(), TypeError, `Cannot upgrade: ${rule}`);
      await assertRejects(() => held.downgrade(), TypeError, `Cannot downgrade: ${rule}`);
      await held.release();
    }
    const mixed = await lock([{ identifier: "a", mode: "shared" }, "b"], { backend }).acquire();
    await assertRejects(() => mixed.upgrade(), TypeError, "Cannot upgrade: the modes of several locks");
    await assertRejects(() => mixed.downgrade(), TypeError, "Cannot downgrade: the modes of several locks");
    await mixed.release();
    const exclusive = await lock(KEY, { backend, limit: 1 }).acquire();
    await exclusive.upgrade();
    assertEquals([exclusive.mode, holdOf(exclusive).changes], ["exclusive", []]);
    await exclusive.release();
  });
});
