// The lock on one page: what each pure rule makes of a record. tests/rules/notation.ts explains the notation.
import { claim, decide, evict, lossOf, release, renew, sweep, withdraw } from "../core/record/rules.ts";
import { assertEquals } from "@std/assert";
import { evidence, record, request, settings, shown } from "./rules/notation.ts";

/** What the row says; the record; who does what; the evidence; what comes of it. */
type Row = readonly [says: string, record: string, asks: string, evidence: string, result: string];

function table(rule: string, rows: readonly Row[], play: (...row: string[]) => string): void {
  for (const [says, found, asks, seen, result] of rows) {
    Deno.test(`rules: ${rule}: ${says}`, () => assertEquals(play(found, asks, seen), result));
  }
}

/** A queue that is full. */
const FULL = Array.from({ length: 64 }, (_, i) => `w${i}`).join(" ");
/** A queue with room for one. */
const LAST_FREE = FULL.slice(0, FULL.lastIndexOf(" "));
/** As many notices as a record has at most, and all but the oldest. */
const NOTICES = Array.from({ length: 64 }, (_, i) => `x${i} stolen 900`).join("; ");
const NEWEST = NOTICES.slice(NOTICES.indexOf("; ") + 2);

// deno-fmt-ignore
table("asking", [
  ["a free lock is granted",                                "-",                     "a",           "now=5", "claim a:1005^5"],
  ["even to one that may not wait",                         "-",                     "a try",       "now=5", "claim a:1005^5"],
  ["the lease is the one that was asked for",               "-",                     "a lease=300", "",      "claim a:300(300)"],
  ["one that may wait joins the queue of a held lock",      "b:1000",                "a",           "now=5", "write b:1000 | a"],
  ["it joins at the end",                                   "b:1000 | c d",          "a",           "now=5", "write b:1000 | c d a"],
  ["one that may not wait does not join",                   "b:1000",                "a try",       "now=5", "wait 1010"],
  ["a process is queued once for all its requests",         "b:1000 | a c",          "a2",          "now=5", "wait 1010"],
  ["a full queue takes in nobody",                          `b:1000 | ${FULL}`,      "a",           "",      "wait 1010"],
  ["the last place in it is taken",                         `b:1000 | ${LAST_FREE}`, "a",           "",      `write b:1000 | ${LAST_FREE} a`],
  ["what is found after a lost answer is a grant",          "a:1000",                "a",           "now=5", "claim a:1005#1"],
  ["even among waiters",                                    "a:1000 | b c",          "a",           "now=5", "claim a:1005#1 | b c"],
  ["another request of the holder's process does not hold", "a:1000",                "a2",          "now=5", "write a:1000 | a"],
  ["two holders block until the first of them lapses",      "b:1000 c:500(500)",     "a try",       "now=5", "wait 505"],
  ["a process that does not know the time writes none",     "-",                     "a unsure",    "now=5", "claim a:never^5"],
  ["what it finds after a lost answer, it renews without",  "a:1000",                "a unsure",    "now=5", "claim a:never#1"],
], ask);

// deno-fmt-ignore
table("lapsing", [
  ["by the clock, a lease ends when the clocks' bound has passed, too",    "b:1000",              "a try", "now=1099",                               "wait 1"],
  ["and then it has ended",                                                "b:1000",              "a try", "now=1100",                               "claim a:2100^1100"],
  ["by watching, it ends a lease and one per cent after the last renewal", "b:1000",              "a try", "unrenewed=1009",                         "wait 1"],
  ["and then it has ended, whatever the clock says",                       "b:1000",              "a try", "unrenewed=1010",                         "claim a:1000"],
  ["of a short lease, 5 ms after it",                                      "b:200(200)",          "a try", "unrenewed=204",                          "wait 1"],
  ["the proof that comes first counts",                                    "b:1000",              "a try", "now=400 unrenewed=600",                  "wait 410"],
  ["where clocks mean nothing, only watching proves it",                   "b:1000",              "a try", "now=99999 skew=Infinity",                "wait 1010"],
  ["and does",                                                             "b:1000",              "a try", "now=99999 skew=Infinity unrenewed=1010", "claim a:100999^99999"],
  ["a renewed lease ends later",                                           "b:1300#1",            "a try", "now=1300 unrenewed=300",                 "wait 100"],
  ["one lapsed holder does not open the lock for another",                 "b:1000 c:5000(5000)", "a try", "now=1100",                               "wait 4000"],
  ["a lease without an end is judged by watching alone",                   "b:never",             "a try", "now=99999",                              "wait 1010"],
  ["and then it ends, too",                                                "b:never",             "a try", "unrenewed=1010",                         "claim a:1000"],
], ask);

// deno-fmt-ignore
table("turns", [
  ["the first in the queue takes a free lock at once",                               "- | a b; free 0",       "a",          "",                                   "claim a:1000 | b"],
  ["the second waits for a grace, after the clocks' bound",                          "- | b a; free 0",       "a",          "now=149",                            "wait 1"],
  ["and then passes the first",                                                      "- | b a; free 0",       "a",          "now=150",                            "claim a:1150^150"],
  ["by watching, a grace is enough",                                                 "- | b a; free 0",       "a",          "free=50",                            "claim a:1000"],
  ["the third waits for two",                                                        "- | b c a; free 0",     "a",          "now=150",                            "wait 50"],
  ["a newcomer joins instead of passing",                                            "- | b; free 0",         "a",          "",                                   "write - | b a; free 0"],
  ["one that may not wait passes only a queue that has slept for its graces",        "- | b c; free 0",       "a try",      "now=199",                            "wait 1"],
  ["those that are behind keep their places",                                        "- | b a c; free 0",     "a",          "now=150",                            "claim a:1150^150 | c"],
  ["in its own process, others may be ahead",                                        "- | a; free 0",         "a2 ahead=1", "",                                   "wait 50"],
  ["after a crash, graces count from the end of the lease",                          "b:1000 | c",            "a try",      "now=1149",                           "wait 1"],
  ["and then the first in the queue is passed, too",                                 "b:1000 | c",            "a try",      "now=1150",                           "claim a:2150^1150"],
  ["a newcomer that finds a lapsed holder writes down since when the lock is free",  "b:1000 | c",            "a",          "now=1120",                           "write - | c a; free 1100"],
  ["where clocks mean nothing, too",                                                 "b:1000 | c",            "a",          "now=7 skew=Infinity unrenewed=1030", "write - | c a; free -13"],
  ["a newcomer leaves since when it is free as it is written",                       "- | b; free 0",         "a",          "now=20",                             "write - | b a; free 0"],
  ["or writes it down where it is not, whatever the clocks' bound",                  "- | b",                 "a",          "now=20",                             "write - | b a; free 20"],
  ["where it is not, the lock has always been free",                                 "- | b",                 "a try",      "now=149",                            "wait 1"],
  ["graces count from when the lock became free",                                    "- | b; free 700",       "a try",      "now=849",                            "wait 1"],
  ["of several lapsed holders, from the end of the last",                            "b:1000 c:500(500) | d", "a try",      "now=1149",                           "wait 1"],
  ["a lock that is free since an unknown moment is judged by watching",              "- | b a; free never+5", "a",          "now=99999 free=49",                  "wait 1"],
  ["and then the first is passed, too",                                              "- | b a; free never+5", "a",          "free=50",                            "claim a:1000"],
  ["a process that does not know the time does not say since when the lock is free", "b:1000 | c",            "a unsure",   "now=1120",                           "write - | c a; free never+1100"],
], ask);

// deno-fmt-ignore
table("stealing", [
  ["a holder is old when the clocks' bound has passed, too",                     "b:1000",             "a try steal=500", "now=599",            "wait 1"],
  ["and then it is evicted, with a notice",                                      "b:1000",             "a try steal=500", "now=600",            "claim a:1600^600; b stolen 2100"],
  ["or when it has been watched for as long",                                    "b:1000",             "a try steal=500", "held=500",           "claim a:1000; b stolen 2100"],
  ["at 0, at once",                                                              "b:1000",             "a steal=0",       "",                   "claim a:1000; b stolen 2100"],
  ["without the option, never",                                                  "b:9000(9000)",       "a try",           "now=8000 held=8000", "wait 1100"],
  ["whoever is first in the queue gets the lock",                                "b:1000 | c",         "a steal=0",       "",                   "write - | c a; free 0; b stolen 2100"],
  ["the thief, if that is it",                                                   "b:1000 | a c",       "a steal=0",       "",                   "claim a:1000 | c; b stolen 2100"],
  ["a lapsed holder is not stolen from",                                         "b:1000",             "a steal=0",       "now=1100",           "claim a:2100^1100"],
  ["one that may not wait steals for the first in the queue",                    "b:1000 | c",         "a try steal=0",   "",                   "write - | c; free 0; b stolen 2100"],
  ["what was stolen has been free for no time",                                  "b:1000 | c",         "a steal=0",       "grace=1",            "write - | c a; free 0; b stolen 2100"],
  ["and is free from now on, whatever the record said",                          "b:1000 | c; free 7", "a try steal=0",   "now=50",             "write - | c; free 50; b stolen 2100"],
  ["while a younger holder stays, an old one is not evicted for nothing",        "b:1000 c:1900^900",  "a try steal=500", "now=700",            "wait 500"],
  ["the age of a holder that did not know the time is judged by watching alone", "b:never",            "a try steal=500", "now=99999 held=499", "wait 1"],
  ["and its notice stays for a lease from now",                                  "b:never",            "a try steal=500", "held=500",           "claim a:1000; b stolen 2100"],
], ask);

// deno-fmt-ignore
table("notices", [
  ["a grant keeps the notices of others",                       "-; x stolen 900",      "a",         "",        "claim a:1000; x stolen 900"],
  ["but not its own: it told of a grant whose answer was lost", "-; a stolen 900",      "a",         "",        "claim a:1000"],
  ["nor those that have had their time",                        "-; x stolen 900",      "a",         "now=900", "claim a:1900^900"],
  ["joining keeps them",                                        "b:1000; x forced 900", "a",         "",        "write b:1000 | a; x forced 900"],
  ["of too many the newest stay",                               `b:1000; ${NOTICES}`,   "a steal=0", "",        `claim a:1000; ${NEWEST}; b stolen 2100`],
], ask);

// deno-fmt-ignore
table("renewing", [
  ["the lease is counted from now",                     "a:1000",                "a", "now=300",        "a:1300#1"],
  ["again",                                             "a:1300#1",              "a", "now=600",        "a:1600#2"],
  ["it is the holder's own lease",                      "a:500(500)",            "a", "now=100",        "a:600#1(500)"],
  ["others are left alone",                             "a:1000 b:700(700) | c", "a", "now=300",        "a:1300#1 b:700(700) | c"],
  ["notices stay until their time",                     "a:1000; x stolen 900",  "a", "now=899",        "a:1899#1; x stolen 900"],
  ["and no longer",                                     "a:1000; x stolen 900",  "a", "now=900",        "a:1900#1"],
  ["one that is not there is lost",                     "b:1000",                "a", "",               "gone"],
  ["so it is without a record",                         "-",                     "a", "",               "gone"],
  ["a process that does not know the time writes none", "a:1000",                "a", "now=300 unsure", "a:never#1"],
  ["renewals that cannot be counted any more begin anew", "a:1000#9007199254740990", "a", "now=300", "a:1300"],
], (found, token, seen) => {
  const renewed = renew(record(found), token, evidence(seen).now, isUnsure(seen));
  return renewed === null ? "gone" : shown(renewed);
});

// deno-fmt-ignore
table("releasing", [
  ["nothing is left",                                                           "a:1000",               "a",         "now=5",               "-"],
  ["but the queue, and since when it is its turn",                              "a:1000 | b c",         "a",         "now=5",               "- | b c; free 5"],
  ["other holders stay",                                                        "a:1000 b:700(700)",    "a",         "now=5",               "b:700(700)"],
  ["notices stay until their time",                                             "a:1000; x stolen 900", "a",         "now=899",             "-; x stolen 900"],
  ["and no longer",                                                             "a:1000; x stolen 900", "a",         "now=900",             "-"],
  ["one that is not there is lost",                                             "b:1000",               "a",         "",                    "gone"],
  ["the next request of the process is granted, if no other process is queued", "a:1000",               "a then=a2", "now=5",               "grant a2:1005^5"],
  ["even if the process is queued for it",                                      "a:1000 | a",           "a then=a2", "now=5",               "grant a2:1005^5"],
  ["beside other holders",                                                      "a:1000 b:700(700)",    "a then=a2", "now=5",               "grant b:700(700) a2:1005^5"],
  ["else it joins the queue",                                                   "a:1000 | b",           "a then=a2", "now=5",               "- | b a; free 5"],
  ["once",                                                                      "a:1000 | a b",         "a then=a2", "now=5",               "- | a b; free 5"],
  ["if there is room",                                                          `a:1000 | ${FULL}`,     "a then=a2", "now=5",               `- | ${FULL}; free 5`],
  ["a process where nobody waits any more leaves the queue",                    "a:1000 | a b",         "a idle=a",  "now=5",               "- | b; free 5"],
  ["and the record, if it was alone",                                           "a:1000 | a",           "a idle=a",  "now=5",               "-"],
  ["a process that does not know the time does not say since when it is free",  "a:1000 | b",           "a",         "now=5 unsure",        "- | b; free never+5"],
  ["but so that two such moments differ within a day",                          "a:1000 | b",           "a",         "now=86400006 unsure", "- | b; free never+6"],
  ["also if another process goes before the next request",                      "a:1000 | b",           "a then=a2", "now=5 unsure",        "- | b a; free never+5"],
], (found, asks, seen) => {
  const [token, more = ""] = asks.split(" ");
  const { then, idle } = settings(more);
  const released = release(
    record(found),
    token,
    evidence(seen).now,
    then === undefined ? undefined : request(then),
    idle, isUnsure(seen));
  if (released === null) return "gone";
  return { true: "grant ", false: "" }[`${released.granted}`] + shown(released.record);
});

// deno-fmt-ignore
table("withdrawing", [
  ["a place in the queue",                                                     "b:1000 | a c",  "seat=a",         "now=5",        "b:1000 | c"],
  ["the last one, with the record",                                            "- | a; free 0", "seat=a",         "now=5",        "-"],
  ["a grant that nobody wants",                                                "a:1000 | b",    "token=a",        "now=5",        "- | b; free 5"],
  ["both at once",                                                             "a:1000 | a",    "token=a seat=a", "now=5",        "-"],
  ["others' are left alone",                                                   "b:1000 | c",    "token=a seat=a", "now=5",        "nothing"],
  ["a process that does not know the time does not say since when it is free", "a:1000 | b",    "token=a",        "now=5 unsure", "- | b; free never+5"],
], (found, what, seen) => {
  const left = withdraw(record(found), settings(what), evidence(seen).now, isUnsure(seen));
  return left === undefined ? "nothing" : shown(left);
});

// deno-fmt-ignore
table("forcing", [
  ["the lock is free, and the holder has a notice",                                 "a:1000",               "a", "now=5",               "-; a forced 2100"],
  ["whoever is queued is next",                                                     "a:1000 | b",           "a", "now=5",               "- | b; free 5; a forced 2100"],
  ["other holders stay",                                                            "a:1000 b:700(700)",    "a", "now=5",               "b:700(700); a forced 2100"],
  ["where clocks mean nothing, the notice stays a minute longer",                   "a:1000",               "a", "skew=Infinity",       "-; a forced 62000"],
  ["the notices of others stay",                                                    "a:1000; x stolen 900", "a", "now=5",               "-; x stolen 900; a forced 2100"],
  ["one that is not there is not evicted",                                          "b:1000",               "a", "",                    "nobody"],
  ["where clocks mean nothing, nobody says since when it is free",                  "a:1000 | b",           "a", "now=5 skew=Infinity", "- | b; free never+5; a forced 62000"],
  ["the notice for a holder that did not know the time stays for a lease from now", "a:never",              "a", "now=5",               "-; a forced 2105"],
  ["no notice stays beyond the last moment that there is", "a:8640000000000000", "a", "", "-; a forced 8640000000000000"],
], (found, token, seen) => {
  const { now, skewMs } = evidence(seen);
  const left = evict(record(found), (holder) => holder.token === token, "forced", now, skewMs);
  return left === null ? "nobody" : shown(left);
});

// deno-fmt-ignore
table("cleaning up", [
  ["a running lease is kept",                     "a:1000",            "",          "",                   "keep 1010"],
  ["to its last millisecond",                     "a:1000",            "",          "now=1099",           "keep 1"],
  ["until the last of several has ended",         "a:1000 b:500(500)", "",          "",                   "keep 1010"],
  ["a lapsed one is removed",                     "a:1000",            "",          "now=1100",           "remove"],
  ["by watching, too",                            "a:1000",            "",          "unrenewed=1010",     "remove"],
  ["nobody is evicted for its age",               "a:9000(9000)",      "",          "now=8000 held=8000", "keep 1100"],
  ["unless that is asked for",                    "a:1000",            "older=500", "now=600",            "evict -; a forced 2100"],
  ["not before its time",                         "a:1000",            "older=500", "now=599",            "keep 1"],
  ["the oldest is the first to be old",           "a:1000 b:1100^100", "older=300", "now=150",            "keep 250"],
  ["whoever is queued is next",                   "a:1000 | b",        "older=0",   "",                   "evict - | b; free 0; a forced 2100"],
  ["a queue is kept for a minute and its graces", "- | b; free 0",     "",          "",                   "keep 60050"],
  ["by the clock, after the clocks' bound",       "- | b; free 0",     "",          "now=60149",          "keep 1"],
  ["then nobody alive can be in it",              "- | b; free 0",     "",          "now=60150",          "remove"],
  ["by watching, too",                            "- | b; free 0",     "",          "free=60050",         "remove"],
  ["behind a lapsed holder it is kept as long",   "a:1000 | b",        "",          "now=1100",           "keep 60050"],
  ["a notice is kept until its time",             "-; x stolen 900",   "",          "now=899",            "keep 1"],
  ["and no longer",                               "-; x stolen 900",   "",          "now=900",            "remove"],
], (found, asks, seen) => {
  const { older } = settings(asks);
  const swept = sweep(record(found), older === undefined ? undefined : Number(older), evidence(seen));
  if (swept.kind === "keep") return `keep ${swept.forMs}`;
  return swept.kind === "evict" ? `evict ${shown(swept.record)}` : swept.kind;
});

// deno-fmt-ignore
table("telling why", [
  ["a notice says why",                "-; a stolen 900",      "a", "", "stolen"],
  ["whichever reason it was",          "b:1000; a forced 900", "a", "", "forced"],
  ["without one, the lease has ended", "b:1000; c stolen 900", "a", "", "expired"],
], (found, token) => lossOf(record(found), token));

Deno.test("rules: a grant, and a place in the queue, in full", () => {
  const want = { ...request("a"), label: "host 1" };
  const [held] = claim(want, 5).holders;
  const part = { mode: "exclusive", limit: 1, since: 5, label: "host 1" } as const;
  assertEquals(held, { ...part, token: "a", leaseMs: 1000, expiresAt: 1005, renewals: 0, fence: undefined });
  assertEquals(claim(want, 5), { v: 1, holders: [held], queue: [], evicted: undefined, freedAt: undefined });
  const joined = decide(record("b:1000"), want, evidence("now=5"));
  assertEquals(joined.kind === "write" && joined.record.queue, [{ ...part, seat: "a" }]);
});

Deno.test("rules: a cleanup says whom it evicts", () => {
  const swept = sweep(record("a:1000 b:1100^100"), 300, evidence("now=400"));
  assertEquals(swept.kind === "evict" && [...swept.fences], ["fence of a"]);
});

/** What a request makes of a record. */
function ask(found: string, asks: string, seen: string): string {
  const decision = decide(record(found), request(asks), evidence(seen));
  return decision.kind === "wait" ? `wait ${decision.forMs}` : `${decision.kind} ${shown(decision.record)}`;
}

/** Whether the process that acts does not know the time. */
function isUnsure(seen: string): boolean {
  return settings(seen).unsure !== undefined;
}
