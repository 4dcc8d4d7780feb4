/** A mutation of the rules that changes nothing that a caller could see, and why. */
export interface Equivalent {
  readonly file: string;
  /** The line that it is in. */
  readonly code: string;
  readonly from: string;
  readonly to: string;
  readonly because: string;
}

const CODEC = "core/record/codec.ts";
const PLAN = "core/record/plan.ts";
const QUEUE = "core/record/queue.ts";

const BY_HAND = "what is written out by hand is the same JSON, only sooner";
const BOUND =
  "a bound to the work: more than may hold the lock are never admitted, and one more is looked at";
const FENCED = "a shortcut: holders that all have a fence come out as they went in";
const ONE = "of one holder, a list that is written out is the same, only sooner";
const ONCE = "it is there once: a record that says otherwise is refused when it is read";
const SIGN = "only whether it is above 0 counts";

/** Each was proven by hand. */
export const EQUIVALENTS: readonly Equivalent[] = [
  {
    file: CODEC,
    code: "> = holders[0] ?? {};",
    from: "holders[0] ?? {}",
    to: "({})",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "> = holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[1]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "> = holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[(-1)]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "const more = fence ?? label ?? offeredTo ?? queue ?? notices ?? holders[1];",
    from: "holders[1]",
    to: "holders[0]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "if (token === undefined || more !== undefined) return JSON.stringify(record);",
    from: "token === undefined || more !== undefined",
    to: "true",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "if (version === null || !holders.some(hasNoFence)) return record;",
    from: "version === null || !holders.some(hasNoFence)",
    to: "(version === null)",
    because: FENCED,
  },
  {
    file: CODEC,
    code: "const known = holders.length === 1",
    from:
      "holders.length === 1 ? [withFence(only, version)] : holders.map((holder) => withFence(holder, version))",
    to: "(holders.map((holder) => withFence(holder, version)))",
    because: ONE,
  },
  {
    file: CODEC,
    code: "const known = holders.length === 1",
    from: "holders.length === 1",
    to: "holders.length === 0",
    because: ONE,
  },
  {
    file: "core/record/eviction.ts",
    code: 'return record.notices?.find((notice) => notice.token === token)?.reason ?? "expired";',
    from: "record.notices?.find((notice) => notice.token === token)",
    to: "record.notices?.findLast((notice) => notice.token === token)",
    because: "a token is granted once, so it is evicted once at most",
  },
  {
    file: PLAN,
    code: "if (wanting.length > MAX_HOLDERS) break;",
    from: "wanting.length > MAX_HOLDERS",
    to: "false",
    because: BOUND,
  },
  {
    file: PLAN,
    code: "if (wanting.length > MAX_HOLDERS) break;",
    from: "break;",
    to: ";",
    because: BOUND,
  },
  {
    file: QUEUE,
    code: "const index = entries.findIndex((entry) => entry.participant === participant);",
    from: "entries.findIndex((entry) => entry.participant === participant)",
    to: "entries.findLastIndex((entry) => entry.participant === participant)",
    because: ONCE,
  },
  {
    file: QUEUE,
    code: "if (ahead === 0) return 0;",
    from: "return 0;",
    to: "return (-1);",
    because: SIGN,
  },
  {
    file: QUEUE,
    code: "return turnsMs - (frees ? 0 : freeForMs(record, lapsed, evidence));",
    from: "frees ? 0 : freeForMs(record, lapsed, evidence)",
    to: "frees ? (-1) : freeForMs(record, lapsed, evidence)",
    because: SIGN,
  },
  {
    file: "core/record/sweep.ts",
    code: "let forMs = record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence);",
    from: "record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence)",
    to: "record.queue === undefined ? (-1) : staleMs - freeForMs(record, holders, evidence)",
    because: SIGN,
  },
];
