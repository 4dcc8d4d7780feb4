/** What the server keeps of a record, and the scripts that change it there. */

import { createHash } from "node:crypto";
import type { Entry } from "../../core/backend.ts";
import { TOLERANCE_MS } from "./clock.ts";

/** How many digits a version has: microseconds since 1970 until the year 2286. */
export const DIGITS = 16;
/** What `DELETE` answers: text, for a client can be told to give numbers in another form. */
export const DELETED = "deleted";

/** The time in microseconds, as the digits of a version. */
export const TIME = `
local call, now = redis.call, nil
local function time()
  if not now then
    local parts = call('TIME')
    now = parts[1] .. string.sub('00000' .. parts[2], -6)
    -- A machine without a battery for its clock starts in 1970.
    if #now < ${DIGITS} then now = string.rep('0', ${DIGITS} - #now) .. now end
  end
  return now
end
`;

/**
 * Writes one record: `seen` is the version that it must have ("" if it must be absent), `expire` after how many
 * milliseconds it may go ("0" never), `at` the sender's view of the time. Answers the new version, with the time
 * behind it where that differs; or the time and the record now there.
 *
 * Versions are the time in microseconds, but always higher than the bucket's last and the record's own: so they rise
 * even if the clock steps back, and even if the counters are lost. A change that was made by a clock far ahead of ours is refused like
 * one that came too late, for it may have taken a living holder for a lapsed one.
 */
export const PUT = `
local function put(key, counter, seen, value, expire, at)
  local now = time()
  if seen ~= '' then
    local found = call('GET', key)
    if not found or string.sub(found, 1, ${DIGITS}) ~= seen or at * 1000 > now + ${TOLERANCE_MS * 1000} then
      return {now, found}
    end
  end
  local version, answer = now, now
  local last = call('GETSET', counter, now)
  if seen ~= '' and (not last or last < seen) then last = seen end
  if last and last + 1 > now + 0 then
    version = string.format('%0${DIGITS}.0f', last + 1)
    answer = version .. now
    call('SET', counter, version)
  end
  local record, done = version .. value, true
  if seen == '' then
    if expire == '0' then
      done = call('SET', key, record, 'NX')
    else
      done = call('SET', key, record, 'NX', 'PX', expire)
    end
    if not done then return {now, call('GET', key)} end
  elseif expire == '0' then
    call('SET', key, record)
  else
    call('SET', key, record, 'PX', expire)
  end
  call('PUBLISH', key .. '@DB', record)
  return answer
end
`;

/** Deletes a record if its version is `seen`. Answers `DELETED`; or the time and the record now there. */
export const DELETE = `
local function delete(key, seen)
  local found = call('GET', key)
  if found and string.sub(found, 1, ${DIGITS}) == seen then
    call('DEL', key)
    call('PUBLISH', key .. '@DB', '')
    return '${DELETED}'
  end
  return {time(), found}
end
`;

/**
 * Does to each of several records what its own commit would have done, whatever becomes of the others. ARGV: for
 * each the number of arguments and these. Answers what they would have been answered, a failure as its text alone.
 */
export const EACH = `
local replies, key, argument = {}, 1, 1
while argument <= #ARGV do
  local count = tonumber(ARGV[argument])
  local done, reply
  if count == 1 then
    done, reply = pcall(delete, KEYS[key], ARGV[argument + 1])
    key = key + 1
  elseif count == 2 then
    done, reply = pcall(put, KEYS[key], KEYS[key + 1], '', ARGV[argument + 1], ARGV[argument + 2])
    key = key + 2
  else
    done, reply = pcall(put, KEYS[key], KEYS[key + 1], unpack(ARGV, argument + 1, argument + count))
    key = key + 2
  end
  if not done then reply = {type(reply) == 'table' and reply.err or reply} end
  replies[#replies + 1] = reply
  argument = argument + 1 + count
end
return replies
`;

/**
 * Reads records, or commits changes to several. KEYS: the records, then their buckets' counters. ARGV: the
 * sender's view of the time; then for each record the version that it must have, after how many milliseconds it
 * may go ("0" never, "-" at once), and its value. No ARGV: only reads. Answers as the others do, with all
 * records.
 */
export const COMMIT = `
local count, fits, found = (#ARGV - 1) / 3, true, {false}
if #ARGV == 0 then count, fits = #KEYS, false end
for i = 1, count do
  local record = redis.call('GET', KEYS[i])
  found[i + 1] = record
  if (record and record:sub(1, ${DIGITS}) or '') ~= ARGV[3 * i - 1] then fits = false end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local version = string.format('%0${DIGITS}.0f', now)
if not fits or ARGV[1] * 1000 > now + ${TOLERANCE_MS * 1000} then
  found[1] = version
  return found
end
local least = now
for i = 1, count do
  least = math.max(least, (tonumber(ARGV[3 * i - 1]) or 0) + 1)
end
for i = count + 1, #KEYS do
  least = math.max(least, (redis.call('GETSET', KEYS[i], version) or 0) + 1)
end
local answer = version
if least > now then
  version = string.format('%0${DIGITS}.0f', least)
  answer = version .. answer
  for i = count + 1, #KEYS do redis.call('SET', KEYS[i], version) end
end
for i = 1, count do
  local record, expire = version .. ARGV[3 * i + 1], ARGV[3 * i]
  if expire == '-' then
    record = ''
    redis.call('DEL', KEYS[i])
  elseif expire == '0' then
    redis.call('SET', KEYS[i], record)
  else
    redis.call('SET', KEYS[i], record, 'PX', expire)
  end
  redis.call('PUBLISH', KEYS[i] .. '@DB', record)
end
return answer
`;

/** Runs commands if the record KEYS[1] still has the version ARGV[1]. ARGV: then each as its length and its words. */
export const GUARD = `
local record = redis.call('GET', KEYS[1])
if not record or string.sub(record, 1, ${DIGITS}) ~= ARGV[1] then return false end
local replies, at = {}, 2
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + length))
  at = at + 1 + length
end
return replies
`;

/** A script, and the name under which a server keeps it. */
export class Script {
  readonly text: string;
  readonly sha: string;

  constructor(text: string) {
    this.text = text;
    this.sha = createHash("sha1").update(text).digest("hex");
  }
}

/** An entry, of what the server holds under its key. */
export function entryOf(key: string, record: unknown): Entry {
  if (record === null) return { key, value: null, version: null };
  const text = String(record);
  return { key, value: text.slice(DIGITS), version: text.slice(0, DIGITS) };
}
