import type { CommitResult } from "./backend.ts";
import { Alarm, type Clock, type Moment, momentOf, spanMs } from "./clock.ts";
import { backendError, type HolderInfo, LockBackendError } from "./errors.ts";
import { publish, publishBackendError } from "./events.ts";
import { type Departure, type HeldLock, Hold } from "./hold.ts";
import { Footprint, type Tracked } from "./footprint.ts";
import { Knowledge } from "./knowledge.ts";
import { LocalMembers, names, type NamingParticipant } from "./members.ts";
import type { Observations } from "./observations.ts";
import { Outage } from "./outage.ts";
import type { CheckedOptions } from "./options.ts";
import { type Asker, type Inquiry, Question } from "./question.ts";
import { nothingAt, type Snapshot } from "./record/codec.ts";
import { lossOf } from "./record/eviction.ts";
import type { Grant } from "./record/members.ts";
import { type Plan, plan } from "./record/plan.ts";
import { offerMs } from "./record/queue.ts";
import type { Holder, LockRecord } from "./record/record.ts";
import { RecordWatch, type Watcher } from "./record_watch.ts";
import { type Done, Request, type RequestedLock } from "./request.ts";
import type { Store } from "./store.ts";

/** The least time that the store has for an answer, however short the lease. */
const LEAST_ANSWER_MS = 1000;
/** After how long a held lock starts to watch its own record, and does so again if the watch fails. */
const WATCH_AFTER_MS = 1000;
/** After how many refusals in a row the lock's record is written without the queue's, which has moved each time. */
const QUEUE_MOVES = 2;
/** Of how many that write at once the writes are spread, in times that one of them takes. */
const MOST_RIVALS = 16;
/** How many grants that came after their lease had ended are taken for bad luck. */
const LATE_GRANTS = 5;

/** What a lock needs of the process that it is in. */
export interface LockingParticipant extends NamingParticipant {
  readonly store: Store;
  readonly clock: Clock;
  /** What commits call it that concern it. */
  readonly address: string;
  /** How many answers the store still owes to those that do not wait for them any more. */
  owedAnswers: number;
  /** The lock of a key, made if there is none yet. */
  lock(key: string): LocalLock;
  /** Whether the last hold of a lock was brief here. */
  wasBrief(key: string): boolean;
  noteBrief(key: string, isBrief: boolean): void;
  /** Nobody here has to do with the lock any more. */
  forget(lock: LocalLock, seen: Observations | undefined): void;
}

/**
 * One lock as this process sees it: all here that hold it or want it. It asks the store one thing at a time, and makes of
 * the records what its members want.
 */
export class LocalLock implements RequestedLock, HeldLock, Watcher, Asker {
  readonly key: string;
  readonly clock: Clock;
  readonly #participant: LockingParticipant;
  readonly #members: LocalMembers;
  readonly #alarm: Alarm;

  readonly #knowledge: Knowledge;
  readonly #outage = new Outage();
  readonly #footprint = new Footprint();

  /** Nothing has been asked yet: the first try bets on a free lock. */
  #isFresh = true;
  #question: Question<unknown> | undefined;
  /** An answer is being worked on. It calls users' listeners, which may call back. */
  #isAnswering = false;
  /** When the last question was sent that has been answered, and when it was. */
  #asked: Moment | undefined;
  #answeredMs = -Infinity;
  #conflicts = 0;
  /** Whether the last hold here was over in less time than it takes until an offer is confirmed. */
  #isBrief = false;
  /** When there is something to do although nothing changes. */
  #dueMs = Infinity;
  #isScheduled = false;
  #watch: RecordWatch | undefined;
  #watchAtMs = Infinity;

  constructor(participant: LockingParticipant, key: string, seen?: Observations) {
    this.#participant = participant;
    this.#members = new LocalMembers(participant);
    this.#knowledge = new Knowledge(participant.store, { key, members: this.#members, seen });
    this.#alarm = new Alarm(participant.clock);
    this.key = key;
    this.clock = participant.clock;
    this.#isBrief = participant.wasBrief(key);
  }

  // What its members want.

  /** Takes in a request. */
  request(identifier: string, options: CheckedOptions, done: Done): void {
    const members = this.#members;
    const request = new Request(this, { identifier, options, token: this.#participant.newToken(), done });
    const isFirst = members.requests.size === 0;
    members.addRequest(request);
    request.start();
    if (!request.isWaiting) return;
    if (isFirst) this.#outage.retryMs = 0;
    const { stealAfterMs, mayWait, waitForMs } = options;
    // A hold of ours may have been lost without our knowing: whether the lock is taken, only the store can say.
    if (waitForMs !== undefined && members.holds.length > 0) {
      if (this.#question === undefined) this.#knowledge.drop();
    } // One more behind others that wait changes nothing, unless it wants to know at once, or is less patient.
    else if (!isFirst && mayWait && stealAfterMs === undefined) return;
    this.run();
  }

  release(departure: Departure): void {
    this.#isBrief = departure.heldMs < offerMs(this.store.backend.graceMs) / 3;
    this.#members.addDeparture(departure);
    this.run();
  }

  onLost(hold: Hold): void {
    const { identifier, lost, renewAtMs } = hold;
    const sentMs = this.#question?.inquiry.at.monotonic ?? -Infinity;
    if (lost?.reason === "expired" && renewAtMs <= sentMs) {
      const silence = this.silence(this.clock.monotonicMs() - sentMs);
      publishBackendError(identifier, backendError(identifier, "renew", silence));
    }
    this.#members.dropHold(hold);
    this.#schedule();
  }

  withdraw({ identifier, options: { leaseMs } }: Hold): void {
    this.#participant.lock(this.key).#mayHaveLeft({ identifier, leaseMs });
  }

  onSettled(request: Request): void {
    const members = this.#members;
    // One that was granted has a hold, which goes on.
    if (!members.dropRequest(request) || request.isGranted) return;
    this.#footprint.extend(this.clock.monotonicMs());
    // What may have been left is looked for at once, however the store has failed before.
    if (members.requests.size === 0) {
      this.#outage.restart();
      if (members.holds.length + members.departures.length === 0) this.#abandon();
    }
    this.#schedule();
  }

  // What others ask.

  get store(): Store {
    return this.#participant.store;
  }

  /** The holds of this process. */
  get holds(): readonly Hold[] {
    return this.#members.holds;
  }

  /** Whether it has something to do with the store. */
  get isBusy(): boolean {
    return this.#members.isBusy || this.#footprint.isOpen;
  }

  /** Whether all that it still has to do is to take out of the store what nobody here wants any more. */
  get isLeaving(): boolean {
    return this.isBusy && this.#members.requests.size === 0;
  }

  /** Cancels all that wait for it. */
  cancelAll(reason: unknown): void {
    for (const request of [...this.#members.requests]) request.cancel(reason);
  }

  get failure(): unknown {
    return this.#outage.failure;
  }

  silentMs(sinceMs: number): number | undefined {
    if (this.#question === undefined) return undefined;
    // A hold that is being given back may be gone already.
    const isKnown = this.#answeredMs >= sinceMs && this.#members.departures.length === 0;
    return isKnown ? undefined : this.clock.monotonicMs() - this.#question.inquiry.at.monotonic;
  }

  holders(): readonly HolderInfo[] {
    const { holds } = this.#members;
    if (holds.length > 0) {
      return holds.map(({ options: { label }, ageMs }) => ({ label, heldForMs: Math.round(ageMs) }));
    }
    const now = this.store.backend.now();
    return this.#knowledge.lastSeen.holders.map(({ label, since }) => ({
      label,
      heldForMs: Math.max(0, Math.round(now - since)),
    }));
  }

  silence(limitMs: number): LockBackendError {
    return this.store.silence(limitMs);
  }

  async confirm(hold: Hold): Promise<string | undefined> {
    const { store } = this;
    const { record, version } = await store.bounded(store.readLock(this.key), answerMs(hold.options.leaseMs));
    if (version !== null && names(record, hold)) return version;
    hold.lose(lossOf(record, hold.token));
    return undefined;
  }

  // The one loop.

  run(): void {
    // The answer to what is asked runs it again.
    if (this.#question !== undefined || this.#isAnswering) return;
    const members = this.#members;
    members.expire();
    const { retryMs } = this.#outage;
    const isPausing = retryMs > 0 && retryMs > this.clock.monotonicMs();
    if (isPausing) return this.#isIdle ? this.#forget() : this.arm();
    const snapshot = this.#records();
    if (snapshot === undefined) return this.#isIdle ? this.#forget() : this.#read();
    const isQueueUnknown = snapshot.lock.record.queue !== undefined && snapshot.queue === undefined;
    if (this.#footprint.isOpen && isQueueUnknown) return this.#read({ withQueue: true });
    // Before the record's own time is read: a process may be frozen between the two, and must count its lease from here.
    const at = momentOf(this.clock);
    members.atMs = at.monotonic;
    const next = plan(snapshot, members, this.#knowledge.evidence(snapshot, at));
    if (next.needsQueue) return this.#read({ withQueue: true });
    if (next.lock !== undefined || next.queue !== undefined) {
      return this.#knowledge.isOutdated ? this.#read() : this.#commit(snapshot, next, at);
    }
    if (this.#isIdle) return this.#forget();
    // Those before us may have left since: whose turn it is now is told by the queue as it is.
    const { overForMs } = next;
    if (overForMs !== undefined && at.monotonic - overForMs > this.#knowledge.askedMs) {
      return this.#read({ withQueue: true });
    }
    this.#rest(snapshot, at.monotonic + next.waitMs);
  }

  /** Nobody here has to do with the lock, as far as is known. */
  get #isIdle(): boolean {
    return this.#members.holds.length === 0 && !this.isBusy;
  }

  /** Runs after what goes on now: callers of the members' methods have work of their own to finish. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.run();
    });
  }

  /** The records to plan on, unless the store has to be asked. */
  #records(): Snapshot | undefined {
    const { hasTries, lastTryMs, departures } = this.#members;
    const { snapshot, askedMs } = this.#knowledge;
    if (snapshot === undefined) {
      const isBet = this.#isFresh && departures.length === 0 && !this.#footprint.isOpen;
      return isBet ? nothingAt(this.key) : undefined;
    }
    // Whether what may have been left is there, and whether the lock is taken, only the store can say.
    const isOld = this.#footprint.isYoungerThan(askedMs) || (hasTries && lastTryMs > askedMs);
    return isOld ? undefined : snapshot;
  }

  /** Looks at the lock's record; at the queue's only if it is needed, because two are dearer than one on some stores. */
  #read({ withQueue = this.#isAboutQueue } = {}): void {
    const { store, key } = this;
    const at = momentOf(this.clock);
    this.#ask({
      at,
      dueMs: this.#dueMsOf(at),
      send: () => withQueue ? store.read(key) : store.readAlone(key),
      onAnswer: (snapshot: Snapshot) => this.#know(snapshot, at.monotonic),
    });
  }

  /** Whether somebody here is about to join or leave the queue, may be in it, or is to pass the lock on to the first in it. */
  get #isAboutQueue(): boolean {
    const { departures, requests, queuedIn } = this.#members;
    const { queue, holders } = this.#knowledge.lastSeen;
    if (queue === undefined) return requests.size > 0 && holders.length > 0;
    return departures.length > 0 || (requests.size > 0) === (queuedIn === undefined);
  }

  #commit(snapshot: Snapshot, next: Plan, at: Moment): void {
    const { store } = this;
    const members = this.#members;
    const { grants = [] } = next;
    const { record } = snapshot.lock;
    const mine = next.queue?.entries.find(({ participant }) => participant === members.participant);
    if (mine !== undefined) members.entryToken = mine.token;
    // What may be left in the store if nobody here learns of the outcome.
    const joining = mine && (members.firstRequest ?? members.holds[0]?.request);
    this.#ask({
      at,
      dueMs: this.#dueMsOf(at),
      trace: (grants[0]?.claim as Request | undefined) ?? joining,
      send: () => store.send(snapshot, next),
      onAnswer: (answer: CommitResult) => {
        const written = store.written(snapshot, next, answer);
        this.#onDone();
        this.#conflicts = written.ok ? 0 : this.#conflicts + 1;
        members.leavesQueueOut = this.#conflicts >= QUEUE_MOVES;
        if (!written.ok) {
          // Who is no longer in the queue may have been offered the lock, whose record has not been asked for.
          const isOut = next.lock === undefined && written.snapshot !== undefined &&
            members.isQueuedBy(snapshot) && !members.isQueuedBy(written.snapshot);
          this.#know(isOut ? undefined : written.snapshot, at.monotonic);
          return this.#partFromRivals(at);
        }
        const after = written.snapshot.lock.record;
        if (next.lock !== undefined) this.#onWritten(record, after, at);
        for (const grant of grants) this.#grant(grant, after, at);
        this.#know(written.snapshot, at.monotonic);
      },
      onUnknown: () => {
        if (next.lock === undefined) return;
        for (const departure of members.departures) {
          if (isTakenOut(departure.hold, record, next.lock)) departure.isUnknown = true;
        }
      },
    });
  }

  /**
   * Many that join or leave a queue at once refuse each other's writes, over and over. Whoever was refused twice waits for
   * as long as a few answers take, each for another time, and looks again. Nobody who holds the lock waits for it.
   */
  #partFromRivals(at: Moment): void {
    const { holds, departures } = this.#members;
    if (this.#conflicts < 2 || holds.length + departures.length > 0) return;
    const answerMs = this.#answeredMs - at.monotonic;
    const pauseMs = Math.random() * answerMs * Math.min(this.#conflicts, MOST_RIVALS);
    if (pauseMs < 1) return;
    this.#knowledge.drop();
    this.#outage.retryMs = this.#answeredMs + pauseMs;
  }

  /** A commit of ours has replaced one record by another. */
  #onWritten(before: LockRecord, after: LockRecord, at: Moment): void {
    const members = this.#members;
    for (const departure of members.departures) {
      // One that was stolen here, and let go of while that was under way, was not released.
      const { hold } = departure;
      if (!isTakenOut(hold, before, after) || lossOf(after, hold.token) !== "expired") continue;
      members.dropDeparture(departure);
      departure.onReleased();
    }
    for (const hold of members.holds) {
      if (hold.renewAtMs <= at.monotonic) this.#onRenewed(hold, at);
    }
  }

  /** There is nothing to write: requests that may not wait are refused, the others wait. */
  #rest({ lock: { record } }: Snapshot, dueMs: number): void {
    const members = this.#members;
    this.#onDone();
    this.#dueMs = Math.min(dueMs, this.#knowledge.outdatedMs);
    if (members.hasTries) {
      for (const request of [...members.requests]) {
        if (!request.mayWait && request.startedMs <= this.#knowledge.askedMs) request.refuse();
      }
    }
    const isOurs = record.holders.some((holder) => members.holdOf(holder) !== undefined);
    if (members.requests.size > 0 && !isOurs) {
      const { startMs } = this.#startWatch({ isIdle: false });
      this.#dueMs = Math.min(this.#dueMs, startMs);
    } else if (members.requests.size === 0) this.#watch?.stopWaiting();
    this.arm();
  }

  /** The store has done what it was asked, or shown that there is nothing to ask: failures before are over. */
  #onDone(): void {
    if (!this.#outage.end()) return;
    for (const request of this.#members.requests) request.onAnswer();
  }

  /** What the store has shown. What of ours it does not name is over. */
  #know(snapshot: Snapshot | undefined, askedMs: number): void {
    this.#knowledge.learn(snapshot, askedMs);
    if (snapshot === undefined) return;
    const members = this.#members;
    const { record } = snapshot.lock;
    // What may have been left is there to be seen now, until it has been taken out, or is not there.
    const left = record.holders.find((holder) => members.isLeft(holder));
    if (left === undefined) {
      // An entry of ours may be in the queue that the lock names.
      const isKnown = record.queue === undefined || snapshot.queue !== undefined;
      if (isKnown && !this.#footprint.isYoungerThan(askedMs)) this.#footprint.clear();
    } else if (!this.#footprint.isOpen) {
      this.#footprint.leave({ identifier: this.key, leaseMs: left.leaseMs }, askedMs);
    }
    for (const departure of members.departures) {
      if (names(record, departure.hold)) continue;
      members.dropDeparture(departure);
      departure.onGone(record);
    }
    for (const hold of members.holds) if (!names(record, hold)) hold.lose(lossOf(record, hold.token));
    for (const holder of record.holders) if (holder.offeredTo !== undefined) this.#adopt(holder);
  }

  // Holds.

  /** A commit of ours has made this request the holder. */
  #grant({ claim, token }: Grant, record: LockRecord, at: Moment): void {
    const request = claim as Request;
    const fence = record.holders.find((holder) => holder.token === token)?.fence;
    // What was granted to one that has gone is taken out again: nobody here owns it.
    if (!request.isWaiting || fence === undefined) return;
    const now = momentOf(this.clock);
    const forMs = request.leaseMs;
    if (spanMs(at, now) >= forMs) return this.#onLate(request);
    const lease = { from: at, forMs };
    this.#hold(request, new Hold(this, { request, token, fence, lease, grantedMs: now.monotonic }));
  }

  /** The lease was over before its grant was answered. It is looked at again, but not for ever. */
  #onLate(request: Request): void {
    if (++request.lateGrants < LATE_GRANTS) return;
    const { leaseMs } = request;
    request.fail(new LockBackendError(`its lease of ${leaseMs} ms is over before the store's answers come`));
  }

  /**
   * Takes a lock that was offered to us, if our clock proves that the offer still runs, with enough left to confirm it,
   * and if the last hold here was so brief that it would not have been confirmed. Otherwise it is confirmed first, see
   * `plan`: work that blocks the process for longer than an offer must not lose its lock before it can be renewed.
   */
  #adopt(holder: Holder): void {
    const members = this.#members;
    const { token, fence, expiresAt, leaseMs } = holder;
    if (!this.#isBrief || fence === undefined || expiresAt === null || !members.isOfferWanted(holder)) return;
    if (members.holdOf(holder) !== undefined) return;
    const from = momentOf(this.clock);
    const { backend, clockErrorMs } = this.store;
    const request = members.firstRequest!;
    const leftMs = expiresAt - clockErrorMs - backend.now() - this.#sleptMs(from);
    const forMs = Math.min(leftMs, request.leaseMs);
    if (!(forMs > leaseMs / 3)) return;
    members.onOfferTaken(holder);
    const lease = { from, forMs };
    this.#hold(request, new Hold(this, { request, token, fence, lease, grantedMs: from.monotonic }));
  }

  /** How long this machine may have slept since the store was last asked: it then knows less of the store's time. */
  #sleptMs(now: Moment): number {
    const asked = this.#asked;
    return asked === undefined ? Infinity : spanMs(asked, now) - (now.monotonic - asked.monotonic);
  }

  #hold(request: Request, hold: Hold): void {
    this.#members.addHold(hold);
    this.#watchAtMs = hold.grantedMs + WATCH_AFTER_MS;
    request.grant(hold);
  }

  #onRenewed(hold: Hold, at: Moment): void {
    if (!hold.held) return;
    const { lateMs } = hold;
    publish("holdfast:renewed", () => ({ ...hold.event, lateMs }));
    hold.extend({ from: at, forMs: hold.options.leaseMs });
    hold.checkOwner();
  }

  // Questions.

  #ask<Answer>(inquiry: Inquiry<Answer>): void {
    const question = new Question(this, inquiry);
    this.#question = question;
    this.#isFresh = false;
    question.send();
    this.arm(inquiry.at);
  }

  onAnswer<Answer>(inquiry: Inquiry<Answer>, answer: Answer): void {
    this.#question = undefined;
    this.#asked = inquiry.at;
    this.#answeredMs = this.clock.monotonicMs();
    this.#isAnswering = true;
    try {
      inquiry.onAnswer(answer);
      this.#hearNews();
    } catch (error) {
      return this.#retryOrFail(error, inquiry.at.monotonic);
    } finally {
      this.#isAnswering = false;
    }
    this.#continue();
  }

  onFailure({ at, trace, onUnknown }: Inquiry<unknown>, error: unknown): void {
    this.#question = undefined;
    onUnknown?.();
    if (trace !== undefined) this.#leaveFootprint(trace);
    this.#retryOrFail(error, at.monotonic);
  }

  onLate({ trace }: Inquiry<unknown>, error?: unknown): void {
    this.#participant.owedAnswers--;
    if (trace === undefined || (error !== undefined && !isTransient(error))) return;
    this.#participant.lock(this.key).#mayHaveLeft(trace);
  }

  /** Until when the answer to a question is waited for that is sent now. */
  #dueMsOf(at: Moment): number {
    const leaseMs = Math.min(this.#members.leastLeaseMs, this.#footprint.of?.leaseMs ?? Infinity);
    return at.monotonic + answerMs(leaseMs);
  }

  /** Goes on after an answer. Most often a lock was granted, or is free, and there is nothing more to do. */
  #continue(): void {
    const { holds } = this.#members;
    const { snapshot } = this.#knowledge;
    if (this.isBusy || snapshot === undefined) return this.run();
    const { lock: { record, version }, queue } = snapshot;
    if (holds.length === 0 && version === null) return this.#forget();
    // Who is queued behind a hold must be known when it is given back.
    if (record.queue !== undefined && queue === undefined) return this.#read({ withQueue: true });
    if (holds.length === 1 && record.holders.length === 1) return this.arm();
    this.run();
  }

  /** The store has failed: whoever cannot wait until it has recovered is told. */
  #retryOrFail(error: unknown, sentMs: number): void {
    const members = this.#members;
    const now = this.clock.monotonicMs();
    const isFatal = !isTransient(error);
    this.#knowledge.drop();
    this.#outage.begin(error, now);
    for (const hold of members.holds) {
      if (hold.renewAtMs > now) continue;
      // Nothing is lost yet: it is tried again until the lease has run out.
      this.#outage.hasten(now + hold.options.leaseMs / 3);
      publishBackendError(hold.identifier, backendError(hold.identifier, "renew", error));
    }
    for (const departure of members.departures) {
      this.#outage.hasten(now + departure.hold.options.leaseMs / 3);
      if (!isFatal && departure.hold.leftMs() > 0) continue;
      members.dropDeparture(departure);
      departure.onFailed(error);
    }
    for (const request of [...members.requests]) {
      // A request that came after the question was sent will have its own.
      if (request.startedMs <= sentMs) request.retryOrFail(error, sentMs);
      else this.#outage.hasten(0);
    }
    if (members.requests.size === 0) {
      if (this.#footprint.isOpen && (isFatal || this.#footprint.isOver(now))) this.#giveUp(error);
      if (isFatal && members.queuedIn !== undefined) this.#giveUp(error);
    }
    this.#schedule();
  }

  /** What may have been left could not be cleared away; it ends with its lease. */
  #giveUp(error: unknown): void {
    const { identifier } = this.#footprint.of ?? { identifier: this.key };
    this.#footprint.clear();
    this.#members.queuedIn = undefined;
    publishBackendError(identifier, backendError(identifier, "stop waiting for", error));
  }

  /** Nobody needs the answer that is waited for: what was asked may have been done or not. */
  #abandon(): void {
    if (this.#question === undefined || this.#isAnswering) return;
    const { trace } = this.#question.inquiry;
    this.#participant.owedAnswers++;
    this.#question.abandon();
    this.#question = undefined;
    this.#knowledge.drop();
    if (trace !== undefined) this.#leaveFootprint(trace);
  }

  #leaveFootprint(of: Tracked): void {
    this.#footprint.leave({ identifier: of.identifier, leaseMs: of.leaseMs }, this.clock.monotonicMs());
  }

  /** Looks for what may have been left, and clears it away. */
  #mayHaveLeft(of: Tracked): void {
    this.#leaveFootprint(of);
    if (this.#question === undefined) this.#knowledge.drop();
    this.run();
  }

  // Time.

  arm(now = momentOf(this.clock)): void {
    const isAsking = this.#question !== undefined;
    const pauseMs = this.#outage.retryMs;
    let dueMs = isAsking ? this.#question!.inquiry.dueMs : Math.max(pauseMs, this.#dueMs);
    // Even if the pause is over, because the process has just been frozen.
    if (!isAsking && (this.#knowledge.snapshot === undefined || pauseMs > now.monotonic)) {
      dueMs = Math.min(dueMs, pauseMs);
    }
    for (const hold of this.#members.holds) {
      dueMs = Math.min(dueMs, now.monotonic + hold.leftMs(now));
      if (!isAsking) dueMs = Math.min(dueMs, Math.max(hold.renewAtMs, pauseMs));
      if (this.#matters(hold) && !this.#watch?.isIdle) dueMs = Math.min(dueMs, this.#watchAtMs);
    }
    if (dueMs === Infinity) return this.#alarm.stop();
    // A lock that was forgotten must lapse, not keep its process alive; one that is waited for keeps it.
    this.#alarm.set(dueMs, now.monotonic, this.#tick, !this.isBusy);
  }

  readonly #tick = (): void => {
    const members = this.#members;
    const now = this.clock.monotonicMs();
    members.expire();
    const question = this.#question;
    if (question !== undefined && now >= question.inquiry.dueMs) {
      const { dueMs, at } = question.inquiry;
      this.#participant.owedAnswers++;
      return question.fail(this.silence(dueMs - at.monotonic));
    }
    if (now >= this.#watchAtMs && members.holds.some((hold) => this.#matters(hold))) {
      // Who waited before it held goes on watching as before, for holds are mostly brief; this one is not.
      this.#watch?.stopWaiting();
      this.#startWatch({ isIdle: true });
    }
    if (now >= this.#dueMs) {
      this.#dueMs = Infinity;
      if (now >= this.#knowledge.outdatedMs) this.#knowledge.drop();
    }
    if (question === undefined) this.run();
    else this.arm();
  };

  // News.

  #startWatch(how: { readonly isIdle: boolean }): RecordWatch {
    const { store: { backend }, key } = this;
    this.#watch ??= new RecordWatch(this, { backend, key, name: this.#participant.address });
    this.#watch.start(how);
    return this.#watch;
  }

  /** Whether somebody wants to know at once if the hold is lost: whoever looks at it, or waits behind it. */
  #matters({ isWatched }: Hold): boolean {
    return isWatched || this.#members.requests.size > 0;
  }

  onNews(): void {
    if (this.#question !== undefined) return;
    this.#hearNews();
    this.run();
  }

  onWatchFailure(error: unknown, isIdle: boolean): void {
    const now = this.clock.monotonicMs();
    this.#watchAtMs = now + WATCH_AFTER_MS;
    // A holder learns at its next renewal what the watch cannot tell.
    for (const { identifier } of this.#members.holds) {
      publishBackendError(identifier, backendError(identifier, "watch", error));
    }
    if (isIdle) this.arm();
    else if (this.#question === undefined) {
      const { queuedIn } = this.#members;
      this.#retryOrFail(error, now);
      // What cannot be watched may still be written: if nobody here waits any more, the queue is to say so.
      this.#members.queuedIn = queuedIn;
    }
  }

  #hearNews(): void {
    if (this.#watch === undefined) return;
    const offered = this.#knowledge.hear(this.#watch);
    if (offered !== undefined) this.#know(offered, this.#knowledge.askedMs);
  }

  #forget(): void {
    this.#alarm.stop();
    this.#watch?.stop();
    const { seen } = this.#knowledge;
    if (seen !== undefined) this.#participant.noteBrief(this.key, this.#isBrief);
    this.#participant.forget(this, seen);
  }
}

/** Whether the hold was in the record, and is not any more. */
function isTakenOut(hold: Hold, before: LockRecord, after: LockRecord | null): boolean {
  return names(before, hold) && (after === null || !names(after, hold));
}

/** For how long one answer is waited for. Leaves room in all but short leases for a second question. */
function answerMs(leaseMs: number): number {
  return leaseMs === Infinity ? LEAST_ANSWER_MS : Math.max(leaseMs / 3, LEAST_ANSWER_MS);
}

function isTransient(error: unknown): boolean {
  return error instanceof LockBackendError && error.transient;
}
