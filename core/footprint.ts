/** Whose token or entry may be in the store. */
export interface Tracked {
  readonly identifier: string;
  readonly leaseMs: number;
}

/**
 * What of ours may have landed in the store although no caller here wants it any more. It is looked for, and
 * withdrawn.
 */
export class Footprint {
  #of: Tracked | undefined;
  #sinceMs = 0;
  #untilMs = 0;

  /** Whether there may be one. */
  get isOpen(): boolean {
    return this.#of !== undefined;
  }

  /** Whose it is. */
  get of(): Tracked | undefined {
    return this.#of;
  }

  /** It may have landed until `sinceMs`, and is looked for as long as a lease. */
  leave(of: Tracked, sinceMs: number): void {
    this.#of = of;
    this.#sinceMs = sinceMs;
    this.#untilMs = sinceMs + of.leaseMs;
  }

  /** The last that wanted it has gone: from now on it is looked for as long as a lease. */
  extend(now: number): void {
    if (this.#of !== undefined) this.#untilMs = now + this.#of.leaseMs;
  }

  /** Whether what was asked at `askedMs` cannot show it yet. */
  isYoungerThan(askedMs: number): boolean {
    return this.#of !== undefined && this.#sinceMs > askedMs;
  }

  isOver(now: number): boolean {
    return now > this.#untilMs;
  }

  clear(): void {
    this.#of = undefined;
  }
}
