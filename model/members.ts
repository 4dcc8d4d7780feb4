/** A process of the model as the rules see it: what it wants, and what it knows. The rest of the core is not asked. */

import type { Evidence } from "../core/record/evidence.ts";
import type { Claim, Intent, Members } from "../core/record/members.ts";
import type { Holder, LockRecord } from "../core/record/record.ts";
import {
  GRACE_MS,
  type Hold,
  LEASE_MS,
  type Process,
  type Request,
  type Setup,
  TICK_MS,
  type World,
} from "./world.ts";

/** How old a holder may be before one that steals takes its place. */
const STEAL_AFTER_MS = TICK_MS;

/** What a request asks for. */
export function claimOf({ token, kind, sinceMs }: Request, now: number, { how }: Setup): Claim {
  return {
    ...how,
    token,
    leaseMs: LEASE_MS,
    label: undefined,
    stealAfterMs: kind === "steals" ? STEAL_AFTER_MS : undefined,
    mayWait: kind !== "tries",
    waitedMs: now - sinceMs,
  };
}

/** Whether a record's holder is this hold: its token and its fence. */
function isOf(hold: Hold, { token, fence }: Holder): boolean {
  return hold.token === token && hold.fence === fence;
}

/** Whether a process owns a token: its name is what it begins with. */
export function owns({ name }: Process, token: string): boolean {
  return token.startsWith(name);
}

/** Whether its lease is not over, as its process would say if it were asked now. */
export function believes({ fromMs, forMs }: Hold, now: number): boolean {
  return now - fromMs < forMs;
}

/** The holds of a process that a record names. */
export function named(holds: readonly Hold[], { holders }: LockRecord): readonly Hold[] {
  return holds.filter((hold) => holders.some((holder) => isOf(hold, holder)));
}

/** Whether something was offered to an entry of this process, and it wants it. */
export function isWanted({ name, entryToken, takenFence, requests }: Process, holder: Holder): boolean {
  return holder.offeredTo === name && holder.token === entryToken && holder.fence !== takenFence &&
    requests.length > 0;
}

/** All that the rules ask of a process. */
export function membersOf(process: Process, now: number, setup: Setup): Members {
  const { name, requests, holds, departures, queuedIn, conflicts, tokens, ahead } = process;
  const claims = requests.map((request) => claimOf(request, now, setup));
  const patience = claims.flatMap(({ mayWait, stealAfterMs }) => mayWait ? stealAfterMs ?? [] : []);
  // A renewal is due after a third of the lease, and renews all of the process.
  const renews = holds.some(({ fromMs, forMs }) => now - fromMs >= forMs / 3);
  const held = (holder: Holder) => holds.find((hold) => isOf(hold, holder));
  let made = 0;
  return {
    participant: name,
    requests: claims,
    firstRequest: claims[0],
    patienceMs: patience.length > 0 ? Math.min(...patience) : undefined,
    queuedIn,
    // All requests of a process want the lock in the same way.
    queuedAs: new Map(queuedIn === undefined ? [] : [[name, setup.how]]),
    leavesQueueOut: conflicts >= 2,
    // What is passed on within a process for a moment is not modelled: it only makes others wait.
    keepsTurn: false,
    holdsBack: false,
    staysOut: false,
    isOurs: ({ participant }) => participant === name,
    isAhead: ({ participant }) => ahead === undefined || ahead.includes(participant),
    intentOf(holder): Intent {
      if (held(holder) !== undefined) return renews ? "renew" : "keep";
      if (departures.some((hold) => isOf(hold, holder))) return "leave";
      if (!owns(process, holder.token)) return "foreign";
      if (holder.offeredTo !== undefined) return isWanted(process, holder) ? "confirm" : "leave";
      return requests.some(({ token }) => token === holder.token) ? "confirm" : "leave";
    },
    claimOf(holder) {
      const hold = held(holder);
      if (hold !== undefined) return claimOf({ ...hold, kind: "waits" }, now, setup);
      return claims.find(({ token }) => token === holder.token) ?? claims[0];
    },
    changeOf: () => undefined,
    leaseMsOf: () => LEASE_MS,
    remainderOf: () => {
      throw new Error("nothing remains here");
    },
    newQueueId: () => `q${name}${tokens}`,
    newToken: () => `${name}${tokens + made++}e`,
  };
}

/** From where a process looks at the records. */
export function evidenceOf(process: Process, world: World, { offsets, skewMs }: Setup): Evidence {
  const { sightings, notices, free, holds } = process;
  const { now } = world;
  const since = (moment: number | undefined) => moment === undefined ? 0 : now - moment;
  return {
    now: now + offsets[world.processes.findIndex(({ name }) => name === process.name)],
    skewMs,
    errorMs: skewMs / 2,
    graceMs: GRACE_MS,
    holderSeenMs: (holder) =>
      since(holds.find((hold) => isOf(hold, holder))?.sinceMs ?? sightings[holder.fence ?? ""]?.sinceMs),
    leaseSeenMs({ fence, renewals }) {
      const seen = sightings[fence ?? ""];
      return since(seen?.renewals === renewals ? seen.renewedMs : undefined);
    },
    noticeSeenMs: ({ token }) => since(notices[token]),
    freeSeenMs: () =>
      since(free !== undefined && free.version === process.seen?.lock.version ? free.sinceMs : undefined),
    sawFreed: () => free?.version === process.seen?.lock.version && free?.isNew === true,
  };
}
