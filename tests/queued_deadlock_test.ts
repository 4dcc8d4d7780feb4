// Code that shares a lock asks for it again behind a writer of another process, which waits for it; in virtual time.
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { Lock, lock, LockAcquisitionError, LockDeadlockError, type LockOptions } from "../mod.ts";
import { KEY, type Player, Scene } from "./simulation/scene.ts";

const SHARED = { mode: "shared" } as const;

const formsOf = ({ backend }: Player, options: LockOptions = SHARED) => lock(KEY, { backend, ...options });

/** Plays it under a lock of the first process, which it shares, while the second one waits for it alone. */
async function behindWriter(
  story: (scene: Scene, a: Player, outside: <Result>(fn: () => Result) => Result) => Promise<void>,
  outer: LockOptions = SHARED,
): Promise<void> {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const outside = AsyncLocalStorage.snapshot();
    let waiting: Promise<Lock> | undefined;
    await formsOf(a, outer).run(async (held) => {
      waiting = outside(() => formsOf(b, {}).acquire());
      await b.process.pause(50);
      assertEquals(scene.queued, 1);
      await story(scene, a, outside);
      assertEquals([held.held, held.mode], [true, outer.mode ?? "exclusive"]);
    });
    // It has left the queue, and the writer has its turn.
    const written = await waiting!;
    assertEquals(await written.release(), true);
    await a.process.pause(5000);
    assertEquals(scene.version, null);
  });
}

Deno.test("queued deadlock: what shares a lock is not queued behind a writer elsewhere that waits for the code around it", async () => {
  await behindWriter(async (_scene, a) => {
    async function asksAgain() {
      await formsOf(a).run(() => {});
    }
    for (
      const ask of [
        asksAgain,
        () => formsOf(a).acquire(),
        () => Lock.acquire(KEY, { backend: a.backend, ...SHARED }),
      ]
    ) {
      const { identifier, heldIdentifier, message } = await assertRejects(ask, LockDeadlockError);
      assertEquals([identifier, heldIdentifier], [KEY, KEY]);
      assertStringIncludes(message, "or ask with reentrant: true");
    }
    const { stack = "" } = await assertRejects(asksAgain, LockDeadlockError);
    assertStringIncludes(stack, "asksAgain");
    assertEquals(await formsOf(a, { ...SHARED, reentrant: true }).run(() => "within it"), "within it");
  });
});

Deno.test("queued deadlock: the same inside a limit, and for several locks", async () => {
  await behindWriter(async (_scene, a) => {
    await assertRejects(() => formsOf(a, { limit: 2 }).acquire(), LockDeadlockError);
  }, { limit: 2 });
  await behindWriter(async (_scene, a) => {
    const both = lock([{ identifier: KEY, ...SHARED }, "another"], { backend: a.backend });
    const { identifier } = await assertRejects(() => both.acquire(), LockDeadlockError);
    assertEquals(identifier, KEY);
    // The queue of the other one is left, too.
    const other = await lock("another", { backend: a.backend, waitForMs: 100 }).acquire();
    assertEquals(await other.release(), true);
  });
});

Deno.test("queued deadlock: also if another caller here is queued already", async () => {
  await behindWriter(async (scene, a, outside) => {
    const waiting = outside(() => formsOf(a).acquire());
    await a.process.pause(50);
    assertEquals(scene.queued, 2);
    await assertRejects(() => formsOf(a).acquire(), LockDeadlockError);
    waiting.then((held) => held.release());
  });
});

Deno.test("queued deadlock: also if the queue has not been looked at with the record", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  const two = { limit: 2 };
  await scene.play(async () => {
    const outside = AsyncLocalStorage.snapshot();
    const other = await formsOf(c, two).acquire();
    let waiting: Promise<Lock>[] = [];
    await formsOf(a, two).run(async () => {
      // The last one makes its process look at the lock's record, and at nothing else.
      for (const [player, options] of [[b, {}], [a, two], [a, { ...two, waitForMs: 60_000 }]] as const) {
        waiting = [...waiting, outside(() => formsOf(player, options).acquire())];
        await player.process.pause(50);
      }
      await assertRejects(() => formsOf(a, two).acquire(), LockDeadlockError);
    });
    assertEquals(await other.release(), true);
    for (const held of waiting) assertEquals(await (await held).release(), true);
  });
});

Deno.test("queued deadlock: what gives up by itself waits, and so does what another context asks for", async () => {
  await behindWriter(async (_scene, a, outside) => {
    await assertRejects(() => formsOf(a, { ...SHARED, waitForMs: 500 }).acquire(), LockAcquisitionError);
    const ending = new AbortController();
    const cancelled = assertRejects(
      () => formsOf(a, { ...SHARED, signal: ending.signal }).acquire(),
      Error,
      "enough",
    );
    const other = outside(() => formsOf(a).acquire());
    await a.process.pause(500);
    ending.abort(new Error("enough"));
    await cancelled;
    other.then((held) => held.release());
  });
});

Deno.test("queued deadlock: behind no writer, or behind one that has left, it is admitted", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const outside = AsyncLocalStorage.snapshot();
    await formsOf(a).run(async () => {
      assertEquals(await formsOf(a).run(() => "beside it"), "beside it");
      const reader = await outside(() => formsOf(b).acquire());
      await outside(() =>
        assertRejects(() => formsOf(b, { waitForMs: 300 }).acquire(), LockAcquisitionError)
      );
      assertEquals(await formsOf(a).run(() => "beside both"), "beside both");
      await reader.release();
    });
  });
});

Deno.test("queued deadlock: code that is not waited for is queued once the code around it has ended", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const outside = AsyncLocalStorage.snapshot();
    let later: Promise<Lock> | undefined;
    const over = Promise.withResolvers<void>();
    await formsOf(a).run(() => {
      later = over.promise.then(() => formsOf(a).acquire());
    });
    const other = await formsOf(a).acquire();
    const writing = outside(() => formsOf(b, {}).acquire());
    await b.process.pause(50);
    over.resolve();
    await a.process.pause(500);
    assertEquals(await other.release(), true);
    assertEquals(await (await writing).release(), true);
    assertEquals(await (await later!).release(), true);
  });
});
