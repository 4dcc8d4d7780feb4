/**
 * The clock of a server, as far as a process can know it: for every backend whose server sends the time.
 *
 * An answer to a question that left here at `sentMs` and came back at `receivedMs`, both by this process's
 * monotonic clock, says that the server's clock showed `serverMs` at some moment in between. So that clock is
 * ahead of the monotonic one by `serverMs - receivedMs` at least and by `serverMs - sentMs` at most. The truth is
 * surely between the two, however unequal the ways there and back were; what is best said of the time is the
 * middle, and it is wrong by half of the distance at most. From this follows the rest:
 *
 * - Two answers are both true, so the truth is where they overlap. One fast answer is enough to make slow ones
 *   harmless.
 * - Two steady clocks drift apart. What was known some time ago is known less well now, on both sides by the share
 *   `DRIFT` of that time; a process that does not hear from the server for long does not know its time any more.
 * - Two answers that do not overlap contradict each other: a clock was set, or this machine slept. The server's
 *   clock is then what the later answer says, and what was known before is void. Which one is later is certain
 *   only if its question left after everything else that is known had come. Questions that were under way together
 *   may have been answered in any order, for they overtake each other; either may then be right, so that all that
 *   is known is that the truth lies between the outermost bounds of both. The next answer that left later shows
 *   it.
 *
 * What no answer can show is a step of the server's clock that is smaller than the time that the answers take.
 * Until a faster one comes, what is said here may be wrong by that step in addition.
 */

import type { Clock } from "../core/clock.ts";

/** By what share of the time that passes two steady clocks may drift apart: 500 parts in a million. */
const DRIFT = 1 / 2000;
/** What is lost in the subtraction of large numbers, and is no error of any clock. */
const ROUNDING_MS = 0.01;
/** After how long an answer is compared with the wall clock again: it counts only when answers have been missing for longer. */
const WALL_HEARD_FOR_MS = 50;

/** An answer that contains the server's time. */
export interface TimedAnswer {
  /** When its question left, by the monotonic clock of this process. */
  readonly sentMs: number;
  /** When it came, by the same clock. */
  readonly receivedMs: number;
  /** What the server's clock showed at some moment between, in milliseconds since the Unix epoch. */
  readonly serverMs: number;
}

/** Options of {@linkcode ServerClock}. */
export interface ServerClockOptions {
  /**
   * By how many milliseconds two processes may differ about the server's time, each by half of it, and still say that
   * they know it.
   */
  readonly skewMs: number;
  /**
   * By how many milliseconds this machine's wall clock may be wrong at most. It then bears witness, too, until an answer
   * refutes it, and is not heard again. Default: the wall clock proves nothing.
   */
  readonly wallErrorMs?: number;
}

/** By how much the server's clock is ahead of the monotonic one. */
interface Bounds {
  readonly least: number;
  readonly most: number;
}

/** The server's clock as this process sees it. */
export class ServerClock {
  readonly #clock: Clock;
  readonly #skewMs: number;
  #wallErrorMs: number | undefined;
  /**
   * What the answers say, and when the last of them came; before the first, nothing. Numbers rather than objects: every
   * answer comes by here.
   */
  #least = -Infinity;
  #most = Infinity;
  #heardMs = -Infinity;
  /** When the wall clock was compared with them last. */
  #wallHeardMs = -Infinity;

  constructor(clock: Clock, { skewMs, wallErrorMs }: ServerClockOptions) {
    this.#clock = clock;
    this.#skewMs = skewMs;
    this.#wallErrorMs = wallErrorMs;
  }

  /** The server's time, in milliseconds since the Unix epoch; before its first answer, this machine's. */
  now(): number {
    const nowMs = this.#clock.monotonicMs();
    return nowMs + this.aheadAt(nowMs);
  }

  /** By how much the server's clock is ahead of the monotonic one, as it is seen at this moment. */
  aheadAt(nowMs: number): number {
    // The middle of what is known, which ages on both sides alike.
    if (this.#isSaidByAnswers(nowMs)) return (this.#least + this.#most) / 2;
    const { least, most } = this.#boundsAt(nowMs) ?? this.#wall(0);
    return (least + most) / 2;
  }

  /** By how much `now()` may be wrong, in either direction; `Infinity` if nothing is known. */
  get uncertaintyMs(): number {
    const nowMs = this.#clock.monotonicMs();
    if (this.#isSaidByAnswers(nowMs)) return this.#errorAt(nowMs);
    const bounds = this.#boundsAt(nowMs);
    return bounds === undefined ? Infinity : halfOf(bounds);
  }

  /** By how much `now()` may differ between two processes; `Infinity` while it is not known well enough to say so. */
  get skewMs(): number {
    return this.uncertaintyMs <= this.#skewMs / 2 + ROUNDING_MS ? this.#skewMs : Infinity;
  }

  /** Learns from an answer; they may come in any order. */
  learn({ sentMs, receivedMs, serverMs }: TimedAnswer): void {
    const heardMs = Math.max(receivedMs, this.#heardMs);
    const agedMs = driftMs(heardMs - sentMs);
    let least = serverMs - receivedMs - agedMs;
    let most = serverMs - sentMs + agedMs;
    if (this.#isKnown) {
      const beforeMs = driftMs(heardMs - this.#heardMs);
      const leastBefore = this.#least - beforeMs;
      const mostBefore = this.#most + beforeMs;
      const overlaps = least <= mostBefore && leastBefore <= most;
      if (overlaps) {
        least = Math.max(least, leastBefore);
        most = Math.min(most, mostBefore);
      } // What contradicts the rest stands alone if it was surely asked later.
      else if (sentMs < this.#heardMs) {
        least = Math.min(least, leastBefore);
        most = Math.max(most, mostBefore);
      }
    }
    this.#least = least;
    this.#most = most;
    this.#heardMs = heardMs;
    const errorMs = this.#wallErrorMs;
    if (errorMs !== undefined && heardMs - this.#wallHeardMs > WALL_HEARD_FOR_MS) this.#hearWall(errorMs);
  }

  get #isKnown(): boolean {
    return this.#heardMs !== -Infinity;
  }

  /** By how much the middle of what the answers say may be wrong. */
  #errorAt(nowMs: number): number {
    return (this.#most - this.#least) / 2 + driftMs(nowMs - this.#heardMs);
  }

  /** Whether the answers say at least as much as the wall clock can, which is then not asked. */
  #isSaidByAnswers(nowMs: number): boolean {
    const errorMs = this.#wallErrorMs;
    return this.#isKnown && (errorMs === undefined || this.#errorAt(nowMs) <= errorMs);
  }

  #boundsAt(nowMs: number): Bounds | undefined {
    const errorMs = this.#wallErrorMs;
    const agedMs = driftMs(nowMs - this.#heardMs);
    const known = this.#isKnown ? { least: this.#least - agedMs, most: this.#most + agedMs } : undefined;
    if (errorMs === undefined || this.#isSaidByAnswers(nowMs)) return known;
    const wall = this.#wall(errorMs);
    return known === undefined ? wall : overlapOf(known, wall) ?? known;
  }

  /** An answer that the wall clock cannot agree with refutes it. */
  #hearWall(errorMs: number): void {
    this.#wallHeardMs = this.#heardMs;
    const wall = this.#wall(errorMs);
    if (wall.least > this.#most || wall.most < this.#least) this.#wallErrorMs = undefined;
  }

  /**
   * What the wall clock bears witness to, if it is wrong by so much at most. To read it is a question like any other, for
   * the process may be frozen between the readings.
   */
  #wall(errorMs: number): Bounds {
    const sentMs = this.#clock.monotonicMs();
    const serverMs = this.#clock.wallMs();
    const { least, most } = boundsOf({ sentMs, receivedMs: this.#clock.monotonicMs(), serverMs });
    return { least: least - errorMs, most: most + errorMs };
  }
}

/**
 * What a process believed about the server's clock when a question left, judged by its answer: by how much that surely
 * was too early (above 0) or too late (below 0); 0 if it may have been right. Other answers may have set the clock right
 * meanwhile, but what the question carried was written by the old belief.
 */
export function errorOf(aheadMs: number, answer: TimedAnswer): number {
  const { least, most } = boundsOf(answer);
  return Math.max(0, least - aheadMs) + Math.min(0, most - aheadMs);
}

function boundsOf({ sentMs, receivedMs, serverMs }: TimedAnswer): Bounds {
  return { least: serverMs - receivedMs, most: serverMs - sentMs };
}

function halfOf({ least, most }: Bounds): number {
  return (most - least) / 2;
}

/** By how much two steady clocks may have drifted apart in this time. */
function driftMs(passedMs: number): number {
  return Math.max(0, passedMs) * DRIFT;
}

function overlapOf(one: Bounds, other: Bounds): Bounds | undefined {
  const least = Math.max(one.least, other.least);
  const most = Math.min(one.most, other.most);
  return least <= most ? { least, most } : undefined;
}
