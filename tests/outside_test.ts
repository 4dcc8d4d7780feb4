// When those that have no place in the queue look at it again.
import { assert } from "@std/assert";
import { Outside } from "../core/outside.ts";
import { MAX_QUEUE, type QueueEntry } from "../core/record/record.ts";

const GRACE_MS = 200;

/** A full queue whose entries begin with this number. */
function queue(from: number): QueueEntry[] {
  return Array.from({ length: MAX_QUEUE }, (_, i) => ({
    participant: `p${from + i}`,
    token: `t${from + i}`,
    mode: "exclusive",
    limit: 1,
    since: 0,
  }));
}

function assertBetween(found: number, leastMs: number, mostMs: number): void {
  assert(found >= leastMs && found <= mostMs, `between ${leastMs} and ${mostMs}, and not ${found}`);
}

Deno.test("outside: a full queue is looked at again after one or two graces", () => {
  for (let i = 0; i < 100; i++) {
    const outside = new Outside(GRACE_MS);
    outside.note(queue(0), 1000);
    assertBetween(outside.lookMs, 1000 + GRACE_MS, 1000 + 2 * GRACE_MS);
  }
});

Deno.test("outside: then when as many as it takes have had their turn, as fast as that went", () => {
  for (let i = 0; i < 100; i++) {
    const outside = new Outside(GRACE_MS);
    outside.note(queue(0), 1000);
    // 16 of 64 in 300 ms: all of them in 1200.
    outside.note(queue(16), 1300);
    assertBetween(outside.lookMs, 1300 + 600, 1300 + 1200);
  }
});

Deno.test("outside: where nothing moves, less and less often, up to eight graces", () => {
  const outside = new Outside(GRACE_MS);
  outside.note(queue(0), 0);
  outside.note(queue(0), 0);
  assertBetween(outside.lookMs, 2 * GRACE_MS, 4 * GRACE_MS);
  for (let i = 0; i < 10; i++) outside.note(queue(0), 0);
  assertBetween(outside.lookMs, 4 * GRACE_MS, 8 * GRACE_MS);
  // One in a second: all of them in a minute.
  outside.note(queue(1), 1000);
  assertBetween(outside.lookMs, 1000 + 4 * GRACE_MS, 1000 + 8 * GRACE_MS);
});
