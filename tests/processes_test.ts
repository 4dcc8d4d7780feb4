/**
 * The laws between real processes that share a store, some of which are killed or frozen: on one SQLite file, on a
 * Deno KV server and on Redis, under Deno, Node and Bun at the same time.
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import { runtimes, test } from "./processes/stage.ts";
import { type Child, now } from "./support/child.ts";

/** What a busy machine may add to any time that the laws promise. */
const SLACK_MS = 5000;

test("four of them: every increment counts, no two of them overlap", { count: 4 }, async (processes) => {
  const times = 25;
  const answers = await Promise.all(
    processes.children.map((child, i) =>
      child.ask({ do: "increment", name: `by ${i}`, times }, "incremented")
    ),
  );
  const spans = answers.flatMap(({ spans }) => spans as [number, number][]).sort(([a], [b]) => a - b);
  assertEquals(spans.length, 4 * times);
  assertEquals(spans.filter(([from], i) => i > 0 && from < spans[i - 1][1]), []);
  assertEquals(await processes.read("bare", "proven"), ["100", "100"]);
  assertEquals(await processes.record(), null);
});

test(
  "four of them, one killed, one frozen: the guarded counter is exact",
  { count: 4 },
  async (processes) => {
    const [one, killed, frozen, other] = processes.children;
    const options = { leaseMs: 600 };
    const times = 20;
    const increment = (child: Child, name: string, times: number | null) =>
      child.send({ do: "increment", name, times, options });
    await frozen.ask({ do: "acquire", options: { ...options, renew: false } }, "acquired");
    // Not in the middle of a commit: a process that is stopped there keeps SQLite from all others.
    await frozen.ask({ do: "commit", value: "stale", pause: true }, "ready");
    frozen.signal("SIGSTOP");
    increment(one, "one", times);
    increment(killed, "killed", null);
    increment(other, "other", times);
    for (let i = 0; i < 3; i++) await killed.next("progressed");
    killed.signal("SIGKILL");
    await one.next("incremented");
    await other.next("incremented");
    frozen.signal("SIGCONT");
    const { reason, heldWhenSent } = await frozen.ask({ do: "go" }, "refused");
    assertEquals({ reason, heldWhenSent }, { reason: "expired", heldWhenSent: false });
    increment(frozen, "frozen", times);
    await frozen.next("incremented");
    assertEquals(await processes.read("value"), [null]);
    const [proven, ...counts] = (await processes.read("proven", "one", "other", "frozen", "killed")).map(
      Number,
    );
    assertEquals(counts.reduce((sum, count) => sum + count), proven);
    // What was acknowledged is there, and nothing else; the killed one may have heard no answer to its last.
    assertEquals(counts.slice(0, 3), [times, times, times]);
    assert(counts[3] >= 3);
  },
);

test("a killed holder: a waiter follows when the lease has expired", { count: 2 }, async (processes) => {
  const [victim, waiter] = processes.children;
  const leaseMs = 1500;
  const first = await victim.ask({ do: "acquire", options: { leaseMs } }, "acquired");
  waiter.send({ do: "acquire" });
  await processes.queued(1);
  victim.signal("SIGKILL");
  const killed = now();
  const second = await waiter.next("acquired");
  assert(second.fencingToken > first.fencingToken);
  assert(second.at >= first.asked + leaseMs, "granted before the lease was over");
  assert(second.at <= killed + leaseMs + processes.skewMs + SLACK_MS, `only ${second.at - killed} ms later`);
  assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  assertEquals(await processes.record(), null);
});

for (const [first, { name }] of runtimes.entries()) {
  const title = `a holder frozen under ${name} learns on waking that it has lost, and writes nothing`;
  test(title, { count: 2, first }, async (processes) => {
    const [frozen, successor] = processes.children;
    const leaseMs = 1500;
    // Without renewals it is not stopped in the middle of a commit, which would keep SQLite from all others.
    const granted = await frozen.ask({ do: "acquire", options: { leaseMs, renew: false } }, "acquired");
    frozen.send({ do: "tick", gapMs: leaseMs });
    successor.send({ do: "acquire" });
    await processes.queued(1);
    frozen.signal("SIGSTOP");
    const stopped = now();
    const next = await successor.next("acquired");
    assert(next.fencingToken > granted.fencingToken);

    // It knows by the gap that it was frozen. Where this test was late to stop it, its lease has ended earlier.
    await delay(Math.max(0, stopped + leaseMs - now()));
    frozen.signal("SIGCONT");
    const { held, aborted, reason } = await frozen.next("woke");
    assertEquals({ held, aborted, reason }, { held: false, aborted: true, reason: "expired" });
    assertEquals((await frozen.ask({ do: "commit", value: "stale" }, "refused")).reason, "expired");
    assertEquals((await frozen.ask({ do: "release" }, "released")).ours, false);

    assertEquals(await processes.read("value"), [null]);
    assertEquals((await successor.ask({ do: "look" }, "looked")).held, true);
    await successor.ask({ do: "commit", value: "fresh" }, "committed");
    assertEquals(await processes.read("value"), ["fresh"]);
    assertEquals((await successor.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await processes.record(), null);
  });
}

test(
  "a killed waiter that was first in the queue delays the next one by its grace only",
  { count: 3 },
  async (processes) => {
    const [holder, head, next] = processes.children;
    await holder.ask({ do: "acquire" }, "acquired");
    head.send({ do: "acquire" });
    await processes.queued(1);
    next.send({ do: "acquire" });
    await processes.queued(2);
    head.signal("SIGKILL");
    const released = await holder.ask({ do: "release" }, "released");
    const { at } = await next.next("acquired");
    assert(at <= released.at + SLACK_MS, `granted only ${at - released.at} ms after the release`);
    assertEquals((await next.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await processes.record(), null);
  },
);

test("the queue holds: first come, first served", { count: 5 }, async (processes) => {
  const [holder, ...waiters] = processes.children;
  await holder.ask({ do: "acquire" }, "acquired");
  for (const [i, waiter] of waiters.entries()) {
    waiter.send({ do: "acquire" });
    await processes.queued(i + 1);
  }
  await holder.ask({ do: "release" }, "released");
  const tokens: string[] = [];
  for (const waiter of waiters) {
    tokens.push((await waiter.next("acquired")).fencingToken);
    assertEquals((await waiter.ask({ do: "release" }, "released")).ours, true);
  }
  assertEquals(tokens, tokens.toSorted());
  assertEquals(await processes.record(), null);
});

test(
  "an evicted holder learns 'stolen', in another process than the stealer's",
  { count: 2, first: 1 },
  async (processes) => {
    const [evicted, stealer] = processes.children;
    // Where there is push, the next renewal is a week away.
    const leaseMs = processes.pushes ? 2 ** 31 - 1 : 1500;
    await evicted.ask({ do: "acquire", options: { leaseMs } }, "acquired");
    // It watches after one second; it would learn of an eviction before that at its renewal only.
    if (processes.pushes) await delay(2500);
    await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
    assertEquals((await evicted.next("lost")).reason, "stolen");
    assertEquals((await evicted.ask({ do: "commit", value: "stale" }, "refused")).reason, "stolen");
    assertEquals((await evicted.ask({ do: "release" }, "released")).ours, false);
    assertEquals((await stealer.ask({ do: "look" }, "looked")).held, true);
    assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
  },
);

test(
  "the store refuses the write of an evicted holder that was under way before it knew",
  { count: 2 },
  async (processes) => {
    const [evicted, stealer] = processes.children;
    await evicted.ask({ do: "acquire" }, "acquired");
    // Proven to be held, and ready to be sent: nothing but the store can stop it now.
    await evicted.ask({ do: "commit", value: "stale", pause: true }, "ready");
    await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
    await stealer.ask({ do: "commit", value: "fresh" }, "committed");
    const { heldWhenSent, reason } = await evicted.ask({ do: "go" }, "refused");
    assertEquals(reason, "stolen");
    // A holder that is notified by push may have heard of it by now.
    if (!processes.pushes) assertEquals(heldWhenSent, true);
    assertEquals(await processes.read("value"), ["fresh"]);
    assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
  },
);

test(
  "an evicted holder that releases before it knew takes nothing from its successor",
  { count: 2, first: 2 },
  async (processes) => {
    const [evicted, stealer] = processes.children;
    await evicted.ask({ do: "acquire" }, "acquired");
    await stealer.ask({ do: "acquire", options: { stealAfterMs: 0 } }, "acquired");
    assertEquals((await evicted.ask({ do: "release" }, "released")).ours, false);
    assertEquals((await processes.record())?.holders.length, 1);
    await stealer.ask({ do: "commit", value: "fresh" }, "committed");
    assertEquals((await stealer.ask({ do: "release" }, "released")).ours, true);
  },
);

test(
  "a frozen holder blocks a newcomer no longer than its lease",
  { count: 2, first: 1 },
  async (processes) => {
    const [frozen, newcomer] = processes.children;
    const leaseMs = 2000;
    const { asked } = await frozen.ask({ do: "acquire", options: { leaseMs } }, "acquired");
    frozen.signal("SIGSTOP");
    const stopped = now();
    const { at } = await newcomer.ask({ do: "acquire" }, "acquired");
    assert(at >= asked + leaseMs, `granted ${asked + leaseMs - at} ms before the lease was over`);
    assert(
      at <= stopped + leaseMs + processes.skewMs + SLACK_MS,
      `granted only ${at - stopped} ms after the stop`,
    );
    assertEquals((await newcomer.ask({ do: "release" }, "released")).ours, true);
    assertEquals(await processes.record(), null);
  },
);
