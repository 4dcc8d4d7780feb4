/**
 * What the database announces of one record.
 *
 * Two faults of `npm:@deno/kv` over KV Connect, neither of them documented, are lived with here:
 *
 * - Its watch ends the process when its stream breaks, unless it was opened with `raw`. So it is.
 * - It keeps each watch in a map until the database is closed. That is too long, for waiters come and go; and a watch that
 *   has broken by then ends the process at the closing. So one that has broken is taken out of the map at once, and one
 *   that was cancelled as soon as the client can no more be about to connect it again (`memoryOfWatch`).
 */

import { systemClock } from "../../core/clock.ts";
import { Notify } from "../../core/notify.ts";
import { Backoff } from "../../core/retry.ts";
import type { KvDatabase, KvEntry, KvKeyPart } from "./api.ts";

/** How long the watch of a database is left alone when it has broken. */
const REOPEN_BACKOFF = { leastMs: 100, mostMs: 10_000 };
/** How long npm:@deno/kv may take, at most, to connect a watch again that has ended. */
const RECONNECT_MS = 130_000;

type Reader = ReadableStreamDefaultReader<readonly KvEntry[]>;

/** What is notified of what comes. */
export interface Listener {
  /** A version of the record is announced, or shown because the stream has just been opened. */
  onVersion(version: string | null, isCurrent: boolean): void;
  /** The stream has ended: it is opened again. */
  onEnd(): void;
  /** It is not reported to any caller: waiters look for themselves meanwhile. */
  onError(error: unknown): void;
}

/** The announcements of one record, until it is stopped: a stream that ends, or is given up, is opened again. */
export class NewsStream {
  readonly #kv: KvDatabase;
  readonly #name: readonly KvKeyPart[];
  readonly #isRaw: boolean;
  readonly #listener: Listener;
  readonly #wakeUp = new Notify();
  #reader: Reader | undefined;
  #isStopped = false;
  /** How many announcements have come. */
  messages = 0;
  readonly #listening: Promise<void>;

  constructor(
    kv: KvDatabase,
    { name, isRaw, listener }: {
      readonly name: readonly KvKeyPart[];
      readonly isRaw: boolean;
      readonly listener: Listener;
    },
  ) {
    this.#kv = kv;
    this.#name = name;
    this.#isRaw = isRaw;
    this.#listener = listener;
    this.#listening = this.#listen();
  }

  /** Gives the stream up that there is, which may be deaf, and opens another. */
  reopen(): void {
    const reader = this.#reader;
    // Not waited for: what nothing comes on any more may not even end.
    this.#reader = undefined;
    void this.#cancel(reader);
    this.#wakeUp.notify();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    const reader = this.#reader;
    this.#reader = undefined;
    this.#wakeUp.notify();
    await this.#cancel(reader);
    await this.#listening;
  }

  async #listen(): Promise<void> {
    let backoff = new Backoff(REOPEN_BACKOFF);
    while (!this.#isStopped) {
      const openedMs = systemClock.monotonicMs();
      await this.#follow().catch((error) => this.#isStopped || this.#listener.onError(error));
      if (this.#isStopped) return;
      this.#listener.onEnd();
      if (systemClock.monotonicMs() - openedMs > REOPEN_BACKOFF.mostMs) backoff = new Backoff(REOPEN_BACKOFF);
      await this.#wakeUp.sleep(systemClock, backoff.pauseMs());
    }
  }

  /** Follows one stream to its end. */
  async #follow(): Promise<void> {
    const stream = this.#kv.watch([this.#name], this.#isRaw ? { raw: true } : undefined);
    const reader = this.#reader = stream.getReader();
    const forget = memoryOfWatch(this.#kv, this.#listener.onError);
    try {
      for (let isCurrent = true;; isCurrent = false) {
        const { done, value } = await reader.read();
        if (done || this.#reader !== reader) return;
        this.messages++;
        this.#listener.onVersion(value[0].versionstamp, isCurrent);
      }
    } finally {
      forget(this.#reader === reader);
      if (this.#reader === reader) this.#reader = undefined;
    }
  }

  #cancel(reader: Reader | undefined): Promise<void> | undefined {
    return reader?.cancel().catch(this.#listener.onError);
  }
}

/**
 * What npm:@deno/kv keeps of the watch that was just opened, until the database is closed: that is too long, and
 * one that has broken would then end the process. One that was cancelled may still be about to connect again.
 */
function memoryOfWatch(kv: object, report: (error: unknown) => void): (broken: boolean) => void {
  const { watches } = kv as { watches?: Map<number, { onFinalize(): Promise<void> }> };
  if (!(watches instanceof Map)) return () => {};
  let id = -1;
  for (const other of watches.keys()) id = Math.max(id, other);
  return (broken) => {
    const watch = watches.get(id);
    if (broken) watches.delete(id);
    else {
      const timer = systemClock.after(RECONNECT_MS, () => {
        if (watches.delete(id)) watch?.onFinalize().catch(report);
      });
      timer.unref();
    }
  };
}
