// A short way to write records, members and evidence, so that a rule is one line of a table.
//
// Records    `a:1000`          `a` holds the lock until 1000. Its lease is 1000, it was granted at 0.
//            `a:1500#2(500)^9` … renewed twice, with a lease of 500, granted at 9. `a:?`: its process did not know the time.
//            `a:1000/2 b:…/r`  `a` lets at most two hold it, `b` holds it shared. `/5x2`: it takes two permits of five.
//            `a:1000/r+`       `a` holds it shared and waits to be the only one. `~a:1000`: its mode was changed by this commit.
//            `B@b:75`          the lock is offered to the process `b`, under the token of its queue entry. Its lease is 75.
//            `a:1000 | b c`    … and the processes `b` and `c` are queued; the tokens of their entries are `B` and `C`.
//            `a:1000 |`        … and a queue is named of which nothing is there; `| 0`: it is empty; `| ?`: it is not known what is there;
//                              `| (b)`: there is one of another name, which is void. `a:1000 (b)`: none is named;
//                              `| !`: the store itself cannot read what is there, `| !!`: only we cannot.
//                              `(?)`: none is named, and it has not been looked what is there.
//            `- | b~300`       the turn of `b` lasts 300, for it waits for other locks, too.
//            `- | b; free 700` it has no holder, `b` is queued, and there has been room since 700; `free ?`: it is not known since when.
//            `…; x stolen 900` `x` has been evicted, whose lease was 1000, and its notice stands until 900; `x stolen ?(500)`: it is not known
//                              until when, and its lease was 500.
//            `-`               there is nothing in the store.
// Members    `a, a2 try`       the process `a` has two requests, `a` and `a2`, and `a2` may not wait. `steal=500` evicts a
//                              holder of that age, `lease=500`, `shared`, `limit=2`, `permits=2` say how it wants the lock.
//            `a restores`      it takes up the hold `x`, which was handed over, and wants nothing else.
//            `renews a`        the hold `a` is due; with `left=1500`, its lease is to be that long at least. `keeps a`: it is not. All others of the process are to leave.
//            `keeps a up`      … and is to be the only one; `up try`: it does not wait for that. `keeps a down`: … and to be shared.
//            `rests a lease=300` the hold `a` is released, and is to stay for 300, as `k`, which has no owner.
//            `idle a`          no caller in the process `a` wants anything.
//            `waited=5`        it asked 5 ago; entries say that theirs asked at 0. `saw b c`: when it looked at the queue first,
//                              these were in it; default: all.
//            `queued`          it is queued, as far as it knows. `once queued`: in a queue of another name. `refused`: its commits
//                              were, because the queue moved.
//            `turn=300`        it waits for other locks, too. `holds back`: those are not free; `stays out`: nor can it be queued for
//                              all of them. `in turn`: the process has held it so briefly that it may pass it on to its own.
//            `a2 own`          the request `a2` has a separate entry in the queue, which is called so, too. `queued a2`: that is queued.
//            `a2 first`        it goes before the queue.
// Evidence   `now=1200`        what time it is, by the store's clock as seen from here. `skew` is 100, `error` 0, `grace` 50.
//            `unrenewed=900`   for how long each holder has been watched without a renewal; `held=900`: at all; `noticed=900`: for how
//                              long each notice has.
//            `free=60`         for how long the lock has been watched while it was free; `freed`: it was seen to become free.
// Result     `*a:1000 | c`     both records are written, and `a` is a grant. `| new: c`: the queue has a new name.
//            `= | c`           only the queue is written; `a:1000 | =` only the lock; `| none`: the queue is deleted.
//            `wait 5`          nothing is written, and it is to be looked at again in 5. `nothing`: when there are news.
//            `look`            the queue must be known before anything can be said.
import type { Snapshot, Versioned, Writes } from "../../core/record/codec.ts";
import type { Evidence } from "../../core/record/evidence.ts";
import type { Claim, Intent, Members } from "../../core/record/members.ts";
import { UnreadableRecordError } from "../../core/errors.ts";
import type { Mode } from "../../core/record/modes.ts";
import type { Plan } from "../../core/record/plan.ts";
import {
  type EvictionReason,
  FREE,
  type Holder,
  type LockRecord,
  NO_QUEUE,
  type QueueEntry,
  type QueueRecord,
} from "../../core/record/record.ts";

const LEASE_MS = 1000;
const OFFER_MS = 75;
const QUEUE = "q";

/** `name=5 other` as `{ name: "5", other: "" }`. */
export function settings(text: string): Partial<Record<string, string>> {
  return Object.fromEntries(
    text.split(" ").filter(Boolean).map((word) => [...word.split("="), ""].slice(0, 2)),
  );
}

function numberIn(text: string | undefined, otherwise: number): number {
  return text === undefined || text === "" ? otherwise : Number(text);
}

/** The process of a token: its first letter. */
function processOf(token: string): string {
  return token[0].toLowerCase();
}

function timeIn(text: string): number | null {
  return text === "?" ? null : Number(text);
}

/** `r`, `r+`, `2` or `5x2`, behind a slash. */
function modeIn(text: string | undefined): Mode {
  if (text?.startsWith("r")) return { mode: "shared", limit: 1, upgrades: text === "r+" || undefined };
  const [limit, permits] = (text ?? "").split("x");
  return {
    mode: "exclusive",
    limit: numberIn(limit, 1),
    permits: permits === undefined ? undefined : Number(permits),
  };
}

function shownMode({ mode, limit, permits, upgrades }: Mode): string {
  if (mode === "shared") return upgrades ? "/r+" : "/r";
  return limit === 1 ? "" : `/${limit}` + (permits === undefined ? "" : `x${permits}`);
}

/** What is there of a lock. */
export function snapshot(text: string): Snapshot {
  const [main, ...more] = text.split("; ");
  const [before, aside] = main.split(/ \(([^)]*)\)$/);
  const [held, queued] = before.split(" |");
  const notices = more.filter((part) => !part.startsWith("free ")).map((part) => {
    const [, token, reason, until, leaseMs] = /^(\w+) (\w+) (\?|-?\d+)(?:\((\d+)\))?$/.exec(part)!;
    return {
      token,
      reason: reason as EvictionReason,
      leaseMs: numberIn(leaseMs, LEASE_MS),
      until: timeIn(until),
    };
  });
  const free = more.find((part) => part.startsWith("free "));
  const record: LockRecord = {
    v: 1,
    holders: held === "-" ? [] : held.split(" ").map(holderIn),
    queue: queued === undefined ? undefined : QUEUE,
    notices: notices.length > 0 ? notices : undefined,
    freedAt: free === undefined ? undefined : timeIn(free.slice(5)),
  };
  const isThere = before !== "-" || more.length > 0;
  const entries = (aside ?? queued ?? "").split(" ").filter((word) => /[a-z]/i.test(word)).map(entryIn);
  const queue: Versioned<QueueRecord> = entries.length > 0 || queued === " 0"
    ? { version: "1", record: { v: 1, id: aside === undefined ? QUEUE : "another", entries } }
    : { version: null, record: NO_QUEUE };
  const unreadable = queued?.startsWith(" !") ? new UnreadableRecordError("a list is in the way") : undefined;
  return {
    key: "job",
    lock: isThere ? { version: "1", record } : { version: null, record: FREE },
    queue: queued === " ?" || aside === "?"
      ? undefined
      : { ...queue, unreadable, version: queued === " !!" ? "1" : queue.version },
  };
}

/** What is written, from the notation. */
export function writes(text: string): Writes {
  const { lock, queue } = snapshot(text.replace(/^=/, "-").replace(" | =", ""));
  const writtenQueue = queue!.version === null ? null : queue!.record;
  return {
    lock: text.startsWith("=") ? undefined : text === "-" ? null : lock.record,
    queue: !text.includes(" |") || text.endsWith(" | =") ? undefined : writtenQueue,
  };
}

export function record(text: string): LockRecord {
  return snapshot(text).lock.record;
}

function holderIn(text: string): Holder {
  const isChanged = text.startsWith("~");
  const found = /^~?(\w+)(?:@(\w+))?:(\?|-?\d+)(?:#(\d+))?(?:\((\d+)\))?(?:\^(-?\d+))?(?:\/(\w+\+?))?$/.exec(
    text,
  );
  if (found === null) throw new Error(`no holder: ${text}`);
  const [, token, offeredTo, expiresAt, renewals, leaseMs, since, mode] = found;
  return {
    token,
    ...modeIn(mode),
    since: numberIn(since, 0),
    leaseMs: numberIn(leaseMs, offeredTo === undefined ? LEASE_MS : OFFER_MS),
    expiresAt: timeIn(expiresAt),
    renewals: numberIn(renewals, 0),
    fence: isChanged ? undefined : `fence of ${token}`,
    formerFence: isChanged ? `fence of ${token}` : undefined,
    offeredTo,
  };
}

function entryIn(text: string): QueueEntry {
  const [, participant, mode, turn] = /^(\w+)(?:\/(\w+))?(?:~(\d+))?$/.exec(text)!;
  const turnMs = turn === undefined ? undefined : Number(turn);
  return { participant, token: participant.toUpperCase(), ...modeIn(mode), since: 0, turnMs };
}

function shownEntry(entry: QueueEntry): string {
  return entry.participant + shownMode(entry) + (entry.turnMs === undefined ? "" : `~${entry.turnMs}`);
}

function shownHolder(holder: Holder, isGranted: boolean): string {
  const { token, offeredTo, expiresAt, renewals, leaseMs, since } = holder;
  const isChanged = holder.fence === undefined && holder.formerFence === `fence of ${token}`;
  return (isGranted ? "*" : isChanged ? "~" : "") + token +
    (offeredTo === undefined ? "" : `@${offeredTo}`) +
    `:${expiresAt ?? "?"}` +
    (renewals !== 0 ? `#${renewals}` : "") +
    (leaseMs === (offeredTo === undefined ? LEASE_MS : OFFER_MS) ? "" : `(${leaseMs})`) +
    (since === 0 ? "" : `^${since}`) +
    shownMode(holder);
}

/** What is written, in the notation. */
export function shown({ lock, queue, grants = [] }: Plan | Writes & { readonly grants?: undefined }): string {
  const granted = grants.map(({ token }) => token);
  const { holders = [], queue: named, notices = [], freedAt }: Partial<LockRecord> = lock ?? {};
  const held = holders.map((holder) => shownHolder(holder, granted.includes(holder.token))).join(" ") || "-";
  const parts = [lock === undefined ? "=" : held];
  if (queue === null) parts[0] += " | none";
  else if (queue !== undefined) {
    const entries = queue.entries.map(shownEntry);
    const isNamed = lock === undefined ? queue.id === QUEUE : queue.id === named;
    const format = queue.v === 1 ? "" : `v${queue.v} `;
    const name = format + (queue.id === QUEUE ? "" : `${queue.id}: `);
    parts[0] += ` | ${isNamed ? "" : "void "}${name}${entries.join(" ") || "0"}`;
  } else if (named !== undefined) parts[0] += " | =";
  if (freedAt !== undefined) parts.push(`free ${freedAt ?? "?"}`);
  for (const { token, reason, leaseMs, until } of notices) {
    parts.push(`${token} ${reason} ${until ?? "?"}${leaseMs === LEASE_MS ? "" : `(${leaseMs})`}`);
  }
  return parts.join("; ");
}

/** A request, or a hold that stays. */
export function claim(text: string): Claim {
  const [token, ...rest] = text.split(" ");
  const { try: bails, steal, lease, shared, limit, permits, waited, turn, own, first, restores } = settings(
    rest.join(" "),
  );
  return {
    token,
    mode: shared === undefined ? "exclusive" : "shared",
    limit: numberIn(limit, 1),
    permits: permits === undefined ? undefined : Number(permits),
    leaseMs: numberIn(lease, LEASE_MS),
    label: undefined,
    stealAfterMs: steal === undefined ? undefined : Number(steal),
    mayWait: bails === undefined,
    waitedMs: numberIn(waited, 0),
    turnMs: turn === undefined ? undefined : Number(turn),
    restores: restores === undefined ? undefined : "x",
    entry: own === undefined ? undefined : token,
    goesFirst: first !== undefined,
  };
}

/** All of one process. */
export function members(text: string): Members {
  const parts = text.split(", ");
  const ahead = parts.find((part) => part.startsWith("saw "))?.slice(4) ?? "bcdefgh";
  const participant = processOf(parts[0].replace(/^(renews|keeps|rests|idle) /, ""));
  const saying = (verb: string) =>
    parts.filter((part) => part.startsWith(verb + " ")).map((part) => claim(part.slice(verb.length + 1)));
  const [renewing, keeping, resting] = [saying("renews"), saying("keeps"), saying("rests")];
  const requests = parts.filter((part) =>
    !/^(renews|keeps|rests|idle|queued|once|refused|saw|holds back|stays out|in turn)\b/.test(part)
  ).map(claim);
  const patience = requests.flatMap(({ mayWait, stealAfterMs = Infinity }) => mayWait ? [stealAfterMs] : []);
  const patienceMs = Math.min(...patience);
  const has = (claims: readonly Claim[], holder: Holder) =>
    claims.some(({ token }) => token === holder.token);
  const offeredOf = ({ offeredTo }: Holder) =>
    requests.find(({ entry = participant, restores }) => entry === offeredTo && restores === undefined);
  const queued = parts.find((part) => /^(once )?queued\b/.test(part))
    ?.replace(/queued$/, `queued ${participant}`);
  const queuedMode = (text: string): [string, Mode] => {
    const [name, isReader] = text.split("/");
    const { mode, limit, permits } = requests.find(({ entry = participant }) => entry === name) ??
      claim(name);
    return [name, { mode: isReader === undefined ? mode : "shared", limit, permits }];
  };
  return {
    participant,
    requests,
    firstRequest: requests.find(({ restores }) => restores === undefined),
    patienceMs: patienceMs === Infinity ? undefined : patienceMs,
    queuedIn: queued?.startsWith("once ") ? "another" : queued && QUEUE,
    queuedAs: new Map(queued?.split("queued ")[1].split(" ").map(queuedMode) ?? []),
    leavesQueueOut: parts.includes("refused"),
    holdsBack: parts.includes("holds back") || parts.includes("stays out"),
    staysOut: parts.includes("stays out"),
    keepsTurn: parts.includes("in turn"),
    intentOf(holder): Intent {
      const isRestored = holder.token === "x" && requests.some(({ restores }) => restores === "x");
      if (isRestored && !/holds back/.test(text)) return "restore";
      if (processOf(holder.token) !== participant) return "foreign";
      if (has(renewing, holder)) return "renew";
      if (has(keeping, holder)) return "keep";
      if (has(resting, holder)) return "remain";
      const isWanted = holder.offeredTo === undefined
        ? has(requests, holder)
        : offeredOf(holder) !== undefined;
      return isWanted && !/holds back|stays out/.test(text) ? "confirm" : "leave";
    },
    claimOf(holder) {
      if (holder.token === "x") return requests.find(({ restores }) => restores === "x")!;
      const own = [...renewing, ...keeping, ...requests].find(({ token }) => token === holder.token);
      return (own ?? offeredOf(holder))!;
    },
    isOurs: ({ participant: name }) => processOf(name) === participant,
    isAhead: ({ participant }) => ahead.includes(participant),
    leaseMsOf({ token }) {
      const { left } = settings(
        parts.find((part) => /^(renews|keeps) /.test(part) && part.split(" ")[1] === token)!,
      );
      const { leaseMs } = [...renewing, ...keeping].find((claim) => claim.token === token)!;
      return Math.max(leaseMs, numberIn(left, 0));
    },
    remainderOf({ token }) {
      return { token: "k", leaseMs: resting.find((claim) => claim.token === token)!.leaseMs };
    },
    changeOf({ token }) {
      const changing = parts.find((part) => /^(renews|keeps) /.test(part) && part.split(" ")[1] === token);
      const { up, down, try: bails } = settings(changing ?? "");
      if (up !== undefined) return { to: "exclusive", mayWait: bails === undefined };
      return down === undefined ? undefined : { to: "shared", mayWait: true };
    },
    newQueueId: () => "new",
    newToken: () => participant.toUpperCase(),
  };
}

export function evidence(text: string): Evidence {
  const { now, skew, error, grace, unrenewed, held, noticed, free, freed } = settings(text);
  return {
    now: numberIn(now, 0),
    skewMs: numberIn(skew, 100),
    errorMs: numberIn(error, 0),
    graceMs: numberIn(grace, 50),
    holderSeenMs: () => numberIn(held, 0),
    leaseSeenMs: () => numberIn(unrenewed, 0),
    noticeSeenMs: () => numberIn(noticed, 0),
    freeSeenMs: () => numberIn(free, 0),
    sawFreed: () => freed !== undefined,
  };
}
