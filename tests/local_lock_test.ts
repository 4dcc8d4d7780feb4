// One lock as a process sees it: what holds it for how long, and what is left behind; in virtual time.
import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Entry } from "../core/backend.ts";
import { LockAcquisitionError, LockBackendError } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { LocalMembers } from "../core/members.ts";
import { evictHolders } from "../core/operators/evict.ts";
import type { Participant } from "../core/participant.ts";
import { snapshotOf } from "../core/record/codec.ts";
import { type Holder, MAX_NOTICES } from "../core/record/record.ts";
import { Request } from "../core/request.ts";
import { memoryBackend } from "../backends/memory.ts";
import { Lock, lock, type LockEvents, type LockOptions } from "../mod.ts";
import { fate, KEY, type Player, Scene } from "./simulation/scene.ts";

/** How long an offer runs, at the scene's grace. */
const OFFER_MS = 1200;

const lost = () => new LockBackendError("connection lost", { transient: true });

Deno.test("local lock: a lease is counted from when it was asked for, not from the answer", async () => {
  const scene = new Scene();
  const a = scene.enter();
  a.distance.backMs = 299;
  await scene.play(async () => {
    const hold = await a.acquire({ leaseMs: 400, renew: false });
    assertEquals(hold.leftMs(), 100);
  });
});

Deno.test("local lock: a hold that is over here makes way for the next here, although other processes cannot be sure of it", async () => {
  const scene = new Scene();
  const a = scene.enter({ skewMs: 10_000 });
  await scene.play(async () => {
    await a.acquire({ leaseMs: 300, renew: false });
    await a.process.pause(301);
    const before = scene.world.now;
    await a.acquire();
    assert(scene.world.now - before < 10);
  });
});

Deno.test("local lock: grants that come after their lease are an error when they are five in a row, and leave nothing", async () => {
  const scene = new Scene();
  const a = scene.enter();
  a.distance.backMs = 600;
  await scene.play(async () => {
    const error = await assertRejects(() => a.acquire({ leaseMs: 400 }), LockBackendError);
    assertEquals(
      error.message,
      `Cannot acquire lock "job": its lease of 400 ms is over before the store's answers come`,
    );
    await a.process.pause(5000);
    assertEquals([scene.version, a.participant.known(KEY)], [null, undefined]);
  });
});

Deno.test("local lock: a grant that came too late is taken out, if all have given up before the next look", async () => {
  const scene = new Scene();
  const a = scene.enter();
  a.distance.backMs = 600;
  await scene.play(async () => {
    const ending = new AbortController();
    const { signal } = ending;
    const first = a.acquire({ leaseMs: 400, signal }).catch((error) => error);
    await a.process.pause(300);
    const second = a.acquire({ wait: false, signal }).catch((error) => error);
    await a.process.pause(302);
    ending.abort("enough");
    assertEquals([await first, await second, scene.record.holders.length], ["enough", "enough", 1]);
    await a.process.pause(5000);
    assertEquals(scene.version, null);
  });
});

Deno.test("local lock: several locks that were granted too late are taken out, if the next question fails", async () => {
  const scene = new Scene();
  const a = scene.enter();
  a.distance.backMs = 600;
  const { read } = a.backend;
  a.backend.read = () => {
    a.backend.read = read;
    return Promise.reject(new LockBackendError("no permission"));
  };
  // To take them once more is refused.
  fate(a, (apply) => apply(), () => Promise.resolve({ ok: false }));
  await scene.play(async () => {
    const outcome = lock([KEY, "another"], { backend: a.backend, leaseMs: 400 }).acquire().catch((error) =>
      error
    );
    // Its keys are made.
    await a.process.pause(1);
    assertStringIncludes((await outcome).message, "no permission");
    assertEquals(scene.record.holders.length, 1);
    await a.process.pause(5000);
    assertEquals(scene.version, null);
  });
});

Deno.test("local lock: what may have been left by one whose answer was lost is looked for until it is withdrawn", async () => {
  const scene = new Scene();
  const a = scene.enter();
  const landsUntold = async (apply: () => Promise<unknown>) => {
    await apply();
    throw lost();
  };
  // It lands, and two attempts to take it back do not.
  fate(a, landsUntold, () => Promise.reject(lost()), () => Promise.reject(lost()));
  await scene.play(async () => {
    const ending = new AbortController();
    const outcome = a.acquire({ signal: ending.signal }).catch((error) => error);
    await a.process.pause(5);
    assertEquals(scene.record.holders.length, 1);
    ending.abort("enough");
    assertEquals(await outcome, "enough");
    await a.process.pause(500);
    assertEquals(scene.version, null);
  });
});

Deno.test("local lock: a store that throws at once owes no answer, even to a caller that has left meanwhile", async () => {
  const scene = new Scene();
  const a = scene.enter();
  a.backend.commit = () => {
    throw new Error("no such table");
  };
  await scene.play(async () => {
    const ending = new AbortController();
    const outcome = a.acquire({ signal: ending.signal }).catch((error) => error);
    ending.abort("enough");
    assertEquals(await outcome, "enough");
    await a.process.pause(5000);
    assertEquals(a.participant.owedAnswers, 0);
  });
});

Deno.test("local lock: a renewal that hangs does not keep the holder from being notified at the lease's end", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const hold = await a.acquire({ leaseMs: 300 });
    a.backend.commit = () => new Promise<never>(() => {});
    await a.process.pause(310);
    assertEquals(hold.lost?.reason, "expired");
  });
});

Deno.test("local lock: a caller that gives up leaves the queue, however the store fails, and is not idle before", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, ending, outcome } = await waitBehind(a, b);
    await b.process.pause(100);
    assert(scene.record.queue !== undefined);
    fate(b, () => Promise.reject(lost()), () => Promise.reject(lost()));
    ending.abort("enough");
    assertEquals(await outcome, "enough");
    await b.participant.whenIdle(5000);
    assertEquals([scene.queued, b.participant.known(KEY)], [0, undefined]);
    assertEquals(await held.release(), true);
  });
});

Deno.test("local lock: an offer that crosses the leaving of its waiter is withdrawn at once", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, ending, outcome } = await waitBehind(a, b);
    await b.process.pause(50);
    // The offer is there before the entry is taken out of the queue.
    b.distance.thereMs = 100;
    ending.abort("enough");
    assertEquals([await outcome, await held.release()], ["enough", true]);
    b.distance.thereMs = 1;
    assertEquals(scene.record.holders.map(({ offeredTo }) => offeredTo), [b.participant.id]);
    await b.process.pause(200);
    assertEquals(scene.version, null);
  });
});

Deno.test("local lock: the patience of a caller that has gone evicts no holder", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await a.acquire();
    const waiting = b.acquire();
    const ending = new AbortController();
    const leaving = b.acquire({ signal: ending.signal, stealAfterMs: 5000 }).catch((error) => error);
    await b.process.pause(1000);
    ending.abort("enough");
    assertEquals(await leaving, "enough");
    await b.process.pause(20_000);
    assertEquals(await held.release(), true);
    await waiting;
  });
});

Deno.test("local lock: thousands that may steal come and go, and each is looked at a few times", async () => {
  const count = 40_000;
  const getter = Object.getOwnPropertyDescriptor(Request.prototype, "stealAfterMs")!;
  const atMost = 20 * count;
  let looks = 0;
  Object.defineProperty(Request.prototype, "stealAfterMs", {
    ...getter,
    get() {
      if (++looks > atMost) throw new Error("each is looked at again and again");
      return getter.get!.call(this);
    },
  });
  try {
    const backend = memoryBackend();
    const held = await Lock.acquire("report", { backend });
    const ending = new AbortController();
    const waiting = Array.from(
      { length: count },
      (_, i) => Lock.acquire("report", { backend, signal: ending.signal, stealAfterMs: 600_000 + i % 10 }),
    );
    const settled = Promise.allSettled(waiting);
    ending.abort("enough");
    const outcomes = await settled;
    assert(outcomes.every((outcome) => outcome.status === "rejected" && outcome.reason === "enough"));
    assertEquals(await held?.release(), true);
    assert(looks <= atMost);
  } finally {
    Object.defineProperty(Request.prototype, "stealAfterMs", getter);
  }
});

Deno.test("local lock: a store that is silent while a lock is given back is no taken lock for a caller that waits behind it", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const held = await a.acquire();
    const outcome = a.acquire({ waitForMs: 3000 }).catch((error) => error);
    await a.process.pause(100);
    a.backend.commit = a.backend.read = () => new Promise<never>(() => {});
    held.release().catch(() => {});
    assertInstanceOf(await outcome, LockBackendError);
  });
});

Deno.test("local lock: a caller that waits behind a hold of the same process that is evicted from outside hears of it", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await a.acquire({ leaseMs: 600_000 });
    const waiting = a.acquire();
    await a.process.pause(5000);
    const before = scene.world.now;
    const stolen = await b.acquire({ stealAfterMs: 0 });
    await a.process.pause(10);
    assertEquals(held.lost?.reason, "stolen");
    await stolen.release();
    await waiting;
    assert(scene.world.now - before < 1000);
  });
});

Deno.test("local lock: a hold is its token and its fence: a grant that landed late proves no other", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await a.acquire();
    const [{ fence: _, ...ghost }] = scene.record.holders;
    const { backend } = b;
    await backend.commit([{ key: KEY, version: scene.version, value: null }]);
    await backend.commit([{ key: KEY, version: null, value: JSON.stringify({ v: 1, holders: [ghost] }) }]);
    assertEquals([await held.confirm(), held.held], [undefined, false]);
  });
});

for (const how of ["fails", "ends"]) {
  Deno.test(`local lock: where every watch ${how} at once, a waiter looks a few times a second`, async () => {
    const scene = new Scene();
    const [a, b] = [scene.enter(), scene.enter()];
    let asked = 0;
    const { backend } = b;
    const { read } = backend;
    backend.read = (keys) => {
      asked++;
      return read.call(backend, keys);
    };
    const end = () =>
      how === "fails" ? Promise.reject(lost()) : Promise.resolve({ done: true, value: undefined });
    backend.watch = () => {
      asked++;
      return { [Symbol.asyncIterator]: () => ({ next: end }) } as AsyncIterable<Entry>;
    };
    await scene.play(async () => {
      const held = await a.acquire();
      const waiting = b.acquire();
      await b.process.pause(20_000);
      assert(asked < 100, `${asked} questions in 20 seconds`);
      await held.release();
      await waiting;
    });
  });
}

Deno.test("local lock: many that join at once do not refuse each other's writes for long", async () => {
  const count = 40;
  const scene = new Scene();
  const holder = scene.enter();
  let commits = 0;
  const crowd = Array.from({ length: count }, () => {
    const player = scene.enter();
    player.distance.thereMs = player.distance.backMs = 4;
    const commit = player.backend.commit.bind(player.backend);
    player.backend.commit = (changes) => {
      commits++;
      return commit(changes);
    };
    return player;
  });
  await scene.play(async () => {
    const held = await holder.acquire();
    const ending = new AbortController();
    const waiting = crowd.map(({ acquire }) => acquire({ signal: ending.signal }).catch((error) => error));
    await holder.process.pause(10_000);
    ending.abort("enough");
    await Promise.all(waiting);
    await holder.process.pause(10_000);
    // Each joins and leaves once. If they wrote at once again and again, there would be one success in each round.
    assert(commits < count * count / 2 + 200, `${commits} commits`);
    await held.release();
    assertEquals(scene.version, null);
  });
});

Deno.test("local lock: a participant is idle when the store owes it no answer any more", async () => {
  const scene = new Scene();
  const a = scene.enter();
  let isAnswered = false;
  a.distance.backMs = 300;
  fate(a, async (apply) => {
    const answer = await apply();
    isAnswered = true;
    return answer;
  });
  await scene.play(async () => {
    const ending = new AbortController();
    const outcome = a.acquire({ signal: ending.signal }).catch((error) => error);
    await a.process.pause(100);
    // What it asks from now on is answered at once.
    a.distance.backMs = 1;
    ending.abort("enough");
    assertEquals(await outcome, "enough");
    await a.participant.whenIdle(5000);
    assertEquals([isAnswered, scene.version], [true, null]);
  });
});

Deno.test("local lock: one that is looked at when it is over is not watched", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const hold = await a.acquire();
    await hold.release();
    hold.startWatching();
    await a.process.pause(5000);
    assertEquals([a.backend.watches, a.participant.known(KEY)], [0, undefined]);
  });
});

Deno.test("local lock: one that is looked at when it is over, as the store failed, starts no timer", async () => {
  const scene = new Scene();
  const a = scene.enter();
  await scene.play(async () => {
    const hold = await a.acquire({ leaseMs: 1000 });
    const fails = () => Promise.reject(new LockBackendError("no answer", { transient: true }));
    fate(a, ...Array.from({ length: 50 }, () => fails));
    a.backend.read = fails;
    await a.process.pause(1000);
    assertEquals([hold.held, a.participant.known(KEY)], [false, undefined]);
    hold.startWatching();
    assertEquals(a.process.timers.size, 0);
  });
});

Deno.test("local lock: a caller that cannot wait any longer, because the store has failed for good, leaves the queue", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await a.acquire();
    const next = b.acquire();
    await b.process.pause(100);
    const failing = c.acquire().catch((error) => error);
    await c.process.pause(100);
    assertEquals(scene.queued, 2);
    const { read } = c.backend;
    c.backend.read = () => {
      c.backend.read = read;
      return Promise.reject(new LockBackendError("no permission"));
    };
    await held.release();
    await next;
    assertInstanceOf(await failing, LockBackendError);
    await c.process.pause(5000);
    assertEquals(scene.queued, 0);
    await (await next).release();
    assertEquals(scene.version, null);
  });
});

for (const names of [KEY, [KEY, "other"]]) {
  const which = typeof names === "string" ? "one lock" : "several locks";
  Deno.test(`local lock: a place in a queue that cannot be given back is published (${which})`, async () => {
    const scene = new Scene();
    const [a, b] = [scene.enter(), scene.enter()];
    const heard: string[] = [];
    const hear = (message: unknown) =>
      heard.push(String((message as LockEvents["holdfast:backend-error"]).error));
    subscribe("holdfast:backend-error", hear);
    await scene.play(async () => {
      const held = await a.acquire();
      const leaving = new AbortController();
      const waiting = lock(names, { backend: b.backend, signal: leaving.signal }).acquire();
      const left = waiting.catch((error) => error);
      await b.process.pause(100);
      assertEquals(scene.queued, 1);
      const refuse = () => Promise.reject(new LockBackendError("no permission"));
      b.backend.read = b.backend.commit = refuse;
      leaving.abort("gone");
      assertEquals(await left, "gone");
      await b.process.pause(5000);
      await held.release();
    });
    unsubscribe("holdfast:backend-error", hear);
    assertEquals(
      heard.filter((text) => text.includes("Cannot stop waiting for")).length,
      1,
      heard.join("\n"),
    );
  });
}

Deno.test("local lock: a process that has had its turn queues behind the others, however long ago it asked for the next", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  const order: string[] = [];
  const take = async (name: string, player: Player) => {
    const hold = await player.acquire();
    order.push(name);
    await player.process.pause(100);
    await hold.release();
  };
  await scene.play(async () => {
    // It looks at the records while no process is queued yet, to renew its lease.
    const held = await a.acquire({ leaseMs: 300 });
    held.keep();
    const turns = [take("a", a)];
    await a.process.pause(250);
    for (const [name, player] of [["b", b], ["c", c]] as const) {
      await a.process.pause(100);
      turns.push(take(name, player));
      turns.push(take(name + "2", player));
    }
    await a.process.pause(100);
    await held.release();
    await Promise.all(turns);
    assertEquals(order, ["b", "c", "a", "b2", "c2"]);
  });
});

Deno.test("local lock: brief holds are passed on within a process first, but not for long", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  const order: string[] = [];
  const take = async (name: string, player: Player) => {
    const hold = await player.acquire();
    order.push(name);
    await player.process.pause(12);
    await hold.release();
  };
  await scene.play(async () => {
    const held = await a.acquire();
    const turns = [take("b", b)];
    await b.process.pause(50);
    for (let i = 0; i < 10; i++) turns.push(take("a", a), take("b", b));
    await b.process.pause(50);
    await held.release();
    await Promise.all(turns);
  });
  const rounds = order.join("").match(/a+|b+/g)!.map(({ length }) => length);
  // What is held for longer than a turn is no turn of several.
  assertEquals(order[0], "b");
  assert(rounds.some((length) => length > 1), order.join(""));
  // A turn of 50 ms ends with the last hold that it has begun.
  assert(rounds.slice(0, -1).every((length) => length <= 5), order.join(""));
});

Deno.test("local lock: of those that join at once, the first to ask is the first in the queue", async () => {
  const scene = new Scene();
  const [holder, far, near] = [scene.enter(), scene.enter(), scene.enter()];
  far.distance.thereMs = far.distance.backMs = 40;
  await scene.play(async () => {
    const held = await holder.acquire();
    const waiting = [far.acquire()];
    // It has looked at the lock when the near one comes, and joins the queue after that.
    await holder.process.pause(60);
    waiting.push(near.acquire());
    await holder.process.pause(2000);
    assertEquals(
      scene.queue.map(({ participant }) => participant),
      [far, near].map(({ participant }) => participant.id),
    );
    await held.release();
    await (await waiting[0]).release();
    await (await waiting[1]).release();
  });
});

Deno.test("local lock: however long a release without an offer is under way, the first in the queue goes before the second", async () => {
  const scene = new Scene();
  const [a, b, c, operator] = [scene.enter(), scene.enter(), scene.enter(), scene.enter()];
  // The second is nearer, and hears of it first.
  b.distance.thereMs = b.distance.backMs = 20;
  const order: string[] = [];
  const take = async (name: string, player: Player) => {
    const hold = await player.acquire();
    order.push(name);
    await hold.release();
  };
  await scene.play(async () => {
    await a.acquire();
    const turns = [take("b", b)];
    await b.process.pause(200);
    turns.push(take("c", c));
    await c.process.pause(200);
    operator.distance.thereMs = 3000;
    assertEquals(await evictHolders(KEY, undefined, operator.backend), true);
    await Promise.all(turns);
    assertEquals(order, ["b", "c"]);
  });
});

// A release whose first answer was lost, and that never landed: the lock is stolen before it is repeated.

/** What a release says whose first try is lost while `b` steals the lock and `meanwhile` happens. */
async function evicted(
  scene: Scene,
  { a, b, meanwhile }: {
    readonly a: Player;
    readonly b: Player;
    readonly meanwhile: (stealer: Hold) => Promise<unknown>;
  },
): Promise<unknown> {
  const held = await a.acquire({ leaseMs: 60_000 });
  held.keep();
  fate(a, () => new Promise<never>(() => {}));
  const released = held.release().catch((error) => error);
  await meanwhile(await b.acquire({ leaseMs: 60_000, stealAfterMs: 0 }));
  const outcome = await released;
  assertEquals(scene.version === null, false);
  return outcome;
}

Deno.test("local lock: a release that was never done is none, however wrong the clocks are where they mean nothing", async () => {
  const scene = new Scene();
  const enter = () => scene.enter({ clock: "watching" });
  const [a, b, c] = [enter(), enter(), enter()];
  c.process.step(24 * 3_600_000);
  await scene.play(async () => {
    const meanwhile = async (stealer: Hold) => {
      await stealer.release();
      await (await c.acquire()).release();
    };
    assertEquals(await evicted(scene, { a, b, meanwhile }), false);
  });
});

Deno.test("local lock: whether a release was done is not known when too many were evicted since", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const meanwhile = async () => {
      for (let i = 0; i < MAX_NOTICES; i++) await b.acquire({ leaseMs: 60_000, stealAfterMs: 0 });
    };
    const outcome = await evicted(scene, { a, b, meanwhile });
    assertInstanceOf(outcome, LockBackendError);
    assertEquals(
      outcome.message,
      'Cannot release lock "job": the answer to the release was lost, and too many have been evicted since',
    );
  });
});

Deno.test("local lock: notices go when they have been watched for two leases, also by one that comes and goes", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter({ clock: "watching" }), scene.enter({ clock: "watching" })];
  await scene.play(async () => {
    await a.acquire({ leaseMs: 1000 });
    const stealer = await b.acquire({ leaseMs: 1000, stealAfterMs: 0 });
    await stealer.release();
    assertEquals(scene.record.notices?.length, 1);
    await b.process.pause(1500);
    await (await b.acquire()).release();
    assertEquals(scene.record.notices?.length, 1);
    await b.process.pause(600);
    await (await b.acquire()).release();
    assertEquals(scene.version, null);
  });
});

// Offers.

/** Both have had the lock, briefly or not; now `a` has it, `b` waits, and `a` is about to give it back. */
async function passing(
  scene: Scene,
  { a, b, isBrief = true }: { readonly a: Player; readonly b: Player; readonly isBrief?: boolean },
): Promise<{ held: Hold; waiting: Promise<Hold> }> {
  const first = await b.acquire();
  const second = a.acquire();
  await b.process.pause(isBrief ? 50 : 1000);
  await first.release();
  const held = await second;
  const waiting = b.acquire();
  await b.process.pause(50);
  assertEquals(scene.record.queue === undefined, false);
  return { held, waiting };
}

/** The offer that the store shows. */
function offered(scene: Scene): Holder {
  const [holder] = scene.record.holders;
  assert(holder?.offeredTo !== undefined);
  return holder;
}

Deno.test("local lock: one that waits to be the only one sees a dead reader go, also where clocks mean nothing", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter({ clock: "watching" }), scene.enter({ clock: "watching" })];
  await scene.play(async () => {
    const held = await lock(KEY, { backend: a.backend, mode: "shared" }).acquire();
    await b.acquire({ mode: "shared", leaseMs: 1000 });
    b.process.kill();
    const before = scene.world.now;
    await held.upgrade();
    assert(scene.world.now - before < 1100);
    assertEquals([held.mode, scene.record.holders.length], ["exclusive", 1]);
  });
});

Deno.test("offers: one is taken without a question, and its lease ends before the store's by what the clock may be wrong", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter({ skewMs: 200 }), scene.enter({ skewMs: 200 })];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    await held.release();
    const hold = await waiting;
    const { expiresAt } = offered(scene);
    const endMs = b.process.clock.wallMs() + hold.leftMs();
    assert(endMs > expiresAt! - 200 && endMs <= expiresAt! - 100);
  });
});

Deno.test("offers: a process that is frozen while it takes an offer does not believe it holds what others see lapse", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    const now = b.backend.now.bind(b.backend);
    let freezes = true;
    b.backend.now = () => {
      const time = now();
      if (freezes) b.process.hold(500);
      freezes = false;
      return time;
    };
    await held.release();
    const hold = await waiting;
    const { expiresAt } = offered(scene);
    assert(!freezes);
    assert(b.process.clock.wallMs() + hold.leftMs() <= expiresAt!);
  });
});

Deno.test("offers: a machine that has slept since the store was asked knows less of its time", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    b.process.hold(300, "suspend");
    await a.process.pause(300);
    await held.release();
    const hold = await waiting;
    const { expiresAt } = offered(scene);
    assert(b.process.clock.wallMs() + hold.leftMs() <= expiresAt! - 300);
  });
});

Deno.test("offers: where the last hold was long, one is confirmed before it is taken", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b, isBrief: false });
    await held.release();
    assert((await waiting).leftMs() > OFFER_MS);
  });
});

Deno.test("offers: one that comes late is confirmed before it is taken", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    b.distance.backMs = 0.75 * OFFER_MS;
    await held.release();
    b.distance.backMs = 1;
    assert((await waiting).leftMs() > OFFER_MS);
  });
});

Deno.test("offers: an offer is for the first that waits here", async () => {
  for (const isBrief of [true, false]) {
    const scene = new Scene();
    const [a, b] = [scene.enter(), scene.enter()];
    await scene.play(async () => {
      const { held, waiting } = await passing(scene, { a, b, isBrief });
      let isSecondGranted = false;
      const second = b.acquire();
      second.then(() => isSecondGranted = true);
      await b.process.pause(50);
      await held.release();
      const hold = await waiting;
      assertEquals(isSecondGranted, false);
      await hold.release();
      await second;
    });
  }
});

Deno.test("offers: what was adopted has its whole lease soon, before the process stands still for as long as an offer", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    // Its holds are brief, so that it does not have the next one confirmed first.
    await (await b.acquire()).release();
    const { held, outcome } = await waitBehind(a, b);
    await b.process.pause(20);
    await held.release();
    const adopted = await outcome as Hold;
    assertEquals(scene.record.holders.map(({ leaseMs }) => leaseMs), [OFFER_MS]);
    await b.process.pause(OFFER_MS / 8);
    b.process.hold(OFFER_MS);
    await b.process.pause(OFFER_MS);
    assertEquals([adopted.held, await adopted.release()], [true, true]);
  });
});

Deno.test("offers: one is taken once, although its entry is still in the queue", () => {
  const owner = {
    id: "me",
    owns: (token: string) => token.startsWith("mine/"),
    isNameOf: ({ participant }) => participant === "me",
  } as Participant;
  const members = new LocalMembers(owner);
  const entry = { participant: "me", token: "mine/1", mode: "exclusive", limit: 1, since: 1 };
  const seen = snapshotOf(
    { key: KEY, version: "1", value: '{"v":1,"holders":[],"queue":"q","freedAt":1}' },
    { key: `${KEY}#queue`, version: "1", value: JSON.stringify({ v: 1, id: "q", entries: [entry] }) },
  );
  members.addRequest({ mayWait: true } as Request);
  members.noteQueue(seen);
  const offer = { token: "mine/1", fence: "2", offeredTo: "me" } as Holder;
  assertEquals(members.isOfferWanted(offer), true);
  members.onOfferTaken(offer);
  members.noteQueue(seen);
  assertEquals(members.isOfferWanted(offer), false);
});

Deno.test("queue: the second is next where the lock was offered to one that has died, and the first then leaves", async () => {
  const scene = new Scene();
  const telling = { drop: 1, late: 0, beside: 1, queueAlone: 1, refusedWithBoth: 1, oldQueue: 0 };
  const [a, b, c, d] = [1, 2, 3, 4].map(() => scene.enter({ telling }));
  await scene.play(async () => {
    const { held } = await waitBehind(a, b);
    await b.process.pause(20);
    const ending = new AbortController();
    const leaving = c.acquire({ signal: ending.signal }).catch((error) => error);
    await c.process.pause(20);
    let isGranted = false;
    d.acquire().then(() => isGranted = true);
    await d.process.pause(20);
    b.process.kill();
    await held.release();
    await c.process.pause(20);
    ending.abort("enough");
    assertEquals(await leaving, "enough");
    // The offer lapses, and its end is seen.
    await d.process.pause(2 * OFFER_MS);
    assert(isGranted);
  });
});

Deno.test("queue: one that has room next to others gets it, if the first leaves in the moment in which it comes", async () => {
  const scene = new Scene();
  const [a, b, c, d] = [1, 2, 3, 4].map(() => scene.enter());
  await scene.play(async () => {
    await a.acquire({ limit: 3 });
    const two = await b.acquire({ limit: 3, permits: 2 });
    const ending = new AbortController();
    const leaving = c.acquire({ limit: 3, permits: 3, signal: ending.signal }).catch((error) => error);
    await c.process.pause(20);
    let isGranted = false;
    d.acquire({ limit: 3, permits: 2 }).then(() => isGranted = true);
    await d.process.pause(20);
    // It is taken out of the queue on what it knows of the lock, just after permits have become free.
    c.distance.thereMs = 5;
    ending.abort("enough");
    assertEquals([await two.release(), await leaving], [true, "enough"]);
    await d.process.pause(300);
    assert(isGranted);
  });
});

/** Two callers of `a` that want the same two locks, one a moment after the other: the second comes after the first. */
async function twice(a: Player, ...each: LockOptions[]): Promise<Promise<unknown>[]> {
  const outcomes: Promise<unknown>[] = [];
  for (const options of each) {
    outcomes.push(
      lock([KEY, "another"], { backend: a.backend, ...options }).acquire().catch((error) => error),
    );
    await a.process.pause(1);
  }
  return outcomes;
}

for (
  const [how, commit] of [["fails", () => Promise.reject(lost())], [
    "is silent",
    () => new Promise(() => {}),
  ]] as const
) {
  Deno.test(`several locks: a store that ${how} is reported as that to a caller that waits for another's turn`, async () => {
    const scene = new Scene();
    const a = scene.enter();
    a.backend.commit = commit as typeof a.backend.commit;
    a.backend.read = commit as typeof a.backend.read;
    await scene.play(async () => {
      const [first, second] = await twice(a, {}, { waitForMs: 700 });
      assertInstanceOf(await second, LockBackendError);
      assertInstanceOf(await first, LockBackendError);
    });
  });
}

Deno.test("several locks: a caller that waits for another's turn is refused with the lock and the holder that both miss", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await b.acquire({ label: "b" });
    const [first, second] = await twice(a, {}, { waitForMs: 500 });
    const { identifier, holders } = await second as LockAcquisitionError;
    assertEquals([identifier, holders.map(({ label }) => label)], [KEY, ["b"]]);
    await held.release();
    await (await first as Lock).release();
  });
});

Deno.test("several locks: a caller that evicts does not wait for the turn of one that does not", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const held = await b.acquire();
    const outcomes = await twice(a, {}, { stealAfterMs: 500 });
    const locks = await Promise.race(outcomes) as Lock;
    // That of the holder, which is evicted, would have been renewed for ever.
    assert(scene.world.now < 5000, `${scene.world.now} ms`);
    assertEquals([locks.held, await held.release()], [true, false]);
    await locks.release();
    const all = await Promise.all(outcomes) as Lock[];
    await Promise.all(all.map((lock) => lock.release()));
  });
});

// News.

/** A watch that shows what the test says instead of the store's news. */
function forging({ backend }: Player): (value: unknown, version: string, key?: string) => void {
  let wake = () => {};
  const forged: { key: string; value: string; version: string }[] = [];
  const { watch } = backend;
  backend.watch = async function* (key, options) {
    const rings = () => wake();
    options.signal.addEventListener("abort", rings);
    const real = watch.call(backend, key, options)[Symbol.asyncIterator]();
    let next = real.next();
    try {
      for (;;) {
        const woken = new Promise<undefined>((resolve) => wake = () => resolve(undefined));
        while (forged.length > 0) yield forged.shift()!;
        const come = await Promise.race([next, woken]);
        if (options.signal.aborted || come?.done) return;
        if (come === undefined) continue;
        next = real.next();
        yield come.value;
      }
    } finally {
      await real.return?.();
    }
  };
  return (value, version, key = KEY) => {
    forged.push({ key, value: JSON.stringify(value), version });
    wake();
  };
}

Deno.test("news: a queue as it was before its own entry does not hide that from a holder", async () => {
  const scene = new Scene();
  const [a, b, c] = [scene.enter(), scene.enter(), scene.enter()];
  const forge = forging(b);
  await scene.play(async () => {
    const { held, ending, outcome } = await waitBehind(a, c);
    await c.process.pause(20);
    const old = { v: 1, id: scene.record.queue, entries: scene.queue };
    const oldVersion = scene.version!;
    const waiting = b.acquire({ holdAtLeastMs: 500 });
    await b.process.pause(20);
    ending.abort("enough");
    assertEquals(await outcome, "enough");
    await c.process.pause(20);
    assertEquals(scene.queued, 1);
    forge(old, oldVersion, `${KEY}#queue`);
    await b.process.pause(20);
    // The queue moves so often that the lock is offered without it: the entry stays.
    fate(a, ...Array(2).fill(() => Promise.resolve({ ok: false })));
    await held.release();
    const next = await waiting;
    assertEquals(scene.queued, 1);
    await b.process.pause(200);
    await next.release();
    await b.process.pause(1000);
    assertEquals(scene.queued, 0);
  });
});

Deno.test("news: a holder that hears of its end asks the store", async () => {
  const scene = new Scene();
  const a = scene.enter();
  const forge = forging(a);
  await scene.play(async () => {
    const held = await a.acquire();
    held.startWatching();
    await a.process.pause(2000);
    forge({ v: 1, holders: [], queue: "q", freedAt: 1 }, scene.nextVersion);
    await a.process.pause(100);
    assertEquals(held.lost, undefined);
    assertEquals(await held.release(), true);
  });
});

Deno.test("news: an offer that does not repeat the token of the entry grants nothing", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  const forge = forging(b);
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    let isGranted = false;
    waiting.then(() => isGranted = true);
    const [holder] = scene.record.holders;
    const { id, secret } = b.participant;
    const forged = { ...holder, token: `${secret}/9999`, fence: scene.nextVersion, offeredTo: id };
    forge({ ...scene.record, holders: [forged] }, scene.nextVersion);
    await b.process.pause(100);
    assertEquals(isGranted, false);
    assertEquals(await held.release(), true);
    await waiting;
  });
});

Deno.test("news: an offer that is forged with the token of the entry is believed no longer than offers are", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  const forge = forging(b);
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    const [holder] = scene.record.holders;
    const [{ participant, token }] = scene.queue;
    const leaseMs = OFFER_MS;
    const expiresAt = holder.expiresAt! + 1_000_000;
    const offer = { ...holder, token, fence: scene.nextVersion, offeredTo: participant, leaseMs, expiresAt };
    forge({ v: 1, holders: [offer] }, scene.nextVersion);
    await b.process.pause(OFFER_MS + 100);
    assertEquals((await waiting).held, false);
    assertEquals(await held.release(), true);
  });
});

for (const version of ["new", "old"] as const) {
  Deno.test(
    `news: an offer that came while the store was asked is not hidden by a message behind it with ${
      version === "new" ? "a" : "an"
    } ${version} version`,
    async () => {
      const scene = new Scene();
      const [a, b] = [scene.enter(), scene.enter()];
      const forge = forging(b);
      await scene.play(async () => {
        const { held, waiting } = await passing(scene, { a, b });
        const { record: before } = scene;
        // It asks for a long time, and was answered before the lock is given back.
        b.distance.backMs = 300;
        const trying = b.acquire({ wait: false }).catch((error) => error);
        await b.process.pause(10);
        b.distance.backMs = 1;
        await held.release();
        await b.process.pause(10);
        forge(before, version === "new" ? scene.nextVersion : "0");
        assertInstanceOf(await trying, LockAcquisitionError);
        const from = scene.world.now;
        await (await waiting).release();
        assert(scene.world.now - from < OFFER_MS / 2);
      });
    },
  );
}

Deno.test("local lock: a caller that may not wait is refused while the lock is given back to others", async () => {
  const scene = new Scene();
  const [a, b] = [scene.enter(), scene.enter()];
  await scene.play(async () => {
    const { held, waiting } = await passing(scene, { a, b });
    const trying = a.acquire({ wait: false }).catch((error) => error);
    assertEquals(await held.release(), true);
    assertInstanceOf(await trying, LockAcquisitionError);
    await (await waiting).release();
  });
});

/** One process holds the lock, and another waits for it until `ending` aborts. */
async function waitBehind(holder: Player, waiter: Player) {
  const held = await holder.acquire();
  const ending = new AbortController();
  const outcome = waiter.acquire({ signal: ending.signal }).catch((error) => error);
  return { held, ending, outcome };
}
