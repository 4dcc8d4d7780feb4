import { strict as assert } from "node:assert";
import { type LockManager, webLocks } from "../web_locks.ts";
import type { Cases, Stage } from "./stage.ts";

/** Names that no store keeps as they are: all of them are names of Web Locks. */
const NAMES = [
  "",
  " ",
  "a\0b",
  "\\0",
  "%0023",
  "#",
  "x#queue",
  "\uD800",
  "\uDC00\uD800",
  "\uFFFF",
  "é\u0301",
  "__proto__",
];

/** The standard's lock manager: order between requests, and names of any kind. */
export const webLockCases: Cases = {
  "web locks: requests are granted, and shown, in the order in which they were made": async (stage) => {
    const [a, b] = managersOf(stage);
    const order: string[] = [];
    const ask = (manager: LockManager, mark: string) => manager.request("x", () => void order.push(mark));
    const held = heldBy(a);
    await a.query();
    const asks = [ask(a, "a1"), ask(a, "a2")];
    await a.query();
    asks.push(ask(b, "b3"));
    await b.query();
    asks.push(ask(a, "a4"));
    const { held: [holder], pending } = await a.query();
    const isOfA = pending.map(({ clientId }) => clientId === holder.clientId);
    assert.deepEqual(isOfA, [true, true, false, true]);
    held.release();
    await Promise.all([held.outcome, ...asks]);
    assert.deepEqual(order, ["a1", "a2", "b3", "a4"]);
  },

  "web locks: one that steals goes before those that wait, which keep their places": async (stage) => {
    const [a, b] = managersOf(stage);
    const order: string[] = [];
    const victim = heldBy(a);
    await a.query();
    const waiting = b.request("x", () => void order.push("waiting"));
    await b.query();
    await a.request("x", { steal: true }, async () => {
      order.push("thief");
      assert.equal((await b.query()).pending.length, 1);
    });
    await assert.rejects(victim.outcome, { name: "AbortError" });
    await waiting;
    victim.release();
    assert.deepEqual(order, ["thief", "waiting"]);
  },

  "web locks: a name may be any string": async (stage) => {
    const [a, b] = managersOf(stage);
    const held = NAMES.map((name) => heldBy(a, name));
    await a.query();
    const shown = (await b.query()).held.map(({ name }) => name);
    assert.deepEqual(shown.sort(), [...NAMES].sort());
    for (const { release } of held) release();
    await Promise.all(held.map(({ outcome }) => outcome));
  },
};

function managersOf({ a, b, id }: Stage): [LockManager, LockManager] {
  return [webLocks(a, { prefix: `${id}/` }), webLocks(b, { prefix: `${id}/` })];
}

/** Holds a lock until it is released. */
function heldBy(
  manager: LockManager,
  name = "x",
): { readonly outcome: Promise<void>; readonly release: () => void } {
  let release = () => {};
  const until = new Promise<void>((resolve) => release = resolve);
  const outcome = manager.request(name, () => until);
  outcome.catch(() => {});
  return { outcome, release };
}
