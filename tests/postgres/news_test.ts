/** The messages that announce commits: that they fit, and what becomes of forged ones. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async";
import type { Change } from "../../core/backend.ts";
import { newsIn, newsOf } from "../../backends/postgres/news.ts";
import type { Lock } from "../../mod.ts";
import { acquire, fresh, test, untilQueued, untilWatched, World } from "./world.ts";

/** Postgres refuses a notification that is longer, and with it the commit. */
const MOST_BYTES = 7999;
const VERSION = "1".repeat(16);

const change = (key: string, value: string | null): Change => ({ key, version: null, value });

/** The message as the statements put it together. */
function sent(changes: readonly Change[], concerns?: readonly string[]): string {
  const { index, extent } = newsOf(changes, concerns);
  return index + VERSION + (extent === "whole" ? changes.map(({ value }) => value ?? "").join("") : "");
}

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

Deno.test("Postgres: news of every length fits into a notification, and says as much as fits", () => {
  const chars = ["x", "ä", "漢", "\u{1f512}", '"', "\\", "\n"];
  for (const char of chars) {
    const least = 7700 / bytesOf(char);
    for (let length = 0; length < 9000; length += length > least && bytesOf(char) * length < 8010 ? 1 : 199) {
      const value = char.repeat(length);
      const changes = [change("job", value), change("job#queue", null)];
      const message = sent(changes, ["a", "b"]);
      assert(bytesOf(message) <= MOST_BYTES, `${bytesOf(message)} bytes`);
      const news = newsIn(message)!;
      assertEquals(news.concerns, ["a", "b"]);
      const isWhole = news.entries.some(({ value }) => value !== null);
      assertEquals(isWhole ? [] : ["job"], news.untold);
      if (isWhole) assertEquals(news.entries[0], { key: "job", value, version: VERSION });
      assertEquals(news.entries.at(-1), { key: "job#queue", value: null, version: null });
      const whole = `${
        JSON.stringify([["a", "b"], "job", value.length, "job#queue", -1])
      }\n${VERSION}${value}`;
      assertEquals(isWhole, bytesOf(whole) <= MOST_BYTES);
    }
  }
});

Deno.test("Postgres: keys and names that fill a message by themselves: every watcher looks", () => {
  const many = Array.from({ length: 300 }, (_, i) => change(`job-${i}`, "1"));
  const long = Array.from({ length: 20 }, (_, i) => change("\u{1f512}".repeat(110) + i, "1"));
  const names = Array.from({ length: 1000 }, (_, i) => `name-${i}`);
  for (const message of [sent(many), sent(long), sent([change("job", "1")], names)]) {
    assert(bytesOf(message) <= MOST_BYTES);
    assertEquals(newsIn(message), { concerns: null, entries: [], untold: [] });
  }
});

/** A version that is higher than any that the server will give. */
const LATE = "9".repeat(16);

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
    fence: LATE,
  }],
});
const FREED = '{"v":1,"holders":[]}';

/** What a message can say of the lock `id` that is not so, by what it does. */
const FORGED: Readonly<Record<string, (id: string) => string>> = {
  "that another holds it for years": (id) => said([id, HELD.length], HELD),
  "the same under a version of long ago": (id) => said([id, HELD.length], HELD, "0".repeat(16)),
  "that it is free": (id) => said([id, FREED.length], FREED),
  "that it is gone": (id) => said([id, -1]),
  "that it is gone, and its queue": (id) => said([id, -1, `${id}#queue`, -1]),
  "that there is something too long": (id) => said([id, -2]),
  "that there may be anything": () => said([]),
  "of another lock": () => said(["another", HELD.length], HELD),
  "a record that is no JSON": (id) => said([id, 3], "{{{"),
  "a record that is none": (id) => said([id, 2], "[]"),
  "no version": (id) => `${JSON.stringify([null, id, 0])}\nsoon`,
  "no list": () => `{}\n${LATE}`,
  "names that are none": (id) => `${JSON.stringify([[7], id, -1])}\n${LATE}`,
  "lengths beyond its end": (id) => said([id, 2 ** 40], "x"),
  "a length below nothing": (id) => said([id, -7]),
  "garbage": () => "garbage",
  "nothing": () => "",
  "as much as there can be": () => "x".repeat(MOST_BYTES),
  "an answer to a probe": () => "probe:guessed",
};

function said(keys: readonly unknown[], records = "", version = LATE): string {
  return `${JSON.stringify([null, ...keys])}\n${version}${records}`;
}

test("forged notifications, of any role that may connect: the holder holds, the waiter waits, and is granted", async () => {
  await using world = new World();
  const [a, b] = [world.peer(), world.peer()];
  // A role without any right to the table.
  await a.sql("CREATE ROLE stranger LOGIN");
  const stranger = await world.session({ user: "stranger", database: "postgres" });
  await (await acquire(a.backend, fresh())).release();
  const [{ channel }] = await a.sql("SELECT 'holdfast_' || 'holdfast_lock'::regclass::oid AS channel");
  // Its own message comes last, on every connection that listens.
  const listener = await world.session();
  const heard = new Set<string>();
  listener.on("notification", ({ payload = "" }: { payload?: string }) => heard.add(payload));
  await listener.query(`LISTEN "${channel}"`);
  for (const [what, forge] of Object.entries(FORGED)) {
    const id = fresh();
    const send = async () => {
      await stranger.query("SELECT pg_notify($1, $2)", [channel, forge(id)]);
      const end = `the end of ${crypto.randomUUID()}`;
      await stranger.query("SELECT pg_notify($1, $2)", [channel, end]);
      while (!heard.has(end)) await delay(2);
    };
    const held = await acquire(a.backend, id);
    let isGranted = false;
    const waiting = acquire(b.backend, id).then((lock: Lock) => {
      isGranted = true;
      return lock;
    });
    await untilQueued(a, id);
    await untilWatched(a, id);
    await send();
    await send();
    // What it has made them ask has been answered.
    await Promise.all([a, b].map(({ backend }) => backend.read([id])));
    assertEquals([held.held, isGranted], [true, false], what);
    assertEquals(await held.release(), true, what);
    await send();
    const next = await waiting;
    assert(next.fencingToken > held.fencingToken && next.fencingToken < LATE, what);
    await send();
    await b.backend.read([id]);
    assertEquals([next.held, await next.release()], [true, true], what);
  }
});
