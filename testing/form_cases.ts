import { strict as assert } from "node:assert";
import { LockBackendError } from "../core/errors.ts";
import { Lock, lock, LockAcquisitionError, LockLostError, type LockOptions } from "../mod.ts";
import type { Probe } from "./probe.ts";
import { type Cases, lossOf, outcomeOf, type Stage } from "./stage.ts";

/** What the forms of a lock resolve to, and with what they reject. */
export const formCases: Cases = {
  "form: every form runs under the lock and leaves it free": async (stage) => {
    for (const [name, form] of forms) {
      const outcome = await form(stage, stage.a, {}, async () => {
        assert.equal(await stage.tryAcquire(stage.b), null, name);
        return "done";
      });
      assert.equal(outcome, "done", name);
      assert.equal(await stage.record(), null, name);
    }
  },

  "form: what each form makes of a taken lock": async (stage) => {
    const expected = {
      "wrapper": "undefined",
      "decorator": "undefined",
      "run": "LockAcquisitionError",
      "acquire": "LockAcquisitionError",
      "Lock.acquire": "null",
    };
    await stage.acquire(stage.a, { label: "first" });
    for (const [name, form] of forms) {
      for (const options of [{ wait: false }, { waitForMs: 0 }, { waitForMs: 20 }]) {
        const outcome = await outcomeOf(form(stage, stage.b, options, () => assert.fail("it ran")));
        const found = outcome instanceof LockAcquisitionError ? outcome.name : String(outcome);
        assert.equal(found, expected[name], name);
      }
    }
  },

  "form: every form rejects with the reason of an aborted signal": async (stage) => {
    const held = await stage.acquire(stage.a);
    for (const [name, form] of forms) {
      const reason = { name };
      const ending = new AbortController();
      const outcome = outcomeOf(form(stage, stage.b, { signal: ending.signal }, () => assert.fail("it ran")));
      await stage.untilWaiting(1);
      ending.abort(reason);
      assert.equal(await outcome, reason);
      const again = form(stage, stage.b, { signal: ending.signal }, () => assert.fail("it ran"));
      assert.equal(await outcomeOf(again), reason);
      await stage.untilWaiting(0);
    }
    assert.equal(await held.release(), true);
  },

  "form: an error of the function is passed on and the lock is free": async (stage) => {
    const own = new Error("own");
    for (const [name, form] of running) {
      assert.equal(await outcomeOf(form(stage, stage.a, {}, () => Promise.reject(own))), own, name);
      const thrown = form(stage, stage.a, {}, () => {
        throw own;
      });
      assert.equal(await outcomeOf(thrown), own, name);
      assert.equal(await stage.record(), null, name);
    }
  },

  "form: an acquisition error of the function's own is not swallowed": async (stage) => {
    const other = await lock(`${stage.id}/other`, { backend: stage.b }).acquire();
    for (const [name, form] of running) {
      const nested = lock(`${stage.id}/other`, { backend: stage.a, wait: false });
      const outcome = await outcomeOf(form(stage, stage.a, { wait: false }, () => nested.acquire()));
      assert.ok(outcome instanceof LockAcquisitionError, name);
      assert.equal(outcome.identifier, `${stage.id}/other`);
    }
    assert.equal(await other.release(), true);
  },

  "form: a lock lost while the function runs is an error, with the function's own as cause": async (
    stage,
  ) => {
    const own = new Error("own");
    for (const [name, form] of running) {
      for (const fails of [false, true]) {
        let thief: Lock | undefined;
        const outcome = await outcomeOf(form(stage, stage.a, {}, async () => {
          thief = await stage.acquire(stage.b, { stealAfterMs: 0 });
          if (fails) throw own;
        }));
        assert.ok(outcome instanceof LockLostError, name);
        assert.deepEqual([outcome.reason, outcome.identifier], ["stolen", stage.id]);
        assert.equal(outcome.cause, fails ? own : undefined);
        assert.equal(await thief?.release(), true);
      }
    }
  },

  "form: the loss itself, thrown on, is no cause of itself": async (stage) => {
    const outcome = await outcomeOf(
      stage.lock(stage.a, { leaseMs: 100, renew: false }).run(async (held) => {
        throw await lossOf(held);
      }),
    );
    assert.ok(outcome instanceof LockLostError);
    assert.deepEqual([outcome.reason, outcome.cause], ["expired", undefined]);
  },

  "form: a failed release replaces neither result nor error": async (stage) => {
    const own = new Error("own");
    for (const [name, form] of running) {
      for (const fails of [false, true]) {
        const peer = stage.another();
        const outcome = form(stage, peer, { leaseMs: 100 }, () => {
          peer.fail(new LockBackendError("the store is gone"));
          return fails ? Promise.reject(own) : "done";
        });
        assert.equal(await outcomeOf(outcome), fails ? own : "done", name);
      }
    }
  },

  "form: a release by hand rejects if it fails, a dispose does not": async (stage) => {
    const { a } = stage;
    const cause = new LockBackendError("the store is gone");
    const held = await stage.acquire(a);
    a.fail(cause);
    const error = await outcomeOf(held.release());
    assert.ok(error instanceof LockBackendError);
    assert.deepEqual([error.identifier, error.cause], [stage.id, cause]);
    await held[Symbol.asyncDispose]();
  },

  "form: a dispose releases": async (stage) => {
    const held = await stage.acquire(stage.a);
    await held[Symbol.asyncDispose]();
    assert.equal(held.held, false);
    assert.equal(await stage.record(), null);
    assert.equal(await held.release(), true);
  },

  "form: wrapper and decorator pass this, arguments and result on": async (stage) => {
    const wrap = lock(stage.id, { backend: stage.a });
    const instance = { factor: 2, times: wrap(times) };
    assert.equal(await instance.times(3, 4), 24);
    class Multiplier {
      static factor = 3;
      static times = wrap(times);
      readonly factor = 5;
      readonly #times = wrap(times);
      twice(a: number, b: number): Promise<number> {
        return this.#times(a, b);
      }
    }
    assert.equal(await Multiplier.times(3, 4), 36);
    assert.equal(await new Multiplier().twice(3, 4), 60);
    assert.equal(await decorated(wrap, times).call({ factor: 7 }, 3, 4), 84);
    assert.deepEqual([instance.times.name, instance.times.length], ["times", 2]);
  },

  "form: bad input sends nothing": async ({ a, id }) => {
    const times = [-1, 1.5, NaN, Infinity, 2 ** 31];
    for (const option of ["waitForMs", "stealAfterMs", "leaseMs"]) {
      for (const time of times) assert.throws(() => lock(id, { backend: a, [option]: time }), RangeError);
    }
    for (const identifier of ["", "\ud800", 7 as unknown as string]) {
      assert.throws(() => lock(identifier, { backend: a }), TypeError);
      const outcome = await outcomeOf(Lock.acquire(identifier, { backend: a }));
      assert.ok(outcome instanceof TypeError);
    }
    assert.deepEqual([a.commits, a.reads, a.watches], [0, 0, 0]);
  },

  "form: an identifier made from the arguments locks for these arguments only": async (stage) => {
    const wrap = lock((user: string) => `${stage.id}/${user}`, { backend: stage.a, wait: false });
    const inside: string[] = [];
    const charge = wrap(async (user: string): Promise<string> => {
      inside.push(user);
      if (user === "ada" && inside.length === 1) {
        assert.deepEqual(await Promise.all([charge("ada"), charge("bob")]), [undefined, "bob"]);
      }
      return user;
    });
    assert.equal(await charge("ada"), "ada");
    assert.deepEqual(inside, ["ada", "bob"]);
  },
};

type Fn = () => unknown;
type Form = (stage: Stage, backend: Probe, options: LockOptions, fn: Fn) => Promise<unknown>;

/** The forms that run a function. */
const running = [
  [
    "wrapper",
    ({ id }: Stage, backend: Probe, options: LockOptions, fn: Fn) => lock(id, { ...options, backend })(fn)(),
  ],
  [
    "decorator",
    ({ id }: Stage, backend: Probe, options: LockOptions, fn: Fn) =>
      decorated(lock(id, { ...options, backend }), fn)(),
  ],
  [
    "run",
    ({ id }: Stage, backend: Probe, options: LockOptions, fn: Fn) =>
      lock(id, { ...options, backend }).run(fn),
  ],
] as const satisfies readonly (readonly [string, Form])[];

/** All forms. Those that only acquire call the function by hand. */
const forms = [
  ...running,
  [
    "acquire",
    async ({ id }: Stage, backend: Probe, options: LockOptions, fn: Fn) =>
      await releasing(await lock(id, { ...options, backend }).acquire(), fn),
  ],
  [
    "Lock.acquire",
    async ({ id }: Stage, backend: Probe, options: LockOptions, fn: Fn) =>
      await releasing(await Lock.acquire(id, { ...options, backend }), fn),
  ],
] as const satisfies readonly (readonly [string, Form])[];

async function releasing(held: Lock | null, fn: Fn): Promise<unknown> {
  if (held === null) return null;
  try {
    return await fn();
  } finally {
    await held.release();
  }
}

/** Calls a decorator as the language does, because not every runtime of this file has the syntax. */
function decorated<Wrapped>(decorate: (fn: never, context?: never) => Wrapped, fn: unknown): Wrapped {
  const context = { kind: "method", name: "refresh", static: false, private: false, addInitializer() {} };
  return decorate(fn as never, context as never);
}

function times(this: { factor: number }, a: number, b: number): number {
  return this.factor * a * b;
}
