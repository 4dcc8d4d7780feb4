// The lock on one page: what one process writes next about it. tests/rules/notation.ts explains the notation.
import { addressOf, concernsOf } from "../core/record/concerns.ts";
import { evict, lossOf } from "../core/record/eviction.ts";
import { covers, strongerOf } from "../core/record/modes.ts";
import { plan } from "../core/record/plan.ts";
import { localTurnMs } from "../core/record/queue.ts";
import { sweep } from "../core/record/sweep.ts";
import { assert, assertEquals } from "@std/assert";
import { claim, evidence, members, record, settings, shown, snapshot, writes } from "./rules/notation.ts";

/** What the row says; the records; which process acts; the evidence; what comes of it. */
type Row = readonly [says: string, records: string, acts: string, evidence: string, result: string];

function table(rule: string, rows: readonly Row[], play: (...row: string[]) => string): void {
  for (const [says, found, acts, seen, result] of rows) {
    Deno.test(`rules: ${rule}: ${says}`, () => assertEquals(play(found, acts, seen), result));
  }
}

const words = (count: number, word: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => word(i));

/** A queue that is full. */
const FULL = words(64, (i) => `w${i}`).join(" ");
/** A queue with room for one. */
const LAST_FREE = FULL.slice(0, FULL.lastIndexOf(" "));
/** As many notices as a record has at most, and all but the oldest. */
const NOTICES = words(64, (i) => `x${i} stolen 900`).join("; ");
const NEWEST = NOTICES.slice(NOTICES.indexOf("; ") + 2);
/** One more reader of a process than there may be, and those that there may. */
const MANY_READERS = words(65, (i) => `a${i} shared`).join(", ");
const GRANTED_READERS = words(64, (i) => `*a${i}:1000/r`).join(" ");
/** One request less than may hold the lock or be queued for it, of which none may wait. */
const TRIES = words(127, (i) => `a${i + 10} try`).join(", ");
/** As many readers as there may be. */
const READERS = words(64, (i) => `r${i}:1000/r`).join(" ");

// deno-fmt-ignore
table("a free lock", [
  ["is granted at once",                                "-",               "a",           "now=5",               "*a:1005^5"],
  ["to one that may not wait, too",                     "-",               "a try",       "now=5",               "*a:1005^5"],
  ["with the lease that was asked for",                 "-",               "a lease=300", "",                    "*a:300(300)"],
  ["without an end, where the time is not known",       "-",               "a",           "now=5 skew=Infinity", "*a:?^5"],
  ["to the first of its process",                       "-",               "a, a2",       "",                    "*a:1000"],
  ["whatever stands in a queue that it does not name",  "- (b c)",         "a",           "",                    "*a:1000"],
  ["which goes, if more than a glance is needed",       "- (b); x stolen 900", "a",       "",                    "*a:1000 | none; x stolen 900"],
], act);

// deno-fmt-ignore
table("several locks, all or nothing", [
  ["one of them that is free waits for the others",            "-",                     "a turn=300, holds back", "now=5", "- | new: a~300; free 5"],
  ["and is taken when they are free, too",                     "- | a~300; free 5",     "a turn=300",  "now=9",       "*a:1009^9 | none"],
  ["it waits behind a holder as every process does",           "b:1000",                "a turn=300, holds back", "", "b:1000 | new: a~300"],
  ["and behind others in the queue",                           "b:1000 | c",            "a turn=300, holds back", "", "= | c a~300"],
  ["behind all others, even those that asked later",           "b:1000 | c d",          "a turn=300 waited=5, saw -, holds back", "", "= | c d a~300"],
  ["in the place of those that have crashed",                  "- | b; free 0",         "a turn=300, holds back", "now=150", "= | a~300"],
  ["no holder is evicted for it before the others are free",   "b:1000 | a~300",        "a turn=300 steal=500, holds back", "now=700", "wait 400"],
  ["a process that frees it offers it to none before its turn, on the queue as it is", "b:1000 | a~300 c", "idle b",  "now=7",       "- | a~300 c; free 7"],
  ["nor to itself, for it has to take all",                    "b:1000 | c a~300",      "idle b",      "now=7",       "C@c:82^7 | a~300"],
  ["no process passes it after a grace",                       "- | a~300 b; free 0",   "b",           "now=200",     "wait 200"],
  ["but when its turn is over without a sign of life",         "- | a~300 b; free 0",   "b",           "now=400",     "*b:1400^400 | none"],
  ["each before us has a turn of its own length",              "- | a~300 c b; free 0", "b",           "now=400",     "wait 50"],
  ["while it waits for others it says in time that it lives",  "- | a~300 b; free 0",   "a turn=300, holds back", "now=100", "- | =; free 100"],
  ["and not more often",                                       "- | a~300 b; free 0",   "a turn=300, holds back", "now=40", "wait 60"],
  ["to the millisecond",                                       "- | a~300 b; free 0",   "a turn=300, holds back", "now=99", "wait 1"],
  ["counted from when it said so last",                        "- | a~300 b; free 700", "a turn=300, holds back", "now=740","wait 60"],
  ["nor while there is no room for it",                        "c:1000 | a~300 b",      "a turn=300, holds back", "now=100", "wait 1000"],
  ["nor before its turn",                                      "- | b a~300; free 0",   "a turn=300, holds back", "now=100", "wait 50"],
  ["not even a millisecond",                                   "- | b a~300; free 0",   "a turn=300, holds back", "now=149", "wait 1"],
  ["by watching, where the time is not known",                 "- | a~300 b; free ?",   "a turn=300, holds back", "now=100 skew=Infinity free=100", "- | =; free ?"],
  ["and not more often then either",                           "- | a~300 b; free ?",   "a turn=300, holds back", "now=99999 skew=Infinity free=40","wait 60"],
  ["when its turn has come, those that have crashed go",       "- | b a~300; free 0",   "a turn=300, holds back", "now=150", "- | a~300; free 150"],
  ["at once, however long its turn lasts",                     "- | b a~600; free 0",   "a turn=600, holds back", "now=150", "- | a~600; free 150"],
  ["so does a holder that is",                                 "c:1000 | a~300",        "a turn=300, holds back", "now=1100", "- | =; free 1100"],
  ["it comes first among those that one commit grants, so that its token is the same for all", "x:1000 | b/r a/r~300", "a shared turn=300 steal=500", "now=700", "*a:1700^700/r B@b:775^700/r | none; x stolen 2000"],
  ["what a lost answer has left of it goes before all is free", "a:1000 | b",           "a turn=300, holds back", "now=5", "B@b:80^5 | a~300"],
  ["what cannot be queued for all of them is queued for none",  "b:1000",               "a turn=300, stays out",  "",      "wait 1010"],
  ["and gives up its place: the next entry has its turn from now on", "b:1000/r | a/r~300 c/r", "a shared turn=300, stays out", "now=5", "b:1000/r | c/r; free 5"],
], act);

// deno-fmt-ignore
table("joining the queue", [
  ["the first to wait names the queue",                        "b:1000",                "a",           "",            "b:1000 | new: a"],
  ["further ones write the queue alone",                       "b:1000 | c d",          "a",           "",            "= | c d a"],
  ["one that may not wait does not join",                      "b:1000",                "a try",       "now=5",       "wait 1010"],
  ["nor behind others",                                        "b:1000 | c",            "a try",       "",            "wait 1010"],
  ["one behind it in its process does",                        "b:1000",                "a try, a2",   "",            "b:1000 | new: a"],
  ["a process is queued once for all its requests",            "b:1000 | a c",          "a, a2",       "",            "wait 1010"],
  ["a full queue takes in no process",                         `b:1000 | ${FULL}`,      "a",           "",            "wait 1010"],
  ["the last place in it is taken",                            `b:1000 | ${LAST_FREE}`, "a",           "",            `= | ${LAST_FREE} a`],
  ["a process that holds the lock is next when it ends, and is not queued", "a:1000",              "keeps a, a2", "",            "nothing"],
  ["nor yet behind others: what is written for the hold does", "a:1000 | b",            "keeps a, a2", "",            "nothing"],
  ["once",                                                     "a:1000 | b a",          "keeps a, a2", "",            "nothing"],
  ["what is written for another that leaves does, too",        "a:1000/2 a3:1000/2 | b/2 c", "keeps a limit=2, a2", "",       "a:1000/2 B@b:75/2 | c a"],
  ["even where that makes no room",                            "a:1000/r+ a2:1000/r a3:1000/r | c", "keeps a shared up, keeps a2 shared, a4", "", "a:1000/r+ a2:1000/r | c a"],
  ["a queue of another name is void, whatever stands in it",   "b:1000 | (c d)",        "a",           "",            "= | a"],
  ["so is one that is gone",                                   "b:1000 |",              "a",           "",            "= | a"],
  ["and one that no lock names",                               "b:1000 (c d)",          "a",           "",            "b:1000 | new: a"],
  ["a process that names the queue leaves the rest as it is",  "b:1000#3(500)^7/2; x forced 900", "a", "now=5",       "b:1000#3(500)^7/2 | new: a; x forced 900"],
  ["a process that joins it does not touch the notices",       "b:1000 | c; x forced 900", "a",        "now=901",     "= | c a"],
  ["how it wants the lock is written down",                    "b:1000 | c",            "a shared",    "",            "= | c a/r"],
  ["it is the first of those that may wait",                   "b:1000 | c",            "a try, a2, a3 shared", "",   "= | c a"],
  ["of many requests as many are looked at as may hold the lock or be queued", "b:1000",`${TRIES}, a2`,         "",   "b:1000 | new: a"],
  ["and no more: those behind them come later",                "b:1000",                `${TRIES}, a1 try, a2`, "",   "wait 1010"],
  ["and with how many others",                                 "b:1000 | c",            "a limit=3",   "",            "= | c a/3"],
  ["one that asked before others that have come since its first look goes before them", "b:1000 | c d e", "a waited=5, saw c", "", "= | c a d e"],
  ["and before all of them",                                   "b:1000 | c d",          "a waited=5, saw -", "",      "= | a c d"],
  ["but not before those that it saw",                         "b:1000 | c d",          "a waited=5, saw d", "",      "= | c d a"],
  ["nor before those that asked when it did",                  "b:1000 | c d",          "a, saw -",    "",            "= | c d a"],
  ["nor where it asked, by its clock, after them",             "b:1000 | c d",          "a waited=5, saw -", "now=6", "= | c d a"],
  ["its time is written in whole milliseconds, rather too soon", "b:1000 | c d",        "a waited=0.5, saw -", "",    "= | a c d"],
], act);

// deno-fmt-ignore
table("an entry for each request", [
  ["all of a process join in one commit, in the order of asking",  "b:1000",                 "a own, a2 own",              "",        "b:1000 | new: a a2"],
  ["behind those that are there",                                  "b:1000 | c",             "a own, a2 own",              "",        "= | c a a2"],
  ["one more joins behind all, its own process's, too",            "b:1000 | a c",           "a own, a2 own",              "",        "= | a c a2"],
  ["how each of them wants the lock is written down",              "b:1000",                 "a own shared, a2 own",       "",        "b:1000 | new: a/r a2"],
  ["one that may not wait does not join",                          "b:1000",                 "a own try, a2 own",          "",        "b:1000 | new: a2"],
  ["next to the entry for all others of the process",              "b:1000",                 "a, a2 own, a3",              "",        "b:1000 | new: a a2"],
  ["a full queue takes in as many as there are places",            `b:1000 | ${LAST_FREE}`,  "a own, a2 own",              "",        `= | ${LAST_FREE} a`],
  ["and then none",                                                `b:1000 | ${FULL}`,       "a own, a2 own",              "",        "wait 1010"],
  ["it joins behind a hold of its own process, for all to see",    "a:1000",                 "keeps a, a2 own",            "",        "a:1000 | new: a2"],
  ["at once",                                                      "a:1000 | b",             "keeps a, a2 own",            "",        "= | b a2"],
  ["with what is written for the hold, if that is due",            "a:1000 | b",             "renews a, a2 own",           "",        "a:1000#1 | b a2"],
  ["when a request is over its entry goes, and no other",          "b:1000 | a a2 c",        "a2 own",                     "",        "= | a2 c"],
  ["those that are not over stay",                                 "b:1000 | a a2 c",        "a own, a2 own",              "",        "wait 1010"],
  ["the queue says which request is next, whichever asked before", "- | a2 a; free 0",       "a own, a2 own",              "",        "*a2:1000 | a"],
  ["a release grants to the next of its own process",              "a:1000 | a2 b a3",       "a2 own, a3 own",             "",        "*a2:1000 | b a3"],
  ["but not past another process",                                 "a:1000 | b a2",          "a2 own",                     "",        "B@b:75 | a2"],
  ["nor one that has just asked past its own",                     "a:1000 | a2",            "a2 own, a3 own",             "",        "*a2:1000 | a3"],
  ["neighbours that are all readers are let in, whosever they are", "a:1000 | a2/r b/r a3/r c", "a2 own shared, a3 own shared", "",   "*a2:1000/r B@b:75/r *a3:1000/r | c"],
  ["a reader does not go past one that wants it alone",            "a:1000 | a2/r b a3/r",   "a2 own shared, a3 own shared", "",      "*a2:1000/r | b a3/r"],
  ["not even of its own process",                                  "a:1000 | a2/r a3 a4/r",  "a2 own shared, a3 own, a4 own shared", "", "*a2:1000/r | a3 a4/r"],
  ["nor if it may not wait",                                       "b:1000/r | c",           "a own shared try",           "",        "wait 1010"],
  ["nor past one of its own process that has not joined yet",      "b:1000/r",               "a own, a2 own shared try",   "",        "b:1000/r | new: a"],
  ["if one that wants it alone leaves, readers behind it are let in", "b:1000/r | a a2/r c/r", "a2 own shared",            "",        "b:1000/r *a2:1000/r C@c:75/r | none"],
  ["an offer is to one of them",                                   "A2@a2:75 | a3",          "a2 own, a3 own",             "now=5",   "*a2:1005^5 | ="],
  ["even if another asked before",                                 "A3@a3:75 | a2",          "a2 own, a3 own",             "now=5",   "*a3:1005^5 | ="],
  ["several are confirmed at once",                                "A2@a2:75/r B@b:75/r A3@a3:75/r", "a2 own shared, a3 own shared", "", "*a2:1000/r B@b:75/r *a3:1000/r"],
  ["and no other reader with them",                                "A2@a2:75/r | b a3/r",    "a2 own shared, a3 own shared", "",      "*a2:1000/r | ="],
  ["nor one that waits in the entry of the process",               "A2@a2:75/r | b",         "a2 own shared, a shared",      "",      "*a2:1000/r | b a/r"],
  ["and with that of the process none that has its own",           "A@a:75/r | b a2/r",      "a shared, a2 own shared",      "",      "*a:1000/r | ="],
  ["if that one is over, it goes to the next in the queue",        "A2@a2:75 | b a3",        "a3 own",                     "",        "B@b:75 | a3"],
  ["of its own process, too",                                      "A2@a2:75 | a3 b",        "a3 own",                     "",        "*a3:1000 | b"],
  ["graces count for each of them",                                "- | b a c a2; free 0",   "a own, a2 own",              "now=149", "wait 1"],
  ["and those before it leave with it",                            "- | b a c a2; free 0",   "a own, a2 own",              "now=150", "*a:1150^150 | c a2"],
  ["where the queue is not known, those that are in it wait",      "b:1000 | ?",             "a own, a2 own, queued a a2", "",        "wait 1010"],
  ["one that is not has to look",                                  "b:1000 | ?",             "a own, a2 own, queued a",    "",        "look"],
  ["behind a hold of its own process, too",                        "a:1000 | ?",             "keeps a, a2 own",            "",        "look"],
  ["so has a process of which one is over",                        "b:1000 | ?",             "a2 own, queued a a2",        "",        "look"],
  ["or of which only the one for all others is left",              "b:1000 | ?",             "a own, queued a0 a",         "",        "look"],
  ["one that may not wait need not",                               "b:1000 | ?",             "a own, a2 own try, queued a", "",       "wait 1010"],
], act);

// deno-fmt-ignore
table("before the queue", [
  ["one that goes first evicts the holder, and leaves the queue alone", "b:1000 | c a2",     "a2 own, a first steal=0",    "",        "*a:1000 | =; b stolen 2000"],
  ["it goes even before the first in that",                             "b:1000 | a2",       "a2 own, a first steal=0",    "",        "*a:1000 | =; b stolen 2000"],
  ["all holders",                                                  "b:1000/r c:1000/r | d",  "a first steal=0",            "",        "*a:1000 | =; b stolen 2000; c stolen 2000"],
  ["one of its own process, too",                                  "a:1000",                 "keeps a, a2 first steal=0",  "",        "*a2:1000; a stolen 2000"],
  ["a lock that is free it takes before those that are queued",    "- | b; free 0",          "a first steal=0",            "",        "*a:1000 | ="],
  ["others of its process join as ever",                           "b:1000",                 "a first steal=0, a2 own",    "",        "*a:1000 | new: a2; b stolen 2000"],
  ["it waits until what is offered is taken",                      "B@b:75 | c",             "a first steal=0",            "",        "wait 80"],
  ["without joining",                                              "B@b:75",                 "a first steal=0",            "",        "wait 80"],
  ["and has to see the queue that it leaves alone",                "b:1000 | ?",             "a first steal=0",            "",        "look"],
  ["unless there is nothing to take",                              "B@b:75 | ?",             "a first steal=0",            "",        "wait 80"],
], act);

// deno-fmt-ignore
table("a queue that is not known", [
  ["a process that wants to join has to look at it",             "b:1000 | ?",             "a",                            "",                  "look"],
  ["a process that is in it waits without",                      "b:1000 | ?",             "a, queued",                    "",                  "wait 1010"],
  ["so does one that may not wait",                              "b:1000 | ?",             "a try",                        "",                  "wait 1010"],
  ["until the lease has lapsed",                                 "b:1000 | ?",             "a, queued",                    "now=1100",          "look"],
  ["for one that may not wait, too",                             "b:1000 | ?",             "a try",                        "now=1100",          "look"],
  ["or the holder is old enough to be evicted",                  "b:1000 | ?",             "a steal=500, queued",          "held=500",          "look"],
  ["and not sooner",                                             "b:1000 | ?",             "a steal=500, queued",          "held=499",          "wait 1"],
  ["for one that may not wait, by its own patience",             "b:1000 | ?",             "a try steal=500, a2 steal=0",  "held=499",          "wait 1"],
  ["or until it has no holder",                                  "- | ?; free 0",          "a, queued",                    "",                  "look"],
  ["a process that leaves hands over, and has to know to which", "a:1000 | ?",             "idle a",                       "",                  "look"],
  ["even if it renews another hold",                             "a:1000/2 a2:1000/2 | ?", "renews a limit=2",             "",                  "look"],
  ["a renewal does not wait for it",                             "a:1000 | ?",             "renews a",                     "now=300",           "a:1300#1 | ="],
  ["nor does what is found after a lost answer",                 "a:1000 | ?",             "a",                            "now=5",             "*a:1005#1 | ="],
  ["nor an offer that is confirmed",                             "A@a:75 | ?",             "a, queued",                    "now=5",             "*a:1005^5 | ="],
  ["notices that have had their time go with it",                "a:1000 | ?; x stolen 9; a2 stolen 8", "renews a",        "now=108",           "a:1108#1 | =; x stolen 9"],
  ["since when there is room stays",                             "a:1000/2 | ?; free 7",   "renews a limit=2",             "",                  "a:1000#1/2 | =; free 7"],
  ["those behind a hold of their process do not look",           "a:1000 | ?",             "keeps a, a2",                  "",                  "nothing"],
  ["unless there is room next to it",                            "a:1000/2 | ?",           "keeps a limit=2, a2 limit=2",  "",                  "look"],
  ["a process that waits no more has to look, to leave it",      "b:1000 | ?",             "idle a, queued",               "",                  "look"],
  ["so has one where only those are left that may not wait",     "b:1000 | ?",             "a try, queued",                "",                  "look"],
  ["where the lock names none, there is nothing to know",        "b:1000 (?)",             "a",                            "",                  "b:1000 | new: a"],
  ["so has one that is queued for what it wants no more",         "b:1000 | ?",             "a, queued a/r",                "",                  "look"],
  ["and one that was in a queue of another name",                 "b:1000 | ?",             "a, once queued",               "",                  "look"],
  ["a process that is not queued has nothing to do with it",     "b:1000 | ?",             "idle a",                       "",                  "nothing"],
], act);

// deno-fmt-ignore
table("after a lost answer", [
  ["what is found is a grant, and renewed",              "a:1000",                   "a",               "now=5",               "*a:1005#1"],
  ["without an end, where the time is not known",        "a:1000",                   "a",               "now=5 skew=Infinity", "*a:?#1"],
  ["even among those that wait",                         "a:1000 | b c",             "a",               "now=5",               "*a:1005#1 | ="],
  ["its process leaves the queue",                       "a:1000 | a b",             "a",               "",                    "*a:1000#1 | b"],
  ["and takes the queue with it, if it was alone",       "a:1000 | a",               "a",               "",                    "*a:1000#1 | none"],
  ["it stays, if another of its requests waits",         "a:1000 | a b",             "a, a2",           "",                    "*a:1000#1 | ="],
  ["other readers of its process wait behind those that are queued", "a:1000/r | b", "a shared, a2 shared", "",                "*a:1000#1/r | b a/r"],
  ["or joins behind others",                             "a:1000 | b",               "a, a2",           "",                    "*a:1000#1 | b a"],
  ["but not if no other process is queued",              "a:1000",                   "a, a2",           "",                    "*a:1000#1"],
  ["a notice for it was about the grant before",         "a:1000; a stolen 900; x stolen 900", "a",     "",                    "*a:1000#1; x stolen 900"],
  ["on a free lock, too",                                "-; a stolen 900",          "a",               "",                    "*a:1000"],
  ["what no caller wants any more is taken out",         "a:1000 | b",               "idle a",          "",                    "B@b:75 | none"],
  ["and goes to the next request of its process",        "a:1000",                   "a2",              "",                    "*a2:1000"],
  ["several are renewed in one commit",                  "a:1000/2 b:1000/2 a2:1000/3", "a limit=2, a2 limit=3", "now=5",       "*a:1005#1/2 b:1000/2 *a2:1005#1/3"],
], act);

// deno-fmt-ignore
table("renewing", [
  ["the lease is counted from now",                            "a:1000",                   "renews a",             "now=300",               "a:1300#1"],
  ["again",                                                    "a:1300#1",                 "renews a",             "now=600",               "a:1600#2"],
  ["it is the lease that was asked for",                       "a:500(500)",               "renews a lease=500",   "now=100",               "a:600#1(500)"],
  ["since when it is held stays",                              "a:1009^9",                 "renews a",             "now=300",               "a:1300#1^9"],
  ["one that is not due is left alone",                        "a:1000",                   "keeps a",              "now=300",               "nothing"],
  ["all of a process that are due are renewed at once",        "a:1000/2 a2:1100^100/2",   "renews a, renews a2",  "now=400",               "a:1400#1/2 a2:1400#1^100/2"],
  ["others are left alone",                                    "a:1000 b:700(700) | c",    "renews a",             "now=300",               "a:1300#1 b:700(700) | ="],
  ["even if they have lapsed",                                 "a:1000 b:100(100)",        "renews a",             "now=300",               "a:1300#1 b:100(100)"],
  ["however they hold it",                                     "a:1000 b:1000/r",          "renews a",             "now=300",               "a:1300#1 b:1000/r"],
  ["notices stay until their time, and the clocks' bound",                            "a:1000; x stolen 900",     "renews a",             "now=999",               "a:1999#1; x stolen 900"],
  ["and no longer",                                            "a:1000; x stolen 900",     "renews a",             "now=1000",              "a:2000#1"],
  ["where the time is not known, it has no end",               "a:1000",                   "renews a",             "now=300 skew=Infinity", "a:?#1"],
  ["where it is known again, it has one",                      "a:?#1",                    "renews a",             "now=300",               "a:1300#2"],
  ["renewals that cannot be counted any more begin again",     "a:1000#9007199254740991",  "renews a",             "now=300",               "a:1300"],
  ["up to there they are counted",                             "a:1000#9007199254740990",  "renews a",             "now=300",               "a:1300#9007199254740991"],
  ["an offer that was taken becomes a full lease",             "A@a:75 | b",               "renews A",             "now=20",                "A:1020#1 | ="],
  ["with it another request joins the queue",                  "a:1000 | b",               "renews a, a2",         "",                      "a:1000#1 | b a"],
  ["but none in which it would be alone",                     "a:1000",                   "renews a, a2",         "",                      "a:1000#1"],
  ["what the store cannot read is not written either",         "a:1000 | !",               "renews a",             "",                      "a:1000#1"],
  ["since when there is room stays as it is written",          "a:1000/2 | b/2; free 7",   "renews a limit=2",     "now=9",                 "a:1009#1/2 | =; free 7"],
  ["a queue that has become empty goes with its name",         "a:1000 | 0",               "renews a",             "",                      "a:1000#1 | none"],
  ["one that is gone loses its name",                          "a:1000 |",                 "renews a",             "",                      "a:1000#1"],
  ["and goes, if it is void",                                  "a:1000 | (b)",             "renews a",             "",                      "a:1000#1 | none"],
], act);

// deno-fmt-ignore
table("releasing", [
  ["nothing is left",                                                    "a:1000",               "idle a",     "",                    "-"],
  ["the lock is offered to the first in the queue",                      "a:1000 | b c",         "idle a",     "now=5",               "B@b:80^5 | c"],
  ["with the last one the queue goes",                                   "a:1000 | b",           "idle a",     "",                    "B@b:75 | none"],
  ["an offer runs for one and a half graces",                            "a:1000 | b",           "idle a",     "grace=9",             "B@b:13(13) | none"],
  ["and for a millisecond at least",                                     "a:1000 | b",           "idle a",     "grace=0",             "B@b:1(1) | none"],
  ["it ends sooner by as much as the time may be wrong here",            "a:1000 | b",           "idle a",     "error=20",            "B@b:55 | none"],
  ["in whole milliseconds, rather too soon",                              "a:1000 | b",           "idle a",     "error=20.5",          "B@b:54 | none"],
  ["where the time is not known, it has no end",                         "a:1000 | b c",         "idle a",     "now=5 skew=Infinity", "B@b:?^5 | c"],
  ["to a void queue nothing is offered",                                 "a:1000 | (b c)",       "idle a",     "",                    "- | none"],
  ["nor to what the store itself cannot read",                           "a:1000 | !",           "idle a",     "",                    "-"],
  ["what only we cannot read goes",                                      "a:1000 | !!",          "idle a",     "",                    "- | none"],
  ["so does what no lock names",                                         "a:1000 (b); x stolen 9", "idle a",   "",                    "- | none; x stolen 9"],
  ["an empty queue goes with its name",                                  "a:1000 | 0",           "idle a",     "",                    "- | none"],
  ["the name of one that is gone goes, too",                             "a:1000 |",             "idle a",     "",                    "-"],
  ["other holders stay",                                                 "a:1000 b:700(700)",    "idle a",     "now=5",               "b:700(700)"],
  ["those that have lapsed do not",                                      "a:1000 b:100(100)",    "idle a",     "now=300",             "-"],
  ["while others stand in the way, nothing is offered",                  "a:1000 b:700(700) | c", "idle a",    "",                    "b:700(700) | ="],
  ["notices stay until their time",                                      "a:1000; x stolen 900", "idle a",     "now=999",             "-; x stolen 900"],
  ["and no longer",                                                      "a:1000; x stolen 900", "idle a",     "now=1000",             "-"],
  ["next to a queue, too",                                               "a:1000 | b c; x stolen 900", "idle a", "",                  "B@b:75 | c; x stolen 900"],
  ["one that is not there any more has nothing to release",              "b:1000",               "idle a",     "",                    "nothing"],
  ["nor a process of which nothing is there",                            "-",                    "idle a",     "",                    "nothing"],
  ["the next request of its process is granted, if no other is queued",  "a:1000",               "a2",         "now=5",               "*a2:1005^5"],
  ["even if its process is queued for it",                               "a:1000 | a",           "a2",         "now=5",               "*a2:1005^5 | none"],
  ["or is the first in the queue",                                       "a:1000 | a b",         "a2",         "now=5",               "*a2:1005^5 | b"],
  ["that is one turn: a third request joins the queue again",            "a:1000 | a b",         "a2, a3",     "",                    "*a2:1000 | b a"],
  ["where others are queued, they are next, and it joins behind them",   "a:1000 | b",           "a2",         "now=5",               "B@b:80^5 | a"],
  ["however long it has been held",                                      "a:1000 | b",           "a2",         "now=999",             "B@b:1074^999 | a"],
  ["if it is queued already, it keeps its place",                        "a:1000 | b a c",       "a2",         "",                    "B@b:75 | a c"],
  ["in a full queue it takes the place of the one that is next",         `a:1000 | b ${LAST_FREE}`, "a2",      "",                    `B@b:75 | ${LAST_FREE} a`],
  ["after a brief hold the next here gets it before those in the queue", "a:1000 | b",           "a2, in turn", "now=5",               "*a2:1005^5 | ="],
  ["which need not be known for that",                                   "a:1000 | ?",           "a2, in turn", "now=5",               "*a2:1005^5 | ="],
  ["nor does it join them then",                                         "a:1000 | b",           "a2, a3, in turn", "",                "*a2:1000 | ="],
  ["it keeps the place that it has in it",                               "a:1000 | b a",         "a2, in turn", "",                    "*a2:1000 | ="],
  ["notices stay until their time then, too",                            "a:1000 | b; x stolen 900", "a2, in turn", "now=1",           "*a2:1001^1 | =; x stolen 900"],
  ["there is no room for it next to others",                             "a:1000/2 b:1000/2 | c/2", "a2 limit=2, in turn", "",         "b:1000/2 C@c:75/2 | a/2"],
  ["without a queue, as many get it as there is room for",               "a:1000/2",                "a2 limit=2, a3 limit=2, in turn", "", "*a2:1000/2 *a3:1000/2"],
  ["what it has not held it does not pass on",                           "- | b; free 0",           "a, in turn",          "",         "= | b a"],
  ["while a request here has an entry of its own, the queue says which is next", "a:1000 | b a3",   "a2, a3 own, in turn", "",         "B@b:75 | a3 a"],
  ["or reads: readers would pass a writer",                              "a:1000 | b",              "a2 shared, in turn",  "",         "B@b:75 | a/r"],
  ["what goes before the queue goes before the next here, too",          "a:1000 | b",              "a2, a3 first steal=0, in turn", "", "*a3:1000 | b a"],
  ["one that may not wait has no turn then either",                      "a:1000 | b",           "a2 try, in turn", "",                "B@b:75 | none"],
  ["where no caller here waits, the first in the queue is next",         "a:1000 | b",           "idle a, in turn", "",                "B@b:75 | none"],
  ["one that may not wait has no turn while others are queued",          "a:1000 | b",           "a2 try",     "",                    "B@b:75 | none"],
  ["a process where no caller waits any more leaves the queue",          "a:1000 | a b",         "idle a",     "",                    "B@b:75 | none"],
  ["and nothing is left, if it was alone",                               "a:1000 | a",           "idle a",     "",                    "- | none"],
], act);

// deno-fmt-ignore
table("a hold that stays when it is released", [
  ["has no owner, and a lease that ends when it may go",         "a:1000",         "rests a lease=300",             "now=5",               "k:305#1(300)"],
  ["as long as it was held, it has been held since",             "a:1000^2",       "rests a lease=300",             "now=5",               "k:305#1(300)^2"],
  ["without an end, where the time is not known",                "a:1000",         "rests a lease=300",             "now=5 skew=Infinity", "k:?#1(300)"],
  ["the first in the queue is offered nothing yet",              "a:1000 | b",     "rests a lease=300",             "",                    "k:300#1(300) | ="],
  ["nor does any process have to know which that is",            "a:1000 | ?",     "rests a lease=300",             "",                    "k:300#1(300) | ="],
  ["nor where it was an offer that was taken",                   "A@a:75 | b",     "rests A lease=300",             "",                    "k:300#1(300) | ="],
  ["another request of its process joins the queue",             "a:1000",         "rests a lease=300, a2",         "",                    "k:300#1(300) | new: a"],
  ["unless it may not wait",                                     "a:1000",         "rests a lease=300, a2 try",     "",                    "k:300#1(300)"],
  ["one that wants it evicted need not wait",                    "a:1000",         "rests a lease=300, a2 steal=0", "",                    "*a2:1000; k stolen 600(300)"],
  ["until then it is in the way of its own process, too",        "k:300#1(300)",   "a try",                         "",                    "wait 305"],
  ["and then no more",                                           "k:300#1(300)",   "a try",                         "unrenewed=305",       "*a:1000"],
  ["a reader stays one, next to others",                         "a:1000/r b:1000/r",    "rests a shared lease=300", "",                  "k:300#1(300)/r b:1000/r"],
  ["one that has waited to be the only one makes room for them", "a:1000/r+ | b/r",      "rests a shared lease=300", "",                  "k:300#1(300)/r B@b:75/r | none"],
  ["a reader that waits to be the only one waits for what is kept", "a:1000/r a2:1000/r", "rests a shared lease=300, keeps a2 shared up", "", "k:300#1(300)/r a2:1000#1/r+"],
  ["other holds of its process are renewed with it",             "a:1000/2 a3:1000/2", "rests a limit=2 lease=300, renews a3 limit=2", "", "k:300#1(300)/2 a3:1000#1/2"],
], act);

// deno-fmt-ignore
table("an offer", [
  ["is confirmed as a grant of its own",                              "A@a:75",        "a",      "now=5",               "*a:1005^5"],
  ["where the time is not known, too",                                "A@a:?",         "a",      "now=5 skew=Infinity", "*a:?^5"],
  ["those behind keep their places",                                  "A@a:75 | b",    "a",      "",                    "*a:1000 | ="],
  ["a place that was left over goes",                                 "A@a:75 | a b",  "a",      "",                    "*a:1000 | b"],
  ["another request of the process joins the queue",                  "A@a:75 | b",    "a, a2",  "",                    "*a:1000 | b a"],
  ["its place that was left over has no owner",                       "B@b:75 | b c",  "a",      "",                    "= | c a"],
  ["and holds up no process",                                         "B@b:75 | b a",  "a",      "unrenewed=80",        "*a:1000 | none"],
  ["nor is it a change",                                              "B@b:75 | b a",  "a",      "",                    "wait 80"],
  ["it goes when the lock is written",                                "A:1000 | a b",  "renews A", "now=9",             "A:1009#1 | b"],
  ["that no caller wants any more is passed on",                      "A@a:75 | b c",  "idle a", "now=5",               "B@b:80^5 | c"],
  ["not back to a place that was left over",                          "A@a:75 | a b",  "idle a", "now=5",               "B@b:80^5 | none"],
  ["and is deleted, if no process is queued",                         "A@a:75",        "idle a", "",                    "-"],
  ["to another process is a hold like any other",                     "B@b:75",        "a try",  "now=5",               "wait 80"],
  ["and lapses by the clock",                                         "B@b:75",        "a try",  "now=175",             "*a:1175^175"],
  ["or by watching",                                                  "B@b:75 | a c",  "a",      "unrenewed=80",        "*a:1000 | c"],
], act);

// deno-fmt-ignore
table("lapsing", [
  ["by the clock, a lease ends when the clocks' bound has passed, too",    "b:1000",              "a try", "now=1099",                               "wait 1"],
  ["and then it has ended",                                                "b:1000",              "a try", "now=1100",                               "*a:2100^1100"],
  ["by watching, it ends a lease and one per cent after the last renewal", "b:1000",              "a try", "unrenewed=1009",                         "wait 1"],
  ["and then it has ended, whatever the clock says",                       "b:1000",              "a try", "unrenewed=1010",                         "*a:1000"],
  ["of a short lease, 5 ms after it",                                      "b:200(200)",          "a try", "unrenewed=204",                          "wait 1"],
  ["the proof that comes first counts",                                    "b:1000",              "a try", "now=400 unrenewed=600",                  "wait 410"],
  ["where clocks mean nothing, only watching proves it",                   "b:1000",              "a try", "now=99999 skew=Infinity",                "wait 1010"],
  ["and does",                                                             "b:1000",              "a try", "now=99999 skew=Infinity unrenewed=1010", "*a:?^99999"],
  ["a renewed lease ends later",                                           "b:1300#1",            "a try", "now=1300 unrenewed=300",                 "wait 100"],
  ["one lapsed holder does not open the lock for another",                 "b:1000 c:5000(5000)", "a try", "now=1100",                               "wait 4000"],
  ["of several, it is the first to lapse that is waited for",              "b:1000 c:500(500)",   "a try", "",                                       "wait 505"],
  ["a lease without an end is judged by watching alone",                   "b:?",                 "a try", "now=99999",                              "wait 1010"],
  ["and then it ends, too",                                                "b:?",                 "a try", "unrenewed=1010",                         "*a:1000"],
  ["a hold of one's own does not lapse: its process ends it",              "a:1000",              "keeps a, a2 try", "now=9999 unrenewed=9999",      "nothing"],
  ["one that waits joins, lapsed or not, while it is not its turn",        "b:1000 | c",          "a",     "now=1120",                               "= | c a"],
], act);

// deno-fmt-ignore
table("turns", [
  ["the first in the queue takes a free lock at once",                        "- | a b; free 0",       "a",     "",                            "*a:1000 | b"],
  ["with the last one the queue goes",                                        "- | a; free 0",         "a",     "",                            "*a:1000 | none"],
  ["the second waits for a grace, after the clocks' bound",                   "- | b a; free 0",       "a",     "now=149",                     "wait 1"],
  ["and then passes the first, which loses its place",                        "- | b a; free 0",       "a",     "now=150",                     "*a:1150^150 | none"],
  ["by watching, a grace is enough",                                          "- | b a; free 0",       "a",     "free=50",                     "*a:1000 | none"],
  ["the third waits for two",                                                 "- | b c a; free 0",     "a",     "now=150",                     "wait 50"],
  ["a newcomer joins instead of passing",                                     "- | b; free 0",         "a",     "",                            "= | b a"],
  ["unless those before it have slept for their graces",                      "- | b; free 0",         "a",     "now=150",                     "*a:1150^150 | none"],
  ["one that may not wait has to find that, too",                             "- | b c; free 0",       "a try", "now=199",                     "wait 1"],
  ["and then takes the lock",                                                 "- | b c; free 0",       "a try", "now=200",                     "*a:1200^200 | none"],
  ["those that are behind keep their places",                                 "- | b a c; free 0",     "a",     "now=150",                     "*a:1150^150 | c"],
  ["a turn is one grant while others are queued",                             "- | a b; free 0",       "a, a2", "",                            "*a:1000 | b a"],
  ["after a crash, graces count from the end of the lease",                   "b:1000 | c",            "a try", "now=1149",                    "wait 1"],
  ["and then the first in the queue is passed, too",                          "b:1000 | c",            "a try", "now=1150",                    "*a:2150^1150 | none"],
  ["the first in it need not wait",                                           "b:1000 | a c",          "a",     "now=1100",                    "*a:2100^1100 | c"],
  ["where clocks mean nothing, a lapse that was watched counts",              "b:1000 | c",            "a try", "now=7 skew=Infinity unrenewed=1060", "*a:?^7 | none"],
  ["of several lapsed holders, from the end of the last",                     "b:1000 c:500(500) | d", "a try", "now=1149",                    "wait 1"],
  ["graces count from when the lock became free",                             "- | b; free 700",       "a try", "now=849",                     "wait 1"],
  ["where that is not written, it has always been free",                      "- | b",                 "a try", "now=149",                     "wait 1"],
  ["a lock that is free since an unknown moment is judged by watching",       "- | b a; free ?",       "a",     "now=99999 free=49",           "wait 1"],
  ["and then the first is passed, too",                                       "- | b a; free ?",       "a",     "free=50",                     "*a:1000 | none"],
  ["a process that has seen it become free counts from there, whatever is written", "- | b a; free 0",       "a",     "now=99999 freed free=49",     "wait 1"],
  ["and needs no clock",                                                      "- | b a; free 0",       "a",     "freed free=50",               "*a:1000 | none"],
  ["an empty queue that the lock names holds up no process",                  "- | 0; free 0",         "a",     "",                            "*a:1000 | none"],
  ["nor does one that is gone",                                               "- |; free 0",           "a",     "",                            "*a:1000"],
  ["nor does one that is void, which goes",                                   "- | (b c); free 0",     "a",     "",                            "*a:1000 | none"],
], act);

// deno-fmt-ignore
table("while others have their turn, since how long the lease is over", [
  ["is said of a lapsed holder",       "b:1000 | c a",              "a", "now=1120",         "20"],
  ["up to when it is our turn",        "b:1000 | c a",              "a", "now=1149",         "49"],
  ["of the last of several",           "b:1000 c:500(500) | d a",   "a", "now=1120",         "20"],
  ["not where no lease has lapsed",    "- | b a; free 0",           "a", "",                 "undefined"],
  ["nor where it is our turn",         "b:1000 | a c",              "a", "now=1120",         "undefined"],
  ["from its first moment on",         "b:1000 | a c",              "a", "now=1100",         "undefined"],
  ["nor while there is no room",       "b:100(100)/r d:1000/r | c a", "a", "now=220",        "undefined"],
], (found, acts, seen) => `${plan(snapshot(found), members(acts), evidence(seen)).overForMs}`);

// deno-fmt-ignore
table("stealing", [
  ["a holder is old when the clocks' bound has passed, too",                     "b:1000",              "a try steal=500",   "now=599",            "wait 1"],
  ["and then it is evicted, with a notice",                                      "b:1000",              "a try steal=500",   "now=600",            "*a:1600^600; b stolen 2000"],
  ["or when it has been watched for as long",                                    "b:1000",              "a try steal=500",   "held=500",           "*a:1000; b stolen 2000"],
  ["at 0, at once",                                                              "b:1000",              "a steal=0",         "",                   "*a:1000; b stolen 2000"],
  ["without the option, never",                                                  "b:9000(9000)",        "a try",             "now=8000 held=8000", "wait 1100"],
  ["the process that is first in the queue gets the lock",                       "b:1000 | c",          "a steal=0",         "",                   "C@c:75 | a; b stolen 2000"],
  ["the evicting process, if that is the first",                                 "b:1000 | a c",        "a steal=0",         "",                   "*a:1000 | c; b stolen 2000"],
  ["the least patient of those that wait in a process decides",                  "b:1000 | a",          "a, a2 steal=0",     "",                   "*a:1000 | none; b stolen 2000"],
  ["a lapsed holder is not stolen from",                                         "b:1000",              "a steal=0",         "now=1100",           "*a:2100^1100"],
  ["one that may not wait evicts no holder for the first in the queue",          "b:1000 | c",          "a try steal=0",     "",                   "wait 1010"],
  ["the first of its own process, too, may be evicted",                          "a:1000",              "keeps a, a2 steal=0", "",                 "*a2:1000; a stolen 2000"],
  ["but not by the commit that grants to it",                                    "a:1000",              "a, a2 steal=0",     "",                   "*a:1000#1"],
  ["what was stolen has been free for no time",                                  "b:1000 | c",          "a steal=0",         "now=999 grace=1",    "C@c:1000(1)^999 | a; b stolen 2000"],
  ["however long it has been watched",                                           "b:1000 | c",          "a steal=0",         "free=60",            "C@c:75 | a; b stolen 2000"],
  ["once it is granted, it evicts no holder",                                    "b:1000/2 a:1000/2 | c/2", "a steal=0 limit=2", "",               "b:1000/2 *a:1000#1/2 | ="],
  ["what is only offered so far is not stolen: it is over soon",                 "B@b:75",              "a steal=50",        "now=60 held=60",     "B@b:75 | new: a"],
  ["a process that waits for nothing evicts no holder",                          "b:1000 | a",          "idle a",            "held=9999",          "= | 0"],
  ["while a younger holder stays, an old one is not evicted for nothing",        "b:9000(9000) c:9600(9000)^600", "a try steal=500", "now=700",    "wait 500"],
  ["it is waited for, if it may lapse sooner",                                   "b:1000 c:9600(9000)^600", "a try steal=500", "now=700",          "wait 400"],
  ["nor does the record say that it was",                                        "b:9000(9000) c:9600(9000)^600", "a steal=500", "now=700",        "b:9000(9000) c:9600(9000)^600 | new: a"],
  ["not even if the old one has just become so",                                 "b:9000(9000) c:9600(9000)^600", "a try steal=500", "now=600",    "wait 500"],
  ["the age of a holder that did not know the time is judged by watching alone", "b:?",                 "a try steal=500",   "now=99999 held=499", "wait 1"],
  ["and its notice stays for a lease from now",                                  "b:?",                 "a try steal=500",   "held=500",           "*a:1000; b stolen 2000"],
  ["where there is room, no holder is evicted",                                  "b:1000/2",            "a steal=0 limit=2", "",                   "b:1000/2 *a:1000/2"],
  ["nor more than need be: the first to be granted goes first",                  "b:1000/2 c:1000/2",   "a steal=0 limit=2", "",                   "c:1000/2 *a:1000/2; b stolen 2000"],
  ["a holder that is too young is passed over",                                  "b:9600(9000)^600/2 c:9000(9000)/2", "a steal=500 limit=2", "now=700", "b:9600(9000)^600/2 *a:1700^700/2; c stolen 18000(9000)"],
  ["a holder that the first in the queue could not follow is not evicted for the second", "b:9000(9000)/2 c:9600(9000)^600/2 | d a/2", "a steal=500 limit=2", "now=700", "wait 500"],
], act);

// deno-fmt-ignore
table("notices", [
  ["a grant keeps those of others",              "-; x stolen 900",        "a",         "",        "*a:1000; x stolen 900"],
  ["but not those that have had their time",     "-; x stolen 900",        "a",         "now=1000", "*a:2000^1000"],
  ["nor those that have been watched for two leases", "-; x stolen 9000",  "a",         "noticed=2020", "*a:1000"],
  ["no earlier, whatever the clock says where it means nothing", "-; x stolen 900", "a", "now=9000 skew=Infinity noticed=2019", "*a:?^9000; x stolen 900"],
  ["of the evicted holder, and not of any other", "-; x stolen 9000(100); y forced ?(9000)", "a", "noticed=210", "*a:1000; y forced ?(9000)"],
  ["one without a time is judged by watching",   "-; x stolen ?",          "a",         "now=99999 noticed=2019", "*a:100999^99999; x stolen ?"],
  ["where the time was not known, it says so",   "b:?(500)",               "a steal=0", "skew=Infinity", "*a:?; b stolen ?(500)"],
  ["of too many the newest stay",                `b:1000; ${NOTICES}`,     "a steal=0", "",        `*a:1000; ${NEWEST}; b stolen 2000`],
  ["one that is alone is left to a cleanup",     "-; x stolen 900",        "idle a",    "now=901", "nothing"],
], act);

// deno-fmt-ignore
table("leaving the queue", [
  ["a place in it is given up",                            "b:1000 | a c",                  "idle a", "", "= | c"],
  ["the last one leaves it empty: a process that joins must be seen by the one that takes its name out", "b:1000 | a", "idle a", "", "= | 0"],
  ["and with the queue of a free lock its record",         "- | a; free 0",                 "idle a", "", "- | none"],
  ["but for notices",                                      "- | a; free 0; x stolen 900",   "idle a", "", "- | none; x stolen 900"],
  ["while others are queued, it is theirs",                "- | a b; free 0",               "idle a", "", "B@b:75 | none"],
  ["so it is what waits for other locks, too, that leaves", "- | a~300 b; free 0",          "idle a", "now=5", "B@b:80^5 | none"],
  ["a process that does so itself has its turn from now on", "- | a~300 b~300; free 0",       "idle a", "now=5", "- | b~300; free 5"],
  ["but not while there is no room for it",                "c:1000/r | a/r~300 b~300",      "idle a", "now=5", "= | b~300"],
  ["where only those are left that may not wait, too",     "b:1000 | a c",                  "a try",  "", "= | c"],
  ["a grant and a place are given up at once",             "a:1000 | a",                    "idle a", "", "- | none"],
  ["behind a hold of its own process, too",                "a:1000 | a b",                  "keeps a", "", "= | b"],
  ["others' are left alone",                               "b:1000 | c",                    "idle a", "", "nothing"],
  ["the first leaves, and those behind it join the holders", "b:1000/r | a c/r d/r e", "idle a", "now=5", "b:1000/r C@c:80^5/r D@d:80^5/r | e"],
  ["with the queue it held up",                            "b:1000/3 | a/3x3 c/3",          "idle a", "now=5", "b:1000/3 C@c:80^5/3 | none"],
  ["but not past the next one for which there is no room", "b:1000/r | a c d/r",            "idle a", "", "= | c d/r"],
  ["nor when one that is not the first leaves",            "b:1000/r | c a d/r",            "idle a", "", "= | c d/r"],
  ["where only those are left that may not wait, too, and have no room", "b:1000/r | a c/r", "a try", "now=5", "b:1000/r C@c:80^5/r | none"],
  ["in a void queue no process has a place",               "b:1000 (a)",                    "idle a", "", "nothing"],
  ["an empty queue of a free lock is cleared away",        "- | 0; free 0",                 "idle a", "", "- | none"],
  ["and so is the name of one that is gone",               "- |; free 0",                   "idle a", "", "-"],
  ["with what stands there under another name",            "- | (b); free 0",               "idle a", "", "- | none"],
], act);

// deno-fmt-ignore
table("leaving the queue out", [
  ["a lock is handed over without it",                    "a:1000 | b c",      "idle a, refused",   "now=5", "B@b:80^5 | ="],
  ["or taken",                                            "- | a b; free 0",   "a, refused",        "",      "*a:1000 | ="],
  ["or left, and goes on naming it",                      "a:1000 | a",        "idle a, refused",   "now=5", "- | =; free 5"],
  ["or renewed",                                          "a:1000 | a b",      "renews a, refused", "",      "a:1000#1 | ="],
  ["the first process to join cannot do without",         "b:1000",            "a, refused",        "",      "b:1000 | new: a"],
  ["nor one that joins",                                  "b:1000 | c",        "a, refused",        "",      "= | c a"],
  ["nor one that leaves nothing but the queue",           "b:1000 | a c",      "idle a, refused",   "",      "= | c"],
  ["where none is named, there is none to leave out",     "a:1000; x stolen 9", "idle a, refused",  "",      "-; x stolen 9"],
  ["an empty one is left as it is",                       "- |; free 7",       "idle a, refused",   "",      "nothing"],
], act);

// deno-fmt-ignore
table("shared and limited", [
  ["readers hold the lock together",                              "b:1000/r",                  "a shared",                 "",          "b:1000/r *a:1000/r"],
  ["a writer waits for them",                                     "b:1000/r",                  "a",                        "",          "b:1000/r | new: a"],
  ["however many others it would allow",                          "b:1000/r",                  "a limit=3 try",            "",          "wait 1010"],
  ["and readers for a writer, however many it allows",            "b:1000/3",                  "a shared try",             "",          "wait 1010"],
  ["and readers for a writer",                                    "b:1000",                    "a shared",                 "",          "b:1000 | new: a/r"],
  ["a reader does not pass a writer that waits",                  "b:1000/r | c",              "a shared",                 "now=500",   "= | c a/r"],
  ["however long there is room for readers",                      "b:1000/r | c a/r; free 0",  "a shared",                 "now=900",   "wait 200"],
  ["nor one that waits behind another that has slept",           "b:1000/r | c/r d; free 0",  "a shared",                 "now=900",   "= | c/r d a/r"],
  ["next to holders, room that is not written down is as old as it has been seen",    "b:1000/r | c/r a/r", "a shared", "now=900 free=49", "wait 1"],
  ["and then the first is passed",                                "b:1000/r | c/r a/r",        "a shared",                 "now=900 free=50", "b:1000/r *a:1900^900/r | none"],
  ["whatever is queued behind it",                                "b:1000/r | c/r a/r d",      "a shared",                 "now=900 free=50", "b:1000/r *a:1900^900/r | d"],
  ["there may be so many readers, and no more",                   READERS,                     "a shared try",             "",          "wait 1010"],
  ["of one process, all hold it together",                        "- | a/r b; free 0",         "a shared, a2 shared, a3",  "",          "*a:1000/r *a2:1000/r | b a"],
  ["neighbouring readers are offered the lock together",          "a:1000 | b/r c/r d e/r",    "idle a",                   "",          "B@b:75/r C@c:75/r | d e/r"],
  ["a writer alone",                                              "a:1000 | b c/r",            "idle a",                   "",          "B@b:75 | c/r"],
  ["those between which we wait ourselves, too",                  "a:1000 | b/r a/r c/r d",    "a2 shared",                "",          "B@b:75/r *a2:1000/r C@c:75/r | d"],
  ["and those behind us, if it is our turn",                      "- | a/r b/r c d/r; free 0", "a shared",                 "",          "*a:1000/r B@b:75/r | c d/r"],
  ["those behind us are not offered what we wait for ourselves",  "a:1000 a3:1000/r | b/r a c/r", "keeps a3, a2",          "",          "a3:1000/r B@b:75/r | a c/r"],
  ["the last reader hands over",                                  "a:1000/r | b",              "idle a",                   "",          "B@b:75 | none"],
  ["the others do not",                                           "a:1000/r c:1000/r | b",     "idle a",                   "",          "c:1000/r | ="],
  ["as many hold it as the limit allows",                         "b:1000/2",                  "a limit=2",                "",          "b:1000/2 *a:1000/2"],
  ["and no more",                                                 "b:1000/2 c:1000/2",         "a limit=2 try",            "",          "wait 1010"],
  ["the least limit that a holder asked for counts",              "b:1000/3 c:1000/2",         "a limit=3 try",            "",          "wait 1010"],
  ["and one's own",                                               "b:1000/3 c:1000/3",         "a limit=2 try",            "",          "wait 1010"],
  ["one process may be several of them",                          "a:1000/3",                  "keeps a, a2 limit=3, a3 limit=3, a4 limit=3", "", "a:1000/3 *a2:1000/3 *a3:1000/3"],
  ["while others are queued, one at a time",                      "c:1000/3 | a/3 b/3",        "a limit=3, a2 limit=3",    "",          "c:1000/3 *a:1000/3 B@b:75/3 | a/3"],
  ["no other process is queued, if only they are",                "- | a/3; free 0",           "a limit=3, a2 limit=3",    "",          "*a:1000/3 *a2:1000/3 | none"],
  ["all, if those before it have slept",                          "- | b/3; free 0",           "a limit=3, a2 limit=3",    "now=150",   "*a:1150^150/3 *a2:1150^150/3 | none"],
  ["of one process, too",                                         "- | a/r b; free 0",         MANY_READERS,               "",          `${GRANTED_READERS} | b a/r`],
  ["with a renewal others are admitted",                          "a:1000/2",                  "renews a limit=2, a2 limit=2", "now=9", "a:1009#1/2 *a2:1009^9/2"],
  ["a process that leaves hands over its place alone",            "a:1000/2 b:1000/2 | c/2 d/2", "idle a",                 "",          "b:1000/2 C@c:75/2 | d/2"],
  ["room for which no process is queued is left",                 "a:1000/2 b:1000/2",         "idle a",                   "",          "b:1000/2"],
  ["a process that takes its turn offers the rest to the next",   "- | a/3 b/3 c/3 d/3; free 0", "a limit=3",              "now=9",     "*a:1009^9/3 B@b:84^9/3 C@c:84^9/3 | d/3"],
  ["graces count from then",                                      "b:1000/2 | c/2 a/2; free 0", "a limit=2",               "now=149",   "wait 1"],
  ["and then the first is passed, too",                           "b:1000/2 | c/2 a/2; free 0", "a limit=2",               "now=150",   "b:1000/2 *a:1150^150/2 | none"],
  ["or from the end of a lease",                                  "b:1000/2 c:9000(9000)/2 | d/2 a/2", "a limit=2",        "now=1149",  "wait 1"],
  ["a process that waits for a turn may see another lease end before it", "b:1000/2 c:1140/2 | d/2 a/2", "a limit=2",              "now=1101",  "wait 49"],
], act);

// deno-fmt-ignore
table("behind a hold of one's own", [
  ["a writer queues, for other readers may come",                  "a:1000/r",                 "keeps a shared, a2",                  "", "a:1000/r | new: a"],
  ["behind others, too, without delay",                            "a:1000/r | b",             "keeps a shared, a2",                  "", "= | b a"],
  ["a reader queues behind a writer of its own process",           "a:1000/r | a",             "keeps a shared, a2, a3 shared",       "", "nothing"],
  ["so does one that wants a permit, while others have some, too", "a:1000/2 b:1000/2",        "keeps a limit=2, a2 limit=2",         "", "a:1000/2 b:1000/2 | new: a/2"],
  ["and a reader behind a permit, for others may come for the rest", "a:1000/2",               "keeps a limit=2, a2 shared",          "", "a:1000/2 | new: a/r"],
  ["not if all permits are its own process's",                     "a:1000/2 a2:1000/2",       "keeps a limit=2, keeps a2 limit=2, a3 limit=2", "", "nothing"],
  ["it has to look which are queued, unless all of its own are",   "a:1000/r | ?",             "keeps a shared, a2",                  "", "look"],
  ["and not, if they are",                                         "a:1000/2 a2:1000/2 | ?",   "keeps a limit=2, keeps a2 limit=2, a3 limit=2", "", "nothing"],
  ["when that ends it is next",                                    "a:1000/r | a",             "a2",                                  "", "*a2:1000 | none"],
], act);

// deno-fmt-ignore
table("the entry of a process", [
  ["says how its first request wants the lock",          "b:1000 | a/r c",          "a",                        "", "= | a c"],
  ["with how many others",                               "b:1000 | c a/3",          "a limit=2",                "", "= | c a/2"],
  ["and how much of it",                                 "b:1000 | c a/3",          "a limit=3 permits=2",      "", "= | c a/3x2"],
  ["one permit need not be said",                        "b:1000 | c a/3",          "a limit=3 permits=1",      "now=5", "wait 1010"],
  ["the first that may wait counts",                     "b:1000 | a/r c",          "a try, a2 shared",         "", "wait 1010"],
  ["with a place behind others it is the next one's",    "c:1000/3 | a/r b",        "a shared, a2",             "now=5", "wait 1010"],
  ["other entries of the process stay as they are",      "b:1000 | a/r a2 c",       "a, a2 own",                "",      "= | a a2 c"],
], act);

// deno-fmt-ignore
table("an offer that another request takes than the one that was queued", [
  ["a reader has a writer's",                             "A@a:75",                   "a shared",                "now=5", "*a:1005^5/r"],
  ["and then there is room for others",                   "A@a:75 | b/r c",           "a shared",                "now=5", "*a:1005^5/r B@b:80^5/r | c"],
  ["which is offered to those that are known alone",      "A@a:75 | ?",               "a shared",                "now=5", "look"],
  ["a writer has a reader's, if no other holds it",       "A@a:75/r",                 "a",                       "now=5", "*a:1005^5"],
  ["or only one that has lapsed",                         "b:100(100)/r A@a:300/r",   "a",                       "now=200", "*a:1200^200"],
  ["else it queues",                                      "b:1000/r A@a:75/r",        "a",                       "now=5", "b:1000/r | new: a"],
  ["behind others, which come before it",                 "b:1000/r A@a:75/r | c/r d", "a",                      "now=5", "b:1000/r C@c:80^5/r | d a"],
  ["one of less room is taken as it is",                  "b:1000/3 A@a:75/3",        "a limit=2",               "now=5", "b:1000/3 *a:1005^5/2"],
  ["more permits than are left are not",                  "b:1000/3 A@a:75/3",        "a limit=3 permits=3",     "now=5", "b:1000/3 | new: a/3x3"],
  ["it is the turn of all readers of the process",        "A@a:75/r | b",             "a shared, a2 shared, a3, a4 shared", "now=5", "*a:1005^5/r *a2:1005^5/r | b a"],
  ["as many as there may be",                             "A@a:75/r | b",             MANY_READERS,                         "",      `${GRANTED_READERS} | b a/r`],
  ["but of those that hold it already, whose answer was lost", "A@a:75/r a2:1000/r | b", "a shared, a2 shared, a3 shared",  "now=5", "*a:1005^5/r *a2:1005#1/r *a3:1005^5/r | ="],
  ["but not of those behind a writer",                    "A@a:75 | b",               "a, a2 shared",            "now=5", "*a:1005^5 | b a/r"],
  ["nor of any, where only a permit was offered",         "A@a:75/2 b:1000/2 | c/2",  "a limit=2, a2 limit=2",   "now=5", "*a:1005^5/2 b:1000/2 | c/2 a/2"],
], act);

// deno-fmt-ignore
table("permits", [
  ["one may take several",                                "-",                         "a limit=5 permits=3",     "",         "*a:1000/5x3"],
  ["as many as are left",                                 "b:1000/5x3",                "a limit=5 permits=2",     "",         "b:1000/5x3 *a:1000/5x2"],
  ["and no more",                                         "b:1000/5x3",                "a limit=5 permits=3 try", "",         "wait 1010"],
  ["all of them, as an exclusive lock",                   "b:1000/5x5",                "a limit=5 try",           "",         "wait 1010"],
  ["of the least limit in force",                         "b:1000/9x3 c:1000/5",       "a limit=9 permits=2 try", "",         "wait 1010"],
  ["or of its own",                                       "b:1000/9x3",                "a limit=4 permits=2 try", "",         "wait 1010"],
  ["one that takes many is not passed by those that take few", "b:1000/5x3 | c/5x4",   "a limit=5",               "now=900",  "= | c/5x4 a/5"],
  ["however long it waits",                               "b:1000/5x3 | c/5x4 a/5; free 0", "a limit=5",          "now=900",  "wait 200"],
  ["a process that leaves offers them to as many as can have them", "a:1000/5x3 b:1000/5 | c/5x2 d/5x2 e/5x2 f/5", "idle a", "",       "b:1000/5 C@c:75/5x2 D@d:75/5x2 | e/5x2 f/5"],
  ["to none behind the first that cannot",                "a:1000/5 b:1000/5x3 | c/5x3 d/5", "idle a",            "",         "b:1000/5x3 | ="],
  ["as many are evicted as need be",                      "b:1000/5x2 c:1000/5x2 d:1000/5", "a steal=0 limit=5 permits=3", "", "d:1000/5 *a:1000/5x3; b stolen 2000; c stolen 2000"],
  ["of several the oldest only",                          "b:1000/3 c:1001^1/3 d:1002^2/3", "a steal=0 limit=3", "now=9",    "c:1001^1/3 d:1002^2/3 *a:1009^9/3; b stolen 2000"],
  ["a renewal keeps them",                                "a:1000/5x3",                "renews a limit=5 permits=3", "now=9", "a:1009#1/5x3"],
  ["a writer evicts all readers or none",                 "b:1000/r c:1001^1/r",       "a steal=500",             "now=650", "*a:1650^650; b stolen 2000; c stolen 2001"],
  ["none, if one of them is too young",                   "b:9000(9000)/r c:9600(9000)^600/r", "a steal=500 try", "now=700", "wait 500"],
], act);

// deno-fmt-ignore
table("changing the mode", [
  ["a reader that is alone is the only one at once",             "a:1000/r",                 "keeps a shared up",            "now=5",  "~a:1005^5"],
  ["with a queue behind it, too",                                "a:1000/r | b/r",           "keeps a shared up",            "now=5",  "~a:1005^5 | ="],
  ["that is not known, too",                                     "a:1000/r | ?",             "keeps a shared up",            "now=5",  "~a:1005^5 | ="],
  ["next to others it waits, and says so",                       "a:1000/r b:1000/r",        "keeps a shared up",            "now=5",  "a:1005#1/r+ b:1000/r"],
  ["before those in the queue",                                  "a:1000/r b:1000/r | c",    "keeps a shared up",            "now=5",  "a:1005#1/r+ b:1000/r | ="],
  ["which need not be known",                                    "a:1000/r b:1000/r | ?",    "keeps a shared up",            "now=5",  "a:1005#1/r+ b:1000/r | ="],
  ["and then there is nothing to do",                            "a:1000/r+ b:1000/r",       "keeps a shared up",            "now=5",  "wait 1010"],
  ["but to renew",                                               "a:1000/r+ b:1000/r",       "renews a shared up",           "now=300", "a:1300#1/r+ b:1000/r"],
  ["nor where it does not know which are queued",                "a:1000/r+ b:1000/r | ?",   "keeps a shared up",            "now=5",  "wait 1010"],
  ["until the others have left",                                 "a:1000/r+",                "keeps a shared up",            "now=9",  "~a:1009^9"],
  ["or have lapsed",                                             "a:3000(3000)/r+ b:1000/r", "keeps a shared up",            "now=1100", "~a:2100^1100"],
  ["and not sooner",                                             "a:3000(3000)/r+ b:1000/r", "keeps a shared up",            "now=1099", "wait 1"],
  ["of its own process, too",                                    "a:1000/r+ a2:1000/r",      "keeps a shared up, keeps a2 shared", "now=5", "nothing"],
  ["which go when they leave",                                   "a:1000/r+ a2:1000/r",      "keeps a shared up",            "now=5",  "~a:1005^5"],
  ["one that may not wait does not say that it does",            "a:1000/r b:1000/r",        "keeps a shared up try",        "now=5",  "wait 1010"],
  ["nor need it, if it is alone",                                "a:1000/r",                 "keeps a shared up try",        "now=5",  "~a:1005^5"],
  ["what is not wanted any more is not said any more",           "a:1000/r+ b:1000/r",       "keeps a shared",               "now=5",  "a:1005#1/r b:1000/r"],
  ["and then there is room for readers again",                   "a:1000/r+ b:1000/r | c/r d", "keeps a shared",             "now=5",  "a:1005#1/r b:1000/r C@c:80^5/r | d"],
  ["which they are must be known",                               "a:1000/r+ b:1000/r | ?",   "keeps a shared",               "now=5",  "look"],
  ["two would wait for each other: the second is refused",       "b:1000/r+ a:1000/r",       "keeps a shared up",            "now=5",  "refused"],
  ["by any of the others",                                       "b:1000/r+ c:1000/r a:1000/r", "keeps a shared up",         "now=5",  "refused"],
  ["whatever is queued",                                         "b:1000/r+ a:1000/r | ?",   "keeps a shared up",            "now=5",  "refused"],
  ["even when its lease is renewed",                             "b:1000/r+ a:1000/r | ?",   "renews a shared up",           "now=5",  "refused"],
  ["or another of its process waits",                            "b:1000/r+ a:1000/r | ?",   "keeps a shared up, a2 try",    "now=5",  "refused"],
  ["and is not, if the first has lapsed",                        "b:1000/r+ a:3000(3000)/r", "keeps a shared up",            "now=1100", "~a:2100^1100"],
  ["next to one that waits to be the only one there is no room", "b:1000/r+ c:1000/r",       "a shared try",                 "",       "wait 1010"],
  ["for those that are queued neither",                          "b:1000/r+ c:1000/r | a/r", "a shared",                     "now=999", "wait 101"],
  ["one that leaves offers nothing to them",                     "b:1000/r+ a:1000/r | c/r", "idle a",                       "",       "b:1000/r+ | ="],
  ["but waits no longer than its lease",                         "b:1000/r+ | a/r",          "a shared",                     "now=1100", "*a:2100^1100/r | none"],
  ["it is not stolen from by what grants it",                    "a:1000/r",                 "keeps a shared up, a2 steal=0", "now=5", "~a:1005^5"],
  ["the only one becomes a reader at once",                      "a:1000",                   "keeps a down",                 "now=5",  "~a:1005^5/r"],
  ["even next to another",                                       "a:1000 b:1000/r",          "keeps a down",                 "now=5",  "~a:1005^5/r b:1000/r"],
  ["and readers that are next get it, too",                      "a:1000 | b/r c/r d e/r",   "keeps a down",                 "now=5",  "~a:1005^5/r B@b:80^5/r C@c:80^5/r | d e/r"],
  ["those of its own process, too",                              "a:1000 | b/r a/r",         "keeps a down, a2 shared",      "now=5",  "~a:1005^5/r B@b:80^5/r *a2:1005^5/r | none"],
  ["a writer that is next waits",                                "a:1000 | b",               "keeps a down",                 "now=5",  "~a:1005^5/r | ="],
  ["which is next must be known",                                "a:1000 | ?",               "keeps a down",                 "now=5",  "look"],
  ["the label and the lease are those that were asked for",      "a:75(75)/r",               "renews a shared lease=500 up", "now=5",  "~a:505(500)^5"],
  ["nothing is changed that is so already",                      "a:1000",                   "keeps a up",                   "",       "nothing"],
  ["for a reader, too",                                          "a:1000/r",                 "keeps a shared down",          "",       "nothing"],
], act);

// deno-fmt-ignore
table("taking up what was handed over", [
  ["it is a grant of its own, with a token of its own",          "x:1000",                   "a restores",                   "now=5",  "*a:1005^5"],
  ["in its mode, with its permits and for the lease asked for",  "x:1000/5x2",               "a restores limit=5 permits=2 lease=500", "now=5", "*a:505(500)^5/5x2"],
  ["as a reader next to others",                                 "b:1000/r x:1000/r",        "a restores shared",            "now=5",  "b:1000/r *a:1005^5/r"],
  ["even next to one that waits to be the only one",             "b:1000/r+ x:1000/r",       "a restores shared",            "now=5",  "b:1000/r+ *a:1005^5/r"],
  ["a process that is queued stays queued",                      "x:1000 | b",               "a restores",                   "now=5",  "*a:1005^5 | ="],
  ["that need not be known",                                     "x:1000 | ?",               "a restores",                   "now=5",  "*a:1005^5 | ="],
  ["while its lease runs, by the last clock",                    "x:1000",                   "a restores",                   "now=1099", "*a:2099^1099"],
  ["and not when that is over",                                  "x:1000",                   "a restores",                   "now=1100", "nothing"],
  ["by watching, too",                                           "x:?",                      "a restores",                   "unrenewed=1010", "nothing"],
  ["then a process that is queued takes it",                     "x:1000 | a",               "a2 restores, a",               "now=1100", "*a:2100^1100 | none"],
  ["or one that asks",                                           "x:1000",                   "a2 restores, a",               "now=1100", "*a:2100^1100"],
  ["it takes nothing that is free",                              "-",                        "a restores",                   "",       "nothing"],
  ["nor what is held by another",                                "b:1000",                   "a restores",                   "",       "nothing"],
  ["nor next to another",                                        "b:1000/r",                 "a restores shared",            "",       "nothing"],
  ["nor what is held in another way than it says",               "x:1000/r",                 "a restores",                   "",       "nothing"],
  ["nor one of a lock's that has a limit",                       "x:1000/2",                 "a restores",                   "",       "nothing"],
  ["nor what may not be had yet, because others belong to it",   "x:1000",                   "a restores, holds back",       "",       "nothing"],
  ["nor a place in the queue",                                   "x:1000 b:1000/r | b",      "a restores limit=2",           "",       "nothing"],
  ["nor a turn of readers",                                      "A@a:75/r | b",             "a shared, a2 restores shared", "now=5",  "*a:1005^5/r | ="],
  ["nor what is offered to others here",                         "x:1000/2 A@a:75/2 | b/2",  "a restores limit=2",           "now=5",  "*a:1005^5/2 B@b:80^5/2 | none"],
  ["for every other process it is a hold as any other",         "x:1000",                   "a try",                        "",       "wait 1010"],
  ["which may be stolen",                                        "x:1000",                   "a steal=500 try",              "now=600", "*a:1600^600; x stolen 2000"],
  ["or queued for",                                              "x:1000",                   "a",                            "",       "x:1000 | new: a"],
  ["even by others of the same process, in the same commit",     "x:1000 | b",               "a restores, a2",               "now=5",  "*a:1005^5 | b a"],
], act);

// deno-fmt-ignore
table("extending a lease", [
  ["a renewal makes it as long as is wanted",                    "a:1000",                   "renews a left=1500",           "now=5",  "a:1505#1(1500)"],
  ["a change of mode makes it no shorter",                       "a:3000(3000)/r",           "keeps a shared up left=2995",  "now=5",  "~a:3000(2995)^5"],
  ["nor does one that waits for it",                             "a:3000(3000)/r b:1000/r",  "keeps a shared up left=2995",  "now=5",  "a:3000#1(2995)/r+ b:1000/r"],
], act);

// deno-fmt-ignore
table("forcing", [
  ["the lock is free, and the holder has a notice",                                 "a:1000",               "a", "now=5",               "-; a forced 2000"],
  ["a process that is queued is next",                                              "a:1000 | b",           "a", "now=5",               "- | =; free 5; a forced 2000"],
  ["other holders stay",                                                            "a:1000 b:700(700)",    "a", "now=5",               "b:700(700); a forced 2000"],
  ["where clocks mean nothing here, too: its holder knew the time",                   "a:1000",               "a", "skew=Infinity",       "-; a forced 2000"],
  ["the notices of others stay",                                                    "a:1000; x stolen 900", "a", "now=5",               "-; x stolen 900; a forced 2000"],
  ["until their time",                                                              "a:1000; x stolen 900", "a", "now=1000",            "-; a forced 2000"],
  ["until when is not known, where the time was not",                               "a:?",                  "a", "skew=Infinity",       "-; a forced ?"],
  ["one that is not there is not evicted",                                          "b:1000",               "a", "",                    "none"],
  ["where clocks mean nothing, it is not said since when it is free",               "a:1000 | b",           "a", "now=5 skew=Infinity", "- | =; free ?; a forced 2000"],
  ["the notice for a holder that did not know the time stays for a lease from now", "a:?",                  "a", "now=5",               "-; a forced 2005"],
  ["no notice stays beyond the last moment that there is",                          "a:8640000000000000",   "a", "",                    "-; a forced 8640000000000000"],
], (found, token, seen) => {
  const which = (holder: { token: string }) => holder.token === token;
  const left = evict(record(found), { which, reason: "forced", evidence: evidence(seen) });
  return left === null ? "none" : shown(left);
});

// deno-fmt-ignore
table("cleaning up", [
  ["a running lease is kept",                         "a:1000",            "",          "",                   "keep 1010"],
  ["to its last millisecond",                         "a:1000",            "",          "now=1099",           "keep 1"],
  ["until the last of several has ended",             "a:1000 b:500(500)", "",          "",                   "keep 1010"],
  ["a lapsed one is removed",                         "a:1000",            "",          "now=1100",           "remove the lock"],
  ["by watching, too",                                "a:1000",            "",          "unrenewed=1010",     "remove the lock"],
  ["no holder is evicted for its age",                "a:9000(9000)",      "",          "now=8000 held=8000", "keep 1100"],
  ["unless that is asked for",                        "a:1000",            "older=500", "now=600",            "evict fence of a: -; a forced 2000"],
  ["not before its time",                             "a:1000",            "older=500", "now=599",            "keep 1"],
  ["the oldest is the first to be old",               "a:1000 b:1100^100", "older=300", "now=150",            "keep 250"],
  ["the others stay",                                 "a:1000 b:1100^100", "older=300", "now=400",            "evict fence of a: b:1100^100; a forced 2000"],
  ["a process that is queued is next",                "a:1000 | b",        "older=0",   "",                   "evict fence of a: - | =; free 0; a forced 2000"],
  ["a queue is kept for a minute and its graces",     "- | b; free 0",     "",          "",                   "keep 63200"],
  ["by the clock, after the clocks' bound",           "- | b; free 0",     "",          "now=63299",          "keep 1"],
  ["then no process that runs can be in it",          "- | b; free 0",     "",          "now=63300",          "remove the lock, the queue"],
  ["by watching, too",                                "- | b; free 0",     "",          "free=63200",         "remove the lock, the queue"],
  ["behind a lapsed holder it is kept as long",       "a:1000 | b",        "",          "now=1100",           "keep 63200"],
  ["even if it is empty",                             "- |; free 0",       "",          "now=63300",          "remove the lock"],
  ["or it is not known which are in it",              "- | ?; free 0",     "",          "now=63300",          "remove the lock"],
  ["a notice is kept until its time",                 "-; x stolen 900",   "",          "now=999",            "keep 1"],
  ["and no longer",                                   "-; x stolen 900",   "",          "now=1000",            "remove the lock"],
  ["by watching, for two leases",                     "-; x stolen ?(500)", "",         "noticed=1009",       "keep 1"],
  ["and then it goes",                                "-; x stolen ?(500)", "",         "noticed=1010",       "remove the lock"],
  ["a queue that no lock names is removed",           "- (b)",             "",          "",                   "remove the queue"],
], (found, asks, seen) => {
  const { older } = settings(asks);
  const swept = sweep(snapshot(found), older === undefined ? undefined : Number(older), evidence(seen));
  if (swept.kind === "keep") return `keep ${swept.forMs}`;
  if (swept.kind === "evict") return `evict ${[...swept.fences].join()}: ${shown(swept.writes)}`;
  const { lock, queue } = swept.writes;
  const removed = [lock === null ? "the lock" : "", queue === null ? "the queue" : ""].filter(Boolean);
  return `${swept.kind} ${removed.join(", ")}`;
});

// deno-fmt-ignore
table("which processes a commit concerns", [
  ["joining the queue, the holder",                       "a:1000 | b",          "= | b c",           "",         "a"],
  ["so does the first to join",                           "a:1000",              "a:1000 | b",        "",         "a"],
  ["all that hold it",                                    "a:1000 b:1000 | c",   "= | c d",           "",         "a b"],
  ["leaving the queue, the same",                         "a:1000 | b c",        "= | b",             "",         "a"],
  ["and the one that is the first in it now",             "a:1000 | b c",        "= | c",             "",         "a C"],
  ["and leaving the last place, the same",                "a:1000 | b",          "= | 0",             "",         "a"],
  ["whose turn the offer of a crashed one was",           "B@b:75 | c d",        "= | d",             "",         "B D"],
  ["where there is no holder, all",                       "- | b; free 0",       "= | b c",           "",         "all"],
  ["a lock that is free",                                 "a:1000",              "-",                 "",         "all"],
  ["a renewal",                                           "a:1000 | b",          "a:1300#1 | =",      "",         "all"],
  ["an offer, the one that gets it, and the one that is next then", "a:1000^2 | b c d",    "B@b:75 | c d",      "now=1001", "B C"],
  ["or only the one that gets it, if none is next",       "a:1000^2 | b",        "B@b:75 |",          "now=1001", "B"],
  ["or the one that joins with it",                       "a:1000^2 | b",        "B@b:75 | a",        "now=1001", "B A"],
  ["and those that hold it next to it",                   "a:1000^2 e:1000 | b", "e:1000 B@b:75 |",   "now=1001", "e B"],
  ["after a second, all",                                 "a:1000^2 | b c d",    "B@b:75 | c d",      "now=1002", "all"],
  ["by a clock that is behind, too",                      "a:1000^1002 | b c",   "B@b:75 | c",        "now=2",    "all"],
  ["an offer without the queue, the one that is next in it", "a:1000 | b c",        "B@b:75 | =",        "",         "B C"],
  ["and the same when it is taken up",                    "B@b:75 | b c d",      "b:1000 | =",        "",         "b C"],
  ["one that is taken up, the same",                      "B@b:75 | c d",        "b:1000 | =",        "",         "b C"],
  ["a lock that is taken where nothing was, none",        "-",                   "a:1000",            "",         ""],
  ["a release that leaves nothing, none",                 "a:1000",              "-",                 "own",      ""],
  ["unless a process was queued",                         "a:1000 | b",          "- | none",          "own",      "all"],
  ["any other grant",                                     "- | b; free 0",       "b:1000 |",          "",         "all"],
  ["an eviction",                                         "a:1000 | c",          "b:1000 | =",        "",         "all"],
  ["a place that is given up for good",                   "a:1000 b:1000 | c",   "b:1000 | =",        "",         "all"],
  ["one more that holds it next to others",               "b:1000/2 | c",        "b:1000/2 a:1000/2 | =", "",     "all"],
  ["a renewal of one of two",                             "a:1000 b:1000 | c",   "a:1300#1 b:1000 | =", "",       "all"],
  ["a grant next to an offer, both",                       "a:1000 | b",          "c:1000 B@b:75 |",   "",         "c B"],
  ["one that is taken up next to a hold that ends",       "B@b:75 a:1000/2 | d", "b:1000 | =",        "",         "all"],
  ["an offer that was not taken up",                      "B@b:75 a:1000/2 | c", "a:1000/2 | =",      "",         "all"],
  ["an offer after a long hold and a short one",          "a:1000^2 e:1000^900 | b", "B@b:75 |",      "now=1002", "all"],
  ["a hold whose mode is changed",                        "a:1000/r | b",        "~a:1000 | =",         "",         "all"],
  ["and those that are offered it next to that one",      "a:1000 | b/r c d",    "~a:1000/r B@b:75/r | c d", "",    "a B C"],
  ["a grant within a turn, none",                         "a:1000^2 | b",        "a2:1000 | =",         "stays",    ""],
  ["unless its end is not known",                         "a:1000^2 | b",        "a2:? | =",            "stays",    "all"],
  ["or that of one next to it",                           "a:1000^2/2 a3:1000/2 | b", "a2:?/2 a3:1000/2 | =", "stays", "all"],
  ["a reader that waits to be the only one",              "a:1000/r | b",        "a:1000#1/r+ | =",     "",         "all"],
], (found, next, seen) => {
  const { stays, own } = settings(seen);
  const said = (word: string | undefined) => word === undefined ? undefined : true;
  const written = { ...writes(next), staysHere: said(stays), isOwn: said(own) };
  const concerned = concernsOf(snapshot(found), written, () => evidence(seen).now);
  return concerned?.join(" ") ?? "all";
});

// deno-fmt-ignore
table("what passes from one to another of a process", [
  ["where no process is queued, it stays here", "a:1000",       "a2",          "", "stays"],
  ["and within a turn",                        "a:1000 | b",   "a2, in turn", "", "stays"],
  ["what is offered to another does not",      "a:1000 | b",   "a2",          "", "goes"],
  ["nor what goes on in a place in the queue", "a:1000 | a b", "a2",          "", "goes"],
  ["nor what lapsed elsewhere",                "b:100(100)",   "a2",          "now=300", "goes"],
  ["nor what becomes free",                    "a:1000; x stolen 900", "idle a", "",     "goes"],
  ["nor where another joins a queue with it",  "a:1000",       "a2, a3 own",  "",        "goes"],
  ["nor where a queue ends with it",           "a:1000 | a",   "a2",          "",        "goes"],
], (found, acts, seen) => plan(snapshot(found), members(acts), evidence(seen)).staysHere ? "stays" : "goes");

Deno.test("rules: what passes from one to another of a process: its turn is a sixteenth of a grace", () => {
  assertEquals(localTurnMs(50), 3.125);
});

// deno-fmt-ignore
table("whether one way to hold a lock allows all that another does", [
  ["each allows what it is",                       "a shared",              "a shared",              "", "yes"],
  ["for several permits, too",                     "a limit=5 permits=3",   "a limit=5 permits=3",   "", "yes"],
  ["and for one of several",                       "a limit=5",             "a limit=5",             "", "yes"],
  ["an exclusive hold allows to read",             "a",                     "a shared",              "", "yes"],
  ["and to take permits",                          "a",                     "a limit=5 permits=3",   "", "yes"],
  ["a shared hold does not allow to write",        "a shared",              "a",                     "", "no"],
  ["nor next to others",                           "a shared",              "a limit=5",             "", "no"],
  ["a permit does not allow to read",              "a limit=5",             "a shared",              "", "no"],
  ["nor have the lock alone",                      "a limit=5",             "a",                     "", "no"],
  ["not even with all permits",                    "a limit=5 permits=5",   "a",                     "", "no"],
  ["where fewer are next to it than may be, it is", "a limit=3",             "a limit=5",             "", "yes"],
  ["and not where more are",                       "a limit=5",             "a limit=3",             "", "no"],
  ["more permits allow what fewer do",             "a limit=5 permits=3",   "a limit=5 permits=2",   "", "yes"],
  ["or one",                                       "a limit=5 permits=3",   "a limit=5",             "", "yes"],
  ["fewer do not allow what more do",              "a limit=5 permits=2",   "a limit=5 permits=3",   "", "no"],
  ["nor does one",                                 "a limit=5",             "a limit=5 permits=2",   "", "no"],
], (held, wanted) => covers(claim(held), claim(wanted)) ? "yes" : "no");

// deno-fmt-ignore
table("the stronger of two ways to hold a lock", [
  ["is the one that allows the other",             "a",                     "a shared",              "", "the first"],
  ["whichever that is",                            "a shared",              "a",                     "", "the second"],
  ["of the same, either",                          "a shared",              "a shared",              "", "the first"],
  ["there is none, where neither does",            "a shared",              "a limit=5",             "", "none"],
], (one, other) => {
  const [first, second] = [claim(one), claim(other)];
  const stronger = strongerOf(first, second);
  return stronger === undefined ? "none" : stronger === first ? "the first" : "the second";
});

Deno.test("rules: which processes a commit concerns: a process is called by the beginning of its tokens", () => {
  assertEquals(addressOf("0123456789"), "01234567");
});

// deno-fmt-ignore
table("the reason of a loss", [
  ["a notice says why",                "-; a stolen 900",      "a", "", "stolen"],
  ["whichever reason it was",          "b:1000; a forced 900", "a", "", "forced"],
  ["without one, the lease has ended", "b:1000; c stolen 900", "a", "", "expired"],
], (found, token) => lossOf(record(found), token));

/** What a process with these members writes next. */
function act(found: string, acts: string, seen: string): string {
  const next = plan(snapshot(found), members(acts), evidence(seen));
  // It is asked for a time by which to look again, whatever it says.
  assert(next.waitMs > 0);
  if (next.needsQueue) return "look";
  if (next.grants?.length) assertEquals(next.waitMs, Infinity);
  if (next.refusesUpgrade) return "refused";
  if (next.lock !== undefined || next.queue !== undefined) return shown(next);
  return next.waitMs === Infinity ? "nothing" : `wait ${next.waitMs}`;
}
