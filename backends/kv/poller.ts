/** Looks at all that is waited for in one process, together: a round of looks reads many records in few calls. */

import { Alarm, type Clock, queueMicrotask } from "../../core/clock.ts";
import type { Entry } from "../../core/backend.ts";
import { UnreadableRecordError } from "../../core/errors.ts";

/** How many records one call reads. */
const BATCH = 10;
/**
 * A record that is due within this share of its pause is read with those that are due now, so that they come
 * together.
 */
const AHEAD = 1 / 4;

/** One record that is looked at again and again. */
export interface Polled {
  readonly key: string;
  /** Whether it is looked at only when it is woken. */
  readonly isIdle: boolean;
  /** What a look has shown, and whether it was woken for it. */
  onLook(entry: Entry, isWoken: boolean): void;
  onFailure(error: unknown): void;
}

/** What a poller needs of the database. */
export interface Polling {
  readonly clock: Clock;
  /** Reads up to ten records. */
  read(keys: readonly string[]): Promise<readonly Entry[]>;
  /** How long it is until the next look, now that there has been one. */
  pauseMs(polled: Polled): number;
}

/** When a record is looked at next. */
interface Turn {
  dueMs: number;
  /** From when on it is looked at together with others that are due. */
  readyMs: number;
  isWoken: boolean;
  /** Whether an answer is waited for. */
  isLooking: boolean;
}

/** One record of a round of looks. */
interface Look {
  readonly polled: Polled;
  readonly isWoken: boolean;
}

/** All looks of one process at one database. */
export class Poller {
  readonly #polling: Polling;
  readonly #turns = new Map<Polled, Turn>();
  readonly #alarm: Alarm;
  #isScheduled = false;

  constructor(polling: Polling) {
    this.#polling = polling;
    this.#alarm = new Alarm(polling.clock);
  }

  /** The first look is at once. */
  add(polled: Polled): void {
    this.#turns.set(polled, { dueMs: -Infinity, readyMs: -Infinity, isWoken: false, isLooking: false });
    this.#schedule();
  }

  remove(polled: Polled): void {
    this.#turns.delete(polled);
    this.#schedule();
  }

  /** There may be something new: the next look is at once. */
  wake(polled: Polled): void {
    const turn = this.#turns.get(polled);
    if (turn === undefined) return;
    turn.isWoken = true;
    if (!turn.isLooking) turn.dueMs = turn.readyMs = -Infinity;
    this.#schedule();
  }

  /** Those that are added or woken in one go are looked at in one go. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#arm();
    });
  }

  readonly #arm = (): void => {
    const now = this.#polling.clock.monotonicMs();
    if (this.#nextMs <= now) this.#lookAtDue(now);
    const nextMs = this.#nextMs;
    if (nextMs === Infinity) this.#alarm.stop();
    else this.#alarm.set(nextMs, this.#arm);
  };

  /** When the next look is due; those that are under way are not. */
  get #nextMs(): number {
    let nextMs = Infinity;
    for (const { dueMs } of this.#turns.values()) nextMs = Math.min(nextMs, dueMs);
    return nextMs;
  }

  #lookAtDue(now: number): void {
    let batch: Look[] = [];
    for (const [polled, turn] of this.#turns) {
      if (turn.isLooking || turn.readyMs > now) continue;
      const { isWoken } = turn;
      turn.isLooking = true;
      // What wakes it from now on may not be seen by this look.
      turn.isWoken = false;
      turn.dueMs = turn.readyMs = Infinity;
      if (batch.push({ polled, isWoken }) < BATCH) continue;
      this.#look(batch);
      batch = [];
    }
    if (batch.length > 0) this.#look(batch);
  }

  /** Looks; a record that cannot be read fails alone. */
  #look(batch: readonly Look[]): void {
    this.#polling.read(batch.map(({ polled }) => polled.key)).then((entries) => {
      for (const [i, { polled, isWoken }] of batch.entries()) {
        this.#end(polled, () => polled.onLook(entries[i], isWoken));
      }
    }, (error) => {
      if (error instanceof UnreadableRecordError && batch.length > 1) {
        for (const look of batch) this.#look([look]);
      } else for (const { polled } of batch) this.#end(polled, () => polled.onFailure(error));
    });
  }

  #end(polled: Polled, tell: () => void): void {
    const turn = this.#turns.get(polled);
    // It may have ended to watch meanwhile.
    if (turn === undefined) return;
    turn.isLooking = false;
    tell();
    if (turn.isWoken) turn.dueMs = turn.readyMs = -Infinity;
    else if (!polled.isIdle) {
      const pauseMs = this.#polling.pauseMs(polled);
      turn.dueMs = this.#polling.clock.monotonicMs() + pauseMs;
      turn.readyMs = turn.dueMs - AHEAD * pauseMs;
    }
    this.#schedule();
  }
}
