/** Records as stores hold them, and as they were seen there. */

import type { Change, Entry } from "../backend.ts";
import { MAX_MS } from "../clock.ts";
import type { UnreadableRecordError } from "../errors.ts";
import { queueKeyOf } from "../identifier.ts";
import { decodeLock, decodeQueue, unreadable } from "./decode.ts";
import {
  FREE,
  GARBAGE_AFTER_MS,
  type Holder,
  type LockRecord,
  MAX_QUEUE,
  NO_QUEUE,
  type QueueRecord,
} from "./record.ts";

/**
 * For how long a queue outlives its last change before the store may collect it: it is not renewed while it waits.
 */
const QUEUE_EXPIRES_AFTER_MS = 24 * 3_600_000;

/** A record as it was seen in the store. */
export interface Versioned<Record> {
  /** The version of the commit that wrote it; `null` if there is none. */
  readonly version: string | null;
  readonly record: Record;
  /** Why it could not be read, and counts as void: only a queue does, which is advice. */
  readonly unreadable?: UnreadableRecordError;
}

/** What was seen of a lock: its record, every holder with its fencing token, and the queue's if that is known, too. */
export interface Snapshot {
  readonly key: string;
  readonly lock: Versioned<LockRecord>;
  readonly queue: Versioned<QueueRecord> | undefined;
}

/** What is to be written of a lock; what is absent is left alone, `null` deletes. */
export interface Writes {
  readonly lock?: LockRecord | null;
  readonly queue?: QueueRecord | null;
  /** Whether they only take back a hold of the caller's own, which no clock has had a say in. */
  readonly isOwn?: boolean;
  /** Whether the lock only passes from one to another of the caller's own. */
  readonly staysHere?: boolean;
}

const NO_LOCK: Versioned<LockRecord> = { version: null, record: FREE };
const QUEUE_OF_NOBODY: Versioned<QueueRecord> = { version: null, record: NO_QUEUE };

/** A lock of which there is nothing in the store. */
export function nothingAt(key: string): Snapshot {
  return { key, lock: NO_LOCK, queue: QUEUE_OF_NOBODY };
}

/** What these entries say; throws {@linkcode UnreadableRecordError} if the lock's is no record. */
export function snapshotOf(lock: Entry, queue: Entry | undefined): Snapshot {
  return { key: lock.key, lock: lockIn(lock), queue: queue && queueIn(queue) };
}

/** What an entry says of a lock; throws {@linkcode UnreadableRecordError} if it is no record. */
export function lockIn({ key, value, version, foreign }: Entry): Versioned<LockRecord> {
  if (foreign) throw unreadable(key, `it is ${value}`);
  return value === null ? NO_LOCK : { version, record: fenced(decodeLock(key, value), version) };
}

/**
 * What an entry says of a queue. If it is no record, the queue is void, as one that the lock does not name: no
 * process loses more than a place, and the next one that writes it replaces it. To refuse it would lock all
 * callers out, and keep holders from handing over, for the sake of advice.
 */
export function queueIn({ key, value, version, foreign }: Entry): Versioned<QueueRecord> {
  if (value === null) return QUEUE_OF_NOBODY;
  if (foreign) return { ...voidQueue(unreadable(key, `it is ${value}`)), version };
  try {
    return { version, record: decodeQueue(key, value) };
  } catch (error) {
    return { ...voidQueue(error as UnreadableRecordError), version };
  }
}

/** What is seen of a queue that cannot be read. */
export function voidQueue(unreadable: UnreadableRecordError): Versioned<QueueRecord> {
  return { version: null, record: NO_QUEUE, unreadable };
}

/** What there is to see after these writes. */
export function snapshotAfter({ key, lock, queue }: Snapshot, writes: Writes, version: string): Snapshot {
  return {
    key,
    lock: writes.lock === undefined
      ? lock
      : writes.lock === null
      ? NO_LOCK
      : { version, record: fenced(writes.lock, version) },
    queue: writes.queue === undefined
      ? queue
      : writes.queue === null
      ? QUEUE_OF_NOBODY
      : { version, record: writes.queue },
  };
}

/** The commit that makes these writes, if nothing that they change has been changed since. */
export function changesOf(
  { key, lock, queue }: Snapshot,
  writes: Writes,
  graceMs: number,
): Change[] {
  const { lock: record, queue: line } = writes;
  if (record === undefined) return line === undefined ? [] : [queueChange(key, queue, line)];
  const value = record && encodeLock(record);
  const expireInMs = record === null ? undefined : collectAfterMs(record, graceMs);
  const change = { key, version: lock.version, value, expireInMs, isOwn: writes.isOwn };
  return line === undefined ? [change] : [change, queueChange(key, queue, line)];
}

function queueChange(
  key: string,
  queue: Versioned<QueueRecord> | undefined,
  record: QueueRecord | null,
): Change {
  const value = record && JSON.stringify(record);
  const expireInMs = record === null ? undefined : QUEUE_EXPIRES_AFTER_MS;
  return { key: queueKeyOf(key), version: queue?.version ?? null, value, expireInMs };
}

/**
 * After how long a store may collect a lock's record. Counted in durations only, never by comparing clocks: a
 * store must not delete a live hold because a process's clock is wrong.
 */
export function collectAfterMs({ holders, notices, queue }: LockRecord, graceMs: number): number {
  let longestMs = 0;
  for (const { leaseMs } of holders) longestMs = Math.max(longestMs, leaseMs);
  for (const { leaseMs } of notices ?? []) longestMs = Math.max(longestMs, Math.min(2 * leaseMs, MAX_MS));
  return Math.ceil(longestMs + GARBAGE_AFTER_MS + (queue === undefined ? 0 : MAX_QUEUE * graceMs));
}

/** How long a record may be, in bytes: Deno KV takes no more than 64 KiB. */
const MAX_RECORD_BYTES = 65_000;
/** How many holders never make a longer one. */
const FEW_HOLDERS = 32;

/** The lock's record as a store holds it: JSON. */
export function encodeLock(record: LockRecord): string {
  const { holders, queue, notices } = record;
  const first: Partial<Holder> = holders[0] ?? {};
  const { token, mode, limit, permits, since, leaseMs, expiresAt, renewals } = first;
  const { fence, formerFence, label, offeredTo } = first;
  const more = permits ?? fence ?? formerFence ?? offeredTo ?? queue ?? notices ?? holders[1];
  const isPlain = mode === "exclusive" && limit === 1 && renewals === 0;
  if (!isPlain || more !== undefined) return sized(record);
  // A new grant and nothing else, as most records are: runtimes take three times as long for it.
  const labelled = label === undefined ? "" : `,"label":${quoted(label)}`;
  return `{"v":1,"holders":[{"token":"${token}","mode":"exclusive","limit":1,"since":${since},` +
    `"leaseMs":${leaseMs},"expiresAt":${expiresAt},"renewals":0${labelled}}]}`;
}

/** The last label that was quoted: most often, all locks of a process have the same. */
let lastLabel = "";
let lastQuoted = '""';

/** A label as JSON. */
function quoted(label: string): string {
  if (label !== lastLabel) {
    lastLabel = label;
    lastQuoted = JSON.stringify(label);
  }
  return lastQuoted;
}

/** As JSON. Many holders with long labels would not fit: labels are for people, and the first to go. */
function sized(record: LockRecord): string {
  const text = JSON.stringify(record);
  const { holders } = record;
  if (holders.length <= FEW_HOLDERS || new TextEncoder().encode(text).length <= MAX_RECORD_BYTES) return text;
  return JSON.stringify({ ...record, holders: holders.map((holder) => ({ ...holder, label: undefined })) });
}

/**
 * A record with the fencing token of every holder. The granting commit cannot know its own version; the next
 * writer can, because it has read that version: no other can have written in between.
 */
function fenced(record: LockRecord, version: string | null): LockRecord {
  const { v, holders, queue, notices, freedAt } = record;
  if (version === null || !holders.some(hasNoFence)) return record;
  const known = [...holders];
  let granted = 0;
  for (let i = 0; i < known.length; i++) {
    if (hasNoFence(known[i])) known[i] = withFence(known[i], indexed(version, granted++));
  }
  return { v, holders: known, queue, notices, freedAt };
}

/**
 * The fencing token of the holder at this index among those that one commit has granted. The first has the version, the
 * others something behind it: "+" comes before all that versions are made of, so that they rise as strings up to the next.
 */
function indexed(version: string, index: number): string {
  return index === 0 ? version : `${version}+${String(index).padStart(2, "0")}`;
}

function hasNoFence({ fence }: Holder): boolean {
  return fence === undefined;
}

/** By name, member for member: runtimes take four times as long to spread, and every grant comes by here. */
function withFence(holder: Holder, fence: string): Holder {
  const { token, mode, limit, permits, upgrades, since, leaseMs, expiresAt, renewals } = holder;
  const { formerFence, label, offeredTo } = holder;
  return {
    token,
    mode,
    limit,
    permits,
    upgrades,
    since,
    leaseMs,
    expiresAt,
    renewals,
    fence,
    formerFence,
    label,
    offeredTo,
  };
}
