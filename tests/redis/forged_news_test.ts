/** Messages of a client that may publish, and no more. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import type { Entry, LockBackend } from "../../core/backend.ts";
import type { Lock } from "../../mod.ts";
import { acquire, test, untilQueued, World } from "./world.ts";

/** A version that is higher than any that the server will give. */
const VERSION = "9".repeat(16);

/** A record in which another process holds the lock for years. */
const HELD = JSON.stringify({
  v: 1,
  holders: [{
    token: "no process/1",
    mode: "exclusive",
    limit: 1,
    since: 0,
    leaseMs: 2 ** 31 - 1,
    expiresAt: 8e15,
    renewals: 0,
    fence: VERSION,
  }],
});

const index = (...parts: unknown[]) => `${JSON.stringify(parts)}\n${VERSION}`;

/** What a message can say that is not so, by what it does. */
const FORGED: Readonly<Record<string, string>> = {
  "a valid record with a huge version and a far lease": VERSION + HELD,
  "the same as the news of a commit": `${index("job", HELD.length)}${HELD}`,
  "an empty queue": `${index("job", HELD.length, "job#queue", -1)}${HELD}`,
  "a record of another key": `${index("another", HELD.length)}${HELD}`,
  "that there is nothing": "",
  "a version and no record": VERSION,
  "a version and no JSON": `${VERSION}{{{`,
  "no version": "garbage",
  "an index that is no list": `["job"\n${VERSION}`,
  "an index of other things": `${index({}, null)}`,
  "lengths beyond its end": `${index("job", 2 ** 40)}x`,
  "a length below nothing": `${index("job", -7)}x`,
  "a thousand records": `${index(...Array.from({ length: 1000 }, (_, i) => [`${i}`, 0]).flat())}`,
  "a megabyte": VERSION + "x".repeat(2 ** 20),
  "a megabyte of JSON": `${VERSION}{"v":1,"holders":[],"x":"${"x".repeat(2 ** 20)}"}`,
};

for (const [what, message] of Object.entries(FORGED)) {
  test(`a forged message: ${what}: the waiter waits, gets the lock when it is free, and the order is kept`, async () => {
    await using world = await World.start();
    const [a, b] = [await world.peer(), await world.peer()];
    const held = await acquire(a.backend);
    const waiting = acquire(b.backend);
    await untilQueued(a.backend, 1);
    await publishEverywhere(world, message);
    await untilHeard(world);
    const before = await connections(world);
    assert(await held.release());
    await publishEverywhere(world, message);
    const next: Lock = await waiting;
    assert(next.held && next.fencingToken > held.fencingToken && next.fencingToken < VERSION);
    // A holder that watches its record believes the store.
    assert(!next.signal.aborted);
    await publishEverywhere(world, message);
    await untilHeard(world);
    assert(next.held && !next.signal.aborted);
    assertEquals(await connections(world), before);
    assert(await next.release());
  });
}

test("forged messages: a watch comes back to what is there", async () => {
  await using world = await World.start();
  const { backend } = await world.peer();
  const made = await backend.commit([{ key: "job", version: null, value: HELD }]);
  assert(made.ok);
  const seen: Entry[] = [];
  const ending = new AbortController();
  const watching = (async () => {
    for await (const entry of backend.watch("job", { signal: ending.signal })) seen.push(entry);
  })();
  while (seen.length === 0) await delay(5);
  await publishEverywhere(world, `${VERSION}{"v":1,"holders":[]}`);
  // What is there may be shown again before we look.
  while (!seen.some(({ version }) => version === VERSION)) await delay(5);
  while (seen.at(-1)?.version !== made.version) await delay(5);
  ending.abort();
  await watching;
  assertEquals(seen.at(-1), { key: "job", value: HELD, version: made.version });
});

/** To every channel that has a listener. */
async function publishEverywhere(world: World, message: string): Promise<void> {
  const channels = (await world.server.ask("PUBSUB", "CHANNELS")).match(/^holdfast.*(?=\r)/gm) ?? [];
  assert(channels.length > 0);
  for (const channel of channels) await world.server.ask("PUBLISH", channel, message);
}

/** Until all waiters have surely had the messages: each of their connections has read all that was sent to it. */
async function untilHeard(world: World): Promise<void> {
  const { backend }: { backend: LockBackend } = await world.peer();
  await backend.read(["job"]);
  while (/(oll|omem)=[1-9]/.test(await world.server.ask("CLIENT", "LIST", "TYPE", "pubsub"))) await delay(5);
  await delay(20);
}

/** The connections for subscriptions, by their numbers. */
async function connections(world: World): Promise<string[]> {
  return (await world.server.ask("CLIENT", "LIST", "TYPE", "pubsub")).match(/\bid=\d+/g)?.sort() ?? [];
}
