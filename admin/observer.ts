import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { systemClock } from "../core/clock.ts";
import type { LossReason } from "../core/errors.ts";
import type { LockEvents } from "../core/events.ts";
import { keyOf } from "../core/identifier.ts";
import { locks, type StoreOptions } from "../core/operators/api.ts";
import { type ListedLock, OPERATOR_TIMEOUT_MS } from "../core/operators/listing.ts";
import { within } from "../core/time_limit.ts";
import { History } from "./history.ts";

/** How many locks a look takes in. */
const MAX_LOCKS = 2000;

/** How many losses of this process are remembered. */
const MAX_LOSSES = 50;

/** A lock that this process has lost, on whatever store. */
export interface Loss {
  readonly identifier: string;
  readonly label: string | undefined;
  readonly fencingToken: string;
  readonly heldMs: number;
  readonly reason: LossReason;
  /** When it was told. */
  readonly at: number;
}

/** What one look at a store has shown. */
export interface Look {
  /** When, by this process's clock. */
  readonly at: number;
  readonly locks: readonly ListedLock[];
  /** Whether there are more locks than are looked at. */
  readonly more: boolean;
  /** Why the look failed, if it did. */
  readonly trouble: unknown;
  readonly history: History;
  readonly losses: readonly Loss[];
}

const losses: Loss[] = [];
let listening = false;

/** Remembers from now on what this process loses: losses are rare, and told only once. */
export function rememberLosses(): void {
  if (listening) return;
  listening = true;
  subscribe("holdfast:lost", (message) => {
    const { identifier, label, fencingToken, heldMs, reason } = message as LockEvents["holdfast:lost"];
    losses.push({ identifier, label, fencingToken, heldMs, reason, at: Date.now() });
    if (losses.length > MAX_LOSSES) losses.shift();
  });
}

/** Looks at a store for everybody who wants to see it, and only while somebody does. */
export class Observer {
  readonly history: History = new History();
  readonly #store: StoreOptions;
  readonly #refreshMs: number;
  readonly #viewers = new Set<(look: Look) => void>();
  #looking: Promise<Look> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(store: StoreOptions, refreshMs: number) {
    this.#store = store;
    this.#refreshMs = refreshMs;
  }

  /** Shows every look to `viewer` from now on, until the function that is returned is called. */
  follow(viewer: (look: Look) => void): () => void {
    this.#viewers.add(viewer);
    if (this.#viewers.size === 1) {
      for (const name of ENDS) subscribe(name, this.#hear);
      this.#timer = setTimeout(this.#tick, this.#refreshMs);
    }
    return () => {
      if (!this.#viewers.delete(viewer) || this.#viewers.size > 0) return;
      for (const name of ENDS) unsubscribe(name, this.#hear);
      clearTimeout(this.#timer);
    };
  }

  /** Looks now; whoever asks meanwhile gets the same look. */
  look(): Promise<Look> {
    return this.#looking ??= this.#look().finally(() => this.#looking = undefined);
  }

  /** Looks again, not to be told of what was there before the call, and shows it to everybody. */
  async renew(): Promise<Look> {
    await this.#looking;
    const look = await this.look();
    for (const viewer of this.#viewers) viewer(look);
    return look;
  }

  readonly #tick = async (): Promise<void> => {
    await this.renew();
    clearTimeout(this.#timer);
    if (this.#viewers.size > 0) this.#timer = setTimeout(this.#tick, this.#refreshMs);
  };

  readonly #hear = (message: unknown, name: string | symbol): void => {
    const { identifier, fencingToken, ...rest } = message as LockEvents[(typeof ENDS)[number]];
    const how = name === "holdfast:lost" && "reason" in rest ? rest.reason : "released";
    const now = Date.now();
    void keyOf(identifier).then((key) => this.history.end(key, fencingToken, how, now));
  };

  async #look(): Promise<Look> {
    const found: ListedLock[] = [];
    let more = false;
    let trouble: unknown;
    try {
      for await (const lock of inTime(locks(this.#store))) {
        more = found.length === MAX_LOCKS;
        if (more) break;
        found.push(lock);
      }
    } catch (error) {
      trouble = error;
    }
    const at = Date.now();
    if (trouble === undefined) this.history.see(found, at, 3 * this.#refreshMs);
    return { at, locks: found, more, trouble, history: this.history, losses };
  }
}

const ENDS = ["holdfast:released", "holdfast:lost"] as const;

/** A listing that fails when the store takes longer for it than `limitMs`. */
export async function* inTime(
  listing: AsyncIterableIterator<ListedLock>,
  limitMs: number = OPERATOR_TIMEOUT_MS,
): AsyncGenerator<ListedLock> {
  const endMs = systemClock.monotonicMs() + limitMs;
  const late = () => new Error(`it has been silent for ${limitMs / 1000} s`);
  try {
    for (;;) {
      const leftMs = endMs - systemClock.monotonicMs();
      const { done, value } = await within(listing.next(), leftMs, { clock: systemClock, late });
      if (done) return;
      yield value;
    }
  } finally {
    // Not waited for: a store that is silent does not end a listing either.
    void listing.return?.().then(undefined, () => {});
  }
}
