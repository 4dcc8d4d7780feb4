/** What a process makes of what it hears: the small part of the core around the rules, written anew as pure functions. */

import type { Entry } from "../core/backend.ts";
import { lockIn, queueIn, type Snapshot, snapshotAfter, type Versioned } from "../core/record/codec.ts";
import type { Holder, LockRecord, QueueRecord } from "../core/record/record.ts";
import { firstOf, holderIn, isWanted } from "./members.ts";
import { type Flight, type Hold, KEY, LEASE_MS, type Process, type Sighting, type World } from "./world.ts";

const locks = new WeakMap<Entry, Versioned<LockRecord>>();
const queues = new WeakMap<Entry, Versioned<QueueRecord>>();

/** The records as they are. The same entry is read once, for most states share it with others. */
export function snapshotIn({ lock, queue }: Pick<World, "lock" | "queue">): Snapshot {
  let [record, line] = [locks.get(lock), queues.get(queue)];
  if (record === undefined) locks.set(lock, record = lockIn(lock));
  if (line === undefined) queues.set(queue, line = queueIn(queue));
  return { key: KEY, lock: record, queue: line };
}

/** A hold as a record shows it: perhaps under a new fencing token, because its mode was changed. */
function recognised(hold: Hold, { fence, mode }: Holder): Hold {
  if (fence === hold.fence || fence === undefined) return hold;
  if (hold.change !== mode) return { ...hold, fence, mode };
  return { ...hold, fence, mode, settled: mode, change: undefined };
}

/** A process that has been shown these records. */
export function shown(process: Process, snapshot: Snapshot, now: number): Process {
  const { lock: { record, version }, queue } = snapshot;
  const sightings: Record<string, Sighting> = {};
  for (const { fence = "", renewals } of record.holders) {
    const seen = process.sightings[fence];
    const renewedMs = seen?.renewals === renewals ? seen.renewedMs : now;
    sightings[fence] = { sinceMs: seen?.sinceMs ?? now, renewals, renewedMs };
  }
  const notices: Record<string, number> = {};
  for (const { token } of record.notices ?? []) notices[token] = process.notices[token] ?? now;
  const { free, holds, departures, given } = process;
  // The outcome of a departure that is not named any more: what was handed over is there, or has been evicted meanwhile.
  const left = departures.filter((hold) => holderIn(record, hold) === undefined);
  const isLeft = ({ token }: { readonly token: string }) =>
    record.holders.some((holder) => holder.token === token) || notices[token] !== undefined;
  const handed = left.flatMap(({ mode, remainder }) =>
    remainder !== undefined && isLeft(remainder) ? [{ token: remainder.token, mode }] : []
  );
  const isSame = free !== undefined && free.version === version;
  const entries = queue !== undefined && queue.record.id === record.queue ? queue.record.entries : [];
  const entry = entries.find(({ participant }) => participant === process.name);
  const isOut = entry === undefined && process.holds.length + process.departures.length === 0;
  const next: Process = {
    ...process,
    seen: snapshot,
    isFresh: false,
    sightings,
    notices,
    free: isSame ? free : { version, sinceMs: now, isNew: free !== undefined },
    queuedIn: entry === undefined ? undefined : record.queue,
    entryToken: entry?.token ?? process.entryToken,
    ahead: isOut && process.requests.length > 0
      ? process.ahead ?? entries.map(({ participant }) => participant)
      : undefined,
    // What of ours is not named any more is over; no caller waits for an answer that is there.
    holds: holds.flatMap((hold) => {
      const holder = holderIn(record, hold);
      return holder === undefined ? [] : [recognised(hold, holder)];
    }),
    departures: departures.filter((hold) => !left.includes(hold)),
    given: handed.length > 0 ? [...given, ...handed] : given,
  };
  const { footprintMs } = next;
  return footprintMs !== undefined && now > footprintMs ? { ...next, footprintMs: undefined } : next;
}

/** A process whose commit is answered. */
export function answered(process: Process, flight: Flight, now: number): Process {
  const { snapshot, writes, grants, atMs } = flight;
  const { version } = flight.answer!;
  const rest: Process = { ...process, flight: undefined };
  if (version === null) return { ...rest, seen: undefined, conflicts: process.conflicts + 1, isFresh: false };
  const after = snapshotAfter(snapshot, writes, version);
  const { holders } = after.lock.record;
  let { requests } = rest;
  let holds = rest.holds.map((hold): Hold => {
    const [was, is] = [holderIn(snapshot.lock.record, hold), holderIn(after.lock.record, hold)];
    if (was === undefined || is === undefined) return hold;
    const isRenewed = was.renewals !== is.renewals || was.fence !== is.fence;
    return isRenewed ? { ...hold, fromMs: atMs, forMs: is.leaseMs } : hold;
  });
  for (const { token, claim: { mode } } of grants) {
    const fence = holders.find((holder) => holder.token === token)?.fence;
    // What was granted to one that has gone is taken out again; one that comes after its lease is tried again.
    if (
      fence === undefined || !requests.some((request) => request.token === token) || now - atMs >= LEASE_MS
    ) {
      continue;
    }
    requests = requests.filter((request) => request.token !== token);
    holds = [...holds, { token, fence, fromMs: atMs, forMs: LEASE_MS, sinceMs: now, mode, settled: mode }];
  }
  return shown({ ...rest, requests, holds, conflicts: 0 }, after, now);
}

/** A process that may have left something in the store: it is looked for as long as it could hold the lock. */
export function leaving(process: Process, now: number): Process {
  return { ...process, footprintMs: now + LEASE_MS };
}

/** A process that does not learn what became of its commit. */
export function unanswered(process: Process, now: number): Process {
  return { ...leaving(process, now), flight: undefined, seen: undefined, isFresh: false };
}

/** A process that starts at once with what it is offered, if its clock proves that the offer still runs. */
export function adopting(
  process: Process,
  { now, localNow, errorMs, offerMs }: {
    readonly now: number;
    readonly localNow: number;
    readonly errorMs: number;
    readonly offerMs: number;
  },
): Process | undefined {
  const offered = process.seen?.lock.record.holders.find((holder) => isWanted(process, holder));
  const request = firstOf(process);
  if (offered === undefined || request === undefined) return undefined;
  const { token, fence, expiresAt, leaseMs, mode } = offered;
  // Readers that wait together confirm it together.
  if (fence === undefined || expiresAt === null || (mode === "shared" && process.requests.length > 1)) {
    return undefined;
  }
  const forMs = Math.min(expiresAt - errorMs - localNow, LEASE_MS, offerMs);
  if (!(forMs > leaseMs / 3)) return undefined;
  return {
    ...process,
    requests: process.requests.filter((other) => other !== request),
    holds: [...process.holds, { token, fence, fromMs: now, forMs, sinceMs: now, mode, settled: mode }],
    entryToken: undefined,
    takenFence: fence,
    queuedIn: undefined,
  };
}
