/** A record as stores hold it, and as it was seen there. */

import type { Entry } from "../backend.ts";
import { MAX_MS } from "../clock.ts";
import { quote, UnreadableRecordError } from "../errors.ts";
import { MAX_LABEL_UNITS } from "../options.ts";
import {
  type Eviction,
  FREE,
  GARBAGE_AFTER_MS,
  type Holder,
  type LockRecord,
  MAX_HOLDERS,
  MAX_NOTICES,
  MAX_QUEUE,
  MAX_TIME,
  type Waiter,
} from "./record.ts";

/** How long a record may be, in UTF-16 units: what surely does not fit into Deno KV's 64 KiB is none of ours. */
const MAX_RECORD_UNITS = 65_536;
/** How long tokens, fencing tokens and names of queue entries may be. */
const MAX_NAME_UNITS = 256;

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
  const { token, mode, limit, since, leaseMs, expiresAt, renewals, fence, label }: Partial<Holder> =
    holders[0] ?? {};
  const more = fence ?? label ?? evicted ?? queue[0] ?? holders[1];
  if (token === undefined || more !== undefined) return JSON.stringify(record);
  // A new grant and nothing else, as most records are: runtimes take three times as long for it.
  return `{"v":1,"holders":[{"token":"${token}","mode":"${mode}","limit":${limit},"since":${since},` +
    `"leaseMs":${leaseMs},"expiresAt":${expiresAt},"renewals":${renewals}}],"queue":[]}`;
}

/** What an entry of a store says; throws {@linkcode LockBackendError} if it is no record. */
export function sightOf({ key, value, version, foreign }: Entry): Sight {
  if (foreign) throw unreadable(key, `it is ${value}`);
  return seen(key, decode(key, value), version);
}

/** What there is to see after a record was written, or deleted. */
export function written(key: string, record: LockRecord | null, version: string): Sight {
  return seen(key, record ?? FREE, record && version);
}

/**
 * The record that a store held; throws {@linkcode UnreadableRecordError} for anything else.
 *
 * Everything that a rule relies on is checked: a lease that is no number would count as over. Members that this version
 * does not know are dropped, because a version that gives them a meaning raises `v`.
 */
export function decode(key: string, text: string | null): LockRecord {
  if (text === null) return FREE;
  try {
    if (text.length > MAX_RECORD_UNITS) flaw("it", `at most ${MAX_RECORD_UNITS} characters long`, text);
    return recordIn(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) throw unreadable(key, "it is no JSON");
    throw unreadable(key, (error as Error).message);
  }
}

function unreadable(key: string, flaw: string): UnreadableRecordError {
  return new UnreadableRecordError(`the record of ${quote(key)} cannot be read: ${flaw}`);
}

function recordIn(found: unknown): LockRecord {
  const { v, holders, queue, evicted, freedAt } = object(found, "it");
  if (typeof v === "number" && v > 1) {
    throw new TypeError(`a newer version of Holdfast wrote it (format ${v})`);
  }
  if (v !== 1) flaw("v", "1", v);
  return {
    v,
    holders: list(holders, "holders", MAX_HOLDERS, { itemOf: holderIn, nameOf: ({ token }) => token }),
    queue: list(queue, "queue", MAX_QUEUE, { itemOf: waiterIn, nameOf: ({ seat }) => seat }),
    evicted: evicted === undefined
      ? undefined
      : list(evicted, "evicted", MAX_NOTICES, { itemOf: evictionIn }),
    freedAt: freedAt === undefined ? undefined : time(freedAt, "freedAt"),
  };
}

function holderIn(found: unknown, at: string): Holder {
  const { token, mode, limit, since, leaseMs, expiresAt, renewals, fence, label } = object(found, at);
  return {
    token: name(token, `${at}.token`),
    mode: only("exclusive", mode, `${at}.mode`),
    limit: only(1, limit, `${at}.limit`),
    since: time(since, `${at}.since`),
    leaseMs: leaseIn(leaseMs, `${at}.leaseMs`),
    expiresAt: time(expiresAt, `${at}.expiresAt`),
    renewals: count(renewals, `${at}.renewals`),
    fence: fence === undefined ? undefined : name(fence, `${at}.fence`),
    label: labelIn(label, `${at}.label`),
  };
}

function waiterIn(found: unknown, at: string): Waiter {
  const { seat, mode, limit, since, label } = object(found, at);
  return {
    seat: name(seat, `${at}.seat`),
    mode: only("exclusive", mode, `${at}.mode`),
    limit: only(1, limit, `${at}.limit`),
    since: time(since, `${at}.since`),
    label: labelIn(label, `${at}.label`),
  };
}

function evictionIn(found: unknown, at: string): Eviction {
  const { token, reason, until } = object(found, at);
  if (reason !== "stolen" && reason !== "forced") flaw(`${at}.reason`, '"stolen" or "forced"', reason);
  return { token: name(token, `${at}.token`), reason, until: time(until, `${at}.until`) };
}

/** Says what is wrong, without a value that may be a secret. */
function flaw(at: string, rule: string, found: unknown): never {
  let kind: string = typeof found;
  if (found === null || typeof found === "number" || typeof found === "boolean") kind = String(found);
  else if (Array.isArray(found)) kind = `an array of ${found.length}`;
  else if (typeof found === "string") kind = `a string of ${found.length} characters`;
  else if (typeof found === "object") kind = "an object";
  throw new TypeError(`${at} must be ${rule}, it is ${kind}`);
}

function object(found: unknown, at: string): Partial<Record<string, unknown>> {
  if (typeof found !== "object" || found === null || Array.isArray(found)) flaw(at, "an object", found);
  return found as Partial<Record<string, unknown>>;
}

/** How one item of a list is read, and what must differ between them. */
interface Items<Item> {
  readonly itemOf: (found: unknown, at: string) => Item;
  readonly nameOf?: (item: Item) => string;
}

function list<Item>(found: unknown, at: string, most: number, { itemOf, nameOf }: Items<Item>): Item[] {
  if (!Array.isArray(found) || found.length > most) flaw(at, `an array of at most ${most}`, found);
  const items = found.map((item, i) => itemOf(item, `${at}[${i}]`));
  if (nameOf !== undefined && new Set(items.map(nameOf)).size < items.length) {
    throw new TypeError(`${at} names one of them twice`);
  }
  return items;
}

function only<const Value>(value: Value, found: unknown, at: string): Value {
  if (found !== value) flaw(at, JSON.stringify(value), found);
  return value;
}

function name(found: unknown, at: string): string {
  return textIn(found, at, MAX_NAME_UNITS);
}

function labelIn(found: unknown, at: string): string | undefined {
  return found === undefined ? undefined : textIn(found, at, MAX_LABEL_UNITS);
}

function textIn(found: unknown, at: string, most: number): string {
  const fits = typeof found === "string" && found.length > 0 && found.length <= most && found.isWellFormed();
  if (!fits) flaw(at, `a string of 1 to ${most} characters without lone surrogates`, found);
  return found;
}

function time(found: unknown, at: string): number {
  if (typeof found !== "number" || !(Math.abs(found) <= MAX_TIME)) {
    flaw(at, "a moment in milliseconds since the Unix epoch", found);
  }
  return found;
}

function leaseIn(found: unknown, at: string): number {
  if (typeof found !== "number" || !(found > 0 && found <= MAX_MS)) {
    flaw(at, `a number of milliseconds up to ${MAX_MS}`, found);
  }
  return found;
}

function count(found: unknown, at: string): number {
  if (!Number.isSafeInteger(found) || (found as number) < 0) flaw(at, "a whole number from 0 on", found);
  return found as number;
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
