import type { LockBackend } from "./backend.ts";
import { type Clock, pause, systemClock } from "./clock.ts";
import { type GroupingParticipant, LocalGroup } from "./local_group.ts";
import { LocalLock, type LockingParticipant } from "./local_lock.ts";
import type { CheckedOptions } from "./options.ts";
import { Names } from "./names.ts";
import type { Done } from "./request.ts";
import type { Mode } from "./record/modes.ts";
import { Store } from "./store.ts";
import type { KeyedLock } from "./targets.ts";

/** How many locks there may be before those are forgotten that no caller here needs. */
const MOST_LOCKS = 1000;
/** How often `whenIdle` looks. */
const IDLE_LOOK_MS = 5;

const participants = new WeakMap<LockBackend, Participant>();
/** The same, to go through them; a backend that is not used any more is not kept for that. */
const everyParticipant = new Set<WeakRef<Participant>>();
/** How many there may be before those that are gone are looked for. */
let mostParticipants = 16;

/** This process among those that share `backend`, on `clock` if this is the first call. */
export function participantOf(backend: LockBackend, clock: Clock = systemClock): Participant {
  let participant = participants.get(backend);
  if (participant === undefined) {
    participants.set(backend, participant = new Participant(backend, clock));
    if (everyParticipant.size >= mostParticipants) mostParticipants = 2 * allParticipants().length + 16;
    everyParticipant.add(new WeakRef(participant));
  }
  return participant;
}

/** All of this process, one per backend. */
export function allParticipants(): Participant[] {
  const found: Participant[] = [];
  for (const ref of everyParticipant) {
    const participant = ref.deref();
    if (participant === undefined) everyParticipant.delete(ref);
    else found.push(participant);
  }
  return found;
}

/** One process among those that share a store: its locks, as far as callers here hold or want them. */
export class Participant extends Names implements LockingParticipant, GroupingParticipant {
  readonly store: Store;
  /** How many answers the store still owes to those that do not wait for them any more: what they asked may yet be done. */
  owedAnswers = 0;
  /** Also those that no caller here needs at the moment: what was wanted once is often wanted again. */
  readonly #locks = new Map<string, LocalLock>();
  /** How many locks there are when the idle ones are forgotten. */
  #mostLocks = MOST_LOCKS;
  readonly #groups = new Set<LocalGroup>();

  constructor(backend: LockBackend, clock: Clock) {
    super();
    this.store = new Store(backend, clock);
  }

  get backend(): LockBackend {
    return this.store.backend;
  }

  get clock(): Clock {
    return this.store.clock;
  }

  /**
   * Acquires the lock of `identifier`, kept under `key`. Without it, the error is a LockAcquisitionError if the lock is
   * taken and the options do not let it wait (any longer), the signal's reason, or a LockBackendError.
   */
  acquire(
    { identifier, key, options }: {
      readonly identifier: string;
      readonly key: string;
      readonly options: CheckedOptions;
    },
    done: Done,
  ): void {
    this.lock(key).request(identifier, options, done);
  }

  /** Acquires several locks at once, all or none: see {@linkcode LocalGroup}. */
  acquireAll(
    { identifier, locks, options }: {
      /** What messages call them together. */
      readonly identifier: string;
      readonly locks: readonly KeyedLock[];
      readonly options: CheckedOptions;
    },
    done: Done,
  ): void {
    new LocalGroup(this, locks).request(identifier, options, done);
  }

  addGroup(group: LocalGroup): void {
    this.#groups.add(group);
  }

  dropGroup(group: LocalGroup): void {
    this.#groups.delete(group);
  }

  groupBefore(group: LocalGroup): LocalGroup | undefined {
    let before: LocalGroup | undefined;
    for (const other of this.#groups) {
      if (other === group) break;
      if (other.waitsForAny(group.keys)) before = other;
    }
    return before;
  }

  wakeBehind(group: LocalGroup): void {
    for (const other of this.#groups) other.wakeBehind(group);
  }

  /** The lock of a key, made if there is none yet. */
  lock(key: string): LocalLock {
    let lock = this.#locks.get(key);
    if (lock === undefined) {
      if (this.#locks.size >= this.#mostLocks) this.#forgetIdle();
      this.#locks.set(key, lock = new LocalLock(this, key));
    }
    return lock;
  }

  /** The lock of a key, if a caller here has to do with it. */
  known(key: string): LocalLock | undefined {
    const lock = this.#locks.get(key);
    return lock?.isIdle ? undefined : lock;
  }

  /** Forgets those that no caller here needs; what was seen of some of them only if they are too many. */
  #forgetIdle(): void {
    const locks = this.#locks;
    for (const [key, lock] of locks) if (lock.isIdle && !lock.remembers) locks.delete(key);
    if (locks.size >= MOST_LOCKS) { for (const [key, lock] of locks) if (lock.isIdle) locks.delete(key); }
    // Not at every new one, if most are in use.
    this.#mostLocks = Math.max(MOST_LOCKS, 2 * locks.size);
  }

  /** How those want the lock of a key that wait for it here, alone or together with others, and do not give up. */
  patientFor(key: string): readonly Mode[] {
    return [this.known(key), ...this.#groups].flatMap((lock) => lock?.patientFor(key) ?? []);
  }

  /** Cancels with `reason` all that wait for a lock here, and releases all locks that are held. */
  giveUp(reason: unknown): { readonly identifier: string; readonly released: Promise<boolean> }[] {
    const locks = [...this.#locks.values(), ...this.#groups];
    // First, or one that waits here would be granted what is released.
    for (const lock of locks) lock.cancelAll(reason);
    return locks.flatMap(({ holds }) =>
      holds.map((hold) => ({ identifier: hold.identifier, released: hold.revoke() }))
    );
  }

  /** Until what has been given up has left the store, or `stop` aborts. */
  async whenCleared(stop: AbortSignal): Promise<void> {
    const isLeaving = () => [...this.#locks.values(), ...this.#groups].some((lock) => lock.isLeaving);
    while (isLeaving() && !stop.aborted) await pause(this.clock, IDLE_LOOK_MS);
  }

  /** Until no caller here waits for a lock, releases one or clears up; for `limitMs` at most. */
  async whenIdle(limitMs: number): Promise<void> {
    const { clock } = this;
    const lateMs = clock.monotonicMs() + limitMs;
    const isBusy = () =>
      this.owedAnswers > 0 || [...this.#locks.values(), ...this.#groups].some((lock) => lock.isBusy);
    while (isBusy() && clock.monotonicMs() < lateMs) await pause(clock, IDLE_LOOK_MS);
  }
}
