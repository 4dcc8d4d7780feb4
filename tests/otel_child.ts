/** A program that Deno itself observes (`OTEL_DENO=true`); see `otel_test.ts`. */

import { context, metrics, trace } from "@opentelemetry/api";
import { memoryBackend } from "../backends/memory.ts";
import { lock } from "../mod.ts";
import { instrument } from "../otel.ts";

using _ = instrument({ context, metrics, trace });
await trace.getTracer("the app").startActiveSpan("work", async (span) => {
  await lock("job", { backend: memoryBackend() }).run(() => {});
  console.log(JSON.stringify(span.spanContext()));
  span.end();
});
