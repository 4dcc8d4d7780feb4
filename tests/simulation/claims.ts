/** The judge of what is handed over, and of what becomes of it: of several locks all go together, or none. */

import { type Hold, type Holder, requestOf } from "./core.ts";
import type { Rule } from "./exemptions.ts";
import type { Mark } from "./marks.ts";
import type { SimProcess } from "./process.ts";
import type { Weather } from "./schedule.ts";
import { type Applied, locksWrittenBy, type Request } from "./store.ts";

/** The judge of all laws, as far as this one needs it. */
export interface Court {
  readonly weather: Weather;
  readonly asked: (rule: Rule) => boolean;
  readonly nowMs: () => number;
  check(condition: boolean, law: number, message: string): void;
  mark(mark: Mark): void;
}

/** A caller that hands its locks over, or takes them up. */
interface Party {
  readonly process: SimProcess;
  readonly keys: readonly string[];
  /** Names its request. */
  readonly id?: number;
  readonly restores?: string;
  readonly grants?: readonly { readonly hold: Hold }[];
}

/** One lock that was handed over. */
interface Claim {
  /** Until when it is good, as the commit says that has handed it over. */
  readonly untilMs: number;
  readonly leaseMs: number;
  readonly handedOver: Request;
  /** Whether it has left the record, whatever the reason. */
  isGone: boolean;
  /** The token of the hold that it has become. */
  takenUpAs?: string;
  takenUp?: Request;
}

/** What was handed over in one run. */
export class Claims {
  readonly #court: Court;
  /** By its token, and then by the key of each of its locks. */
  readonly #claims = new Map<string, Map<string, Claim>>();

  constructor(court: Court) {
    this.#court = court;
  }

  /** A hold is handed over, under this token. */
  onHandedOver({ keys, process }: Party, token: string): void {
    const { check, mark } = this.#court;
    const claims = keys.map((key) => this.#of(token, key));
    check(
      claims.every((claim) => claim !== undefined),
      2,
      `${process.name} was given a claim that was never in the record`,
    );
    const isLost = claims.some((claim) => claim?.handedOver.answer === "lost");
    if (isLost) mark("handed over, and the answer was lost");
    if (keys.length === 1) return;
    mark("several locks handed over together");
    if (isLost) mark("several locks handed over, and the answer was lost");
  }

  /** What was asked of a claim has an outcome. */
  onRestored({ id, keys, process, restores, grants }: Party, isTakenUp: boolean): void {
    const { check, mark, asked } = this.#court;
    const claims = keys.map((key) => this.#of(restores!, key));
    const isSeveral = keys.length > 1;
    if (isTakenUp) {
      const token = grants?.[0].hold.token;
      const isIt = claims.every((claim) => claim?.takenUpAs === token);
      if (asked("exclusive")) check(isIt, 1, `${process.name} has taken up what another one has`);
      if (claims[0]?.takenUp?.answer === "lost") {
        mark("taken up by a commit whose answer was lost");
        if (isSeveral) mark("several locks taken up by a commit whose answer was lost");
      }
      mark("a claim taken up");
      if (isSeveral) mark("a claim of several locks taken up");
      return;
    }
    // It may be late, or another may have taken it: if it is there, it is honoured. Both processes must know the time for
    // that, as for the order: one that has slept may say of its claim that it ends sooner.
    const isThere = claims.every((claim) =>
      claim !== undefined && !claim.isGone && process.now < claim.untilMs - 0.01 * claim.leaseMs - 5
    );
    if (asked("order")) check(!isThere, 5, `${process.name} was refused a claim that is in the record`);
    // What it has taken up itself it may have lost before the answer came.
    const isTaken = (claim: Claim | undefined) =>
      claim?.takenUpAs !== undefined && requestOf(claim.takenUpAs) !== id;
    if (claims.some(isTaken)) {
      mark("a claim that was delivered twice found nothing");
      if (isSeveral) mark("a claim of several locks that was delivered twice found nothing");
      return;
    }
    if (claims.some((claim) => claim !== undefined && process.now > claim.untilMs)) {
      mark("a claim that came too late found nothing");
      if (isSeveral) mark("a claim of several locks that came too late found nothing");
    } else if (claims.some((claim) => claim?.isGone) && !claims.every((claim) => claim?.isGone)) {
      mark("a claim of several locks found that one of them was taken away");
    }
  }

  /** A commit has handed over the lock of this key: `was` is what it was, if that was there. */
  onWritten(
    holder: Holder,
    { key, process, request }: Applied,
    { was, isOwn, keys }: {
      readonly was: Holder | undefined;
      /** Whether it was the process's own. */
      readonly isOwn: boolean;
      /** All that its caller holds together with it. */
      readonly keys: readonly string[];
    },
  ): void {
    const { check, mark } = this.#court;
    check(was !== undefined && isOwn, 4, `${process.name} hands over what was not its own`);
    const isSameHow = was?.mode === holder.mode && was.limit === holder.limit &&
      was.permits === holder.permits;
    check(isSameHow, 1, `${process.name} hands over another hold than it had`);
    const written = locksWrittenBy(request).filter(({ holders }) =>
      holders.some(({ token }) => token === holder.token)
    );
    check(
      keys.every((key) => written.some((lock) => lock.key === key)),
      1,
      `${process.name} hands over some of the locks that it holds together`,
    );
    const { token, leaseMs } = holder;
    this.#put(token, key, { untilMs: request.madeMs + leaseMs, leaseMs, handedOver: request });
    mark("handed over by a claim");
  }

  /** One that waits behind it, and wants a holder of that age evicted, was granted by the same commit. */
  onEvictedAtOnce(token: string, { key, request }: Applied): void {
    if (this.#of(token, key) !== undefined) return;
    this.#put(token, key, { untilMs: request.madeMs, leaseMs: 0, handedOver: request, isGone: true });
  }

  /** What was handed over is taken up, evicted, or over: nothing else takes it out of the record. */
  onRemoved(
    { token, mode, limit }: Holder,
    { key, process, request }: Applied,
    { taken, isEvicted }: { readonly taken: Holder | undefined; readonly isEvicted: boolean },
  ): void {
    const { check, mark, asked, weather, nowMs } = this.#court;
    const claim = this.#of(token, key)!;
    claim.isGone = true;
    if (taken !== undefined) {
      const isOnce = claim.takenUpAs === undefined || !asked("exclusive");
      check(isOnce, 1, `${process.name} took up a claim that had been taken up`);
      claim.takenUpAs = taken.token;
      claim.takenUp = request;
      if (mode === "shared" || limit > 1) mark("a claim of a reader, or of some permits, taken up");
      return;
    }
    if (isEvicted) return mark("a claim was evicted");
    if (!asked("exclusive")) return;
    const leftMs = claim.untilMs - nowMs();
    // A process that has slept may not know the time: it then says of a claim that it ends sooner, which costs no other process.
    check(
      leftMs <= 0 || weather !== "calm",
      1,
      `${process.name} took a lock that was in transit for ${leftMs.toFixed(0)} ms more`,
    );
    mark("a claim lapsed, and another got the lock");
    if (this.#claims.get(token)!.size > 1) {
      mark("a claim of several locks lapsed, and another got one of them");
    }
  }

  #of(token: string, key: string): Claim | undefined {
    return this.#claims.get(token)?.get(key);
  }

  #put(token: string, key: string, claim: Omit<Claim, "isGone"> & { isGone?: boolean }): void {
    let locks = this.#claims.get(token);
    if (locks === undefined) this.#claims.set(token, locks = new Map());
    locks.set(key, { isGone: false, ...claim });
  }
}
