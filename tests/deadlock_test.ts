// Code that runs under a lock and asks for it again is refused at once; no other caller ever is.
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { memoryBackend } from "../backends/memory.ts";
import {
  currentLock,
  forceRelease,
  Lock,
  lock,
  LockAcquisitionError,
  LockDeadlockError,
  LockLostError,
  type LockOptions,
} from "../mod.ts";

Deno.test("deadlock: every form that asks for the lock around it is rejected, and that lock stays held", async () => {
  const backend = memoryBackend();
  const forms = lock("a", { backend });
  class Account {
    @lock("a", { backend })
    async pay() {
      return await Promise.resolve(1);
    }
  }
  await forms.run(async (held) => {
    for (
      const ask of [
        () => forms.run(() => {}),
        () => forms(() => {})(),
        () => forms.acquire(),
        () => Lock.acquire("a", { backend }),
        () => new Account().pay(),
        () => lock("a", { backend, waitForMs: 60_000 }).acquire(),
      ]
    ) {
      const { identifier, heldIdentifier, fencingToken } = await assertRejects(ask, LockDeadlockError);
      assertEquals([identifier, heldIdentifier, fencingToken], ["a", "a", held.fencingToken]);
    }
    assert(held.held);
  });
  await forms(() => assertRejects(() => forms.acquire(), LockDeadlockError))();
  assertEquals(await new Account().pay(), 1);
});

Deno.test("deadlock: also through other locks between, and by another name of the same lock", async () => {
  const backend = memoryBackend();
  const long = "long ".repeat(200);
  const under = (name: string, fn: () => Promise<unknown>) => lock(name, { backend }).run(fn);
  await under(
    "a",
    () => under("b", () => assertRejects(() => under("a", () => Promise.resolve()), LockDeadlockError)),
  );
  await under(long, async () => {
    assertEquals(currentLock()?.identifier, long);
    await assertRejects(() => under(long, () => Promise.resolve()), LockDeadlockError);
  });
});

Deno.test("deadlock: what does not wait finds it taken", async () => {
  const backend = memoryBackend();
  await lock("a", { backend }).run(async () => {
    await assertRejects(() => lock("a", { backend, wait: false }).acquire(), LockAcquisitionError);
    assertEquals(await lock("a", { backend, waitForMs: 0 })(() => 1)(), undefined);
    assertEquals(await Lock.acquire("a", { backend, wait: false }), null);
  });
});

Deno.test("deadlock: another identifier, another backend, and a wait that can end are none", async () => {
  const backend = memoryBackend();
  await lock("a", { backend }).run(async () => {
    assertEquals(await lock("b", { backend }).run(() => "ran"), "ran");
    assertEquals(await lock("a", { backend: memoryBackend() }).run(() => "ran"), "ran");
  });
  const evicted = lock("a", { backend }).run(() => lock("a", { backend, stealAfterMs: 0 }).run(() => {}));
  await assertRejects(() => evicted, LockLostError);
  const lapsed = lock("a", { backend, renew: false, leaseMs: 100 }).run(() =>
    lock("a", { backend }).run(() => {})
  );
  await assertRejects(() => lapsed, LockLostError);
});

Deno.test("deadlock: a hold that is over is none, although its context goes on", async () => {
  const backend = memoryBackend();
  const forms = lock("a", { backend });
  const over = Promise.withResolvers<void>();
  let later: Promise<unknown> | undefined;
  await forms.run(() => {
    later = over.promise.then(() => [currentLock(), forms.run(() => "ran")]).then((found) =>
      Promise.all(found)
    );
  });
  over.resolve();
  assertEquals(await later, [undefined, "ran"]);

  const lost = forms.run(async () => {
    await forceRelease("a", { backend });
    await forms.run(() => {});
  });
  const { reason, cause } = await assertRejects(() => lost, LockLostError);
  assertEquals([reason, cause], ["forced", undefined]);
});

Deno.test("deadlock: other contexts never see it, and one that is left by hand does not either", async () => {
  const backend = memoryBackend();
  const forms = lock("a", { backend });
  const outside = AsyncLocalStorage.snapshot();
  let freed: Promise<unknown> | undefined;
  const ran: string[] = [];
  await Promise.all([
    forms.run(async () => {
      freed = outside(() => forms.run(() => void ran.push("freed")));
      await new Promise((resolve) => setTimeout(resolve));
      ran.push("first");
    }),
    forms.run(() => void ran.push("second")),
  ]);
  await freed;
  assertEquals(ran[0], "first");
  assertEquals(ran.toSorted(), ["first", "freed", "second"]);
});

Deno.test("deadlock: reentrant lets it through as the same hold, which the outermost releases", async () => {
  const backend = memoryBackend();
  const forms = lock("a", { backend, reentrant: true });
  await forms.run(async (outer) => {
    await forms.run((inner) => {
      assertEquals([inner.held, inner.fencingToken], [true, outer.fencingToken]);
    });
    assertEquals(await forms(() => "ran")(), "ran");
    {
      await using again = await forms.acquire();
      assertEquals(await again.release(), true);
    }
    assert(outer.held);
    assertEquals(await Lock.acquire("a", { backend, wait: false }), null);
    await assertRejects(() => forms.run(() => Promise.reject(new Error("mine"))), Error, "mine");
    assert(outer.held);
  });
  assertEquals(await lock("a", { backend, wait: false }).run(() => "free"), "free");
});

Deno.test("deadlock: currentLock is the innermost, or that of an identifier, and says when it is lost", async () => {
  const backend = memoryBackend();
  assertEquals(currentLock(), undefined);
  await lock("a", { backend }).run(async (a) => {
    await lock("b", { backend }).run(async (b) => {
      await Promise.resolve();
      assertEquals([currentLock() === b, currentLock("a") === a, currentLock("c")], [true, true, undefined]);
    });
    assertEquals(currentLock() === a, true);
  });
  const lost = lock("a", { backend }).run(async () => {
    const inner = currentLock();
    await AsyncLocalStorage.prototype.exit.call(new AsyncLocalStorage(), async () => {
      await (await lock("a", { backend, stealAfterMs: 0 }).acquire()).release();
    });
    assertEquals([currentLock() === inner, currentLock()?.held, currentLock()?.signal.aborted], [
      true,
      false,
      true,
    ]);
  });
  await assertRejects(() => lost, LockLostError);
});

Deno.test("deadlock: the stack shows both where the code asks now and where it asked before", async () => {
  const forms = lock("a", { backend: memoryBackend() });
  async function asksAgain() {
    await forms.run(() => {});
  }
  async function askedBefore() {
    await forms.run(asksAgain);
  }
  const { stack = "" } = await assertRejects(askedBefore, LockDeadlockError);
  assertStringIncludes(stack, "asksAgain");
  assertStringIncludes(stack, "askedBefore");
});

Deno.test("deadlock: of several locks each counts, and the error names the one that is held", async () => {
  const backend = memoryBackend();
  const long = "long ".repeat(200);
  await lock(["a", "b"], { backend }).run(async (held) => {
    for (const [names, named] of [["b", "b"], [["c", "b"], "b"], [["b", "a"], "a"]] as const) {
      const { identifier, heldIdentifier, fencingToken } = await assertRejects(
        () => lock(names, { backend }).acquire(),
        LockDeadlockError,
      );
      assertEquals([identifier, heldIdentifier, fencingToken], [named, named, held.fencingToken]);
    }
    assertEquals(await lock(["c", "d"], { backend }).run(() => "ran"), "ran");
    await assertRejects(() => lock(["a", "c"], { backend, wait: false }).acquire(), LockAcquisitionError);
    assert(currentLock("b") === held && currentLock("a, b") === undefined);
    assert(held.held);
  });
  await lock(long, { backend }).run(() =>
    assertRejects(() => lock(["a", long], { backend }).acquire(), LockDeadlockError)
  );
  await lock("b", { backend }).run(() =>
    assertRejects(() => lock(["a", "b"], { backend }).acquire(), LockDeadlockError)
  );
  // No caller has been left in a queue.
  for await (const _ of backend.list("")) throw new Error("left");
});

Deno.test("deadlock: reentrant lets exactly the same locks through, and neither some of them nor more", async () => {
  const backend = memoryBackend();
  const both = lock(["b", "a"], { backend, reentrant: true });
  await both.run(async (outer) => {
    await lock(["a", "b", "a"], { backend, reentrant: true }).run(async (inner) => {
      assertEquals([inner.fencingToken, inner.identifiers], [outer.fencingToken, ["a", "b"]]);
      assertEquals(await inner.release(), true);
    });
    for (const names of ["a", ["a", "b", "c"]]) {
      const again = lock(names, { backend, reentrant: true });
      const { message } = await assertRejects(() => again.acquire(), LockDeadlockError);
      assert(!message.includes("reentrant"), message);
    }
    assert(outer.held);
  });
  assertEquals(await lock("a", { backend, wait: false }).run(() => "free"), "free");
});

Deno.test("deadlock: exclusive inside one's own shared hold, and shared inside an exclusive one, wait for ever", async () => {
  const backend = memoryBackend();
  const [reads, writes] = [lock("a", { backend, mode: "shared" }), lock("a", { backend })];
  await reads.run(async (held) => {
    await assertRejects(() => writes.acquire(), LockDeadlockError);
    assertEquals(await reads.run(() => "beside it"), "beside it");
    await held.upgrade();
    await assertRejects(() => reads.acquire(), LockDeadlockError);
    await held.downgrade();
    assertEquals(await reads.run(() => "beside it"), "beside it");
  });
  await writes.run(() => assertRejects(() => reads.acquire(), LockDeadlockError));
});

Deno.test("deadlock: an upgrade waits for ever for another hold of the lock around the code that asks", async () => {
  const backend = memoryBackend();
  const reads = lock("a", { backend, mode: "shared" });
  await reads.run((outer) =>
    reads.run(async (inner) => {
      for (const held of [inner, outer]) {
        await assertRejects(() => held.upgrade(), LockDeadlockError, "Cannot upgrade lock");
        await assertRejects(() => held.upgrade({ wait: false }), LockAcquisitionError);
      }
      assertEquals([inner.mode, outer.mode], ["shared", "shared"]);
    })
  );
  const reentrant = lock("a", { backend, mode: "shared", reentrant: true });
  await reads.run(() =>
    reentrant.run(async (same) => {
      await same.upgrade();
      assertEquals(same.mode, "exclusive");
    })
  );
});

Deno.test("deadlock: shared inside one's own shared hold waits for ever behind a writer here that does not give up", async () => {
  const backend = memoryBackend();
  const reads = lock("a", { backend, mode: "shared" });
  const impatient = new AbortController();
  let writing: Promise<unknown> | undefined;
  const outside = AsyncLocalStorage.snapshot();
  await reads.run(async () => {
    const write = (options = {}) => outside(() => lock("a", { backend, ...options }).run(() => "wrote"));
    const givesUp = write({ signal: impatient.signal }).catch((error) => error.name);
    const beside = reads.run(() => "beside it");
    impatient.abort();
    assertEquals([await givesUp, await beside], ["AbortError", "beside it"]);
    writing = write();
    const { message } = await assertRejects(() => reads.acquire(), LockDeadlockError);
    assertStringIncludes(message, "reentrant");
    const again = lock("a", { backend, mode: "shared", reentrant: true });
    assertEquals(await again.run(() => "within it"), "within it");
  });
  assertEquals(await writing, "wrote");
});

Deno.test("deadlock: of a limit, one's own holds alone must leave no room", async () => {
  const backend = memoryBackend();
  const [two, three] = [2, 3].map((limit) => lock("a", { backend, limit }));
  await two.run(() => two.run(() => assertRejects(() => two.acquire(), LockDeadlockError)));
  await three.run(() =>
    assertRejects(() => lock("a", { backend, limit: 3, permits: 3 }).acquire(), LockDeadlockError)
  );
  await three.run(() => assertRejects(() => lock("a", { backend }).acquire(), LockDeadlockError));
  // Those that others hold are given back some time.
  const outside = AsyncLocalStorage.snapshot();
  await two.run(async () => {
    const other = await outside(() => two.acquire());
    const waiting = two.run(() => "ran");
    await other.release();
    assertEquals(await waiting, "ran");
  });
});

Deno.test("deadlock: reentrant allows no more than the hold around it does", async () => {
  const backend = memoryBackend();
  const again = (options: LockOptions) => lock("a", { backend, reentrant: true, ...options } as LockOptions);
  const within = (outer: LockOptions, inner: LockOptions) =>
    again(outer).run(({ fencingToken }) => again(inner).run((held) => held.fencingToken === fencingToken));
  const [shared, limited] = [{ mode: "shared" }, { limit: 3, permits: 2 }] as const;
  for (
    const [outer, inner] of [
      [{}, shared],
      [{}, limited],
      [shared, shared],
      [limited, { limit: 3 }],
      [limited, { limit: 4, permits: 2 }],
    ] as const
  ) assertEquals(await within(outer, inner), true);
  // It is a separate hold next to that.
  assertEquals(await within({ limit: 3 }, { limit: 3, permits: 2 }), false);
  for (
    const [outer, inner] of [[shared, {}], [limited, {}], [limited, { limit: 2 }], [limited, shared]] as const
  ) {
    const { message } = await assertRejects(() => within(outer, inner), LockDeadlockError);
    assert(!message.includes("reentrant"), message);
  }
});

Deno.test("deadlock: each of several locks counts in the mode that it is held in", async () => {
  const backend = memoryBackend();
  const rates = { identifier: "rates", mode: "shared" } as const;
  const reentrant = lock(["a", rates], { backend, reentrant: true });
  await reentrant.run(async (held) => {
    assertEquals(await lock("rates", { backend, mode: "shared" }).run(() => "beside it"), "beside it");
    assertEquals(await lock([rates, "b"], { backend }).run(() => "beside it"), "beside it");
    await assertRejects(() => lock(["rates", "b"], { backend }).acquire(), LockDeadlockError);
    await assertRejects(() => lock("a", { backend, mode: "shared" }).acquire(), LockDeadlockError);
    await reentrant.run((inner) => assertEquals(inner.fencingToken, held.fencingToken));
    const more = lock(["a", "rates"], { backend, reentrant: true });
    await assertRejects(() => more.acquire(), LockDeadlockError);
  });
});

Deno.test("deadlock: a caller that shares a lock again behind several that wait for it here would wait for itself", async () => {
  const backend = memoryBackend();
  const reader = lock("a", { backend, mode: "shared" });
  const outside = AsyncLocalStorage.snapshot();
  let waiting: Promise<Lock> | undefined;
  await reader.run(async () => {
    waiting = outside(() => lock(["a", "b"], { backend }).acquire());
    await new Promise((resolve) => setTimeout(resolve, 5));
    await assertRejects(() => reader.acquire(), LockDeadlockError);
  });
  await (await waiting)?.release();
});
