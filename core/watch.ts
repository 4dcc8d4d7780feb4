import type { Entry } from "./backend.ts";
import { LockBackendError } from "./errors.ts";

/**
 * Runs a watch until it is aborted, or fails; that it ends by itself is a failure too. What `heard` throws is one
 * of the watch.
 */
export function runWatch(
  watch: (signal: AbortSignal) => AsyncIterable<Entry>,
  heard: (entry: Entry) => unknown,
  failed: (error: unknown) => void,
): AbortController {
  const following = new AbortController();
  const { signal } = following;
  (async () => {
    for await (const entry of watch(signal)) {
      if (signal.aborted) return;
      await heard(entry);
    }
    throw new LockBackendError("the watch has ended", { transient: true });
  })().catch((error) => signal.aborted || failed(error));
  return following;
}
