/**
 * The rules, seen through the whole lock: what breaks one must be noticed by the simulation or the conformance suite,
 * not by the rules' own tables alone. Those are tried with every mutant that the operators make (area `rules`).
 */

import { CONFORMANCE, type Mutant, SIMULATION } from "./mutant.ts";

export const RECORD: readonly Mutant[] = [
  {
    law: "1: a claim respects a running lease",
    file: "core/record/evidence.ts",
    from: "const watched = holder.leaseMs + Math.max(5, holder.leaseMs / 100);",
    to: "const watched = holder.leaseMs / 2;",
    ...SIMULATION,
  },
  {
    law: "1: clocks may differ by skewMs",
    file: "core/record/evidence.ts",
    from: "holder.expiresAt + view.skewMs - view.now,",
    to: "holder.expiresAt - view.now,",
    ...SIMULATION,
  },
  {
    law: "4: a release is owner-checked",
    file: "core/record/rules.ts",
    from:
      "const others = holders.filter((holder) => holder.token !== token);\n  if (others.length === holders.length) return null;\n  const evicted",
    to: "const others: Holder[] = [];\n  const evicted",
    ...SIMULATION,
  },
  {
    law: "4: clearing away takes out only our own",
    file: "core/record/rules.ts",
    from: "const others = holders.filter((holder) => holder.token !== gone.token);",
    to: "const others = gone.token === undefined ? holders : [];",
    ...SIMULATION,
  },
  {
    law: "5: the k-th in line waits k graces",
    file: "core/record/rules.ts",
    from: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    to: "const turnInMs = 0;",
    ...SIMULATION,
  },
  {
    law: "5: a dead first in line does not block",
    file: "core/record/rules.ts",
    from: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    to: "const turnInMs = ahead === 0 ? 0 : Infinity;",
    ...SIMULATION,
  },
  {
    law: "5: processes take turns",
    file: "core/record/rules.ts",
    from: "if (queue.every((waiter) => waiter.seat === heir.seat)) {",
    to: "if (heir !== undefined) {",
    ...CONFORMANCE,
  },
  {
    law: "5: a watched lapse counts as free time",
    file: "core/record/evidence.ts",
    from: "if (holders.length > 0) return -Math.max(...holders.map((holder) => lapsesInMs(holder, view)));",
    to: "if (holders.length > 0) return view.now - holders[0].expiresAt - view.skewMs;",
    ...CONFORMANCE,
    filter: "a dead holder with a dead first in line",
  },
  {
    law: "4: a cleanup respects a running lease",
    file: "core/record/rules.ts",
    from: "lapsesInMs(holder, view) > 0);\n  const overstayed",
    to: "lapsesInMs(holder, view) > 400);\n  const overstayed",
    ...SIMULATION,
  },
  {
    law: "2: whom a cleanup evicts is told",
    file: "core/record/rules.ts",
    from: 'return { kind: "evict", record: evict(record, which, "forced", view.now, view.skewMs), fences };',
    to: 'return { kind: "evict", record: null, fences };',
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "5: a cleanup leaves a line in use alone",
    file: "core/record/rules.ts",
    from: "queue.length === 0 ? 0 : stale - freeForMs(record, holders, view),",
    to: "0,",
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "2: a cleanup leaves a note that may be unread",
    file: "core/record/rules.ts",
    from: "...notes(record, view.now).map(({ until }) => until - view.now),\n  );",
    to: ");",
    ...CONFORMANCE,
    filter: "cleanup:",
  },
];
