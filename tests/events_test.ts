// What is published on the diagnostics channels, and when.
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import {
  forceRelease,
  Lock,
  lock,
  LockAcquisitionError,
  LockBackendError,
  type LockEvents,
  type LockOptions,
} from "../mod.ts";
import { Probe } from "../testing/probe.ts";

const NAMES: readonly (keyof LockEvents)[] = [
  "holdfast:wait-start",
  "holdfast:acquired",
  "holdfast:bailed",
  "holdfast:renewed",
  "holdfast:lost",
  "holdfast:released",
  "holdfast:conflict",
  "holdfast:backend-error",
];

// deno-lint-ignore no-explicit-any
type Message = { event: string } & Record<string, any>;

/** All that is published of one identifier, in its order. */
class Listener implements Disposable {
  readonly messages: Message[] = [];
  readonly #stops: (() => void)[] = [];
  #wake = (_: unknown) => {};

  constructor(identifier: string) {
    for (const name of NAMES) {
      const hear = (message: unknown) => {
        const published = { event: name.slice("holdfast:".length), ...message as object } as Message;
        if (published.identifier === identifier) this.messages.push(published);
        this.#wake(published);
      };
      subscribe(name, hear);
      this.#stops.push(() => unsubscribe(name, hear));
    }
  }

  get names(): string[] {
    return this.messages.map(({ event }) => event);
  }

  of(event: string): Message {
    return this.messages.find((message) => message.event === event)!;
  }

  async until(event: string): Promise<void> {
    // The timers of a hold do not keep a program alive.
    let late = false;
    const limit = setTimeout(() => this.#wake(late = true), 5000);
    while (!late && !this.names.includes(event)) {
      await new Promise<unknown>((resolve) => this.#wake = resolve);
    }
    clearTimeout(limit);
    assert(!late, `${event} was not published`);
  }

  [Symbol.dispose](): void {
    for (const stop of this.#stops) stop();
  }
}

function scene() {
  const identifier = `events:${crypto.randomUUID()}`;
  const store = new MemoryStore();
  const participant = () => new Probe(memoryBackend({ store }));
  const forms = (backend: Probe, options: LockOptions = {}) => lock(identifier, { backend, ...options });
  return { identifier, participant, forms, heard: new Listener(identifier) };
}

Deno.test("events: a lock that is acquired and released", async () => {
  const { identifier, participant, forms, heard } = scene();
  using _ = heard;
  const held = await forms(participant(), { label: "me", kind: "weak" }).acquire();
  await held.release();
  assertEquals(heard.names, ["wait-start", "acquired", "released"]);
  const { id } = heard.of("wait-start");
  const { fencingToken } = held;
  const { waitedMs } = heard.of("acquired");
  const { heldMs } = heard.of("released");
  assert(waitedMs >= 0 && heldMs >= 0);
  const common = { id, identifier, kind: "weak", label: "me", mode: "exclusive", limit: 1 };
  assertEquals(heard.messages, [
    { event: "wait-start", ...common },
    { event: "acquired", ...common, fencingToken, waitedMs },
    { event: "released", ...common, fencingToken, heldMs, handedOver: false, error: undefined },
  ]);
});

Deno.test("events: waiters are distinguished, and a refused write is a conflict", async () => {
  const { participant, forms, heard } = scene();
  using _ = heard;
  const [a, b] = [participant(), participant()];
  const first = await forms(a).acquire();
  const second = forms(b).acquire();
  await heard.until("conflict");
  await first.release();
  await (await second).release();
  const story = heard.messages.filter(({ event }) => event !== "conflict").map((
    { event, id },
  ) => [event, id]);
  const [one, two] = heard.messages.filter(({ event }) => event === "wait-start").map(({ id }) => id);
  assert(one !== two);
  assertEquals(story.filter(([, id]) => id === one).map(([event]) => event), [
    "wait-start",
    "acquired",
    "released",
  ]);
  assertEquals(story.filter(([, id]) => id === two).map(([event]) => event), [
    "wait-start",
    "acquired",
    "released",
  ]);
});

Deno.test("events: a renewal", async () => {
  const { participant, forms, heard } = scene();
  using _ = heard;
  const held = await forms(participant(), { leaseMs: 100 }).acquire();
  await heard.until("renewed");
  await held.release();
  const { fencingToken, lateMs } = heard.of("renewed");
  assertEquals(fencingToken, held.fencingToken);
  assert(lateMs >= 0);
});

Deno.test("events: a loss, once, with its reason", async () => {
  const { identifier, participant, forms, heard } = scene();
  using _ = heard;
  const [a, b] = [participant(), participant()];
  const held = await forms(a).acquire();
  await forceRelease(identifier, { backend: b });
  assertEquals(heard.names.includes("lost"), false, "it has not been published yet");
  assertEquals(await held.release(), false);
  assertEquals(await held.release(), false);
  const ends = heard.messages.filter(({ event }) => event === "lost" || event === "released");
  assertEquals(ends.map(({ event, reason }) => [event, reason]), [["lost", "forced"]]);
});

Deno.test("events: a lease that ran out", async () => {
  const { participant, forms, heard } = scene();
  using _ = heard;
  const held = await forms(participant(), { leaseMs: 100, renew: false }).acquire();
  await heard.until("lost");
  assertEquals([heard.of("lost").reason, held.held], ["expired", false]);
  assert(heard.of("lost").heldMs >= 90);
});

Deno.test("events: callers that bail, and why", async () => {
  const { identifier, participant, forms, heard } = scene();
  using _ = heard;
  const [a, b, broken] = [participant(), participant(), participant()];
  const held = await forms(a).acquire();
  const taken = await assertRejects(() => forms(b, { wait: false }).acquire(), LockAcquisitionError);
  assertEquals(await Lock.acquire(identifier, { backend: b, waitForMs: 10 }), null);
  const ending = new AbortController();
  const cancelled = forms(b, { signal: ending.signal }).acquire().catch((error) => error);
  ending.abort("enough");
  assertEquals(await cancelled, "enough");
  broken.fail(new Error("the store is out"));
  const failed = await assertRejects(() => forms(broken).acquire(), LockBackendError);
  await held.release();
  const bailed = heard.messages.filter(({ event }) => event === "bailed");
  assertEquals(bailed.map(({ outcome }) => outcome), ["taken", "taken", "cancelled", "failed"]);
  assertEquals([bailed[0].error, bailed[2].error, bailed[3].error], [taken, "enough", failed]);
  assert(bailed.every(({ waitedMs }) => waitedMs >= 0));
});

Deno.test("events: a release that the store does not hear of", async () => {
  const { identifier, participant, forms, heard } = scene();
  using _ = heard;
  const backend = participant();
  assertEquals(
    await forms(backend).run(() => {
      backend.fail(new Error("the store is out"));
      return "done";
    }),
    "done",
  );
  const { error } = heard.of("released");
  assertInstanceOf(error, LockBackendError);
  assertEquals([error.identifier, heard.of("backend-error").error], [identifier, error]);
});

Deno.test("events: what listens to a loss runs in the context of the code that asked for the signal", async () => {
  const { identifier, participant, forms } = scene();
  const backend = participant();
  const context = new AsyncLocalStorage<string>();
  const heard: (string | undefined)[] = [];
  const listen = (held: Lock, name: string) =>
    context.run(name, () => held.signal.addEventListener("abort", () => heard.push(context.getStore())));
  const evict = () => context.run("operator", () => forceRelease(identifier, { backend }));

  const first = await context.run("first", () => forms(backend).acquire());
  listen(first, "a listener");
  const waiting = context.run("second", () => forms(backend).acquire());
  await evict();
  // It was handed over within what others did.
  const second = await waiting;
  listen(second, "another listener");
  const last = context.run("last", () => forms(backend).acquire());
  await evict();
  await context.run("another caller", async () => void await (await last).release());
  assertEquals(heard, ["a listener", "another listener"]);
});
