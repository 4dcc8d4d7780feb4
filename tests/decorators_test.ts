// The forms as people call them: decorators of both kinds, and calls that are refused with the one that was meant.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { memoryBackend } from "../backends/memory.ts";
import {
  currentLock,
  Lock,
  lock,
  LockAcquisitionError,
  LockLostError,
  type LockOptions,
  type WaitingLockOptions,
} from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
function same<A, B>(_: Same<A, B>): void {}

/** What TypeScript's helper does with a decorator under `experimentalDecorators`. */
function decorate(target: object, name: string | symbol, ...decorators: Anything[]): void {
  let descriptor = Object.getOwnPropertyDescriptor(target, name);
  for (const decorator of decorators.reverse()) {
    descriptor = decorator(target, name, descriptor) ?? descriptor;
  }
  if (descriptor !== undefined) Object.defineProperty(target, name, descriptor);
}

Deno.test("decorators: with experimentalDecorators, a method runs under the lock, with its this and arguments", async () => {
  const backend = memoryBackend();
  const symbol = Symbol("named");
  class Account {
    constructor(readonly owner: string) {}
    pay(cents: number) {
      return Promise.resolve(`${this.owner} ${cents} ${currentLock()?.identifier}`);
    }
    [symbol]() {
      return Promise.resolve(this.owner);
    }
    static make() {
      return Promise.resolve(this.name);
    }
  }
  const before = Object.getOwnPropertyDescriptor(Account.prototype, "pay")!;
  decorate(Account.prototype, "pay", lock((cents: number) => `pay:${cents}`, { backend }));
  decorate(Account.prototype, symbol, lock("x", { backend }));
  decorate(Account, "make", lock("x", { backend }));
  const after = Object.getOwnPropertyDescriptor(Account.prototype, "pay")!;
  assertEquals([after.enumerable, after.configurable, after.value.name, after.value.length], [
    before.enumerable,
    before.configurable,
    "pay",
    1,
  ]);
  const ada = new Account("ada");
  assertEquals(await ada.pay(5), "ada 5 pay:5");
  assertEquals([await ada[symbol](), await Account.make()], ["ada", "Account"]);
});

Deno.test("decorators: what decorators below have noted by reflect-metadata is there above, too", async () => {
  const notes = new Map<unknown, Map<unknown, unknown>>();
  const metadata = {
    getOwnMetadataKeys: (target: object) => [...notes.get(target)?.keys() ?? []],
    getOwnMetadata: (key: unknown, target: object) => notes.get(target)?.get(key),
    defineMetadata: (key: unknown, value: unknown, target: object) => {
      notes.set(target, new Map([...notes.get(target) ?? [], [key, value]]));
    },
  };
  Object.assign(Reflect, metadata);
  try {
    class Jobs {
      run() {
        return Promise.resolve("ran");
      }
    }
    const original = Jobs.prototype.run;
    metadata.defineMetadata("cron", "0 4 * * *", original);
    decorate(Jobs.prototype, "run", lock("x", { backend: memoryBackend() }));
    assert(Jobs.prototype.run !== original);
    assertEquals(notes.get(Jobs.prototype.run), new Map([["cron", "0 4 * * *"]]));
    assertEquals(await new Jobs().run(), "ran");
  } finally {
    for (const name of Object.keys(metadata)) delete (Reflect as Anything)[name];
  }
});

Deno.test("decorators: what is no method is refused, under experimentalDecorators, too", () => {
  const forms = lock("x", { backend: memoryBackend() });
  class Odd {
    get now() {
      return 1;
    }
    field = 1;
    *steps() {}
  }
  const refused = (name: string, message: string) =>
    assertThrows(() => decorate(Odd.prototype, name, forms), TypeError, message);
  refused("now", "Cannot decorate now: lock decorates methods only, not an accessor");
  refused("field", "Cannot decorate field: lock decorates methods only, not a property");
  refused("steps", "a generator would run after its lock is released");
  assertThrows(() => (forms as Anything)(Odd.prototype, "steps", 0), TypeError, "not a parameter");
});

Deno.test("decorators: @lock without a call is refused, in both ways", () => {
  const bare = lock as Anything;
  const context = { kind: "method", name: "run", addInitializer() {}, static: false, private: false };
  for (
    const args of [[() => {}, context], [{ run() {} }, "run", { value() {} }], [class {}, "run", {
      value() {},
    }]]
  ) {
    assertThrows(() => bare(...args), TypeError, `as in @lock("report")`);
  }
});

Deno.test("input: a function in the wrong place is refused with the call that was meant", async () => {
  const backend = memoryBackend();
  const misused = lock as Anything;
  assertThrows(() => misused("x", () => {}), TypeError, `call lock("x").run(fn)`);
  assertThrows(() => misused("x", { backend }, () => {}), TypeError, `call lock("x", options).run(fn)`);
  assertThrows(() => misused(["a", "b"], { backend }, () => {}), TypeError, "it takes no third argument");
  for (const fn of [function* () {}, async function* () {}]) {
    await assertRejects(
      () => lock("x", { backend }).run(fn as Anything),
      TypeError,
      "Cannot run: a generator",
    );
  }
  assertEquals(await (await Lock.acquire("x", { backend, wait: false }))?.release(), true);
});

Deno.test("using: without await it is refused at once, and the lock is given back", async () => {
  const backend = memoryBackend();
  const held = await Lock.acquire("x", { backend });
  const stack = new DisposableStack();
  assertThrows(
    () => stack.use(held as Anything),
    TypeError,
    "write 'await using', which waits for its release",
  );
  assertEquals(await (await Lock.acquire("x", { backend }))?.release(), true);
  assertEquals(Object.keys(held!), []);
});

Deno.test("a forgotten await: what can be named is named, and the rejection of a run names its lock", async () => {
  const backend = memoryBackend();
  const asked = Lock.acquire("x", { backend }) as Anything;
  const missing = "current value is a promise (is an await missing?)";
  await assertRejects(() => lock("y", { backend }).run(asked), TypeError, missing);
  assertThrows(() => lock(asked, { backend }), TypeError, missing);
  assertThrows(() => lock("y", { backend })(asked), TypeError, missing);
  assertThrows(
    () => lock("y", { backend: Promise.resolve(backend) } as Anything),
    TypeError,
    "await missing?",
  );
  const unhandled = new Promise<PromiseRejectionEvent>((resolve) =>
    globalThis.addEventListener("unhandledrejection", (event) => {
      event.preventDefault();
      resolve(event);
    }, { once: true })
  );
  lock("x", { backend, wait: false }).run(() => {});
  const { reason } = await unhandled;
  assert(reason instanceof LockAcquisitionError);
  assert(reason.message.startsWith('Cannot acquire lock "x": '), reason.message);
  assertEquals(await (await asked).release(), true);
});

Deno.test("onTaken: a function that was skipped can be told from one that returned nothing", async () => {
  const backend = memoryBackend();
  const taken = (error: LockAcquisitionError) => `taken by ${error.holders[0].label}`;
  let runs = 0;
  const options = { backend, wait: false, onTaken: taken } as const;
  const tick = lock("x", options)(async (): Promise<void> => {
    await Promise.resolve(runs++);
  });
  same<ReturnType<typeof tick>, Promise<string | void>>(true);
  const run = () => lock("x", options).run(() => 5);
  same<ReturnType<typeof run>, Promise<number | string>>(true);
  assertEquals([await tick(), await run()], [undefined, 5]);
  const held = await lock("x", { backend, label: "me" }).acquire();
  assertEquals([await tick(), await run(), runs], ["taken by me", "taken by me", 1]);
  await held.release();
  // An error of the function's own is no taken lock, even if it is of the same class.
  const outside = await lock("y", { backend, label: "me" }).acquire();
  const inner = lock("x", options)(() => lock("y", { backend, wait: false }).run(() => 1));
  await assertRejects(inner, Error, `"y"`);
  await outside.release();
  await assertRejects(
    () => lock("x", options).acquire(),
    TypeError,
    "'onTaken' is for run, wrapper and decorator",
  );
  assertThrows(() => lock("x", { onTaken: 5 } as Anything), TypeError, "'onTaken' must be a function");
});

Deno.test("LockLostError: it keeps the result of a function that came to its end, and shows it to no log", async () => {
  const backend = memoryBackend();
  const lost = async (fn: () => unknown) => {
    const running = lock("x", { backend }).run(async (held) => {
      await (await lock("x", { backend, stealAfterMs: 0 }).acquire()).release();
      assertEquals(held.held, false);
      return await fn();
    });
    return await assertRejects(() => running, LockLostError);
  };
  const ended = await lost(() => "paid");
  assertEquals([ended.result, ended.reason, Object.keys(ended).includes("result")], [
    "paid",
    "stolen",
    false,
  ]);
  assert("result" in await lost(() => undefined));
  const failed = await lost(() => Promise.reject(new Error("own")));
  assertEquals(["result" in failed, (failed.cause as Error).message], [false, "own"]);
});

Deno.test("types: what is known of a variable's options is known of the result", async () => {
  const backend = memoryBackend();
  const waiting: WaitingLockOptions = { backend, leaseMs: 5000 };
  const any: LockOptions = { backend };
  const a = lock("x", waiting)(() => 1);
  same<ReturnType<typeof a>, Promise<number>>(true);
  const b = lock("x", { ...any, wait: true, waitForMs: undefined })(() => 1);
  same<ReturnType<typeof b>, Promise<number>>(true);
  const c = lock("x", { ...any, wait: false })(() => 1);
  same<ReturnType<typeof c>, Promise<number | undefined>>(true);
  assertEquals([await a(), await b(), await c()], [1, 1, 1]);
});

Deno.test("types: a method whose type does not fit the lock is refused with what it must be", () => {
  const backend = memoryBackend();
  class Jobs {
    // @ts-expect-error: "the lock may be taken: return Promise<… | undefined>, or let it wait"
    @lock("x", { backend, wait: false })
    async may(): Promise<number> {
      return await Promise.resolve(1);
    }
    // @ts-expect-error: "make the method async: its caller gets a promise"
    @lock("x", { backend })
    sync(): number {
      return 1;
    }
    @lock("x", { backend, wait: false })
    async fits(): Promise<number | undefined> {
      return await Promise.resolve(1);
    }
    @lock("x", { backend, wait: false, onTaken: () => false })
    async ran(): Promise<boolean> {
      return await Promise.resolve(true);
    }
  }
  assertEquals(typeof Jobs, "function");
});
