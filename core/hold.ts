import { AsyncLocalStorage } from "node:async_hooks";
import { type Clock, MAX_MS, type Moment, momentOf, spanMs } from "./clock.ts";
import { backendError, LockBackendError, LockLostError, type LossReason } from "./errors.ts";
import { type HoldEvent, type LockEvent, publish, publishBackendError } from "./events.ts";
import { type ChangedLock, type ChangeOptions, ModeChange, secondUpgrade } from "./mode_change.ts";
import type { CheckedOptions, LockMode } from "./options.ts";
import { lossOf } from "./record/eviction.ts";
import type { Claim, ModeChange as WantedMode, Remainder } from "./record/members.ts";
import { claimTokenOf, type Holder, keptTokenOf, type LockRecord, MAX_NOTICES } from "./record/record.ts";
import type { Store } from "./store.ts";
import type { KeyedLock } from "./targets.ts";

const NONE: readonly never[] = [];
/** How long a caller that has an outcome of its own waits for a release that meets difficulties. */
const RELEASE_DETACH_MS = 2000;

/** A record that proves a hold: as long as it has this version, the lock is held. */
export interface Proof {
  readonly key: string;
  readonly version: string;
}

/** What a hold needs of its lock, or of its locks, which talk to the store for it. */
export interface HeldLock extends ChangedLock {
  /** Of the record of each. */
  readonly keys: readonly string[];
  /** What they are called, and how each is held, if they are several. */
  readonly locks?: readonly KeyedLock[];
  readonly store: Store;
  readonly clock: Clock;
  /** What a hold wants has changed: when it is to be renewed, or that somebody looks at it. */
  arm(): void;
  /** Gives it back, and tells the departure what came of it. */
  release(departure: Departure, now: Moment): void;
  /** Looks at the store whether it is still there, and answers the records that say so; if not, it is lost. */
  confirm(hold: Hold): Promise<readonly Proof[] | undefined>;
  onLost(hold: Hold): void;
  /** It is lost, and its owner has let go of it: nothing of it need stay in the store. */
  withdraw(hold: Hold): void;
  /** It is to be held in another way. How several are held is said when they are asked for, and does not change. */
  changeMode?(hold: Hold): void;
  /** It is to be renewed now. */
  renew(hold: Hold): void;
}

/** What a hold needs of the request that it came of. */
export interface GrantedRequest extends Claim {
  readonly identifier: string;
  readonly options: CheckedOptions;
  /** What every message about it says. */
  readonly event: LockEvent;
}

/** How a lease was confirmed: since when it counts, and for how long. */
export interface Lease {
  /** When the write that carries it was sent: nobody can have counted it from earlier on. */
  readonly from: Moment;
  readonly forMs: number;
}

/** What a caller has asked for that wants the lease to last. */
interface Extension {
  /** Until when, on the monotonic clock. */
  readonly untilMs: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** What part of a lease is over when a renewal is overdue by half of it, for it was due after a third. */
const LATE = 5 / 6;
/**
 * What part of what was offered is over when a hold that has begun with it asks for its whole lease. A busy process may not
 * come to that for as long as an offer runs, so that most holds that outlast a few answers have it by then.
 */
export const CONFIRMED_AFTER = 1 / 10;

/** A lease while it lasts: held, then released or lost. It does no I/O: its lock does. */
export class Hold {
  readonly lock: HeldLock;
  readonly request: GrantedRequest;
  readonly identifier: string;
  readonly options: CheckedOptions;
  readonly token: string;
  fencingToken: string;
  grantedMs: number;
  /** Since when this process has held the lock without a break: all that is one turn. */
  readonly turnSince: Moment;
  /** How it is held. */
  mode: LockMode;
  /** What is under way to hold it in another way. */
  change: ModeChange | undefined;
  #changing: Promise<void> | undefined;
  /** How its owner has it, when nothing is under way: what was given up may have landed all the same. */
  #settledMode: LockMode;
  /** When the lease is to be renewed. */
  renewAtMs = Infinity;
  /** When it is late for that, and those are warned that want to know. */
  lateAtMs = Infinity;
  /** Whether somebody looks at it: it then watches its own record, to notice a loss at once. */
  isWatched = false;
  #lease!: Lease;
  #state: "held" | "released" | "lost" = "held";
  /** What its owner is told: why it was lost, or that it was released by another. */
  #loss: LockLostError | undefined;
  #signal: AbortController | undefined;
  /** Runs what listens to the signal in the async context of whoever asked for it, not of what the loss was found in. */
  #inContext: ((abort: () => void) => void) | undefined;
  #release: Promise<boolean> | undefined;
  #handOver: Promise<string> | undefined;
  /** Until its first renewal, what was offered has a lease that is shorter than was asked for. */
  #isOffer: boolean;
  #extensions: readonly Extension[] = NONE;
  /** Those that are warned when it is late, each in the async context in which it said so. */
  #warned: readonly ((leftMs: number) => void)[] = NONE;
  /** Through which object a caller can give it back; weak as soon as it has been renewed, because that costs. */
  #owner: object | undefined;
  #isForgotten = false;

  constructor(
    lock: HeldLock,
    { request, token, fence, lease, granted, turnSince = lease.from }: {
      readonly request: GrantedRequest;
      readonly token: string;
      readonly fence: string;
      readonly lease: Lease;
      readonly granted: Moment;
      /** Default: since its lease counts. */
      readonly turnSince?: Moment | undefined;
    },
  ) {
    this.lock = lock;
    this.request = request;
    this.identifier = request.identifier;
    this.options = request.options;
    this.token = token;
    this.fencingToken = fence;
    this.grantedMs = granted.monotonic;
    this.turnSince = turnSince;
    this.mode = this.#settledMode = request.mode;
    this.#isOffer = lease.forMs < request.options.leaseMs;
    this.#begin(lease);
  }

  /** How long ago it was granted. */
  get ageMs(): number {
    return this.lock.clock.monotonicMs() - this.grantedMs;
  }

  /** What every message about it says. */
  get event(): HoldEvent {
    return { ...this.request.event, mode: this.mode, fencingToken: this.fencingToken };
  }

  /** Whether it is surely still ours. The first look after the lease has run out says no, and publishes the loss. */
  get held(): boolean {
    return this.#isHeldAt(momentOf(this.lock.clock));
  }

  #isHeldAt(now: Moment): boolean {
    if (this.#state !== "held") return false;
    if (this.leftMs(now) > 0) return true;
    this.lose("expired");
    return false;
  }

  /** The same, for texts: to look at it so changes nothing, and tells nobody. */
  get state(): "held" | LossReason {
    if (this.#loss !== undefined) return this.#loss.reason;
    if (this.#state === "released") return this.#end;
    return this.leftMs() > 0 ? "held" : "expired";
  }

  /** How its owner has ended it. */
  get #end(): "released" | "handed-over" {
    return this.#handOver === undefined ? "released" : "handed-over";
  }

  /** Why nothing can be done with it any more, once it is over. */
  get over(): LockLostError {
    return this.#loss ?? this.#over(this.#end);
  }

  #over(reason: LossReason): LockLostError {
    return new LockLostError(this.identifier, reason, this.fencingToken);
  }

  /** The loss, if it was lost, or was released without its owner's asking for it. */
  get lost(): LockLostError | undefined {
    return this.#loss;
  }

  /** Aborts when the lock is lost; never on a release. */
  get signal(): AbortSignal {
    // Made on demand: most holds are short and nobody asks for it.
    if (this.#signal === undefined) {
      this.#signal = new AbortController();
      this.#inContext = AsyncLocalStorage.snapshot();
    }
    // A process that wakes from a freeze may look here before its timers have run.
    if (!this.held && this.lost !== undefined) this.#signal.abort(this.lost);
    return this.#signal.signal;
  }

  /** Somebody looks at this hold: from now on it watches its record. Where nobody looks, a watch may keep the process alive. */
  startWatching(): this {
    if (!this.isWatched && this.#state === "held") {
      this.isWatched = true;
      this.lock.arm();
    }
    return this;
  }

  /** How much of the lease is left. */
  leftMs(now: Moment = momentOf(this.lock.clock)): number {
    return this.#lease.forMs - spanMs(this.#lease.from, now);
  }

  /** By how much a renewal is late. */
  get lateMs(): number {
    return Math.max(0, this.lock.clock.monotonicMs() - this.renewAtMs);
  }

  /** The store has confirmed a lease. */
  #begin(lease: Lease): void {
    this.#lease = lease;
    const { from: { monotonic }, forMs } = lease;
    this.lateAtMs = monotonic + forMs * LATE;
    if (this.#extensions.length > 0) {
      this.#extensions = this.#extensions.filter(({ untilMs, resolve }) => {
        if (untilMs > monotonic + forMs) return true;
        resolve();
        return false;
      });
    }
    this.#planRenewal();
  }

  /** Whether it is renewed by itself. */
  get #renews(): boolean {
    return (this.options.renew || this.#isOffer) && !this.#isForgotten;
  }

  #planRenewal(): void {
    const { from: { monotonic }, forMs } = this.#lease;
    // What was asked for after the write was planned is to be written next.
    const isAsked = this.#extensions.length > 0;
    const part = this.#isOffer ? CONFIRMED_AFTER : 1 / 3;
    this.renewAtMs = isAsked ? monotonic : this.#renews ? monotonic + forMs * part : Infinity;
  }

  /**
   * How long its lease is to be if it is written at `atMs`: as long as was asked for, and no renewal takes back what is
   * left. For a commit whose answer is lost may have been applied, and the hold counts on what it knows.
   */
  leaseMsAt(atMs: number): number {
    const { from: { monotonic }, forMs } = this.#lease;
    let untilMs = monotonic + forMs;
    if (this.#renews) untilMs = Math.max(untilMs, atMs + this.options.leaseMs);
    for (const asked of this.#extensions) untilMs = Math.max(untilMs, asked.untilMs);
    return Math.min(Math.max(Math.ceil(untilMs - atMs), 1), MAX_MS);
  }

  /** Renews it now, so that its lease lasts for `leaseMs` from now on at least. */
  extend(leaseMs: number = this.options.leaseMs): Promise<void> {
    if (!this.held) return Promise.reject(this.over);
    const now = this.lock.clock.monotonicMs();
    return new Promise((resolve, reject) => {
      this.#extensions = [...this.#extensions, { untilMs: now + leaseMs, resolve, reject }];
      this.renewAtMs = Math.min(this.renewAtMs, now);
      this.lock.renew(this);
    });
  }

  /** The store could not be told of a renewal, which is tried again as long as the lease lasts. */
  onNotRenewed(cause: unknown): void {
    const error = backendError(this.identifier, "renew", cause);
    publishBackendError(this.identifier, error);
    // Nothing is lost yet. But what waiting does not cure is told at once those that have asked for a renewal.
    if (error.transient || this.#extensions.length === 0) return;
    this.#refuseExtensions(error);
    this.#planRenewal();
  }

  #refuseExtensions(error: unknown): void {
    const refused = this.#extensions;
    this.#extensions = NONE;
    for (const { reject } of refused) reject(error);
  }

  /** Calls `warn` with what is left of the lease, in milliseconds, whenever a renewal is late. */
  onLate(warn: (leftMs: number) => void): void {
    const inContext = AsyncLocalStorage.snapshot();
    const warnInContext = (leftMs: number) => inContext(warn, leftMs);
    this.#warned = [...this.#warned, warnInContext];
    const isLate = this.held && this.leftMs() <= (1 - LATE) * this.#lease.forMs;
    if (isLate && this.lateAtMs === Infinity) this.#warn(warnInContext);
  }

  /** Sees whether its renewal is late. */
  checkLate(now: number): void {
    if (now < this.lateAtMs || this.#state !== "held") return;
    this.lateAtMs = Infinity;
    publish("holdfast:late", () => ({ ...this.event, leftMs: this.#leftForNow }));
    for (const warn of this.#warned) this.#warn(warn);
  }

  get #leftForNow(): number {
    return Math.max(0, Math.round(this.leftMs()));
  }

  /** Not within what the lock does: what a listener throws is the program's, as with every event. */
  #warn(warn: (leftMs: number) => void): void {
    const leftMs = this.#leftForNow;
    queueMicrotask(() => warn(leftMs));
  }

  /** How it is to be held from now on, if that is not so yet. */
  get wantedMode(): WantedMode | undefined {
    if (this.change !== undefined) return this.change;
    return this.mode === this.#settledMode ? undefined : { to: this.#settledMode, mayWait: true };
  }

  /** Holds it in another way as soon as that can be. */
  changeMode(to: LockMode, options: ChangeOptions): Promise<void> {
    const { lock, identifier, options: { leaseMs } } = this;
    if (!this.held) return Promise.reject(this.over);
    // To share it is done as soon as the store answers.
    if (this.change?.to === "shared") {
      return to === "shared" ? this.#changing! : this.#changing!.then(() => this.changeMode(to, options));
    }
    const modes = lock.locks?.map(({ how: { mode } }) => mode) ?? [this.mode];
    if (modes.every((mode) => mode === to)) return Promise.resolve();
    if (lock.changeMode === undefined) {
      return Promise.reject(new TypeError("Cannot change the mode of several locks that are held together"));
    }
    if (this.change !== undefined) return Promise.reject(secondUpgrade(lock, { identifier, waitedMs: 0 }));
    if (to === "shared") this.#settledMode = to;
    return this.#changing = new Promise((resolve, reject) => {
      const done = { resolve, reject };
      this.change = new ModeChange(lock, { to, identifier, leaseMs, options, done });
      lock.changeMode!(this);
    });
  }

  /** The record says that it is held in this way, by a grant that is known by its former fencing token to be its own. */
  regrant({ mode, fence }: Holder): void {
    const formerFencingToken = this.fencingToken;
    this.fencingToken = fence!;
    this.grantedMs = this.lock.clock.monotonicMs();
    this.mode = mode;
    publish("holdfast:mode-changed", () => ({ ...this.event, mode, formerFencingToken }));
    const { change } = this;
    if (change?.to !== mode) return;
    this.#settledMode = mode;
    this.change = undefined;
    change.resolve();
  }

  /** What was under way to hold it in another way has an outcome. */
  onChangeSettled(change: ModeChange): void {
    if (this.change === change) this.change = undefined;
  }

  /** A renewal has been written. */
  onRenewed(lease: Lease): void {
    if (!this.held) return;
    const { lateMs } = this;
    publish("holdfast:renewed", () => ({ ...this.event, lateMs }));
    this.#isOffer = false;
    this.#begin(lease);
    this.checkOwner();
  }

  /** Only through `owner` can it be given back: if nobody can reach that any more, it is not renewed. */
  ownedBy(owner: object): void {
    this.#owner = owner;
  }

  /** Somebody will give it back, whoever can reach its owner. */
  keep(): void {
    this.#owner = undefined;
  }

  /** Sees whether it has been forgotten. A lock that nobody can give back must lapse, and not be renewed for ever. */
  checkOwner(): void {
    if (this.#owner === undefined || this.renewAtMs === Infinity) return;
    // Most holds are over before this.
    if (!(this.#owner instanceof WeakRef)) this.#owner = new WeakRef(this.#owner);
    else if (this.#owner.deref() === undefined) {
      this.#isForgotten = true;
      this.renewAtMs = Infinity;
      publish("holdfast:forgotten", () => this.event);
    }
  }

  /** It is no longer ours. */
  lose(reason: LossReason): void {
    if (this.#state !== "held") return;
    this.markLost(reason);
    this.lock.onLost(this);
  }

  /** The same of a hold that its lock has let go of already. */
  markLost(reason: LossReason): void {
    this.#state = "lost";
    this.#loss = new LockLostError(this.identifier, reason, this.fencingToken);
    publish("holdfast:lost", () => ({ ...this.event, heldMs: this.ageMs, reason }));
    this.#refuse(this.#loss);
    this.#tell(this.#loss);
  }

  /** What is asked for of it comes too late. */
  #refuse(error: LockLostError): void {
    this.change?.reject(error);
    this.#refuseExtensions(error);
  }

  /** Looks at the store whether it is still ours: the records that say so. If not, it is lost. */
  confirm(): Promise<readonly Proof[] | undefined> {
    return this.lock.confirm(this);
  }

  /**
   * Gives it back, and hands over to the next. `true` if it was ours and is now free; `false` if it was lost before.
   * Repeats the first outcome when called again.
   */
  release(): Promise<boolean> {
    return this.#release ??= this.#depart();
  }

  /**
   * Leaves it to the process that takes it up within `leaseMs`: resolves to the token under which the record keeps it
   * until then. Rejects with LockLostError if it is over. Repeats the first outcome when called again.
   */
  handOver(leaseMs: number): Promise<string> {
    if (this.#handOver === undefined && this.#release !== undefined) return Promise.reject(this.over);
    return this.#handOver ??= this.#leave(leaseMs);
  }

  async #leave(leaseMs: number): Promise<string> {
    const token = claimTokenOf(crypto.randomUUID());
    const leaving = this.#depart({ token, leaseMs });
    // To give it back afterwards gives nothing back, and its failure has been told the caller of this.
    this.#release = leaving.then(() => false, () => false);
    if (await leaving) return token;
    throw this.over;
  }

  /** Gives it back although its owner has not asked for that, who is told: as of a loss. */
  revoke(): Promise<boolean> {
    const isTaken = this.held;
    const released = this.release();
    if (isTaken) this.#tell(new LockLostError(this.identifier, "released", this.fencingToken));
    return released;
  }

  #tell(loss: LockLostError): void {
    this.#loss = loss;
    if (this.#signal !== undefined) this.#inContext!(() => this.#signal!.abort(loss));
  }

  /** Ends it, and leaves this of it in the record if it is handed over. */
  #depart(claim?: Remainder): Promise<boolean> {
    const now = momentOf(this.lock.clock);
    if (this.#isHeldAt(now)) {
      this.#state = "released";
      const isAsked = this.change !== undefined || this.#extensions.length > 0;
      // An error takes longer to make than all else here.
      if (isAsked) this.#refuse(this.#over(claim === undefined ? "released" : "handed-over"));
      const heldMs = now.monotonic - this.grantedMs;
      const departure = new Departure(this, heldMs, claim);
      this.lock.release(departure, now);
      return departure.released;
    }
    // After a loss there is nothing to give back, but records may still name it.
    if (this.lost !== undefined) this.lock.withdraw(this);
    return Promise.resolve(false);
  }

  /**
   * Releases for a caller that has an outcome of its own: a failure of the store is only published, and a release that
   * takes long goes on in the background.
   */
  async releaseQuietly(): Promise<void> {
    await new Promise<void>((resolve) => {
      const { clock } = this.lock;
      const timer = clock.after(RELEASE_DETACH_MS, resolve);
      this.release().catch((error) => publishBackendError(this.identifier, error)).finally(() => {
        clock.clear(timer);
        resolve();
      });
    });
  }
}

/** A hold that is being given back, until its outcome is known: exactly one. */
export class Departure {
  readonly hold: Hold;
  /** Whether a commit that takes it out may have landed without an answer. */
  isUnknown = false;
  readonly heldMs: number;
  /** Whether it was ours until then. */
  readonly released: Promise<boolean>;
  /** What is to stay of it for the process that takes it up, if it is handed over. */
  readonly #claim: Remainder | undefined;
  #resolve!: (released: boolean) => void;
  #reject!: (error: unknown) => void;

  constructor(hold: Hold, heldMs: number, claim: Remainder | undefined) {
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
    // Nobody has been given the claim yet, so nobody has taken it up: what is not there was not handed over.
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

  /** The store could not be told. */
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
