/** The table, and the statements on it. All parameters are texts, and so is all that comes back: every client takes them. */

import { createHash } from "node:crypto";
import { quoted, type Statement } from "./clients.ts";

/** How many digits a version has: microseconds since 1970 until the year 2286. */
export const DIGITS = 16;
/** How wrong the sender of a commit may be about the server's time; two processes then differ by twice as much at most. */
export const TOLERANCE_MS = 250;
/**
 * For how long after its last change a record stays that is not needed: by so much may the server's clock step
 * back.
 */
const KEPT = "interval '1 day'";
/** How many records one sweep removes at most. */
const SWEPT = 2000;
/** For how long a record is marked as watched, and how much of that must be left for it not to be marked again. */
const MARKED = "interval '90 seconds'";
const MARKED_LEAST = "interval '45 seconds'";

/** The time in microseconds; as a float8, which is exact until the year 2255 and costs less than a numeric. */
const MICROS = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint";

/** Says that the news of a commit of several records has them in it. */
export const WHOLE = "whole";

/** What the channel of a table's news is called before the table's own number. */
export const CHANNEL = "holdfast_";

/** The statements that change one record, if the notification contains the record. */
export interface Changing {
  readonly create: Statement;
  readonly replace: Statement;
  readonly delete: Statement;
}

/** The statements on one table. */
export interface Statements {
  readonly createTable: string;
  readonly lock: Changing;
  readonly queue: Changing;
  readonly commit: Statement;
  readonly make: Statement;
  readonly read: Statement;
  readonly watch: Statement;
  readonly list: Statement;
  readonly sweep: Statement;
  readonly notify: Statement;
  readonly channel: Statement;
  readonly lockIfHeld: Statement;
  readonly guard: Statement;
}

/**
 * Versions are the time in microseconds, but always higher than the last of the record, as it is when its row is locked. A
 * record that is deleted leaves its row behind for a day, without a record: what comes next is higher than what was, even
 * if the server's clock has stepped back by less than that, and even if its statement has waited meanwhile.
 */
function version(last: string, drawn: string): string {
  return `greatest(${drawn}, ${last} + 1)`;
}

/**
 * Whether the change of a record is announced: if a process watches its row, or that of the lock $3 that a queue
 * belongs to.
 */
function isWatched(table: string, of: Kind): string {
  const own = "l.watched_until > clock_timestamp()";
  if (of === "lock") return own;
  return `${own} OR EXISTS (
      SELECT FROM ${table} w WHERE w.identifier = $3::text AND w.watched_until > clock_timestamp())`;
}

/** What the record is that is changed. */
type Kind = "lock" | "queue";

/**
 * A change of the record $1 of a lock or of a queue, announced by $2; if it is refused, what is there now, and
 * under $3, the lock's other record. Each part of this costs an uncontended lock some microseconds.
 */
function changing(table: string, of: Kind): (change: string, record: string) => Statement {
  return (change, record) =>
    kept(`WITH done AS (
    ${change}
    RETURNING l.version, CASE WHEN ${isWatched(table, of)}
      THEN pg_notify('${CHANNEL}' || l.tableoid, $2::text || ${digits("l.version")}${record}) END AS told)
  SELECT ${MICROS}::text AS now, NULL AS identifier, NULL AS record, version::text FROM done
  UNION ALL
  SELECT ${MICROS}::text, identifier, record, version::text FROM ${table}
  WHERE identifier IN ($1::text, $3::text) AND NOT EXISTS (SELECT FROM done)`);
}

/** The statements that change one record of this kind. */
function changingOf(table: string, of: Kind): Changing {
  const statement = changing(table, of);
  return {
    // $4 the record, $5 the milliseconds until it may go.
    create: statement(
      `INSERT INTO ${table} AS l (identifier, record, version, expires_at, changed_at)
    VALUES ($1::text, $4::text, ${MICROS}, ${until("$5::text")}, clock_timestamp())
    ON CONFLICT (identifier) DO UPDATE SET record = excluded.record, version = ${
        version("l.version", "excluded.version")
      },
      expires_at = excluded.expires_at, changed_at = excluded.changed_at
    WHERE l.record IS NULL`,
      " || l.record",
    ),
    // $4 the record, $5 the milliseconds, $6 the version that it must have, $7 the sender's view of the time.
    replace: statement(
      `UPDATE ${table} l SET record = $4::text, version = ${version("l.version", MICROS)},
      expires_at = ${until("$5::text")}, changed_at = clock_timestamp()
    WHERE l.identifier = $1::text AND l.version = $6::text::bigint AND l.record IS NOT NULL AND ${
        inTime("$7")
      }`,
      " || l.record",
    ),
    // $4 the version that it must have, $5 the sender's view of the time.
    delete: statement(
      `UPDATE ${table} l SET record = NULL, version = ${version("l.version", MICROS)},
      expires_at = NULL, changed_at = clock_timestamp()
    WHERE l.identifier = $1::text AND l.version = $4::text::bigint AND l.record IS NOT NULL AND ${
        inTime("$5")
      }`,
      "",
    ),
  };
}

/**
 * A statement that the server keeps, under a name that its text has alone: whatever is kept under it is the same,
 * whichever program has put it there.
 */
function kept(text: string): Statement {
  return { name: `holdfast_${createHash("sha256").update(text).digest("hex").slice(0, 16)}`, text };
}

function digits(version: string): string {
  return `lpad(${version}::text, ${DIGITS}, '0')`;
}

/** Whether the sender's view of the time, if it has judged another's hold by it, is not far ahead of the server's. */
function inTime(at: string): string {
  return `(${at}::text IS NULL OR ${at}::text::float8 * 1000 <= ${MICROS} + ${TOLERANCE_MS * 1000})`;
}

/** So many milliseconds from now. */
function until(ms: string): string {
  return `clock_timestamp() + ${ms}::float8 * interval '1 millisecond'`;
}

/** Whether a row is of one of the locks with the keys $1. */
const IS_OURS = `l.identifier = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))`;

/**
 * Whether a row's record names the holder with the token $2 and the fencing token $3. Those that the last commit has granted
 * have its version, from the second on with an index behind it.
 */
const NAMES_HOLDER = `EXISTS (
    SELECT FROM (
      SELECT h, row_number() OVER (PARTITION BY h ->> 'fence' IS NULL ORDER BY n) - 1 AS place
      FROM json_array_elements(l.record::json -> 'holders') WITH ORDINALITY AS e (h, n)) AS it
    WHERE h ->> 'token' = $2::text AND coalesce(h ->> 'fence', ${digits("l.version")} ||
      CASE WHEN place = 0 THEN '' ELSE '+' || lpad(place::text, 2, '0') END) = $3::text)`;

/** The statements on `table`, a name as SQL takes it. */
export function statementsOf(table: string): Statements {
  return {
    createTable: createTableOf(table),
    lock: changingOf(table, "lock"),
    queue: changingOf(table, "queue"),
    commit: kept(commitOf(table)),
    // $1 the keys, as JSON. In their order, as every statement takes its locks.
    make: kept(`INSERT INTO ${table} (identifier, version, changed_at)
  SELECT key, ${MICROS}, clock_timestamp() FROM json_array_elements_text($1::text::json) AS keys (key)
  ORDER BY key COLLATE "C" ON CONFLICT (identifier) DO NOTHING`),
    // $1 the keys, as JSON.
    read: kept(`SELECT ${MICROS}::text AS now, l.identifier, l.record, l.version::text
  FROM (SELECT) AS one LEFT JOIN ${table} l
    ON l.identifier = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))`),
    // $1 the key. Reads it and sees to it that it is marked as watched.
    watch: kept(`WITH done AS (
    INSERT INTO ${table} AS l (identifier, version, changed_at, watched_until)
    VALUES ($1::text, ${MICROS}, clock_timestamp(), clock_timestamp() + ${MARKED})
    ON CONFLICT (identifier) DO UPDATE SET watched_until = excluded.watched_until
    WHERE l.watched_until IS NULL OR l.watched_until < excluded.watched_until - ${MARKED_LEAST}
    RETURNING l.identifier, l.record, l.version, l.tableoid)
  SELECT ${MICROS}::text AS now, identifier, record, version::text, '${CHANNEL}' || tableoid AS channel FROM done
  UNION ALL
  SELECT ${MICROS}::text, identifier, record, version::text, '${CHANNEL}' || tableoid FROM ${table}
  WHERE identifier = $1::text AND NOT EXISTS (SELECT FROM done)`),
    // $1 from which key on, $2 after which, if that is not included, $3 how many.
    list: kept(`SELECT ${MICROS}::text AS now, identifier, record, version::text FROM ${table}
  WHERE identifier >= $1::text AND ($2::text IS NULL OR identifier > $2::text) AND record IS NOT NULL
  ORDER BY identifier LIMIT $3::text::int`),
    sweep: kept(`DELETE FROM ${table} WHERE identifier IN (
    SELECT identifier FROM ${table}
    WHERE (record IS NULL OR expires_at < clock_timestamp())
      AND version < (extract(epoch FROM clock_timestamp() - ${KEPT}) * 1000000)::bigint
      AND (watched_until IS NULL OR watched_until < clock_timestamp())
    LIMIT ${SWEPT} FOR UPDATE SKIP LOCKED)`),
    // $1 the channel, $2 the text.
    notify: kept("SELECT pg_notify($1::text, $2::text)::text"),
    channel: kept(`SELECT '${CHANNEL}' || '${table.replaceAll("'", "''")}'::regclass::oid::text AS channel`),
    // $1 the keys, as JSON, $2 the token, $3 the fencing token.
    lockIfHeld: kept(`SELECT l.identifier FROM ${table} l
  WHERE ${IS_OURS} AND ${NAMES_HOLDER} ORDER BY l.identifier FOR UPDATE`),
    // $4 what is said if it is lost. The text that is no boolean depends on the row, or it would be refused in any case.
    guard: kept(`WITH held AS MATERIALIZED (
    SELECT l.identifier FROM ${table} l WHERE ${IS_OURS} AND ${NAMES_HOLDER} ORDER BY l.identifier FOR UPDATE)
  SELECT CASE WHEN count(*) = json_array_length($1::text::json) THEN true ELSE (left($4::text, 1000 + count(*)::int))::boolean END AS held FROM held`),
  };
}

/**
 * Commits changes to several records. $1: for each its key, the version that it must have, its record and the
 * milliseconds until it may go, as JSON. $2: the sender's view of the time, if it is to be right. $3: the keys of
 * the locks that they belong to, as JSON. $4 and $5: the news.
 *
 * All rows are locked first, in the order of their keys, and seen as they are then: what was changed while we
 * waited counts. Only then is anything written. One row may have to be made; that another process makes it at the
 * same time shows before anything else is written. If more are missing nothing is done, and they are made by a
 * separate statement.
 */
function commitOf(table: string): string {
  return `WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::text::json) AS i (key text, seen bigint, record text, expires float8)),
  found AS MATERIALIZED (
    SELECT l.identifier, l.record, l.version, l.watched_until, l.tableoid AS channel FROM ${table} l
    WHERE l.identifier = ANY (ARRAY(SELECT key FROM input)) ORDER BY l.identifier FOR UPDATE),
  judged AS MATERIALIZED (
    SELECT bool_and((CASE WHEN f.record IS NOT NULL THEN f.version END) IS NOT DISTINCT FROM i.seen)
        AND ${inTime("$2")} AS fits,
      count(*) FILTER (WHERE f.identifier IS NULL AND i.record IS NOT NULL) AS missing,
      ${version("coalesce(max(f.version), 0)", MICROS)} AS version
    FROM input i LEFT JOIN found f ON f.identifier = i.key),
  made AS (
    INSERT INTO ${table} (identifier, record, version, expires_at, changed_at)
    SELECT i.key, i.record, j.version, ${until("i.expires")}, clock_timestamp() FROM input i, judged j
    WHERE j.fits AND j.missing = 1 AND i.record IS NOT NULL AND NOT EXISTS (SELECT FROM found f WHERE f.identifier = i.key)
    ON CONFLICT (identifier) DO NOTHING RETURNING identifier),
  outcome AS MATERIALIZED (
    SELECT j.version, CASE WHEN NOT j.fits THEN 'conflict' WHEN j.missing > 1 THEN 'missing'
      WHEN j.missing = (SELECT count(*) FROM made) THEN 'ok' ELSE 'conflict' END AS name FROM judged j),
  changed AS (
    UPDATE ${table} l SET record = i.record, version = o.version, expires_at = ${until("i.expires")},
      changed_at = clock_timestamp()
    FROM input i, outcome o WHERE l.identifier = i.key AND o.name = 'ok' RETURNING l.identifier),
  watched AS (
    SELECT channel FROM found WHERE watched_until > clock_timestamp()
    UNION ALL
    SELECT tableoid FROM ${table} WHERE watched_until > clock_timestamp()
      AND identifier = ANY (ARRAY(SELECT json_array_elements_text($3::text::json))) LIMIT 1),
  told AS MATERIALIZED (
    SELECT pg_notify('${CHANNEL}' || w.channel, $4::text || ${digits("o.version")} ||
      CASE WHEN $5::text = '${WHOLE}' THEN (
        SELECT coalesce(string_agg(e.change ->> 'record', '' ORDER BY e.position), '')
        FROM json_array_elements($1::text::json) WITH ORDINALITY AS e (change, position)) ELSE '' END)
    FROM outcome o, watched w WHERE o.name = 'ok')
  SELECT ${MICROS}::text AS now, NULL AS identifier, NULL AS record, o.version::text, o.name AS outcome,
    (SELECT count(*) FROM told)::text AS told FROM outcome o
  UNION ALL
  SELECT ${MICROS}::text, f.identifier, f.record, f.version::text, NULL, NULL
  FROM found f, outcome o WHERE o.name <> 'ok'`;
}

/** What creates the table. */
export function createTableOf(table: string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (
  identifier text COLLATE "C" PRIMARY KEY,
  record text,
  version bigint NOT NULL,
  expires_at timestamptz,
  changed_at timestamptz NOT NULL,
  watched_until timestamptz
) WITH (fillfactor = 50)`;
}

/** The name of the table as SQL takes it. */
export function tableName(schema: string | undefined, table: string): string {
  return schema === undefined ? quoted(table) : `${quoted(schema)}.${quoted(table)}`;
}
