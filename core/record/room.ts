/** Which holders stay: what becomes of ours, and which make way for the next one. */

import { endOf, evictableInMs, type Evidence, lapsesInMs } from "./evidence.ts";
import type { Claim, Grant, Members, Remainder } from "./members.ts";
import { admits, isFull, isSameMode, type Mode } from "./modes.ts";
import type { Holder, LockRecord } from "./record.ts";

/** What the steps of a plan share. */
export interface Scene {
  readonly record: LockRecord;
  readonly members: Members;
  readonly evidence: Evidence;
}

/** What has become of our holders. */
export interface Ours {
  /** Those that stay, and all of others. */
  readonly kept: readonly Holder[];
  readonly grants: readonly Grant[];
  /** Whether one of ours leaves, or takes up less room from now on. */
  readonly left: boolean;
  /** Whether one of ours is renewed, stays without an owner, or leaves. */
  readonly renews: boolean;
  /** What keeps one of ours from being the only one, which it waits for: others that hold the lock; one that waits for the same. */
  readonly upgrade: "waits" | "refused" | undefined;
}

/**
 * Our holders: one that leaves is taken out, or stays for a while without an owner; one that is due, or was found, is renewed.
 * Others are left alone.
 */
export function renewOurs(scene: Scene): Ours {
  const { record, members } = scene;
  const kept: Holder[] = [];
  const grants: Grant[] = [];
  let [left, renews, isTurn, isOnly] = [false, false, false, false];
  let upgrade: Ours["upgrade"];
  for (const holder of record.holders) {
    const intent = members.intentOf(holder);
    let stays: Holder | undefined = holder;
    if (intent === "leave") stays = undefined;
    else if (intent === "confirm") {
      const claim = members.claimOf(holder);
      stays = confirmed(holder, claim, scene);
      if (stays !== undefined) grants.push(grantOf(claim));
      // What was offered to a reader is the turn of all readers here that were queued in the same entry.
      if (holder.offeredTo !== undefined && claim.entry === undefined) isTurn = stays?.mode === "shared";
      left ||= stays !== undefined && !isSameMode(holder, stays);
    } else if (intent === "restore") {
      const claim = members.claimOf(holder);
      if (isThere(holder, claim, scene)) {
        // A new grant: the process that has handed it over may still write under the token that it had.
        stays = holderOf(claim, scene.evidence);
        grants.push(grantOf(claim));
      }
    } else if (intent !== "foreign") {
      const next = intent === "remain" ? { holder: remaining(holder, scene) } : nextOf(holder, scene);
      upgrade ??= next.upgrade;
      stays = next.holder;
      // A reader that no longer waits to be the only one makes room.
      left ||= stays.mode === "shared" && stays.upgrades === undefined && !isSameMode(holder, stays);
    }
    left ||= stays === undefined;
    renews ||= stays !== holder;
    isOnly ||= holder.mode === "shared" && stays?.mode === "exclusive";
    if (stays !== undefined) kept.push(stays);
  }
  if (isTurn) admitReaders({ kept, grants }, scene);
  // Next to the only one none is left, not even those that have expired.
  const staying = isOnly ? kept.filter(({ mode }) => mode === "exclusive") : kept;
  return { kept: staying, grants, left, renews, upgrade };
}

/** What becomes of a holder that was offered to us, or granted without our knowing; nothing if there is no room for its claim. */
function confirmed(holder: Holder, claim: Claim, scene: Scene): Holder | undefined {
  if (holder.offeredTo === undefined) return renewed(holder, claim, scene.evidence);
  // It is a new grant, with a new fencing token. Another request than the one that was queued may take it.
  return admits(besides(holder, scene), claim) ? holderOf(claim, scene.evidence) : undefined;
}

/** Whether what was handed over may still be taken up: its lease may not be over, and it is what the claim says. */
function isThere(holder: Holder, claim: Claim, { evidence }: Scene): boolean {
  return lapsesInMs(holder, evidence) > 0 && isSameMode(holder, claim);
}

/** What becomes of a holder that is ours and stays: its mode is changed, or its lease renewed, or neither. */
function nextOf(
  holder: Holder,
  scene: Scene,
): { readonly holder: Holder; readonly upgrade?: Ours["upgrade"] } {
  const { members, evidence } = scene;
  const claim = members.claimOf(holder);
  const { label } = claim;
  const change = members.changeOf(holder);
  let upgrade: Ours["upgrade"];
  if (change !== undefined && change.to !== holder.mode) {
    const others = change.to === "shared" ? [] : besides(holder, scene);
    if (others.length === 0) {
      // A change of mode is a new grant: a resource may have seen the tokens of other readers.
      const leaseMs = Math.max(claim.leaseMs, members.leaseMsOf(holder));
      const granted = holderOf({ token: holder.token, mode: change.to, limit: 1, leaseMs, label }, evidence);
      return { holder: { ...granted, formerFence: holder.fence } };
    }
    upgrade = others.some(({ upgrades }) => upgrades) ? "refused" : "waits";
  }
  const upgrades = (upgrade === "waits" && change!.mayWait) || undefined;
  if (members.intentOf(holder) === "keep" && upgrades === holder.upgrades) return { holder, upgrade };
  const leaseMs = members.leaseMsOf(holder);
  return { holder: { ...renewed(holder, { leaseMs, label }, evidence), upgrades }, upgrade };
}

/** The other holders that do not leave, and have not surely expired. */
function besides(holder: Holder, { record, members, evidence }: Scene): readonly Holder[] {
  return record.holders.filter((other) => {
    if (other === holder) return false;
    if (isForeign(other, members)) return lapsesInMs(other, evidence) > 0;
    return members.intentOf(other) !== "leave";
  });
}

/** Admits the readers here that are next, together with one that was admitted in its turn. */
function admitReaders(
  { kept, grants }: { readonly kept: Holder[]; readonly grants: Grant[] },
  { members, evidence }: Scene,
): void {
  for (const claim of members.requests) {
    if (claim.entry !== undefined || claim.restores !== undefined) continue;
    if (grants.some((grant) => grant.claim === claim)) continue;
    // A writer is not admitted, and nothing behind it.
    if (!admits(kept, claim)) return;
    kept.push(holderOf(claim, evidence));
    grants.push(grantOf(claim));
  }
}

/** The holders in the way of the next one, and those that are removed for it. */
export interface Room {
  readonly standing: readonly Holder[];
  /** Those whose leases were over. */
  readonly lapsed: readonly Holder[];
  readonly evicted: readonly Holder[];
  /** Whether there is room because of us. */
  readonly frees: boolean;
}

/** Drops the holders that have surely lapsed and, of those that have overstayed, as many as must go to make room for `next`. */
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
    // What this commit grants it does not evict.
    const isGranted = holder.fence === undefined || grants.some(({ token }) => token === holder.token);
    if (isGranted || evictableInMs(holder, patienceMs, evidence) > 0) continue;
    evicted.push(holder);
    standing = standing.filter((other) => other !== holder);
  }
  // No holder is evicted for nothing.
  const steals = evicted.length > 0 && admits(standing, next!);
  return {
    standing: steals ? standing : alive,
    lapsed,
    evicted: steals ? evicted : [],
    frees: left || steals,
  };
}

/** Whether the lock is ours alone, and full: one that waits behind our holds is next when one of them ends. */
export function isOursAlone(holders: readonly Holder[], isOurs: (holder: Holder) => boolean): boolean {
  return holders.every(isOurs) && isFull(holders);
}

/** Whether no process here holds it: what is taken up is another one's until then. */
export function isForeign(holder: Holder, members: Members): boolean {
  const intent = members.intentOf(holder);
  return intent === "foreign" || intent === "restore";
}

/**
 * After how long a holder may be evicted for `first`. One that may not wait evicts no holder unless it is its
 * turn.
 */
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

export function holderOf(
  { token, mode, limit, permits, leaseMs, label }: Mode & Pick<Claim, "token" | "leaseMs" | "label">,
  evidence: Evidence,
): Holder {
  const expiresAt = endOf(leaseMs, evidence);
  return { token, mode, limit, permits, since: evidence.now, leaseMs, expiresAt, renewals: 0, label };
}

function renewed(
  holder: Holder,
  { leaseMs, label }: Pick<Claim, "leaseMs" | "label">,
  evidence: Evidence,
): Holder {
  const { token, mode, limit, permits, since, fence } = holder;
  const expiresAt = endOf(leaseMs, evidence);
  const renewals = following(holder.renewals);
  return { token, mode, limit, permits, since, leaseMs, expiresAt, renewals, fence, label };
}

/** What stays of a holder that has been released, and is to have a certain age first. */
function remaining(holder: Holder, { members, evidence }: Scene): Holder {
  const { token, leaseMs }: Remainder = members.remainderOf(holder);
  return { ...renewed(holder, { leaseMs, label: holder.label }, evidence), token };
}

/** The number behind this one; the first again, once they cannot be distinguished any more. */
function following(count: number): number {
  return count < Number.MAX_SAFE_INTEGER ? count + 1 : 0;
}
