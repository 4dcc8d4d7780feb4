/** All that the simulation knows of the core's inside, in one place: what is rebuilt there is followed here. */

import type { LockBackend } from "../../core/backend.ts";
import type { Clock } from "../../core/clock.ts";
import type { Hold, Proof } from "../../core/hold.ts";
import type { LocalGroup } from "../../core/local_group.ts";
import { Names } from "../../core/names.ts";
import { checkOptions, type LockOptions } from "../../core/options.ts";
import { Participant, participantOf } from "../../core/participant.ts";
import { Request } from "../../core/request.ts";

export type { Hold, Participant, Proof };

/** What others see of a process, or of several locks that one request of it takes together. */
export type Party = Pick<Names, "id" | "secret">;

export { cleanup } from "../../core/operators/cleanup.ts";
export { keyOf, lockKeyOf, queueKeyOf } from "../../core/identifier.ts";
export { holdOf, Lock } from "../../core/lock.ts";
export { readClaim } from "../../core/claim.ts";
export { lock } from "../../core/forms.ts";
export { forceRelease } from "../../core/operators/api.ts";
export { proofsOf } from "../../core/guard.ts";
export { admits, type Mode } from "../../core/record/modes.ts";
export { localTurnMs } from "../../core/record/queue.ts";
export { lockIn, queueIn } from "../../core/record/codec.ts";
export {
  FREE,
  type Holder,
  isInTransit,
  isKept,
  keptTokenOf,
  type LockRecord,
  MAX_QUEUE,
  NO_QUEUE,
  type QueueEntry,
  type QueueRecord,
} from "../../core/record/record.ts";

/** Makes a participant that shares `backend`, on a separate clock: all public forms find it by its backend. */
export function participate(backend: LockBackend, clock: Clock): Participant {
  return participantOf(backend, clock);
}

/** Asks for a lock as `./web-locks` does: with a separate queue entry, or before the queue. */
export function acquireInOrder(
  participant: Participant,
  { identifier, key, options, goesFirst }: {
    readonly identifier: string;
    readonly key: string;
    readonly options: LockOptions;
    readonly goesFirst: boolean;
  },
): Promise<Hold> {
  const ownEntry = { onPlaced: () => {} };
  return new Promise((resolve, reject) => {
    const asked = { identifier, key, options: { ...checkOptions(options), ownEntry, goesFirst } };
    participant.acquire(asked, (hold, error) => hold === undefined ? reject(error) : resolve(hold));
  });
}

/** The participant of a queue entry, which may be that of one of its requests. */
export function participantIn(entryName: string): string {
  return entryName.slice(0, UUID_UNITS);
}

/** What the queue entry is called that a request has separately, by its number; `undefined` if it has none. */
export function entryOf(request: number | undefined): string | undefined {
  return request === undefined ? undefined : entries.get(request);
}

/** The part of a token that names the participant whose request or entry it is of. */
export function secretOf(token: string): string {
  return token.slice(0, UUID_UNITS);
}

/** The number of the request that a token is of; none if it is the token of a queue entry. */
export function requestOf(token: string): number | undefined {
  return numbers.get(token);
}

const UUID_UNITS = 36;

/** The holds by the numbers of their requests, from just before their grant is published: no form shows it. */
export const granted = new Map<number, Hold>();

/** The numbers of the requests, by their tokens. */
const numbers = new Map<string, number>();

/** Hears of the names under which several locks are asked for together, when they are. */
export const naming: { onGroup: (names: Party) => void } = { onGroup: () => {} };

/** How many groups of locks a caller here has to do with. */
export function groupsOf(participant: Participant): number {
  return groups.get(participant)?.size ?? 0;
}

const groups = new WeakMap<Participant, Set<LocalGroup>>();
const known = new WeakSet<Names>();
/** The names of their queue entries, by the numbers of the requests that have separate entries. */
const entries = new Map<number, string>();

/** Forgets all requests and holds of a run. */
export function forgetAll(): void {
  granted.clear();
  numbers.clear();
  naming.onGroup = () => {};
  entries.clear();
}

const { newToken } = Names.prototype;
Names.prototype.newToken = function () {
  if (!(this instanceof Participant) && !known.has(this)) {
    known.add(this);
    naming.onGroup(this);
  }
  return newToken.call(this);
};
const { addGroup, dropGroup } = Participant.prototype;
Participant.prototype.addGroup = function (group) {
  groups.set(this, (groups.get(this) ?? new Set()).add(group));
  addGroup.call(this, group);
};
Participant.prototype.dropGroup = function (group) {
  groups.get(this)?.delete(group);
  dropGroup.call(this, group);
};
const { grant, start } = Request.prototype;
Request.prototype.start = function () {
  numbers.set(this.token, this.id);
  if (this.entry !== undefined) entries.set(this.id, this.entry);
  start.call(this);
};
Request.prototype.grant = function (hold) {
  granted.set(this.id, hold);
  grant.call(this, hold);
};

/** The hashes that have been made, by what they are of: schedule after schedule asks for the same few. */
const digests = new Map<string, Promise<ArrayBuffer>>();
const digest = crypto.subtle.digest.bind(crypto.subtle);
crypto.subtle.digest = (algorithm, data) => {
  const name = `${algorithm} ${new TextDecoder("latin1").decode(data)}`;
  const known = digests.get(name) ?? digest(algorithm, data);
  digests.set(name, known);
  return known;
};
