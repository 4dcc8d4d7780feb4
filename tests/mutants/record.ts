/**
 * The rules, seen through the whole lock: what breaks one must be noticed by the simulation or the conformance suite,
 * not by the rules' own tables alone. Those are tried with every mutant that the operators make (area `rules`).
 */

import { CONFORMANCE, type Mutant, SIMULATION } from "./mutant.ts";

export const RECORD: readonly Mutant[] = [
  {
    law: "1: a claim respects a running lease",
    file: "core/record/evidence.ts",
    from: "return leaseMs + Math.max(5, leaseMs / 100);",
    to: "return leaseMs / 2;",
    ...SIMULATION,
  },
  {
    law: "1: clocks may differ by skewMs",
    file: "core/record/evidence.ts",
    from: "Math.min(expiresAt + evidence.skewMs - evidence.now, watchedMs)",
    to: "Math.min(expiresAt - evidence.now, watchedMs)",
    ...SIMULATION,
  },
  {
    law: "4: a release takes out only what is ours",
    file: "core/record/room.ts",
    from: 'if (intent === "leave") stays = undefined;',
    to: 'if (intent === "leave" || intent === "foreign") stays = undefined;',
    ...SIMULATION,
  },
  {
    law: "4: a process that leaves the queue takes out only its own entry",
    file: "core/record/queue.ts",
    from: "if (!members.isOurs(entry)) return [entry];",
    to: "if (!members.isOurs(entry)) return waiting.size === 0 ? [] : [entry];",
    ...SIMULATION,
  },
  {
    law: "5: the k-th in the queue waits k graces",
    file: "core/record/queue.ts",
    from: "return turnsMs - (frees ? 0 : freeForMs(record, lapsed, evidence));",
    to: "return 0;",
    ...SIMULATION,
  },
  {
    law: "5: a dead first in the queue does not block",
    file: "core/record/queue.ts",
    from: "if (!entries.slice(0, ahead).every((entry) => admits(standing, entry))) return Infinity;",
    to: "return Infinity;",
    ...SIMULATION,
  },
  {
    law: "5: processes take turns",
    file: "core/record/queue.ts",
    from: "let turnsMs = 0;",
    to: "if (frees) return 0;\n  let turnsMs = 0;",
    ...CONFORMANCE,
    filter: "memory: wait:",
  },
  {
    law: "5: a watched lapse counts as free time",
    file: "core/record/evidence.ts",
    from: "freeMs = Math.min(freeMs, -lapsesInMs(holder, evidence));",
    to: "freeMs = evidence.now - holder.since - holder.leaseMs - evidence.skewMs;",
    ...CONFORMANCE,
    filter: "memory: death: a crashed holder and a crashed first",
  },
  {
    law: "6: the last to leave the queue of a free lock leaves no record",
    file: "core/record/plan.ts",
    from: "const clears = record.holders.length === 0 && named !== record.queue;",
    to: "const clears = false;",
    ...SIMULATION,
  },
  {
    law: "4: a cleanup respects a running lease",
    file: "core/record/sweep.ts",
    from: "lapsesInMs(holder, evidence) > 0);\n  const overstayed",
    to: "lapsesInMs(holder, evidence) > 400);\n  const overstayed",
    ...SIMULATION,
  },
  {
    law: "2: a holder that a cleanup evicts is notified",
    file: "core/record/sweep.ts",
    from: 'writes: evict(record, { which, reason: "forced", evidence })!, fences',
    to: "writes: { lock: null }, fences",
    ...CONFORMANCE,
    filter: "memory: cleanup:",
  },
  {
    law: "5: a cleanup leaves a queue in use alone",
    file: "core/record/sweep.ts",
    from: "let forMs = record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence);",
    to: "let forMs = 0;",
    ...CONFORMANCE,
    filter: "memory: cleanup:",
  },
  {
    law: "2: a cleanup leaves a notice that may be unread",
    file: "core/record/sweep.ts",
    from: "forMs = Math.max(forMs, noticeLeftMs(notice, evidence));",
    to: "void notice;",
    ...CONFORMANCE,
    filter: "memory: cleanup:",
  },
  {
    law: "5: a queue that cannot be read keeps no caller from the lock",
    file: "core/record/codec.ts",
    from: "return { ...voidQueue(error as UnreadableRecordError), version };",
    to: "throw error;",
    ...CONFORMANCE,
    filter: "memory: record: a queue",
  },
  {
    law: "4: a cleanup leaves a queue that it cannot read to the lock that names one",
    file: "core/operators/cleanup.ts",
    from: "const isNamed = named !== undefined && (unreadable !== undefined || named === record.id);",
    to: "const isNamed = named === record.id;",
    ...CONFORMANCE,
    filter: "memory: record: a queue",
  },
  {
    law: "5: what is in the way of a queue is not in the way of its lock",
    file: "core/store.ts",
    from:
      "      if (!(error instanceof UnreadableRecordError)) throw error;\n      // One of the two is in the way.",
    to: "      throw error;\n      // One of the two is in the way.",
    test: "tests/unreadable_queue_test.ts",
  },
  {
    law: "5: no process clears away what is in the way of a queue",
    file: "core/record/queue.ts",
    from: "if (!isThere) return undefined;",
    to: "",
    test: "tests/unreadable_queue_test.ts",
  },
  {
    law: "7: a queue that cannot be read is published",
    file: "core/store.ts",
    from:
      "  if (queue?.unreadable !== undefined) publishBackendError(key, queue.unreadable);\n  return snapshot;",
    to: "  return snapshot;",
    test: "tests/unreadable_queue_test.ts",
  },
];
