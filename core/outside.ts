import { MAX_QUEUE, type QueueEntry } from "./record/record.ts";

/** After how many graces a queue without a place is looked at again: the first time, and at the latest. */
const FIRST_GRACES = 2;
const MOST_GRACES = 8;

/**
 * Waits outside a queue that has no place left. Hundreds may wait so: if each looked at every hand-over, and all
 * tried to get the one place that it leaves, the store would have more to do with them than with those that are
 * queued. So each looks again when most of the queue may have had its turn, as fast as that goes, each at a
 * different moment.
 */
export class Outside {
  readonly #graceMs: number;
  #seen: { readonly tokens: ReadonlySet<string>; readonly atMs: number } | undefined;
  #pauseMs = 0;
  /** When it looks again. */
  lookMs = Infinity;

  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  /** Takes note of the queue as it was seen, full. */
  note(entries: readonly QueueEntry[], now: number): void {
    this.#pauseMs = this.#nextMs(entries, now);
    this.#seen = { tokens: new Set(entries.map(({ token }) => token)), atMs: now };
    this.lookMs = now + this.#pauseMs * (0.5 + 0.5 * Math.random());
  }

  #nextMs(entries: readonly QueueEntry[], now: number): number {
    if (this.#seen === undefined) return FIRST_GRACES * this.#graceMs;
    const { tokens, atMs } = this.#seen;
    const gone = MAX_QUEUE - entries.filter(({ token }) => tokens.has(token)).length;
    const mostMs = MOST_GRACES * this.#graceMs;
    return Math.min(gone > 0 ? (now - atMs) * MAX_QUEUE / gone : 2 * this.#pauseMs, mostMs);
  }
}
