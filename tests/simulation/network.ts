import { LockBackendError } from "../../core/errors.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

/** How the network between the processes and the store behaves. Shares are from 0 to 1. */
export interface Network {
  /** How many messages take ten times as long. */
  readonly slow: number;
  /** How many requests are on their way for up to `lateMs`, long after their callers have given up. */
  readonly late: number;
  readonly lateMs: number;
  /** How many requests never arrive. */
  readonly loseRequest: number;
  /** How many answers never arrive, though the request did. */
  readonly loseAnswer: number;
  /** How many requests arrive twice, the second time late. */
  readonly repeat: number;
  /** How many of the lost ones are reported as a failure; the others stay silent. */
  readonly tellLoss: number;
  /** How many commits are refused although nothing has changed, without saying what is there. */
  readonly refuse: number;
  /** How many commits the client sends twice by itself: it hears of the second only, which the first one has made stale. */
  readonly echo: number;
  /** How many requests fail in a way that waiting does not cure. */
  readonly fail: number;
  /** How many wake-ups come twice, the second time late and showing what was then. */
  readonly repeatWake: number;
  /** How many wake-ups are forged: on some stores others may send them, too. They offer the lock to every watcher. */
  readonly forgeWake: number;
  /** How many watches fail, end by themselves, or never show anything. */
  readonly failWatch: number;
  readonly endWatch: number;
  readonly silentWatch: number;
  /** Whether a watch that asks for free news only gets any. */
  readonly push: boolean;
}

/** A network on which nothing goes wrong. */
export const FAIR: Network = {
  slow: 0,
  late: 0,
  lateMs: 0,
  loseRequest: 0,
  loseAnswer: 0,
  repeat: 0,
  tellLoss: 0,
  refuse: 0,
  echo: 0,
  fail: 0,
  repeatWake: 0,
  forgeWake: 0,
  failWatch: 0,
  endWatch: 0,
  silentWatch: 0,
  push: true,
};

/** How far a process is from the store: the usual time of one way, in milliseconds. */
export interface Distance {
  readonly thereMs: number;
  readonly backMs: number;
}

/** The way between the processes and the store. */
export class SimNetwork {
  readonly world: World;
  readonly random: () => number;
  state: Network;
  /** How the watches that are open are made to fail. */
  readonly watches = new Set<() => void>();
  /** Once healed, no process is farther away than this. */
  #farthestMs = Infinity;
  /** Goes up with every restart of the store: what is under way then is lost. */
  #connection = 0;

  constructor(world: World, state: Network, random: () => number) {
    this.world = world;
    this.state = state;
    this.random = random;
  }

  /** Nothing goes wrong from now on; what is under way stays so. */
  heal(): void {
    this.state = { ...FAIR, push: this.state.push };
    this.#farthestMs = 12;
  }

  /** All connections break, and every watch with them. */
  restart(): void {
    this.#connection++;
    for (const fail of [...this.watches]) fail();
  }

  get connection(): number {
    return this.#connection;
  }

  /** How long a message takes for a way that usually takes `ms`. */
  delay(ms: number): number {
    const usual = Math.min(ms, this.#farthestMs) * (0.5 + this.random());
    return this.random() < this.state.slow ? 10 * usual : usual;
  }

  chance(share: number): boolean {
    return share > 0 && this.random() < share;
  }

  /** A request and its answer, each of which may be late, lost or repeated. */
  ask<Answer>(
    process: SimProcess,
    { thereMs, backMs }: Distance,
    apply: () => Answer,
    done: { readonly heard: (answer: Answer) => void; readonly lost: () => void },
  ): Promise<Answer> {
    return new Promise((resolve, reject) =>
      process.act(() => {
        const { loseRequest, loseAnswer, tellLoss, late, lateMs, repeat, fail } = this.state;
        const fate = this.random();
        const told = this.random() < tellLoss;
        const connection = this.#connection;
        const answer = (how: () => void) =>
          this.world.schedule(this.delay(backMs), () => process.deliver(how));
        const lose = () => {
          done.lost();
          if (told) answer(() => reject(new LockBackendError("connection lost", { transient: true })));
        };
        if (fate < loseRequest) return lose();
        if (fate > 1 - fail) {
          done.lost();
          return answer(() => reject(new LockBackendError("no permission", { transient: false })));
        }
        const arrive = (first: boolean) => {
          let outcome: () => void;
          try {
            const answered = apply();
            outcome = () => {
              done.heard(answered);
              resolve(answered);
            };
          } catch (error) {
            outcome = () => reject(error);
          }
          if (!first) return;
          if (fate < loseRequest + loseAnswer || connection !== this.#connection) return lose();
          answer(() => {
            // Hearing it may show that it is worth nothing.
            try {
              outcome();
            } catch (error) {
              reject(error);
            }
          });
        };
        const wayMs = this.delay(thereMs) + (this.chance(late) ? lateMs * this.random() : 0);
        this.world.schedule(wayMs, () => arrive(true));
        if (this.chance(repeat)) {
          this.world.schedule(wayMs + 0.1 + Math.max(lateMs, 50) * this.random(), () => arrive(false));
        }
      })
    );
  }
}
