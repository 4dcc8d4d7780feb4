/**
 * Traces and metrics: turns what locks tell on `node:diagnostics_channel` into OpenTelemetry's spans and metrics.
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
import { describe, ownOptions } from "./core/validate.ts";
import type { LockEvent, LockEvents } from "./mod.ts";

/** Attributes of a span or a measurement. */
export type Attributes = Record<string, string | number | boolean>;

/** What is used of a span of OpenTelemetry. */
export interface OtelSpan {
  /** Adds attributes. */
  setAttributes(attributes: Attributes): unknown;
  /** Says how it went: code 2 is an error. */
  setStatus(status: { code: 2; message?: string | undefined }): unknown;
  /** It is over. */
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
  /** For people. */
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
    getTracer(name: string): {
      /** Starts a span beneath what `context` says. */
      startSpan(name: string, options: { attributes: Attributes }, context: Context): OtelSpan;
    };
  } | undefined;
  /** The span that the caller is in: the parent. */
  context?: {
    /** The active context. */
    active(): Context;
  } | undefined;
  /** Metrics. Omitted: none. */
  metrics?: {
    /** Makes the meter. */
    getMeter(name: string): {
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
   * Where identifiers are shown: in `"spans"`; in `"all"`, metrics included, for those who have few identifiers,
   * because each makes a time series of its own; or in `"none"`, where they are nobody's business. The latter also
   * leaves out labels and the messages of errors. Default: `"spans"`.
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
 * Turns what happens to locks in this process into spans and metrics, from now on. It sends nothing by itself: that
 * is for the SDK that stands behind the API which is handed in, or for Deno (`OTEL_DENO=true`).
 *
 * Spans, both beneath the span that the caller was in when it asked for the lock:
 *
 * - `holdfast wait`: until the lock is acquired or not. `holdfast.wait.outcome` says `acquired`, `taken`, `cancelled`
 *   or `failed`; the last is an error.
 * - `holdfast hold`: from there until it is released or lost. A loss is an error, its `error.type` one of `expired`,
 *   `stolen` and `forced`; so is a release that the store could not be told.
 *
 * Their attributes: `holdfast.lock.identifier`, `.kind`, `.label`, `.mode`, `.limit` where there is one, and
 * `.fencing_token` of a hold.
 *
 * Metrics, in seconds where they are times, with `holdfast.lock.kind`, and `error.type` where something went wrong:
 *
 * - `holdfast.lock.wait.duration`, by `holdfast.wait.outcome`, and `holdfast.lock.hold.duration`: histograms;
 * - `holdfast.lock.waiter.count` and `holdfast.lock.hold.count`: how many wait and hold now, in this process;
 * - `holdfast.lock.losses` and `holdfast.lock.conflicts`: counters, the latter of writes that another was faster with;
 * - `holdfast.lock.renewal.delay`: a histogram of how late renewals were. Near two thirds of a lease, locks get lost;
 * - `holdfast.backend.errors`: a counter of failures of the store that no caller is told of.
 *
 * Throws TypeError for bad input.
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
  const tracer = api.trace?.getTracer(SCOPE);
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
  const start = (name: string, event: LockEvent, more: Attributes, parent: Context) => {
    const { identifier, kind, label, mode, limit } = event;
    const how = { "holdfast.lock.kind": kind, "holdfast.lock.mode": mode };
    const attributes: Attributes = { ...how, ...named(inSpans, identifier), ...more };
    if (limit > 1) attributes["holdfast.lock.limit"] = limit;
    if (inSpans && label !== undefined) attributes["holdfast.lock.label"] = label;
    return tracer?.startSpan(name, { attributes }, parent);
  };
  /** What is counted and shown now is so no more. */
  const end = ({ event, phase, span }: Story<Context>, attributes: Attributes = {}, message?: string) => {
    instruments?.[phase].add(-1, measured(event));
    span?.setAttributes(attributes);
    if (attributes["error.type"] !== undefined) {
      span?.setStatus({ code: 2, message: inSpans ? message : undefined });
    }
    span?.end();
  };
  /** Ends what the acquisition of `event` was in, if its beginning was seen. */
  const endOf = (event: LockEvent, attributes?: Attributes, message?: string) => {
    const story = open.get(event.id);
    if (story !== undefined) end(story, attributes, message);
    open.delete(event.id);
    return story;
  };

  const stop = listen({
    "holdfast:wait-start": (event) => {
      const parent = context?.active() as Context;
      const span = start("holdfast wait", event, {}, parent);
      open.set(event.id, { event, phase: "waiters", span, parent });
      instruments?.waiters.add(1, measured(event));
    },
    "holdfast:acquired": (event) => {
      const outcome = { "holdfast.wait.outcome": "acquired" };
      instruments?.wait.record(event.waitedMs / 1000, measured(event, outcome));
      const story = endOf(event, outcome);
      if (story === undefined) return;
      const { parent } = story;
      const fence = { "holdfast.lock.fencing_token": event.fencingToken };
      const span = start("holdfast hold", event, fence, parent);
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
    // It is held until its lease ends, and then lost: the span says from when on nobody could release it.
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

  const stopAll = () => {
    stop();
    for (const story of open.values()) end(story);
    open.clear();
  };
  return { stop: stopAll, [Symbol.dispose]: stopAll };
}

/** What goes on about one acquisition: it is waited for, or held. */
interface Story<Context> {
  readonly event: LockEvent;
  readonly phase: "waiters" | "holds";
  readonly span: OtelSpan | undefined;
  readonly parent: Context;
}

const SCOPE = "@holdfast/lock";

function instrumentsOf(metrics: NonNullable<OpenTelemetry<unknown>["metrics"]>) {
  const meter = metrics.getMeter(SCOPE);
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
    waiters: level("holdfast.lock.waiter.count", "{waiter}", "Who waits for a lock now, in this process."),
    holds: level("holdfast.lock.hold.count", "{lock}", "The locks that are held now, by this process."),
    losses: counter("holdfast.lock.losses", "{lock}", "Locks that were lost while they were held."),
    conflicts: counter("holdfast.lock.conflicts", "{write}", "Writes that another process was faster with."),
    errors: counter("holdfast.backend.errors", "{error}", "Failures of the store that no caller is told of."),
  };
}

/** Hears what is told on the channels, until the returned function is called. */
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
