/** Who stays a holder: what becomes of our own, and who makes way for the next one. */

import { endOf, evictableInMs, type Evidence, lapsesInMs } from "./evidence.ts";
import type { Claim, Grant, Members, Remainder } from "./members.ts";
import { admits, type Mode } from "./modes.ts";
import type { Holder, LockRecord } from "./record.ts";

/** What the steps of a plan share. */
export interface Scene {
  readonly record: LockRecord;
  readonly members: Members;
  readonly evidence: Evidence;
}

/** What has become of our own holders. */
export interface Ours {
  /** Those that stay, and all of others. */
  readonly kept: readonly Holder[];
  readonly grants: readonly Grant[];
  /** Whether one of ours leaves. */
  readonly left: boolean;
  /** Whether one of ours is renewed, or stays without an owner. */
  readonly renews: boolean;
  /** Whether one of ours stays, and is owned. */
  readonly holds: boolean;
}

/**
 * Our own holders: who leaves is taken out, or stays for a while without an owner; who is due, or was found, is renewed.
 * Others are left alone.
 */
export function renewOurs({ record, members, evidence }: Scene): Ours {
  const kept: Holder[] = [];
  const grants: Grant[] = [];
  let left = false;
  let renews = false;
  let holds = false;
  for (const holder of record.holders) {
    const intent = members.intentOf(holder);
    left ||= intent === "leave";
    renews ||= intent === "renew" || intent === "confirm" || intent === "remain";
    holds ||= intent === "keep" || intent === "renew" || intent === "confirm";
    if (intent === "keep" || intent === "foreign") kept.push(holder);
    if (intent === "remain") kept.push(remaining(holder, members.remainderOf(holder), evidence));
    if (intent !== "renew" && intent !== "confirm") continue;
    const claim = members.claimOf(holder);
    // An offer that is confirmed is a grant of its own, with a fencing token of its own.
    if (intent === "confirm" && holder.offeredTo !== undefined) kept.push(holderOf(claim, evidence));
    else kept.push(renewed(holder, claim, evidence));
    if (intent === "confirm") grants.push(grantOf(claim));
  }
  return { kept, grants, left, renews, holds };
}

/** Whom the next one finds in its way, and who has made way for it. */
export interface Room {
  readonly standing: readonly Holder[];
  /** Those whose leases were over. */
  readonly lapsed: readonly Holder[];
  readonly evicted: readonly Holder[];
  /** Whether there is room because of us. */
  readonly frees: boolean;
}

/** Drops who has surely lapsed and, of those that have overstayed, as many as must go to make room for `next`. */
export function makeRoom(
  { members, evidence }: Scene,
  { kept, grants, left }: Ours,
  { next, patienceMs }: { readonly next: Mode | undefined; readonly patienceMs: number | undefined },
): Room {
  const lapsed = kept.filter((holder) => isForeign(holder, members) && lapsesInMs(holder, evidence) <= 0);
  const alive = kept.filter((holder) => !lapsed.includes(holder));
  const evicted: Holder[] = [];
  let standing: readonly Holder[] = alive;
  for (const holder of alive) {
    if (next === undefined || admits(standing, next)) break;
    const isGranted = grants.some(({ token }) => token === holder.token);
    if (isGranted || evictableInMs(holder, patienceMs, evidence) > 0) continue;
    evicted.push(holder);
    standing = standing.filter((other) => other !== holder);
  }
  // Nobody is evicted for nothing.
  const steals = evicted.length > 0 && admits(standing, next!);
  return {
    standing: steals ? standing : alive,
    lapsed,
    evicted: steals ? evicted : [],
    frees: left || steals,
  };
}

function isForeign(holder: Holder, members: Members): boolean {
  return members.intentOf(holder) === "foreign";
}

/** After how long a holder may be evicted for `first`. One that may not wait evicts nobody unless it is its turn. */
export function patienceOf(first: Claim | undefined, members: Members, ahead: number): number | undefined {
  if (first === undefined || first.mayWait) return first && members.patienceMs;
  return ahead === 0 ? first.stealAfterMs : undefined;
}

/** In how long one of these may have lapsed, or may be evicted. */
export function soonestMs(
  holders: readonly Holder[],
  { members, evidence }: Scene,
  patienceMs: number | undefined,
): number {
  let soonest = Infinity;
  for (const holder of holders) {
    if (isForeign(holder, members)) soonest = Math.min(soonest, lapsesInMs(holder, evidence));
    const evictableMs = evictableInMs(holder, patienceMs, evidence);
    // One that has overstayed already waits for others to do so.
    if (evictableMs > 0) soonest = Math.min(soonest, evictableMs);
  }
  return soonest;
}

export function grantOf(claim: Claim): Grant {
  return { claim, token: claim.token };
}

export function holderOf({ token, mode, limit, leaseMs, label }: Claim, evidence: Evidence): Holder {
  const expiresAt = endOf(leaseMs, evidence);
  return { token, mode, limit, since: evidence.now, leaseMs, expiresAt, renewals: 0, label };
}

function renewed(
  holder: Holder,
  { leaseMs, label }: Pick<Claim, "leaseMs" | "label">,
  evidence: Evidence,
): Holder {
  const { token, mode, limit, since, renewals, fence } = holder;
  const expiresAt = endOf(leaseMs, evidence);
  return { token, mode, limit, since, leaseMs, expiresAt, renewals: following(renewals), fence, label };
}

function remaining(holder: Holder, { token, leaseMs }: Remainder, evidence: Evidence): Holder {
  return { ...renewed(holder, { leaseMs, label: holder.label }, evidence), token };
}

/** The number behind this one; the first again, once they cannot be told apart any more. */
function following(count: number): number {
  return count < Number.MAX_SAFE_INTEGER ? count + 1 : 0;
}
