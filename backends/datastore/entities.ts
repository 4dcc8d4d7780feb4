/** Records as entities: how they are named, what they hold, and what of them people see in the console. */

import type { Change, Entry } from "../../core/backend.ts";
import { quote, UnreadableRecordError } from "../../core/errors.ts";
import type { Found } from "./answers.ts";
import type { DatastoreKey } from "./api.ts";

/** How long a kind or a name may be. */
export const MAX_NAME_BYTES = 1500;

/** Names of this form are Datastore's own. */
export function isReserved(name: string): boolean {
  return /^__.*__$/s.test(name);
}

/** The name of the entity of a key: the key itself, except where that is not allowed. */
export function nameOf(key: string): string {
  return isReserved(key) || key.startsWith("~") ? `~${key}` : key;
}

/** With what the names begin whose keys begin with `prefix`. */
export function namesWith(prefix: string): readonly string[] {
  if (prefix === "") return [""];
  if (prefix.startsWith("~")) return [`~${prefix}`];
  return "__".startsWith(prefix) || prefix.startsWith("__") ? [prefix, `~${prefix}`] : [prefix];
}

/** The name of an entity; of one that has only a number, which no lock's has, the empty one. */
export function nameIn({ entity }: Found): string {
  return entity.key?.path?.at(-1)?.name ?? "";
}

/** The entry of an entity as a listing shows it: what is none of ours says what it is. */
export function listedOf(found: Found): Entry {
  const name = nameIn(found);
  const id = String(found.entity.key?.path?.at(-1)?.id ?? "");
  return {
    key: name === "" ? id : keyOfName(name),
    value: recordIn(found) ?? "an entity without a record",
    version: found.version,
  };
}

/** The entry of an entity of ours. Throws LockBackendError for any other. */
export function entryOf(found: Found): Entry {
  const key = keyOfName(nameIn(found));
  const value = recordIn(found);
  if (value !== undefined) return { key, value, version: found.version };
  throw new UnreadableRecordError(
    `an entity without a record is in the way, its name is ${quote(nameIn(found))}`,
  );
}

/** A key as text, to find its entity among the answers. */
export function textOf(key: DatastoreKey | null | undefined): string {
  const { projectId, databaseId, namespaceId } = key?.partitionId ?? {};
  const path = key?.path?.map(({ kind, name, id }) => [kind, name || String(id)]);
  return JSON.stringify([projectId, databaseId || "", namespaceId || "", path]);
}

/** How a change is asked for, of the entity `where`. */
export function mutationOf({ version, value, expireInMs }: Change, where: DatastoreKey, now: number): object {
  // Said every time: the default of some servers is to write over the newer version.
  const conflictResolutionStrategy = "FAIL";
  // No entity has the version 0: this asks for there being none.
  const baseVersion = version === null ? "0" : version.replace(/^0+(?=.)/, "");
  if (value === null) return { delete: where, baseVersion, conflictResolutionStrategy };
  const entity = { key: where, properties: propertiesOf(value, expireInMs, now) };
  return version === null ? { insert: entity } : { upsert: entity, baseVersion, conflictResolutionStrategy };
}

function keyOfName(name: string): string {
  return name.startsWith("~") ? name.slice(1) : name;
}

function recordIn({ entity }: Found): string | undefined {
  const { stringValue } = (entity.properties?.record ?? {}) as { stringValue?: unknown };
  return typeof stringValue === "string" ? stringValue : undefined;
}

/** The entity of a record: the record, and what of it a person may want to see in the console. */
function propertiesOf(value: string, expireInMs: number | undefined, now: number): Record<string, object> {
  const { holders, entries } = shown(value);
  const [holder] = holders ?? [];
  const timestamp = (ms: unknown) => typeof ms === "number" ? { timestampValue: timestampOf(ms) } : undefined;
  const values: Record<string, object | undefined> = {
    record: { stringValue: value },
    // An entity that is written as it was would keep its version.
    nonce: { integerValue: String(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)) },
    holder: typeof holder?.label === "string" ? { stringValue: holder.label } : undefined,
    since: timestamp(holder?.since),
    leaseMs: typeof holder?.leaseMs === "number" ? { integerValue: String(holder.leaseMs) } : undefined,
    leaseEnds: timestamp(holder?.expiresAt),
    waiters: entries === undefined ? undefined : { integerValue: String(entries.length) },
    garbageAt: expireInMs === undefined ? undefined : timestamp(now + expireInMs),
  };
  const properties: Record<string, object> = {};
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) properties[name] = { ...value, excludeFromIndexes: true };
  }
  return properties;
}

/** What of a record is shown to people. */
interface Shown {
  /** Of a lock's record. */
  readonly holders?: readonly Record<string, unknown>[];
  /** Of a queue's record. */
  readonly entries?: readonly unknown[];
}

/** What is shown of this record. Whatever it is, it must not keep it from being stored. */
function shown(value: string): Shown {
  const listOf = (found: unknown) => Array.isArray(found) ? found : undefined;
  try {
    const { holders, entries } = JSON.parse(value);
    return { holders: listOf(holders), entries: listOf(entries) };
  } catch {
    return {};
  }
}

function timestampOf(ms: number): object {
  const seconds = Math.floor(ms / 1000);
  return { seconds: String(seconds), nanos: Math.floor((ms - seconds * 1000) * 1000) * 1000 };
}
