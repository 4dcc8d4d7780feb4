// Arguments: how they are converted, and what is refused with which error.
import type { GrantedLock, LockManager } from "../../web_locks.ts";
import { assert, never, rejectsAs, rejectsDom, rejectsWith } from "./asserts.ts";
import type { Case } from "./stage.ts";

/** The same manager, whatever types say of arguments. */
interface Loose {
  request(...args: unknown[]): Promise<unknown>;
  query(...args: unknown[]): Promise<object>;
}

function loose(manager: LockManager): Loose {
  return manager as unknown as Loose;
}

const aborted = () => AbortSignal.abort();
const mode = (lock: GrantedLock | null) => lock?.mode;
const nameOf = (lock: GrantedLock | null) => lock?.name;

export const ARGUMENT_CASES: readonly Case[] = [
  {
    says: "without arguments a request is refused",
    play: ({ a }) => rejectsWith(loose(a).request(), TypeError),
  },
  {
    says: "without a callback it is refused",
    play: ({ a, name }) => rejectsWith(loose(a).request(name), TypeError),
  },
  {
    says: "what cannot be called is no callback, and nothing is waited for",
    play: async (stage) => {
      const { a, name } = stage;
      await stage.hold(a);
      for (const callback of [undefined, null, 1, "text", {}, [], Symbol()]) {
        await rejectsWith(loose(a).request(name, callback), TypeError);
      }
    },
  },
  {
    says: "nor behind options",
    play: async ({ a, name }) => {
      for (const callback of [undefined, null, 1, "text", {}]) {
        await rejectsWith(loose(a).request(name, {}, callback), TypeError);
      }
    },
  },
  {
    says: "the third argument is the callback, whatever the second is",
    play: ({ a, name }) => rejectsWith(loose(a).request(name, never, undefined), TypeError),
  },
  {
    says: "a function may be the options",
    play: async ({ a, name }) => {
      assert.equal(await loose(a).request(name, Object.assign(() => {}, { mode: "shared" }), mode), "shared");
    },
  },
  {
    says: "options that are undefined are none",
    play: async ({ a, name }) => assert.equal(await loose(a).request(name, undefined, mode), "exclusive"),
  },
  {
    says: "so are options that are null",
    play: async ({ a, name }) => assert.equal(await loose(a).request(name, null, mode), "exclusive"),
  },
  {
    says: "what is no object cannot be options",
    play: async ({ a, name }) => {
      for (const options of ["text", 1, true, Symbol(), 1n]) {
        await rejectsWith(loose(a).request(name, options, never), TypeError);
      }
    },
  },
  {
    says: "options may inherit their members",
    play: async ({ a, name }) => {
      assert.equal(await loose(a).request(name, Object.create({ mode: "shared" }), mode), "shared");
    },
  },
  {
    says: "members that are not known do not matter",
    play: async ({ a, name }) => assert.equal(await loose(a).request(name, { other: 1 }, mode), "exclusive"),
  },
  {
    says: "the mode is exclusive or shared",
    play: async ({ a, name }) => {
      for (const other of ["foo", "", "Shared", " shared", 1, {}]) {
        await rejectsWith(loose(a).request(name, { mode: other }, never), TypeError);
      }
    },
  },
  {
    says: "a mode of null is none of them",
    play: ({ a, name }) => rejectsWith(loose(a).request(name, { mode: null }, never), TypeError),
  },
  {
    says: "a mode that is undefined is exclusive",
    play: async ({ a, name }) =>
      assert.equal(await loose(a).request(name, { mode: undefined }, mode), "exclusive"),
  },
  {
    says: "a mode is made a string",
    play: async ({ a, name }) =>
      assert.equal(await loose(a).request(name, { mode: { toString: () => "shared" } }, mode), "shared"),
  },
  {
    says: "a symbol cannot be made a mode",
    play: ({ a, name }) => rejectsWith(loose(a).request(name, { mode: Symbol("shared") }, never), TypeError),
  },
  {
    says: "ifAvailable is true for whatever is",
    play: async (stage) => {
      await stage.hold(stage.a);
      assert.equal(
        await loose(stage.a).request(stage.name, { ifAvailable: "no" }, (lock: unknown) => lock),
        null,
      );
    },
  },
  {
    says: "ifAvailable is false for whatever is",
    play: async ({ a, name }) => {
      const controller = new AbortController();
      for (const ifAvailable of [0, "", null, undefined, NaN]) {
        const options = { ifAvailable, signal: controller.signal };
        assert.equal(await loose(a).request(name, options, mode), "exclusive");
      }
    },
  },
  {
    says: "so is steal",
    play: async ({ a, name }) => {
      assert.equal(await loose(a).request(name, { steal: 0, mode: "shared" }, mode), "shared");
      await rejectsDom(loose(a).request(name, { steal: 1, mode: "shared" }, never), "NotSupportedError");
    },
  },
  {
    says: "the signal is an AbortSignal",
    play: async ({ a, name }) => {
      for (
        const signal of ["text", 12.34, false, {}, Symbol(), () => {}, globalThis, new AbortController()]
      ) {
        await rejectsWith(loose(a).request(name, { signal }, never), TypeError);
      }
    },
  },
  {
    says: "and not null",
    play: ({ a, name }) => rejectsWith(loose(a).request(name, { signal: null }, never), TypeError),
  },
  {
    says: "a signal that is undefined is none",
    play: async ({ a, name }) => {
      const options = { signal: undefined, ifAvailable: true };
      assert.equal(await loose(a).request(name, options, mode), "exclusive");
    },
  },
  {
    says: "a name is made a string",
    play: async ({ a, name }) => {
      assert.equal(await loose(a).request({ toString: () => name }, nameOf), name);
      assert.equal(await loose(a).request([name, 1], nameOf), `${name},1`);
    },
  },
  {
    says: "null and undefined, too",
    play: async ({ a }) => {
      assert.equal(await loose(a).request(null, nameOf), "null");
      assert.equal(await loose(a).request(undefined, nameOf), "undefined");
    },
  },
  {
    says: "a symbol cannot be made a name",
    play: ({ a }) => rejectsWith(loose(a).request(Symbol("name"), never), TypeError),
  },
  {
    says: "what a conversion throws is what the request rejects with",
    play: async ({ a, name }) => {
      const reason = new Error("no name");
      const throws = () => {
        throw reason;
      };
      await rejectsAs(loose(a).request({ toString: throws }, never), reason);
      await rejectsAs(loose(a).request(name, { mode: { toString: throws } }, never), reason);
    },
  },
  {
    says: "what a getter of the options throws, too",
    play: async ({ a, name }) => {
      const reason = new Error("no mode");
      const options = {
        get mode(): string {
          throw reason;
        },
      };
      await rejectsAs(loose(a).request(name, options, never), reason);
    },
  },
  {
    says: "each member is read once, in the order of their names, after the name",
    play: async ({ a, name }) => {
      const read: string[] = [];
      const options = new Proxy({}, {
        get: (_, member) => void read.push(String(member)),
      });
      const text = {
        toString() {
          read.push("name");
          return name;
        },
      };
      await loose(a).request(text, options, () => {});
      const standard = ["name", "ifAvailable", "mode", "signal", "steal"];
      assert.deepEqual(read.filter((member) => standard.includes(member)), standard);
    },
  },
  {
    says: "arguments are converted before the call returns",
    play: async ({ a, name }) => {
      let isRead = false;
      const options = {
        get mode(): undefined {
          isRead = true;
          return undefined;
        },
      };
      const request = loose(a).request(name, options, () => {});
      assert.equal(isRead, true);
      await request;
    },
  },
  {
    says: "options that change afterwards change nothing",
    play: async ({ a, name }) => {
      const options: { mode: "shared" | "exclusive" } = { mode: "shared" };
      const request = a.request(name, options, mode);
      options.mode = "exclusive";
      assert.equal(await request, "shared");
    },
  },
  {
    says: "every refusal is a rejection, and nothing is thrown",
    play: async ({ a, name }) => {
      const requests = [
        loose(a).request(),
        loose(a).request(Symbol(), never),
        loose(a).request(name, { mode: "foo" }, never),
        loose(a).request("-", never),
      ];
      for (const request of requests) assert.equal(request instanceof Promise, true);
      const outcomes = await Promise.allSettled(requests);
      assert.deepEqual(outcomes.map(({ status }) => status), Array(4).fill("rejected"));
    },
  },
  {
    says: "a name must not begin with a hyphen",
    play: async ({ a }) => {
      await rejectsDom(a.request("-", never), "NotSupportedError");
      await rejectsDom(a.request("-foo", {}, never), "NotSupportedError");
    },
  },
  {
    says: "a hyphen elsewhere is as good as any other character",
    play: async ({ a, name }) => {
      for (const text of [`${name}-`, ` -${name}`, `a-${name}`]) {
        assert.equal(await a.request(text, nameOf), text);
      }
    },
  },
  {
    says: "steal and ifAvailable exclude each other",
    play: ({ a, name }) =>
      rejectsDom(a.request(name, { steal: true, ifAvailable: true }, never), "NotSupportedError"),
  },
  {
    says: "what steals is exclusive",
    play: ({ a, name }) =>
      rejectsDom(a.request(name, { steal: true, mode: "shared" }, never), "NotSupportedError"),
  },
  {
    says: "steal and a signal exclude each other",
    play: ({ a, name }) => {
      const { signal } = new AbortController();
      return rejectsDom(a.request(name, { steal: true, signal }, never), "NotSupportedError");
    },
  },
  {
    says: "ifAvailable and a signal exclude each other",
    play: ({ a, name }) => {
      const { signal } = new AbortController();
      return rejectsDom(a.request(name, { ifAvailable: true, signal }, never), "NotSupportedError");
    },
  },
  {
    says: "even if the signal has aborted",
    play: async ({ a, name }) => {
      await rejectsDom(a.request(name, { steal: true, signal: aborted() }, never), "NotSupportedError");
      await rejectsDom(a.request(name, { ifAvailable: true, signal: aborted() }, never), "NotSupportedError");
    },
  },
  {
    says: "so does a name with a hyphen before it",
    play: ({ a }) => rejectsDom(a.request("-", { signal: aborted() }, never), "NotSupportedError"),
  },
  {
    says: "what cannot be converted goes before what is not supported",
    play: async ({ a }) => {
      await rejectsWith(loose(a).request("-", undefined), TypeError);
      await rejectsWith(loose(a).request("-", { mode: "foo" }, never), TypeError);
    },
  },
  {
    says: "and before a signal that has aborted",
    play: ({ a, name }) => rejectsWith(loose(a).request(name, { signal: aborted() }, null), TypeError),
  },
  {
    says: "a method that is called on another object rejects",
    play: async ({ a, name }) => {
      await rejectsWith(loose(a).request.call({}, name, never), TypeError);
      await rejectsWith(loose(a).query.call({}), TypeError);
    },
  },
  {
    says: "query takes no arguments, and does not mind any",
    play: async ({ a }) => {
      assert.equal(a.query.length, 0);
      assert.deepEqual(Object.keys(await loose(a).query(1, {})).sort(), ["held", "pending"]);
    },
  },
  {
    says: "request takes two at least",
    play: ({ a }) => Promise.resolve(assert.equal(a.request.length, 2)),
  },
  {
    says: "a manager says what it is",
    play: ({ a }) => Promise.resolve(assert.equal(String(a), "[object LockManager]")),
  },
];
