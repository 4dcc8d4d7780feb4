/** How a store that does not push, or not always, is watched: look, sleep, look again. */

import { onAbort } from "../core/abort.ts";
import type { Entry, WatchOptions } from "../core/backend.ts";
import { Notify } from "../core/notify.ts";
import { systemClock } from "../core/clock.ts";
import type { Closing } from "./closing.ts";

/** One watch of one record, as a backend wants it to be made. */
export interface Polling {
  /** Reads the record. */
  look(): Promise<Entry>;
  /**
   * Called at each look before its entry is yielded: whether it showed something new, as the first one always does,
   * and whether the wakeUp, and not the end of the pause, had asked for it.
   */
  onLook(entry: Entry, how: { readonly news: boolean; readonly woken: boolean }): void;
  /** How long to sleep now. An idle watch is not asked: it sleeps until it is notified. */
  pauseMs(): number;
  /** Ends the watch by a failure. */
  readonly closing: Closing;
}

/** Yields the record now, and whenever a look shows that it has changed, until the signal aborts. */
export async function* poll(
  { look, onLook, pauseMs, closing }: Polling,
  { signal, idle = false }: WatchOptions,
): AsyncGenerator<Entry> {
  const wakeUp = new Notify();
  const leave = closing.enter(wakeUp.notify);
  const forget = onAbort(signal, wakeUp.notify);
  try {
    let last: Entry | undefined;
    let woken = false;
    while (!signal.aborted) {
      if (closing.failure !== undefined) throw closing.failure;
      const entry = await look();
      if (signal.aborted) return;
      const news = entry.version !== last?.version;
      onLook(entry, { news, woken });
      if (news) yield last = entry;
      const sleepMs = idle ? Infinity : pauseMs();
      const asleepAt = systemClock.monotonicMs();
      await wakeUp.sleep(systemClock, sleepMs);
      woken = systemClock.monotonicMs() - asleepAt < sleepMs;
    }
  } finally {
    leave();
    forget();
  }
}
