/** How a process knows the time of the store: the real clocks of real backends, fed by simulated answers. */

import { ServerClock, SKEW_MS, TOLERANCE_MS } from "../../backends/redis/clock.ts";
import { LockBackendError } from "../../core/errors.ts";
import type { SimProcess } from "./process.ts";

/** Which clock a backend has. */
export type ClockKind = "stated" | "redis" | "datastore" | "watching";

/** What a backend knows of the store's time. */
export interface Timekeeper {
  readonly skewMs: number;
  now(): number;
  /** What the store is told of it, if it looks at that. */
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

/** As `RedisStore` does it. */
function redisTime(process: SimProcess): Timekeeper {
  const clock = process.asRuntime(() => new ServerClock());
  const read = <Value>(fn: () => Value) => process.asRuntime(fn);
  return {
    skewMs: SKEW_MS,
    now: () => read(() => clock.now()),
    senderMs: () => Math.floor(read(() => clock.now())),
    sending: () => {
      const sent = process.clock.monotonicMs();
      const { aheadMs } = clock;
      return (storeMs, wrote) => {
        const behindMs = read(() => clock.learn(storeMs, sent)) - aheadMs;
        if (behindMs <= TOLERANCE_MS || !wrote) return;
        throw new LockBackendError(`the clock was ${Math.round(behindMs)} ms behind the server's`, {
          transient: true,
        });
      };
    },
  };
}

const DATASTORE = { skewMs: 1000, unsureMs: 500, drift: 1 / 2000 };

/** As the Datastore backend does it: who does not know the time says so, and judges by watching alone. */
function datastoreTime({ clock }: SimProcess): Timekeeper {
  const { skewMs, unsureMs, drift } = DATASTORE;
  let known: { readonly least: number; readonly most: number; readonly atMs: number } | undefined;
  const now = () =>
    known === undefined ? clock.wallMs() : clock.monotonicMs() + (known.least + known.most) / 2;
  return {
    get skewMs() {
      return known === undefined || known.most - known.least <= unsureMs ? skewMs : Infinity;
    },
    now,
    senderMs: () => undefined,
    sending: () => {
      const guessed = now();
      const sent = clock.monotonicMs();
      return (storeMs, wrote) => {
        const got = clock.monotonicMs();
        const driftMs = (got - (known?.atMs ?? got)) * drift;
        const least = Math.max(storeMs - got, (known?.least ?? -Infinity) - driftMs);
        const most = Math.min(storeMs - sent, (known?.most ?? Infinity) + driftMs);
        known = least <= most
          ? { least, most, atMs: got }
          : { least: storeMs - got, most: storeMs - sent, atMs: got };
        if (!wrote || (storeMs >= guessed - unsureMs && storeMs <= guessed + got - sent + unsureMs)) return;
        throw new LockBackendError("this machine's clock differs from the server's", { transient: true });
      };
    },
  };
}
