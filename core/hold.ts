import type { Acquisition } from "./acquisition.ts";
import { Alarm, type Moment, momentOf, pause, spanMs } from "./clock.ts";
import { backendError, LockBackendError, LockLostError, type LossReason } from "./errors.ts";
import { type HoldEvent, publish, publishBackendError } from "./events.ts";
import { follow } from "./follow.ts";
import type { LocalQueue } from "./local_queue.ts";
import type { CheckedOptions } from "./options.ts";
import { answerMs, RETRY } from "./peer.ts";
import { type Sight, sightOf } from "./record/codec.ts";
import type { LockRecord } from "./record/record.ts";
import { lossOf, release, renew } from "./record/rules.ts";
import { Backoff } from "./retry.ts";

/** After how long a held lock starts to watch its own record, and does so again if the watch fails. */
const WATCH_AFTER_MS = 1000;
/** How long someone with an outcome of his own waits for a release that meets difficulties. */
const QUIET_MS = 2000;

/** A lock while it is held: renewal, the news of its loss, release. What `Lock` shows to users. */
export class Hold {
  readonly queue: LocalQueue;
  readonly identifier: string;
  readonly options: CheckedOptions;
  readonly token: string;
  readonly fencingToken: string;

  /**
   * The store has made this acquisition the holder: it is granted the lock, unless it has left meanwhile, or the answer
   * took so long that the lease may be over. `alarm` is one that it does not need any more.
   */
  static grant(
    queue: LocalQueue,
    acquisition: Acquisition,
    sight: Sight,
    sent: Moment,
    now: Moment,
    alarm: Alarm = new Alarm(queue.peer.clock),
  ): boolean {
    const { settled, token, options: { leaseMs } } = acquisition;
    const mine = sight.record.holders.find((holder) => holder.token === token);
    if (settled || mine?.fence === undefined || spanMs(sent, now) >= leaseMs) return false;
    const hold = new Hold(queue, acquisition, sight, mine.fence, sent, now, alarm);
    const previous = queue.occupy(hold);
    acquisition.grant(hold);
    // Last, for it calls the users' listeners. The record no longer names it: it need not wait to be told by the store.
    previous?.lose(lossOf(sight.record, previous.token));
    return true;
  }

  readonly #acquisition: Acquisition;
  readonly #grantedMs: number;
  /** The record as last seen; the next write bets on it. */
  #sight: Sight | undefined;
  /** When the write that carries the current lease was sent: the lease is counted from there. */
  #leased: Moment;
  #state: "held" | "released" | LockLostError = "held";
  #signal: AbortController | undefined;
  #release: Promise<boolean> | undefined;
  #renewAtMs: number;
  #renewing = false;
  /** Of the renewals that have failed since one succeeded. */
  #backoff: Backoff | undefined;
  #watching: AbortController | undefined;
  #watchAtMs: number;
  #observed = false;
  /** For its renewals and its end; once it is released, for the store to answer in. */
  readonly #alarm: Alarm;

  private constructor(
    queue: LocalQueue,
    acquisition: Acquisition,
    sight: Sight,
    fencingToken: string,
    sent: Moment,
    granted: Moment,
    alarm: Alarm,
  ) {
    this.queue = queue;
    this.identifier = acquisition.identifier;
    this.options = acquisition.options;
    this.token = acquisition.token;
    this.#acquisition = acquisition;
    this.#alarm = alarm;
    this.fencingToken = fencingToken;
    this.#grantedMs = granted.monotonic;
    this.#watchAtMs = this.#grantedMs + WATCH_AFTER_MS;
    this.#sight = sight;
    this.#leased = sent;
    this.#renewAtMs = sent.monotonic + this.options.leaseMs / 3;
    this.arm(granted);
  }

  /** How long ago it was granted. */
  get ageMs(): number {
    return this.queue.peer.clock.monotonicMs() - this.#grantedMs;
  }

  /** What every message about it says. */
  get event(): HoldEvent {
    return { ...this.#acquisition.event, fencingToken: this.fencingToken };
  }

  /** Whether it is surely still ours. The first look after the lease has run out says no and tells. */
  get held(): boolean {
    if (this.#state !== "held") return false;
    if (this.#leftMs() > 0) return true;
    this.lose("expired");
    return false;
  }

  /** The loss, if it was lost. */
  get lost(): LockLostError | undefined {
    return this.#state instanceof LockLostError ? this.#state : undefined;
  }

  /** Aborts when the lock is lost; never on a release. */
  get signal(): AbortSignal {
    // Made on demand: most holds are short and never asked for it.
    this.#signal ??= new AbortController();
    // A process that wakes from a freeze may look here before its timers have run.
    if (!this.held && this.lost !== undefined) this.#signal.abort(this.lost);
    return this.#signal.signal;
  }

  /**
   * Somebody looks at this hold: from its first second on, it watches its own record, to tell at once. Where
   * nobody looks it does not, for a watch may keep the process alive.
   */
  observe(): this {
    if (!this.#observed) {
      this.#observed = true;
      this.arm();
    }
    return this;
  }

  /** It is no longer ours. */
  lose(reason: LossReason): void {
    if (this.#state !== "held") return;
    this.#miss(reason);
    this.queue.vacate(this);
  }

  /** Looks at the store whether it is still ours, and tells if not. */
  async verify(): Promise<Sight | undefined> {
    const sight = await this.queue.peer.read(this.queue.key, this.#limitMs);
    if (this.#isIn(sight.record)) return sight;
    this.lose(lossOf(sight.record, this.token));
    return undefined;
  }

  /**
   * Gives it back, handing over to the next one in this process where that is fair. `true` if it was ours
   * and is now free; `false` if it was lost before. Repeats the first outcome when called again.
   */
  release(): Promise<boolean> {
    return this.#release ??= this.held ? this.#giveBack() : this.#clearAway();
  }

  /**
   * Releases for one who has an outcome of his own: a failure of the store is only published, and a release
   * that takes long goes on without him.
   */
  async releaseQuietly(): Promise<void> {
    await new Promise<void>((resolve) => {
      const { clock } = this.queue.peer;
      const timer = clock.after(QUIET_MS, resolve);
      this.release().catch((error) => publishBackendError(this.identifier, error)).finally(() => {
        clock.clear(timer);
        resolve();
      });
    });
  }

  /** How long one question may take. Meanwhile the lease may end: the timer tells, whatever is unanswered. */
  get #limitMs(): number {
    return answerMs(this.options.leaseMs);
  }

  /**
   * Whether a record names this very hold. Its token alone proves nothing: the first try of its acquisition may be late,
   * and land when a later try had been granted, lost and taken over by others. That grant is nobody's.
   */
  #isIn({ holders }: LockRecord): boolean {
    return holders.some(({ token, fence }) => token === this.token && fence === this.fencingToken);
  }

  #leftMs(now = momentOf(this.queue.peer.clock)): number {
    return this.options.leaseMs - spanMs(this.#leased, now);
  }

  #end(state: "released" | LockLostError): void {
    this.#state = state;
    this.#alarm.stop();
    this.#watching?.abort();
  }

  #miss(reason: LossReason): void {
    this.#end(new LockLostError(this.identifier, reason, this.fencingToken));
    publish("holdfast:lost", () => ({ ...this.event, heldMs: this.ageMs, reason }));
    this.#signal?.abort(this.lost);
  }

  /** Sets its alarm anew: for what comes next, and for whether somebody here waits for it. */
  arm(now = momentOf(this.queue.peer.clock)): void {
    if (this.#state !== "held") return;
    let dueMs = now.monotonic + this.#leftMs(now);
    if (this.options.renew && !this.#renewing) dueMs = Math.min(dueMs, this.#renewAtMs);
    if (this.#observed && this.#watching === undefined) dueMs = Math.min(dueMs, this.#watchAtMs);
    // A lock that was forgotten must lapse, not keep its process alive; one that is waited for keeps it.
    this.#alarm.set(dueMs, now.monotonic, this.#tick, !this.queue.wanted);
  }

  readonly #tick = (): void => {
    if (!this.held) return;
    const now = this.queue.peer.clock.monotonicMs();
    if (this.#observed && this.#watching === undefined && now >= this.#watchAtMs) this.#watch();
    if (this.options.renew && !this.#renewing && now >= this.#renewAtMs) void this.#renew();
    this.arm();
  };

  async #renew(): Promise<void> {
    const { peer } = this.queue;
    const { clock } = peer;
    this.#renewing = true;
    try {
      while (this.held) {
        const sight: Sight | undefined = this.#sight ?? await this.verify();
        if (sight === undefined || !this.held) return;
        const sent = momentOf(clock);
        const next = this.#isIn(sight.record)
          ? renew(sight.record, this.token, peer.now(), peer.unsure)
          : null;
        this.#sight = undefined;
        if (next === null) continue;
        const result = await peer.replace(sight, next, this.#limitMs);
        this.#sight = result.sight;
        if (!result.ok) continue;
        if (!this.held) return;
        const lateMs = Math.max(0, clock.monotonicMs() - this.#leased.monotonic - this.options.leaseMs / 3);
        publish("holdfast:renewed", () => ({ ...this.event, lateMs }));
        this.#leased = sent;
        this.#renewAtMs = sent.monotonic + this.options.leaseMs / 3;
        this.#backoff = undefined;
        return;
      }
    } catch (error) {
      // Nothing is lost yet: it is tried again until the lease has run out.
      this.#sight = undefined;
      this.#backoff ??= new Backoff({ ...RETRY, mostMs: this.options.leaseMs / 3 });
      this.#renewAtMs = clock.monotonicMs() + this.#backoff.pauseMs();
      publishBackendError(this.identifier, backendError(this.identifier, "renew", error));
    } finally {
      this.#renewing = false;
      this.arm();
    }
  }

  #watch(): void {
    const { peer: { backend, clock }, key } = this.queue;
    this.#watching = follow((signal) => backend.watch(key, { signal, idle: true }), async (entry) => {
      const { record } = sightOf(entry);
      // A watch may be late and show what was there before the grant: only the store itself is believed.
      if (!this.#isIn(record)) await this.verify();
    }, (error) => {
      // The next renewal finds out what the watch cannot tell.
      publishBackendError(this.identifier, backendError(this.identifier, "watch", error));
      this.#watching?.abort();
      this.#watching = undefined;
      this.#watchAtMs = clock.monotonicMs() + WATCH_AFTER_MS;
      this.arm();
    });
  }

  /** Most often the first try is all: nobody here waits, and the record is still the one seen. */
  #giveBack(): Promise<boolean> {
    const { queue, token } = this;
    const { peer } = queue;
    const now = peer.clock.monotonicMs();
    const heldMs = now - this.#grantedMs;
    const sight = this.#sight;
    this.#state = "released";
    this.#watching?.abort();
    let unsure = false;
    return new Promise((resolve) => {
      const failed = (error: unknown) => resolve(this.#insist(heldMs, undefined, unsure, { error }));
      try {
        const seat = queue.idleSeat;
        const next = sight && seat && this.#isIn(sight.record) &&
          release(sight.record, token, peer.now(), undefined, seat, peer.unsure);
        if (!next) return resolve(this.#insist(heldMs, sight, false));
        unsure = true;
        peer.ask(peer.commit(sight, next.record), this.#limitMs, this.#alarm, now, (answer) => {
          const result = peer.replaced(sight, next.record, answer);
          if (!result.ok) return resolve(this.#insist(heldMs, result.sight, false));
          this.#leave(heldMs, result.sight);
          resolve(true);
        }, failed);
      } catch (error) {
        failed(error);
      }
    });
  }

  /**
   * Tries until the store answers for sure: released, handed over, or lost before. `known` is the record as last seen;
   * `unsure` is whether a commit may have landed whose answer was lost; `failure` is that of the first try.
   */
  async #insist(
    heldMs: number,
    known: Sight | undefined,
    unsure: boolean,
    failure?: { readonly error: unknown },
  ): Promise<boolean> {
    const { queue, token } = this;
    const { peer, key } = queue;
    /** Who may have been handed the lock. */
    const heirs = new Set<Acquisition>();
    let failed = false;
    const backoff = new Backoff({ ...RETRY, mostMs: this.options.leaseMs / 3 });
    let error: LockBackendError | undefined;
    try {
      for (;;) {
        try {
          if (failure !== undefined && !failed) throw failure.error;
          const fresh = known === undefined;
          const sight: Sight = known ?? await peer.read(key, this.#limitMs);
          known = undefined;
          const { record } = sight;
          const heir = queue.heir();
          const sent = momentOf(peer.clock);
          const step = this.#isIn(record)
            ? release(record, token, peer.now(), heir?.want(), queue.idleSeat, peer.unsure)
            : null;
          if (step === null) {
            if (!fresh) continue;
            known = sight;
            const reason = lossOf(record, token);
            if (unsure && reason === "expired") {
              // As long as the lease runs, a note would tell of an eviction. Later its silence proves nothing.
              if (this.#leftMs() > 0) return true;
              throw new LockBackendError("the answer to the release was lost, and the lease has ended since");
            }
            this.#miss(reason);
            return false;
          }

          if (heir !== undefined) {
            if (step.granted) heir.mayHold = true;
            else heir.stand();
            heirs.add(heir);
          }
          const unsureBefore: boolean = unsure;
          unsure = true;
          const result = await peer.replace(sight, step.record, this.#limitMs);
          unsure = unsureBefore;
          known = result.sight;
          if (!result.ok) continue;
          // Granted too late, the heir looks again, as it does when it asks for itself.
          if (heir && step.granted) Hold.grant(queue, heir, result.sight, sent, momentOf(peer.clock));
          return true;
        } catch (cause) {
          known = undefined;
          const transient = cause instanceof LockBackendError && cause.transient;
          if (!transient || this.#leftMs() <= 0) {
            throw error = backendError(this.identifier, "release", cause);
          }
          failed = true;
          await pause(peer.clock, backoff.pauseMs());
        }
      }
    } finally {
      this.#leave(heldMs, known, error);
      const ghost = known?.record.holders.some((holder) => holder.token === token);
      if (ghost || this.lost !== undefined) await this.#clearAway(ghost);
      for (const heir of heirs) {
        // Whoever left while the lock was on its way to it may have it now.
        if (heir.settled && !heir.granted) void heir.leaveNothing();
      }
    }
  }

  /** It is given back, or the store could not be told. */
  #leave(heldMs: number, known?: Sight, error?: LockBackendError): void {
    this.#alarm.stop();
    if (this.lost === undefined) publish("holdfast:released", () => ({ ...this.event, heldMs, error }));
    this.queue.vacate(this, known);
  }

  /**
   * After a loss there is nothing to give back, but the record may still name us, or this process in the queue: a waiter
   * that left while it was held relied on the release. `ghost` is that a grant of ours is there that nobody owns.
   */
  async #clearAway(ghost = false): Promise<boolean> {
    const { peer, key } = this.queue;
    const queued = peer.seated.has(key) && !peer.queues.has(key);
    if (ghost || queued || this.lost?.reason === "expired") {
      await peer.tidy(key, this.token, this.options.leaseMs).catch((error) =>
        publishBackendError(this.identifier, backendError(this.identifier, "release", error))
      );
    }
    return false;
  }
}
