/** The server's clock, as this process sees it. */

export const SKEW_MS = 500;
/** How wrong a process's view of the server's clock may be, so that two of them differ by `SKEW_MS` at most. */
export const TOLERANCE_MS = SKEW_MS / 2;

/** The server's clock as far as it can be known: by how much it is surely, at least and at most, ahead of ours. */
export class ServerClock {
  #least: number;
  #most: number;

  constructor() {
    // Until the server has told, our own wall clock is trusted as far as two processes may differ at all.
    const guess = Date.now() - performance.now();
    this.#least = guess - TOLERANCE_MS;
    this.#most = guess + TOLERANCE_MS;
  }

  now(): number {
    return performance.now() + this.aheadMs;
  }

  /** By how much it is ahead of ours, as it is seen now. */
  get aheadMs(): number {
    return (this.#least + this.#most) / 2;
  }

  /** The same as scripts take it. */
  digits(): string {
    return String(Math.floor(this.now()));
  }

  /** Learns from an answer to what was sent at `sent`. By how much the server's clock is surely ahead of ours. */
  learn(serverMs: number, sent: number): number {
    const least = serverMs - performance.now();
    const most = serverMs - sent;
    // Either narrows what is known, or, if the clocks have parted, moves it no farther than it must.
    this.#least = Math.min(Math.max(this.#least, least), most);
    this.#most = Math.max(Math.min(this.#most, most), least);
    return least;
  }
}
