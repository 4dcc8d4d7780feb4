/** Messages that come so close behind others that nobody has been shown those; without a server. */

import { assertEquals } from "@std/assert";
import type { ClientAdapter } from "../../backends/redis/adapters.ts";
import { Subscriptions } from "../../backends/redis/subscriptions.ts";
import { LockBackendError } from "../../core/errors.ts";

/** A message that says only that there is a record of this version. */
const message = (version: number) => `${String(version).padStart(16, "0")}{"v":1,"holders":[]}`;

/** Subscriptions to one key whose messages the test sends, and that count how often the store is asked. */
async function subscribed() {
  let asked = 0;
  let deliver: (channel: string, message: string) => void = () => {};
  const adapter = {
    closed: false,
    subscriber: (heard: typeof deliver) => {
      deliver = heard;
      const done = () => Promise.resolve();
      return Promise.resolve({ subscribe: done, unsubscribe: done, close: done });
    },
  } as unknown as ClientAdapter;
  const subscriptions = new Subscriptions({
    adapter,
    read: ([key]) => {
      asked++;
      return Promise.resolve([{ key, value: null, version: null }]);
    },
    closedFailure: () => new LockBackendError("closed"),
    failure: (cause) => new LockBackendError(String(cause)),
    channelOf: (key) => key,
    silentChannel: "silent",
  });
  const watched = subscriptions.enter("job", undefined, () => {});
  const shown = new WeakSet();
  const showAll = () => {
    const versions = [];
    for (let entry; (entry = watched.next(shown, true)) !== undefined;) {
      shown.add(entry);
      versions.push(Number(entry.version));
    }
    return versions;
  };
  while (asked === 0) await Promise.resolve();
  await settled();
  showAll();
  asked = 0;
  return {
    subscriptions,
    showAll,
    send: (version: number) => deliver("job", message(version)),
    asked: () => asked,
  };
}

/** Until what has been answered has been worked on. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

Deno.test("hidden news: a message that overtakes one that no watcher has been shown makes the store be asked", async () => {
  const { subscriptions, send, showAll, asked } = await subscribed();
  send(5);
  send(9);
  await settled();
  assertEquals(asked(), 1);
  // The answer is newer than both.
  assertEquals(showAll(), [0]);
  await subscriptions.close();
});

Deno.test("hidden news: messages that are shown one after the other ask for nothing", async () => {
  const { subscriptions, send, showAll, asked } = await subscribed();
  send(5);
  assertEquals(showAll(), [5]);
  send(9);
  assertEquals(showAll(), [9]);
  await settled();
  assertEquals(asked(), 0);
  await subscriptions.close();
});

Deno.test("hidden news: what an answer has overtaken hides nothing any more", async () => {
  const { subscriptions, send, showAll, asked } = await subscribed();
  send(5);
  send(9);
  await settled();
  assertEquals([asked(), showAll()], [1, [0]]);
  send(10);
  await settled();
  assertEquals([asked(), showAll()], [1, [10]]);
  await subscriptions.close();
});
