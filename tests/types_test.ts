// What the types promise: a function under a lock that cannot bail always has its result.
import { assertEquals } from "@std/assert";
import { commitIfHeld, kvBackend } from "../backends/kv.ts";
import { memoryBackend } from "../backends/memory.ts";
import { Lock, lock, type LockOptions } from "../mod.ts";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
function same<A, B>(_: Same<A, B>): void {}

const backend = memoryBackend();
const count = (n: number) => Promise.resolve(n);

Deno.test("types: only options that can bail add undefined", async () => {
  const patient = lock("x", { backend, leaseMs: 500 })(count);
  same<typeof patient, (this: unknown, n: number) => Promise<number>>(true);
  const waiting = lock("x", { backend, wait: true })(count);
  same<Awaited<ReturnType<typeof waiting>>, number>(true);
  const hasty = lock("x", { backend, wait: false })(count);
  same<Awaited<ReturnType<typeof hasty>>, number | undefined>(true);
  const limited = lock("x", { backend, waitForMs: 5 })(count);
  same<Awaited<ReturnType<typeof limited>>, number | undefined>(true);
  const options: LockOptions = { backend };
  const unknown = lock("x", options)(count);
  same<Awaited<ReturnType<typeof unknown>>, number | undefined>(true);
  const bare = lock("x");
  same<ReturnType<typeof bare.acquire>, Promise<Lock>>(true);
  const synchronous = lock("x", { backend })(() => "text");
  same<ReturnType<typeof synchronous>, Promise<string>>(true);
  assertEquals([await patient(1), await waiting(2), await hasty(3), await limited(4), await unknown(5)], [
    1,
    2,
    3,
    4,
    5,
  ]);
  assertEquals(await synchronous(), "text");
});

Deno.test("types: a shared lock has no limit and no permits", async () => {
  const shared = lock("x", { backend, mode: "shared" })(count);
  same<Awaited<ReturnType<typeof shared>>, number>(true);
  const limited = lock("x", { backend, limit: 5, permits: 2, wait: false })(count);
  same<Awaited<ReturnType<typeof limited>>, number | undefined>(true);
  const refused = () => [
    // @ts-expect-error: any number may share it
    lock("x", { backend, mode: "shared", limit: 5 }),
    // @ts-expect-error: for the other forms, too
    Lock.acquire("x", { backend, mode: "shared", permits: 2 }),
    // @ts-expect-error: reserved
    lock("x", { backend, mode: "upgradeable" }),
  ];
  same<typeof refused extends () => unknown ? true : false, true>(true);
  const options: LockOptions = { mode: "exclusive", limit: 2 };
  const held = await lock("x", { backend, ...options }).acquire();
  same<typeof held.mode, "exclusive" | "shared">(true);
  await held.release();
  assertEquals([await shared(1), held.mode], [1, "exclusive"]);
});

Deno.test("types: several locks, each held in its own mode, also by what a function says", async () => {
  const rates = { identifier: "rates", mode: "shared" } as const;
  const both = lock(["x", rates, { identifier: "pool", limit: 5, permits: 2 }], { backend })(count);
  same<Awaited<ReturnType<typeof both>>, number>(true);
  const transfer = lock((from: string, to: string) => [from, to, { identifier: "rates", mode: "shared" }], {
    backend,
    wait: false,
  })((from: string, to: string, cents: number) => Promise.resolve(`${from} ${to} ${cents}`));
  same<Parameters<typeof transfer>, [from: string, to: string, cents: number]>(true);
  same<Awaited<ReturnType<typeof transfer>>, string | undefined>(true);
  class Account {
    balance = 0;
    @lock((_cents: number, of: string) => [of, { identifier: "rates", mode: "shared" }], { backend })
    async deposit(cents: number, of: string): Promise<string> {
      return await Promise.resolve(`${of} ${this.balance += cents}`);
    }
  }
  const refused = () => [
    // @ts-expect-error: any number may share it
    lock([{ identifier: "x", mode: "shared", limit: 5 }], { backend }),
    // @ts-expect-error: one alone is not asked for by an object
    lock({ identifier: "x", mode: "shared" }, { backend }),
    // @ts-expect-error: for the other forms, too
    Lock.acquire([{ identifier: "x", mode: "shared", permits: 5 }], { backend }),
  ];
  same<typeof refused extends () => unknown ? true : false, true>(true);
  const held = await lock(["x", rates], { backend }).acquire();
  same<ReturnType<typeof held.modeOf>, "exclusive" | "shared" | undefined>(true);
  assertEquals([held.modeOf("x"), held.modeOf("rates")], ["exclusive", "shared"]);
  await held.release();
  assertEquals([await both(1), await transfer("a", "b", 5), await new Account().deposit(5, "a")], [
    1,
    "a b 5",
    "a 5",
  ]);
});

Deno.test("types: what is handed over is text, and what is restored may be nothing", async () => {
  const held = await lock("x", { backend, label: null }).acquire();
  same<ReturnType<typeof held.handOver>, Promise<string>>(true);
  same<ReturnType<typeof held.extend>, Promise<void>>(true);
  const restored = await Lock.restore(await held.handOver({ leaseMs: 500 }), { backend, label: null });
  same<typeof restored, Lock | null>(true);
  const refused = () => [
    // @ts-expect-error: a claim says how the lock is held
    Lock.restore("claim", { backend, mode: "shared" }),
    // @ts-expect-error: it does not wait
    Lock.restore("claim", { backend, wait: true }),
    // @ts-expect-error: milliseconds
    held.extend("5 s"),
    // @ts-expect-error: an object
    held.handOver(500),
    // @ts-expect-error: a function
    held.onLate(new AbortController()),
  ];
  same<typeof refused extends () => unknown ? true : false, true>(true);
  held.onLate((leftMs) => same<typeof leftMs, number>(true));
  assertEquals([await restored?.release(), restored?.identifier], [true, "x"]);
});

Deno.test("types: commitIfHeld takes the entries and keys that Deno KV gives", async () => {
  const kv = await Deno.openKv(":memory:");
  const held = await lock("x", { backend: kvBackend(kv) }).acquire();
  await kv.set(["a"], 1);
  const entry = await kv.get<number>(["a"]);
  const { ok } = await commitIfHeld(
    held,
    (atomic) =>
      atomic.check(entry).set(entry.key, 2).mutate({ key: ["b"], type: "set", value: 3 }, {
        key: ["c"],
        type: "delete",
      })
        .enqueue("done", { delay: 100_000, keysIfUndelivered: [["d"]], backoffSchedule: [10] }),
  );
  assertEquals([ok, (await kv.get(["a"])).value, (await kv.get(["b"])).value], [true, 2, 3]);
  await held.release();
  kv.close();
});

Deno.test("types: identifiers from arguments, this, and methods", async () => {
  const charge = lock((user: string) => `charge:${user}`, { backend })(
    (user: string, cents: number) => `${user} ${cents}`,
  );
  same<Parameters<typeof charge>, [user: string, cents: number]>(true);
  // @ts-expect-error the identifier is made from an argument that the function does not take
  lock((user: string) => user, { backend })((cents: number) => cents);
  // @ts-expect-error there is nothing to make an identifier from
  void lock((user: string) => user, { backend }).run;

  class Account {
    balance = 0;
    @lock("deposit", { backend })
    async deposit(cents: number): Promise<number> {
      return await Promise.resolve(this.balance += cents);
    }
    // @ts-expect-error a method that can bail must say that it may return undefined
    @lock("deposit", { backend, wait: false })
    async hasty(): Promise<number> {
      return await Promise.resolve(this.balance);
    }
    // @ts-expect-error a method under a lock returns a promise
    @lock("deposit", { backend })
    immediate(): number {
      return this.balance;
    }
    @lock("deposit", { backend, wait: false })
    async careful(): Promise<number | undefined> {
      return await Promise.resolve(this.balance);
    }
    @lock((id: number) => `static ${id}`, { backend })
    static async of(id: number): Promise<number> {
      return await Promise.resolve(id);
    }
  }
  const account = new Account();
  assertEquals([await account.deposit(5), await account.careful(), await Account.of(7)], [5, 5, 7]);
  assertEquals(await charge("ada", 5), "ada 5");
});
