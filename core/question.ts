import type { CommitResult } from "./backend.ts";
import type { Moment } from "./clock.ts";
import type { Tracked } from "./footprint.ts";
import type { Snapshot } from "./record/codec.ts";
import type { Plan } from "./record/plan.ts";
import type { Store } from "./store.ts";

/** What hears the outcome of a question. */
export interface Asker {
  /** The store has shown the records of the lock. */
  onShown(look: Look, snapshot: Snapshot): void;
  /** The store has applied a commit, or refused it. */
  onDecided(commit: Commit, answer: CommitResult): void;
}

/** What a store is asked about a lock, once. */
export abstract class Question<Answer> {
  /** When it is sent. */
  readonly at: Moment;
  /** Until when its answer is waited for. */
  dueMs = Infinity;
  /** When the answer came. */
  answered: Moment | undefined;

  constructor(at: Moment) {
    this.at = at;
  }

  abstract send(store: Store): Promise<Answer>;
  abstract tell(asker: Asker, answer: Answer): void;
}

/** Looks at the lock's record, and at the queue's if that is needed: two are dearer than one on some stores. */
export class Look extends Question<Snapshot> {
  readonly #key: string;
  readonly #withQueue: boolean;

  constructor(at: Moment, { key, withQueue }: { readonly key: string; readonly withQueue: boolean }) {
    super(at);
    this.#key = key;
    this.#withQueue = withQueue;
  }

  send(store: Store): Promise<Snapshot> {
    return this.#withQueue ? store.read(this.#key) : store.readAlone(this.#key);
  }

  tell(asker: Asker, snapshot: Snapshot): void {
    asker.onShown(this, snapshot);
  }
}

/** Writes what is planned, if the records are still as they were seen. */
export class Commit extends Question<CommitResult> {
  readonly snapshot: Snapshot;
  readonly plan: Plan;
  /** Whose token or entry it may leave in the store. */
  readonly trace: Tracked | undefined;

  constructor(
    at: Moment,
    { snapshot, plan, trace }: {
      readonly snapshot: Snapshot;
      readonly plan: Plan;
      readonly trace: Tracked | undefined;
    },
  ) {
    super(at);
    this.snapshot = snapshot;
    this.plan = plan;
    this.trace = trace;
  }

  send(store: Store): Promise<CommitResult> {
    return store.send(this.snapshot, this.plan);
  }

  tell(asker: Asker, answer: CommitResult): void {
    asker.onDecided(this, answer);
  }
}
