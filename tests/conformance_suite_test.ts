import { memoryBackend, MemoryStore } from "@holdfast/lock/backends/memory";
import { CASES, testBackend } from "@holdfast/lock/testing";
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { delay } from "@std/async";
import { Stage } from "../testing/stage.ts";
import { mapBackend, MapStore } from "./support/map_backend.ts";

const store = new MemoryStore();
const open = () => ({ backend: memoryBackend({ store }), close() {} });
const [first, second] = CASES;

Deno.test("the conformance suite registers every case once", () => {
  const names: string[] = [];
  testBackend({ name: "x", test: (name) => names.push(name), open });
  assertEquals(names, CASES.map((name) => `x: ${name}`));
  assertEquals(new Set(names).size, names.length);
});

Deno.test("the conformance suite reports a deviation with its reason", () => {
  const tested: string[] = [];
  const skipped: string[] = [];
  const test = (name: string) => tested.push(name);
  const skip = (name: string) => skipped.push(name);
  testBackend({ name: "x", test, skip, open, deviations: { [second]: "it cannot" } });
  assertEquals(skipped, [`x: ${second} (deviates: it cannot)`]);
  assertEquals(tested.length, CASES.length - 1);

  const all: string[] = [];
  testBackend({ name: "x", test: (name) => all.push(name), open, deviations: { [first]: "nor this" } });
  assertEquals(all[0], `x: ${first} (deviates: nor this)`);
  assertEquals(all.length, CASES.length);
});

Deno.test("the conformance suite refuses a deviation from no case, or without a reason", () => {
  const test = () => {};
  assertThrows(() => testBackend({ name: "x", test, open, deviations: { nonsense: "why" } }), TypeError);
  assertThrows(() => testBackend({ name: "x", test, open, deviations: { [first]: "" } }), TypeError);
});

Deno.test("the conformance suite fails a backend whose versions do not rise as strings, wherever its counter is", async () => {
  for (const versionOf of [String, (count: number) => `v${count}`]) {
    for (const from of [0, 8, 1000, 123_456]) {
      const store = new MapStore(versionOf, from);
      const cases = new Map<string, () => Promise<void>>();
      testBackend({
        name: "x",
        test: (name, play) => cases.set(name, play),
        open: () => ({ backend: mapBackend(store), close() {} }),
      });
      const error = await assertRejects(
        cases.get("x: store: versions that are numbers do not change their length")!,
      );
      assertStringIncludes(`${error}`, "is a number without leading zeros");
    }
  }
});

Deno.test("the conformance suite fails a backend that trips over records which vanish while it lists", async () => {
  const store = new MapStore();
  const open = () => {
    const backend = mapBackend(store);
    const list = async function* (prefix: string) {
      for (const key of [...store.records.keys()].filter((key) => key.startsWith(prefix))) {
        await delay(0);
        yield store.entry(key);
      }
    };
    return { backend: { ...backend, list }, close() {} };
  };
  const cases = new Map<string, () => Promise<void>>();
  testBackend({ name: "x", test: (name, play) => cases.set(name, play), open });
  await assertRejects(cases.get("x: store: a listing goes on while records vanish")!);
});

Deno.test("a case that ends too early leaves no rejection that nobody handles", async () => {
  const unhandled: unknown[] = [];
  const note = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    unhandled.push(event.reason);
  };
  addEventListener("unhandledrejection", note);
  const stage = new Stage([open(), open()], { stretch: 1 });
  await stage.acquire(stage.a);
  void stage.lock(stage.b).run(() => {});
  void stage.lock(stage.b).acquire();
  await stage.untilWaiting(1);
  await stage.close();
  // Rejections are reported when the microtasks have run.
  await delay(0);
  removeEventListener("unhandledrejection", note);
  assertEquals(unhandled, []);
});
