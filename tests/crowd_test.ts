// Many processes that want one lock at about the same time: in which order they get it, and what that costs the store; in
// virtual time.
import { assert, assertEquals } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { LockEvents } from "../core/events.ts";
import { proofsOf } from "../core/guard.ts";
import { evictHolders } from "../core/operators/evict.ts";
import { MAX_QUEUE } from "../core/record/record.ts";
import { KEY, type Player, Scene } from "./simulation/scene.ts";
import type { Telling } from "./simulation/schedule.ts";
import { randomFrom } from "./simulation/world.ts";

/** A store that notifies all of everything, as Deno KV; and one that notifies those that it concerns, as Redis. */
const TELLING: Record<string, Telling> = {
  all: { drop: 0, late: 0, beside: 0, queueAlone: 0, refusedWithBoth: 0, oldQueue: 0 },
  "those that it concerns": { drop: 1, late: 0, beside: 1, queueAlone: 1, refusedWithBoth: 1, oldQueue: 0 },
};

/** What a crowd has cost the store. */
interface Cost {
  /** Commits that succeeded: of the queue's record alone, and all others. */
  joins: number;
  others: number;
  refused: number;
  reads: number;
}

/** Plays a story in which chance is the same every time. */
async function play(story: (scene: Scene) => Promise<void>): Promise<void> {
  const { random } = Math;
  Math.random = randomFrom(1);
  try {
    const scene = new Scene({ random: randomFrom(2) });
    await scene.play(() => story(scene));
  } finally {
    Math.random = random;
  }
}

function assertAtMost(found: number, most: number): void {
  assert(found <= most, `at most ${most}, and not ${found}`);
}

/** Counts what a process asks of the store. */
function counted(player: Player, cost: Cost): Player {
  const { backend } = player;
  const commit = backend.commit.bind(backend);
  const read = backend.read.bind(backend);
  backend.commit = async (changes, options) => {
    const answer = await commit(changes, options);
    if (!answer.ok) cost.refused++;
    else if (changes.every(({ key }) => key !== KEY)) cost.joins++;
    else cost.others++;
    return answer;
  };
  backend.read = (keys) => {
    cost.reads++;
    return read(keys);
  };
  return player;
}

/** `count` processes ask `everyMs` after one another, 4 ms away there and back; each holds the lock for 2 ms. */
async function crowd(count: number, telling: Telling, everyMs = 5) {
  const cost: Cost = { joins: 0, others: 0, refused: 0, reads: 0 };
  const served: number[] = [];
  let queued: number[] = [];
  let joining = cost;
  await play(async (scene) => {
    const [holder, ...crowd] = Array.from({ length: count + 1 }, () => {
      const player = counted(scene.enter({ graceMs: 250, telling }), cost);
      player.distance.thereMs = player.distance.backMs = 2;
      return player;
    });
    const held = await holder.acquire();
    const turns = crowd.map(async (player, i) => {
      await player.process.pause(everyMs * i);
      const hold = await player.acquire();
      served.push(i);
      await player.process.pause(2);
      await hold.release();
    });
    await holder.process.pause(everyMs * count + 2000);
    const place = ({ participant }: { participant: string }) =>
      crowd.findIndex((player) => player.participant.id === participant);
    queued = scene.queue.map(place);
    joining = { ...cost };
    Object.assign(cost, { joins: 0, others: 0, refused: 0, reads: 0 });
    await held.release();
    await Promise.all(turns);
    assertEquals(scene.version, null);
  });
  return { joining, cost, queued, served };
}

for (const [which, telling] of Object.entries(TELLING)) {
  Deno.test(`crowd: 60 that ask one after another are queued and served in that order, with two commits a hand-over, on a store that notifies ${which}`, async () => {
    const { cost: { joins, others, refused, reads }, queued, served } = await crowd(60, telling);
    const order = Array.from({ length: 60 }, (_, i) => i);
    assertEquals([queued, served], [order, order]);
    // Each release offers the lock to the next, which confirms it, for it has not held it before.
    assertEquals(joins, 0);
    assertAtMost(others, 2 * 60 + 1);
    assertAtMost(refused, 2);
    assertAtMost(reads, 8 * 60);
  });
}

Deno.test("crowd: 60 that ask at once part from each other", async () => {
  const { joining: { joins, others, refused } } = await crowd(60, TELLING["those that it concerns"], 0);
  // Each tries whether the lock is free, and is refused; and joins the queue. The rest is in each other's way.
  assertEquals(joins + others, 61);
  assertAtMost(refused - 60, 4 * 60);
});

// How many are in it, how much may be refused a hand-over, and how many reads there may be.
for (
  const [count, which, most] of [
    [100, "all", { refused: 0.6, reads: 10 }],
    [100, "those that it concerns", { refused: 0.8, reads: 2 }],
    [300, "those that it concerns", { refused: 2, reads: 4 }],
  ] as const
) {
  Deno.test(`crowd: of ${count} those that are queued are served in their order, and those outside the queue cost little, on a store that notifies ${which}`, async () => {
    const { cost, queued, served } = await crowd(count, TELLING[which]);
    assertEquals([queued.length, served.length], [MAX_QUEUE, count]);
    // The order in which they asked; and none that has come later goes before them.
    assertEquals(queued, queued.toSorted((a, b) => a - b));
    assertEquals(served.filter((i) => queued.includes(i)), queued);
    // Two commits a hand-over, and one for each that joins the queue by itself, or names a new one.
    assertAtMost(cost.others + cost.joins, 3 * count);
    assertAtMost(cost.refused, most.refused * count);
    assertAtMost(cost.reads, most.reads * count);
  });
}

Deno.test("crowd: those that come and go near the store cost a holder that is far away neither its lease nor its writes, nor an operator its patience", async () => {
  const late: number[] = [];
  const builds: number[] = [];
  const hear = (message: unknown) => void late.push((message as LockEvents["holdfast:renewed"]).lateMs);
  subscribe("holdfast:renewed", hear);
  try {
    await play(async (scene) => {
      const far = () => {
        const player = scene.enter({ graceMs: 250 });
        player.distance.thereMs = player.distance.backMs = 30;
        return player;
      };
      const [holder, operator] = [far(), far()];
      const held = await holder.acquire({ leaseMs: 3000 });
      // Nothing here keeps its Lock.
      held.keep();
      let isOver = false;
      const waiters = Array.from({ length: 30 }, async (_, i) => {
        const player = scene.enter({ graceMs: 250 });
        player.distance.thereMs = player.distance.backMs = 2;
        await player.process.pause(7 * i);
        while (!isOver) {
          const hold = await player.acquire({ waitForMs: 300 }).catch(() => undefined);
          await hold?.release();
          // For long enough to leave the queue.
          await player.process.pause(50);
        }
      });
      for (let i = 0; i < 16; i++) {
        await holder.process.pause(200);
        let built = 0;
        for (let answer = "changed"; answer === "changed";) {
          const base = await holder.backend.readValue(KEY);
          const proofs = await proofsOf(held);
          built++;
          answer = await holder.backend.commitGuarded(KEY, proofs, { base, fence: held.fencingToken });
        }
        builds.push(built);
      }
      const before = scene.world.now;
      assertEquals(await evictHolders(KEY, undefined, operator.backend), true);
      assertAtMost(scene.world.now - before, 2000);
      isOver = true;
      await holder.process.pause(1200);
      assertEquals(held.lost?.reason, "forced");
      await Promise.all(waiters);
    });
  } finally {
    unsubscribe("holdfast:renewed", hear);
  }
  assert(late.length >= 4);
  assert(late.every((ms) => ms < 500), `renewals are late: ${late}`);
  assertAtMost(Math.max(...builds), 3);
});
