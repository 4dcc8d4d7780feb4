import type { ListedLock } from "../core/operators/listing.ts";

/** For how long the past is kept. */
export const WINDOW_MS = 5 * 60_000;

/** How many spans are kept at most, and how many waiters of one lock are followed. */
const MAX_SPANS = 5000;
const MAX_WAITERS = 8;

/**
 * At which share of the longest lease that was seen a hold must have missed renewals: it is renewed when two thirds are left.
 */
const MISSED = 1 / 3;

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
  /** When its lease has ended or will, as last seen; of a hold. */
  leaseEnds: number | undefined;
}

/** What of a span only the history needs. */
interface Known extends Span {
  /** Whether `how` is what its own process said; else it is concluded from looks, and what is said later wins. */
  isSaid: boolean;
  /** The longest lease that was seen, and what was left of it at the last look. */
  mostLeftMs: number;
  leftMs: number;
  /** Whether it was released, and is only kept for `holdAtLeastMs`. */
  isReleased: boolean;
}

/** What a look shows of a lease. */
interface Lease {
  readonly leftMs: number;
  readonly isReleased: boolean;
}

/** What was seen of a store in the last minutes: by looking from time to time, and by what holders here tell. */
export class History {
  /** When the store was looked at. */
  readonly looked: { from: number; to: number }[] = [];
  readonly #spans = new Map<string, Known>();

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
      for (const { label, fencingToken, heldForMs, leaseLeftMs, released } of holders) {
        const key = holdKey(identifier, fencingToken);
        there.add(key);
        const seen = { what: "hold", identifier, label, fencingToken, from: now - heldForMs } as const;
        this.#there(key, seen, now, { leftMs: leaseLeftMs, isReleased: released });
      }
      for (const [i, { label, since, waitingForMs }] of waiters.slice(0, MAX_WAITERS).entries()) {
        const twin = waiters.slice(0, i).filter((other) => +other.since === +since && other.label === label);
        const key = JSON.stringify(["wait", identifier, +since, label, twin.length]);
        there.add(key);
        const from = now - waitingForMs;
        this.#there(key, { what: "wait", identifier, label, fencingToken: undefined, from }, now);
      }
    }
    for (const [key, span] of this.#spans) {
      if (span.to !== undefined || there.has(key)) continue;
      if (span.isReleased) this.#end(span, "released", goneAt);
      else if (hasExpired(span, now)) this.#end(span, "expired", Math.min(span.leaseEnds!, goneAt));
      else this.#end(span, "gone", goneAt);
    }
    this.#forget(now);
  }

  /** Takes in that a hold has ended, and how. */
  end(identifier: string, fencingToken: string, how: Ending, now: number): void {
    const span = this.#spans.get(holdKey(identifier, fencingToken));
    if (span === undefined || span.isSaid) return;
    span.isSaid = true;
    this.#end(span, how, now);
  }

  /** Whether the hold is among what is known. */
  knows(identifier: string, fencingToken: string): boolean {
    return this.#spans.has(holdKey(identifier, fencingToken));
  }

  #there(key: string, seen: Omit<Span, "to" | "how" | "leaseEnds">, now: number, lease?: Lease): void {
    const { leftMs = 0, isReleased = false } = lease ?? {};
    const news = { leaseEnds: lease && now + leftMs, leftMs, isReleased, to: undefined, how: undefined };
    const span = this.#spans.get(key);
    if (span === undefined) this.#spans.set(key, { ...seen, ...news, isSaid: false, mostLeftMs: leftMs });
    // A look that was under way when the holder told of the end is late news.
    else if (!span.isSaid) Object.assign(span, news, { mostLeftMs: Math.max(span.mostLeftMs, leftMs) });
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

/**
 * Whether a hold that is gone at `now` has ended with its lease: it was seen with too little of it left, and nothing is left
 * now. A process that waits takes the lock of a crashed holder at once, so that no look may ever show it expired.
 */
function hasExpired({ leaseEnds, leftMs, mostLeftMs }: Known, now: number): boolean {
  return leaseEnds !== undefined && leaseEnds <= now && (leftMs <= 0 || leftMs < mostLeftMs * MISSED);
}

function holdKey(identifier: string, fencingToken: string): string {
  return JSON.stringify(["hold", identifier, fencingToken]);
}
