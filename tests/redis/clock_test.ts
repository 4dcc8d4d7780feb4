/** Clocks that are wrong: of this machine, and of the server. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { commitIfHeld } from "../../backends/redis.ts";
import { systemClock } from "../../core/clock.ts";
import { Lock } from "../../mod.ts";
import { missingRedis } from "../support/redis_server.ts";
import { FalseClock, missingCompiler } from "./false_clock.ts";
import { acquire, lossOf, test, untilQueued, World } from "./world.ts";

/** A clock of the server that can be set is compiled. */
const unmet = missingRedis() ?? missingCompiler();

test("this machine's clock is behind by ten minutes: no process takes its lock for expired", async () => {
  await using world = await World.start();
  const b = await world.peer();
  await b.backend.read(["job"]);
  // For all of this process; a backend that has heard from the server believes the server.
  const real = systemClock.wallMs;
  systemClock.wallMs = () => real() - 600_000;
  try {
    const { backend } = await world.peer();
    // All are on their way before the first answer sets its clock right.
    const names = ["job", "another job", "a third job"];
    const held = await Promise.all(names.map((name) => Lock.acquire(name, { backend })));
    for (const name of names) {
      assertEquals(await Lock.acquire(name, { backend: b.backend, wait: false }), null);
    }
    for (const lock of held) assert(await lock!.release());
  } finally {
    systemClock.wallMs = real;
  }
});

test("a cleanup whose clock is ahead by a minute deletes no live lock, once it knows the time", async () => {
  await using world = await World.start();
  const held = await acquire((await world.peer()).backend, { leaseMs: 10_000 });
  const { fencingToken: version } = held;
  // For all of this process; a backend that has heard from the server believes the server.
  const real = systemClock.wallMs;
  systemClock.wallMs = () => real() + 60_000;
  try {
    const operator = (await world.peer()).backend;
    // It has not heard of the server yet: this deletion goes by what it believes.
    const refused = await operator.commit([{ key: "job", version, value: null }]);
    assertEquals(refused.ok, false);
    // It knows the time now, and may delete what it has judged by it.
    assertEquals((await operator.commit([{ key: "job", version, value: null }])).ok, true);
  } finally {
    systemClock.wallMs = real;
  }
  assertEquals(await held.release(), false);
});

test(
  "the server's clock steps back an hour: fencing tokens rise, and no live holder is evicted",
  async () => {
    await using clock = await FalseClock.make();
    await using world = await World.start({ env: clock.env });
    const [a, b] = [await world.peer(), await world.peer()];
    const before = await acquire(a.backend);
    await before.release();
    const held = await acquire(a.backend, { leaseMs: 900 });
    assert(held.fencingToken > before.fencingToken);
    const waiting = acquire(b.backend, { leaseMs: 900 });
    // Through the waiter's own eyes: what it knows of the time, it knows from before.
    await untilQueued(b.backend, 1);
    await clock.set(-3600);
    // A server may look at its clock only now and then.
    while (await serverSeconds(world) > Date.now() / 1000 - 3000) await delay(10);
    // Three leases: renewals under the old and the new time meet a waiter that knows only the old.
    const outcome = await Promise.race([waiting.then(() => "evicted"), lossOf(held), delay(2700)]);
    assertEquals(outcome, undefined);
    assert(held.held);
    await commitIfHeld(held, [["SET", "value", "fresh"]]);
    assert(await held.release());
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken);
    assert(await next.release());
    const last = await acquire(a.backend);
    assert(last.fencingToken > next.fencingToken);
    assert(await last.release());
    await world.server.ask("SCRIPT", "FLUSH");
    const after = await acquire((await world.peer()).backend);
    assert(after.fencingToken > last.fencingToken);
    assert(await after.release());
  },
  unmet,
);

test(
  "the server's clock is at 1970 and its counters are gone: versions rise as long as there is a record",
  async () => {
    await using clock = await FalseClock.make();
    await using world = await World.start({ env: clock.env });
    const { backend } = await world.peer();
    const key = "job";
    const created = await backend.commit([{ key, version: null, value: "1" }]);
    assert(created.ok);
    await clock.set(Math.round(-Date.now() / 1000) + 5000);
    while (await serverSeconds(world) > 10_000) await delay(10);
    let { version } = created;
    // One record and several go by different scripts.
    for (const others of [[], [{ key: "another", version: null, value: "1" }]]) {
      for (const name of (await world.server.ask("KEYS", "*}")).match(/^holdfast:.*(?=\r)/gm) ?? []) {
        await world.server.ask("DEL", name);
      }
      await backend.read([key]);
      const changed = await backend.commit([{ key, version, value: "2" }, ...others]);
      assert(changed.ok && changed.version > version, `${JSON.stringify(changed)} after ${version}`);
      version = changed.version;
    }
    await world.server.ask("FLUSHALL");
    const first = await acquire(backend);
    assertEquals(await Lock.acquire("job", { backend: (await world.peer()).backend, wait: false }), null);
    assert(first.held && await first.release());
    const second = await acquire((await world.peer()).backend);
    assert(second.fencingToken > first.fencingToken);
    assert(await second.release());
  },
  unmet,
);

async function serverSeconds(world: World): Promise<number> {
  return Number((await world.server.ask("TIME")).split("\r\n")[2]);
}
