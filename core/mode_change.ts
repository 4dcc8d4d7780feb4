import { onAbort, reasonOf } from "./abort.ts";
import { queueMicrotask } from "./clock.ts";
import { type AnsweredLock, Deadline, TRY_TIMEOUT_MS, type Waiting } from "./deadline.ts";
import { backendError, type HolderInfo, isTransient, LockAcquisitionError } from "./errors.ts";
import type { ModeChange as Wanted } from "./record/members.ts";
import type { Mode } from "./record/modes.ts";

const NONE: readonly never[] = [];

/** For how long at least a store may fail before an upgrade is given up. */
const OUTAGE_MS = 3000;

/** How long an upgrade may take. */
export interface ChangeOptions {
  readonly mayWait: boolean;
  readonly waitForMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** What a change of mode needs to know of its lock. */
export interface ChangedLock extends AnsweredLock {
  /** It has its outcome: what it has put into the record may have to be taken out again. */
  onChangeSettled(change: ModeChange): void;
}

/** The hold whose mode is changed. */
export interface ChangingHold {
  readonly lock: ChangedLock;
  readonly identifier: string;
  readonly options: { readonly leaseMs: number };
  /** How the record says that it is held. */
  readonly mode: Mode["mode"];
  readonly isOver: boolean;
  /** The others that hold the lock, in this process and in others, as far as is known. */
  readonly others: readonly HolderInfo[];
  /** A change is under way from now on. */
  onChange(): void;
}

/** A hold that is to be held in another way, from the call until that is so or will not be: exactly one outcome. */
export class ModeChange implements Wanted, Waiting {
  readonly to: Mode["mode"];
  readonly startedMs: number;
  /** Resolves when it is held so. */
  readonly outcome: Promise<void>;
  readonly #hold: ChangingHold;
  readonly #options: ChangeOptions;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;
  #isOpen = true;
  /** Since when the store has not done what it was asked for it. */
  #troubledMs: number | undefined;
  #deadline: Deadline | undefined;
  #stopListening: (() => void) | undefined;

  constructor(hold: ChangingHold, to: Mode["mode"], options: ChangeOptions) {
    this.#hold = hold;
    this.#options = options;
    this.to = to;
    this.startedMs = hold.lock.clock.monotonicMs();
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const { signal, waitForMs, mayWait } = options;
    if (signal !== undefined) this.#stopListening = onAbort(signal, () => this.reject(reasonOf(signal)));
    const limitMs = mayWait ? waitForMs : Math.min(TRY_TIMEOUT_MS, hold.options.leaseMs);
    if (limitMs !== undefined) this.#deadline = new Deadline(hold.lock, this, limitMs);
  }

  /** Whether it may wait until the others have left. */
  get mayWait(): boolean {
    return this.#options.mayWait;
  }

  /** It is held so. */
  resolve(): void {
    if (this.#settle()) this.#resolve();
  }

  /** It will not be held so. */
  reject(error: unknown): void {
    if (this.#settle()) this.#reject(error);
  }

  /** Others hold the lock, too, and the caller does not wait (any longer). */
  refuse(): void {
    this.reject(refusal(this.#hold, { waitedMs: this.#waitedMs }));
  }

  /** Another holder waits to be the only one, too. */
  refuseAsSecond(): void {
    this.reject(refusal(this.#hold, { waitedMs: this.#waitedMs, because: SECOND }));
  }

  get #waitedMs(): number {
    return Math.round(this.#hold.lock.clock.monotonicMs() - this.startedMs);
  }

  /** The store has failed in a way that waiting does not cure. */
  fail(cause: unknown): void {
    this.reject(backendError(this.#hold.identifier, doing(this.to), cause));
  }

  /** The store has done what it was asked: failures before are over. */
  onAnswer(): void {
    this.#troubledMs = undefined;
  }

  /** The store has failed, which was asked at `sentMs`. A failure that does not pass, or lasts too long, is the outcome. */
  retryOrFail(error: unknown, sentMs: number): void {
    if (!isTransient(error)) return this.fail(error);
    const { options: { leaseMs }, lock: { clock } } = this.#hold;
    this.#troubledMs ??= Math.max(sentMs, this.startedMs);
    const patienceMs = this.mayWait ? Math.max(leaseMs, OUTAGE_MS) : 0;
    if (clock.monotonicMs() - this.#troubledMs >= patienceMs) this.fail(error);
  }

  #settle(): boolean {
    if (!this.#isOpen) return false;
    this.#isOpen = false;
    this.#deadline?.clear();
    this.#stopListening?.();
    this.#hold.lock.onChangeSettled(this);
    return true;
  }
}

/**
 * The changes of one hold's mode, in the order of the calls: one is under way, and each of the others begins when those
 * before it have their outcomes.
 */
export class ModeChanges {
  /** What is under way. */
  current: ModeChange | undefined;
  readonly #hold: ChangingHold;
  /** What was asked for after that. */
  #later: readonly ModeChange[] = NONE;
  /** How its owner has it, when nothing is under way: what was given up may have landed all the same. */
  #settled: Mode["mode"];

  constructor(hold: ChangingHold) {
    this.#hold = hold;
    this.#settled = hold.mode;
  }

  /** Those that have no outcome yet. */
  get all(): readonly ModeChange[] {
    return this.current === undefined ? this.#later : [this.current, ...this.#later];
  }

  /** How it is to be held from now on, if that is not so yet. */
  get wanted(): Wanted | undefined {
    if (this.current !== undefined) return this.current;
    return this.#isSettled ? undefined : { to: this.#settled, mayWait: true };
  }

  get #isSettled(): boolean {
    return this.#hold.mode === this.#settled;
  }

  /** Holds it in another way, after what was asked for before, as soon as that can be. */
  ask(to: Mode["mode"], options: ChangeOptions): Promise<void> {
    const last = this.#later.at(-1) ?? this.current;
    if (last?.to === to) {
      if (to === "shared") return last.outcome;
      return Promise.reject(refusal(this.#hold, { waitedMs: 0, because: AGAIN }));
    }
    if (last === undefined && this.#isSettled && this.#hold.mode === to) return Promise.resolve();
    const change = new ModeChange(this.#hold, to, options);
    this.#later = [...this.#later, change];
    this.#begin();
    return change.outcome;
  }

  /** The record says that it is held in another way now. */
  onRegranted(): void {
    const { current } = this;
    if (current?.to === this.#hold.mode) {
      this.#settled = current.to;
      this.current = undefined;
      current.resolve();
    }
    this.#goOn();
  }

  /** One of them has its outcome. */
  onSettled(change: ModeChange): void {
    if (this.current === change) this.current = undefined;
    else if (this.#later.length > 0) this.#later = this.#later.filter((other) => other !== change);
    this.#goOn();
  }

  /** The hold is over. */
  refuse(error: unknown): void {
    for (const change of this.all) change.reject(error);
  }

  /** Not within what has brought about the outcome: the lock may be at work. */
  #goOn(): void {
    if (this.#later.length > 0) queueMicrotask(() => this.#begin());
  }

  /** Begins the next one, unless something is under way, or what was given up is still to be taken back. */
  #begin(): void {
    if (this.current !== undefined || !this.#isSettled || this.#hold.isOver) return;
    const [next, ...later] = this.#later;
    if (next === undefined) return;
    this.#later = later;
    if (next.to === this.#hold.mode) return next.resolve();
    if (next.to === "shared") this.#settled = next.to;
    this.current = next;
    this.#hold.onChange();
  }
}

const SECOND = "another holder is upgrading it, and each would wait for the other to leave";
const AGAIN = "this holder is upgrading it already";

/** What a change of mode is called. */
export function doing(to: Mode["mode"]): "upgrade" | "downgrade" {
  return to === "shared" ? "downgrade" : "upgrade";
}

/** Why it cannot be the only one. */
function refusal(
  { identifier, others }: ChangingHold,
  { waitedMs, because }: { readonly waitedMs: number; readonly because?: string },
): LockAcquisitionError {
  return new LockAcquisitionError(identifier, waitedMs, others, {
    doing: "upgrade",
    because,
    held: "shared with",
    free: "it is not known yet whether others share it",
  });
}
