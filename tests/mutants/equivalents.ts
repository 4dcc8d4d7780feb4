/** A mutation of the rules that changes nothing that anybody could see, and why. */
export interface Equivalent {
  readonly file: string;
  /** The line that it is in. */
  readonly code: string;
  readonly from: string;
  readonly to: string;
  readonly because: string;
}

const CODEC = "core/record/codec.ts";
const RULES = "core/record/rules.ts";
const ONE_IS_READ = "recordOf reads nothing but freedAt of its first argument";
const STOLEN =
  "what is stolen was held until now, so the free time is at most 0, and it decides nothing then";
const FREE_TIME = "the free time is never below 0, so the first in the queue has its turn either way";

const NEVER = "any moment that no clock shows would do";
const BY_HAND = "what is written out by hand is the same JSON, only sooner";

/** Found by comparing each mutant with the rules as they are on some 80 000 random arguments, then proven by hand. */
export const EQUIVALENTS: readonly Equivalent[] = [
  {
    file: CODEC,
    code: "if (version === null || record.holders.every(({ fence }) => fence !== undefined)) {",
    from: "version === null || record.holders.every(({ fence }) => fence !== undefined)",
    to: "(version === null)",
    because: "a shortcut: holders that all have a fence come out as they went in",
  },
  {
    file: "core/record/record.ts",
    code: "return recordOf({ ...record, freedAt }, holders, queue, evicted);",
    from: "{ ...record, freedAt }",
    to: "{ freedAt }",
    because: ONE_IS_READ,
  },
  {
    file: RULES,
    code: 'return { kind: "write", record: recordOf({ ...record, freedAt }, [], line, evicted) };',
    from: "{ ...record, freedAt }",
    to: "{ freedAt }",
    because: ONE_IS_READ,
  },
  {
    file: RULES,
    code: "const freeMs = stolen.length > 0 ? 0 : freeForMs(record, holders, view);",
    from: "stolen.length > 0 ? 0 : freeForMs(record, holders, view)",
    to: "(freeForMs(record, holders, view))",
    because: STOLEN,
  },
  {
    file: RULES,
    code: "const freeMs = stolen.length > 0 ? 0 : freeForMs(record, holders, view);",
    from: "stolen.length > 0",
    to: "stolen.length > 1",
    because: STOLEN,
  },
  {
    file: RULES,
    code: "const freeMs = stolen.length > 0 ? 0 : freeForMs(record, holders, view);",
    from: "stolen.length > 0 ? 0 : freeForMs(record, holders, view)",
    to: "stolen.length > 0 ? (-1) : freeForMs(record, holders, view)",
    because: STOLEN,
  },
  {
    file: RULES,
    code: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    from: "ahead === 0 ? 0 : ahead * view.graceMs - freeMs",
    to: "(ahead * view.graceMs - freeMs)",
    because: FREE_TIME,
  },
  {
    file: RULES,
    code: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    from: "ahead === 0",
    to: "ahead === (-1)",
    because: FREE_TIME,
  },
  {
    file: RULES,
    code: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    from: "ahead === 0 ? 0 : ahead * view.graceMs - freeMs",
    to: "ahead === 0 ? (-1) : ahead * view.graceMs - freeMs",
    because: FREE_TIME,
  },
  {
    file: RULES,
    code: ": record.freedAt ?? freeMoment(view.now - Math.max(0, freeMs), want.unsure);",
    from: "Math.max(0, freeMs)",
    to: "Math.max((-1), freeMs)",
    because: "the free time is never below 0",
  },
  {
    file: RULES,
    code: "queue.length === 0 ? 0 : stale - freeForMs(record, holders, view),",
    from: "queue.length === 0 ? 0 : stale - freeForMs(record, holders, view)",
    to: "queue.length === 0 ? (-1) : stale - freeForMs(record, holders, view)",
    because: "only what is above 0 counts, and notes count only while theirs is",
  },
  {
    file: CODEC,
    code: "holders[0] ?? {};",
    from: "holders[0] ?? {}",
    to: "({})",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[1]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "holders[0] ?? {};",
    from: "holders[0]",
    to: "holders[(-1)]",
    because: BY_HAND,
  },
  {
    file: CODEC,
    code: "const more = fence ?? label ?? evicted ?? queue[0] ?? holders[1];",
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
    file: RULES,
    code: "const place = queue.findIndex((waiter) => waiter.seat === want.seat);",
    from: "queue.findIndex((waiter) => waiter.seat === want.seat)",
    to: "queue.findLastIndex((waiter) => waiter.seat === want.seat)",
    because: "a process is queued once: a record that says otherwise is refused when it is read",
  },
  {
    file: RULES,
    code: 'return record.evicted?.find((eviction) => eviction.token === token)?.reason ?? "expired";',
    from: "record.evicted?.find((eviction) => eviction.token === token)",
    to: "record.evicted?.findLast((eviction) => eviction.token === token)",
    because: "a token is granted once, so it is evicted once at most",
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(10000, 11, 31)",
    because: NEVER,
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(9998, 11, 31)",
    because: NEVER,
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(9999, 12, 31)",
    because: NEVER,
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(9999, 10, 31)",
    because: NEVER,
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(9999, 11, 32)",
    because: NEVER,
  },
  {
    file: "core/record/record.ts",
    code: "export const NEVER_MS: number = Date.UTC(9999, 11, 31);",
    from: "Date.UTC(9999, 11, 31)",
    to: "Date.UTC(9999, 11, 30)",
    because: NEVER,
  },
];
