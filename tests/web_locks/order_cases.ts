// Modes, order, and what is available.
import { assert, rejectsAs } from "./asserts.ts";
import type { Case } from "./stage.ts";

const SHARED = { mode: "shared" } as const;

export const ORDER_CASES: readonly Case[] = [
  {
    says: "requests of one manager are granted in order",
    play: async (stage) => {
      const asks = ["1", "2", "3", "4"].map((mark) => stage.ask(stage.a, { mark }));
      for (const ask of asks) {
        await ask.granted;
        await ask.release();
      }
      assert.deepEqual(stage.order, ["1", "2", "3", "4"]);
    },
  },
  {
    says: "a1 a2 b3 are granted in that order",
    play: async (stage) => {
      const { a, b } = stage;
      const asks = await stage.askInOrder([a, { mark: "a1" }], [a, { mark: "a2" }], [b, { mark: "b3" }]);
      for (const ask of asks) {
        await ask.granted;
        await ask.release();
      }
      assert.deepEqual(stage.order, ["a1", "a2", "b3"]);
    },
  },
  {
    says: "and a1 b2 a3 b4 a5",
    play: async (stage) => {
      const { a, b } = stage;
      const asks = await stage.askInOrder(
        [a, { mark: "a1" }],
        [b, { mark: "b2" }],
        [a, { mark: "a3" }],
        [b, { mark: "b4" }],
        [a, { mark: "a5" }],
      );
      for (const ask of asks) {
        await ask.granted;
        await ask.release();
      }
      assert.deepEqual(stage.order, ["a1", "b2", "a3", "b4", "a5"]);
    },
  },
  {
    says: "an exclusive lock has one holder at a time",
    play: async ({ a, b, name }) => {
      let inside = 0;
      let most = 0;
      const work = async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 1));
        inside--;
      };
      await Promise.all(Array.from({ length: 12 }, (_, i) => (i % 2 > 0 ? a : b).request(name, work)));
      assert.equal(most, 1);
    },
  },
  {
    says: "different names have nothing to do with each other",
    play: async (stage) => {
      const one = await stage.hold(stage.a, { name: stage.name + " 1" });
      const two = await stage.hold(stage.b, { name: stage.name + " 2" });
      assert.deepEqual([one.isOver, two.isOver], [false, false]);
    },
  },
  {
    says: "a request made while a lock is released goes behind those that wait",
    play: async (stage) => {
      const { a, b } = stage;
      const [first, second] = await stage.askInOrder([a, { mark: "1" }], [b, { mark: "2" }]);
      const releasing = first.release();
      const third = stage.ask(a, { mark: "3" });
      await releasing;
      await second.granted;
      await second.release();
      await third.granted;
      assert.deepEqual(stage.order, ["1", "2", "3"]);
    },
  },
  {
    says: "a shared lock may have several holders",
    play: async (stage) => {
      await Promise.all([stage.hold(stage.a, SHARED), stage.hold(stage.a, SHARED)]);
      assert.equal(await stage.modes(), "ss|");
    },
  },
  {
    says: "of several managers",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      await stage.hold(stage.b, SHARED);
      await stage.hold(stage.a, SHARED);
      assert.equal(await stage.modes(), "sss|");
    },
  },
  {
    says: "ten at once",
    play: async (stage) => {
      const holds = Array.from({ length: 10 }, (_, i) => stage.hold(i % 2 > 0 ? stage.a : stage.b, SHARED));
      await Promise.all(holds);
      assert.equal(await stage.modes(), "ssssssssss|");
    },
  },
  {
    says: "an exclusive request waits until all that share the lock have left",
    play: async (stage) => {
      const [one, two] = [await stage.hold(stage.a, SHARED), await stage.hold(stage.b, SHARED)];
      const writer = stage.ask(stage.a);
      assert.equal(await stage.modes(), "ss|x");
      await one.release();
      assert.equal(await stage.modes(), "s|x");
      assert.equal(writer.isGranted, false);
      await two.release();
      await writer.granted;
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "shared requests wait for an exclusive holder, and are then granted together",
    play: async (stage) => {
      const writer = await stage.hold(stage.a);
      const readers = await stage.askInOrder([stage.a, SHARED], [stage.b, SHARED], [stage.a, SHARED]);
      assert.equal(await stage.modes(), "x|sss");
      await writer.release();
      await Promise.all(readers.map(({ granted }) => granted));
      assert.equal(await stage.modes(), "sss|");
    },
  },
  {
    says: "a shared request does not go past an exclusive one that waits",
    play: async (stage) => {
      const reader = await stage.hold(stage.a, SHARED);
      const [writer, late] = await stage.askInOrder([stage.a, {}], [stage.a, SHARED]);
      assert.equal(await stage.modes(), "s|xs");
      await reader.release();
      await writer.granted;
      assert.equal(late.isGranted, false);
      await writer.release();
      await late.granted;
    },
  },
  {
    says: "of another manager neither",
    play: async (stage) => {
      const reader = await stage.hold(stage.a, SHARED);
      const [writer, late] = await stage.askInOrder([stage.b, {}], [stage.a, SHARED]);
      assert.equal(await stage.modes(), "s|xs");
      await reader.release();
      await writer.granted;
      assert.equal(late.isGranted, false);
      await writer.release();
      await late.granted;
    },
  },
  {
    says: "shared and exclusive requests of both managers are granted in order, neighbours together",
    play: async (stage) => {
      const { a, b } = stage;
      const holder = await stage.hold(a, { mark: "x0" });
      const [s1, s2, x3, s4, s5, x6] = await stage.askInOrder(
        [a, { ...SHARED, mark: "s1" }],
        [b, { ...SHARED, mark: "s2" }],
        [a, { mark: "x3" }],
        [b, { ...SHARED, mark: "s4" }],
        [a, { ...SHARED, mark: "s5" }],
        [b, { mark: "x6" }],
      );
      assert.equal(await stage.modes(), "x|ssxssx");
      await holder.release();
      await Promise.all([s1.granted, s2.granted]);
      assert.equal(await stage.modes(), "ss|xssx");
      await Promise.all([s1.release(), s2.release()]);
      await x3.granted;
      assert.equal(await stage.modes(), "x|ssx");
      await x3.release();
      await Promise.all([s4.granted, s5.granted]);
      assert.equal(await stage.modes(), "ss|x");
      await Promise.all([s4.release(), s5.release()]);
      await x6.granted;
      assert.deepEqual(stage.order.map((mark) => mark[0]).join(""), "xssxssx");
    },
  },
  {
    says: "shared requests of one manager are parted by an exclusive one of the other",
    play: async (stage) => {
      const { a, b } = stage;
      const holder = await stage.hold(a);
      const [first, writer, last] = await stage.askInOrder([a, SHARED], [b, {}], [a, SHARED]);
      await holder.release();
      await first.granted;
      assert.equal(await stage.modes(), "s|xs");
      assert.deepEqual([writer.isGranted, last.isGranted], [false, false]);
    },
  },
  {
    says: "when an exclusive request is given up, the shared ones behind it join the holders",
    play: async (stage) => {
      const controller = new AbortController();
      await stage.hold(stage.a, SHARED);
      const [, mine, other] = await stage.askInOrder(
        [stage.a, { signal: controller.signal }],
        [stage.a, SHARED],
        [stage.b, SHARED],
      );
      assert.equal(await stage.modes(), "s|xss");
      controller.abort();
      await Promise.all([mine.granted, other.granted]);
      assert.equal(await stage.modes(), "sss|");
    },
  },

  // What is available.
  {
    says: "a lock that is free is available",
    play: async ({ a, name }) =>
      assert.equal(await a.request(name, { ifAvailable: true }, (lock) => lock!.name), name),
  },
  {
    says: "one that is held is not",
    play: async (stage) => {
      await stage.hold(stage.a);
      for (const manager of [stage.a, stage.b]) {
        assert.equal(await manager.request(stage.name, { ifAvailable: true }, (lock) => lock), null);
      }
    },
  },
  {
    says: "what the callback makes of null is the result",
    play: async (stage) => {
      await stage.hold(stage.a);
      const reason = new Error("not available");
      const options = { ifAvailable: true };
      assert.equal(await stage.b.request(stage.name, options, () => Promise.resolve(123)), 123);
      await rejectsAs(stage.b.request(stage.name, options, () => Promise.reject(reason)), reason);
      const throws = () => {
        throw reason;
      };
      await rejectsAs(stage.b.request(stage.name, options, throws), reason);
    },
  },
  {
    says: "a callback that gets null is not called before the request has returned either",
    play: async (stage) => {
      await stage.hold(stage.a);
      let hasReturned = false;
      const request = stage.a.request(stage.name, { ifAvailable: true }, () => hasReturned);
      hasReturned = true;
      assert.equal(await request, true);
    },
  },
  {
    says: "a shared lock is available next to others that share it",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      for (const manager of [stage.a, stage.b]) {
        const mode = await manager.request(
          stage.name,
          { ...SHARED, ifAvailable: true },
          (lock) => lock?.mode,
        );
        assert.equal(mode, "shared");
      }
    },
  },
  {
    says: "but not next to an exclusive holder",
    play: async (stage) => {
      await stage.hold(stage.a);
      for (const manager of [stage.a, stage.b]) {
        assert.equal(
          await manager.request(stage.name, { ...SHARED, ifAvailable: true }, (lock) => lock),
          null,
        );
      }
    },
  },
  {
    says: "nor an exclusive one next to those that share it",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      for (const manager of [stage.a, stage.b]) {
        assert.equal(await manager.request(stage.name, { ifAvailable: true }, (lock) => lock), null);
      }
    },
  },
  {
    says: "a shared lock is not available while an exclusive request waits",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      stage.ask(stage.b);
      assert.equal(await stage.modes(stage.b), "s|x");
      for (const manager of [stage.a, stage.b]) {
        assert.equal(
          await manager.request(stage.name, { ...SHARED, ifAvailable: true }, (lock) => lock),
          null,
        );
      }
    },
  },
  {
    says: "nor if that was made in the same moment before it",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      const writer = stage.ask(stage.a);
      assert.equal(
        await stage.a.request(stage.name, { ...SHARED, ifAvailable: true }, (lock) => lock),
        null,
      );
      assert.equal(writer.isGranted, false);
    },
  },
  {
    says: "one that was not available does not wait",
    play: async (stage) => {
      const holder = await stage.hold(stage.a);
      const ask = await stage.hold(stage.b, { ifAvailable: true });
      assert.equal(await ask.granted, null);
      assert.equal(await stage.modes(), "x|");
      await holder.release();
      assert.equal(await stage.modes(), "|");
    },
  },
  {
    says: "its callback holds up no other",
    play: async (stage) => {
      const holder = await stage.hold(stage.a);
      const ask = await stage.hold(stage.b, { ifAvailable: true });
      await holder.release();
      assert.equal(await stage.a.request(stage.name, (lock) => lock!.name), stage.name);
      assert.equal(ask.isOver, false);
    },
  },
  {
    says: "of two that ask at once one gets the lock",
    play: async (stage) => {
      const asks = [stage.ask(stage.a, { ifAvailable: true }), stage.ask(stage.b, { ifAvailable: true })];
      const locks = await Promise.all(asks.map(({ granted }) => granted));
      assert.equal(locks.filter((lock) => lock !== null).length, 1);
    },
  },
  {
    says: "of two of one manager the first",
    play: async (stage) => {
      const asks = [stage.ask(stage.a, { ifAvailable: true }), stage.ask(stage.a, { ifAvailable: true })];
      const locks = await Promise.all(asks.map(({ granted }) => granted));
      assert.deepEqual(locks.map((lock) => lock !== null), [true, false]);
    },
  },
  {
    says: "what was available is held as any other lock",
    play: async (stage) => {
      const holder = await stage.hold(stage.a, { ifAvailable: true });
      const next = stage.ask(stage.b);
      assert.equal(await stage.modes(stage.b), "x|x");
      assert.equal(next.isGranted, false);
      await holder.release();
      await next.granted;
    },
  },
];
