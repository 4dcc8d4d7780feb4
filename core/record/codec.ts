/** A record as stores hold it, and as it was seen there. */

import type { Entry } from "../backend.ts";
import { LockBackendError, quote } from "../errors.ts";
import { FREE, GARBAGE_AFTER_MS, type Holder, type LockRecord } from "./record.ts";

/** A record as it was seen in the store, every holder with its fencing token. */
export interface Sight {
  readonly key: string;
  /** The version of the commit that wrote it; `null` if there is no record. */
  readonly version: string | null;
  readonly record: LockRecord;
}

/**
 * After how long a store may collect a record. Counted in durations only, never by comparing clocks:
 * a store must not delete a live hold because somebody's clock is wrong.
 */
export function garbageAfterMs(record: LockRecord, now: number, graceMs: number): number {
  let longest = 0;
  for (const { leaseMs } of record.holders) longest = Math.max(longest, leaseMs);
  for (const { until } of record.evicted ?? []) longest = Math.max(longest, Math.min(until - now, 2 ** 31));
  return Math.ceil(longest + GARBAGE_AFTER_MS + record.queue.length * graceMs);
}

/** The record as a store holds it: JSON. */
export function encode(record: LockRecord): string {
  const { holders, queue, evicted } = record;
  const { token, since, leaseMs, expiresAt, fence, label }: Partial<Holder> = holders[0] ?? {};
  const more = fence ?? label ?? evicted ?? queue[0] ?? holders[1];
  if (token === undefined || more !== undefined) return JSON.stringify(record);
  // A new grant and nothing else, as most records are: runtimes take three times as long for it.
  return `{"v":1,"holders":[{"token":"${token}","mode":"exclusive","limit":1,"since":${since},` +
    `"leaseMs":${leaseMs},"expiresAt":${expiresAt},"renewals":0}],"queue":[]}`;
}

/** What an entry of a store says; throws {@linkcode LockBackendError} if it is no record. */
export function sightOf({ key, value, version }: Entry): Sight {
  return seen(key, decode(key, value), version);
}

/** What there is to see after a record was written, or deleted. */
export function written(key: string, record: LockRecord | null, version: string): Sight {
  return seen(key, record ?? FREE, record && version);
}

/** The record that a store held; throws {@linkcode LockBackendError} for anything else. */
export function decode(key: string, text: string | null): LockRecord {
  if (text === null) return FREE;
  let message = `the store holds something else under the key ${quote(key)}`;
  let cause: unknown;
  try {
    const found: Partial<LockRecord> | null = JSON.parse(text);
    if (found?.v === 1 && Array.isArray(found.holders) && Array.isArray(found.queue)) {
      return found as LockRecord;
    }
    if (typeof found?.v === "number" && found.v > 1) {
      message = `the record of ${quote(key)} was written by a newer version of Holdfast (format ${found.v})`;
    }
  } catch (error) {
    cause = error;
  }
  throw new LockBackendError(message, { cause });
}

/**
 * A record with the fencing token of every holder. The granting commit cannot know its own version; whoever
 * writes next can, because it has read that version: nobody can have written in between.
 */
function seen(key: string, record: LockRecord, version: string | null): Sight {
  if (version === null || record.holders.every(({ fence }) => fence !== undefined)) {
    return { key, version, record };
  }
  // A holder without one was granted by the very commit that this record comes from.
  const holders = record.holders.map((holder) =>
    holder.fence === undefined ? { ...holder, fence: version } : holder
  );
  return { key, version, record: { ...record, holders } };
}
