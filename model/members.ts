/** A process of the model as the rules see it: what it wants, and what it knows. The rest of the core is not asked. */

import type { Evidence } from "../core/record/evidence.ts";
import type { Claim, Intent, Members } from "../core/record/members.ts";
import type { Mode } from "../core/record/modes.ts";
import type { Holder, LockRecord } from "../core/record/record.ts";
import {
  GRACE_MS,
  type Hold,
  LEASE_MS,
  NAMES,
  type Process,
  type Request,
  type Setup,
  TICK_MS,
  type World,
} from "./world.ts";

/** How old a holder may be before one that steals takes its place. */
const STEAL_AFTER_MS = TICK_MS;

/** How a process asks for the lock. */
export function howOf({ name }: Pick<Process, "name">, { how, modes }: Setup): Pick<Mode, "mode" | "limit"> {
  return modes === undefined ? how : { ...how, mode: modes[NAMES.indexOf(name)] };
}

/** What a request asks for. */
export function claimOf(
  { token, kind, sinceMs, restores }: Request,
  now: number,
  how: Pick<Mode, "mode" | "limit">,
): Claim {
  return {
    ...how,
    ...restores !== undefined && { mode: restores.mode, restores: restores.token },
    token,
    leaseMs: LEASE_MS,
    label: undefined,
    stealAfterMs: kind === "steals" ? STEAL_AFTER_MS : undefined,
    mayWait: mayWait({ kind }),
    waitedMs: now - sinceMs,
  };
}

/** Whether a request may wait, if it cannot be granted. */
export function mayWait({ kind }: Pick<Request, "kind">): boolean {
  return kind === "waits" || kind === "steals";
}

/** The first request that does not only take up what was handed over. */
export function firstOf({ requests }: Pick<Process, "requests">): Request | undefined {
  return requests.find(({ restores }) => restores === undefined);
}

/** Whether a record's holder is this hold: its token and its fence, or the one that it had before its mode was changed. */
function isOf(hold: Hold, { token, fence, formerFence }: Holder): boolean {
  return hold.token === token && (hold.fence === fence || hold.fence === formerFence);
}

/** The holder in a record that is this hold. */
export function holderIn({ holders }: LockRecord, hold: Hold): Holder | undefined {
  return holders.find((holder) => isOf(hold, holder));
}

/** How it is to be held from now on, if that is not so. */
function wantedOf({ mode, settled, change }: Hold): Mode["mode"] | undefined {
  return change ?? (mode === settled ? undefined : settled);
}

/** Whether a process owns a token: its name is what it begins with. */
export function owns({ name }: Process, token: string): boolean {
  return token.startsWith(name);
}

/** Whether its lease is not over, as its process would say if it were asked now. */
export function believes({ fromMs, forMs }: Hold, now: number): boolean {
  return now - fromMs < forMs;
}

/** Whether something was offered to an entry of this process, and it wants it. */
export function isWanted(process: Process, holder: Holder): boolean {
  const { name, entryToken, takenFence } = process;
  return holder.offeredTo === name && holder.token === entryToken && holder.fence !== takenFence &&
    firstOf(process) !== undefined;
}

/** All that the rules ask of a process. */
export function membersOf(process: Process, now: number, setup: Setup): Members {
  const { name, requests, holds, departures, queuedIn, conflicts, tokens, ahead } = process;
  const how = howOf(process, setup);
  const claims = requests.map((request) => claimOf(request, now, how));
  const patience = claims.flatMap(({ mayWait, stealAfterMs }) => mayWait ? stealAfterMs ?? [] : []);
  // A renewal is due after a third of the lease, and renews all of the process.
  const renews = holds.some(({ fromMs, forMs }) => now - fromMs >= forMs / 3);
  const held = (holder: Holder) => holds.find((hold) => isOf(hold, holder));
  const departing = (holder: Holder) => departures.find((hold) => isOf(hold, holder));
  const restorer = ({ token }: Holder) => claims.find(({ restores }) => restores === token);
  let made = 0;
  return {
    participant: name,
    requests: claims,
    firstRequest: claims.find(({ restores }) => restores === undefined),
    patienceMs: patience.length > 0 ? Math.min(...patience) : undefined,
    queuedIn,
    // All requests of a process want the lock in the same way.
    queuedAs: new Map(queuedIn === undefined ? [] : [[name, how]]),
    leavesQueueOut: conflicts >= 2,
    // What is passed on within a process for a moment is not modelled: it only makes others wait.
    keepsTurn: false,
    holdsBack: false,
    staysOut: false,
    isOurs: ({ participant }) => participant === name,
    isAhead: ({ participant }) => ahead === undefined || ahead.includes(participant),
    intentOf(holder): Intent {
      if (held(holder) !== undefined) return renews ? "renew" : "keep";
      const departure = departing(holder);
      if (departure !== undefined) return departure.remainder === undefined ? "leave" : "remain";
      if (!owns(process, holder.token)) return restorer(holder) === undefined ? "foreign" : "restore";
      if (holder.offeredTo !== undefined) return isWanted(process, holder) ? "confirm" : "leave";
      return requests.some(({ token }) => token === holder.token) ? "confirm" : "leave";
    },
    claimOf(holder) {
      const hold = held(holder);
      if (hold !== undefined) return claimOf({ ...hold, kind: "waits" }, now, how);
      const request = restorer(holder) ?? claims.find(({ token }) => token === holder.token);
      return request ?? claims.find(({ restores }) => restores === undefined)!;
    },
    changeOf(holder) {
      const hold = held(holder);
      const to = hold && wantedOf(hold);
      return to && { to, mayWait: true };
    },
    leaseMsOf: () => LEASE_MS,
    remainderOf: (holder) => departing(holder)!.remainder!,
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
