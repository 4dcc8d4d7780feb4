/** What those of one process want of a lock. */

import type { Mode } from "./modes.ts";
import type { Holder, QueueEntry } from "./record.ts";

/** What one request asks for. */
export interface Claim extends Mode {
  readonly token: string;
  readonly leaseMs: number;
  readonly label: string | undefined;
  /** Evict holders older than this; `undefined` = never. */
  readonly stealAfterMs: number | undefined;
  /** Whether it may be queued. */
  readonly mayWait: boolean;
  /** How long ago it was asked for. */
  readonly waitedMs: number;
  /** How long its turn lasts, if it asks for other locks, too: see `QueueEntry`. */
  readonly turnMs?: number | undefined;
  /** The token of a hold that was handed over, if it asks for that one, and for nothing else. */
  readonly restores?: string | undefined;
  /** The name of its separate entry in the queue. Without one, it waits in that of its process. */
  readonly entry?: string | undefined;
  /** Whether it goes before the queue, which it then does not join. */
  readonly goesFirst?: boolean;
}

/** What is to become of a holder in the record. */
export type Intent =
  /** It is another process's. */
  | "foreign"
  /** It is ours, and stays as it is. */
  | "keep"
  /** It is ours, and its lease is to be renewed. */
  | "renew"
  /** It was offered to us, or granted by a commit whose answer was lost, and a request here wants it. */
  | "confirm"
  /** It was handed over, and a request here takes it up: see `Claim.restores`. */
  | "restore"
  /** It was ours, and is to stay for a while although no process owns it any more: see {@linkcode Remainder}. */
  | "remain"
  /** It is ours, and no caller here owns it: it was released or lost, or its request has been given up. */
  | "leave";

/**
 * What stays of a hold that its owner has given up, or handed over, until its lease ends: to every process, its own as
 * well, this is the hold of another, because no process owns its token.
 */
export interface Remainder {
  readonly token: string;
  readonly leaseMs: number;
}

/** All of one process that have to do with the lock. */
export interface Members {
  /** Names the process in the queue. */
  readonly participant: string;
  /** Those that want the lock and have no outcome yet, first come first. */
  readonly requests: Iterable<Claim>;
  /** The first of them that does not only take up what was handed over. */
  readonly firstRequest: Claim | undefined;
  /** The shortest time after which one of those that may wait wants a holder evicted. */
  readonly patienceMs: number | undefined;
  /** The queue that has an entry for us, as far as is known. */
  readonly queuedIn: string | undefined;
  /** Our entries in it by what they are called: how each of them says that the lock is wanted. */
  readonly queuedAs: ReadonlyMap<string, Mode>;
  /** Whether the queue has moved so often that the truth is to be written without it. */
  readonly leavesQueueOut: boolean;
  /**
   * Whether what leaves was held so briefly, with all that this process has held without a break before it, that another
   * one here may have the lock before those that are queued.
   */
  readonly keepsTurn: boolean;
  /** Whether its request asks for other locks, too, and they are not free: it may then be queued, but not granted. */
  readonly holdsBack: boolean;
  /** Whether it is not even to be queued, because it cannot be queued for all of them. */
  readonly staysOut: boolean;
  /** Whether an entry of the queue is ours: that of the process, or the own one of a request, which may be over. */
  isOurs(entry: QueueEntry): boolean;
  intentOf(holder: Holder): Intent;
  /** How a holder that is ours and stays is to be held from now on, if its mode is to be changed. */
  changeOf(holder: Holder): ModeChange | undefined;
  /** The claim behind a holder that is ours and stays, or that is taken up. */
  claimOf(holder: Holder): Claim;
  /** How long the lease of a holder that is ours and stays is to be if it is written now: it never ends sooner than before. */
  leaseMsOf(holder: Holder): number;
  /** Whether a process had its place already when this one looked at the queue first. */
  isAhead(entry: QueueEntry): boolean;
  /** What is to stay of a holder that is to remain. */
  remainderOf(holder: Holder): Remainder;
  /** A name that no queue has had before. */
  newQueueId(): string;
  /** A token that is new and cannot be guessed, for an entry of ours. */
  newToken(): string;
}

/** How a hold is to be held from now on. */
export interface ModeChange {
  readonly to: Mode["mode"];
  /** Whether it may wait until it is the only one. */
  readonly mayWait: boolean;
}

/** A request that a commit makes the holder, and under which token. */
export interface Grant {
  readonly claim: Claim;
  readonly token: string;
}
