import { backendError, LockBackendError, type LossReason } from "./errors.ts";
import { type HoldEvent, publish } from "./events.ts";
import type { CheckedOptions, LockMode } from "./options.ts";
import { lossOf } from "./record/eviction.ts";
import type { Remainder } from "./record/members.ts";
import { keptTokenOf, type LockRecord, MAX_NOTICES } from "./record/record.ts";

/** What a departure needs of the hold that ends by it. */
export interface DepartingHold {
  readonly identifier: string;
  readonly options: CheckedOptions;
  readonly token: string;
  readonly fencingToken: string;
  /** How it is held; how it was held at last, once it has departed. */
  mode: LockMode;
  readonly grantedMs: number;
  /** What every message about it says. */
  readonly event: HoldEvent;
  /** How much of the lease is left. */
  leftMs(): number;
  /** It was lost before it could be given back. */
  markLost(reason: LossReason): void;
}

/** A hold that is being given back, until its outcome is known: exactly one. */
export class Departure<Held extends DepartingHold> {
  readonly hold: Held;
  /** Whether a commit that takes it out may have landed without an answer. */
  isUnknown = false;
  readonly heldMs: number;
  /** Whether it was ours until then. */
  readonly released: Promise<boolean>;
  /** What is to stay of it for the process that takes it up, if it is handed over. */
  readonly #claim: Remainder | undefined;
  #resolve!: (released: boolean) => void;
  #reject!: (error: unknown) => void;

  constructor(hold: Held, heldMs: number, claim: Remainder | undefined) {
    this.hold = hold;
    this.heldMs = heldMs;
    this.#claim = claim;
    this.released = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** What is to stay of it in the record, if that is written now: it may be handed over, or have an age to reach first. */
  remainder(atMs: number): Remainder | undefined {
    if (this.#claim !== undefined) return this.#claim;
    const { grantedMs, options: { holdAtLeastMs } } = this.hold;
    if (holdAtLeastMs === undefined) return undefined;
    const leaseMs = Math.ceil(grantedMs + holdAtLeastMs - atMs);
    return leaseMs > 0 ? { token: keptTokenOf(this.hold), leaseMs } : undefined;
  }

  /** A change of its mode may have landed after that was given up: a claim is to what the record keeps of it. */
  noteMode({ holders }: LockRecord): void {
    const rest = this.#claim && holders.find(({ token }) => token === this.#claim!.token);
    if (rest !== undefined) this.hold.mode = rest.mode;
  }

  /** A commit of ours has taken it out. */
  onReleased(): void {
    this.#publish(undefined);
    this.#resolve(true);
  }

  /** The record does not name it any more, and no commit of ours is known to have taken it out. */
  onGone(record: LockRecord): void {
    const { hold } = this;
    // What stays of it shows that the release has landed, whatever became of the answer; so does that it was evicted.
    const restToken = this.#claim?.token ?? keptTokenOf(hold);
    const isRest = ({ token }: { readonly token: string }) => token === restToken;
    if (record.holders.some(isRest) || record.notices?.some(isRest)) return this.onReleased();
    const reason = lossOf(record, hold.token);
    // No process has been given the claim so far, so none has taken it up: what is not there was not handed over.
    if (this.isUnknown && reason === "expired" && this.#claim === undefined) {
      // The answer to our release was lost, and our token is gone. While the lease runs an eviction would have left a
      // notice, so it was the release. Afterwards the notice may have been collected, and before if too many others were
      // evicted: the outcome is unknown.
      const isFull = record.notices?.length === MAX_NOTICES;
      if (hold.leftMs() > 0 && !isFull) return this.onReleased();
      const since = isFull ? "too many have been evicted" : "the lease has ended";
      return this.onFailed(new LockBackendError(`the answer to the release was lost, and ${since} since`));
    }
    hold.markLost(reason);
    this.#resolve(false);
  }

  /** The release did not reach the store. */
  onFailed(cause: unknown): void {
    const { hold } = this;
    const doing = this.#claim === undefined ? "release" : "hand over";
    const error = backendError(hold.identifier, doing, cause);
    this.#publish(error);
    this.#reject(error);
  }

  #publish(error: LockBackendError | undefined): void {
    const { hold, heldMs } = this;
    const handedOver = this.#claim !== undefined;
    publish("holdfast:released", () => ({ ...hold.event, heldMs, handedOver, error }));
  }
}
