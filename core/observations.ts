import type { Clock } from "./clock.ts";
import type { Snapshot } from "./record/codec.ts";
import type { Evidence } from "./record/evidence.ts";
import type { EvictionNotice, Holder } from "./record/record.ts";
import type { Store } from "./store.ts";

/** Since when a grant has been seen here, and since when without a renewal. */
interface Sighting {
  readonly sinceMs: number;
  readonly renewals: number;
  readonly renewedMs: number;
}

/** One look at the record of a lock. */
export interface Look {
  readonly store: Store;
  /** When the look began, on the monotonic clock. */
  readonly atMs: number;
  /** The version of the record. */
  readonly version: string | null;
  readonly members?: {
    /** How long ago a holder was granted, if it is of this process. */
    ageOf(holder: Holder): number | undefined;
  };
}

/**
 * What this process has seen of one lock, and since when: proof that time has passed, without any process's clock.
 */
export class Observations {
  readonly #clock: Clock;
  /** By fencing token: one request may be granted twice, if the first answer was lost. */
  #sightings = new Map<string | undefined, Sighting>();
  /** Since when a notice has been seen, by its token. */
  #notices = new Map<string, number>();
  /**
   * The version of the record, since when it has been seen as it is, and whether as another before. That a holder next to the
   * room is renewed changes nothing for those that wait.
   */
  #free:
    | {
      readonly version: string | null;
      readonly freedAt: number | null | undefined;
      readonly sinceMs: number;
      readonly isNew: boolean;
    }
    | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether anything has been seen that is worth to be remembered. */
  get isEmpty(): boolean {
    return this.#sightings.size + this.#notices.size === 0;
  }

  /** Takes note of what the store has just shown. */
  note({ lock: { version, record } }: Snapshot): void {
    const now = this.#clock.monotonicMs();
    const before = this.#sightings;
    this.#sightings = new Map();
    for (const { fence, renewals } of record.holders) {
      const seen = before.get(fence);
      const renewedMs = seen?.renewals === renewals ? seen.renewedMs : now;
      this.#sightings.set(fence, { sinceMs: seen?.sinceMs ?? now, renewals, renewedMs });
    }
    this.#noteNotices(record.notices ?? [], now);
    const free = this.#free;
    if (free?.version === version) return;
    const { freedAt } = record;
    const isSame = free !== undefined && typeof freedAt === "number" && free.freedAt === freedAt;
    this.#free = isSame
      ? { ...free, version }
      : { version, freedAt, sinceMs: now, isNew: free !== undefined };
  }

  #noteNotices(notices: readonly EvictionNotice[], now: number): void {
    const before = this.#notices;
    if (notices.length + before.size === 0) return;
    this.#notices = new Map(notices.map(({ token }) => [token, before.get(token) ?? now]));
  }

  /** Since when a holder has been seen. */
  holderSinceMs({ fence }: Holder): number | undefined {
    return this.#sightings.get(fence)?.sinceMs;
  }

  /** Since when it has been seen without a renewal. */
  leaseSinceMs({ fence, renewals }: Holder): number | undefined {
    const seen = this.#sightings.get(fence);
    return seen?.renewals === renewals ? seen.renewedMs : undefined;
  }

  /** Since when a notice has been seen. */
  noticeSinceMs({ token }: EvictionNotice): number | undefined {
    return this.#notices.get(token);
  }

  /** Since when the record of this version has been seen. */
  freeSinceMs(version: string | null): number | undefined {
    return this.#free?.version === version ? this.#free?.sinceMs : undefined;
  }

  /** Whether the record of this version, without a holder, is another than was seen before. */
  sawFreed(version: string | null): boolean {
    return this.#free?.version === version && this.#free?.isNew === true;
  }
}

/** What follows now from what was seen, if anything was. */
export function evidenceOf(seen: Observations | undefined, look: Look): Evidence {
  return new ObservedEvidence(seen, look);
}

class ObservedEvidence implements Evidence {
  readonly #seen: Observations | undefined;
  readonly #store: Store;
  readonly #atMs: number;
  readonly #version: string | null;
  readonly #members: Look["members"];
  #now: number | undefined;

  constructor(seen: Observations | undefined, { store, atMs, version, members }: Look) {
    this.#seen = seen;
    this.#store = store;
    this.#atMs = atMs;
    this.#version = version;
    this.#members = members;
  }

  // A release needs no time; everything else sees the same.
  get now(): number {
    return this.#now ??= this.#store.now();
  }

  get skewMs(): number {
    return this.#store.backend.skewMs;
  }

  get errorMs(): number {
    return this.#store.clockErrorMs;
  }

  get graceMs(): number {
    return this.#store.backend.graceMs;
  }

  holderSeenMs(holder: Holder): number {
    return this.#members?.ageOf(holder) ?? this.#forMs(this.#seen?.holderSinceMs(holder));
  }

  leaseSeenMs(holder: Holder): number {
    return this.#forMs(this.#seen?.leaseSinceMs(holder));
  }

  noticeSeenMs(notice: EvictionNotice): number {
    return this.#forMs(this.#seen?.noticeSinceMs(notice));
  }

  freeSeenMs(): number {
    return this.#forMs(this.#seen?.freeSinceMs(this.#version));
  }

  sawFreed(): boolean {
    return this.#seen?.sawFreed(this.#version) === true;
  }

  #forMs(sinceMs: number | undefined): number {
    return sinceMs === undefined ? 0 : this.#atMs - sinceMs;
  }
}
