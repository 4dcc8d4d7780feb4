// How one process watches many records of a Deno KV that announces nothing: in virtual time, on a database of our own.
import { assert, assertEquals } from "@std/assert";
import { Closing } from "../backends/closing.ts";
import { Poller } from "../backends/kv/poller.ts";
import { KvWatcher } from "../backends/kv/watcher.ts";
import type { Entry } from "../core/backend.ts";
import { UnreadableRecordError } from "../core/errors.ts";
import { SimProcess } from "./simulation/process.ts";
import { World } from "./simulation/world.ts";

const GRACE_MS = 250;
const SPAN_MS = 1500;

/** A database of records that change when a test says so, and the process that looks at them. */
class Scene {
  readonly world: World = new World();
  readonly process: SimProcess = new SimProcess(this.world, { name: "a process" });
  readonly #versions = new Map<string, number>();
  /** When each record was read. */
  readonly reads = new Map<string, number[]>();
  calls = 0;
  /** What is in the way of reading. */
  unreadable: string | undefined;
  readonly #watcher = new KvWatcher(
    { kv: {} as never, graceMs: GRACE_MS, keyOf: (key) => [key], read: this.read },
    {
      origin: { native: false, remote: false },
      closing: new Closing("Deno KV"),
      clock: this.process.clock,
    },
  );

  get read(): (keys: readonly string[]) => Promise<readonly Entry[]> {
    return (keys) => {
      this.calls++;
      if (keys.includes(this.unreadable!)) return Promise.reject(new UnreadableRecordError("in the way"));
      return Promise.resolve(keys.map((key) => {
        this.reads.set(key, [...this.reads.get(key) ?? [], this.world.now]);
        const version = this.#versions.get(key);
        return version === undefined
          ? { key, value: null, version: null }
          : { key, value: "", version: `${version}` };
      }));
    };
  }

  change(key: string): void {
    this.#versions.set(key, (this.#versions.get(key) ?? 0) + 1);
  }

  /** Watches records until it is called back; what comes is given to `heard`. */
  watch(keys: readonly string[], heard: (entry: Entry) => void = () => {}): () => void {
    const ending = new AbortController();
    for (const key of keys) {
      void (async () => {
        for await (const entry of this.#watcher.watch(key, { signal: ending.signal })) heard(entry);
      })();
    }
    return () => ending.abort();
  }

  /** Lets time go by. */
  async wait(ms: number): Promise<void> {
    const until = this.world.now + ms;
    // What has been begun goes on first.
    this.world.schedule(0, () => {});
    this.world.schedule(ms, () => {});
    const over = new Error("over");
    await this.world.run(until + 1, () => {
      if (this.world.now >= until) throw over;
    }).catch((error) => {
      if (error !== over) throw error;
    });
  }

  /** The longest time without a look at a record, until now. */
  longestMs(key: string): number {
    const times = [...this.reads.get(key)!, this.world.now];
    return Math.max(...times.slice(1).map((time, i) => time - times[i]));
  }
}

const names = (count: number) => Array.from({ length: count }, (_, i) => `lock ${i}`);

Deno.test("kv watcher: however many locks are waited for, each is looked at well within the grace, ten in a call", async () => {
  for (const count of [1, 9, 200, 1000, 3000]) {
    const scene = new Scene();
    const keys = names(count);
    const stop = scene.watch(keys);
    await scene.wait(SPAN_MS);
    const longestMs = Math.max(...keys.map((key) => scene.longestMs(key)));
    assert(longestMs <= GRACE_MS / 2 + 1, `${count}: ${longestMs}`);
    const looks = [...scene.reads.values()].reduce((sum, times) => sum + times.length, 0);
    assert(looks / scene.calls >= Math.min(count, 9), `${count}: ${looks} looks in ${scene.calls} calls`);
    // Nor oftener than it takes: a look at 1000 takes some 30 ms.
    if (count >= 1000) assert(looks <= count * SPAN_MS / 70, `${count}: ${looks} looks`);
    stop();
    await scene.wait(0);
  }
});

Deno.test("kv watcher: a lock that changes is not held up by all the others, and they hear of it soon", async () => {
  const scene = new Scene();
  const keys = names(1000);
  const heard: Record<string, number> = {};
  const stop = scene.watch(keys, ({ key }) => heard[key] = scene.world.now);
  await scene.wait(1000);
  const [busy] = keys;
  for (let i = 0; i < 50; i++) {
    scene.change(busy);
    await scene.wait(20);
  }
  const recent = scene.reads.get(busy)!.slice(-100);
  assert(recent.at(-1)! - recent[0] < 100 * 6, "looked at every few milliseconds");
  // Those that have been quiet for long.
  scene.change(keys[500]);
  const changedMs = scene.world.now;
  await scene.wait(GRACE_MS);
  assert(heard[keys[500]] - changedMs <= GRACE_MS / 2 + 1);
  stop();
  await scene.wait(0);
});

Deno.test("kv watcher: a record that cannot be read is no news, and is in the way of no other", async () => {
  const scene = new Scene();
  const keys = names(20);
  scene.unreadable = keys[3];
  const heard = new Set<string>();
  const failed: string[] = [];
  const poller = new Poller({ clock: scene.process.clock, read: scene.read, pauseMs: () => 10 });
  const all = keys.map((key) => ({
    key,
    isIdle: false,
    onLook: () => void heard.add(key),
    onFailure: () => void failed.push(key),
  }));
  for (const polled of all) poller.add(polled);
  await scene.wait(5);
  assertEquals([heard.size, failed], [19, [keys[3]]]);
  for (const polled of all) poller.remove(polled);
  await scene.wait(0);
});

Deno.test("kv watcher: what is woken while it is looked at is looked at once more, and one that has left hears nothing", async () => {
  const scene = new Scene();
  const answers: (() => void)[] = [];
  const read = (keys: readonly string[]) =>
    new Promise<readonly Entry[]>((resolve) =>
      answers.push(() => resolve(keys.map((key) => ({ key, value: null, version: null }))))
    );
  const poller = new Poller({ clock: scene.process.clock, read, pauseMs: () => 1000 });
  const told: boolean[] = [];
  const polled = {
    key: "a lock",
    isIdle: true,
    onLook: (_: Entry, isWoken: boolean) => void told.push(isWoken),
    onFailure: () => {},
  };
  poller.add(polled);
  await scene.wait(1);
  poller.wake(polled);
  await scene.wait(1);
  assertEquals(answers.length, 1);
  answers.shift()!();
  await scene.wait(1);
  answers.shift()!();
  await scene.wait(5000);
  assertEquals([told, answers.length], [[false, true], 0]);
  poller.wake(polled);
  await scene.wait(1);
  poller.remove(polled);
  answers.shift()!();
  await scene.wait(1);
  assertEquals(told.length, 2);
});
