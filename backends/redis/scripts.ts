/** What the server keeps of a record, and the scripts that change it there. */

import { createHash } from "node:crypto";
import type { Change, Entry } from "../../core/backend.ts";
import { QUEUE } from "../../core/identifier.ts";
import { MAX_TARGETS } from "../../core/targets.ts";
import { indexIn } from "../news_index.ts";

/** How many digits a version has: microseconds since 1970 until the year 2286. */
export const DIGITS = 16;
/** How wrong the sender of a commit may be about the server's time; two processes then differ by twice as much at most. */
export const TOLERANCE_MS = 250;
/** What a deletion answers: a number, which a client can be set to return as text. */
export const DELETED = "1";

/** The time in microseconds, as the digits of a version. */
const NOW = `
local parts = call('TIME')
local micros = parts[2]
if #micros < 6 then micros = string.sub('00000' .. micros, -6) end
local now = parts[1] .. micros
-- A machine without a battery for its clock starts in 1970.
if #now < ${DIGITS} then now = string.rep('0', ${DIGITS} - #now) .. now end
`;

/**
 * Versions are the time in microseconds, but always higher than the last, of the bucket and of the record: so they rise
 * even if the clock steps back, and even if the counters are lost. What is answered is the new version, with the time
 * behind it where that differs.
 */
const VERSION = `
local version, answer = now, now
if last and (tonumber(last) or 0) + 1 > now + 0 then
  version = string.format('%0${DIGITS}.0f', last + 1)
  answer = version .. now
  call('SET', counter, version)
end
local record = version .. value
`;

/**
 * Makes a record where there is none; `whom` is what the channel is called by: nothing if that concerns all, "@"
 * if it concerns only watchers without a name. Answers the new version; or the time and the record now there.
 */
const CREATE = `
local last = call('GETSET', counter, now)
${VERSION}
local done
if expire == '0' then
  done = call('SET', key, record, 'NX')
else
  done = call('SET', key, record, 'NX', 'PX', expire)
end
if not done then return {now, call('GET', key), call('GET', key .. '${QUEUE}')} end
call('PUBLISH', key .. '@DB' .. whom, record)
return answer
`;

/**
 * Replaces a record if its version is `seen`; `at` is the sender's view of the time, `whom` as above. Answers the new
 * version; or the time and the record now there. A change that was made by a clock far ahead of ours is refused like one
 * that came too late, for it may have taken a living holder for a lapsed one.
 */
const REPLACE = `
local found = call('GET', key)
if not found or string.sub(found, 1, ${DIGITS}) ~= seen or at * 1000 > now + ${TOLERANCE_MS * 1000} then
  return {now, found, call('GET', key .. '${QUEUE}')}
end
local last = call('GETSET', counter, now)
if not last or last < seen then last = seen end
${VERSION}
if expire == '0' then
  call('SET', key, record)
else
  call('SET', key, record, 'PX', expire)
end
call('PUBLISH', key .. '@DB' .. whom, record)
return answer
`;

const DROP = `
  call('DEL', key)
  call('PUBLISH', key .. '@DB' .. whom, '')
  return ${DELETED}
`;

/**
 * Deletes a record if its version is `seen`. Answers `DELETED`; or the time and the record now there. `at` is the sender's
 * view of the time if it has judged another's hold by it, and empty if it only takes back its own: a cleanup by a clock
 * far ahead of ours may have taken a living holder for a lapsed one, and is refused as a replacement is.
 */
const DELETE = `
local found = call('GET', key)
local fits = found and string.sub(found, 1, ${DIGITS}) == seen
if fits and at == '' then ${DROP} end
${NOW}
if fits and at * 1000 <= now + ${TOLERANCE_MS * 1000} then ${DROP} end
return {now, found, call('GET', key .. '${QUEUE}')}
`;

/**
 * Does to each of several records what its own commit would have done, whatever becomes of the others. ARGV: an opcode
 * for each, then the arguments of each. Answers what they would have been answered, a failure as its text alone.
 */
const BATCH = `
local call = redis.call
${NOW}
local function create(key, counter, value, expire, whom) ${CREATE} end
local function replace(key, counter, seen, value, expire, at, whom) ${REPLACE} end
local function delete(key, seen, at, whom) ${DELETE} end
local replies, k, a = {}, 1, 2
for opcode in string.gmatch(ARGV[1], '.') do
  local done, reply
  if opcode == 'd' then
    done, reply = pcall(delete, KEYS[k], ARGV[a], ARGV[a + 1], ARGV[a + 2])
    k, a = k + 1, a + 3
  elseif opcode == 'c' then
    done, reply = pcall(create, KEYS[k], KEYS[k + 1], ARGV[a], ARGV[a + 1], ARGV[a + 2])
    k, a = k + 2, a + 3
  else
    done, reply = pcall(
      replace, KEYS[k], KEYS[k + 1], ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
    )
    k, a = k + 2, a + 5
  end
  if not done then reply = {type(reply) == 'table' and reply.err or reply} end
  replies[#replies + 1] = reply
end
return replies
`;

/** Reads records. Answers the time, then what is under KEYS. */
const READ = `
local call = redis.call
${NOW}
local found = {now}
for i = 1, #KEYS do found[i + 1] = call('GET', KEYS[i]) end
return found
`;

/**
 * Commits changes to several records, or to one that does not concern all watchers. KEYS: the records, then their
 * buckets' counters. ARGV: the sender's view of the time; the index of the news, see `indexOf`; the names of those
 * that it concerns, each followed by a comma, or "*" for all; then for each record the version that it must have,
 * after how many milliseconds it may go ("0" never, "-" at once), and its value. Answers as the others do, with
 * all records.
 */
const COMMIT = `
local call = redis.call
${NOW}
local count, fits, found = (#ARGV - 3) / 3, ARGV[1] * 1000 <= now + ${TOLERANCE_MS * 1000}, {now}
for i = 1, count do
  local record = call('GET', KEYS[i])
  found[i + 1] = record
  if (record and string.sub(record, 1, ${DIGITS}) or '') ~= ARGV[3 * i + 1] then fits = false end
end
if not fits then return found end
local last = ''
for i = 1, count do
  if ARGV[3 * i + 1] > last then last = ARGV[3 * i + 1] end
end
for i = count + 1, #KEYS do
  local counted = call('GETSET', KEYS[i], now)
  if counted and (tonumber(counted) or 0) > (tonumber(last) or 0) then last = counted end
end
local version, answer = now, now
if (tonumber(last) or 0) + 1 > now + 0 then
  version = string.format('%0${DIGITS}.0f', last + 1)
  answer = version .. now
  for i = count + 1, #KEYS do call('SET', KEYS[i], version) end
end
local news = ARGV[2] .. version
for i = 1, count do
  local value, expire = ARGV[3 * i + 3], ARGV[3 * i + 2]
  news = news .. value
  if expire == '-' then
    call('DEL', KEYS[i])
  elseif expire == '0' then
    call('SET', KEYS[i], version .. value)
  else
    call('SET', KEYS[i], version .. value, 'PX', expire)
  end
end
local told = {}
for i = 1, count do
  local lock = string.gsub(KEYS[i], '${QUEUE}$', '')
  if ARGV[3] == '*' then
    call('PUBLISH', KEYS[i] .. '@DB', news)
  else
    -- Those that watch without a name are shown everything.
    call('PUBLISH', KEYS[i] .. '@DB' .. '@', news)
    if not told[lock] then
      told[lock] = true
      for name in string.gmatch(ARGV[3], '([^,]+),') do call('PUBLISH', lock .. '@DB' .. '@' .. name, news) end
    end
  end
end
return answer
`;

/** Runs commands if each record still has its version. ARGV: the versions, then each command as its length and its words. */
const GUARD = `
for i = 1, #KEYS do
  local record = redis.call('GET', KEYS[i])
  if not record or string.sub(record, 1, ${DIGITS}) ~= ARGV[i] then return false end
end
local replies, at = {}, #KEYS + 1
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + length))
  at = at + 1 + length
end
return replies
`;

/** Answers what kind of thing KEYS[1] is. */
const TYPE = `return redis.call('TYPE', KEYS[1])`;

/** A script, and the name under which a server keeps it. */
export class Script {
  readonly text: string;
  readonly sha: string;
  /** How `BATCH` calls it, if it may go together with others. */
  readonly opcode: string;

  constructor(text: string, opcode = "") {
    this.text = text;
    this.sha = createHash("sha1").update(text).digest("hex");
    this.opcode = opcode;
  }
}

/** The scripts of a backend. */
export interface Scripts {
  readonly create: Script;
  readonly replace: Script;
  readonly delete: Script;
  readonly batch: Script;
  readonly read: Script;
  readonly commit: Script;
  readonly guard: Script;
  readonly type: Script;
}

/** The scripts of a backend whose channels are called like the keys, and this behind it. */
export function scriptsOf(channelSuffix: string): Scripts {
  const on = channelSuffix === "" ? "" : ` .. '${channelSuffix}'`;
  const script = (text: string, opcode?: string) => new Script(text.replaceAll(" .. '@DB'", on), opcode);
  // Written out rather than as functions: half of what a short script costs is to define and to call them.
  return {
    create: script(
      `local call, key, counter = redis.call, KEYS[1], KEYS[2]\n` +
        `local value, expire, whom = ARGV[1], ARGV[2], ARGV[3]${NOW}${CREATE}`,
      "c",
    ),
    replace: script(
      `local call, key, counter = redis.call, KEYS[1], KEYS[2]\n` +
        `local seen, value, expire, at, whom = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]${NOW}${REPLACE}`,
      "r",
    ),
    delete: script(
      `local call, key, seen, at, whom = redis.call, KEYS[1], ARGV[1], ARGV[2], ARGV[3]${DELETE}`,
      "d",
    ),
    batch: script(BATCH),
    read: new Script(READ),
    commit: script(COMMIT),
    guard: new Script(GUARD),
    type: new Script(TYPE),
  };
}

/** How long the text of a record may be that a message carries: what is longer is none of ours. */
const MAX_NEWS_UNITS = 200_000;
/** How many records one message may announce: those of as many locks as may be taken together, with their queues. */
const MAX_NEWS_RECORDS = 2 * MAX_TARGETS;

/**
 * What comes before the version and the values in the news of a commit: a line of JSON with the keys, each
 * followed by the length of its value, or by -1 if it was deleted. The news of a commit to one record, which
 * concerns all watchers, has none.
 */
export function indexOf(changes: readonly Change[]): string {
  return `${JSON.stringify(changes.flatMap(({ key, value }) => [key, value?.length ?? -1]))}\n`;
}

/** The entries that a message announces; `undefined` if it is none of Holdfast's. Any client may have sent it. */
export function entriesIn(message: string, key: string): readonly Entry[] | undefined {
  if (message.length > MAX_NEWS_UNITS) return undefined;
  if (message === "") return [entryOf(key, null)];
  if (message[0] !== "[") {
    const entry = entryOf(key, message);
    return entry.value === NO_RECORD ? undefined : [entry];
  }
  const found = indexIn(message);
  if (found === undefined) return undefined;
  const { index, end } = found;
  if (index.length % 2 !== 0 || index.length > 2 * MAX_NEWS_RECORDS) return undefined;
  const version = message.slice(end, end + DIGITS);
  if (!VERSION_DIGITS.test(version)) return undefined;
  const entries: Entry[] = [];
  let at = end + DIGITS;
  for (let i = 0; i < index.length; i += 2) {
    const [key, length] = [index[i], index[i + 1]];
    if (typeof key !== "string" || typeof length !== "number" || !Number.isInteger(length) || length < -1) {
      return undefined;
    }
    if (length < 0) entries.push(entryOf(key, null));
    else entries.push({ key, value: message.slice(at, at += length), version });
  }
  return at === message.length ? entries : undefined;
}

/** The value of an entry whose key holds a foreign text. */
export const NO_RECORD = "a text that is no record";
const VERSION_DIGITS = new RegExp(`^\\d{${DIGITS}}$`);

/** An entry, of what the server holds under its key. What is none of ours says so, for the core to refuse. */
export function entryOf(key: string, record: unknown): Entry {
  if (record === null) return { key, value: null, version: null };
  const text = String(record);
  const version = text.slice(0, DIGITS);
  if (!VERSION_DIGITS.test(version)) return { key, value: NO_RECORD, version, foreign: true };
  return { key, value: text.slice(DIGITS), version };
}
