// Signals that abort, before, while and after; and stealing, and what becomes of the old promise.
import { assert, never, rejectsAs, rejectsDom } from "./asserts.ts";
import type { Case, Stage } from "./stage.ts";

const SHARED = { mode: "shared" } as const;

export const SIGNAL_CASES: readonly Case[] = [
  {
    says: "a signal that has aborted is refused",
    play: ({ a, name }) => rejectsDom(a.request(name, { signal: AbortSignal.abort() }, never), "AbortError"),
  },
  {
    says: "with the reason of that",
    play: async ({ a, name }) => {
      for (const reason of [new Error("own"), "text", 0, null]) {
        await rejectsAs(a.request(name, { signal: AbortSignal.abort(reason) }, never), reason);
      }
    },
  },
  {
    says: "and leaves nothing behind",
    play: async (stage) => {
      await stage.a.request(stage.name, { signal: AbortSignal.abort() }, never).catch(() => {});
      assert.equal(await stage.modes(), "|");
    },
  },
  {
    says: "a request that waits is given up when its signal aborts",
    play: async (stage) => {
      await stage.hold(stage.b);
      const controller = new AbortController();
      const ask = stage.ask(stage.a, { signal: controller.signal });
      assert.equal(await stage.modes(), "x|x");
      controller.abort();
      await rejectsDom(ask.outcome, "AbortError");
      assert.equal(ask.isGranted, false);
    },
  },
  {
    says: "with its reason",
    play: (stage) => rejectsWithEach(stage, [new Error("own"), "text"]),
  },
  {
    says: "even if that is false, or nothing",
    play: (stage) => rejectsWithEach(stage, [false, 0, "", null]),
  },
  {
    says: "a time limit is a TimeoutError",
    play: async (stage) => {
      await stage.hold(stage.b);
      // A limit that is not referred to may be collected.
      const signal = AbortSignal.timeout(5);
      await rejectsDom(stage.ask(stage.a, { signal }).outcome, "TimeoutError");
      assert.equal(signal.aborted, true);
    },
  },
  {
    says: "what is given up waits no more",
    play: async (stage) => {
      await stage.hold(stage.b);
      const controller = new AbortController();
      const ask = stage.ask(stage.a, { signal: controller.signal });
      assert.equal(await stage.modes(), "x|x");
      controller.abort();
      await ask.outcome.catch(() => {});
      // The store may have to be asked.
      while (await stage.modes() !== "x|") await new Promise((resolve) => setTimeout(resolve, 1));
    },
  },
  {
    says: "its callback is never called",
    play: async (stage) => {
      const holder = await stage.hold(stage.b);
      const controller = new AbortController();
      const ask = stage.ask(stage.a, { signal: controller.signal });
      await stage.a.query();
      controller.abort();
      await holder.release();
      await stage.a.request(stage.name, () => {});
      assert.equal(ask.isGranted, false);
    },
  },
  {
    says: "a signal may abort in the moment of the request",
    play: async (stage) => {
      const controller = new AbortController();
      const ask = stage.ask(stage.a, { signal: controller.signal });
      controller.abort("at once");
      await rejectsAs(ask.outcome, "at once");
      assert.equal(ask.isGranted, false);
      // Nothing keeps the lock from others.
      assert.equal(await stage.b.request(stage.name, (lock) => lock!.name), stage.name);
    },
  },
  {
    says: "those behind one that is given up go on",
    play: async (stage) => {
      const holder = await stage.hold(stage.b);
      const controller = new AbortController();
      const [first, second] = await stage.askInOrder([stage.a, { signal: controller.signal }], [stage.a, {}]);
      controller.abort();
      await first.outcome.catch(() => {});
      assert.equal(second.isGranted, false);
      await holder.release();
      await second.granted;
    },
  },
  {
    says: "those before it do not notice",
    play: async (stage) => {
      const holder = await stage.hold(stage.b);
      const controller = new AbortController();
      const [first, second] = await stage.askInOrder([stage.a, {}], [stage.a, { signal: controller.signal }]);
      controller.abort();
      await second.outcome.catch(() => {});
      await holder.release();
      await first.granted;
      assert.equal(holder.isOver, true);
    },
  },
  {
    says: "one signal may be that of several requests",
    play: async (stage) => {
      await stage.hold(stage.b);
      const { signal, abort } = withAbort();
      const asks = [
        stage.ask(stage.a, { signal }),
        stage.ask(stage.b, { signal }),
        stage.ask(stage.a, { signal }),
      ];
      await stage.a.query();
      abort("all");
      await Promise.all(asks.map(({ outcome }) => rejectsAs(outcome, "all")));
    },
  },
  {
    says: "a signal that aborts when the lock is held changes nothing",
    play: async (stage) => {
      const { signal, abort } = withAbort();
      const ask = await stage.hold(stage.a, { signal });
      abort("too late");
      assert.equal(await stage.modes(), "x|");
      assert.equal(ask.isOver, false);
      await ask.release("done");
      assert.equal(await ask.outcome, "done");
    },
  },
  {
    says: "nor one that aborts inside the callback",
    play: async ({ a, name }) => {
      const { signal, abort } = withAbort();
      const result = a.request(name, { signal }, () => {
        abort("inside");
        return "done";
      });
      assert.equal(await result, "done");
    },
  },
  {
    says: "nor one that aborts when the lock is released",
    play: async (stage) => {
      const { signal, abort } = withAbort();
      const ask = await stage.hold(stage.a, { signal });
      await ask.release("done");
      abort("too late");
      assert.equal(await ask.outcome, "done");
      assert.equal(await stage.modes(), "|");
    },
  },
  {
    says: "a signal that does not abort changes nothing",
    play: async ({ a, name }) => {
      const { signal } = withAbort();
      assert.equal(await a.request(name, { signal }, () => 1), 1);
      assert.equal(await a.request(name, { signal, mode: "shared" }, () => 2), 2);
    },
  },
];

export const STEAL_CASES: readonly Case[] = [
  {
    says: "a lock that is free is granted to one that steals",
    play: async ({ a, name }) =>
      assert.equal(await a.request(name, { steal: true }, (lock) => lock!.name), name),
  },
  {
    says: "so is one that is held",
    play: async (stage) => {
      await stage.hold(stage.a);
      const mode = await stage.a.request(stage.name, { steal: true }, (lock) => lock!.mode);
      assert.equal(mode, "exclusive");
    },
  },
  {
    says: "by another manager, too",
    play: async (stage) => {
      await stage.hold(stage.b);
      assert.equal(await stage.a.request(stage.name, { steal: true }, (lock) => lock!.name), stage.name);
    },
  },
  {
    says: "the request whose lock was stolen rejects with an AbortError",
    play: async (stage) => {
      const victim = await stage.hold(stage.a);
      await stage.a.request(stage.name, { steal: true }, () => {});
      await rejectsDom(victim.outcome, "AbortError");
    },
  },
  {
    says: "that of another manager, too",
    play: async (stage) => {
      const victim = await stage.hold(stage.b);
      await stage.hold(stage.a, { steal: true });
      await rejectsDom(victim.outcome, "AbortError");
    },
  },
  {
    says: "it rejects while its callback still runs",
    play: async (stage) => {
      let isOver = false;
      let end = () => {};
      const running = new Promise<void>((resolve) => end = resolve).then(() => isOver = true);
      let enter = () => {};
      const inside = new Promise<void>((resolve) => enter = resolve);
      const victim = stage.a.request(stage.name, () => {
        enter();
        return running;
      });
      await inside;
      await stage.hold(stage.a, { steal: true });
      await rejectsDom(victim, "AbortError");
      assert.equal(isOver, false);
      end();
    },
  },
  {
    says: "what its callback comes to changes nothing any more",
    play: async (stage) => {
      for (const ends of ["release", "fail"] as const) {
        const victim = await stage.hold(stage.a);
        const stealer = await stage.hold(stage.a, { steal: true });
        await victim[ends](new Error("late"));
        await rejectsDom(victim.outcome, "AbortError");
        assert.equal(await stage.modes(), "x|");
        assert.equal(stealer.isOver, false);
        await stealer.release();
      }
    },
  },
  {
    says: "all that share a lock lose it",
    play: async (stage) => {
      const victims = [
        await stage.hold(stage.a, SHARED),
        await stage.hold(stage.b, SHARED),
        await stage.hold(stage.a, SHARED),
      ];
      await stage.hold(stage.a, { steal: true });
      assert.equal(await stage.modes(), "x|");
      await Promise.all(victims.map(({ outcome }) => rejectsDom(outcome, "AbortError")));
    },
  },
  {
    says: "what was stolen is held as any other lock",
    play: async (stage) => {
      await stage.hold(stage.a);
      const stealer = await stage.hold(stage.a, { steal: true });
      const next = stage.ask(stage.b);
      assert.equal(await stage.modes(stage.b), "x|x");
      assert.equal(next.isGranted, false);
      await stealer.release("mine");
      assert.equal(await stealer.outcome, "mine");
      await next.granted;
    },
  },
  {
    says: "it is not available to others",
    play: async (stage) => {
      await stage.hold(stage.a);
      await stage.hold(stage.a, { steal: true });
      assert.equal(await stage.b.request(stage.name, { ifAvailable: true }, (lock) => lock), null);
    },
  },
  {
    says: "one that steals goes before those that wait",
    play: async (stage) => {
      await stage.hold(stage.a, { mark: "holder" });
      const [first, second] = await stage.askInOrder([stage.a, { mark: "1" }], [stage.b, { mark: "2" }]);
      const stealer = await stage.hold(stage.a, { steal: true, mark: "stealer" });
      assert.equal(await stage.modes(), "x|xx");
      assert.deepEqual([first.isGranted, second.isGranted], [false, false]);
      await stealer.release();
      await first.granted;
      await first.release();
      await second.granted;
      assert.deepEqual(stage.order, ["holder", "stealer", "1", "2"]);
    },
  },
  {
    says: "and leaves them waiting, in their order",
    play: async (stage) => {
      await stage.hold(stage.a);
      const asks = await stage.askInOrder([stage.b, SHARED], [stage.a, {}], [stage.b, SHARED]);
      await stage.hold(stage.b, { steal: true });
      assert.equal(await stage.modes(), "x|sxs");
      assert.deepEqual(asks.map(({ isOver }) => isOver), [false, false, false]);
    },
  },
  {
    says: "what was stolen can be stolen",
    play: async (stage) => {
      await stage.hold(stage.a);
      const first = await stage.hold(stage.a, { steal: true });
      const second = await stage.hold(stage.b, { steal: true });
      await rejectsDom(first.outcome, "AbortError");
      assert.equal(await stage.modes(stage.b), "x|");
      await second.release("kept");
      assert.equal(await second.outcome, "kept");
    },
  },
  {
    says: "of two that steal in the same moment the second has the lock in the end",
    play: async (stage) => {
      await stage.hold(stage.a);
      const first = stage.ask(stage.a, { steal: true, mark: "first" });
      const second = stage.ask(stage.a, { steal: true, mark: "second" });
      await second.granted;
      await rejectsDom(first.outcome, "AbortError");
      assert.equal(second.isOver, false);
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "even if they steal from another manager",
    play: async (stage) => {
      const victim = await stage.hold(stage.b);
      const first = stage.ask(stage.a, { steal: true });
      const second = stage.ask(stage.a, { steal: true });
      await second.granted;
      await rejectsDom(first.outcome, "AbortError");
      await rejectsDom(victim.outcome, "AbortError");
      assert.equal(second.isOver, false);
    },
  },
  {
    says: "locks of other names are not stolen",
    play: async (stage) => {
      const other = await stage.hold(stage.a, { name: stage.name + " other" });
      await stage.hold(stage.a, { steal: true });
      await stage.a.query();
      assert.equal(other.isOver, false);
    },
  },
  {
    says: "a request that waits cannot be stolen from",
    play: async (stage) => {
      await stage.hold(stage.a);
      const waiting = stage.ask(stage.b);
      await stage.b.query();
      const stealer = await stage.hold(stage.a, { steal: true });
      await stealer.release();
      await waiting.granted;
      await waiting.release("mine");
      assert.equal(await waiting.outcome, "mine");
    },
  },
  {
    says: "a signal of the evicted holder changes nothing",
    play: async (stage) => {
      const { signal, abort } = withAbort();
      const victim = await stage.hold(stage.a, { signal });
      await stage.hold(stage.a, { steal: true });
      abort("too late");
      await rejectsDom(victim.outcome, "AbortError");
    },
  },
];

/** A request that waits is given up for each of these reasons. */
async function rejectsWithEach(stage: Stage, reasons: readonly unknown[]): Promise<void> {
  await stage.hold(stage.b);
  for (const reason of reasons) {
    const { signal, abort } = withAbort();
    const ask = stage.ask(stage.a, { signal });
    await stage.a.query();
    abort(reason);
    await rejectsAs(ask.outcome, reason);
  }
}

function withAbort(): { readonly signal: AbortSignal; abort(reason: unknown): void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: (reason) => controller.abort(reason) };
}
