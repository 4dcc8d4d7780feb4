// Traces and metrics, as the SDK of OpenTelemetry receives them, and as Deno exports them by itself.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { processLabel } from "../process_label.ts";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { context, metrics, type Span, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  type DataPoint,
  type Histogram,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { memoryBackend, MemoryStore } from "../backends/memory.ts";
import { forceRelease, Lock, lock, LockBackendError, type LockEvents, type LockOptions } from "../mod.ts";
import { instrument, type InstrumentOptions } from "../otel.ts";
import { Probe } from "../testing/probe.ts";

/** One measured value, or the sum of several. */
interface Point {
  readonly attributes: Record<string, unknown>;
  readonly count: number;
  readonly sum: number;
}

/** The SDK with memories for exporters, and two processes on one store. */
function scene(options: InstrumentOptions = {}) {
  const spans = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  // Flushed by hand: no timer is to decide.
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 30 });
  const meters = new MeterProvider({ readers: [reader] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const traces = {
    getTracer: (name: string, version: string) => provider.getTracer(name, version),
    setSpan: trace.setSpan,
  };
  const telemetry = instrument({ context, trace: traces, metrics: meters }, options);
  const store = new MemoryStore();
  const participant = () => new Probe(memoryBackend({ store }));
  const identifier = `otel:${crypto.randomUUID()}`;
  return {
    identifier,
    a: participant(),
    b: participant(),
    telemetry,
    forms: (backend: Probe, options: LockOptions = {}) => lock(identifier, { backend, ...options }),
    spans: () => spans.getFinishedSpans(),
    holds: () => spans.getFinishedSpans().filter(({ name }) => name === "holdfast hold"),
    /** Runs `fn` in a span of the caller's. */
    inside: <Result>(name: string, fn: (span: Span) => Promise<Result>) =>
      provider.getTracer("the app").startActiveSpan(name, (span) => fn(span).finally(() => span.end())),
    async points(name: string): Promise<Point[]> {
      exporter.reset();
      await reader.forceFlush();
      const found = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics)
        .flatMap(({ metrics }) => metrics).filter(({ descriptor }) => descriptor.name === name);
      return found.flatMap(({ dataPoints }) => dataPoints as DataPoint<number | Histogram>[])
        .map(({ attributes, value }) => {
          const { count, sum = 0 } = typeof value === "number" ? { count: 1, sum: value } : value;
          return { attributes, count, sum };
        });
    },
    async scopes(): Promise<{ name: string; version: string | undefined }[]> {
      exporter.reset();
      await reader.forceFlush();
      return exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics)
        .map(({ scope: { name, version } }) => ({ name, version }));
    },
    async [Symbol.asyncDispose]() {
      telemetry.stop();
      context.disable();
      await meters.shutdown();
      await provider.shutdown();
    },
  };
}

function hear<Name extends keyof LockEvents>(
  name: Name,
  fn: (event: LockEvents[Name]) => void,
): Disposable {
  const listener = (message: unknown) => fn(message as LockEvents[Name]);
  subscribe(name, listener);
  return { [Symbol.dispose]: () => void unsubscribe(name, listener) };
}

function parentOf(span: ReadableSpan): string | undefined {
  return span.parentSpanContext?.spanId;
}

Deno.test("otel: a contended run, with its parents and values", async () => {
  await using s = scene();
  const times = { waited: [] as number[], held: [] as number[] };
  using _acquired = hear("holdfast:acquired", ({ waitedMs }) => times.waited.push(waitedMs));
  using _released = hear("holdfast:released", ({ heldMs }) => times.held.push(heldMs));
  const first = await s.inside("first", async (span) => {
    const held = await s.forms(s.a, { label: "one" }).acquire();
    return { held, id: span.spanContext().spanId };
  });
  let second: { held: Lock; id: string } | undefined;
  const waiting = s.inside("second", async (span) => {
    second = { held: await s.forms(s.b).acquire(), id: span.spanContext().spanId };
  });
  while ((await s.points("holdfast.lock.conflicts")).length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  // Long enough for a span.
  await new Promise((resolve) => setTimeout(resolve, 110));
  const [{ sum: waiters }] = await s.points("holdfast.lock.waiter.count");
  const [{ sum: holds }] = await s.points("holdfast.lock.hold.count");
  assertEquals([waiters, holds], [1, 1]);
  await first.held.release();
  await waiting;
  await second!.held.release();

  const own = s.spans().filter(({ instrumentationScope }) => instrumentationScope.name === "@holdfast/lock");
  const lock = {
    "holdfast.lock.kind": "strong",
    "holdfast.lock.mode": "exclusive",
    "holdfast.lock.identifier": s.identifier,
  };
  const outcome = { "holdfast.wait.outcome": "acquired" };
  const shown = own.map((span) => ({ name: span.name, parent: parentOf(span), attributes: span.attributes }));
  const fence = (held: Lock, i: number) => ({
    "holdfast.lock.fencing_token": held.fencingToken,
    "holdfast.wait.duration": times.waited[i] / 1000,
  });
  const label = { "holdfast.lock.label": "one" };
  // The second says nothing: it is called as its process is.
  const ofProcess = { "holdfast.lock.label": processLabel() };
  // The first found the lock free: that it asked is no span, unless the machine was so slow.
  const slowly = { name: "holdfast wait", parent: first.id, attributes: { ...lock, ...label, ...outcome } };
  assertEquals(shown, [
    ...(times.waited[0] < 100 ? [] : [slowly]),
    { name: "holdfast hold", parent: first.id, attributes: { ...lock, ...fence(first.held, 0), ...label } },
    { name: "holdfast wait", parent: second!.id, attributes: { ...lock, ...outcome, ...ofProcess } },
    {
      name: "holdfast hold",
      parent: second!.id,
      attributes: { ...lock, ...fence(second!.held, 1), ...ofProcess },
    },
  ]);
  assert(own.every(({ status }) => status.code === 0));

  const [wait, ...noWait] = await s.points("holdfast.lock.wait.duration");
  const [hold, ...noHold] = await s.points("holdfast.lock.hold.duration");
  assertEquals([wait.count, wait.attributes, noWait], [
    2,
    { "holdfast.lock.kind": "strong", ...outcome },
    [],
  ]);
  assertEquals([hold.count, hold.attributes, noHold], [2, { "holdfast.lock.kind": "strong" }, []]);
  const seconds = (times: number[]) => times.reduce((sum, ms) => sum + ms / 1000, 0);
  assertEquals([wait.sum, hold.sum], [seconds(times.waited), seconds(times.held)]);
  const levels = [await s.points("holdfast.lock.waiter.count"), await s.points("holdfast.lock.hold.count")];
  assertEquals(levels.flat().map(({ sum }) => sum), [0, 0]);
  assertEquals(await s.points("holdfast.lock.losses"), []);
});

Deno.test("otel: how a lock is held, and what that is changed to", async () => {
  await using s = scene();
  const limited = await s.forms(s.a, { limit: 5, permits: 2 }).acquire();
  await limited.release();
  const shared = await s.forms(s.a, { mode: "shared" }).acquire();
  await shared.upgrade();
  await shared.release();
  const how = s.holds().map(({ name, attributes }) => [
    name,
    attributes["holdfast.lock.mode"],
    attributes["holdfast.lock.limit"],
  ]);
  assertEquals(how, [
    ["holdfast hold", "exclusive", 5],
    ["holdfast hold", "exclusive", undefined],
  ]);
});

Deno.test("otel: a lock that is handed over belongs to the span of its waiter", async () => {
  await using s = scene();
  const held = await s.forms(s.a).acquire();
  let waiter = "";
  const waiting = s.inside("waiter", async (span) => {
    waiter = span.spanContext().spanId;
    await s.forms(s.a).run(() => {});
  });
  await s.inside("releaser", () => held.release());
  await waiting;
  assertEquals(s.holds().filter((span) => parentOf(span) === waiter).length, 1);
});

Deno.test("otel: what runs under a lock has the span of the hold as parent; the app's own goes on after it", async () => {
  await using s = scene();
  const made: [string, string | undefined][] = [];
  const note = (name: string) =>
    s.inside(name, (span) => {
      made.push([name, parentOf(span as unknown as ReadableSpan)]);
      return Promise.resolve();
    });
  let outer = "";
  await s.inside("outer", async (span) => {
    outer = span.spanContext().spanId;
    await s.forms(s.a).run(async () => {
      await note("in run");
      await lock(`${s.identifier}:other`, { backend: s.a })(() => note("in a wrapper"))();
    });
    await note("after");
  });
  const holds = s.holds();
  const [inner, first] = holds.map((span) => span.spanContext().spanId);
  assertEquals(made, [["in run", first], ["in a wrapper", inner], ["after", outer]]);
  // A lock that is asked for under another one belongs to that one's hold.
  assertEquals(holds.map(parentOf), [first, outer]);
});

Deno.test("otel: its scope has the version of the package, in spans and in metrics", async () => {
  await using s = scene();
  await s.forms(s.a).run(() => {});
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
  assertEquals(s.holds().map(({ instrumentationScope }) => instrumentationScope.version), [version]);
  assertEquals(await s.scopes(), [{ name: "@holdfast/lock", version }]);
});

Deno.test("otel: a loss, a late renewal and a failure are reported by their type", async () => {
  await using s = scene();
  const held = await s.forms(s.a, { leaseMs: 900 }).acquire();
  while ((await s.points("holdfast.lock.renewal.delay")).length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await forceRelease(s.identifier, { backend: s.a });
  assertEquals(held.held, false);
  const loss = { "holdfast.lock.kind": "strong", "error.type": "forced" };
  assertEquals((await s.points("holdfast.lock.losses")).map(({ attributes, sum }) => [attributes, sum]), [
    [loss, 1],
  ]);
  assertEquals((await s.points("holdfast.lock.hold.duration"))[0].attributes, loss);
  const hold = s.spans().at(-1)!;
  assertEquals([hold.name, hold.status.code, hold.attributes["error.type"]], ["holdfast hold", 2, "forced"]);

  await s.forms(s.a).run(() => s.a.fail(new LockBackendError("the store is out")));
  const released = s.spans().at(-1)!;
  assertEquals([released.name, released.status.code], ["holdfast hold", 2]);
  assertEquals(released.attributes["error.type"], "LockBackendError");
  assertEquals((await s.points("holdfast.backend.errors"))[0].attributes, {
    "error.type": "LockBackendError",
  });
});

Deno.test("otel: callers that bail, and which of them are errors", async () => {
  await using s = scene();
  const held = await s.forms(s.a).acquire();
  assertEquals(await Lock.acquire(s.identifier, { backend: s.b, wait: false }), null);
  const ending = new AbortController();
  const cancelled = s.forms(s.b, { signal: ending.signal }).acquire().catch((error) => error);
  ending.abort("enough");
  assertEquals(await cancelled, "enough");
  s.b.fail(new Error("the store is out"));
  await s.forms(s.b).acquire().catch(() => {});
  const waits = s.spans().filter(({ name }) => name === "holdfast wait");
  const shown = waits.map(({ attributes, status }) => [
    attributes["holdfast.wait.outcome"],
    attributes["error.type"],
    status.code,
  ]);
  assertEquals(shown, [
    ["taken", undefined, 0],
    ["cancelled", undefined, 0],
    ["failed", "LockBackendError", 2],
  ]);
  assertStringIncludes(waits[2].status.message!, "the store is out");
  const outcomes = (await s.points("holdfast.lock.wait.duration")).map(({ attributes }) =>
    attributes["holdfast.wait.outcome"]
  );
  assertEquals(outcomes.sort(), ["acquired", "cancelled", "failed", "taken"]);
  await held.release();
});

Deno.test("otel: a message commands no terminal; attributes are data, and stay as they are", async () => {
  await using s = scene();
  const evil = "\x1b[2J\u202e";
  s.a.fail(new LockBackendError(evil));
  const stopped = s.forms(s.b, { signal: AbortSignal.abort(new Error(evil)) }).acquire();
  await Promise.allSettled([stopped, s.forms(s.a, { label: evil }).acquire()]);
  const span = s.spans().at(-1)!;
  assertStringIncludes(span.status.message!, "\\u001b[2J\\u202e");
  assert(!/[\p{Cc}\p{Cf}]/u.test(span.status.message!));
  assertEquals(span.attributes["holdfast.lock.label"], evil);
});

Deno.test("otel: where identifiers are shown", async () => {
  for (const identifiers of ["spans", "all", "none"] as const) {
    await using s = scene({ identifiers });
    await s.forms(s.a, { label: "a person's name" }).run(() => {});
    s.a.fail(new Error("the store is out"));
    await s.forms(s.a).acquire().catch(() => {});
    const shown = s.spans().map(({ attributes, status }) => JSON.stringify([attributes, status]));
    assert(shown.length >= 2);
    for (const text of shown) assertEquals(text.includes(s.identifier), identifiers !== "none", text);
    assertEquals(shown.some((text) => text.includes("person")), identifiers !== "none");
    const measured = await Promise.all(
      ["wait.duration", "hold.duration", "waiter.count", "hold.count"].map((name) =>
        s.points(`holdfast.lock.${name}`)
      ),
    );
    for (const { attributes } of measured.flat()) {
      assertEquals(attributes["holdfast.lock.identifier"], identifiers === "all" ? s.identifier : undefined);
    }
  }
});

Deno.test("otel: stopped, it ends what is open and hears no more", async () => {
  await using s = scene();
  const held = await s.forms(s.a).acquire();
  s.telemetry.stop();
  assertEquals(s.holds().length, 1);
  assertEquals((await s.points("holdfast.lock.hold.count")).map(({ sum }) => sum), [0]);
  await held.release();
  await s.forms(s.a).run(() => {});
  assertEquals(s.holds().length, 1);
});

Deno.test("otel: begun in the midst, it shows what begins from then on", async () => {
  const backend = memoryBackend();
  const held = await lock("early", { backend }).acquire();
  await using s = scene();
  await held.release();
  assertEquals(s.spans().length, 0);
  assertEquals((await s.points("holdfast.lock.hold.count")).length, 0);
});

Deno.test("otel: bad input is named", () => {
  const bad: [string, unknown, unknown?][] = [
    ["[object Null]", null],
    ["neither 'trace' nor 'metrics'", {}],
    ["'trace' needs 'context'", { trace }],
    ["'trace'", { trace: {}, context }],
    ["'metrics'", { metrics: 1 }],
    ["'identifiers'", { metrics }, { identifiers: true }],
    ["'identifier'", { metrics }, { identifier: "all" }],
  ];
  for (const [text, api, options] of bad) {
    const error = assertThrows(() => instrument(api as never, options as never), TypeError);
    if (api !== null) assertStringIncludes(error.message, text);
  }
});

Deno.test("otel: Deno exports it by itself", async () => {
  const bodies: { path: string; body: string }[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    bodies.push({ path: new URL(request.url).pathname, body: await request.text() });
    return Response.json({});
  });
  const script = new URL("otel_child.ts", import.meta.url);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-env", script.href],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${server.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      NO_COLOR: "1",
    },
  }).output();
  await server.shutdown();
  const decoder = new TextDecoder();
  assertEquals(code, 0, decoder.decode(stderr));
  const { spanId } = JSON.parse(decoder.decode(stdout));
  const sent = (path: string) =>
    bodies.filter((sent) => sent.path === path).map(({ body }) => JSON.parse(body));
  const spans = sent("/v1/traces").flatMap(({ resourceSpans }) => resourceSpans)
    .flatMap(({ scopeSpans }) => scopeSpans).flatMap(({ spans }) => spans)
    .filter(({ name }) => name === "holdfast hold");
  assertEquals(spans.map(({ name, parentSpanId }) => [name, parentSpanId]), [
    ["holdfast hold", spanId],
  ]);
  const names = sent("/v1/metrics").flatMap(({ resourceMetrics }) => resourceMetrics)
    .flatMap(({ scopeMetrics }) => scopeMetrics).flatMap(({ metrics }) => metrics).map(({ name }) => name);
  for (const name of ["wait.duration", "hold.duration", "waiter.count", "hold.count"]) {
    assert(names.includes(`holdfast.lock.${name}`), `${name} of ${names}`);
  }
});
