// Records as a store may hold them, and what is wrong with those that nobody has written on purpose.
import fc from "fast-check";

/** Something that JSON can say. */
type Json = null | boolean | number | string | Json[] | { [member: string]: Json };
type Fields = { [member: string]: Json };

/** A text that is no record of a lock, and what was done to it. */
export interface Malformed {
  readonly text: string;
  readonly how: string;
}

const MOMENT = 1_764_000_000_000;
const MAX_MOMENT = 8.64e15;
const MAX_LEASE_MS = 2 ** 31 - 1;

const name = fc.string({ minLength: 1, maxLength: 20, unit: "grapheme" });
const label = fc.option(fc.string({ minLength: 1, maxLength: 128 }), { nil: undefined });
const moment = fc.oneof(
  fc.integer({ min: MOMENT - 100_000, max: MOMENT + 100_000 }),
  fc.constantFrom(0, -1, MAX_MOMENT, -MAX_MOMENT, 0.5),
);

const holder = fc.record({
  token: name,
  mode: fc.constant("exclusive"),
  limit: fc.constant(1),
  since: moment,
  leaseMs: fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.constantFrom(0.5, MAX_LEASE_MS)),
  expiresAt: moment,
  renewals: fc.oneof(fc.nat(10), fc.constant(Number.MAX_SAFE_INTEGER)),
  fence: fc.option(name, { nil: undefined }),
  label,
});
const waiter = fc.record({
  seat: name,
  mode: fc.constant("exclusive"),
  limit: fc.constant(1),
  since: moment,
  label,
});
const notice = fc.record({ token: name, reason: fc.constantFrom("stolen", "forced"), until: moment });

/** Records as this version may write them, with values at every edge. */
export const wellFormed: fc.Arbitrary<Fields> = fc.record({
  v: fc.constant(1),
  holders: fc.uniqueArray(holder, { maxLength: 3, selector: ({ token }) => token }),
  queue: fc.uniqueArray(waiter, { maxLength: 3, selector: ({ seat }) => seat }),
  evicted: fc.option(fc.array(notice, { maxLength: 3 }), { nil: undefined }),
  freedAt: fc.option(moment, { nil: undefined }),
}).map((record) => JSON.parse(JSON.stringify(record)));

const LISTS = {
  holders: { mode: "exclusive", limit: 1, since: MOMENT, leaseMs: 1000, expiresAt: MOMENT, renewals: 0 },
  queue: { mode: "exclusive", limit: 1, since: MOMENT },
  evicted: { reason: "stolen", until: MOMENT },
} as const;
type List = keyof typeof LISTS;

/** What names an item of each list. */
const NAMES: Record<List, string> = { holders: "token", queue: "seat", evicted: "token" };

const NOT_NUMBERS = [null, true, "5", "", [], {}, [5]];
const NOT_STRINGS = [null, false, 0, 5, [], {}, ["x"]];
const NOT_NAMES = [...NOT_STRINGS, "", "x".repeat(257), "\ud800"];
const NOT_LABELS = [...NOT_STRINGS, "", "x".repeat(129), "\udfff"];
const NOT_MOMENTS = [...NOT_NUMBERS, MAX_MOMENT + 2, -1e300];
const NOT_OBJECTS = [null, true, 5, "x", []];

/** For every member of every part, values that it cannot have. `undefined` deletes it. */
const WRONG: Record<List | "record", Record<string, readonly (Json | undefined)[]>> = {
  record: {
    v: [undefined, null, true, "1", 0, -1, 0.5, 2, 1e9, [1]],
    holders: [undefined, null, true, 5, "x", {}, { length: 0 }],
    queue: [undefined, null, true, 5, "x", {}, { length: 0 }],
    evicted: [null, true, 5, "x", {}],
    freedAt: NOT_MOMENTS,
  },
  holders: {
    token: [undefined, ...NOT_NAMES],
    mode: [undefined, null, true, 1, "", "Exclusive", "shared", ["exclusive"]],
    limit: [undefined, ...NOT_NUMBERS, 0, 2, 1.5, -1],
    since: [undefined, ...NOT_MOMENTS],
    leaseMs: [undefined, ...NOT_NUMBERS, 0, -1, MAX_LEASE_MS + 1, 1e300],
    expiresAt: [undefined, ...NOT_MOMENTS],
    renewals: [undefined, ...NOT_NUMBERS, -1, 0.5, 2 ** 53, 1e300],
    fence: NOT_NAMES,
    label: NOT_LABELS,
  },
  queue: {
    seat: [undefined, ...NOT_NAMES],
    mode: [undefined, null, true, 1, "", "Exclusive", "shared", ["exclusive"]],
    limit: [undefined, ...NOT_NUMBERS, 0, 2, 1.5, -1],
    since: [undefined, ...NOT_MOMENTS],
    label: NOT_LABELS,
  },
  evicted: {
    token: [undefined, ...NOT_NAMES],
    reason: [undefined, null, true, 5, "", "expired", "released", "Stolen"],
    until: [undefined, ...NOT_MOMENTS],
  },
};

/** An item of a list that is in order, at a random place. */
function plant(record: Fields, list: List, at: number): Fields {
  const item: Fields = { ...LISTS[list], [NAMES[list]]: "planted" };
  const items = (record[list] ?? []) as Json[];
  record[list] = items.toSpliced(at % (items.length + 1), 0, item);
  return item;
}

/** One member of one part has a value that it cannot have. */
const wrongMember = fc.constantFrom(...Object.keys(WRONG) as (keyof typeof WRONG)[]).chain((part) =>
  fc.constantFrom(...Object.keys(WRONG[part])).chain((member) =>
    fc.tuple(wellFormed, fc.constantFrom(...WRONG[part][member]), fc.nat(3)).map(([record, value, at]) => {
      const target = part === "record" ? record : plant(record, part, at);
      if (value === undefined) delete target[member];
      else target[member] = value;
      return { text: JSON.stringify(record), how: `${part}.${member} = ${JSON.stringify(value)}` };
    })
  )
);

/** One item of a list is none, there are too many, or one stands twice. */
const wrongList = fc.constantFrom(...Object.keys(LISTS) as List[]).chain((list) =>
  fc.tuple(
    wellFormed,
    fc.oneof(fc.constantFrom<Json>(...NOT_OBJECTS), fc.constantFrom("many", "twice")),
    fc.nat(3),
  )
    .map(([record, wrong, at]) => {
      const item = plant(record, list, at);
      const items = record[list] as Json[];
      if (wrong === "many" || (wrong === "twice" && list === "evicted")) {
        for (let i = 0; i < 65; i++) items.push({ ...item, [NAMES[list]]: `another ${i}` });
      } else if (wrong === "twice") items.push({ ...item });
      else items.splice(at % (items.length + 1), 0, wrong);
      return { text: JSON.stringify(record), how: `an item of ${list}: ${JSON.stringify(wrong)}` };
    })
);

/** What is no record from its first character on, or ends before its last. */
const wrongText = fc.oneof(
  fc.tuple(wellFormed, fc.nat()).map(([record, cut]) => {
    const text = JSON.stringify(record);
    return { text: text.slice(0, cut % text.length), how: "cut off" };
  }),
  wellFormed.map((record) => ({
    text: JSON.stringify(record) + " ".repeat(65_537),
    how: "longer than a record may be",
  })),
  wellFormed.map((record) => ({
    text: JSON.stringify(record).replace('"v":1', '"v":1e999'),
    how: "a number beyond all numbers",
  })),
  fc.string().filter((text) => !text.includes('"v":1')).map((text) => ({ text, how: "some text" })),
  fc.json().filter((text) => !text.includes('"v":1')).map((text) => ({ text, how: "some JSON" })),
  fc.constantFrom("", "null", "0", "[]", "{}", "NaN", '"{}"', "[".repeat(50_000), '{"v":1}').map((text) => ({
    text,
    how: "a classic",
  })),
);

/** Texts that are no record, whatever is right about the rest of them. */
export const malformed: fc.Arbitrary<Malformed> = fc.oneof(
  { weight: 8, arbitrary: wrongMember },
  { weight: 2, arbitrary: wrongList },
  { weight: 1, arbitrary: wrongText },
);
