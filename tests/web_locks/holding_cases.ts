// Callbacks: with what they are called, what comes of their results, and for how long the lock is held.
import type { GrantedLock } from "../../web_locks.ts";
import { assert, rejectsAs } from "./asserts.ts";
import type { Case } from "./stage.ts";

export const HOLDING_CASES: readonly Case[] = [
  {
    says: "a callback gets a lock that says its name and mode",
    play: async ({ a, name }) => {
      await a.request(name, (lock) => assert.deepEqual([lock!.name, lock!.mode], [name, "exclusive"]));
      await a.request(name, { mode: "exclusive" }, (lock) => assert.equal(lock!.mode, "exclusive"));
      await a.request(name, { mode: "shared" }, (lock) => assert.equal(lock!.mode, "shared"));
    },
  },
  {
    says: "the lock says what it is",
    play: ({ a, name }) => a.request(name, (lock) => assert.equal(String(lock), "[object Lock]")),
  },
  {
    says: "its name and mode cannot be changed",
    play: ({ a, name }) =>
      a.request(name, (lock) => {
        const loose = lock as { name: string; mode: string };
        assert.throws(() => loose.name = "other", TypeError);
        assert.throws(() => loose.mode = "shared", TypeError);
      }),
  },
  {
    says: "they can be read when the lock is released",
    play: async ({ a, name }) => {
      const lock = await a.request(name, { mode: "shared" }, (lock) => lock);
      assert.deepEqual([lock!.name, lock!.mode], [name, "shared"]);
    },
  },
  {
    says: "each grant is another lock",
    play: async ({ a, name }) => {
      const first = await a.request(name, (lock) => lock);
      assert.notEqual(await a.request(name, (lock) => lock), first);
    },
  },
  {
    says: "a callback is called once, with one argument and no this",
    play: async ({ a, name }) => {
      const calls: unknown[][] = [];
      const callback = function (this: unknown, ...args: unknown[]) {
        calls.push([this, args.length]);
      };
      await a.request(name, callback as (lock: GrantedLock | null) => void);
      assert.deepEqual(calls, [[undefined, 1]]);
    },
  },
  {
    says: "it is not called before the request has returned",
    play: async ({ a, name }) => {
      let hasReturned = false;
      const request = a.request(name, () => hasReturned);
      hasReturned = true;
      assert.equal(await request, true);
    },
  },
  {
    says: "what it returns is the result",
    play: async ({ a, name }) => assert.equal(await a.request(name, () => 123), 123),
  },
  {
    says: "undefined, too",
    play: async ({ a, name }) => assert.equal(await a.request(name, () => {}), undefined),
  },
  {
    says: "what its promise resolves to is the result",
    play: async ({ a, name }) => assert.equal(await a.request(name, () => Promise.resolve(123)), 123),
  },
  {
    says: "what it returns may be any thenable",
    play: async ({ a, name }) => {
      // deno-lint-ignore no-explicit-any
      const thenable = { then: (resolve: any) => void setTimeout(resolve, 1, 123) } as unknown as Promise<
        number
      >;
      assert.equal(await a.request(name, () => thenable), 123);
    },
  },
  {
    says: "the lock is held until a thenable resolves",
    play: async (stage) => {
      let end = (_: unknown) => {};
      const thenable = { then: (resolve: (value: unknown) => void) => void (end = resolve) };
      const first = stage.a.request(stage.name, () => thenable as unknown as Promise<unknown>);
      assert.equal(await stage.modes(), "x|");
      const second = stage.ask(stage.a);
      assert.equal(await stage.modes(), "x|x");
      assert.equal(second.isGranted, false);
      end(123);
      assert.equal(await first, 123);
      await second.granted;
    },
  },
  {
    says: "what it throws is what the request rejects with",
    play: async ({ a, name }) => {
      const reason = new Error("thrown");
      const request = a.request(name, () => {
        throw reason;
      });
      await rejectsAs(request, reason);
    },
  },
  {
    says: "what its promise rejects with, too",
    play: async ({ a, name }) => {
      const reason = new Error("rejected");
      await rejectsAs(a.request(name, () => Promise.reject(reason)), reason);
    },
  },
  {
    says: "even if that is undefined",
    play: ({ a, name }) => rejectsAs(a.request(name, () => Promise.reject(undefined)), undefined),
  },
  {
    says: "the lock is held until the promise resolves",
    play: async (stage) => {
      const first = await stage.hold(stage.a, { mark: "first" });
      const second = stage.ask(stage.b, { mark: "second" });
      assert.equal(await stage.modes(stage.b), "x|x");
      assert.equal(second.isGranted, false);
      await first.release();
      await second.granted;
      assert.deepEqual(stage.order, ["first", "second"]);
    },
  },
  {
    says: "or rejects",
    play: async (stage) => {
      const first = await stage.hold(stage.a);
      const second = stage.ask(stage.b);
      assert.equal(await stage.modes(stage.b), "x|x");
      assert.equal(second.isGranted, false);
      await first.fail(new Error("the callback's own"));
      await second.granted;
    },
  },
  {
    says: "a callback that returns no promise holds the lock while it runs",
    play: async ({ a, b, name }) => {
      let isInside = false;
      const enter = () => {
        assert.equal(isInside, false);
        isInside = true;
        isInside = false;
        return true;
      };
      assert.deepEqual(await Promise.all([a.request(name, enter), b.request(name, enter)]), [true, true]);
    },
  },
  {
    says: "when the request resolves the lock is free",
    play: async ({ a, b, name }) => {
      await a.request(name, async () => {});
      assert.equal(await b.request(name, { ifAvailable: true }, (lock) => lock?.name), name);
    },
  },
  {
    says: "and when it rejects",
    play: async ({ a, b, name }) => {
      await a.request(name, () => Promise.reject(new Error("the callback's own"))).catch(() => {});
      assert.equal(await b.request(name, { ifAvailable: true }, (lock) => lock?.name), name);
    },
  },
  {
    says: "a request has not settled while its callback runs",
    play: async (stage) => {
      const held = await stage.hold(stage.a);
      await stage.a.query();
      assert.equal(held.isOver, false);
      await held.release("done");
      assert.equal(await held.outcome, "done");
    },
  },
  {
    says: "a callback may ask for other locks",
    play: async ({ a, name }) => {
      const inner = (lock: GrantedLock | null) => lock!.name;
      const both = await a.request(name, async (lock) => [
        lock!.name,
        await a.request(name + " inner", inner),
      ]);
      assert.deepEqual(both, [name, name + " inner"]);
    },
  },
  {
    says: "a callback that asks for its own lock waits for itself",
    play: async (stage) => {
      const inner = await stage.a.request(stage.name, async () => {
        const ask = stage.ask(stage.a);
        assert.equal(await stage.modes(), "x|x");
        assert.equal(ask.isGranted, false);
        return [ask];
      });
      await inner[0].granted;
    },
  },
  {
    says: "one that asks whether its own lock is available finds that it is not",
    play: async ({ a, name }) => {
      const inner = await a.request(name, () => a.request(name, { ifAvailable: true }, (lock) => lock));
      assert.equal(inner, null);
    },
  },
  {
    says: "a request that a callback makes, and does not wait for, is granted when it has ended",
    play: async (stage) => {
      let inner: Promise<string> | undefined;
      await stage.a.request(stage.name, () => {
        inner = stage.a.request(stage.name, () => "inner");
      });
      assert.equal(await inner, "inner");
    },
  },
];
