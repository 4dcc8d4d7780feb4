import { Alarm, type Clock, type Moment, momentOf, spanMs } from "./clock.ts";
import { answerMs } from "./conversation.ts";
import type { Departure } from "./departure.ts";
import { backendError, type HolderInfo, isTransient, type LockBackendError } from "./errors.ts";
import { publishBackendError } from "./events.ts";
import { Footprint, type Tracked } from "./footprint.ts";
import { fenceIn, GroupParts } from "./group_parts.ts";
import { type HeldLock, Hold, type Proof } from "./hold.ts";
import { names } from "./members.ts";
import type { ModeChange } from "./mode_change.ts";
import { Outage } from "./outage.ts";
import { renewedMs } from "./outcomes.ts";
import type { CheckedOptions } from "./options.ts";
import type { Snapshot } from "./record/codec.ts";
import { lossOf } from "./record/eviction.ts";
import type { Mode } from "./record/modes.ts";
import type { Plan } from "./record/plan.ts";
import type { Watcher } from "./record_watch.ts";
import { type Done, Request, type RequestedLock } from "./request.ts";
import type { Store, Writing } from "./store.ts";
import type { KeyedLock } from "./targets.ts";

/** After how long a hold that code looks at starts to watch its records, and does so again if a watch fails. */
const WATCH_AFTER_MS = 1000;
/** How long the turn of a request lasts that waits for other locks, too: longer than a process is busy or a store is slow. */
const LEAST_TURN_MS = 3000;

/** What a group needs of the process that it is in. */
export interface GroupingParticipant {
  readonly store: Store;
  readonly clock: Clock;
  /** How many answers the store still owes to those that do not wait for them any more. */
  owedAnswers: number;
  /** A caller here has to do with the group. */
  addGroup(group: LocalGroup): void;
  /** No caller here has to do with it any more. */
  dropGroup(group: LocalGroup): void;
  /** The last group before this one that waits here, and asks for one of its locks, too. */
  groupBefore(group: LocalGroup): LocalGroup | undefined;
  /** A group does not wait any more: those behind it may ask now. */
  wakeBehind(group: LocalGroup): void;
}

/**
 * Several locks that one request takes, holds and gives back together: all of them or none, in one commit. It joins their
 * queues in one commit, too, so that of two such requests one is before the other in every queue that both are in, and
 * holds nothing while it waits: so they cannot block each other. To every other process, and to other callers here, it
 * is a separate process.
 */
export class LocalGroup implements RequestedLock, HeldLock, Watcher {
  readonly clock: Clock;
  readonly store: Store;
  readonly #participant: GroupingParticipant;
  readonly #parts: GroupParts;
  readonly #alarm: Alarm;
  readonly #outage = new Outage();
  readonly #footprint = new Footprint();
  readonly #turnMs: number;
  #request: Request | undefined;
  #hold: Hold | undefined;
  #departure: Departure<Hold> | undefined;
  /** Nothing has been asked yet: the first try bets on free locks. */
  #isFresh = true;
  /** It has not asked the store yet. */
  #isNew = true;
  /** Another group of this process, which asks for one of the same locks and is to have its turn first. */
  #behind: LocalGroup | undefined;
  #isAtWork = false;
  #isWoken = false;
  /** When the question was sent that has not been answered yet. */
  #asking: Moment | undefined;
  #answeredMs = -Infinity;
  #conflicts = 0;
  #dueMs = Infinity;
  #watchAtMs = Infinity;

  constructor(
    participant: GroupingParticipant,
    locks: readonly KeyedLock[],
  ) {
    const { store, clock } = participant;
    this.#participant = participant;
    this.store = store;
    this.clock = clock;
    this.#alarm = new Alarm(clock);
    this.#turnMs = Math.max(LEAST_TURN_MS, 3 * store.backend.graceMs);
    this.#parts = new GroupParts(locks, { store, watcher: this });
  }

  // What is wanted.

  /** Asks for all of them: once. */
  request(identifier: string, options: CheckedOptions, done: Done): void {
    const request = new Request(this, {
      identifier,
      options,
      token: this.#parts.newToken(),
      startedMs: this.clock.monotonicMs(),
      done,
      turnMs: this.#turnMs,
    });
    this.#request = request;
    this.#participant.addGroup(this);
    this.#parts.addRequest(request);
    request.start();
    this.#run();
  }

  release(departure: Departure<Hold>): void {
    this.#departure = departure;
    this.#hold = undefined;
    for (const { members } of this.#parts) members.addDeparture(departure);
    this.#run();
  }

  /** One of them is lost, so all are. What is left of it stays until its owner lets go of it, or its lease ends. */
  onLost(hold: Hold): void {
    hold.renewAtMs = Infinity;
    this.#run();
  }

  withdraw(hold: Hold): void {
    this.#hold = undefined;
    for (const { members } of this.#parts) members.dropHold(hold);
    this.#mayHaveLeft(this.#request!);
  }

  onSettled(request: Request): void {
    this.#parts.dropRequest();
    this.#participant.wakeBehind(this);
    if (request.isGranted) return;
    const now = this.clock.monotonicMs();
    // What was granted too late for it is still there.
    this.#noteLeft(now);
    this.#footprint.extend(now);
    this.#outage.restart();
    this.#run();
  }

  /** Whether it waits, with a store that answers, and asks for one of these locks. */
  waitsForAny(keys: readonly string[]): boolean {
    return this.#request?.isWaiting === true && this.failure === undefined &&
      this.keys.some((key) => keys.includes(key));
  }

  /** One that it may have waited for here does not wait any more. */
  wakeBehind(group: LocalGroup): void {
    if (this.#behind === group) this.#run();
  }

  // What others ask.

  get locks(): readonly KeyedLock[] {
    return this.#parts.locks;
  }

  get keys(): readonly string[] {
    return this.#parts.keys;
  }

  get isBusy(): boolean {
    return this.#request?.isWaiting === true || this.#asking !== undefined || this.#departure !== undefined ||
      this.#footprint.isOpen || this.#parts.isQueued;
  }

  /** What it holds, if it does. */
  get holds(): readonly Hold[] {
    return this.#hold === undefined ? [] : [this.#hold];
  }

  /** How it wants the lock of a key, if it waits for that and does not give up. */
  patientFor(key: string): readonly Mode[] {
    if (!this.#request?.isWaiting || !this.#request.isPatient) return [];
    return this.locks.filter((lock) => lock.key === key).map(({ how }) => how);
  }

  /** Whether all that it still has to do is to take out of the store what no caller here wants any more. */
  get isLeaving(): boolean {
    return this.isBusy && !this.#request?.isWaiting;
  }

  /** Cancels its request, if that waits. */
  cancelAll(reason: unknown): void {
    if (this.#request?.isWaiting) this.#request.cancel(reason);
  }

  get failure(): unknown {
    return this.#outage.failure;
  }

  silentMs(sinceMs: number): number | undefined {
    const first = this.#first;
    if (first !== undefined) return first.silentMs(sinceMs);
    if (this.#asking === undefined || this.#answeredMs >= sinceMs) return undefined;
    return this.clock.monotonicMs() - this.#asking.monotonic;
  }

  taken(): { readonly identifier: string; readonly holders: readonly HolderInfo[] } {
    const found = this.#first?.taken();
    if (this.locks.some(({ identifier }) => identifier === found?.identifier)) return found!;
    const { identifier, knowledge } = this.#parts.missing;
    return { identifier, holders: knowledge.holders() };
  }

  others(): readonly HolderInfo[] {
    return [];
  }

  renew(): void {
    this.#run();
  }

  onChangeSettled(change: ModeChange): void {
    this.#hold?.onChangeSettled(change);
  }

  silence(limitMs: number): LockBackendError {
    return this.store.silence(limitMs);
  }

  async confirm(hold: Hold): Promise<readonly Proof[] | undefined> {
    const { store } = this;
    const limitMs = answerMs(hold.options.leaseMs);
    const found = await store.bounded(store.readLocks(this.keys), limitMs);
    const gone = found.find(({ record }) => !names(record, hold));
    if (gone === undefined) return this.keys.map((key, i) => ({ key, version: found[i].version! }));
    hold.lose(lossOf(gone.record, hold.token));
    return undefined;
  }

  arm(): void {
    const now = momentOf(this.clock);
    const hold = this.#hold;
    let dueMs = this.#isAtWork ? Infinity : this.#dueMs;
    if (hold !== undefined && this.#holds) {
      dueMs = Math.min(dueMs, now.monotonic + hold.leftMs(now), hold.lateAtMs);
      if (!this.#isAtWork) dueMs = Math.min(dueMs, Math.max(hold.renewAtMs, this.#outage.retryMs));
      if (hold.isWatched && !this.#parts.isWatching) {
        dueMs = Math.min(dueMs, this.#watchAtMs);
      }
    }
    if (dueMs === Infinity) this.#alarm.stop();
    else this.#alarm.set(dueMs, this.#tick, !this.isBusy);
  }

  // The loop: look, plan, write, until there is nothing to do.

  #run(): void {
    this.#isWoken = true;
    if (this.#isAtWork) return;
    this.#isAtWork = true;
    this.#work().catch((error) => this.#fail(error)).finally(() => {
      this.#isAtWork = false;
      if (this.#isOver) this.#forget();
      // Something may have come when the work had just ended.
      else if (this.#isWoken) this.#run();
      else this.arm();
    });
  }

  async #work(): Promise<void> {
    while (this.#isWoken && !this.#isOver) {
      this.#isWoken = false;
      this.arm();
      const at = momentOf(this.clock);
      try {
        if (this.#outage.retryMs > at.monotonic) this.#dueMs = this.#outage.retryMs;
        else await this.#step(at);
      } catch (error) {
        this.#retryOrFail(error, at.monotonic);
      }
    }
  }

  /** Asks the store one thing, or finds that there is nothing to ask. */
  async #step(at: Moment): Promise<void> {
    void this.#hold?.held;
    const request = this.#request!;
    this.#behind = this.#isNew && this.#leavesOthersFirst ? this.#participant.groupBefore(this) : undefined;
    if (this.#behind !== undefined) {
      // The locks are then held here.
      this.#isFresh = false;
      this.#dueMs = Infinity;
      return;
    }
    this.#isNew = false;
    const isBet = this.#isFresh && request.isWaiting && request.restores === undefined;
    const snapshots = isBet
      ? this.#parts.nothing
      : this.#parts.known((askedMs) => this.#footprint.isYoungerThan(askedMs));
    if (snapshots === undefined) return await this.#read(at);
    const writes = this.#parts.plan(snapshots, { at, request });
    if (writes === undefined) return await this.#read(at);
    if (writes.some(({ lock, queue }) => lock !== undefined || queue !== undefined)) {
      return await this.#commit(snapshots, writes, at);
    }
    this.#rest(writes, at);
  }

  /** The group that asks the store while this one waits for its turn here. */
  get #first(): LocalGroup | undefined {
    let first = this.#behind;
    while (first !== undefined && first.#behind !== undefined) first = first.#behind;
    return first;
  }

  /**
   * Whether it waits for the turns of other groups here. Each would take a place in all their queues, and refuse the writes
   * of the others. One that wants to know at once, or is less patient, asks for itself.
   */
  get #leavesOthersFirst(): boolean {
    const { isWaiting, mayWait, options } = this.#request!;
    return isWaiting && mayWait && options.stealAfterMs === undefined;
  }

  async #read(at: Moment): Promise<void> {
    this.#isFresh = false;
    const snapshots = await this.#ask(at, () => this.store.readAll(this.keys));
    this.#know(snapshots, at);
    this.#isWoken = true;
  }

  async #commit(snapshots: readonly Snapshot[], writes: readonly Plan[], at: Moment): Promise<void> {
    const { store } = this;
    this.#isFresh = false;
    const together: Writing[] = snapshots.map((snapshot, i) => ({ snapshot, writes: writes[i] }));
    const isGrant = writes.some(({ grants = [] }) => grants.length > 0);
    const answer = await this.#ask(at, () => store.sendTogether(together), () => this.#onUnknown());
    this.#isWoken = true;
    this.#onDone();
    this.#conflicts = answer.ok ? 0 : this.#conflicts + 1;
    for (const { members } of this.#parts) members.leavesQueueOut = this.#conflicts >= 2;
    if (!answer.ok) {
      if (answer.mayBeEcho) this.#onUnknown();
      return this.#parts.drop();
    }
    const written = together.map(({ snapshot, writes }) => store.written(snapshot, writes, answer).snapshot!);
    if (isGrant) this.#grant(written, at);
    else {
      this.#onReleased(snapshots, written);
      this.#onRenewed(snapshots, written, at);
    }
    this.#know(written, at);
  }

  /** The store's answer, within a limit. What it may do after that is looked for. */
  async #ask<Answer>(at: Moment, send: () => Promise<Answer>, onUnknown?: () => void): Promise<Answer> {
    this.#asking = at;
    let answer: Promise<Answer> | undefined;
    try {
      answer = send();
      return await this.store.bounded(answer, answerMs(this.#leaseMs));
    } catch (error) {
      onUnknown?.();
      if (answer !== undefined) this.#await(answer, onUnknown !== undefined);
      throw error;
    } finally {
      this.#asking = undefined;
      this.#answeredMs = this.clock.monotonicMs();
    }
  }

  /** An answer that is not waited for any more: what was asked may be done until it comes. */
  #await(answer: Promise<unknown>, isCommit: boolean): void {
    this.#participant.owedAnswers++;
    const onLate = (error?: unknown) => {
      this.#participant.owedAnswers--;
      if (isCommit && (error === undefined || isTransient(error))) this.#mayHaveLeft(this.#request!);
    };
    answer.then(() => onLate(), onLate);
  }

  #onUnknown(): void {
    this.#leaveFootprint(this.#request!);
    if (this.#departure !== undefined) this.#departure.isUnknown = true;
  }

  /** What the store has shown. What of ours it does not name is over. */
  #know(snapshots: readonly Snapshot[], { monotonic: askedMs }: Moment): void {
    this.#parts.learn(snapshots, askedMs);
    const departure = this.#departure;
    if (departure !== undefined) {
      const record = this.#parts.withoutHold(departure.hold);
      if (record !== undefined) this.#endDeparture(departure).onGone(record);
    }
    const hold = this.#hold;
    const record = hold && this.#parts.withoutHold(hold);
    if (record !== undefined) hold!.lose(lossOf(record, hold!.token));
    if (!this.#noteLeft(askedMs) && !this.#footprint.isYoungerThan(askedMs)) this.#footprint.clear();
  }

  /**
   * Whether the records that were seen at `askedMs` name something of ours that no caller here wants: it is looked
   * for.
   */
  #noteLeft(askedMs: number): boolean {
    const { isLeft } = this.#parts;
    if (isLeft && !this.#footprint.isOpen) this.#footprint.leave(this.#request!, askedMs);
    return isLeft;
  }

  /** There is nothing to write: a request that may not wait is refused, another watches for what comes. */
  #rest(plans: readonly Plan[], at: Moment): void {
    this.#onDone();
    this.#dueMs = this.#parts.dueMs(plans, at);
    const request = this.#request;
    if (request?.isWaiting) {
      if (!request.mayWait) return request.refuse();
      for (const { members, knowledge: { snapshot } } of this.#parts) {
        if (snapshot !== undefined) members.showAhead(snapshot);
      }
      if (!request.isWaiting) return;
      this.#startWatching({ isIdle: false });
    } else for (const { watch } of this.#parts) watch.stopWaiting();
  }

  #grant(written: readonly Snapshot[], at: Moment): void {
    const request = this.#request!;
    const { leaseMs } = request;
    const fence = fenceIn(written, request);
    // What was granted to one that has gone is taken out again: no caller here owns it.
    if (!request.isWaiting || fence === undefined) return;
    const now = momentOf(this.clock);
    if (spanMs(at, now) >= leaseMs) return request.onLateGrant();
    const lease = { from: at, forMs: leaseMs };
    const hold = new Hold(this, { request, token: request.token, fence, lease, granted: now });
    this.#hold = hold;
    this.#watchAtMs = now.monotonic + WATCH_AFTER_MS;
    for (const { members } of this.#parts) members.addHold(hold);
    request.grant(hold);
  }

  /** A commit of ours has taken out the hold that is given back, if it was there. */
  #onReleased(before: readonly Snapshot[], after: readonly Snapshot[]): void {
    const departure = this.#departure;
    if (departure === undefined) return;
    const { hold } = departure;
    if (!before.every(({ lock }) => names(lock.record, hold))) return;
    if (after.every(({ lock }) => !names(lock.record, hold))) this.#endDeparture(departure).onReleased();
  }

  /** A commit of ours has renewed the hold, if it was there: in all records alike. */
  #onRenewed(before: readonly Snapshot[], after: readonly Snapshot[], at: Moment): void {
    const hold = this.#hold;
    if (hold === undefined) return;
    let forMs = Infinity;
    before.forEach(({ lock }, i) => {
      forMs = Math.min(forMs, renewedMs(hold, lock.record, after[i].lock.record) ?? -Infinity);
    });
    if (forMs > 0) hold.onRenewed({ from: at, forMs });
  }

  #endDeparture(departure: Departure<Hold>): Departure<Hold> {
    this.#departure = undefined;
    for (const { members } of this.#parts) members.dropDeparture(departure);
    return departure;
  }

  /** The store has done what it was asked, or shown that there is nothing to ask: failures before are over. */
  #onDone(): void {
    if (this.#outage.end() && this.#request?.isWaiting) this.#request.onAnswer();
  }

  /** The store has failed: callers that cannot wait until it has recovered are notified. */
  #retryOrFail(error: unknown, sentMs: number): void {
    const now = this.clock.monotonicMs();
    const isFatal = !isTransient(error);
    this.#parts.drop();
    this.#outage.begin(error, now);
    // They ask for themselves: a store that fails is reported as that to each.
    this.#participant.wakeBehind(this);
    const hold = this.#hold;
    if (hold !== undefined && hold.renewAtMs <= now) {
      // Nothing is lost yet: it is tried again until the lease has run out.
      this.#outage.hasten(now + hold.options.leaseMs / 3);
      hold.onNotRenewed(error);
    }
    const departure = this.#departure;
    if (departure !== undefined) {
      this.#outage.hasten(now + departure.hold.options.leaseMs / 3);
      if (isFatal || departure.hold.leftMs() <= 0) this.#endDeparture(departure).onFailed(error);
    }
    const request = this.#request!;
    // Places in queues are given back when no caller waits for them any more, which may fail, too, and is then
    // given up.
    if (request.isWaiting) request.retryOrFail(error, sentMs);
    else if (isFatal || this.#footprint.isOver(now)) this.#giveUp(error);
    this.#isWoken = true;
  }

  /** What may have been left could not be cleared away; it ends with its lease. */
  #giveUp(error: unknown): void {
    const isLeft = this.#footprint.isOpen || this.#parts.isQueued;
    this.#footprint.clear();
    for (const { members } of this.#parts) members.queuedIn = undefined;
    const { identifier } = this.#request!;
    if (isLeft) publishBackendError(identifier, backendError(identifier, "stop waiting for", error));
  }

  /** Something has gone wrong that has nothing to do with the store. */
  #fail(error: unknown): void {
    if (this.#request!.isWaiting) this.#request!.fail(error);
    if (this.#departure !== undefined) this.#endDeparture(this.#departure).onFailed(error);
  }

  #leaveFootprint({ identifier, leaseMs }: Tracked): void {
    this.#footprint.leave({ identifier, leaseMs }, this.clock.monotonicMs());
  }

  /** Looks for what may have been left, and clears it away. */
  #mayHaveLeft(of: Tracked): void {
    this.#participant.addGroup(this);
    this.#leaveFootprint(of);
    this.#run();
  }

  // Time.

  get #leaseMs(): number {
    return this.#request!.leaseMs;
  }

  /** Whether it holds them, and has to renew them. */
  get #holds(): boolean {
    return this.#hold !== undefined && this.#hold.lost === undefined;
  }

  get #isOver(): boolean {
    return !this.#holds && !this.isBusy;
  }

  readonly #tick = (): void => {
    void this.#hold?.held;
    const now = this.clock.monotonicMs();
    this.#hold?.checkLate(now);
    if (this.#isAtWork) return this.arm();
    if (this.#hold?.isWatched && now >= this.#watchAtMs) this.#startWatching({ isIdle: true });
    // Something is over by now, or ought to be: the records are looked at as they are.
    if (now >= this.#dueMs) this.#parts.drop();
    this.#dueMs = Infinity;
    this.#run();
  };

  #forget(): void {
    this.#alarm.stop();
    for (const { watch } of this.#parts) watch.stop();
    this.#participant.dropGroup(this);
  }

  // News.

  #startWatching(how: { readonly isIdle: boolean }): void {
    for (const { watch } of this.#parts) {
      watch.start(how);
      this.#dueMs = Math.min(this.#dueMs, watch.startMs);
    }
  }

  onNews(): void {
    for (const { knowledge, watch } of this.#parts) knowledge.hear(watch);
    this.#run();
  }

  onWatchFailure(error: unknown, isIdle: boolean): void {
    const now = this.clock.monotonicMs();
    this.#watchAtMs = now + WATCH_AFTER_MS;
    const hold = this.#hold;
    // A holder learns at its next renewal what the watch cannot show.
    if (hold !== undefined) {
      publishBackendError(hold.identifier, backendError(hold.identifier, "watch", error));
    }
    if (isIdle) return this.arm();
    this.#retryOrFail(error, now);
    this.#run();
  }
}
