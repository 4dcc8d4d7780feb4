import { type Clock, type Moment, momentOf, queueMicrotask } from "./clock.ts";
import { backendError, isTransient } from "./errors.ts";
import { publishBackendError } from "./events.ts";
import { Footprint, type Tracked } from "./footprint.ts";
import type { Knowledge } from "./knowledge.ts";
import type { LocalMembers } from "./members.ts";
import { Outage } from "./outage.ts";
import { type Asker, Commit, type Question } from "./question.ts";
import type { Store } from "./store.ts";

/** The least time that the store has for an answer, however short the lease. */
const LEAST_ANSWER_MS = 1000;

/** What a conversation needs of the process that it is in. */
export interface AskingParticipant {
  readonly store: Store;
  readonly clock: Clock;
  /** How many answers the store still owes to those that do not wait for them any more. */
  owedAnswers: number;
  /** The lock of a key, made if there is none yet. */
  lock(key: string): {
    /** What may have been left in the store is looked for, and cleared away. */
    mayHaveLeft(of: Tracked): void;
  };
}

/** The lock whose store is asked. */
export interface AskingLock extends Asker {
  readonly key: string;
  /** An answer has been passed on: news may have come meanwhile, which it was more important than. */
  hearNews(): void;
  /** What follows from an answer that came `now`, after all callers that it concerns have heard of it. */
  goOn(now: Moment): void;
  /** What was planned may have been done or not. */
  onUnknown(commit: Commit): void;
  /** Plans again, once what goes on now is over. */
  schedule(): void;
}

/** What one lock asks its store: one question at a time. Knows how the store has failed, and what it may have been left with. */
export class Conversation {
  readonly outage: Outage = new Outage();
  readonly footprint: Footprint = new Footprint();
  /** When the last question was sent that has been answered, and when it was. */
  asked: Moment | undefined;
  answeredMs = -Infinity;
  /** What is asked. */
  question: Question<unknown> | undefined;
  readonly #lock: AskingLock;
  readonly #participant: AskingParticipant;
  readonly #members: LocalMembers;
  readonly #knowledge: Knowledge;
  /** An answer is being worked on. It calls users' listeners, which may call back. */
  #isAnswering = false;

  constructor(
    lock: AskingLock,
    { participant, members, knowledge }: {
      readonly participant: AskingParticipant;
      readonly members: LocalMembers;
      readonly knowledge: Knowledge;
    },
  ) {
    this.#lock = lock;
    this.#participant = participant;
    this.#members = members;
    this.#knowledge = knowledge;
  }

  /** Whether it goes on by itself. */
  get isBusy(): boolean {
    return this.question !== undefined || this.#isAnswering;
  }

  /** For how long the store has owed the answer that says whether the lock is taken, if it has not been given since `sinceMs`. */
  silentMs(sinceMs: number): number | undefined {
    if (this.question === undefined) return undefined;
    // A hold that is being given back may be gone already.
    const isKnown = this.answeredMs >= sinceMs && this.#members.departures.length === 0;
    return isKnown ? undefined : this.#clock.monotonicMs() - this.question.at.monotonic;
  }

  /** Asks, once the last question has been answered, has failed, or is not waited for any more. */
  ask<Answer>(question: Question<Answer>): void {
    const leaseMs = Math.min(this.#members.leastLeaseMs, this.footprint.of?.leaseMs ?? Infinity);
    question.dueMs = question.at.monotonic + answerMs(leaseMs);
    this.question = question;
    try {
      question.send(this.#participant.store).then(
        (answer) => this.#onAnswer(question, answer),
        (error) => this.#onError(question, error),
      );
    } catch (error) {
      // Not within the call of the caller that asks: the next one would fail within it, too, and so on.
      queueMicrotask(() => this.#onError(question, error));
    }
  }

  /** Sees whether the answer is overdue. What was asked has then failed. */
  expire(now: number): boolean {
    const { question } = this;
    if (question === undefined || now < question.dueMs) return false;
    this.#participant.owedAnswers++;
    this.#onFailure(question, this.#participant.store.silence(question.dueMs - question.at.monotonic));
    return true;
  }

  /** No caller needs the answer that is waited for: what was asked may have been done or not. */
  abandon(): void {
    const { question } = this;
    if (question === undefined) return;
    this.#participant.owedAnswers++;
    this.question = undefined;
    this.#knowledge.drop();
    if (question instanceof Commit && question.trace !== undefined) this.leaveFootprint(question.trace);
  }

  /** A commit may have been applied or not: that is looked for. */
  mayHaveDone(commit: Commit): void {
    this.#lock.onUnknown(commit);
    if (commit.trace !== undefined) this.leaveFootprint(commit.trace);
  }

  /** The store has failed: callers that cannot wait until it has recovered are notified. */
  fail(error: unknown, sentMs: number): void {
    const members = this.#members;
    const now = this.#clock.monotonicMs();
    const isFatal = !isTransient(error);
    this.#knowledge.drop();
    this.outage.begin(error, now);
    for (const hold of members.holds) {
      if (hold.renewAtMs > now) continue;
      // Nothing is lost yet: it is tried again until the lease has run out.
      this.outage.hasten(now + hold.options.leaseMs / 3);
      hold.onNotRenewed(error);
    }
    for (const departure of members.departures) {
      this.outage.hasten(now + departure.hold.options.leaseMs / 3);
      if (!isFatal && departure.hold.leftMs() > 0) continue;
      members.dropDeparture(departure);
      departure.onFailed(error);
    }
    const wasWaitedFor = members.requests.size > 0;
    for (const request of [...members.requests]) {
      // A request that came after the question was sent will have its own.
      if (request.startedMs <= sentMs) request.retryOrFail(error, sentMs);
      else this.outage.hasten(0);
    }
    for (const change of members.pendingChanges) {
      if (change.startedMs <= sentMs) change.retryOrFail(error, sentMs);
      else this.outage.hasten(0);
    }
    if (members.requests.size === 0) {
      if (this.footprint.isOpen && (isFatal || this.footprint.isOver(now))) this.#giveUp(error);
      // A place in the queue is given back when no caller waits for it any more, which may fail, too, and is then
      // given up.
      if (isFatal && !wasWaitedFor && members.queuedIn !== undefined) this.#giveUp(error);
    }
    this.#lock.schedule();
  }

  /** What may have been left is looked for from now on. */
  leaveFootprint(of: Tracked): void {
    this.footprint.leave({ identifier: of.identifier, leaseMs: of.leaseMs }, this.#clock.monotonicMs());
  }

  get #clock(): Clock {
    return this.#participant.clock;
  }

  #onAnswer<Answer>(question: Question<Answer>, answer: Answer): void {
    if (question !== this.question) return this.#onLate(question);
    this.question = undefined;
    this.asked = question.at;
    const now = question.answered = momentOf(this.#clock);
    this.answeredMs = now.monotonic;
    this.#isAnswering = true;
    try {
      question.tell(this.#lock, answer);
      this.#lock.hearNews();
    } catch (error) {
      return this.fail(error, question.at.monotonic);
    } finally {
      this.#isAnswering = false;
    }
    this.#lock.goOn(now);
  }

  #onError(question: Question<unknown>, error: unknown): void {
    if (question === this.question) this.#onFailure(question, error);
    else this.#onLate(question, error);
  }

  /** It has failed, or was not answered in time. */
  #onFailure(question: Question<unknown>, error: unknown): void {
    this.question = undefined;
    if (question instanceof Commit) this.mayHaveDone(question);
    this.fail(error, question.at.monotonic);
  }

  /** It has an outcome that no caller waits for any more: what was asked has perhaps been done just now. */
  #onLate(question: Question<unknown>, error?: unknown): void {
    this.#participant.owedAnswers--;
    if (!(question instanceof Commit) || question.trace === undefined) return;
    if (error !== undefined && !isTransient(error)) return;
    this.#participant.lock(this.#lock.key).mayHaveLeft(question.trace);
  }

  /** What may have been left could not be cleared away; it ends with its lease. */
  #giveUp(error: unknown): void {
    const { identifier } = this.footprint.of ?? { identifier: this.#lock.key };
    this.footprint.clear();
    this.#members.queuedIn = undefined;
    publishBackendError(identifier, backendError(identifier, "stop waiting for", error));
  }
}

/** For how long one answer is waited for. Leaves room in all but short leases for a second question. */
export function answerMs(leaseMs: number): number {
  return leaseMs === Infinity ? LEAST_ANSWER_MS : Math.max(leaseMs / 3, LEAST_ANSWER_MS);
}
