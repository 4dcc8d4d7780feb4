/** How a process knows the time of the store: the real clocks of real backends, fed by simulated answers. */

import { TOLERANCE_MS } from "../../backends/redis/scripts.ts";
import { errorOf, ServerClock } from "../../backends/server_clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import type { SimProcess } from "./process.ts";

/** By how much two processes that know the time of Datastore may differ about it. */
const DATASTORE_SKEW_MS = 1000;

/** Which clock a backend has. */
export type ClockKind = "stated" | "redis" | "datastore" | "watching";

/** What a backend knows of the store's time. */
export interface Timekeeper {
  readonly skewMs: number;
  /** By how much `now()` may be wrong, if that is known to be less than half of the skew. */
  readonly errorMs?: number;
  now(): number;
  /** What the store is sent of it, if it looks at that. */
  senderMs(): number | undefined;
  /**
   * A request is sent. The returned function hears of the store's time when it was answered, and throws if the
   * request `wrote` a time that was wrong.
   */
  sending(): (storeMs: number, wrote: boolean) => void;
}

/** How much a store bears from its senders' clocks, if it looks at them. */
export const TOLERANCES: Record<ClockKind, number | undefined> = {
  stated: undefined,
  redis: TOLERANCE_MS,
  datastore: undefined,
  watching: undefined,
};

/** Makes the clock that a process sees a store by. */
export function timekeeper(kind: ClockKind, process: SimProcess, statedSkewMs: number): Timekeeper {
  if (kind === "redis") return redisTime(process);
  if (kind === "datastore") return datastoreTime(process);
  return {
    // Where clocks mean nothing, leases are judged by watching alone.
    skewMs: kind === "watching" ? Infinity : statedSkewMs,
    now: () => process.clock.wallMs(),
    senderMs: () => undefined,
    sending: () => () => {},
  };
}

/** As `RedisStore` does it: this machine's clock is trusted until an answer refutes it. */
function redisTime(process: SimProcess): Timekeeper {
  const { clock } = process;
  const server = new ServerClock(clock, { skewMs: 2 * TOLERANCE_MS, wallErrorMs: TOLERANCE_MS });
  return {
    get skewMs() {
      return server.skewMs;
    },
    get errorMs() {
      return server.uncertaintyMs;
    },
    now: () => server.now(),
    senderMs: () => Math.floor(server.now()),
    sending: () => {
      const sentMs = clock.monotonicMs();
      const aheadMs = server.aheadAt(sentMs);
      return (serverMs, wrote) => {
        const answer = { sentMs, receivedMs: clock.monotonicMs(), serverMs };
        server.learn(answer);
        const behindMs = errorOf(aheadMs, answer);
        if (behindMs > TOLERANCE_MS && wrote) throw wrongClock(behindMs);
      };
    },
  };
}

/** As `DatastoreStore` does it: a process that does not know the time says so, and judges by watching alone. */
function datastoreTime({ clock }: SimProcess): Timekeeper {
  const server = new ServerClock(clock, { skewMs: DATASTORE_SKEW_MS });
  let hasAnswered = false;
  return {
    get skewMs() {
      return hasAnswered ? server.skewMs : DATASTORE_SKEW_MS;
    },
    now: () => server.now(),
    senderMs: () => undefined,
    sending: () => {
      const aheadMs = server.aheadAt(clock.monotonicMs());
      const sentMs = clock.monotonicMs();
      return (serverMs, wrote) => {
        const answer = { sentMs, receivedMs: clock.monotonicMs(), serverMs };
        hasAnswered = true;
        server.learn(answer);
        const wrongMs = errorOf(aheadMs, answer);
        if (wrote && Math.abs(wrongMs) > DATASTORE_SKEW_MS / 2) throw wrongClock(wrongMs);
      };
    },
  };
}

function wrongClock(ms: number): LockBackendError {
  return new LockBackendError(`the clock was ${Math.round(ms)} ms off`, { transient: true });
}
