// The checker of the torture runs, on histories that are known to be good or bad. One that lets a bad one pass is worth nothing.
import { assert, assertEquals } from "@std/assert";
import type { FaultLine, Hold, Line } from "./torture/history.ts";
import { historyOf, surely } from "./torture/history.ts";
import { inexplicable } from "./torture/linearize.ts";
import { lockModel, operationsOn } from "./torture/models.ts";
import { countSets } from "./torture/sets.ts";
import { ENDED } from "./torture/storm.ts";
import { judge, leaksOf } from "./torture/verdict.ts";

/**
 * Holds in a line each: `a 0-1 #1 !3-4 5-6` asked at 0, got it at 1 with the fencing token 1, surely held it at some moment
 * from 3 to 4, and gave it back from 5 to 6; `5-6 no`: it was not its own any more; nothing: it never gave it back.
 * `/r` shared, `/3x2` two permits of three, `@x` asked for by the owner x.
 */
function holds(...lines: string[]): Hold[] {
  return lines.map((line) => {
    const [, id, owner = id, how, asked, got, token, proofs, left, right, no] =
      /^(\w+)(?:@(\w+))?(?:\/(\w+))? (\d+)-(\d+) #(\w+)((?: !\d+-\d+)*)(?: (\d+)-(\d+)( no)?)?$/.exec(line)!;
    const [limit, permits = "1"] = (how ?? "1").split("x");
    return {
      id,
      lock: "lock",
      owner,
      process: owner,
      mode: how === "r" ? "shared" : "exclusive",
      limit: how === "r" ? 1 : Number(limit),
      permits: Number(permits),
      leaseMs: 1000,
      askedAt: Number(asked),
      gotAt: Number(got),
      token,
      proofs: [...proofs.matchAll(/(\d+)-(\d+)/g)].map(([, from, to]) => ({
        from: Number(from),
        to: Number(to),
      })),
      left: left === undefined
        ? undefined
        : { from: Number(left), to: Number(right), ours: no === undefined },
    };
  });
}

const PLAIN = { fenced: true, reentrant: false };

function found(history: Hold[], options = PLAIN): string | undefined {
  const bad = inexplicable(operationsOn(history), lockModel(options));
  return bad && `${bad.operation.does.kind} ${bad.operation.does.id}`;
}

Deno.test("the checker passes what a lock may do", () => {
  const good: Record<string, Hold[]> = {
    "one after the other": holds("a 0-1 #1 !2-3 4-5", "b 6-7 #2 !8-9 10-11"),
    "a waiter is granted while the other gives it back": holds("a 0-1 #1 4-9", "b 2-7 #2 10-11"),
    "the answer to a release comes late": holds("a 0-1 #1 2-20", "b 3-4 #2 5-6", "c 7-8 #3 9-10"),
    "one that is never given back lapses": holds("a 0-1 #1", "b 2-3 #2 4-5"),
    "also behind its last proof": holds("a 0-1 #1 !4-6", "b 2-6 #2 7-8"),
    "one that is lost is not its own any more": holds("a 0-1 #1 8-9 no", "b 2-3 #2 4-5"),
    "an answer that was long under way": holds("b 0-9 #1 10-11", "a 0-20 #2 21-22"),
    "readers together": holds("a/r 0-1 #1 !2-9 10-11", "b/r 0-1 #2 !2-9 10-11"),
    "as many permits as there are": holds("a/3x2 0-1 #1 !5-6 7-8", "b/3 0-1 #2 !5-6 7-8"),
  };
  for (const [title, history] of Object.entries(good)) assertEquals(found(history), undefined, title);
});

Deno.test("and finds what a lock may not do", () => {
  const bad: Record<string, [Hold[], string]> = {
    "two at once": [holds("a 0-1 #1 8-9", "b 2-3 #2 4-5"), "acquire b"],
    "two at once, and one never gives it back": [holds("a 0-1 #1 !8-9", "b 2-3 #2"), "acquire b"],
    "two at once, seen by proofs alone": [
      holds("a 0-2 #1 !3-4 !7-8", "b 0-2 #2 !5-6"),
      "acquire b",
    ],
    "the release of a lock that was lost says that it was held": [
      holds("a 0-1 #1 8-9", "b 2-3 #2 4-5", "c 6-7 #3"),
      "acquire b",
    ],
    "a release that says no of a lock that it holds": [holds("a 0-1 #1 !8-9 2-3 no"), "release a"],
    "a token that falls": [holds("a 0-1 #5 2-3", "b 4-5 #4 6-7"), "acquire b"],
    "a token twice": [holds("a 0-1 #5 2-3", "b 4-5 #5 6-7"), "acquire b"],
    "a reader beside a writer": [holds("a/r 0-1 #1 8-9", "b 2-3 #2 4-5"), "acquire b"],
    "one permit too many": [holds("a/3x2 0-1 #1 8-9", "b/3x2 2-3 #2 4-5"), "acquire b"],
    "more than the least limit": [holds("a/3 0-1 #1 8-9", "b/1 2-3 #2 4-5"), "acquire b"],
  };
  for (const [title, [history, where]] of Object.entries(bad)) assertEquals(found(history), where, title);
});

Deno.test("a holder of a lock is let through under the same token, and no other caller", () => {
  const options = { fenced: true, reentrant: true };
  const inner = holds("a@x 0-1 #1 10-11", "b@x 2-3 #1 !4-5 6-7", "c@y 8-13 #2 14-15");
  assertEquals(found(inner, options), undefined);
  assertEquals(found(inner), "acquire b");
  assertEquals(found(holds("a@x 0-1 #1 10-11", "b@y 2-3 #1 6-7"), options), "acquire b");
  // What is let through shows that the outer one is held, and so do its proofs.
  assertEquals(found(holds("a@x 0-1 #1", "b@x 2-3 #1 !6-7", "c@y 8-9 #2"), options), undefined);
  assertEquals(found(holds("a@x 0-1 #1", "b@x 4-5 #1", "c@y 2-3 #2"), options), "acquire c");
  // Another token is another hold, which another could have in between.
  assertEquals(found(holds("a@x 0-1 #1 10-11", "b@x 2-3 #2 6-7"), options), "acquire b");
  // The lock is free only when the outer one has given it back, too.
  assertEquals(found(holds("a@x 0-1 #1 10-11", "b@x 2-3 #1 4-5", "c@y 6-7 #2"), options), "acquire c");
});

Deno.test("a long history of many processes is followed in time", () => {
  const lines: string[] = [];
  for (let i = 0; i < 3000; i++) {
    // Eight wait all the time.
    const token = String(i).padStart(6, "0");
    lines.push(
      `h${i} ${Math.max(0, i - 8) * 10}-${i * 10 + 1} #${token} !${i * 10 + 2}-${i * 10 + 3} ${i * 10 + 4}-${
        i * 10 + 8
      }`,
    );
  }
  assertEquals(found(holds(...lines)), undefined);
  lines[2000] = lines[2000].replace(/ \d+-\d+$/, " 20015-20016");
  assertEquals(found(holds(...lines)), "acquire h2001");
});

Deno.test("the sets say what was lost, what is stale, and what stands there twice", () => {
  const [one, two] = holds("a 0-1 #1 2-3", "b 4-5 #2 6-7");
  const add = (element: string, hold: string, outcome: "yes" | "no" | "unknown") => (
    { set: "s", element, guarded: true, hold, outcome, at: 0 }
  );
  const added = [
    add("kept", "a", "yes"),
    add("lost", "a", "yes"),
    add("refused", "a", "no"),
    add("stale", "b", "no"),
    add("maybe", "b", "unknown"),
    add("late", "a", "yes"),
  ];
  const sets = new Map([["s", ["kept", "stale", "late", "kept"]]]);
  assertEquals(countSets(added, sets, [one, two]), {
    added: 3,
    lost: ["lost"],
    refused: 2,
    stale: ["stale"],
    unknown: 1,
    twice: ["kept"],
    behind: ["late", "kept"],
  });
});

Deno.test("what a killed process has written down is taken as far as it goes", () => {
  const ask = { mode: "exclusive", limit: 1, permits: 1 } as const;
  const lines: Line[] = [
    { do: "start", name: "p", runtime: "Deno", at: 0 },
    { ...ask, do: "ask", id: "p.1", lock: "l", owner: "p", leaseMs: 1000, at: 1 },
    { do: "got", id: "p.1", token: "1", at: 2 },
    { do: "holds", id: "p.1", from: 3, at: 4 },
    { do: "add", id: "p.1", set: "s", element: "e", guarded: true, at: 5 },
    { do: "leave", id: "p.1", at: 6 },
    { ...ask, do: "ask", id: "p.2", lock: "l", owner: "p", leaseMs: 1000, at: 7 },
  ];
  const { holds, added, processes } = historyOf(new Map([["p", lines]]));
  assertEquals(holds.map(({ left }) => left), [{ from: 6, to: Infinity, ours: null }]);
  assertEquals(surely(holds[0]), { from: 2, to: 3 });
  assertEquals(added.map(({ outcome }) => outcome), ["unknown"]);
  assert(!processes[0].ended);
});

/** The verdict on a run in which these logs were written, and this went wrong. */
function judged(logs: Record<string, Line[]>, faults: readonly FaultLine[]) {
  const remains = { sets: {}, records: [], connections: 0, late: [] };
  return judge(historyOf(new Map(Object.entries(logs))), { faults, remains, stolen: "stolen" });
}

const started = (name: string, at: number): Line => ({ do: "start", name, runtime: "Deno", at });

Deno.test("a process that writes after its death, or before its birth, has another clock, and that counts", () => {
  const kill = { fault: "process killed", whom: "a", from: 1000, to: 3000, next: "b" };
  const size = (at: number): Line => ({ do: "size", rssBytes: 1, at });
  const clocks = (last: number, first: number) =>
    leaksOf(judged({ a: [started("a", 0), size(last)], b: [started("b", first)] }, [kill]));
  assertEquals(clocks(1040, 1500), []);
  assertEquals(clocks(1211, 1500), ["the clock of a is ahead by 211 ms at least"]);
  assertEquals(clocks(900, 990), ["the clock of b is behind by 10 ms at least"]);
});

Deno.test("a process that ends by itself is a leak, unless Deno's sweep has met a full disk", () => {
  const ended = (why: string) =>
    leaksOf(
      judged({ a: [started("a", 0)] }, [{ fault: ENDED, whom: "a", from: 10, to: 20, why, next: "b" }]),
    );
  assertEquals(ended("TypeError: no"), ["a process ended by itself, a: TypeError: no"]);
  assertEquals(ended("KV collect expired failed: database or disk is full"), []);
});

Deno.test("a recovery is from the death of a holder in a calm; one behind dead processes is counted apart", () => {
  const ask = { mode: "exclusive", limit: 1, permits: 1, lock: "mutex", leaseMs: 1000 } as const;
  const grant = (name: string, asked: number, got: number): Line[] => [
    started(name, 0),
    { ...ask, do: "ask", id: `${name}.1`, owner: name, at: asked },
    { do: "got", id: `${name}.1`, token: String(got), at: got },
  ];
  const logs = { a: grant("a", 100, 200), b: grant("b", 150, 2000) };
  const kill: FaultLine = { fault: "process killed", whom: "a", from: 500, to: 900 };
  const seen = (queue: string[], ...others: FaultLine[]) => {
    const { recoveries, delayedRecoveries } = judged(logs, [
      { ...kill, queue, alive: ["b"] },
      ...others,
    ]);
    return [recoveries, delayedRecoveries];
  };
  assertEquals(seen(["b", "dead"]), [[1500], []]);
  assertEquals(seen(["dead", "b"]), [[], [1500]]);
  const other = { fault: "line cut", whom: "b", from: 600, to: 601 };
  assertEquals(seen(["b"], other), [[], []]);
  // The store was back a moment before: clients have not tried it again.
  assertEquals(seen(["b"], { fault: "store killed", whom: "store", from: -2000, to: -300 }), [[], []]);
});
