import type { LockBackend } from "./backend.ts";
import { type Clock, pause, systemClock } from "./clock.ts";
import { LocalLock, type LockingParticipant } from "./local_lock.ts";
import type { Observations } from "./observations.ts";
import type { CheckedOptions } from "./options.ts";
import { addressOf } from "./record/concerns.ts";
import type { Done } from "./request.ts";
import { Store } from "./store.ts";

/** Of how many locks it is remembered what was seen of them. */
const MAX_REMEMBERED = 1000;
/** How often `whenIdle` looks. */
const IDLE_LOOK_MS = 5;

const participants = new WeakMap<LockBackend, Participant>();
/** The same, to go through them; a backend that nobody uses any more is not kept for that. */
const everyParticipant = new Set<WeakRef<Participant>>();
/** How many there may be before those that are gone are looked for. */
let mostParticipants = 16;

/** This process among those that share `backend`, on `clock` if nobody has asked before. */
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

/** One process among those that share a store: its locks, as far as anybody here holds or wants them. */
export class Participant implements LockingParticipant {
  /** Names it in queues. */
  readonly id: string = crypto.randomUUID();
  /** Makes the tokens of its requests unguessable, and tells them from those of others. */
  readonly secret: string = crypto.randomUUID();
  readonly store: Store;
  /** How many answers the store still owes to those that do not wait for them any more: what they asked may yet be done. */
  owedAnswers = 0;
  readonly #locks = new Map<string, LocalLock>();
  /** What was seen of locks that nobody here wants at the moment. */
  readonly #remembered = new Map<string, Observations>();

  constructor(backend: LockBackend, clock: Clock) {
    this.store = new Store(backend, clock);
  }

  /** Of which contended locks the last hold here was brief: offers of them need no confirmation. */
  readonly #brief = new Set<string>();

  /** How many names this process has given. */
  #names = 0;

  /** What commits call it that concern it. */
  get address(): string {
    return addressOf(this.secret);
  }

  /** Whether a token is of this process. */
  owns(token: string): boolean {
    return token.startsWith(this.secret);
  }

  /** A token that nobody has had before or can guess. */
  newToken(): string {
    return `${this.secret}/${++this.#names}`;
  }

  /** A name that no queue has had before. */
  newQueueId(): string {
    return `${this.id}/${++this.#names}`;
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

  /** The lock of a key, made if there is none yet. */
  lock(key: string): LocalLock {
    let lock = this.#locks.get(key);
    if (lock === undefined) {
      this.#locks.set(key, lock = new LocalLock(this, key, this.#remembered.get(key)));
      this.#remembered.delete(key);
    }
    return lock;
  }

  /** The lock of a key, if anybody here has to do with it. */
  known(key: string): LocalLock | undefined {
    return this.#locks.get(key);
  }

  /** Whether the last hold of a contended lock was brief here, as far as that is remembered. */
  wasBrief(key: string): boolean {
    return this.#brief.has(key);
  }

  /** Remembers it. */
  noteBrief(key: string, isBrief: boolean): void {
    this.#brief.delete(key);
    if (!isBrief) return;
    this.#brief.add(key);
    if (this.#brief.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#brief;
    this.#brief.delete(oldest);
  }

  /** Nobody here has to do with this lock any more. */
  forget(lock: LocalLock, seen: Observations | undefined): void {
    const { key } = lock;
    if (this.#locks.get(key) !== lock) return;
    this.#locks.delete(key);
    // Where clocks mean nothing, requests that never wait could otherwise never see that a lease has lapsed.
    if (this.backend.skewMs !== Infinity || seen === undefined || seen.isEmpty) return;
    this.#remembered.set(key, seen);
    if (this.#remembered.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#remembered.keys();
    this.#remembered.delete(oldest);
  }

  /** Cancels with `reason` all that wait for a lock here, and releases all locks that are held. */
  giveUp(reason: unknown): { readonly identifier: string; readonly released: Promise<boolean> }[] {
    const locks = [...this.#locks.values()];
    // First, or one that waits here would be granted what is released.
    for (const lock of locks) lock.cancelAll(reason);
    return locks.flatMap(({ holds }) =>
      holds.map((hold) => ({ identifier: hold.identifier, released: hold.revoke() }))
    );
  }

  /** Until what has been given up has left the store, or `stop` aborts. */
  async whenCleared(stop: AbortSignal): Promise<void> {
    const isLeaving = () => [...this.#locks.values()].some((lock) => lock.isLeaving);
    while (isLeaving() && !stop.aborted) await pause(this.clock, IDLE_LOOK_MS);
  }

  /** Until nobody here waits for a lock, releases one or clears up; for `limitMs` at most. */
  async whenIdle(limitMs: number): Promise<void> {
    const { clock } = this;
    const lateMs = clock.monotonicMs() + limitMs;
    const isBusy = () => this.owedAnswers > 0 || [...this.#locks.values()].some((lock) => lock.isBusy);
    while (isBusy() && clock.monotonicMs() < lateMs) await pause(clock, IDLE_LOOK_MS);
  }
}
