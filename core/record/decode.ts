/** What a store held as a record, checked to the last member. */

import { MAX_MS } from "../clock.ts";
import { quote, UnreadableRecordError } from "../errors.ts";
import { MAX_LABEL_UNITS } from "../options.ts";
import { MAX_HOLDERS, MAX_LIMIT, type Mode } from "./modes.ts";
import {
  type EvictionNotice,
  type Holder,
  type LockRecord,
  MAX_NOTICES,
  MAX_QUEUE,
  MAX_TIME,
  type QueueEntry,
  type QueueRecord,
} from "./record.ts";

/** How long a record may be, in UTF-16 units: what surely does not fit into Deno KV's 64 KiB is none of ours. */
const MAX_RECORD_UNITS = 65_536;
/** How long tokens, fencing tokens and names of queue entries may be. */
const MAX_NAME_UNITS = 256;

/**
 * The lock's record that a store held; throws {@linkcode UnreadableRecordError} for anything else.
 *
 * Everything that a rule relies on is checked: a lease that is no number would count as over. Members that this version
 * does not know are dropped, because a version that gives them a meaning raises `v`.
 */
export function decodeLock(key: string, text: string): LockRecord {
  return decode(key, text, lockRecordIn);
}

/** The queue's record that a store held; throws {@linkcode UnreadableRecordError} for anything else. */
export function decodeQueue(key: string, text: string): QueueRecord {
  return decode(key, text, queueRecordIn);
}

function decode<Record>(key: string, text: string, recordIn: (found: Fields) => Record): Record {
  try {
    if (text.length > MAX_RECORD_UNITS) flaw("it", `at most ${MAX_RECORD_UNITS} characters long`, text);
    const found = object(JSON.parse(text), "it");
    const { v } = found;
    if (typeof v === "number" && v > 1) {
      throw new TypeError(`a newer version of Holdfast wrote it (format ${v})`);
    }
    if (v !== 1) flaw("v", "1", v);
    return recordIn(found);
  } catch (error) {
    const what = error instanceof SyntaxError ? "it is no JSON" : (error as Error).message;
    throw unreadable(key, what);
  }
}

/** Tells that what a store holds under this key is no record. */
export function unreadable(key: string, what: string): UnreadableRecordError {
  return new UnreadableRecordError(`the record of ${quote(key)} cannot be read: ${what}`);
}

function lockRecordIn({ holders, queue, notices, freedAt }: Fields): LockRecord {
  return {
    v: 1,
    holders: list(holders, "holders", MAX_HOLDERS, { itemOf: holderIn, nameOf: ({ token }) => token }),
    queue: queue === undefined ? undefined : name(queue, "queue"),
    notices: notices === undefined ? undefined : list(notices, "notices", MAX_NOTICES, { itemOf: noticeIn }),
    freedAt: freedAt === undefined ? undefined : timeOrNull(freedAt, "freedAt"),
  };
}

function queueRecordIn({ id, entries }: Fields): QueueRecord {
  return {
    v: 1,
    id: name(id, "id"),
    entries: list(entries, "entries", MAX_QUEUE, {
      itemOf: entryIn,
      nameOf: ({ participant }) => participant,
    }),
  };
}

function holderIn(found: unknown, at: string): Holder {
  const fields = object(found, at);
  const { token, since, leaseMs, expiresAt, renewals, fence, formerFence, label, offeredTo } = fields;
  const { mode, limit, permits } = modeIn(fields, at);
  return {
    token: name(token, `${at}.token`),
    mode,
    limit,
    permits,
    upgrades: upgradesIn(fields, at),
    since: time(since, `${at}.since`),
    leaseMs: leaseIn(leaseMs, `${at}.leaseMs`),
    expiresAt: timeOrNull(expiresAt, `${at}.expiresAt`),
    renewals: count(renewals, `${at}.renewals`),
    fence: fence === undefined ? undefined : name(fence, `${at}.fence`),
    formerFence: formerFence === undefined ? undefined : name(formerFence, `${at}.formerFence`),
    label: labelIn(label, `${at}.label`),
    offeredTo: offeredTo === undefined ? undefined : name(offeredTo, `${at}.offeredTo`),
  };
}

function entryIn(found: unknown, at: string): QueueEntry {
  const fields = object(found, at);
  const { participant, token, since, label, turnMs } = fields;
  const { mode, limit, permits } = modeIn(fields, at);
  return {
    participant: name(participant, `${at}.participant`),
    token: name(token, `${at}.token`),
    mode,
    limit,
    permits,
    since: time(since, `${at}.since`),
    label: labelIn(label, `${at}.label`),
    turnMs: turnMs === undefined ? undefined : leaseIn(turnMs, `${at}.turnMs`),
  };
}

function modeIn({ mode, limit, permits }: Fields, at: string): Mode {
  if (mode !== "exclusive" && mode !== "shared") flaw(`${at}.mode`, '"exclusive" or "shared"', mode);
  const most = mode === "shared" ? 1 : MAX_LIMIT;
  const all = permitsIn(limit, `${at}.limit`, most);
  // What takes more than there is would be in the way of all behind it for ever.
  return {
    mode,
    limit: all,
    permits: permits === undefined ? undefined : permitsIn(permits, `${at}.permits`, all),
  };
}

function permitsIn(found: unknown, at: string, most: number): number {
  const fits = Number.isSafeInteger(found) && (found as number) >= 1 && (found as number) <= most;
  if (!fits) flaw(at, most === 1 ? "1" : `a whole number from 1 to ${most}`, found);
  return found as number;
}

function upgradesIn({ mode, upgrades }: Fields, at: string): true | undefined {
  if (upgrades === undefined) return undefined;
  if (upgrades !== true || mode !== "shared") {
    flaw(`${at}.upgrades`, "true, and only in shared mode", upgrades);
  }
  return true;
}

function noticeIn(found: unknown, at: string): EvictionNotice {
  const { token, reason, leaseMs, until } = object(found, at);
  if (reason !== "stolen" && reason !== "forced") flaw(`${at}.reason`, '"stolen" or "forced"', reason);
  return {
    token: name(token, `${at}.token`),
    reason,
    leaseMs: leaseIn(leaseMs, `${at}.leaseMs`),
    until: timeOrNull(until, `${at}.until`),
  };
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

/** The members of an object, whatever they are. */
type Fields = { readonly [member: string]: unknown };

function object(found: unknown, at: string): Fields {
  if (typeof found !== "object" || found === null || Array.isArray(found)) flaw(at, "an object", found);
  return found as Fields;
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

function timeOrNull(found: unknown, at: string): number | null {
  return found === null ? null : time(found, at);
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
