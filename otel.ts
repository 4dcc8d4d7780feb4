/**
 * Traces and metrics: turns the events of locks, on `node:diagnostics_channel`, into OpenTelemetry's spans and metrics.
 *
 * @example
 * ```ts
 * import { lock } from "@holdfast/lock";
 * import { instrument } from "@holdfast/lock/otel";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { context, metrics, trace } from "@opentelemetry/api";
 *
 * const telemetry = instrument({ context, metrics, trace }); // once, at start
 * await lock("report", { backend: memoryBackend() }).run(() => {});
 * telemetry.stop();
 * ```
 *
 * @module
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { messageOf } from "./core/errors.ts";
import { RUN, type Run } from "./core/scope.ts";
import { describe, ownOptions } from "./core/validate.ts";
import { VERSION } from "./version.ts";
import type { LockEvent, LockEvents } from "./mod.ts";

/** Attributes of a span or a measurement. */
export type Attributes = Record<string, string | number | boolean>;

/** What is used of a span of OpenTelemetry. */
export interface OtelSpan {
  /** Adds attributes. */
  setAttributes(attributes: Attributes): unknown;
  /** Says how it went: code 2 is an error. */
  setStatus(status: { code: 2; message?: string | undefined }): unknown;
  /** Ends the span. */
  end(): void;
}

/** What is used of an instrument that adds up. */
export interface OtelCounter {
  /** Adds to it. */
  add(value: number, attributes?: Attributes): void;
}

/** What is used of an instrument that keeps a distribution. */
export interface OtelHistogram {
  /** Records one value. */
  record(value: number, attributes?: Attributes): void;
}

/** How an instrument is described. */
export interface OtelInstrumentOptions {
  /** What it means. */
  description?: string | undefined;
  /** In UCUM. */
  unit?: string | undefined;
  /** The bounds of a histogram's buckets. */
  advice?: { explicitBucketBoundaries: number[] } | undefined;
}

/** What is used of `@opentelemetry/api`: hand in its `context`, `trace` and `metrics`. */
export interface OpenTelemetry<Context> {
  /** Spans; needs `context`. Omitted: no spans. */
  trace?: {
    /** Makes the tracer. */
    getTracer(name: string, version: string): {
      /** Starts a span whose parent is that of `context`, at `startTime`: now, if it is omitted. */
      startSpan(
        name: string,
        options: { attributes: Attributes; startTime?: Date | undefined },
        context: Context,
      ): OtelSpan;
    };
    /** The context with another span. Omitted: the span of a hold has no children. */
    // deno-lint-ignore no-explicit-any -- The API's own type of a span has more members.
    setSpan?(context: Context, span: any): Context;
  } | undefined;
  /** The span that the caller is in: the parent. */
  context?: {
    /** The active context. */
    active(): Context;
    /** Calls a function in a context. Omitted: the span of a hold has no children. */
    with?<Result>(context: Context, fn: () => Result): Result;
  } | undefined;
  /** Metrics. Omitted: none. */
  metrics?: {
    /** Makes the meter. */
    getMeter(name: string, version: string): {
      /** Makes a counter. */
      createCounter(name: string, options: OtelInstrumentOptions): OtelCounter;
      /** Makes a counter that also falls. */
      createUpDownCounter(name: string, options: OtelInstrumentOptions): OtelCounter;
      /** Makes a histogram. */
      createHistogram(name: string, options: OtelInstrumentOptions): OtelHistogram;
    };
  } | undefined;
}

/** Options of {@linkcode instrument}. */
export interface InstrumentOptions {
  /**
   * Where identifiers are shown: in `"spans"`; in `"all"`, metrics included, if there are few of them, because
   * each makes its own time series; or in `"none"`, which also leaves out labels and the messages of errors.
   *
   * @default {"spans"}
   */
  identifiers?: "spans" | "all" | "none" | undefined;
}

/** What {@linkcode instrument} has begun. */
export interface Instrumentation extends Disposable {
  /** Stops it. Spans that are open end as they are. */
  stop(): void;
}

/** In seconds: from a free lock nearby to one that is waited for over lunch. */
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800];

/**
 * Turns the events of locks in this process into spans and metrics, from now on. It sends nothing by itself: that
 * is for the SDK behind the API that is passed in, or for Deno (`OTEL_DENO=true`).
 *
 * Spans, with the span that the caller was in when it asked for the lock as parent:
 *
 * - `holdfast hold`: from the grant until the lock is released or lost. It is the parent of the spans that code
 *   makes in `run`, wrapper and decorator. `holdfast.wait.duration` says how many seconds the grant took. A loss
 *   is an error, its `error.type` one of `expired`, `stolen` and `forced`; so is a release that did not reach the
 *   store.
 * - `holdfast wait`: before it, only if the lock was not acquired, or not within 100 ms. `holdfast.wait.outcome`
 *   says `acquired`, `taken`, `cancelled` or `failed`; the last is an error.
 *
 * Their attributes: `holdfast.lock.identifier`, `.kind`, `.label`, `.mode`, `.limit` where there is one, and
 * `.fencing_token` of a hold.
 *
 * Metrics, in seconds where they are times, with `holdfast.lock.kind`, and `error.type` where something went
 * wrong:
 *
 * - `holdfast.lock.wait.duration`, by `holdfast.wait.outcome`, and `holdfast.lock.hold.duration`: histograms;
 * - `holdfast.lock.waiter.count` and `holdfast.lock.hold.count`: how many calls wait and hold now, in this
 *   process;
 * - `holdfast.lock.losses` and `holdfast.lock.conflicts`: counters, the latter of writes that another process was
 *   faster with;
 * - `holdfast.lock.renewal.delay`: a histogram of how late renewals were. Near two thirds of a lease, locks get
 *   lost;
 * - `holdfast.backend.errors`: a counter of failures of the store that could not be reported to any caller.
 *
 * @typeParam Context The type of a context in that API.
 * @param api `context`, `trace` and `metrics` of `@opentelemetry/api`, or a part of them.
 * @param options What is shown.
 * @returns An object that stops it.
 * @throws {TypeError} For bad input.
 *
 * @example
 * ```ts
 * import { instrument } from "@holdfast/lock/otel";
 * import { metrics } from "@opentelemetry/api";
 *
 * const telemetry = instrument({ metrics }, { identifiers: "none" }); // no spans
 * telemetry.stop();
 * ```
 */
export function instrument<Context>(
  api: OpenTelemetry<Context>,
  options: InstrumentOptions = {},
): Instrumentation {
  assertApi(api);
  const { identifiers = "spans" } = ownOptions(options, ["identifiers"], "instrument");
  if (!["spans", "all", "none"].includes(identifiers)) {
    throw new TypeError(
      `Cannot instrument: 'identifiers' must be "spans", "all" or "none", ` +
        `current value is ${describe(identifiers)}`,
    );
  }
  const { context } = api;
  const tracer = api.trace?.getTracer(SCOPE, VERSION);
  const instruments = api.metrics && instrumentsOf(api.metrics);
  const inSpans = identifiers !== "none";
  const inMetrics = identifiers === "all";
  const open = new Map<number, Story<Context>>();

  const named = (show: boolean, identifier: string): Attributes =>
    show ? { "holdfast.lock.identifier": identifier } : {};
  const measured = ({ identifier, kind }: LockEvent, more: Attributes = {}): Attributes => ({
    "holdfast.lock.kind": kind,
    ...named(inMetrics, identifier),
    ...more,
  });
  const start = (
    name: string,
    { event, parent, startTime }: Begun<Context>,
    more: Attributes,
  ) => {
    const { identifier, kind, label, mode, limit } = event;
    const how = { "holdfast.lock.kind": kind, "holdfast.lock.mode": mode };
    const attributes: Attributes = { ...how, ...named(inSpans, identifier), ...more };
    if (limit > 1) attributes["holdfast.lock.limit"] = limit;
    if (inSpans && label !== undefined) attributes["holdfast.lock.label"] = label;
    return tracer?.startSpan(name, { attributes, ...(startTime && { startTime }) }, parent);
  };
  /** What is counted and shown now is so no more. A wait has a span only now, as it is seen to be worth one. */
  const end = (story: Story<Context>, attributes: Attributes = {}, message?: string) => {
    const { event, phase, isBrief } = story;
    instruments?.[phase].add(-1, measured(event));
    if (isBrief) return;
    const span = phase === "waiters" ? start("holdfast wait", story, {}) : story.span;
    span?.setAttributes(attributes);
    if (attributes["error.type"] !== undefined) {
      span?.setStatus({ code: 2, message: inSpans ? message : undefined });
    }
    span?.end();
  };
  /** Ends what the acquisition of `event` was in, if its beginning was seen. */
  const endOf = (event: LockEvent, attributes?: Attributes, message?: string, isBrief = false) => {
    const story = open.get(event.id);
    if (story !== undefined) end({ ...story, isBrief }, attributes, message);
    open.delete(event.id);
    return story;
  };

  const stop = listen({
    "holdfast:wait-start": (event) => {
      const parent = context?.active() as Context;
      open.set(event.id, { event, phase: "waiters", span: undefined, parent, startTime: new Date() });
      instruments?.waiters.add(1, measured(event));
    },
    "holdfast:acquired": (event) => {
      const outcome = { "holdfast.wait.outcome": "acquired" };
      const waited = event.waitedMs / 1000;
      instruments?.wait.record(waited, measured(event, outcome));
      const story = endOf(event, outcome, undefined, event.waitedMs < WAIT_MS);
      if (story === undefined) return;
      const { parent } = story;
      const attributes = {
        "holdfast.lock.fencing_token": event.fencingToken,
        "holdfast.wait.duration": waited,
      };
      const span = start("holdfast hold", { event, parent }, attributes);
      open.set(event.id, { event, phase: "holds", span, parent });
      instruments?.holds.add(1, measured(event));
    },
    "holdfast:bailed": (event) => {
      const failure = event.outcome === "failed" ? { "error.type": typeOf(event.error) } : undefined;
      const outcome = { "holdfast.wait.outcome": event.outcome, ...failure };
      instruments?.wait.record(event.waitedMs / 1000, measured(event, outcome));
      endOf(event, outcome, said(event.error));
    },
    "holdfast:mode-changed": ({ id, mode, fencingToken }) =>
      open.get(id)?.span?.setAttributes({
        "holdfast.lock.mode": mode,
        "holdfast.lock.fencing_token": fencingToken,
      }),
    "holdfast:renewed": (event) => instruments?.renewal.record(event.lateMs / 1000, measured(event)),
    "holdfast:late": (event) => instruments?.late.add(1, measured(event)),
    // It is held until its lease ends, and then lost: the span says that no code could release it any more.
    "holdfast:forgotten": ({ id }) => open.get(id)?.span?.setAttributes({ "holdfast.lock.forgotten": true }),
    "holdfast:lost": (event) => {
      const loss = { "error.type": event.reason };
      instruments?.hold.record(event.heldMs / 1000, measured(event, loss));
      instruments?.losses.add(1, measured(event, loss));
      endOf(event, loss, `the lock was lost: ${event.reason}`);
    },
    "holdfast:released": (event) => {
      const failure = event.error && { "error.type": typeOf(event.error) };
      instruments?.hold.record(event.heldMs / 1000, measured(event, failure));
      const handOver = event.handedOver ? { "holdfast.lock.handed_over": true } : undefined;
      endOf(event, { ...handOver, ...failure }, said(event.error));
    },
    "holdfast:conflict": ({ identifier }) => instruments?.conflicts.add(1, named(inMetrics, identifier)),
    "holdfast:backend-error": ({ identifier, error }) =>
      instruments?.errors.add(1, { "error.type": typeOf(error), ...named(inMetrics, identifier) }),
  });

  const around = (message: unknown) => {
    const run = message as Run;
    const span = open.get(run.id)?.span;
    if (span === undefined || api.trace?.setSpan === undefined || context?.with === undefined) return;
    const { fn } = run;
    const inner = api.trace.setSpan(context.active(), span);
    run.fn = () => context.with!(inner, fn);
  };
  subscribe(RUN, around);

  const stopAll = () => {
    stop();
    unsubscribe(RUN, around);
    for (const story of open.values()) end(story);
    open.clear();
  };
  return { stop: stopAll, [Symbol.dispose]: stopAll };
}

/** What a span begins with. */
interface Begun<Context> {
  readonly event: LockEvent;
  readonly parent: Context;
  readonly startTime?: Date;
}

/** What goes on about one acquisition: it is waited for, or held. */
interface Story<Context> extends Begun<Context> {
  readonly phase: "waiters" | "holds";
  /** Of a hold. */
  readonly span: OtelSpan | undefined;
  /** Whether it was a wait that is worth no span. */
  readonly isBrief?: boolean;
}

/** How long an acquisition may take before its wait has its own span: that of a lock that is free is within this. */
const WAIT_MS = 100;

const SCOPE = "@holdfast/lock";

function instrumentsOf(metrics: NonNullable<OpenTelemetry<unknown>["metrics"]>) {
  const meter = metrics.getMeter(SCOPE, VERSION);
  const seconds = (name: string, description: string) =>
    meter.createHistogram(name, { description, unit: "s", advice: { explicitBucketBoundaries: SECONDS } });
  const counter = (name: string, unit: string, description: string) =>
    meter.createCounter(name, { description, unit });
  const level = (name: string, unit: string, description: string) =>
    meter.createUpDownCounter(name, { description, unit });
  return {
    wait: seconds("holdfast.lock.wait.duration", "How long locks were waited for."),
    hold: seconds("holdfast.lock.hold.duration", "How long locks were held."),
    renewal: seconds("holdfast.lock.renewal.delay", "How late leases were renewed."),
    late: counter("holdfast.lock.late", "{renewal}", "Renewals that were overdue by half the lease."),
    waiters: level(
      "holdfast.lock.waiter.count",
      "{waiter}",
      "Calls that wait for a lock now, in this process.",
    ),
    holds: level("holdfast.lock.hold.count", "{lock}", "The locks that are held now, by this process."),
    losses: counter("holdfast.lock.losses", "{lock}", "Locks that were lost while they were held."),
    conflicts: counter("holdfast.lock.conflicts", "{write}", "Writes that another process was faster with."),
    errors: counter(
      "holdfast.backend.errors",
      "{error}",
      "Failures of the store that could not be reported to any caller.",
    ),
  };
}

/** Subscribes to the channels, until the returned function is called. */
function listen(hearers: { [Name in keyof LockEvents]: (event: LockEvents[Name]) => void }): () => void {
  const heard = Object.entries(hearers).map(([name, hear]) => {
    const listener = (message: unknown) => hear(message as never);
    subscribe(name, listener);
    return () => unsubscribe(name, listener);
  });
  return () => heard.forEach((forget) => forget());
}

/** The kind of an error, of which there are few. */
function typeOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** What an error says, if there is one. */
function said(error: unknown): string | undefined {
  return error === undefined ? undefined : messageOf(error);
}

function assertApi(api: OpenTelemetry<unknown>): void {
  const rule = "Cannot instrument: it takes { context, metrics, trace } of @opentelemetry/api";
  if (typeof api !== "object" || api === null) {
    throw new TypeError(`${rule}, current value is ${describe(api)}`);
  }
  const { trace, context, metrics } = api;
  if (trace === undefined && metrics === undefined) {
    throw new TypeError(`${rule}, and there is neither 'trace' nor 'metrics'`);
  }
  if (trace !== undefined && typeof trace?.getTracer !== "function") {
    throw new TypeError(`${rule}, current value of 'trace' is ${describe(trace)}`);
  }
  if (trace !== undefined && typeof context?.active !== "function") {
    throw new TypeError(`${rule}: 'trace' needs 'context', current value is ${describe(context)}`);
  }
  if (metrics !== undefined && typeof metrics?.getMeter !== "function") {
    throw new TypeError(`${rule}, current value of 'metrics' is ${describe(metrics)}`);
  }
}
