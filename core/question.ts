import type { Moment } from "./clock.ts";
import type { Tracked } from "./footprint.ts";

/** What is asked of a store, and what to do with the answer. */
export interface Inquiry<Answer> {
  /** When it is sent. */
  readonly at: Moment;
  /** Until when its answer is waited for. */
  readonly dueMs: number;
  /** Whose token or entry it may leave in the store. */
  readonly trace?: Tracked | undefined;
  send(): Promise<Answer>;
  onAnswer(answer: Answer): void;
  /** The outcome is not known: what was asked may have been done or not. */
  onUnknown?(): void;
}

/** Who asks the store, and goes on with what comes of it. */
export interface Asker {
  onAnswer<Answer>(inquiry: Inquiry<Answer>, answer: Answer): void;
  /** It has failed, or was not answered in time. */
  onFailure(inquiry: Inquiry<unknown>, error: unknown): void;
  /** It has an outcome that nobody waits for any more: what was asked has perhaps been done just now. */
  onLate(inquiry: Inquiry<unknown>, error?: unknown): void;
}

/** What a store has been asked, until it answers, fails or is not waited for any more: exactly one of these. */
export class Question<Answer> {
  readonly inquiry: Inquiry<Answer>;
  readonly #asker: Asker;
  #isOpen = true;

  constructor(asker: Asker, inquiry: Inquiry<Answer>) {
    this.#asker = asker;
    this.inquiry = inquiry;
  }

  send(): void {
    try {
      this.inquiry.send().then((answer) => this.#onAnswer(answer), (error) => this.#onError(error));
    } catch (error) {
      // Not within the call of whoever asks: the next one would fail within it, too, and so on.
      queueMicrotask(() => this.#onError(error));
    }
  }

  /** Takes it for failed. */
  fail(error: unknown): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#asker.onFailure(this.inquiry, error);
  }

  /** Nobody needs the answer any more. */
  abandon(): void {
    this.#isOpen = false;
  }

  #onAnswer(answer: Answer): void {
    if (!this.#isOpen) return this.#asker.onLate(this.inquiry);
    this.#isOpen = false;
    this.#asker.onAnswer(this.inquiry, answer);
  }

  #onError(error: unknown): void {
    if (this.#isOpen) this.fail(error);
    else this.#asker.onLate(this.inquiry, error);
  }
}
