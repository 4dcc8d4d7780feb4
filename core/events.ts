import { type Channel, channel } from "node:diagnostics_channel";
import type { LockBackendError, LossReason } from "./errors.ts";
import type { LockKind, LockMode } from "./options.ts";

/** What all messages of one acquisition, and of the hold that came of it, have in common. */
export interface LockEvent {
  /** Names the acquisition, in this process. */
  readonly id: number;
  /** The identifier that was asked for. */
  readonly identifier: string;
  /** The kind that was asked for. */
  readonly kind: LockKind;
  /** The label that was given, if any. */
  readonly label: string | undefined;
  /** How the lock is to be held, or is held. */
  readonly mode: LockMode;
  /** How many may hold it at once in that mode, as far as this one is concerned: 1 without a `limit`. */
  readonly limit: number;
}

/** What all messages of one hold have in common. */
export interface HoldEvent extends LockEvent {
  /** The fencing token of the hold. */
  readonly fencingToken: string;
}

/**
 * The channels of `node:diagnostics_channel` on which the events of this process's locks are published, and their
 * messages. Without a subscriber they cost nothing. A message is published while the lock is at work: subscribers
 * must be quick, and must not throw.
 *
 * An acquisition begins with `holdfast:wait-start` and ends with `holdfast:acquired` or `holdfast:bailed`; a hold
 * ends with `holdfast:released` or `holdfast:lost`.
 *
 * @example In an app
 * ```ts ignore
 * import type { LockEvents } from "@holdfast/lock";
 * import { subscribe } from "node:diagnostics_channel";
 *
 * subscribe("holdfast:lost", (message) => {
 *   const { identifier, reason, heldMs } = message as LockEvents["holdfast:lost"];
 *   console.error(`lost ${identifier} after ${heldMs} ms: ${reason}`);
 * });
 * ```
 *
 * @example
 * ```ts
 * import { lock, type LockEvents } from "@holdfast/lock";
 * import { memoryBackend } from "@holdfast/lock/backends/memory";
 * import { subscribe } from "node:diagnostics_channel";
 * import { assertEquals } from "@std/assert";
 *
 * const released: string[] = [];
 * subscribe("holdfast:released", (message) => {
 *   const { identifier } = message as LockEvents["holdfast:released"];
 *   released.push(identifier);
 * });
 * await lock("report", { backend: memoryBackend() }).run(() => {});
 * assertEquals(released, ["report"]);
 * ```
 */
export interface LockEvents {
  /** A caller asks for a lock: published in the caller's async context. */
  "holdfast:wait-start": LockEvent;
  /** The lock was acquired, `waitedMs` milliseconds after the call. */
  "holdfast:acquired": HoldEvent & { readonly waitedMs: number };
  /**
   * The acquisition has ended without the lock: that was `taken` and the options did not let it wait (any
   * longer), or it was `cancelled` by its signal, or it `failed`. `error` is what the call rejects with, if its
   * form does.
   */
  "holdfast:bailed": LockEvent & {
    readonly waitedMs: number;
    readonly outcome: "taken" | "cancelled" | "failed";
    readonly error: unknown;
  };
  /**
   * The hold was upgraded or downgraded: it is held in this `mode` now, under a new `fencingToken` instead of the
   * `formerFencingToken`.
   */
  "holdfast:mode-changed": HoldEvent & {
    readonly mode: LockMode;
    readonly formerFencingToken: string;
  };
  /**
   * The renewal of a lease is late, by half the lease: a sixth of it is left, `leftMs` milliseconds. After that the lock is
   * lost, unless a renewal comes through before. With `renew: false` it is late at the same moment, unless the lease has
   * been extended. See `Lock.onLate`.
   */
  "holdfast:late": HoldEvent & { readonly leftMs: number };
  /** The lease was renewed, `lateMs` milliseconds after it was due: at a third of the lease. */
  "holdfast:renewed": HoldEvent & { readonly lateMs: number };
  /**
   * The held `Lock` can no longer be reached in this process, and so cannot be released: it is not renewed again,
   * and is lost when its lease expires. Published some time after it happens: the garbage collector reports it.
   */
  "holdfast:forgotten": HoldEvent;
  /** The lock was lost, `heldMs` milliseconds after it was granted. */
  "holdfast:lost": HoldEvent & { readonly heldMs: number; readonly reason: LossReason };
  /**
   * The lock was released, or `handedOver` to the process that restores it; that began `heldMs` milliseconds after
   * the grant. With `error`, the release did not reach the store, and others wait until the lease expires.
   */
  "holdfast:released": HoldEvent & {
    readonly heldMs: number;
    readonly handedOver: boolean;
    readonly error: LockBackendError | undefined;
  };
  /**
   * The store refused a write because another process was faster. `identifier` is the key in the store: of a
   * very long identifier, the beginning and a hash.
   */
  "holdfast:conflict": { readonly identifier: string };
  /**
   * The store failed in the background: a renewal that will be retried, or a release whose caller already has its
   * result.
   */
  "holdfast:backend-error": { readonly identifier: string; readonly error: unknown };
}

const channels: Partial<Record<keyof LockEvents, Channel>> = {};

/** Publishes the message that `make` makes, if the channel has subscribers. */
export function publish<Name extends keyof LockEvents>(name: Name, make: () => LockEvents[Name]): void {
  const to = channels[name] ??= channel(name);
  if (to.hasSubscribers) to.publish(make());
}

/** Publishes a failure of the store that cannot be reported to a caller. */
export function publishBackendError(identifier: string, error: unknown): void {
  publish("holdfast:backend-error", () => ({ identifier, error }));
}
