import { AsyncLocalStorage } from "node:async_hooks";
import { type Clock, type Moment, momentOf } from "./clock.ts";
import { Departure } from "./departure.ts";
import { type HolderInfo, LockLostError, type LossReason } from "./errors.ts";
import { type HoldEvent, type LockEvent, publish, publishBackendError } from "./events.ts";
import { type Lease, RunningLease } from "./lease.ts";
import {
  type ChangedLock,
  type ChangeOptions,
  type ChangingHold,
  doing,
  type ModeChange,
  ModeChanges,
} from "./mode_change.ts";
import { type CheckedOptions, HANDING_OVER, type LockMode } from "./options.ts";
import type { Claim, ModeChange as WantedMode, Remainder } from "./record/members.ts";
import { claimTokenOf, type Holder } from "./record/record.ts";
import type { Store } from "./store.ts";
import type { KeyedLock } from "./targets.ts";

/** How long a caller that already has its outcome waits for a release that meets difficulties. */
const RELEASE_DETACH_MS = 2000;
/** Why a hold is over that its owner has not given back. */
const REVOKED = "this process released all its locks (releaseAll or releaseOnExit)";

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
  /** What a hold wants has changed: when it is to be renewed, or that code looks at it. */
  arm(): void;
  /** Gives it back, and the departure hears what came of it. */
  release(departure: Departure<Hold>, now: Moment): void;
  /** Looks at the store whether it is still there, and answers the records that say so; if not, it is lost. */
  confirm(hold: Hold): Promise<readonly Proof[] | undefined>;
  onLost(hold: Hold): void;
  /** It is lost, and its owner has let go of it: nothing of it need stay in the store. */
  withdraw(hold: Hold): void;
  /** All that hold it but this one, as far as is known here. */
  others(besides: Hold): readonly HolderInfo[];
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

/** A lease while it lasts: held, then released or lost. It does no I/O: its lock does. */
export class Hold extends RunningLease implements ChangingHold {
  readonly lock: HeldLock;
  readonly request: GrantedRequest;
  readonly identifier: string;
  readonly token: string;
  fencingToken: string;
  grantedMs: number;
  /** Since when this process has held the lock without a break: all that is one turn. */
  readonly turnSince: Moment;
  /** How it is held. */
  mode: LockMode;
  /** Made for the first change of its mode. */
  #changes: ModeChanges | undefined;
  /** Whether code looks at it: it then watches its own record, to notice a loss at once. */
  isWatched = false;
  #state: "held" | "released" | "lost" = "held";
  /** What its owner hears: why it was lost, or that it was released by another. */
  #loss: LockLostError | undefined;
  #signal: AbortController | undefined;
  /**
   * Runs what listens to the signal in the async context of the code that asked for it, not of what the loss was
   * found in.
   */
  #inContext: ((abort: () => void) => void) | undefined;
  #release: Promise<boolean> | undefined;
  #handOver: Promise<string> | undefined;
  /** For how long it is handed over. */
  #claimedForMs = 0;
  /** Whether the process has given it back with all that it held. */
  #isRevoked = false;
  /** Through which object a caller can give it back; weak as soon as it has been renewed, because that costs. */
  #owner: object | undefined;

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
    super(lock.clock, request.options, lease);
    this.lock = lock;
    this.request = request;
    this.identifier = request.identifier;
    this.token = token;
    this.fencingToken = fence;
    this.grantedMs = granted.monotonic;
    this.turnSince = turnSince;
    this.mode = request.mode;
  }

  /** How long ago it was granted. */
  get ageMs(): number {
    return this.clock.monotonicMs() - this.grantedMs;
  }

  /** What every message about it says. */
  get event(): HoldEvent {
    return { ...this.request.event, mode: this.mode, fencingToken: this.fencingToken };
  }

  /** Whether it is surely still ours. The first look after the lease has run out says no, and publishes the loss. */
  get held(): boolean {
    return this.#isHeldAt(momentOf(this.clock));
  }

  #isHeldAt(now: Moment): boolean {
    if (this.#state !== "held") return false;
    if (this.leftMs(now) > 0) return true;
    this.lose("expired");
    return false;
  }

  get isOver(): boolean {
    return this.#state !== "held";
  }

  /** The same as `held`, for texts: to look at it so changes nothing, and aborts no signal. */
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
    return this.#loss ?? this.lossBy(this.#end);
  }

  /** The error that says so, for this reason. */
  lossBy(reason: LossReason, own?: ErrorOptions & { result?: unknown }): LockLostError {
    const because = this.#isRevoked && reason === "released" ? REVOKED : undefined;
    return new LockLostError(this.identifier, reason, this.fencingToken, { ...own, because });
  }

  /** The loss, if it was lost, or was released without its owner's asking for it. */
  get lost(): LockLostError | undefined {
    return this.#loss;
  }

  /** Aborts when the lock is lost; never on a release. */
  get signal(): AbortSignal {
    // Made on demand: most holds are short and no code asks for it.
    if (this.#signal === undefined) {
      this.#signal = new AbortController();
      this.#inContext = AsyncLocalStorage.snapshot();
    }
    // A process that wakes from a freeze may look here before its timers have run.
    if (!this.held && this.lost !== undefined) this.#signal.abort(this.lost);
    return this.#signal.signal;
  }

  /**
   * Code looks at this hold: from now on it watches its record. Before that it does not, because a watch may keep
   * the process alive.
   */
  startWatching(): this {
    if (!this.isWatched && this.#state === "held") {
      this.isWatched = true;
      this.lock.arm();
    }
    return this;
  }

  /** Renews it now, so that its lease lasts for `leaseMs` from now on at least. */
  extend(leaseMs: number = this.options.leaseMs): Promise<void> {
    if (!this.held) return Promise.reject(this.over);
    const extended = this.extendTo(this.clock.monotonicMs() + leaseMs);
    this.lock.renew(this);
    return extended;
  }

  /** What is under way to hold it in another way. */
  get change(): ModeChange | undefined {
    return this.#changes?.current;
  }

  /** The same, and what was asked for after that. */
  get changes(): readonly ModeChange[] {
    return this.#changes?.all ?? [];
  }

  /** How it is to be held from now on, if that is not so yet. */
  get wantedMode(): WantedMode | undefined {
    return this.#changes?.wanted;
  }

  get others(): readonly HolderInfo[] {
    return this.lock.others(this);
  }

  /** Holds it in another way as soon as that can be, after what was asked for before. */
  changeMode(to: LockMode, options: ChangeOptions): Promise<void> {
    const { lock } = this;
    const hows = lock.locks?.map(({ how }) => how) ?? [{ mode: this.mode, limit: this.options.limit }];
    if (hows.some(({ mode, limit }) => mode === "exclusive" && limit > 1)) {
      const rule = "with a 'limit' others may hold the lock at the same time, so that it has no other mode";
      return Promise.reject(new TypeError(`Cannot ${doing(to)}: ${rule}`));
    }
    if (!this.held) return Promise.reject(this.over);
    if (lock.changeMode === undefined) {
      if (hows.every(({ mode }) => mode === to)) return Promise.resolve();
      const rule = "the modes of several locks that are held together do not change";
      return Promise.reject(new TypeError(`Cannot ${doing(to)}: ${rule}`));
    }
    this.#changes ??= new ModeChanges(this);
    return this.#changes.ask(to, options);
  }

  onChange(): void {
    this.lock.changeMode!(this);
  }

  /** The record says that it is held in this way, by a grant that is known by its former fencing token to be its own. */
  regrant({ mode, fence }: Holder): void {
    const formerFencingToken = this.fencingToken;
    this.fencingToken = fence!;
    this.grantedMs = this.clock.monotonicMs();
    this.mode = mode;
    publish("holdfast:mode-changed", () => ({ ...this.event, mode, formerFencingToken }));
    this.#changes?.onRegranted();
  }

  /** What was under way to hold it in another way, or was to be, has an outcome. */
  onChangeSettled(change: ModeChange): void {
    this.#changes?.onSettled(change);
  }

  /** A renewal has been written. */
  onRenewed(lease: Lease): void {
    if (!this.held) return;
    const { lateMs } = this;
    publish("holdfast:renewed", () => ({ ...this.event, lateMs }));
    this.renewed(lease);
    this.checkOwner();
  }

  /** Only through `owner` can it be given back: if that cannot be reached any more, it is not renewed. */
  ownedBy(owner: object): void {
    this.#owner = owner;
  }

  /** It will be given back, whether its owner can be reached or not. */
  keep(): void {
    this.#owner = undefined;
  }

  /**
   * Sees whether it has been forgotten. A lock that cannot be given back must expire, and not be renewed for ever.
   */
  checkOwner(): void {
    if (this.#owner === undefined || this.renewAtMs === Infinity) return;
    // Most holds are over before this.
    if (!(this.#owner instanceof WeakRef)) this.#owner = new WeakRef(this.#owner);
    else if (this.#owner.deref() === undefined) {
      this.forget();
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
    this.#loss = this.lossBy(reason);
    publish("holdfast:lost", () => ({ ...this.event, heldMs: this.ageMs, reason }));
    this.#refuse(this.#loss);
    this.#tell(this.#loss);
  }

  /** What is asked for of it comes too late. */
  #refuse(error: LockLostError): void {
    this.#changes?.refuse(error);
    this.refuseExtensions(error);
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
   * until then, by default its own lease. Rejects with LockLostError if it is over. Repeats the first outcome when called
   * again, unless that asks for another lease.
   */
  handOver(leaseMs?: number): Promise<string> {
    if (this.#handOver === undefined && this.#release !== undefined) return Promise.reject(this.over);
    if (this.#handOver === undefined) {
      this.#claimedForMs = leaseMs ?? this.options.leaseMs;
      this.#handOver = this.#leave(this.#claimedForMs);
    } else if (leaseMs !== undefined && leaseMs !== this.#claimedForMs && this.lost === undefined) {
      const rule = `must be omitted, or ${this.#claimedForMs} as in the call that has handed the lock over`;
      HANDING_OVER.refuse(`'leaseMs' ${rule}`, leaseMs);
    }
    return this.#handOver;
  }

  async #leave(leaseMs: number): Promise<string> {
    const token = claimTokenOf(crypto.randomUUID());
    const leaving = this.#depart({ token, leaseMs });
    // To give it back afterwards gives nothing back, and the caller of this has heard of its failure.
    this.#release = leaving.then(() => false, () => false);
    if (await leaving) return token;
    throw this.over;
  }

  /** Gives it back although its owner has not asked for that; the owner is notified, as of a loss. */
  revoke(): Promise<boolean> {
    const isTaken = this.#isRevoked = this.held;
    const released = this.release();
    if (isTaken) this.#tell(this.lossBy("released"));
    return released;
  }

  #tell(loss: LockLostError): void {
    this.#loss = loss;
    if (this.#signal !== undefined) this.#inContext!(() => this.#signal!.abort(loss));
  }

  /** Ends it, and leaves this of it in the record if it is handed over. */
  #depart(claim?: Remainder): Promise<boolean> {
    const now = momentOf(this.clock);
    if (this.#isHeldAt(now)) {
      this.#state = "released";
      const isAsked = this.changes.length > 0 || this.isAsked;
      // An error takes longer to make than all else here.
      if (isAsked) this.#refuse(this.lossBy(claim === undefined ? "released" : "handed-over"));
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
   * Releases for a caller that already has its outcome: a failure of the store is only published, and a release that
   * takes long goes on in the background.
   */
  async releaseQuietly(): Promise<void> {
    await new Promise<void>((resolve) => {
      const { clock } = this;
      const timer = clock.after(RELEASE_DETACH_MS, resolve);
      this.release().catch((error) => publishBackendError(this.identifier, error)).finally(() => {
        clock.clear(timer);
        resolve();
      });
    });
  }
}
