// What `query` shows, and in which order; and which strings are names.
import { assert } from "./asserts.ts";
import type { Case } from "./stage.ts";

const SHARED = { mode: "shared" } as const;

export const QUERY_CASES: readonly Case[] = [
  {
    says: "nothing is shown of a lock that no caller wants",
    play: async (stage) => assert.deepEqual(await stage.query(), { held: [], pending: [] }),
  },
  {
    says: "what is held is shown with its name, its mode and whose it is",
    play: async (stage) => {
      await stage.hold(stage.a);
      const { held: [lock], pending } = await stage.query();
      assert.deepEqual([lock.name, lock.mode, typeof lock.clientId], [stage.name, "exclusive", "string"]);
      assert.notEqual(lock.clientId, "");
      assert.deepEqual(pending, []);
    },
  },
  {
    says: "to the other manager, too",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      const [mine, others] = [await stage.query(stage.a), await stage.query(stage.b)];
      assert.deepEqual(mine, others);
      assert.equal(mine.held.length, 1);
    },
  },
  {
    says: "each that shares a lock is shown",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      await stage.hold(stage.a, SHARED);
      await stage.hold(stage.b, SHARED);
      assert.equal(await stage.modes(), "sss|");
    },
  },
  {
    says: "what waits is shown in the same way",
    play: async (stage) => {
      await stage.hold(stage.a);
      stage.ask(stage.a);
      const { pending: [request] } = await stage.query();
      assert.deepEqual([request.name, request.mode, typeof request.clientId], [
        stage.name,
        "exclusive",
        "string",
      ]);
    },
  },
  {
    says: "each request of a manager, in the order in which they were made",
    play: async (stage) => {
      await stage.hold(stage.a);
      for (const options of [SHARED, {}, {}, SHARED, {}]) stage.ask(stage.a, options);
      assert.equal(await stage.modes(), "x|sxxsx");
    },
  },
  {
    says: "those of several managers, too",
    play: async (stage) => {
      const { a, b } = stage;
      await stage.hold(a);
      await stage.askInOrder([b, SHARED], [a, {}], [a, SHARED], [b, {}], [a, SHARED]);
      assert.equal(await stage.modes(a), "x|sxsxs");
      assert.equal(await stage.modes(b), "x|sxsxs");
    },
  },
  {
    says: "and in another order, in that",
    play: async (stage) => {
      const { a, b } = stage;
      await stage.hold(b);
      await stage.askInOrder([a, {}], [b, {}], [a, SHARED], [b, SHARED], [b, {}]);
      assert.equal(await stage.modes(a), "x|xxssx");
    },
  },
  {
    says: "a request that was just made is shown as held, if it can be",
    play: async (stage) => {
      stage.ask(stage.a);
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "or as waiting",
    play: async (stage) => {
      stage.ask(stage.a);
      stage.ask(stage.a);
      stage.ask(stage.a, SHARED);
      assert.equal(await stage.modes(), "x|xs");
    },
  },
  {
    says: "a callback sees its own lock",
    play: async (stage) => {
      const modes = await stage.a.request(stage.name, () => stage.modes());
      assert.equal(modes, "x|");
    },
  },
  {
    says: "what waited is shown as held when it is granted",
    play: async (stage) => {
      const first = await stage.hold(stage.a);
      const second = stage.ask(stage.b, SHARED);
      assert.equal(await stage.modes(stage.b), "x|s");
      await first.release();
      await second.granted;
      assert.equal(await stage.modes(), "s|");
    },
  },
  {
    says: "what is released is shown no more",
    play: async (stage) => {
      const hold = await stage.hold(stage.a);
      await hold.release();
      assert.equal(await stage.modes(stage.b), "|");
    },
  },
  {
    says: "nor what was stolen",
    play: async (stage) => {
      await stage.hold(stage.a, SHARED);
      await stage.hold(stage.b, { steal: true });
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "nor what was not available",
    play: async (stage) => {
      await stage.hold(stage.a);
      await stage.hold(stage.a, { ifAvailable: true });
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "locks of one manager say the same of whose they are",
    play: async (stage) => {
      await stage.hold(stage.a, { name: stage.name + " 1" });
      await stage.hold(stage.a, { name: stage.name + " 2" });
      stage.ask(stage.a, { name: stage.name + " 2" });
      const [one, two] = [
        await stage.query(stage.a, stage.name + " 1"),
        await stage.query(stage.a, stage.name + " 2"),
      ];
      const ids = [...one.held, ...two.held, ...two.pending].map(({ clientId }) => clientId);
      assert.equal(ids.length, 3);
      assert.equal(new Set(ids).size, 1);
    },
  },
  {
    says: "locks of several names are shown together",
    play: async (stage) => {
      await stage.hold(stage.a, { name: stage.name + " 1" });
      await stage.hold(stage.b, { name: stage.name + " 2", mode: "shared" });
      const { held } = await stage.a.query();
      const mine = held.filter(({ name }) => name.startsWith(stage.name)).map(({ name, mode }) =>
        `${name.at(-1)} ${mode}`
      );
      assert.deepEqual(mine.sort(), ["1 exclusive", "2 shared"]);
    },
  },
  {
    says: "each snapshot stands for itself",
    play: async (stage) => {
      await stage.hold(stage.a);
      const first = await stage.a.query();
      first.held.length = 0;
      assert.equal(await stage.modes(), "x|");
    },
  },
  {
    says: "a snapshot is plain data",
    play: async (stage) => {
      await stage.hold(stage.a);
      stage.ask(stage.a);
      const snapshot = await stage.a.query();
      assert.equal(Object.getPrototypeOf(snapshot), Object.prototype);
      assert.equal(Array.isArray(snapshot.held) && Array.isArray(snapshot.pending), true);
      const mine = snapshot.held.find(({ name }) => name === stage.name)!;
      const { name, mode, clientId } = structuredClone(mine);
      assert.deepEqual(JSON.parse(JSON.stringify(mine)), { name, mode, clientId });
    },
  },
];

/** Strings that are all different names. */
const NAMES: Readonly<Record<string, string>> = {
  "the empty string": "",
  "a space": " ",
  "a NUL inside": "abc\x00def",
  "quotes and slashes": `'"\`/\\`,
  "a lone high surrogate": "\uD800",
  "a lone low surrogate": "\uDC00",
  "a swapped pair of surrogates": "\uDC00\uD800",
  "a pair of surrogates": "\uD800\uDC00",
  "the replacement character": "\uFFFD",
  "what is no character": "\uFFFF",
  "an emoji of several characters": "👩‍👩‍👧",
  "a letter with a mark": "\u00E9",
  "the same letter and mark apart": "e\u0301",
  "capitals": "NAME",
  "the same in small": "name",
  "what looks like an escape": "%0023",
  "what that stands for": "#",
  "the end of a queue's key": "name#queue",
  "the name of a method": "constructor",
  "the name of a prototype": "__proto__",
  "a date that looks like a path": "2026/11/26",
  "a name of 1 000 characters": "x".repeat(1000),
  "the same with another end": "x".repeat(999) + "y",
  "many characters that are no ASCII": "é".repeat(400),
};

export const NAME_CASES: readonly Case[] = [
  ...Object.entries(NAMES).map(([what, name]): Case => ({
    says: `a name may be ${what}`,
    play: async ({ a }) => {
      await a.request(name, async (lock) => {
        assert.equal(lock!.name, name);
        const { held } = await a.query();
        assert.equal(held.filter((info) => info.name === name).length, 1);
      });
    },
  })),
  {
    says: "all of these are different names",
    play: async (stage) => {
      const names = Object.values(NAMES);
      const held = await Promise.all(names.map((name) => stage.hold(stage.a, { name })));
      assert.deepEqual(held.map(({ isOver }) => isOver), names.map(() => false));
      const { held: shown } = await stage.a.query();
      for (const name of names) assert.equal(shown.filter((info) => info.name === name).length, 1, name);
    },
  },
  {
    says: "and each is the same lock for both managers",
    play: async (stage) => {
      for (const name of Object.values(NAMES)) {
        await stage.a.request(name, async () => {
          assert.equal(await stage.b.request(name, { ifAvailable: true }, (lock) => lock), null);
        });
      }
    },
  },
];
