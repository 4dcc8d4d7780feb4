import { Backoff, type BackoffOptions } from "./retry.ts";

/** How long a store that has failed is left alone before it is asked again. */
const RETRY: BackoffOptions = { leastMs: 10, mostMs: 1000 };

/** The failures of a store since it last did what it was asked, and when it is asked again. */
export class Outage {
  /** How it has failed last, if it has. */
  failure: unknown;
  /** Before this it is not asked again, because it has failed or others are to come to their turn. */
  retryMs = 0;
  #backoff: Backoff | undefined;

  /** It has failed. */
  begin(failure: unknown, now: number): void {
    this.failure = failure;
    this.#backoff ??= new Backoff(RETRY);
    this.retryMs = now + this.#backoff.pauseMs();
  }

  /** It is asked at once, and soon again, however it has failed before. */
  restart(): void {
    this.retryMs = 0;
    this.#backoff = undefined;
  }

  /** A caller cannot wait for so long. */
  hasten(retryMs: number): void {
    this.retryMs = Math.min(this.retryMs, retryMs);
  }

  /** It has done what it was asked. Answers whether that was in doubt. */
  end(): boolean {
    if (this.failure === undefined && this.#backoff === undefined) return false;
    this.failure = undefined;
    this.#backoff = undefined;
    return true;
  }
}
