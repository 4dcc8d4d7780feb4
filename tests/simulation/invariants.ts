import process from "node:process";
import { LockAcquisitionError, LockBackendError, LockLostError } from "../../core/errors.ts";
import type { LockEvents } from "../../core/events.ts";
import type { Hold, Holder, LockRecord, Participant, Party, QueueEntry, QueueRecord } from "./core.ts";
import {
  admits,
  entryOf,
  granted,
  isInTransit,
  isKept,
  keptTokenOf,
  localTurnMs,
  lockKeyOf,
  MAX_QUEUE,
  type Mode,
  participantIn,
  requestOf,
  secretOf,
} from "./core.ts";
import { Claims } from "./claims.ts";
import { type Rule, ruled } from "./exemptions.ts";
import type { Mark, Marks } from "./marks.ts";
import { EPOCH_MS, type SimProcess } from "./process.ts";
import type { Schedule, Weather } from "./schedule.ts";
import { type Applied, locksWrittenBy, type Records, type Request, type WrittenLock } from "./store.ts";
import type { World } from "./world.ts";

/** An error that the simulation itself throws, where a caller or a listener does. */
export class PlannedError extends Error {}

/** How much may happen in one schedule: the most that ever did is a tenth of this. */
const MAX_EVENTS = 200_000;

/** For how long every answer is waited for at least. */
const LEAST_LIMIT_MS = 1000;

/** What callers cancel with. */
export const CANCELLED = new Error("cancelled by the caller");

/** A caller that asks for a lock. */
export interface Ask {
  readonly process: SimProcess;
  /** What waits in queues: its participant, or what stands for that if it asks for several locks. */
  participant: Party;
  /** The locks that it asks for, and how it is to hold each. */
  readonly keys: readonly string[];
  readonly modes: readonly Mode[];
  readonly mayWait: boolean;
  /** Whether it goes before the queue. */
  readonly goesFirst: boolean;
  /** The token of what it takes up, if that was handed over. */
  readonly restores?: string;
  readonly holdAtLeastMs: number | undefined;
  readonly controller: AbortController;
  readonly askedMs: number;
  /** Names it on the channels. */
  id?: number;
  outcome?: "acquired" | "bailed";
  /** The first commit that has queued it, if it asks for several locks. */
  queuedBy?: Request;
  /** What it was granted: one for each lock. */
  grants?: readonly Grant[];
}

/** A lock as the invariants follow it from its grant on. */
export interface Grant {
  readonly ask: Ask;
  /** Which of the locks of its hold. */
  readonly key: string;
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

/** What is known of one key. A hold is its token and its fencing token: `idOf` both. */
interface Lock {
  /** The commit that has made each hold, and the last one that has named its token. */
  readonly named: Map<string, Applied>;
  /** When holds whose mode was changed were granted: their age counts from there. */
  readonly grantedMs: Map<string, number>;
  /** The commit that has put each participant in the queue, and when. */
  readonly joined: Map<string, { readonly request: Request; readonly atMs: number }>;
  /** The tokens that entries of the queue have had. */
  readonly entryTokens: Set<string>;
  /** What the callers have been granted, by hold, and the tokens of that. */
  readonly grants: Map<string, Grant>;
  readonly grantedTokens: Set<string>;
  /** Which process has taken each hold out of the record. */
  readonly removals: Map<string, SimProcess>;
  /** What became of holds that were taken away openly. */
  readonly evictions: Map<string, "stolen" | "forced">;
  /** Whether a process has been passed that had let its turn pass. */
  isOvertaken: boolean;
  /** Grants that no process in the record owes an end to, and that may still be believed in. */
  believed: Grant[];
  /** Which process has held it since when without a break. */
  turn: { readonly secret: string; readonly sinceMs: number } | undefined;
  /** When its last holder was named. */
  namedMs: number;
  /** To which processes it is offered now. */
  offeredTo: string | undefined;
  /** Since when no process can believe that it holds it, as far as the record shows. */
  freeMs: number;
  /** Until when each hold that has been released is kept. */
  readonly keptUntilMs: Map<string, number>;
  /** Until when the holder in the record may believe that it holds. */
  leaseEndMs: number;
  /** Until when each of them may. */
  readonly leaseEndsMs: Map<string, number>;
  /** Whether the store has failed a process here, which then could not do what it had to. */
  failed: boolean;
  /** When its holders last changed, or any process was at work. */
  busyMs: number;
}

type Name = keyof LockEvents;

/** Watches a run and remembers the first law that it violates. */
export class Invariants {
  readonly marks: Marks = {};
  /** Is shown what happens, where a caller wants to see it. */
  readonly trace: ((what: string, more: unknown) => void) | undefined;
  readonly #world: World;
  readonly #weather: Weather;
  readonly #schedule: Schedule;
  readonly #asked: (rule: Rule) => boolean;
  /** Judges what is handed over. */
  readonly claims: Claims;
  readonly #locks = new Map<string, Lock>();
  readonly #asks = new Map<number, Ask>();
  readonly #participants = new Map<string, { participant: Party; process: SimProcess }>();
  readonly #seats: { readonly participant: Participant; readonly process: SimProcess }[] = [];
  /** Those that ask for several locks, by what stands for them in queues. */
  readonly #groups = new Map<string, Ask>();
  /** Those of each participant and key that may wait and have no outcome yet, in the order in which they asked. */
  readonly #waiting = new Map<Party, Map<string, Ask[]>>();
  readonly #underway = new Set<Request>();
  /** The caller that asks now: its acquisition begins in this very call. */
  #entering: Ask | undefined;
  #lastVersion = "";
  #lastRequest: Request | undefined;
  #healedMs = Infinity;
  #violation: Error | undefined;

  constructor(world: World, weather: Weather, schedule: Schedule) {
    this.#world = world;
    this.#weather = weather;
    this.#schedule = schedule;
    this.#asked = ruled(schedule, weather);
    this.claims = new Claims({
      weather,
      asked: this.#asked,
      nowMs: () => world.now,
      check: (condition, law, message) => this.check(condition, law, message),
      mark: (mark) => this.mark(mark),
    });
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
    // Most are known, and to read a stack costs more than to make the error.
    if (!known) this.violate(7, `an error without a name: ${(error as Error)?.stack ?? error}`);
  }

  throwViolation(): void {
    this.check(this.#world.events < MAX_EVENTS, 5, `${MAX_EVENTS} things have happened, and there is no end`);
    if (this.#violation !== undefined) throw this.#violation;
  }

  mark(mark: Mark): void {
    this.marks[mark] = (this.marks[mark] ?? 0) + 1;
  }

  onParticipant(participant: Participant, process: SimProcess): void {
    this.#seats.push({ participant, process });
    this.onParty(participant, process);
  }

  /** A caller asks for several locks: from now on others see in that a separate process. */
  onGroup(names: Party): void {
    const ask = this.#entering!;
    this.onParty(names, ask.process);
    this.#groups.set(names.id, ask);
    ask.participant = names;
    if (ask.mayWait) { for (const key of ask.keys) this.#waitingOf(names, key).push(ask); }
  }

  /** What stands for a process in queues, or for several locks that it asks for. */
  onParty(participant: Party, process: SimProcess): void {
    this.#participants.set(participant.secret, { participant, process });
    this.#participants.set(participant.id, { participant, process });
  }

  /** A caller is about to ask, in the same call. */
  onAsk(ask: Ask): void {
    this.#entering = ask;
    for (const key of ask.keys) this.#lock(key);
    const others = [...this.#participants.values()].some(({ process, participant }) =>
      process === ask.process && participant !== ask.participant &&
      ask.keys.some((key) => this.#waitingOf(participant, key).length > 0)
    );
    if (others) this.mark("two participants of a process wanted one lock");
    const [key, ...more] = ask.keys;
    if (ask.mayWait && more.length === 0) this.#waitingOf(ask.participant, key).push(ask);
  }

  /** Its call has come back without the lock, or its work under the lock is done. */
  onDone(ask: Ask, error: unknown): void {
    if (error !== undefined) this.checkError(error);
    this.check(ask.outcome !== undefined, 7, `an acquisition of ${ask.process.name} ended without an event`);
  }

  onReleasing(ask: Ask): void {
    for (const grant of ask.grants ?? []) {
      if (grant.releasingMs !== undefined) continue;
      grant.releasingMs = ask.process.now;
      this.#busy(grant.key, ask.process.now);
    }
  }

  onReleased(ask: Ask, released: boolean): void {
    for (const grant of ask.grants ?? []) {
      this.check(
        grant.released === undefined || grant.released === released,
        7,
        "a second release said something else",
      );
      grant.released = released;
    }
  }

  /** A hold could not be changed: how several are held is said when they are asked for. */
  onNotChanged({ keys }: Ask, error: unknown): void {
    if (keys.length > 1 && error instanceof TypeError) {
      return this.mark("a change of mode of several locks refused");
    }
    this.checkError(error);
    if (/another holder is upgrading/.test(String(error))) {
      this.mark("an upgrade refused, as another waited for the same");
    } else if (error instanceof LockAcquisitionError) this.mark("an upgrade given up");
  }

  /** Something was done to a process or to the store. */
  onFault(): void {
    for (const lock of this.#locks.values()) lock.busyMs = Math.max(lock.busyMs, this.#world.now);
  }

  /** The store's records are those of some time ago. */
  onForgotten(records: (key: string) => Records): void {
    this.mark("the store forgot");
    this.#lastVersion = "";
    for (const [key, lock] of this.#locks) {
      const { lock: { holders } } = records(key);
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

  /** A process that stood still runs again: its first look must show it what it has lost meanwhile. */
  onAwake(process: SimProcess): void {
    this.onFault();
    if (!process.runs) return;
    for (const key of this.#locks.keys()) this.#checkBeliefs(key);
  }

  onSent(request: Request): void {
    const { process } = request;
    this.#underway.add(request);
    if (!process.stalledThisTurn) return;
    for (const written of locksWrittenBy(request)) this.#onSentWhileStill(process, written);
  }

  #onSentWhileStill(process: SimProcess, { key, holders }: WrittenLock): void {
    const lock = this.#lock(key);
    const releasing = [...lock.grants.values()].some(({ ask, hold, releasingMs, removal }) =>
      ask.process === process && releasingMs !== undefined && removal === undefined &&
      holders.every(({ token }) => token !== hold.token)
    );
    if (releasing) return this.mark("stood still in a clock read while releasing");
    const mine = holders.find(({ token }) => this.#ownerOf({ token }) === process);
    if (mine === undefined) return;
    if (lock.grantedTokens.has(mine.token)) this.mark("stood still in a clock read while renewing");
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
      if (reason !== "released" && reason !== "handed-over") this.mark(`lost: ${reason}`);
      const isLeftToLapse = reason === "expired" && ask.grants?.[0].hold.options.renew === false;
      if (isLeftToLapse && ask.keys.length > 1) this.mark("several locks that are not renewed lapsed");
      this.#onEnd(ask, "lost");
    } else if (name === "holdfast:late") {
      const { leftMs } = message as LockEvents["holdfast:late"];
      const [{ hold }] = ask.grants!;
      this.check(hold.lost === undefined && leftMs >= 0, 2, `${ask.process.name} was warned of what is over`);
      this.mark("warned: a renewal is late");
    } else if (name === "holdfast:mode-changed") {
      const { mode } = message as LockEvents["holdfast:mode-changed"];
      const [key] = ask.keys;
      const [{ hold }] = ask.grants!;
      const by = this.#lock(key).named.get(idOf(hold));
      this.check(by !== undefined, 3, "the fencing token of a changed hold is not the version of its grant");
      if (by?.request.answer !== "came") this.mark("a change of mode whose answer was lost");
      if (hold.wantedMode?.to === "shared" && mode === "exclusive") {
        this.mark("an upgrade that nobody wanted any more was taken back");
      }
      this.mark(mode === "shared" ? "the only one became a reader" : "a reader became the only one");
      this.#busy(key, ask.process.now);
      ask.process.act(() => this.#checkBeliefs(key));
    } else if (name === "holdfast:released") {
      if ((message as LockEvents["holdfast:released"]).error !== undefined) {
        for (const key of ask.keys) this.#lock(key).failed = true;
      }
      this.#onEnd(ask, "released");
    }
    return ask;
  }

  onApplied(applied: Applied): void {
    const { key, request, process, version, before, after } = applied;
    this.trace?.(
      `${process.name} writes ${key.slice(0, 10)} ${version.slice(4)}, sent at ${request.sentMs.toFixed(1)}`,
      { wrote: applied.wrote, ...after },
    );
    const lock = this.#lock(key);
    if (this.#asked("fences rise")) {
      // One commit may write several locks.
      const isSame = version === this.#lastVersion && request === this.#lastRequest;
      this.check(
        version > this.#lastVersion || isSame,
        3,
        `version ${version} does not rise over ${this.#lastVersion}`,
      );
    }
    this.#lastVersion = version;
    this.#lastRequest = request;
    if (before.isVoid && !after.isVoid) this.mark("a void queue swept");
    if (applied.wrote.lock) this.#onLockWritten(lock, applied);
    const owners = after.entries.map(({ participant }) => participantIn(participant));
    if (new Set(owners).size < owners.length) this.mark("several of one process in the queue");
    for (const { participant, token } of after.entries) {
      lock.entryTokens.add(token);
      if (!before.entries.some((entry) => entry.participant === participant)) {
        lock.joined.set(participant, { request, atMs: this.#world.now });
        this.#checkJoined(participant, request);
      }
    }
    if (after.entries.length === MAX_QUEUE) this.mark("a queue of 64");
    this.#checkBeliefs(key);
  }

  /** A caller that asks for several locks is queued for all of them since one commit. */
  #checkJoined(participant: string, request: Request): void {
    const ask = this.#groups.get(participant);
    if (ask === undefined) return;
    const isIn = (key: string) =>
      request.changes.some((change) =>
        change.key !== key && lockKeyOf(change.key) === key && change.value !== null &&
        (JSON.parse(change.value) as QueueRecord).entries.some((entry) => entry.participant === participant)
      );
    this.check(
      ask.keys.every(isIn),
      5,
      `${ask.process.name} is queued for some of the locks that it asks for`,
    );
    ask.queuedBy ??= request;
    this.mark("queued for several locks");
    if (ask.queuedBy !== request) this.mark("queued for several locks a second time");
  }

  /** All of several locks, or none of them: by one commit, under one fencing token. */
  #checkTogether(ask: Ask, { token }: Holder, { request }: Applied): void {
    const written = locksWrittenBy(request);
    const isNamed = (key: string) =>
      written.some((lock) => lock.key === key && lock.holders.some((holder) => holder.token === token));
    this.check(
      ask.keys.every(isNamed),
      1,
      `${ask.process.name} was granted some of the locks that it asks for`,
    );
  }

  #onLockWritten(lock: Lock, applied: Applied): void {
    const { key, request, process, before: { lock: before }, after: { lock: after } } = applied;
    for (const { token, reason } of after.notices ?? []) {
      const evicted = before.holders.find((holder) => holder.token === token);
      if (evicted === undefined || (reason !== "stolen" && reason !== "forced")) continue;
      lock.evictions.set(idOf(evicted), reason);
      // Whose mode has just been changed may not know it yet: it believes in the hold that it had before.
      const { formerFence } = evicted;
      if (formerFence !== undefined) lock.evictions.set(idOf({ ...evicted, fence: formerFence }), reason);
    }
    const changed = after.holders.filter((holder) => changedFrom(holder, before) !== undefined);
    for (const holder of changed) this.#onChanged(lock, holder, applied);
    const isNew = (holder: Holder) => !before.holders.some(isSame(holder));
    const granted = after.holders.filter((holder) =>
      isNew(holder) && !isKept(holder) && !isInTransit(holder) && !changed.includes(holder)
    );
    const removed = before.holders.filter((holder) =>
      !after.holders.some((other) => isSame(holder)(other) || changedFrom(other, before) === holder)
    );
    for (const holder of after.holders) {
      if (isNew(holder) && isKept(holder)) this.#onKept(lock, holder, applied);
      if (isNew(holder) && isInTransit(holder)) this.#onHandedOver(lock, holder, applied);
    }
    for (const notice of after.notices ?? []) {
      if (isInTransit(notice)) this.claims.onEvictedAtOnce(notice.token, applied);
    }
    const [next] = applied.after.entries;
    const saysSo = next?.turnMs !== undefined &&
      this.#participants.get(next.participant)?.process === process &&
      after.freedAt !== before.freedAt && before.freedAt !== undefined && granted.length === 0;
    if (saysSo) this.mark("one that waits for several said that it lives");
    if (granted.length > 1) this.mark("several granted by one commit");
    if (after.holders.length > 1) this.mark("several hold a lock together");
    this.#checkRoom(after);
    for (const holder of granted) this.#checkOrder(lock, holder, applied);
    for (const holder of granted) this.#onNamed(lock, holder, applied);
    for (const holder of after.holders) {
      const was = before.holders.find(isSame(holder));
      if (was === undefined) continue;
      if (this.#ownerOf(holder) === process) {
        const unknown = !lock.grants.has(idOf(holder)) && was.renewals !== holder.renewals;
        if (unknown && lock.named.get(idOf(holder))?.request.answer === "came") {
          this.mark("lease over when the answer came");
        }
        continue;
      }
      const unchanged = JSON.stringify({ ...holder, fence: 0 }) === JSON.stringify({ ...was, fence: 0 });
      this.check(unchanged, 4, `${process.name} changed the hold of another process`);
    }
    for (const holder of removed) this.#onRemoved(lock, holder, applied);
    for (const holder of after.holders) {
      if (before.holders.find(isSame(holder))?.renewals === holder.renewals) continue;
      lock.leaseEndsMs.set(idOf(holder), request.madeMs + holder.leaseMs);
    }
    if (granted.length + removed.length + changed.length > 0) this.#busy(key);
    for (const [i, holder] of after.holders.entries()) {
      const was = before.holders.find(isSame(holder));
      if (i > 0 && was?.renewals !== holder.renewals) this.#busy(key);
    }
    const [holder] = after.holders;
    lock.offeredTo = holder?.offeredTo;
    if (holder === undefined) {
      // It is free since its lease was over, or since the commit that frees it was made.
      if (lock.freeMs === Infinity) lock.freeMs = Math.min(request.madeMs, lock.leaseEndMs);
    } else {
      lock.freeMs = Infinity;
      const was = before.holders.find(isSame(holder));
      if (was?.renewals !== holder.renewals) {
        // An offer is over early where the time may be wrong: a process that watches it is not to see it lapse before.
        const isEarly = holder.offeredTo !== undefined && holder.expiresAt !== null;
        lock.leaseEndMs = request.madeMs + holder.leaseMs - (isEarly ? request.errorMs : 0);
        this.#busy(key);
      }
    }
  }

  /** A hold has been released, and stays. */
  #onKept(lock: Lock, holder: Holder, { process, before }: Applied): void {
    const was = before.lock.holders.find((was) =>
      keptTokenOf(was) === holder.token && was.fence === holder.fence
    );
    this.check(
      was !== undefined && this.#ownerOf(was) === process,
      4,
      `${process.name} keeps what was not its own`,
    );
    const grant = was && lock.grants.get(idOf(was));
    const leastMs = grant?.ask.holdAtLeastMs ?? 0;
    if (was !== undefined) lock.keptUntilMs.set(idOf(holder), this.#madeMs(lock, was) + leastMs);
    this.mark("kept after its release");
    if (grant !== undefined && grant.ask.keys.length > 1) this.mark("several locks kept after their release");
  }

  /** A hold has been handed over, and stays for the process that takes it up. */
  #onHandedOver(lock: Lock, holder: Holder, applied: Applied): void {
    const { key, process, before, after } = applied;
    const was = before.lock.holders.find((was) =>
      was.fence === holder.fence && !after.lock.holders.some(isSame(was))
    );
    const isOwn = was !== undefined && this.#ownerOf(was) === process;
    const keys = (was && lock.grants.get(idOf(was)))?.ask.keys ?? [key];
    this.claims.onWritten(holder, applied, { was, isOwn, keys });
  }

  /** What was handed over leaves the record. */
  #onClaimRemoved(lock: Lock, holder: Holder, applied: Applied): void {
    const { before, after } = applied;
    const taken = after.lock.holders.find((next) =>
      !before.lock.holders.some(isSame(next)) &&
      this.#asks.get(requestOf(next.token)!)?.restores === holder.token
    );
    this.claims.onRemoved(holder, applied, { taken, isEvicted: lock.evictions.has(idOf(holder)) });
  }

  /** Nothing happens any more: processes that live have left nothing, unless they could not know or the store failed. */
  atRest(records: (key: string) => Records): void {
    for (const [key, lock] of this.#locks) {
      const { lock: { holders }, entries } = records(key);
      if (lock.failed) continue;
      for (const { participant } of entries) {
        const { process } = this.#ofEntry(participant);
        const by = lock.joined.get(participant)?.request;
        this.check(!this.#knows(process, by), 6, `${process.name} has left itself in the queue`);
      }
      for (const holder of holders) {
        // What was offered to a process that has just left the queue may not be known to it: it is soon over.
        if (holder.offeredTo !== undefined || isKept(holder) || isInTransit(holder)) continue;
        const process = this.#ownerOf(holder)!;
        const by = lock.named.get(idOf(holder))?.request;
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
        const reason = lock.evictions.get(idOf(hold));
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
    for (const { participant, process } of this.#seats) {
      if (!process.alive) continue;
      for (const key of this.#locks.keys()) {
        const known = participant.known(key);
        this.check(known?.isBusy !== true, 6, `${process.name} is still busy with a lock`);
        this.check(known === undefined, 6, `${process.name} still knows a lock`);
      }
    }
  }

  /** Another one of the same participant that waits for the same lock. */
  waitingWith({ participant, keys }: Ask): Ask | undefined {
    return this.#waitingOf(participant, keys[0]).at(-1);
  }

  /** Of all locks that were asked for. */
  get keys(): string[] {
    return [...this.#locks.keys()];
  }

  /** Whether a process must know that its commit was made: it was answered while it waited, and was not repeated. */
  #knows(process: SimProcess, by: Request | undefined): boolean {
    if (!process.alive || by === undefined || by.answer !== "came" || by.applied !== 1) return false;
    return by.cameMs !== undefined && by.cameMs - by.sentMs < LEAST_LIMIT_MS && this.#asked("nothing left");
  }

  #onAcquired(ask: Ask): void {
    const { process, keys } = ask;
    this.check(ask.outcome === undefined, 7, `an acquisition of ${process.name} has two outcomes`);
    ask.outcome = "acquired";
    this.mark("a lock granted");
    const hold = granted.get(ask.id!)!;
    ask.grants = keys.map((key) => ({ ask, key, hold, grantedMs: process.now }));
    for (const grant of ask.grants) this.#onGranted(grant);
    if (keys.length === 1) return;
    this.mark("several locks granted together");
    const named = keys.map((key) => this.#lock(key).named.get(idOf(hold)));
    const by = named.map((applied) => applied?.request);
    this.check(by.every((request) => request === by[0]), 3, `${process.name} was granted by several commits`);
    if (by[0] !== undefined && by[0].answer !== "came") {
      this.mark("several locks granted, and the answer was lost");
    }
    if (new Set(ask.modes.map(({ mode }) => mode)).size > 1) this.mark("several locks in different modes");
    if (named.some((applied) => applied !== undefined && steals(applied))) {
      this.mark("several locks granted by stealing");
    }
  }

  #onGranted(grant: Grant): void {
    const { ask, key, hold } = grant;
    const { process, participant } = ask;
    if (key.length > 170) this.mark("a hold of a long identifier");
    const lock = this.#lock(key);
    const waiting = this.#waitingOf(participant, key);
    const place = waiting.indexOf(ask);
    const id = idOf(hold);
    const by = lock.named.get(id);
    const secret = secretOf(hold.token);
    // The release of one has granted it to another of the same participant: that is one turn.
    const goesOn = by?.before.lock.holders.some((was) =>
      secretOf(was.token) === secret && lock.grants.has(idOf(was))
    );
    if (lock.turn?.secret !== secret || !goesOn) lock.turn = { secret, sinceMs: process.now };
    if (place >= 0) {
      // What the same commit has granted to one before it comes by the same answer, or was over when that came.
      const isGranted = (earlier: Ask) =>
        by?.after.lock.holders.some(({ token }) => requestOf(token) === earlier.id) === true;
      // Those with separate entries go by their places there, which they may have lost.
      const isOwn = entryOf(ask.id) !== undefined;
      if (isOwn) this.mark("granted in an entry of its own");
      const isBefore = (earlier: Ask) => (entryOf(earlier.id) !== undefined) === isOwn && !ask.goesFirst;
      const isOrdered = !isOwn || (this.#weather === "calm" && !lock.isOvertaken);
      this.check(
        !isOrdered || waiting.slice(0, place).filter(isBefore).every(isGranted),
        5,
        `${process.name} granted a waiter before one that came earlier`,
      );
      waiting.splice(place, 1);
    }
    this.check(by !== undefined, 3, `fencing token ${hold.fencingToken} is not the version of its grant`);
    if (by !== undefined && by.request.answer !== "came" && by.process === process) {
      this.mark("granted by a commit whose answer was lost");
    }
    if (requestOf(hold.token) === undefined) this.mark("an offer adopted");
    this.check(!lock.grants.has(id), 3, `${process.name} has granted the same hold twice`);
    lock.grants.set(id, grant);
    lock.grantedTokens.add(hold.token);
    if (!lock.evictions.has(id)) grant.removedBy = lock.removals.get(id);
    lock.believed.push(grant);
    this.#busy(key, process.now);
    process.act(() => this.#checkBeliefs(key));
  }

  #onBailed(ask: Ask, { outcome, error }: LockEvents["holdfast:bailed"]): void {
    const { process, participant, keys } = ask;
    this.check(ask.outcome === undefined, 7, `an acquisition of ${process.name} has two outcomes`);
    ask.outcome = "bailed";
    this.checkError(error);
    for (const key of keys) {
      const waiting = this.#waitingOf(participant, key);
      const place = waiting.indexOf(ask);
      if (place >= 0) waiting.splice(place, 1);
    }
    if (outcome === "failed" && /cannot be read/.test(String(error))) {
      this.mark("no record: refused");
    }
    if (outcome === "failed" && /is over before/.test(String(error))) {
      this.mark("a lease too short for the store");
    }
    if (outcome === "failed" && /no permission/.test(String(error))) this.mark("no permission: refused");
    if (outcome !== "cancelled") return;
    if (ask.restores !== undefined) this.mark("cancelled while it was taken up");
    const name = entryOf(ask.id) ?? participant.id;
    for (const request of this.#underway) {
      if (request.process !== process || request.answer !== "due") continue;
      const written = locksWrittenBy(request);
      const joins = request.changes.some(({ key: at, value }) =>
        lockKeyOf(at) !== at && keys.includes(lockKeyOf(at)) && value !== null &&
        (JSON.parse(value) as QueueRecord).entries.some((entry) => entry.participant === name)
      );
      if (this.#lock(keys[0]).offeredTo === name) this.mark("cancelled while it was offered the lock");
      if (written.some(({ holders }) => holders.some(({ token }) => requestOf(token) === ask.id))) {
        this.mark(
          keys.length > 1 ? "cancelled while several were granted" : "cancelled while it was granted",
        );
      } else if (joins) this.mark("cancelled while it was joining the queue");
    }
  }

  #onEnd(ask: Ask, end: "lost" | "released"): void {
    const { grants = [], process } = ask;
    for (const grant of grants) {
      this.check(grant.end === undefined, 7, `a hold of ${process.name} was ${grant.end} and then ${end}`);
      grant.end = end;
      grant.endMs = process.now;
      this.#busy(grant.key, process.now);
    }
    if (end === "released" && grants[0]?.removal?.answer === "lost") {
      this.mark("released, and the answer was lost");
    }
    const isEvicted = ({ key, hold }: Grant) => this.#lock(key).evictions.has(idOf(hold));
    if (end === "lost" && grants.some(isEvicted) && !grants.every(isEvicted)) {
      this.mark("one of several locks was taken away");
    }
  }

  #onNamed(lock: Lock, holder: Holder, applied: Applied): void {
    const { process, before } = applied;
    const { token, offeredTo } = holder;
    const request = offeredTo === undefined ? requestOf(token) : undefined;
    const ask = request === undefined ? undefined : this.#asks.get(request);
    // What was on its way since before all was well may still be.
    const isLate = applied.request.madeMs < this.#healedMs;
    if (ask !== undefined && ask.outcome === undefined && !isLate) {
      this.#checkDelay(ask, this.#keyOf(lock));
    }
    if (ask !== undefined && ask.keys.length > 1) this.#checkTogether(ask, holder, applied);
    if (lock.grantedTokens.has(token) && request !== undefined) {
      this.mark("a ghost: a grant that landed when the same had been granted and released");
    } else if (ask?.outcome === "bailed") {
      this.mark("a ghost: a grant that landed when its acquisition was over");
    }
    const [was] = before.lock.holders;
    if (was !== undefined && this.#ownerOf(was)?.alive === false) {
      const dead = before.entries.filter(({ participant }) => !this.#isAlive(participant)).length;
      if (was.offeredTo === undefined) this.#checkTakeover(lock, dead);
      else this.#checkPrompt(lock, was, dead);
    }
    lock.named.set(idOf(holder), applied);
    lock.named.set(token, applied);
    lock.namedMs = this.#world.now;
    const owner = this.#participants.get(secretOf(token));
    const isAsked = offeredTo === undefined
      ? owner?.process === process
      : owner?.participant.id === participantIn(offeredTo) && lock.entryTokens.has(token);
    this.check(isAsked, 4, `${process.name} made one the holder that has not asked for it`);
    if (offeredTo !== undefined) {
      this.check(
        !this.#groups.has(offeredTo),
        1,
        `${process.name} offered one lock to one that asks for several`,
      );
      if (applied.after.entries.some((entry) => entry.token === token)) {
        this.mark("an offer that left the queue out");
      }
      const others = before.entries.filter((entry) =>
        entry.participant !== offeredTo && participantIn(entry.participant) === participantIn(offeredTo)
      );
      if (others.length > 0) this.mark("an offer to one of several of its process");
      return this.mark("handed on to another process");
    }
    if (before.lock.holders.some((was) => was.offeredTo !== undefined && this.#ownerOf(was) === process)) {
      this.mark("an offer confirmed first");
    } else if (before.lock.holders.some((was) => this.#ownerOf(was) === process)) {
      this.mark("handed on by its release");
    }
  }

  /** The mode of a hold was changed, by its own process. */
  #onChanged(lock: Lock, holder: Holder, applied: Applied): void {
    const { process, before: { lock: before } } = applied;
    const was = changedFrom(holder, before)!;
    this.check(this.#ownerOf(holder) === process, 4, `${process.name} changed the mode of another's hold`);
    this.check(was.mode !== holder.mode, 4, `${process.name} changed a mode to what it was`);
    if (holder.mode === "exclusive") {
      this.check(applied.after.lock.holders.length === 1, 1, `${process.name} upgraded beside others`);
    }
    const grant = lock.grants.get(idOf(was));
    if (grant !== undefined) lock.grants.set(idOf(holder), grant);
    lock.grantedMs.set(idOf(holder), this.#madeMs(lock, was));
    lock.named.set(idOf(holder), applied);
    if (was.upgrades) this.mark("an upgrade waited for others");
  }

  /** Law 1 in the record itself: those that it names may all hold the lock at once. */
  #checkRoom({ holders }: LockRecord): void {
    if (holders.length < 2) return;
    const [last, ...others] = [...holders].reverse();
    const modes = others.map(({ mode, limit, permits }) => ({ mode, limit, permits }));
    this.check(admits(modes, last), 1, `the record names ${holders.length} that may not hold it together`);
    const taken = holders.reduce((sum, { permits = 1 }) => sum + permits, 0);
    if (last.mode === "exclusive" && taken === Math.min(...holders.map(({ limit }) => limit))) {
      this.mark("as many permits as there may be");
    }
    const dead = holders.find(({ upgrades, token }) => upgrades && this.#ownerOf({ token })?.alive === false);
    if (dead !== undefined) this.mark("one that waited to be the only one has died");
  }

  /** Where nothing else goes wrong, a dead process that is offered the lock delays the next by two graces at most. */
  #checkPrompt(lock: Lock, { leaseMs }: Holder, dead: number): void {
    if (!this.#schedule.prompt) return;
    const { graceMs, telling } = this.#schedule;
    // Where the next one is dead, too, those behind may not have been notified: it is not them that an offer concerns.
    if (dead > 0 && telling.drop + telling.late > 0) return;
    // Each that has died meanwhile one more; and the next may have just asked something else.
    const mostMs = (2.02 + dead) * graceMs + 50;
    const forMs = this.#world.now - lock.namedMs;
    this.check(
      forMs <= mostMs,
      5,
      `an offer of ${leaseMs} ms to a dead process kept the next from the lock for ${
        forMs.toFixed(0)
      } ms, not ${mostMs.toFixed(0)}`,
    );
    this.mark("a dead first in the queue passed within two graces");
  }

  /** Where nothing goes wrong but that processes die, a process that lives takes what it is offered, or passes it on. */
  #checkTaken(lock: Lock, holder: Holder, alone: boolean): void {
    if (!this.#schedule.prompt && this.#weather !== "calm") return;
    // Those that were offered it together may refuse each other's answers until an offer is over.
    if (!alone) return;
    // A process that had left the queue when it was offered the lock, as that was left out, need not hear of it.
    if (!lock.named.get(idOf(holder))!.wrote.queue) return;
    this.violate(5, `an offer to ${this.#ownerOf(holder)?.name}, which lives, was left to lapse`);
  }

  /** Where nothing else goes wrong, the lock of a dead holder goes to the process that is the first in the queue by then. */
  #checkTakeover(lock: Lock, dead: number): void {
    const { graceMs, skewMs, clock, prompt } = this.#schedule;
    if (!prompt || clock !== "stated") return;
    const forMs = this.#world.now - lock.leaseEndMs;
    const mostMs = 2 * skewMs + 1.02 * dead * graceMs + 70;
    this.check(
      forMs <= mostMs,
      5,
      `a dead holder kept the next from the lock for ${forMs.toFixed(0)} ms after its lease, not ${mostMs}`,
    );
    this.mark("a dead holder passed promptly");
  }

  /** Law 4, and law 1 from the other side: only one's own, the lapsed and the openly evicted are removed. */
  #onRemoved(lock: Lock, holder: Holder, applied: Applied): void {
    const { process, request, after } = applied;
    const id = idOf(holder);
    if (isKept(holder)) return this.#onKeptRemoved(lock, holder, applied);
    if (isInTransit(holder)) return this.#onClaimRemoved(lock, holder, applied);
    const grant = lock.grants.get(id);
    lock.removals.set(id, process);
    if (holder.offeredTo !== undefined && grant === undefined && !lock.evictions.has(id)) {
      const owner = this.#ownerOf(holder);
      if (owner === process) {
        if (after.lock.holders.some((next) => this.#ownerOf(next) !== process)) {
          this.mark("an offer passed on");
        }
      } else if (owner?.alive === false) this.mark("an offer lapsed: its process is dead");
      else if (owner?.runs === false) this.mark("an offer lapsed: its process slept");
      else this.#checkTaken(lock, holder, applied.before.lock.holders.length === 1);
    }
    if (grant === undefined) {
      const by = lock.named.get(id);
      const ask = holder.offeredTo === undefined ? this.#asks.get(requestOf(holder.token)!) : undefined;
      if (ask?.process === process && ask.outcome === "bailed") {
        this.mark("a grant that nobody wanted any more was withdrawn");
      }
      if (by !== undefined && by.request.answer !== "came" && lock.evictions.get(id) === "stolen") {
        this.mark("granted unknown to its process, and stolen meanwhile");
      }
      return;
    }
    if (grant.ask.process === process) {
      grant.removal = request;
      // One whose release has failed is not kept: its process may take it out, or its lease ends.
      if (!lock.evictions.has(id) && grant.end === undefined) this.#checkKept(lock, grant, holder, applied);
      return;
    }
    if (!lock.evictions.has(id)) grant.removedBy = process;
  }

  /** A caller that releases a hold which is younger than it was asked to become leaves it in the record. */
  #checkKept(
    lock: Lock,
    { ask, releasingMs, hold }: Grant,
    holder: Holder,
    { process, request, after }: Applied,
  ): void {
    const { holdAtLeastMs = 0 } = ask;
    // Its own clock counts, which may go slower, or stand still while the machine sleeps.
    // What it has read of its clocks is no newer than the commit, and may be no older: it may have stood still before.
    const isOld = request.sentMs - this.#madeMs(lock, holder) >= 0.99 * holdAtLeastMs - 5;
    const endMs = lock.leaseEndsMs.get(idOf(holder)) ?? -Infinity;
    // Another participant of the same process may find its lease over, if its clock is wrong even long before that.
    const isOver = hold.lost !== undefined || this.#world.now >= endMs || !this.#asked("exclusive");
    if (isOld || releasingMs === undefined || isOver) return;
    const isThere = after.lock.holders.some(({ token, fence }) =>
      token === keptTokenOf(holder) && fence === holder.fence
    );
    // One that waits here, and wants a holder of that age evicted, may have been granted by the same commit.
    // Handed over, it reaches its age elsewhere.
    const isHandedOver = after.lock.holders.some((next) => isInTransit(next) && next.fence === holder.fence);
    const isStolen =
      after.lock.notices?.some((notice) => notice.token === keptTokenOf(holder) || isInTransit(notice)) ===
        true;
    this.check(
      isThere || isHandedOver || isStolen,
      1,
      `${process.name} has given up a hold before the age that was asked for`,
    );
  }

  /** When the commit was made that has granted a hold: it may have stood still before its caller heard of it. */
  #madeMs(lock: Lock, holder: Holder): number {
    const id = idOf(holder);
    return lock.grantedMs.get(id) ?? lock.named.get(id)?.request.madeMs ?? -Infinity;
  }

  /** What is kept of a released hold stays until it has its age, unless it is taken away openly. */
  #onKeptRemoved(lock: Lock, holder: Holder, { process }: Applied): void {
    const id = idOf(holder);
    if (lock.evictions.has(id) || !this.#asked("exclusive")) return;
    const leftMs = (lock.keptUntilMs.get(id) ?? 0) - this.#world.now;
    this.check(
      leftMs <= 0.01 * holder.leaseMs + 5,
      1,
      `${process.name} took a lock that was kept for ${leftMs.toFixed(0)} ms more`,
    );
    this.mark("what was kept is over");
  }

  /** No process overtakes a waiter that is alive and in the queue before its grace is over. */
  #checkOrder(lock: Lock, { token, offeredTo }: Holder, applied: Applied): void {
    const { process, request, wrote, before: { lock: before, entries } } = applied;
    if (this.#asks.get(requestOf(token)!)?.goesFirst) return this.mark("one went before the queue");
    // It has had its turn, in another process.
    if (this.#asks.get(requestOf(token)!)?.restores !== undefined) return;
    const claimant = this.#nameOf({ token, offeredTo });
    const isGrantedWith = (name: string) =>
      name !== claimant &&
      applied.after.lock.holders.some((other) =>
        this.#nameOf(other) === name && !before.holders.some(isSame(other))
      );
    // What is offered repeats the token of its entry: one that has left since, and is queued again, has another.
    const place = entries.findIndex((entry) =>
      entry.participant === claimant && (offeredTo === undefined || entry.token === token)
    );
    // A process that was offered the lock by a commit that left the queue out has had its turn.
    // So has one that gets it by the same commit.
    const isNext = ({ token, participant }: QueueEntry) =>
      !lock.named.has(token) && !isGrantedWith(participant);
    const ahead = entries.slice(0, place < 0 ? undefined : place).filter(isNext);
    // What was offered to it, or granted before, is its own already.
    const owned = before.holders.some((holder) =>
      this.#nameOf(holder) === claimant && (holder.offeredTo !== undefined || holder.token === token)
    );
    if (ahead.length === 0 || owned) return;
    // Nor can it know which has just left.
    if (place < 0 && offeredTo !== undefined && !wrote.queue) {
      return this.mark("offered to a process that had just left the queue");
    }
    // A process that has had it only briefly may pass it on among its own first.
    const { turn } = lock;
    const isItsTurn = offeredTo === undefined && turn?.secret === secretOf(token) &&
      before.holders.length > 0 && before.holders.every(({ token }) => secretOf(token) === turn?.secret) &&
      // Its own clocks limit it, which may both be wrong.
      (this.#weather === "wild" ||
        request.madeMs - turn!.sinceMs <= 1.02 * localTurnMs(this.#schedule.graceMs) + 5);
    if (isItsTurn) return this.mark("passed on within a turn");
    let waiting = false;
    const seenMs = request.queueSeenMs.get(this.#keyOf(lock)) ?? -Infinity;
    for (const entry of ahead) {
      // A commit that leaves the queue out, as it has moved again and again, cannot know which has just come.
      if (!wrote.queue && lock.joined.get(entry.participant)!.atMs > seenMs) continue;
      const { process, participant } = this.#ofEntry(entry.participant);
      const isItsOwn = (ask: Ask) => (entryOf(ask.id) ?? participant.id) === entry.participant;
      if (!process.alive) {
        this.mark("a dead waiter passed");
        if (entry.turnMs !== undefined) this.mark("a dead one that waited for several was passed");
      } // A process that has just left, and asks again while that is written, lets others go first itself.
      else if (process === applied.process && offeredTo !== undefined) continue;
      else if (process.runs && this.#waitingOf(participant, this.#keyOf(lock)).some(isItsOwn)) waiting = true;
    }
    if (!waiting) return;
    this.mark("a live waiter overtaken after its grace");
    lock.isOvertaken = true;
    if (!this.#asked("order")) return;
    const isExclusive = (this.#schedule.modes ?? "exclusive") === "exclusive";
    // What was kept is over for each of them by its own clock.
    const wasKept = before.holders.some((holder) => isKept(holder) || isInTransit(holder));
    if (!isExclusive) {
      // Those next to which the first could not hold the lock stay: no process may pass it, or it would starve.
      const staying = before.holders.filter((holder) =>
        applied.after.lock.holders.some((other) =>
          isSame(holder)(other) || (other.token === keptTokenOf(holder) && other.fence === holder.fence)
        )
      );
      const [first] = ahead;
      this.check(this.#weather !== "calm" || wasKept, 5, "a grant passed over a live waiter");
      this.check(admits(staying, first), 5, `${process.name} went past one for whom there was no room`);
      return;
    }
    this.check(this.#weather !== "calm" || wasKept, 5, "a grant passed over a live waiter");
    // A process that has given up its hold, or found its lease over, knows before others can that the lock is free.
    const freeMs = before.holders.reduce((since, holder) => {
      const grant = lock.grants.get(idOf(holder));
      // What a wrong clock has written is over when the record says so, though nothing believes in it.
      const recordedMs = (holder.expiresAt ?? Infinity) - EPOCH_MS;
      const endMs = Math.min(grant?.releasingMs ?? Infinity, grant?.endMs ?? Infinity, lock.leaseEndMs);
      return Math.min(since, endMs, recordedMs);
    }, lock.freeMs);
    const forMs = this.#world.now - freeMs;
    const leastMs = ahead.reduce((sum, { turnMs = this.#schedule.graceMs }) => sum + turnMs, 0);
    this.check(
      forMs >= 0.98 * leastMs - 5,
      5,
      `${process.name} went past ${ahead.length} in the queue ${forMs.toFixed(0)} ms after the lock was free`,
    );
  }

  /** Of those that run, at most one believes that it holds, and none whose hold another has removed. */
  #checkBeliefs(key: string): void {
    if (!this.#asked("exclusive")) return;
    const lock = this.#lock(key);
    if (lock.believed.length === 0) return;
    const others: Grant[] = [];
    lock.believed = lock.believed.filter((grant) => {
      const { ask: { process }, hold, removedBy, releasingMs } = grant;
      if (releasingMs !== undefined || grant.end !== undefined || !process.alive) return false;
      // Looking may end the belief: it is done only where another process may believe the same.
      if (!process.runs || (removedBy === undefined && lock.believed.length === 1)) return true;
      if (!process.look(() => hold.held)) return false;
      if (lock.evictions.has(idOf(hold))) return true;
      if (removedBy !== undefined) {
        this.violate(1, `${removedBy.name} removed the hold that ${process.name} believes in`);
      }
      if (!admits(others.map(believedMode), believedMode(grant))) {
        const names = others.map(({ ask }) => ask.process.name).join(", ");
        this.violate(1, `${names} and ${process.name} hold the lock together`);
      }
      others.push(grant);
      return true;
    });
  }

  /** Once nothing goes wrong any more, a lock stands idle before a live waiter only until crashed ones are passed. */
  #checkDelay({ askedMs, process }: Ask, key: string): void {
    const { processes, graceMs, groups = false } = this.#schedule;
    // A process that is before it may wait for another lock, which it asks for, too.
    const locks = groups ? [...this.#locks.values()] : [this.#lock(key)];
    const busyMs = Math.max(...locks.map((lock) => lock.busyMs));
    const idleMs = this.#world.now - Math.max(askedMs, busyMs, this.#healedMs);
    const leaseMs = Math.max(
      2000,
      ...processes.flatMap(({ callers }) =>
        callers.flat().map(({ leaseMs, holdAtLeastMs = 0, handOver, extendMs = 0 }) =>
          Math.max(leaseMs, holdAtLeastMs, handOver?.leaseMs ?? 0, extendMs)
        )
      ),
    );
    // Crashed processes leave one entry each, unless each of their requests has a separate one.
    const entries = (this.#schedule.own ?? "none") === "none"
      ? processes.length
      : processes.flatMap(({ callers }) => callers).length;
    const turnMs = groups ? Math.max(3000, 3 * graceMs) : 0;
    const boundMs = 2.1 * leaseMs + 2 * Math.max(1000, leaseMs / 3) + 2 * (entries + 1) * (graceMs + turnMs) +
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

  #isAlive(participant: string): boolean {
    return this.#ofEntry(participant).process.alive;
  }

  /** Whose a queue entry is. */
  #ofEntry(name: string): { participant: Party; process: SimProcess } {
    return this.#participants.get(participantIn(name))!;
  }

  /** What the queue calls the one that a holder comes of. */
  #nameOf({ token, offeredTo }: Pick<Holder, "token" | "offeredTo">): string | undefined {
    return offeredTo ?? entryOf(requestOf(token)) ??
      this.#participants.get(secretOf(token))?.participant.id;
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
        grantedMs: new Map(),
        joined: new Map(),
        entryTokens: new Set(),
        grants: new Map(),
        grantedTokens: new Set(),
        removals: new Map(),
        evictions: new Map(),
        isOvertaken: false,
        believed: [],
        turn: undefined,
        namedMs: 0,
        offeredTo: undefined,
        freeMs: 0,
        keptUntilMs: new Map(),
        leaseEndMs: 0,
        leaseEndsMs: new Map(),
        failed: false,
        busyMs: 0,
      };
      this.#locks.set(key, lock);
    }
    return lock;
  }

  #waitingOf(participant: Party, key: string): Ask[] {
    let keys = this.#waiting.get(participant);
    if (keys === undefined) this.#waiting.set(participant, keys = new Map());
    let asks = keys.get(key);
    if (asks === undefined) keys.set(key, asks = []);
    return asks;
  }
}

/** The holder in this record whose mode was changed to make this one. */
function changedFrom({ token, fence, formerFence }: Holder, { holders }: LockRecord): Holder | undefined {
  if (formerFence === undefined || formerFence === fence) return undefined;
  return holders.find((was) => was.token === token && was.fence === formerFence);
}

/** How one believes that it holds a lock: one that has asked to share it, or has given up to be the only one, shares it. */
function believedMode({ ask: { keys, modes }, key, hold }: Grant): Mode {
  if (keys.length > 1) return modes[keys.indexOf(key)];
  const { mode, wantedMode, options: { limit, permits } } = hold;
  return { mode: wantedMode?.to === "shared" ? "shared" : mode, limit, permits };
}

/** Whether a commit has evicted a holder for the one that it has granted the lock. */
function steals({ before, after }: Applied): boolean {
  return after.lock.notices?.some(({ token, reason }) =>
    reason === "stolen" && !before.lock.notices?.some((notice) => notice.token === token)
  ) === true;
}

/** What distinguishes a hold from every other: its token and its fencing token. */
function idOf(hold: Hold | Holder): string {
  return `${hold.token} ${"fencingToken" in hold ? hold.fencingToken : hold.fence}`;
}

function isSame(holder: Holder): (other: Holder) => boolean {
  return ({ token, fence }) => token === holder.token && fence === holder.fence;
}
