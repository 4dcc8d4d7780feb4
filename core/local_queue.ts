import { contend } from "./acquire.ts";
import type { Acquisition } from "./acquisition.ts";
import type { Timer } from "./clock.ts";
import type { HolderInfo } from "./errors.ts";
import type { Hold } from "./hold.ts";
import type { Peer } from "./peer.ts";
import type { Sight } from "./record/codec.ts";
import type { View } from "./record/evidence.ts";
import { FREE, type Holder, type LockRecord } from "./record/record.ts";

/** When each grant, by its fencing token, was first seen here, and how often and since when it is renewed. */
export type Sightings = ReadonlyMap<
  string | undefined,
  { readonly since: number; readonly renewals: number; readonly renewedSince: number }
>;

const NONE: Sightings = new Map();

/**
 * Everyone in this process who holds or wants one lock. At most one of them, the store waiter, talks to
 * the store; the others stand behind it in the order in which they came.
 */
export class LocalQueue {
  readonly peer: Peer;
  readonly key: string;
  /** How many questions to the store have no answer yet. */
  asking = 0;
  /** When the store last answered here. */
  answeredMs = -Infinity;
  /** How the store has failed since it last answered, if it has. */
  failure: unknown;
  /** What was seen of those who held it. */
  sightings: Sightings;

  #hold: Hold | undefined;
  #storeWaiter: Acquisition | undefined;
  readonly #waiting = new Set<Acquisition>();
  /** Those here, waiting or asking, who want an old holder to be evicted. */
  readonly #thieves = new Set<Acquisition>();
  /** The last hold of this process that has ended, whatever the record says. */
  #ended: { readonly fence: string; readonly since: number } | undefined;
  #stealTimer: Timer | undefined;

  #lastSeen: LockRecord = FREE;
  #freed: { freedAt: number; since: number } | undefined;

  constructor(peer: Peer, key: string, sightings = NONE) {
    this.peer = peer;
    this.key = key;
    this.sightings = sightings;
  }

  /** Takes in someone who wants the lock. */
  enter(acquisition: Acquisition): void {
    // First of all, or a hold that this look finds expired would leave the queue empty and forgotten.
    if (this.#hold ?? this.#storeWaiter) this.#waiting.add(acquisition);
    else this.#start(acquisition);
    const hold = this.#hold?.held ? this.#hold : undefined;
    if (this.#storeWaiter === acquisition) return this.#note(acquisition);
    if (acquisition.options.mayWait) {
      this.#note(acquisition);
      if (this.#waiting.size === 1) this.#hold?.arm();
      return;
    }
    this.#waiting.delete(acquisition);
    if (hold !== undefined && hold.ageMs < (acquisition.options.stealAfterMs ?? Infinity)) {
      return acquisition.refuse();
    }
    // Whether the lock is taken, only the store can say. Those who wait here are served before it.
    contend(this, acquisition, undefined, this.#waiting.size + (this.#storeWaiter ? 1 : 0));
  }

  /** Lets go of someone who has the lock or no longer wants it. */
  leave(acquisition: Acquisition): void {
    if (this.#waiting.delete(acquisition) && this.#waiting.size === 0) this.#hold?.arm();
    if (this.#thieves.delete(acquisition)) this.#armStealTimer();
    if (this.#storeWaiter === acquisition) {
      this.#storeWaiter = undefined;
      this.#advance();
    }
    this.#forgetIfIdle();
  }

  /** Someone here got the lock. Who had it before, as far as that was known here? */
  occupy(hold: Hold): Hold | undefined {
    const previous = this.#hold;
    this.#hold = hold;
    this.peer.seated.delete(this.key);
    this.#freed = undefined;
    this.#armStealTimer();
    return previous;
  }

  /** A hold of this process has ended; `sight` is the record it left behind, if that is known. */
  vacate(hold: Hold, sight?: Sight): void {
    if (this.#hold !== hold) return;
    this.#hold = undefined;
    this.#ended = { fence: hold.fencingToken, since: this.peer.clock.monotonicMs() };
    this.#advance(sight);
    this.#forgetIfIdle();
  }

  /** The hold of this process, if there is one. */
  get hold(): Hold | undefined {
    return this.#hold;
  }

  /** Who takes over if the holder of this process releases now. */
  heir(): Acquisition | undefined {
    if (this.#storeWaiter !== undefined || !this.wanted) return undefined;
    const [first] = this.#waiting;
    return first;
  }

  /** The shortest time after which someone here wants a holder to be evicted. */
  get stealAfterMs(): number | undefined {
    let least: number | undefined;
    for (const { options: { stealAfterMs } } of this.#thieves) {
      if (stealAfterMs !== undefined) least = Math.min(least ?? Infinity, stealAfterMs);
    }
    return least;
  }

  /** This process's place in line, if nobody here waits for the lock. */
  get idleSeat(): string | undefined {
    return this.#storeWaiter || this.wanted ? undefined : this.peer.seatId;
  }

  /** Whether someone here waits behind the holder of this process. */
  get wanted(): boolean {
    return this.#waiting.size > 0;
  }

  /** Takes note of a record that the store has just shown. */
  observe(record: LockRecord): void {
    const now = this.peer.clock.monotonicMs();
    this.#lastSeen = record;
    const before = this.sightings;
    // By fencing token: one acquisition may be granted twice, if the first answer was lost.
    this.sightings = new Map(
      record.holders.map(({ fence, renewals }) => {
        const seen = before.get(fence);
        const since = seen?.since ?? now;
        const renewedSince = seen?.renewals === renewals ? seen.renewedSince : now;
        return [fence, { since, renewals, renewedSince }];
      }),
    );
    const { freedAt } = record;
    if (freedAt === undefined) this.#freed = undefined;
    else if (this.#freed?.freedAt !== freedAt) this.#freed = { freedAt, since: now };
  }

  /** How a record looks from here and now. */
  view(): View {
    const { backend: { skewMs, graceMs }, clock } = this.peer;
    const now = clock.monotonicMs();
    const elapsed = (since: number | undefined) => since === undefined ? 0 : now - since;
    return {
      now: this.peer.now(),
      skewMs,
      graceMs,
      holderSeenMs: ({ fence }) =>
        this.#hold !== undefined && this.#hold.fencingToken === fence
          ? this.#hold.ageMs
          : elapsed(this.sightings.get(fence)?.since),
      leaseSeenMs: ({ fence, renewals, leaseMs }) => {
        const ended = this.#ended;
        // Over for us, but only since then: a process whose hold has lapsed does not go past the whole queue at once.
        if (ended !== undefined && fence === ended.fence) return 1.01 * leaseMs + 5 + elapsed(ended.since);
        const seen = this.sightings.get(fence);
        return elapsed(seen?.renewals === renewals ? seen.renewedSince : undefined);
      },
      freeSeenMs: ({ freedAt }) => elapsed(this.#freed?.freedAt === freedAt ? this.#freed?.since : undefined),
    };
  }

  /** Who holds the lock, as far as is known here. */
  holders(): readonly HolderInfo[] {
    if (this.#hold !== undefined) {
      return [{ label: this.#hold.options.label, heldForMs: Math.round(this.#hold.ageMs) }];
    }
    const now = this.peer.backend.now();
    return this.#lastSeen.holders.map(({ label, since }: Holder) => ({
      label,
      heldForMs: Math.max(0, Math.round(now - since)),
    }));
  }

  #note(acquisition: Acquisition): void {
    if (acquisition.options.stealAfterMs === undefined) return;
    this.#thieves.add(acquisition);
    if (this.#storeWaiter !== acquisition) this.#storeWaiter?.wake();
    this.#armStealTimer();
  }

  #start(acquisition: Acquisition, sight?: Sight): void {
    this.#storeWaiter = acquisition;
    this.#waiting.delete(acquisition);
    contend(this, acquisition, sight, 0);
  }

  #advance(sight?: Sight): void {
    if (this.#hold !== undefined) return;
    const first = this.heir();
    if (first !== undefined) this.#start(first, sight);
  }

  /** Waiters stand behind a local holder without the store, unless one wants it evicted. */
  #armStealTimer(): void {
    this.peer.clock.clear(this.#stealTimer);
    this.#stealTimer = undefined;
    const { stealAfterMs } = this;
    if (stealAfterMs === undefined || this.#hold === undefined) return;
    this.#stealTimer = this.peer.clock.after(stealAfterMs - this.#hold.ageMs, () => {
      const first = this.heir();
      if (first !== undefined) this.#start(first);
    });
  }

  #forgetIfIdle(): void {
    if (this.#hold ?? this.#storeWaiter ?? this.wanted) return;
    this.#armStealTimer();
    this.peer.forget(this);
  }
}
