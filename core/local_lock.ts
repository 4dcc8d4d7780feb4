import type { CommitResult } from "./backend.ts";
import { Alarm, type Clock, type Moment, momentOf, queueMicrotask } from "./clock.ts";
import { answerMs, type AskingLock, type AskingParticipant, Conversation } from "./conversation.ts";
import type { Departure } from "./departure.ts";
import { backendError, type HolderInfo, type LockBackendError } from "./errors.ts";
import { publishBackendError } from "./events.ts";
import type { Tracked } from "./footprint.ts";
import type { HeldLock, Hold, Proof } from "./hold.ts";
import { Knowledge } from "./knowledge.ts";
import { LocalMembers, type NamingParticipant } from "./members.ts";
import type { ModeChange } from "./mode_change.ts";
import type { CheckedOptions } from "./options.ts";
import { Outcomes } from "./outcomes.ts";
import { Commit, Look, type Question } from "./question.ts";
import { nothingAt, type Snapshot } from "./record/codec.ts";
import { lossOf } from "./record/eviction.ts";
import type { Mode } from "./record/modes.ts";
import { type Plan, plan } from "./record/plan.ts";
import type { Holder, LockRecord } from "./record/record.ts";
import { isOursAlone } from "./record/room.ts";
import { RecordWatch, type Watcher } from "./record_watch.ts";
import { type Done, Request, type RequestedLock } from "./request.ts";
import type { Store } from "./store.ts";

/** After how long a held lock starts to watch its own record, and does so again if the watch fails. */
const WATCH_AFTER_MS = 1000;
/**
 * For how long after news of the queue a lock that is held is watched from its grant on: the next one that comes
 * is known then.
 */
const BUSY_MS = 5000;
/** After how many refusals in a row the lock's record is written without the queue's, which has moved each time. */
const QUEUE_MOVES = 2;
/** Of how many that write at once the writes are spread, in times that one of them takes. */
const MOST_RIVALS = 64;
/** For how long one that was refused waits at most: it may be far from the store, and the lock free meanwhile. */
const PARTING_MS = 2000;

/** What a lock needs of the process that it is in. */
export interface LockingParticipant extends NamingParticipant, AskingParticipant {
  /** What commits call it that concern it. */
  readonly address: string;
  /** The lock of a key, made if there is none yet. */
  lock(key: string): LocalLock;
}

/**
 * One lock as this process sees it: all here that hold it or want it. It asks the store one thing at a time, and
 * makes of the records what its members want. Once no caller here needs it any more, it is kept for the next that
 * wants it.
 */
export class LocalLock implements RequestedLock, HeldLock, Watcher, AskingLock {
  readonly key: string;
  readonly clock: Clock;
  readonly store: Store;
  readonly #participant: LockingParticipant;
  readonly #members: LocalMembers;
  readonly #knowledge: Knowledge;
  readonly #conversation: Conversation;
  readonly #outcomes: Outcomes;
  readonly #alarm: Alarm;

  /** Nothing has been asked yet: the first try bets on a free lock. */
  #isFresh = true;
  #conflicts = 0;
  /** When there is something to do although nothing changes. */
  #dueMs = Infinity;
  #isScheduled = false;
  /** Whether a caller here waits for what others do: its watch may then cost something. */
  #waits = false;
  #watch: RecordWatch | undefined;
  /** When news of the queue came last. */
  #toldMs = -Infinity;
  /** Before this a watch that has failed is not tried again for a hold that is only looked at. */
  #rewatchMs = -Infinity;

  constructor(participant: LockingParticipant, key: string) {
    const { store, clock } = participant;
    this.key = key;
    this.clock = clock;
    this.store = store;
    this.#participant = participant;
    const members = this.#members = new LocalMembers(participant);
    const knowledge = this.#knowledge = new Knowledge(store, { key, members });
    this.#conversation = new Conversation(this, { participant, members, knowledge });
    this.#outcomes = new Outcomes(this, members);
    this.#alarm = new Alarm(clock);
  }

  // What its members want.

  /** Takes in a request. */
  request(identifier: string, options: CheckedOptions, done: Done): void {
    const members = this.#members;
    const now = momentOf(this.clock);
    const token = this.#participant.newToken();
    const entry = options.ownEntry === undefined ? undefined : this.#participant.newEntryName();
    const request = new Request(this, { identifier, options, token, entry, startedMs: now.monotonic, done });
    const isFirst = members.requests.size === 0;
    members.addRequest(request);
    request.start();
    if (!request.isWaiting) return;
    if (isFirst) this.#conversation.outage.retryMs = 0;
    const { stealAfterMs, mayWait, waitForMs } = options;
    const { isNested } = request;
    // A hold of ours may have been lost without our knowing: whether the lock is taken, only the store can say.
    if (waitForMs !== undefined && members.holds.length > 0) {
      if (this.#conversation.question === undefined) this.#knowledge.drop();
    } // One more behind others that wait changes nothing, unless it wants to know at once, or is less patient.
    else if (!isFirst && !isNested && mayWait && stealAfterMs === undefined && entry === undefined) return;
    this.run(now);
  }

  release(departure: Departure<Hold>, now: Moment): void {
    this.#outcomes.noteHeld(departure.heldMs);
    this.#members.addDeparture(departure);
    this.run(now);
  }

  onLost(hold: Hold): void {
    const { identifier, lost, renewAtMs } = hold;
    const sentMs = this.#conversation.question?.at.monotonic ?? -Infinity;
    if (lost?.reason === "expired" && renewAtMs <= sentMs) {
      const silence = this.silence(this.clock.monotonicMs() - sentMs);
      publishBackendError(identifier, backendError(identifier, "renew", silence));
    }
    this.#members.dropHold(hold);
    this.schedule();
  }

  withdraw({ identifier, options: { leaseMs }, lost }: Hold): void {
    // What was evicted is not there any more.
    if (lost?.reason !== "expired") return;
    this.#participant.lock(this.key).mayHaveLeft({ identifier, leaseMs });
  }

  onSettled(request: Request): void {
    const members = this.#members;
    const { outage, footprint } = this.#conversation;
    // One that was granted has a hold, which goes on.
    if (!members.dropRequest(request) || request.isGranted) return;
    // What was granted too late for it, or offered to it, is still there.
    this.#noteLeft(this.#knowledge.lastSeen, this.clock.monotonicMs());
    footprint.extend(this.clock.monotonicMs());
    // What may have been left is looked for at once, however the store has failed before.
    if (members.requests.size === 0) {
      outage.restart();
      if (members.holds.length + members.departures.length === 0) this.#conversation.abandon();
    }
    this.schedule();
  }

  // What others ask.

  /** The holds of this process. */
  get holds(): readonly Hold[] {
    return this.#members.holds;
  }

  /** Whether it has something to do with the store. */
  get isBusy(): boolean {
    return this.#members.isBusy || this.#conversation.footprint.isOpen;
  }

  /** Whether no caller here has to do with the lock, as far as is known. */
  get isIdle(): boolean {
    return this.#members.holds.length === 0 && !this.isBusy;
  }

  /** Whether it has seen what is worth to be remembered while it is idle. */
  get remembers(): boolean {
    return this.#knowledge.seen !== undefined;
  }

  /** How those want it that wait here and do not give up: one that comes now is behind them. */
  patientFor(_key: string): readonly Mode[] {
    return [...this.#members.requests].filter(({ isPatient }) => isPatient);
  }

  /** Those that wait here in separate entries, or before the queue. */
  get inOrder(): readonly Request[] {
    return [...this.#members.owners].filter(({ mayWait }) => mayWait);
  }

  /** Whether all that it still has to do is to take out of the store what no caller here wants any more. */
  get isLeaving(): boolean {
    return this.isBusy && this.#members.requests.size === 0;
  }

  /** Cancels all that wait for it. */
  cancelAll(reason: unknown): void {
    for (const request of [...this.#members.requests]) request.cancel(reason);
  }

  get failure(): unknown {
    return this.#conversation.outage.failure;
  }

  silentMs(sinceMs: number): number | undefined {
    return this.#conversation.silentMs(sinceMs);
  }

  taken(): { readonly holders: readonly HolderInfo[] } {
    return { holders: this.others() };
  }

  /** All that hold it, as far as is known here, but this one. */
  others(besides?: Hold): readonly HolderInfo[] {
    const ours = this.#members.holds.filter((hold) => hold !== besides)
      .map(({ options: { label }, ageMs }) => ({ label, heldForMs: Math.round(ageMs) }));
    return [...ours, ...this.#knowledge.holders((holder) => this.#members.holdOf(holder) === undefined)];
  }

  changeMode(hold: Hold): void {
    const change = hold.change!;
    const isSecond = this.#members.changes.some((other) => other !== change && other.to === "exclusive");
    if (isSecond && change.to === "exclusive") return change.refuseAsSecond();
    if (!change.mayWait) this.#members.lastTryMs = change.startedMs;
    this.run();
  }

  renew(): void {
    this.run();
  }

  onChangeSettled(change: ModeChange): void {
    for (const hold of this.#members.holds) hold.onChangeSettled(change);
    this.schedule();
  }

  silence(limitMs: number): LockBackendError {
    return this.store.silence(limitMs);
  }

  get keys(): readonly string[] {
    return [this.key];
  }

  async confirm(hold: Hold): Promise<readonly Proof[] | undefined> {
    const { store, key } = this;
    const { record, version } = await store.bounded(store.readLock(key), answerMs(hold.options.leaseMs));
    if (version !== null && this.#outcomes.recognise(record, hold)) return [{ key, version }];
    hold.lose(lossOf(record, hold.token));
    return undefined;
  }

  mayHaveLeft(of: Tracked): void {
    this.#conversation.leaveFootprint(of);
    if (this.#conversation.question === undefined) this.#knowledge.drop();
    this.run();
  }

  // The one loop.

  /** Does what is to be done now, which was `now` at the earliest. */
  run(now?: Moment): void {
    // The answer to what is asked runs it again.
    if (this.#conversation.isBusy) return;
    const { outage, footprint } = this.#conversation;
    const members = this.#members;
    members.expire();
    const isPausing = outage.retryMs > 0 && outage.retryMs > this.clock.monotonicMs();
    if (isPausing) return this.isIdle ? this.#fallIdle() : this.arm();
    const snapshot = this.#records();
    if (snapshot === undefined) return this.isIdle ? this.#fallIdle() : this.#look();
    const isQueueUnknown = snapshot.lock.record.queue !== undefined && snapshot.queue === undefined;
    if (isQueueUnknown && (footprint.isOpen || members.hasNested)) return this.#look({ withQueue: true });
    // Before the record's own time is read: a process may be frozen between the two, and must count its lease from here.
    const at = now ?? momentOf(this.clock);
    members.lookAt(at);
    const next = plan(snapshot, members, this.#knowledge.evidence(snapshot, at));
    if (next.needsQueue) return this.#look({ withQueue: true });
    if (next.lock !== undefined || next.queue !== undefined) {
      return this.#knowledge.isOutdated ? this.#look() : this.#commit(snapshot, next, at);
    }
    if (this.isIdle) return this.#fallIdle();
    // Those before us may have left since: whose turn it is now is shown by the queue as it is.
    const { overForMs } = next;
    if (overForMs !== undefined && at.monotonic - overForMs > this.#knowledge.askedMs) {
      return this.#look({ withQueue: true });
    }
    this.#rest(snapshot, next, at);
  }

  schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.run();
    });
  }

  /** The records to plan on, unless the store has to be asked. */
  #records(): Snapshot | undefined {
    const { footprint } = this.#conversation;
    const { hasTries, lastTryMs, departures } = this.#members;
    const { snapshot, askedMs } = this.#knowledge;
    if (snapshot === undefined) {
      const isBet = this.#isFresh && departures.length === 0 && !footprint.isOpen &&
        !this.#members.onlyRestores;
      return isBet ? nothingAt(this.key) : undefined;
    }
    // Whether what may have been left is there, and whether the lock is taken, only the store can say.
    const isOld = footprint.isYoungerThan(askedMs) || (hasTries && lastTryMs > askedMs);
    return isOld ? undefined : snapshot;
  }

  /** Looks at the lock's record; at the queue's only if it is needed. */
  #look({ withQueue = this.#isAboutQueue } = {}): void {
    this.#ask(new Look(momentOf(this.clock), { key: this.key, withQueue }));
  }

  /**
   * Whether a caller here is about to join or leave the queue, may be in it, or is to pass the lock on to the
   * first in it.
   */
  get #isAboutQueue(): boolean {
    const { departures, requests, isMoving } = this.#members;
    const { queue, holders } = this.#knowledge.lastSeen;
    if (queue === undefined) return requests.size > 0 && holders.length > 0;
    return departures.length > 0 || isMoving;
  }

  #commit(snapshot: Snapshot, next: Plan, at: Moment): void {
    const members = this.#members;
    const isJoining = members.noteEntries(next.queue?.entries ?? []).size > 0;
    // What may be left in the store if no caller here learns of the outcome.
    const joining = isJoining ? members.firstRequest ?? members.holds[0]?.request : undefined;
    const trace = (next.grants?.[0]?.claim as Request | undefined) ?? joining;
    this.#ask(new Commit(at, { snapshot, plan: next, trace }));
  }

  #ask(question: Question<unknown>): void {
    this.#isFresh = false;
    this.#conversation.ask(question);
    this.arm(question.at);
  }

  onShown({ at }: Look, snapshot: Snapshot): void {
    this.#know(snapshot, at.monotonic);
  }

  onDecided(commit: Commit, answer: CommitResult): void {
    const { at, snapshot, plan: next } = commit;
    const members = this.#members;
    const written = this.store.written(snapshot, next, answer);
    this.#onDone();
    this.#conflicts = written.ok ? 0 : this.#conflicts + 1;
    members.leavesQueueOut = this.#conflicts >= QUEUE_MOVES;
    if (!written.ok) {
      if (written.mayBeEcho) this.#conversation.mayHaveDone(commit);
      // One that is no longer in the queue may have been offered the lock, whose record has not been asked for.
      const isOut = next.lock === undefined && written.snapshot !== undefined &&
        members.countIn(snapshot) > members.countIn(written.snapshot);
      this.#know(isOut ? undefined : written.snapshot, at.monotonic);
      // Whose turn it is does not wait: after two refusals it leaves the queue to those that move it.
      const isTurn = next.grants !== undefined && next.grants.length > 0;
      return isOut || isTurn ? undefined : this.#partFromRivals(at);
    }
    const after = written.snapshot.lock.record;
    const { lock, grants } = next;
    if (lock !== undefined) this.#outcomes.onWritten(snapshot.lock.record, after, at);
    if (grants !== undefined) {
      for (const grant of grants) this.#outcomes.onGranted(grant, after, commit);
    }
    this.#know(written.snapshot, at.monotonic);
  }

  onUnknown(commit: Commit): void {
    this.#outcomes.onUnknown(commit);
  }

  /**
   * Processes that join or leave a queue at the same time refuse each other's writes, over and over. A process that was
   * refused twice waits for as long as a few answers take, each for another time, and looks again. A holder never waits.
   */
  #partFromRivals(at: Moment): void {
    const { holds, departures, requests, queuedIn } = this.#members;
    const { answeredMs, outage } = this.#conversation;
    if (this.#conflicts < 2 || holds.length + departures.length > 0) return;
    // Another entry of ours is queued: it may be offered the lock at any time.
    if (queuedIn !== undefined && requests.size > 0) return;
    // What is offered here is taken or passed on before it lapses, for others wait behind it.
    const isNamed = (holder: Holder) => this.#members.intentOf(holder) !== "foreign";
    if (this.#knowledge.lastSeen.holders.some(isNamed)) return;
    const tookMs = answeredMs - at.monotonic;
    const longestMs = Math.min(tookMs * Math.min(2 ** this.#conflicts, MOST_RIVALS), PARTING_MS);
    const pauseMs = Math.random() * longestMs;
    if (pauseMs < 1) return;
    this.#knowledge.drop();
    outage.retryMs = answeredMs + pauseMs;
  }

  /** There is nothing to write: those that may not wait are refused, the others wait. */
  #rest(snapshot: Snapshot, { waitMs, refusesUpgrade }: Plan, at: Moment): void {
    const members = this.#members;
    const { lock: { record } } = snapshot;
    const { changes } = members;
    const { askedMs } = this.#knowledge;
    this.#onDone();
    // Nothing is written that no caller here wants to change.
    this.#conflicts = 0;
    members.leavesQueueOut = false;
    if (refusesUpgrade && changes.some(({ startedMs }) => startedMs > askedMs)) return this.#look();
    this.#dueMs = Math.min(at.monotonic + waitMs, this.#knowledge.staleMs);
    if (members.hasTries) {
      for (const request of [...members.requests]) {
        if (!request.mayWait && request.startedMs <= askedMs) request.refuse();
      }
    }
    members.showAhead(snapshot);
    // For those that have no place yet there is none.
    for (const request of members.owners) request.onPlaced();
    for (const change of changes) {
      if (refusesUpgrade) change.refuseAsSecond();
      else if (!change.mayWait && change.startedMs <= askedMs) change.refuse();
    }
    const isAlone = isOursAlone(record.holders, (holder) => members.holdOf(holder) !== undefined);
    this.#waits = (members.requests.size > 0 && !isAlone) || members.changes.length > 0;
    if (this.#waits) {
      const { startMs } = this.#startWatch({ isIdle: false });
      this.#dueMs = Math.min(this.#dueMs, startMs);
    } else if (members.requests.size === 0) this.#watch?.stopWaiting();
    this.arm();
  }

  /** The store has done what it was asked, or shown that there is nothing to ask: failures before are over. */
  #onDone(): void {
    if (!this.#conversation.outage.end()) return;
    const { requests, pendingChanges } = this.#members;
    for (const request of requests) request.onAnswer();
    for (const change of pendingChanges) change.onAnswer();
  }

  /** What the store has shown. What of ours it does not name is over. */
  #know(snapshot: Snapshot | undefined, askedMs: number): void {
    this.#knowledge.learn(snapshot, askedMs);
    if (snapshot === undefined) return;
    const { footprint, asked } = this.#conversation;
    const { record } = snapshot.lock;
    // What may have been left is there to be seen now, until it has been taken out, or is not there.
    if (!this.#noteLeft(record, askedMs)) {
      // An entry of ours may be in the queue that the lock names.
      const isKnown = record.queue === undefined || snapshot.queue !== undefined;
      if (isKnown && !footprint.isYoungerThan(askedMs)) footprint.clear();
    }
    this.#outcomes.onShown(record, asked);
  }

  /**
   * Whether the record that was seen at `askedMs` names a holder of this process that no caller here wants: it is
   * looked for.
   */
  #noteLeft(record: LockRecord, askedMs: number): boolean {
    const left = this.#members.leftIn(record);
    const { footprint } = this.#conversation;
    if (left !== undefined && !footprint.isOpen) {
      footprint.leave({ identifier: this.key, leaseMs: left.leaseMs }, askedMs);
    }
    return left !== undefined;
  }

  /** Goes on after an answer. Most often a lock was granted, or is free, and there is nothing more to do. */
  goOn(now: Moment): void {
    const { holds } = this.#members;
    const { snapshot } = this.#knowledge;
    if (this.isBusy || snapshot === undefined) return this.run();
    const { lock: { record, version }, queue } = snapshot;
    if (holds.length === 0 && version === null) return this.#fallIdle();
    // The queue behind a hold must be known when it is given back.
    if (record.queue !== undefined && queue === undefined) return this.#look({ withQueue: true });
    if (holds.length === 1 && record.holders.length === 1) {
      // A release that does not know of a new entry in the queue is refused.
      if (now.monotonic - this.#toldMs < BUSY_MS) this.#startWatch({ isIdle: true });
      return this.arm(now);
    }
    this.run();
  }

  /** No caller here has to do with the lock: it is as new for the next one. */
  #fallIdle(): void {
    this.#alarm.stop();
    this.#watch?.stop();
    this.#watch = undefined;
    this.#isFresh = true;
    this.#waits = false;
    this.#conflicts = 0;
    this.#dueMs = Infinity;
    this.#members.leavesQueueOut = false;
    this.#knowledge.forget();
    this.#conversation.outage.end();
    this.#conversation.outage.retryMs = 0;
  }

  // Time.

  arm(now = momentOf(this.clock)): void {
    const { question, outage } = this.#conversation;
    const pauseMs = outage.retryMs;
    const isAsking = question !== undefined;
    let dueMs = isAsking ? question.dueMs : Math.max(pauseMs, this.#dueMs);
    // Even if the pause is over, because the process has just been frozen.
    if (!isAsking && (this.#knowledge.snapshot === undefined || pauseMs > now.monotonic)) {
      dueMs = Math.min(dueMs, pauseMs);
    }
    for (const hold of this.#members.holds) {
      dueMs = Math.min(dueMs, now.monotonic + hold.leftMs(now), hold.lateAtMs);
      if (!isAsking) dueMs = Math.min(dueMs, Math.max(hold.renewAtMs, pauseMs));
      if (this.#matters(hold) && !this.#waits && !this.#watch?.isIdle) {
        dueMs = Math.min(dueMs, this.#watchAtMs(hold));
      }
    }
    if (dueMs === Infinity) return this.#alarm.stop();
    // A lock that was forgotten must lapse, not keep its process alive; one that is waited for keeps it.
    this.#alarm.set(dueMs, this.#tick, !this.isBusy);
  }

  readonly #tick = (): void => {
    const members = this.#members;
    const now = this.clock.monotonicMs();
    members.expire();
    for (const hold of members.holds) hold.checkLate(now);
    if (this.#conversation.expire(now)) return;
    if (!this.#waits && members.holds.some((hold) => this.#matters(hold) && now >= this.#watchAtMs(hold))) {
      // One that waited before it held goes on watching as before, for holds are mostly brief; this one is not.
      this.#watch?.stopWaiting();
      this.#startWatch({ isIdle: true });
    }
    if (now >= this.#dueMs) {
      this.#dueMs = Infinity;
      if (now >= this.#knowledge.staleMs) this.#knowledge.drop();
    }
    if (this.#conversation.question === undefined) this.run();
    else this.arm();
  };

  // News.

  #startWatch(how: { readonly isIdle: boolean }): RecordWatch {
    const { store: { backend }, key } = this;
    this.#watch ??= new RecordWatch(this, { backend, key, name: this.#participant.address });
    this.#watch.start(how);
    return this.#watch;
  }

  /** Whether a loss of the hold must be known at once: if code looks at it, or a caller waits behind it. */
  #matters({ isWatched }: Hold): boolean {
    return isWatched || this.#members.requests.size > 0;
  }

  /** When it starts to watch its own record for a hold. */
  #watchAtMs({ grantedMs }: Hold): number {
    return Math.max(grantedMs + WATCH_AFTER_MS, this.#rewatchMs);
  }

  onNews(): void {
    if (this.#conversation.question !== undefined) return;
    this.hearNews();
    this.run();
  }

  onWatchFailure(error: unknown, isIdle: boolean): void {
    const now = this.clock.monotonicMs();
    this.#rewatchMs = now + WATCH_AFTER_MS;
    // A holder learns at its next renewal what the watch cannot show.
    for (const { identifier } of this.#members.holds) {
      publishBackendError(identifier, backendError(identifier, "watch", error));
    }
    if (isIdle) this.arm();
    else if (this.#conversation.question === undefined) {
      // What cannot be watched may still be written: if no caller here waits any more, the queue is to say so.
      const { queuedIn } = this.#members;
      this.#members.queuedIn = undefined;
      this.#conversation.fail(error, now);
      this.#members.queuedIn = queuedIn;
    }
  }

  hearNews(): void {
    if (this.#watch === undefined) return;
    if (this.#watch.isToldOfQueue) this.#toldMs = this.clock.monotonicMs();
    const offered = this.#knowledge.hear(this.#watch);
    if (offered !== undefined) this.#know(offered, this.#knowledge.askedMs);
  }
}
