import process from "node:process";
import { LockAcquisitionError, LockBackendError, LockLostError } from "../../core/errors.ts";
import type { LockEvents } from "../../core/events.ts";
import type { Hold, Holder, LockRecord, Participant } from "./core.ts";
import { granted, MAX_QUEUE } from "./core.ts";
import { type Rule, ruled } from "./exemptions.ts";
import type { Mark, Marks } from "./marks.ts";
import type { SimProcess } from "./process.ts";
import type { Schedule, Weather } from "./schedule.ts";
import type { Applied, Request } from "./store.ts";
import type { World } from "./world.ts";

/** An error that the simulation itself throws, where a caller or a listener does. */
export class PlannedError extends Error {}

/** For how long every answer is waited for at least. */
const LEAST_LIMIT_MS = 1000;

/** What callers cancel with. */
export const CANCELLED = new Error("cancelled by the caller");

/** Someone who asks for a lock. */
export interface Ask {
  readonly process: SimProcess;
  readonly participant: Participant;
  readonly key: string;
  readonly mayWait: boolean;
  readonly controller: AbortController;
  readonly askedMs: number;
  /** Names it on the channels. */
  id?: number;
  outcome?: "acquired" | "bailed";
  grant?: Grant;
}

/** A lock as the invariants follow it from its grant on. */
export interface Grant {
  readonly ask: Ask;
  readonly hold: Hold;
  readonly grantedMs: number;
  /** Since when its caller releases it. */
  releasingMs?: number;
  /** What `release` came to. */
  released?: boolean;
  /** Another process has taken it out of the record without saying so. */
  removedBy?: SimProcess;
  end?: "lost" | "released";
  endMs?: number;
  /** The commit by which its process has taken it out of the record. */
  removal?: Request;
}

/** What is known of one key. */
interface Lock {
  /** The grants of each token, the last one last. */
  readonly named: Map<string, Applied[]>;
  /** The commit that has put each participant in the queue. */
  readonly joined: Map<string, Request>;
  readonly grants: Map<string, Grant>;
  /** What became of grants that were taken away openly, by their fencing tokens. */
  readonly evictions: Map<string, "stolen" | "forced">;
  /** Grants that nobody in the record owes an end to, and that may still be believed in. */
  believed: Grant[];
  /** Since when nobody can believe to hold it, as far as the record tells. */
  freeMs: number;
  /** Until when the holder in the record may believe that it holds. */
  leaseEndMs: number;
  /** Whether the store has failed somebody here, who then could not do what it had to. */
  failed: boolean;
  /** When its holders last changed, or anybody was at work. */
  busyMs: number;
}

type Name = keyof LockEvents;

/** Watches a run and remembers the first law that it violates. */
export class Invariants {
  readonly marks: Marks = {};
  /** Is shown what happens, where somebody wants to see it. */
  readonly trace: ((what: string, more: unknown) => void) | undefined;
  readonly #world: World;
  readonly #weather: Weather;
  readonly #schedule: Schedule;
  readonly #asked: (rule: Rule) => boolean;
  readonly #locks = new Map<string, Lock>();
  readonly #asks = new Map<number, Ask>();
  readonly #participants = new Map<string, { participant: Participant; process: SimProcess }>();
  /** Those of each participant and key that may wait and have no outcome yet, in the order in which they asked. */
  readonly #waiting = new Map<Participant, Map<string, Ask[]>>();
  readonly #underway = new Set<Request>();
  /** Whoever asks now: its acquisition begins in this very call. */
  #entering: Ask | undefined;
  #lastVersion = "";
  #healedMs = Infinity;
  #violation: Error | undefined;

  constructor(world: World, weather: Weather, schedule: Schedule) {
    this.#world = world;
    this.#weather = weather;
    this.#schedule = schedule;
    this.#asked = ruled(schedule, weather);
    if (process.env.SIM_TRACE === "yes") {
      this.trace = (what, more) => console.log(world.now.toFixed(1), what, JSON.stringify(more));
    }
  }

  violate(law: number, message: string): void {
    this.#violation ??= new Error(`Law ${law} broken at ${this.#world.now.toFixed(3)} ms: ${message}`);
  }

  check(condition: boolean, law: number, message: string): void {
    if (!condition) this.violate(law, message);
  }

  checkError(error: unknown): void {
    const known = error === CANCELLED || error instanceof PlannedError ||
      error instanceof LockAcquisitionError || error instanceof LockBackendError ||
      error instanceof LockLostError;
    this.check(known, 7, `an error without a name: ${(error as Error)?.stack ?? error}`);
  }

  throwViolation(): void {
    if (this.#violation !== undefined) throw this.#violation;
  }

  mark(mark: Mark): void {
    this.marks[mark] = (this.marks[mark] ?? 0) + 1;
  }

  onParticipant(participant: Participant, process: SimProcess): void {
    this.#participants.set(participant.secret, { participant, process });
    this.#participants.set(participant.seatId, { participant, process });
  }

  /** Somebody is about to ask, in the same call. */
  onAsk(ask: Ask): void {
    this.#entering = ask;
    this.#lock(ask.key);
    const others = [...this.#participants.values()].some(({ process, participant }) =>
      process === ask.process && participant !== ask.participant &&
      this.#waitingOf(participant, ask.key).length > 0
    );
    if (others) this.mark("two participants of a process wanted one lock");
    if (ask.mayWait) this.#waitingOf(ask.participant, ask.key).push(ask);
  }

  /** Its call has come back without the lock, or its work under the lock is done. */
  onDone(ask: Ask, error: unknown): void {
    if (error !== undefined) this.checkError(error);
    this.check(ask.outcome !== undefined, 7, `an acquisition of ${ask.process.name} ended without an event`);
  }

  onReleasing(ask: Ask): void {
    const { grant } = ask;
    if (grant === undefined || grant.releasingMs !== undefined) return;
    grant.releasingMs = ask.process.now;
    this.#busy(ask.key, ask.process.now);
  }

  onReleased(ask: Ask, released: boolean): void {
    const { grant } = ask;
    if (grant === undefined) return;
    this.check(
      grant.released === undefined || grant.released === released,
      7,
      "a second release said something else",
    );
    grant.released = released;
  }

  /** Something was done to a process or to the store. */
  onFault(): void {
    for (const lock of this.#locks.values()) lock.busyMs = Math.max(lock.busyMs, this.#world.now);
  }

  /** The store's records are those of some time ago. */
  onForgotten(records: (key: string) => LockRecord): void {
    this.mark("the store forgot");
    this.#lastVersion = "";
    for (const [key, lock] of this.#locks) {
      const { holders } = records(key);
      lock.freeMs = holders.length === 0 ? this.#world.now : Infinity;
      lock.leaseEndMs = this.#world.now;
    }
  }

  onHealed(): void {
    this.#healedMs = this.#world.now;
    this.onFault();
    const waiting = [...this.#waiting.values()].some((keys) =>
      [...keys.values()].some((asks) => asks.length > 0)
    );
    if (waiting) this.mark("a waiter waited when the faults ended");
  }

  /** A process that stood still runs again: its first look must tell it what it has lost meanwhile. */
  onAwake(process: SimProcess): void {
    this.onFault();
    if (!process.runs) return;
    for (const key of this.#locks.keys()) this.#checkBeliefs(key);
  }

  onSent(request: Request): void {
    const { process, changes } = request;
    this.#underway.add(request);
    const [{ key, value }] = changes;
    if (!process.stalledThisTurn) return;
    const lock = this.#lock(key);
    const holders = value === null ? [] : (JSON.parse(value) as LockRecord).holders;
    const releasing = [...lock.grants.values()].some(({ ask, hold, releasingMs, removal }) =>
      ask.process === process && releasingMs !== undefined && removal === undefined &&
      holders.every(({ token }) => token !== hold.token)
    );
    if (releasing) return this.mark("stood still in a clock read while releasing");
    const mine = holders.find(({ token }) => this.#participants.get(secretOf(token))?.process === process);
    if (mine === undefined) return;
    if (lock.grants.has(mine.token)) this.mark("stood still in a clock read while renewing");
    else this.mark("stood still in a clock read while claiming");
  }

  onRefused(why: "clock" | "size"): void {
    this.mark(why === "clock" ? "refused by the store's clock" : "too large for the store");
  }

  onEvent<Event extends Name>(name: Event, message: LockEvents[Event]): Ask | undefined {
    if ("id" in message) {
      const { id, ...rest } = message;
      const ask = this.#asks.get(id) ?? this.#entering;
      this.trace?.(`${ask?.process.name} at ${ask?.process.now.toFixed(1)}: ${name} ${id}`, rest);
    }
    if (name === "holdfast:wait-start") {
      const ask = this.#entering;
      const { id } = message as LockEvents["holdfast:wait-start"];
      if (ask !== undefined) {
        this.#entering = undefined;
        ask.id = id;
        this.#asks.set(id, ask);
      }
      return ask;
    }
    if (name === "holdfast:backend-error") {
      for (const lock of this.#locks.values()) lock.failed = true;
    }
    if (!("id" in message)) return;
    const ask = this.#asks.get(message.id);
    if (ask === undefined) return;
    if (name === "holdfast:acquired") this.#onAcquired(ask);
    else if (name === "holdfast:bailed") this.#onBailed(ask, message as LockEvents["holdfast:bailed"]);
    else if (name === "holdfast:lost") {
      const { reason } = message as LockEvents["holdfast:lost"];
      if (reason !== "released") this.mark(`lost: ${reason}`);
      this.#onEnd(ask, "lost");
    } else if (name === "holdfast:released") {
      if ((message as LockEvents["holdfast:released"]).error !== undefined) this.#lock(ask.key).failed = true;
      this.#onEnd(ask, "released");
    }
    return ask;
  }

  onApplied(applied: Applied): void {
    const { key, request, process, version, before, after } = applied;
    this.trace?.(
      `${process.name} writes ${key.slice(0, 10)} ${version.slice(4)}, sent at ${request.sentMs.toFixed(1)}`,
      after,
    );
    const lock = this.#lock(key);
    if (this.#asked("fences rise")) {
      this.check(
        version > this.#lastVersion,
        3,
        `version ${version} does not rise over ${this.#lastVersion}`,
      );
    }
    this.#lastVersion = version;
    for (const { token, reason } of after.evicted ?? []) {
      const evicted = before.holders.some((holder) => holder.token === token);
      if (!evicted || (reason !== "stolen" && reason !== "forced")) continue;
      lock.evictions.set(lock.named.get(token)!.at(-1)!.version, reason);
    }
    const granted = after.holders.filter(({ token }) => !before.holders.some((was) => was.token === token));
    const removed = before.holders.filter(({ token }) => !after.holders.some((now) => now.token === token));
    for (const holder of granted) this.#checkOrder(lock, holder, applied);
    for (const holder of granted) this.#onNamed(lock, holder, applied);
    for (const holder of after.holders) {
      const was = before.holders.find(({ token }) => token === holder.token);
      if (was === undefined) continue;
      if (this.#ownerOf(holder) === process) {
        const unknown = !lock.grants.has(holder.token) && was.renewals !== holder.renewals;
        if (unknown && lock.named.get(holder.token)?.at(-1)?.request.answer === "came") {
          this.mark("lease over when the answer came");
        }
        continue;
      }
      const unchanged = JSON.stringify({ ...holder, fence: 0 }) === JSON.stringify({ ...was, fence: 0 });
      this.check(unchanged, 4, `${process.name} changed the hold of another process`);
    }
    for (const holder of removed) this.#onRemoved(lock, holder, applied);
    if (granted.length + removed.length > 0) this.#busy(key);
    const [holder] = after.holders;
    if (holder === undefined) {
      // It is free since its lease was over, or since the commit that frees it was made.
      if (lock.freeMs === Infinity) lock.freeMs = Math.min(request.madeMs, lock.leaseEndMs);
    } else {
      lock.freeMs = Infinity;
      const was = before.holders.find(({ token }) => token === holder.token);
      if (was?.renewals !== holder.renewals) {
        lock.leaseEndMs = request.madeMs + holder.leaseMs;
        this.#busy(key);
      }
    }
    for (const { seat } of after.queue) {
      if (!before.queue.some((waiter) => waiter.seat === seat)) lock.joined.set(seat, request);
    }
    if (after.queue.length === MAX_QUEUE) this.mark("a queue of 64");
    this.#checkBeliefs(key);
  }

  /** Nothing happens any more: those who live have left nothing, unless they could not know or the store failed. */
  atRest(records: (key: string) => LockRecord): void {
    for (const [key, lock] of this.#locks) {
      const { holders, queue } = records(key);
      if (lock.failed) continue;
      for (const { seat } of queue) {
        const { process } = this.#participants.get(seat)!;
        const by = lock.joined.get(seat);
        this.check(!this.#knows(process, by), 6, `${process.name} has left itself in the queue`);
      }
      for (const { token } of holders) {
        const process = this.#ownerOf({ token })!;
        const by = lock.named.get(token)?.at(-1)?.request;
        this.check(!this.#knows(process, by), 6, `${process.name} has left itself as the holder`);
      }
    }
  }

  atEnd(processes: readonly SimProcess[], quiet: boolean): void {
    this.check(quiet, 6, "something still happens long after all work is done");
    for (const lock of this.#locks.values()) {
      for (const { ask: { process }, hold, released, end } of lock.grants.values()) {
        if (!process.alive) continue;
        this.check(end !== undefined, 2, `a hold of ${process.name} has neither been released nor lost`);
        const told = process.look(() => hold.lost !== undefined && hold.signal.aborted);
        const reason = lock.evictions.get(hold.fencingToken);
        if (released === false) this.check(told, 2, `${process.name} lost the lock and was not told`);
        if (released === true) this.check(!told, 2, `${process.name} released the lock and was told a loss`);
        if (reason !== undefined && this.#asked("evicted hear of it")) {
          this.check(released !== true, 4, `${process.name} released a lock that had been ${reason}`);
        }
      }
    }
    for (const process of processes) {
      if (!process.alive) continue;
      this.check(process.timers.size === 0, 6, `${process.name} has ${process.timers.size} timers left`);
    }
    for (const { participant, process } of this.#participants.values()) {
      if (!process.alive) continue;
      this.check(
        participant.busy === 0,
        6,
        `${process.name} is still busy with ${participant.busy} acquisitions`,
      );
      this.check(
        participant.queues.size === 0,
        6,
        `${process.name} still has ${participant.queues.size} queues`,
      );
    }
  }

  /** Another one of the same participant that waits for the same lock. */
  waitingWith({ participant, key }: Ask): Ask | undefined {
    return this.#waitingOf(participant, key).at(-1);
  }

  /** Of all locks that were asked for. */
  get keys(): string[] {
    return [...this.#locks.keys()];
  }

  /** Whether a process must know of a commit of its own: it was answered while it waited, and was not repeated. */
  #knows(process: SimProcess, by: Request | undefined): boolean {
    if (!process.alive || by === undefined || by.answer !== "came" || by.applied !== 1) return false;
    return by.cameMs !== undefined && by.cameMs - by.sentMs < LEAST_LIMIT_MS && this.#asked("nothing left");
  }

  #onAcquired(ask: Ask): void {
    const { process, participant, key } = ask;
    this.check(ask.outcome === undefined, 7, `an acquisition of ${process.name} has two outcomes`);
    ask.outcome = "acquired";
    this.mark("a lock granted");
    if (key.length > 170) this.mark("a hold of a long identifier");
    const hold = granted.get(ask.id!)!;
    const lock = this.#lock(key);
    const grant: Grant = { ask, hold, grantedMs: process.now };
    ask.grant = grant;
    const waiting = this.#waitingOf(participant, key);
    const place = waiting.indexOf(ask);
    if (place >= 0) {
      this.check(place === 0, 5, `${process.name} granted a waiter before one that came earlier`);
      waiting.splice(place, 1);
    }
    const named = lock.named.get(hold.token) ?? [];
    const by = named.find(({ version }) => version === hold.fencingToken);
    this.check(by !== undefined, 3, `fencing token ${hold.fencingToken} is not the version of its grant`);
    if (by !== undefined && by.request.answer !== "came" && by.process === process) {
      this.mark("granted by a commit whose answer was lost");
    }
    lock.grants.set(hold.token, grant);
    lock.believed.push(grant);
    this.#busy(key, process.now);
    process.act(() => this.#checkBeliefs(key));
  }

  #onBailed(ask: Ask, { outcome, error }: LockEvents["holdfast:bailed"]): void {
    const { process, participant, key } = ask;
    this.check(ask.outcome === undefined, 7, `an acquisition of ${process.name} has two outcomes`);
    ask.outcome = "bailed";
    this.checkError(error);
    const waiting = this.#waitingOf(participant, key);
    const place = waiting.indexOf(ask);
    if (place >= 0) waiting.splice(place, 1);
    if (outcome === "failed" && /cannot be read/.test(String(error))) {
      this.mark("no record: refused");
    }
    if (outcome === "failed" && /no permission/.test(String(error))) this.mark("no permission: refused");
    if (outcome !== "cancelled") return;
    for (const request of this.#underway) {
      if (request.process !== process || request.answer !== "due") continue;
      const [{ value }] = request.changes;
      if (request.changes[0].key !== key || value === null) continue;
      const { holders, queue } = JSON.parse(value) as LockRecord;
      if (holders.some(({ token }) => token === `${participant.secret}:${ask.id}`)) {
        this.mark("cancelled while it was granted");
      } else if (queue.some(({ seat }) => seat === participant.seatId)) {
        this.mark("cancelled while it was joining the queue");
      }
    }
  }

  #onEnd(ask: Ask, end: "lost" | "released"): void {
    const { grant, process } = ask;
    if (grant === undefined) return;
    this.check(grant.end === undefined, 7, `a hold of ${process.name} was ${grant.end} and then ${end}`);
    grant.end = end;
    grant.endMs = process.now;
    if (end === "released" && grant.removal?.answer === "lost") {
      this.mark("released, and the answer was lost");
    }
    this.#busy(ask.key, process.now);
  }

  #onNamed(lock: Lock, { token }: Holder, applied: Applied): void {
    const { process, before } = applied;
    const named = lock.named.get(token);
    const ask = this.#asks.get(Number(token.slice(token.lastIndexOf(":") + 1)));
    if (ask !== undefined && ask.outcome === undefined) this.#checkDelay(ask);
    if (lock.grants.has(token)) {
      this.mark("a ghost: a grant that landed when the same had been granted and released");
    } else if (ask?.outcome === "bailed") {
      this.mark("a ghost: a grant that landed when its acquisition was over");
    }
    if (named === undefined) lock.named.set(token, [applied]);
    else named.push(applied);
    const owner = this.#ownerOf({ token });
    if (before.holders.some((holder) => this.#ownerOf(holder) === process && owner === process)) {
      this.mark("handed on by its release");
    }
    if (before.queue.length > 0 && before.holders.length === 0) this.mark("handed on to another process");
  }

  /** Law 4, and law 1 from the other side: only one's own, the lapsed and the openly evicted are removed. */
  #onRemoved(lock: Lock, holder: Holder, { process, request }: Applied): void {
    const grant = lock.grants.get(holder.token);
    if (grant === undefined) {
      const by = lock.named.get(holder.token)?.at(-1);
      if (by !== undefined && by.request.answer !== "came" && lock.evictions.get(by.version) === "stolen") {
        this.mark("granted unknown to its process, and stolen meanwhile");
      }
      return;
    }
    if (grant.ask.process === process) {
      grant.removal = request;
      return;
    }
    const { fencingToken } = grant.hold;
    if (lock.evictions.has(fencingToken) || lock.named.get(holder.token)!.at(-1)!.version !== fencingToken) {
      return;
    }
    grant.removedBy = process;
  }

  /** Nobody overtakes a waiter that is alive and in the queue before its grace is over. */
  #checkOrder(lock: Lock, { token }: Holder, { process, before }: Applied): void {
    const claimant = this.#participants.get(secretOf(token))?.participant;
    const place = before.queue.findIndex(({ seat }) => seat === claimant?.seatId);
    const ahead = before.queue.slice(0, place < 0 ? undefined : place);
    if (ahead.length === 0 || before.holders.some((holder) => holder.token === token)) return;
    let waiting = false;
    for (const { seat } of ahead) {
      const { process, participant } = this.#participants.get(seat)!;
      if (!process.alive) this.mark("a dead waiter passed");
      else if (process.runs && this.#waitingOf(participant, this.#keyOf(lock)).length > 0) waiting = true;
    }
    if (!waiting) return;
    this.mark("a live waiter overtaken after its grace");
    if (!this.#asked("order")) return;
    this.check(this.#weather !== "calm", 5, "a grant passed over a live waiter");
    // Who has given up its hold, or found its lease over, knows before others can that the lock is free.
    const freeMs = before.holders.reduce((since, holder) => {
      const grant = lock.grants.get(holder.token);
      return Math.min(since, grant?.releasingMs ?? Infinity, grant?.endMs ?? Infinity, lock.leaseEndMs);
    }, lock.freeMs);
    const forMs = this.#world.now - freeMs;
    const leastMs = ahead.length * this.#schedule.graceMs;
    this.check(
      forMs >= 0.98 * leastMs - 5,
      5,
      `${process.name} went past ${ahead.length} in the queue ${forMs.toFixed(0)} ms after the lock was free`,
    );
  }

  /** Of those that run, at most one believes to hold, and nobody whose hold another has removed. */
  #checkBeliefs(key: string): void {
    if (!this.#asked("exclusive")) return;
    const lock = this.#lock(key);
    if (lock.believed.length === 0) return;
    let first: Grant | undefined;
    lock.believed = lock.believed.filter((grant) => {
      const { ask: { process }, hold, removedBy, releasingMs } = grant;
      if (releasingMs !== undefined || grant.end !== undefined || !process.alive) return false;
      // Looking may end the belief: it is done only where somebody else may believe the same.
      if (!process.runs || (removedBy === undefined && lock.believed.length === 1)) return true;
      if (!process.look(() => hold.held)) return false;
      if (lock.evictions.has(hold.fencingToken)) return true;
      if (removedBy !== undefined) {
        this.violate(1, `${removedBy.name} removed the hold that ${process.name} believes in`);
      }
      if (first !== undefined) {
        this.violate(1, `${first.ask.process.name} and ${process.name} both hold the lock`);
      }
      first = grant;
      return true;
    });
  }

  /** Once nothing goes wrong any more, a lock stands idle before a live waiter only until the dead are passed. */
  #checkDelay({ key, askedMs, process }: Ask): void {
    const { processes, graceMs } = this.#schedule;
    const lock = this.#lock(key);
    const idleMs = this.#world.now - Math.max(askedMs, lock.busyMs, this.#healedMs);
    const leaseMs = Math.max(
      2000,
      ...processes.flatMap(({ callers }) => callers.flat().map((round) => round.leaseMs)),
    );
    const boundMs = 2.1 * leaseMs + 2 * Math.max(1000, leaseMs / 3) + 2 * (processes.length + 1) * graceMs +
      3000;
    this.check(
      idleMs <= boundMs,
      5,
      `the lock was idle for ${idleMs.toFixed(0)} ms before ${process.name} got it, not ${
        boundMs.toFixed(0)
      }`,
    );
  }

  #busy(key: string, nowMs = this.#world.now): void {
    const lock = this.#lock(key);
    lock.busyMs = Math.max(lock.busyMs, nowMs);
  }

  #ownerOf({ token }: Pick<Holder, "token">): SimProcess | undefined {
    return this.#participants.get(secretOf(token))?.process;
  }

  #keyOf(lock: Lock): string {
    for (const [key, other] of this.#locks) if (other === lock) return key;
    return "";
  }

  #lock(key: string): Lock {
    let lock = this.#locks.get(key);
    if (lock === undefined) {
      lock = {
        named: new Map(),
        joined: new Map(),
        grants: new Map(),
        evictions: new Map(),
        believed: [],
        freeMs: 0,
        leaseEndMs: 0,
        failed: false,
        busyMs: 0,
      };
      this.#locks.set(key, lock);
    }
    return lock;
  }

  #waitingOf(participant: Participant, key: string): Ask[] {
    let keys = this.#waiting.get(participant);
    if (keys === undefined) this.#waiting.set(participant, keys = new Map());
    let asks = keys.get(key);
    if (asks === undefined) keys.set(key, asks = []);
    return asks;
  }
}

/** The part of a token that names its participant. */
function secretOf(token: string): string {
  return token.slice(0, token.lastIndexOf(":"));
}
