/** What a lock promises that is handed over, or renewed by hand. */

import type { Mutant } from "./mutant.ts";

const HAND_OVER = { test: "tests/hand_over_test.ts" };
const EXTEND = { test: "tests/extend_test.ts" };
const RULES = { test: "tests/rules_test.ts", filter: "taking up" };

export const CLAIMS: readonly Mutant[] = [
  {
    law: "claims: a claim is honoured once",
    file: "core/record/room.ts",
    from: "stays = holderOf(claim, scene.evidence);",
    to: "stays = { ...holderOf(claim, scene.evidence), token: holder.token };",
    ...RULES,
  },
  {
    law: "claims: a restored hold has a fencing token of its own",
    file: "core/record/room.ts",
    from: "stays = holderOf(claim, scene.evidence);",
    to: "stays = { ...holderOf(claim, scene.evidence), fence: holder.fence };",
    ...HAND_OVER,
  },
  {
    law: "claims: one that has lapsed is not honoured",
    file: "core/record/room.ts",
    from: "return lapsesInMs(holder, evidence) > 0 && isSameMode(holder, claim);",
    to: "return isSameMode(holder, claim);",
    ...RULES,
  },
  {
    law: "claims: one that says something else than the record is not honoured",
    file: "core/record/room.ts",
    from: "return lapsesInMs(holder, evidence) > 0 && isSameMode(holder, claim);",
    to: "return lapsesInMs(holder, evidence) > 0;",
    ...RULES,
  },
  {
    law: "claims: one that has lapsed is in nobody's way",
    file: "core/record/room.ts",
    from: 'return intent === "foreign" || intent === "restore";',
    to: 'return intent === "foreign";',
    ...RULES,
  },
  {
    law: "claims: a request for one takes nothing else",
    file: "core/record/plan.ts",
    from: "if (claim.restores !== undefined) continue;",
    to: "",
    ...RULES,
  },
  {
    law: "claims: not even a lock that is free",
    file: "core/record/plan.ts",
    from: "for (const claim of requests) if (claim.restores === undefined) return claim;",
    to: "for (const claim of requests) return claim;",
    ...RULES,
  },
  {
    law: "claims: a request for one does not bet on a free lock",
    file: "core/local_lock.ts",
    from: "!this.#members.onlyRestores;",
    to: "true;",
    ...HAND_OVER,
  },
  {
    law: "claims: of several locks all are taken up, or none",
    file: "core/members.ts",
    from: "if (this.#restores === 0 || this.holdsBack) return undefined;",
    to: "if (this.#restores === 0) return undefined;",
    ...HAND_OVER,
  },
  {
    law: "claims: an answer that was lost is settled by what stays in the record",
    file: "core/hold.ts",
    from: "const restToken = this.#claim?.token ?? keptTokenOf(hold);",
    to: "const restToken = keptTokenOf(hold);",
    ...HAND_OVER,
  },
  {
    law: "claims: its lease is the one that was asked for",
    file: "core/hold.ts",
    from: "const leaving = this.#depart({ token, leaseMs });",
    to: "const leaving = this.#depart({ token, leaseMs: this.options.leaseMs });",
    ...HAND_OVER,
  },
  {
    law: "claims: what is handed over cannot be handed over after its release",
    file: "core/hold.ts",
    from:
      "if (this.#handOver === undefined && this.#release !== undefined) return Promise.reject(this.over);",
    to: "",
    ...HAND_OVER,
  },
  {
    law: "claims: what is left of holdAtLeastMs goes along",
    file: "core/claim.ts",
    from: "holdAtLeastMs: leastMs > 0 ? leastMs : undefined,\n  });",
    to: "holdAtLeastMs: undefined,\n  });",
    ...HAND_OVER,
  },
  {
    law: "extending: a lease lasts as long as was asked for",
    file: "core/hold.ts",
    from: "for (const asked of this.#extensions) untilMs = Math.max(untilMs, asked.untilMs);",
    to: "",
    ...EXTEND,
  },
  {
    law: "extending: a renewal takes nothing back",
    file: "core/hold.ts",
    from: "let untilMs = monotonic + forMs;",
    to: "let untilMs = 0;",
    ...EXTEND,
  },
  {
    law: "extending: nor does a change of mode",
    file: "core/record/room.ts",
    from: "const leaseMs = Math.max(claim.leaseMs, members.leaseMsOf(holder));",
    to: "const { leaseMs } = claim;",
    ...EXTEND,
  },
  {
    law: "extending: a call is answered by a lease that lasts as long as it has asked for",
    file: "core/hold.ts",
    from: "if (untilMs > monotonic + forMs) return true;",
    to: "",
    ...EXTEND,
  },
  {
    law: "extending: nothing is renewed that was not to be",
    file: "core/hold.ts",
    from: "const isAsked = this.#extensions.length > 0;",
    to: "const isAsked = true;",
    ...EXTEND,
  },
  {
    law: "extending: a failure that waiting does not cure is said at once",
    file: "core/hold.ts",
    from: "if (error.transient || this.#extensions.length === 0) return;",
    to: "return;",
    ...EXTEND,
  },
  {
    law: "extending: what is over rejects those that have asked",
    file: "core/hold.ts",
    from: "this.change?.reject(error);\n    this.#refuseExtensions(error);",
    to: "this.change?.reject(error);",
    ...EXTEND,
  },
  {
    law: "late: a timer says so",
    file: "core/local_lock.ts",
    from: "dueMs = Math.min(dueMs, now.monotonic + hold.leftMs(now), hold.lateAtMs);",
    to: "dueMs = Math.min(dueMs, now.monotonic + hold.leftMs(now));",
    ...EXTEND,
  },
  {
    law: "late: once for each lease",
    file: "core/hold.ts",
    from: "this.lateAtMs = Infinity;\n    publish",
    to: "publish",
    ...EXTEND,
  },
  {
    law: "late: what a caller throws is not the lock's",
    file: "core/hold.ts",
    from: "queueMicrotask(() => warn(leftMs));",
    to: "warn(leftMs);",
    ...EXTEND,
  },
];
