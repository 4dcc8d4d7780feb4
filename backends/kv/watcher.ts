/**
 * The news of records: pushed where the database can push and does, looked for where it does not.
 *
 * Three faults of `npm:@deno/kv`, none of them documented, are lived with here:
 *
 * - On a file, its watch can make the event loop spin for ever, and it hears of no other process's commits. So it is not
 *   watched at all: waiters look.
 * - Over KV Connect, its watch ends the process when its stream breaks, unless it was opened with `raw`. So it is.
 * - It keeps each watch in a map until the database is closed. That is too long, for waiters come and go; and a watch that
 *   has broken by then ends the process at the closing. So one that has broken is taken out of the map at once, and one
 *   that was cancelled as soon as the client can no more be about to connect it again (`memoryOfWatch`).
 */

import type { Entry, WatchOptions } from "../../core/backend.ts";
import { publishBackendError } from "../../core/events.ts";
import { Notify } from "../../core/notify.ts";
import { systemClock } from "../../core/clock.ts";
import { Backoff } from "../../core/retry.ts";
import { poll } from "../polling.ts";
import type { KvCommit, KvDatabase, KvEntry, KvKeyPart } from "./api.ts";
import type { KvOrigin } from "./clients.ts";
import { failureOf } from "./failures.ts";

/** The bounds between which an unpushed waiter polls; within them, a share of the time since the last news. */
const POLL_MS = { least: 4, most: 22, share: 1 / 8 };
/** The bounds between which a pushed waiter polls in case a message was lost. */
const BACKSTOP_MS = { least: 1000, most: 10_000, share: 1 };
/** How long the watch of a database is left alone when it has broken. */
const REOPEN_BACKOFF = { leastMs: 100, mostMs: 10_000 };
/** How long npm:@deno/kv may take, at most, to connect a watch again that has ended. */
const RECONNECT_MS = 130_000;
/** How many of our own latest commits are remembered, to tell their echo from another process's news. */
const OWN_COMMITS = 64;

/** All watches of one database in this process, and what they have learned of it together. */
export class KvWatcher {
  readonly #kv: KvDatabase;
  /** The watch to use, if there is one that is safe. */
  readonly #open: ((name: readonly KvKeyPart[]) => ReadableStream<readonly KvEntry[]>) | undefined;
  readonly #own = new Set<string>();
  /** Whether the database tells of other processes' commits: learned by seeing it happen, or not happen. */
  #pushes: boolean;
  #polling = 0;
  #committing = 0;

  constructor(kv: KvDatabase, { native, remote }: KvOrigin) {
    this.#kv = kv;
    if (native || remote) this.#open = (name) => kv.watch([name], remote ? { raw: true } : undefined);
    this.#pushes = remote;
  }

  /** Makes a commit of this process known, so that its echo is not taken for another process's news. */
  async committing<Sent extends { readonly result: KvCommit }>(commit: () => Promise<Sent>): Promise<Sent> {
    this.#committing++;
    try {
      const sent = await commit();
      const { result } = sent;
      if (result.ok) {
        this.#own.add(result.versionstamp);
        if (this.#own.size > OWN_COMMITS) this.#own.delete(first(this.#own));
      }
      return sent;
    } finally {
      this.#committing--;
    }
  }

  /** Watches the record that is kept under `name`, which `look` reads. */
  async *watch(
    name: readonly KvKeyPart[],
    look: () => Promise<Entry>,
    options: WatchOptions,
  ): AsyncIterable<Entry> {
    const wakeUp = new Notify();
    let seen: Entry | undefined;
    const stop = this.#listen(name, (version) => version !== seen?.version && wakeUp.notify());
    if (!options.idle) this.#polling++;
    // A hand-off makes two pieces of news, a release and a claim; a renewal makes one, and is no reason for all waiters to
    // look more often. So it counts as quiet since the last news but one.
    let quietSince = performance.now();
    let newsAt = quietSince;
    const onLook = (entry: Entry, { news, woken }: { news: boolean; woken: boolean }) => {
      if (!news) return;
      if (seen !== undefined && !woken) this.#pushes = false;
      seen = entry;
      quietSince = newsAt;
      newsAt = performance.now();
    };
    const pauseMs = () => this.#pollMs(performance.now() - quietSince);
    try {
      yield* poll({ look, onLook, pauseMs }, options, wakeUp);
    } finally {
      if (!options.idle) this.#polling--;
      await stop();
    }
  }

  /** Tells of versions that the database announces. Between processes on one SQLite file it never does. */
  #listen(name: readonly KvKeyPart[], tell: (version?: string | null) => void): () => Promise<void> {
    const open = this.#open;
    if (open === undefined) return () => Promise.resolve();
    let reader: ReadableStreamDefaultReader<readonly KvEntry[]> | undefined;
    let stopped = false;
    const wakeUp = new Notify();
    // The waiters look for themselves meanwhile, and nobody's call fails: it can only be published.
    const report = (error: unknown) => publishBackendError(String(name.at(-1)), failureOf(error));
    const read = async () => {
      reader = open(name).getReader();
      const forget = memoryOfWatch(this.#kv, report);
      try {
        for (let current = true;; current = false) {
          const { done, value } = await reader.read();
          if (done) return;
          const version = value[0].versionstamp;
          // The echo of our own commit proves nothing, and may come before the commit's own answer.
          const foreign = this.#committing === 0 && version !== null && !this.#own.has(version);
          if (!current && foreign) this.#pushes = true;
          tell(version);
        }
      } finally {
        reader = undefined;
        forget(!stopped);
      }
    };
    const listen = async () => {
      const backoff = new Backoff(REOPEN_BACKOFF);
      while (!stopped) {
        await read().catch((error) => stopped || report(error));
        if (stopped) return;
        this.#pushes = false;
        tell();
        await wakeUp.sleep(systemClock, backoff.pauseMs());
      }
    };
    const listening = listen();
    return async () => {
      stopped = true;
      wakeUp.notify();
      await reader?.cancel().catch(report);
      await listening;
    };
  }

  /** The more time has passed without news, the less a little more of it matters. */
  #pollMs(quietMs: number): number {
    const { least, most, share } = this.#pushes ? BACKSTOP_MS : POLL_MS;
    const crowd = Math.ceil(this.#polling / 4);
    return crowd * Math.min(Math.max(least, quietMs * share), most);
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

function first<Item>(items: Iterable<Item>): Item {
  for (const item of items) return item;
  throw new RangeError("empty");
}
