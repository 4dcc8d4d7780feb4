import type { ListedLock } from "../core/operators/listing.ts";

/** For how long the past is kept. */
export const WINDOW_MS = 5 * 60_000;

/** How many spans are kept at most, and how many waiters of one lock are followed. */
const MAX_SPANS = 5000;
const MAX_WAITERS = 8;

/** How a hold ended; `gone` where only its own process knows. */
export type Ending = "released" | "handed-over" | "expired" | "stolen" | "forced" | "gone";

/** A span of time in which a process held a lock, or waited for it. */
export interface Span {
  readonly what: "hold" | "wait";
  readonly identifier: string;
  readonly label: string | undefined;
  /** Of a hold. */
  readonly fencingToken: string | undefined;
  /** When it began and, if it has, when it ended, by this process's clock. */
  readonly from: number;
  to: number | undefined;
  how: Ending | undefined;
}

/** What was seen of a store in the last minutes: by looking from time to time, and by what holders here tell. */
export class History {
  /** When the store was looked at. */
  readonly looked: { from: number; to: number }[] = [];
  readonly #spans = new Map<string, Span>();

  /** Everything known, the oldest first. */
  get spans(): Iterable<Span> {
    return this.#spans.values();
  }

  /** Takes in what a look at `now` has shown. Two looks within `gapMs` count as looking on. */
  see(locks: readonly ListedLock[], now: number, gapMs: number): void {
    const last = this.looked.at(-1);
    const isOn = last !== undefined && now - last.to <= gapMs;
    // Of a hold that has ended between two looks, only the last look that saw it is known.
    const goneAt = last === undefined || isOn ? now : last.to;
    if (isOn) last.to = now;
    else this.looked.push({ from: now, to: now });
    const there = new Set<string>();
    for (const { identifier, holders, waiters } of locks) {
      for (const { label, fencingToken, heldForMs } of holders) {
        const key = holdKey(identifier, fencingToken);
        there.add(key);
        this.#there(key, { what: "hold", identifier, label, fencingToken, from: now - heldForMs });
      }
      for (const [i, { label, since, waitingForMs }] of waiters.slice(0, MAX_WAITERS).entries()) {
        const twin = waiters.slice(0, i).filter((other) => +other.since === +since && other.label === label);
        const key = JSON.stringify(["wait", identifier, +since, label, twin.length]);
        there.add(key);
        const from = now - waitingForMs;
        this.#there(key, { what: "wait", identifier, label, fencingToken: undefined, from });
      }
    }
    for (const [key, span] of this.#spans) {
      if (span.to === undefined && !there.has(key)) this.#end(span, "gone", goneAt);
    }
    this.#forget(now);
  }

  /** Takes in that a hold has ended, and how. */
  end(identifier: string, fencingToken: string, how: Ending, now: number): void {
    const span = this.#spans.get(holdKey(identifier, fencingToken));
    if (span === undefined || (span.how !== undefined && span.how !== "gone")) return;
    this.#end(span, how, now);
  }

  /** Whether the hold is among what is known. */
  knows(identifier: string, fencingToken: string): boolean {
    return this.#spans.has(holdKey(identifier, fencingToken));
  }

  #there(key: string, seen: Omit<Span, "to" | "how">): void {
    const span = this.#spans.get(key);
    if (span === undefined) this.#spans.set(key, { ...seen, to: undefined, how: undefined });
    // A look that was under way when the holder told of the end is late news.
    else if (span.how === "gone") span.to = span.how = undefined;
  }

  #end(span: Span, how: Ending, now: number): void {
    span.to = Math.max(span.from, Math.min(span.to ?? now, now));
    span.how = how;
  }

  #forget(now: number): void {
    while (this.looked.length > 0 && this.looked[0].to < now - WINDOW_MS) this.looked.shift();
    for (const [key, { to }] of this.#spans) {
      if (to !== undefined && (to < now - WINDOW_MS || this.#spans.size > MAX_SPANS)) this.#spans.delete(key);
    }
  }
}

function holdKey(identifier: string, fencingToken: string): string {
  return JSON.stringify(["hold", identifier, fencingToken]);
}
