// A short way to write records, requests and evidence, so that a rule is one line of a table.
//
// Record     `a:1000`          `a` holds the lock until 1000. Its lease is 1000, it was granted at 0.
//            `a:1500#2(500)^9` … renewed twice, with a lease of 500, granted at 9.
//            `a:1000 | b c`    … and the processes `b` and `c` are queued.
//            `- | b; free 700` nobody holds it, `b` is queued, and it has been free since 700.
//            `…; x stolen 900` `x` has been evicted, and its notice stands until 900.
//            `a:never`         … its process did not know the time; `free never+5` neither did the one that freed it.
//            `-`               there is no record.
// Request    `a`               a process asks, and may wait. `a2` is another request of the process `a`.
//            `a try`           … may not wait. `steal=500` evicts a holder of that age, `ahead=1` has another before it
//                              in its own process, `lease=500`. `unsure` does not know the time.
// Evidence   `now=1200`        what time it is, by the store's clock as seen from here. `skew` is 100, `grace` 50.
//            `unrenewed=900`   for how long each holder has been watched without a renewal; `held=900`: at all.
//            `free=60`         for how long the lock has been watched while it was free.
//            `unsure`          whoever renews, releases or leaves does not know the time.
import type { View } from "../../core/record/evidence.ts";
import {
  type EvictionReason,
  FREE,
  type Holder,
  type LockRecord,
  NEVER_MS,
} from "../../core/record/record.ts";
import type { Want } from "../../core/record/rules.ts";

const LEASE_MS = 1000;

/** `name=5 other` as `{ name: "5", other: "" }`. */
export function settings(text: string): Partial<Record<string, string>> {
  return Object.fromEntries(
    text.split(" ").filter(Boolean).map((word) => [...word.split("="), ""].slice(0, 2)),
  );
}

function numberIn(text: string | undefined, otherwise: number): number {
  return text === undefined || text === "" ? otherwise : Number(text);
}

/** The process of a request: its first letter. */
function processOf(token: string): string {
  return token[0];
}

/** `never+5` as a moment, and back. */
function moment(text: string): number {
  return text.startsWith("never") ? NEVER_MS + Number(text.slice("never".length)) : Number(text);
}

function shownMoment(ms: number): string {
  if (Math.abs(ms) < NEVER_MS / 2) return `${ms}`;
  return ms === NEVER_MS ? "never" : `never${ms > NEVER_MS ? "+" : ""}${ms - NEVER_MS}`;
}

export function record(text: string): LockRecord {
  const [main, ...more] = text.split("; ");
  const [held, queued = ""] = main.split(" | ");
  const notices = more.filter((part) => !part.startsWith("free ")).map((part) => {
    const [token, reason, until] = part.split(" ");
    return { token, reason: reason as EvictionReason, until: Number(until) };
  });
  const free = more.find((part) => part.startsWith("free "));
  if (text === "-") return FREE;
  return {
    v: 1,
    holders: held === "-" ? [] : held.split(" ").map(holder),
    queue: queued.split(" ").filter(Boolean).map((seat) => ({ seat, mode: "exclusive", limit: 1, since: 0 })),
    evicted: notices.length > 0 ? notices : undefined,
    freedAt: free === undefined ? undefined : moment(free.slice(5)),
  };
}

function holder(text: string): Holder {
  const found = /^(\w+):(never|-?\d+)(?:#(\d+))?(?:\((\d+)\))?(?:\^(-?\d+))?$/.exec(text);
  if (found === null) throw new Error(`no holder: ${text}`);
  const [, token, expiresAt, renewals, leaseMs, since] = found;
  return {
    token,
    mode: "exclusive",
    limit: 1,
    since: numberIn(since, 0),
    leaseMs: numberIn(leaseMs, LEASE_MS),
    expiresAt: moment(expiresAt),
    renewals: numberIn(renewals, 0),
    fence: `fence of ${token}`,
  };
}

/** A record in the notation. */
export function shown(record: LockRecord | null): string {
  if (record === null) return "-";
  const { holders, queue, evicted = [], freedAt } = record;
  const held = holders.map(({ token, expiresAt, renewals, leaseMs, since }) =>
    `${token}:${shownMoment(expiresAt)}` + (renewals > 0 ? `#${renewals}` : "") +
    (leaseMs === LEASE_MS ? "" : `(${leaseMs})`) +
    (since === 0 ? "" : `^${since}`)
  );
  const parts = [held.length > 0 ? held.join(" ") : "-"];
  if (queue.length > 0) parts[0] += ` | ${queue.map(({ seat }) => seat).join(" ")}`;
  if (freedAt !== undefined) parts.push(`free ${shownMoment(freedAt)}`);
  for (const { token, reason, until } of evicted) parts.push(`${token} ${reason} ${until}`);
  return parts.join("; ");
}

export function request(text: string): Want {
  const [token, ...rest] = text.split(" ");
  const { try: bails, steal, ahead, lease, unsure } = settings(rest.join(" "));
  return {
    token,
    seat: processOf(token),
    leaseMs: numberIn(lease, LEASE_MS),
    label: undefined,
    stealAfterMs: steal === undefined ? undefined : Number(steal),
    mayWait: bails === undefined,
    ahead: numberIn(ahead, 0),
    unsure: unsure !== undefined,
  };
}

export function evidence(text: string): View {
  const { now, skew, grace, unrenewed, held, free } = settings(text);
  return {
    now: numberIn(now, 0),
    skewMs: numberIn(skew, 100),
    graceMs: numberIn(grace, 50),
    holderSeenMs: () => numberIn(held, 0),
    leaseSeenMs: () => numberIn(unrenewed, 0),
    freeSeenMs: () => numberIn(free, 0),
  };
}
