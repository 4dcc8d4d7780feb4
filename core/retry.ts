/** How long to wait before the next try: longer each time, up to a limit. */
export interface BackoffOptions {
  /** The first pause. */
  readonly leastMs: number;
  /** The longest pause. */
  readonly mostMs: number;
  /** Draws each pause at random from below the one that is due, so that rivals part. Default: `false`. */
  readonly jitter?: boolean;
}

/** The pauses of one row of failures: each is twice the one before, up to a limit. */
export class Backoff {
  readonly #options: BackoffOptions;
  #nextMs: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#nextMs = options.leastMs;
  }

  /** How long to wait now. */
  pauseMs(): number {
    const { mostMs, jitter } = this.#options;
    const pauseMs = Math.min(this.#nextMs, mostMs);
    this.#nextMs = 2 * pauseMs;
    // Never 0: a process that tries again must let others come to their turn.
    return jitter ? 1 + Math.random() * pauseMs : pauseMs;
  }
}
