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
const MODES = "core/record/modes.ts";
const QUEUE = "core/record/queue.ts";

const BY_HAND = "what is written out by hand is the same JSON, only sooner";
const FENCED = "a shortcut: holders that all have a fence come out as they went in";
const FEW =
  "a shortcut: as many holders, or one more, never make too long a record, and need not be measured";
const ONCE = "it is there once: a record that says otherwise is refused when it is read";
const SIGN = "only whether it is above 0 counts";
const ONE = "a shortcut: one claim, or none, is in order";
const READERS = "a limit says nothing of readers";

/** Each was proven by hand. */
export const EQUIVALENTS: readonly Equivalent[] = [
  {
    file: CODEC,
    code: "const first: Partial<Holder> = holders[0] ?? {};",
    from: "holders[0] ?? {}",
    to: "({})",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "const first: Partial<Holder> = holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[1]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "const first: Partial<Holder> = holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[(-1)]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "const more = permits ?? fence ?? formerFence ?? offeredTo ?? queue ?? notices ?? holders[1];",
    from: "holders[1]",
    to: "holders[0]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: 'const isPlain = mode === "exclusive" && limit === 1 && renewals === 0;',
    from: "limit === 1",
    to: "limit === 0",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: 'const isPlain = mode === "exclusive" && limit === 1 && renewals === 0;',
    from: "renewals === 0",
    to: "renewals === (-1)",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "if (!isPlain || more !== undefined) return sized(record);",
    from: "!isPlain || more !== undefined",
    to: "true",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "if (label !== lastLabel) {",
    from: "label !== lastLabel",
    to: "true",
    because: "a shortcut: a label that is quoted again is the same",
  },
  {
    file: CODEC,
    code: "const FEW_HOLDERS = 32;",
    from: "FEW_HOLDERS = 32",
    to: "FEW_HOLDERS = 33",
    because: FEW,
  },
  {
    file: CODEC,
    code: "const FEW_HOLDERS = 32;",
    from: "FEW_HOLDERS = 32",
    to: "FEW_HOLDERS = 31",
    because: FEW,
  },
  {
    file: CODEC,
    code:
      "if (holders.length <= FEW_HOLDERS || new TextEncoder().encode(text).length <= MAX_RECORD_BYTES) return text;",
    from: "holders.length <= FEW_HOLDERS",
    to: "holders.length < FEW_HOLDERS",
    because: FEW,
  },
  {
    file: CODEC,
    code:
      "if (holders.length <= FEW_HOLDERS || new TextEncoder().encode(text).length <= MAX_RECORD_BYTES) return text;",
    from: "holders.length <= FEW_HOLDERS || new TextEncoder().encode(text).length <= MAX_RECORD_BYTES",
    to: "(new TextEncoder().encode(text).length <= MAX_RECORD_BYTES)",
    because: FEW,
  },
  {
    file: CODEC,
    code: "if (version === null || !holders.some(hasNoFence)) return record;",
    from: "version === null || !holders.some(hasNoFence)",
    to: "(version === null)",
    because: FENCED,
  },
  {
    file: "core/record/eviction.ts",
    code: 'return record.notices?.find((notice) => notice.token === token)?.reason ?? "expired";',
    from: "record.notices?.find((notice) => notice.token === token)",
    to: "record.notices?.findLast((notice) => notice.token === token)",
    because: "a token is granted once, so it is evicted once at most",
  },
  {
    file: MODES,
    code: "return limit <= claim.limit && permits >= (claim.permits ?? 1);",
    from: "claim.permits ?? 1",
    to: "claim.permits ?? 0",
    because: "no hold has less than one permit",
  },
  {
    file: MODES,
    code: 'return !admits(holders, { mode: "shared", limit: 1 }) &&',
    from: '{ mode: "shared", limit: 1 }',
    to: '{ mode: "shared" }',
    because: READERS,
  },
  {
    file: MODES,
    code: 'return !admits(holders, { mode: "shared", limit: 1 }) &&',
    from: "limit: 1",
    to: "limit: 2",
    because: READERS,
  },
  {
    file: MODES,
    code: 'return !admits(holders, { mode: "shared", limit: 1 }) &&',
    from: "limit: 1",
    to: "limit: 0",
    because: READERS,
  },
  {
    file: QUEUE,
    code: "const index = entries.findIndex(({ participant }) => participant === name);",
    from: "entries.findIndex(({ participant }) => participant === name)",
    to: "entries.findLastIndex(({ participant }) => participant === name)",
    because: ONCE,
  },
  {
    file: QUEUE,
    code: "return claim.goesFirst ? -1 : index < 0 ? entries.length : index;",
    from: "-1",
    to: "-2",
    because: "whatever is below 0 is before the queue",
  },
  {
    file: QUEUE,
    code: "const inOrder = wanting.length > 1",
    from:
      "wanting.length > 1 ? wanting.map((claim) => ({ claim, place: placeOf(claim) })) .sort((one, other) => one.place - other.place).map(({ claim }) => claim) : wanting",
    to:
      "(wanting.map((claim) => ({ claim, place: placeOf(claim) })) .sort((one, other) => one.place - other.place).map(({ claim }) => claim))",
    because: ONE,
  },
  {
    file: QUEUE,
    code: "const inOrder = wanting.length > 1",
    from: "wanting.length > 1",
    to: "wanting.length >= 1",
    because: ONE,
  },
  {
    file: QUEUE,
    code: "const inOrder = wanting.length > 1",
    from: "wanting.length > 1",
    to: "wanting.length > 0",
    because: ONE,
  },
  {
    file: QUEUE,
    code: "const waits = first?.turnMs !== undefined && ahead < entries.length && admits(standing, first);",
    from: "first?.turnMs !== undefined && ahead < entries.length",
    to: "(ahead < entries.length)",
    because: "a shortcut: what waits for no other locks is granted this one then, and that is written anyway",
  },
  {
    file: QUEUE,
    code: "if (ahead > 0 || lapsed.length > 0) return 0;",
    from: "return 0;",
    to: "return (-1);",
    because: SIGN,
  },
  {
    file: "core/record/room.ts",
    code: "let [left, renews, isTurn, isOnly] = [false, false, false, false];",
    from: "[false, false, false, false]",
    to: "[false, false, false]",
    because: "what is not said yet is as good as false",
  },
  {
    file: "core/record/sweep.ts",
    code: "let forMs = record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence);",
    from: "record.queue === undefined ? 0 : staleMs - freeForMs(record, holders, evidence)",
    to: "record.queue === undefined ? (-1) : staleMs - freeForMs(record, holders, evidence)",
    because: SIGN,
  },
];
