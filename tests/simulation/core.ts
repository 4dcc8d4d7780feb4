/** All that the simulation knows of the core's inside, in one place: what is rebuilt there is followed here. */

import { Acquisition } from "../../core/acquisition.ts";
import { peerOf } from "../../core/peer.ts";
import type { LockBackend } from "../../core/backend.ts";
import type { Clock } from "../../core/clock.ts";
import type { Hold } from "../../core/hold.ts";

export type { Hold };

export { cleanup } from "../../core/operators/cleanup.ts";
export { keyOf } from "../../core/identifier.ts";
export { Lock } from "../../core/lock.ts";
export { lock } from "../../core/forms.ts";
export { forceRelease } from "../../core/operators/api.ts";
export type { Peer as Participant } from "../../core/peer.ts";
export { proofOf } from "../../core/guard.ts";
export { decode } from "../../core/record/codec.ts";
export { type Holder, type LockRecord, MAX_QUEUE } from "../../core/record/record.ts";

/** Makes a participant that shares `backend`, on a clock of its own: all public forms find it by its backend. */
export function participate(backend: LockBackend, clock: Clock) {
  return peerOf(backend, clock);
}

/** The holds by the numbers of their acquisitions, from just before their grant is published: no form shows it. */
export const granted = new Map<number, Hold>();

const { grant } = Acquisition.prototype;
Acquisition.prototype.grant = function (hold) {
  granted.set(this.id, hold);
  grant.call(this, hold);
};
