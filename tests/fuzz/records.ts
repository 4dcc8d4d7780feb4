// Records of locks and queues as a store may hold them, and what is wrong with those that were not written on purpose.
import fc from "fast-check";

/** Something that JSON can say. */
type Json = null | boolean | number | string | Json[] | { [member: string]: Json };
type Fields = { [member: string]: Json };

/** Whose record it is, or should be. */
export type Kind = "lock" | "queue";

/** A text that is no record of its kind, and what was done to it. */
export interface Malformed {
  readonly kind: Kind;
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
const lease = fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.constantFrom(0.5, MAX_LEASE_MS));

/** How it is held or wanted. */
const mode = fc.oneof(
  fc.constant({ mode: "exclusive", limit: 1 }),
  fc.constantFrom(1, 2, 3).map((permits) => ({ mode: "exclusive", limit: 3, permits })),
  fc.constantFrom(1, 64, 1_000_000).map((limit) => ({ mode: "exclusive", limit })),
  fc.constant({ mode: "shared", limit: 1 }),
);
/** The same of one that shares it and may wait to be the only one. */
const held = fc.tuple(mode, fc.boolean()).map(([how, upgrades]) =>
  how.mode === "shared" && upgrades ? { ...how, upgrades: true } : how
);

const holder = fc.tuple(
  held,
  fc.record({
    token: name,
    since: moment,
    leaseMs: lease,
    expiresAt: fc.option(moment, { freq: 10 }),
    renewals: fc.oneof(fc.nat(10), fc.constant(Number.MAX_SAFE_INTEGER)),
    fence: fc.option(name, { nil: undefined }),
    formerFence: fc.option(name, { nil: undefined, freq: 3 }),
    label,
    offeredTo: fc.option(name, { nil: undefined, freq: 3 }),
  }),
).map(([how, rest]) => ({ ...how, ...rest }));
const entry = fc.tuple(
  mode,
  fc.record({
    participant: name,
    token: name,
    since: moment,
    label,
    turnMs: fc.option(lease, { nil: undefined, freq: 3 }),
  }),
)
  .map(([how, rest]) => ({ ...how, ...rest }));
const notice = fc.record({
  token: name,
  reason: fc.constantFrom("stolen", "forced"),
  leaseMs: lease,
  until: fc.option(moment, { freq: 10 }),
});

/** What the queue of the lock is called in most of these records. */
const QUEUE = "a queue";

/** Records as this version may write them, with values at every edge. */
export const wellFormed: Readonly<Record<Kind, fc.Arbitrary<Fields>>> = {
  lock: fc.record({
    v: fc.constant(1),
    holders: fc.uniqueArray(holder, { maxLength: 3, selector: ({ token }) => token }),
    queue: fc.option(fc.constant(QUEUE), { nil: undefined }),
    notices: fc.option(fc.array(notice, { maxLength: 3 }), { nil: undefined }),
    freedAt: fc.option(fc.option(moment), { nil: undefined }),
  }).map(written),
  queue: fc.record({
    v: fc.constant(1),
    id: fc.oneof({ weight: 3, arbitrary: fc.constant(QUEUE) }, name),
    entries: fc.uniqueArray(entry, { maxLength: 3, selector: ({ participant }) => participant }),
  }).map(written),
};

/** As it comes out of a store. */
function written(record: object): Fields {
  return JSON.parse(JSON.stringify(record));
}

type List = "holders" | "notices" | "entries";

/** What names an item of each list. */
const NAMES: Record<List, string> = { holders: "token", notices: "token", entries: "participant" };

/** An item of each list that is in order, but for its name. */
const ITEMS: Record<List, Fields> = {
  holders: { mode: "exclusive", limit: 1, since: MOMENT, leaseMs: 1000, expiresAt: MOMENT, renewals: 0 },
  notices: { reason: "stolen", leaseMs: 1000, until: MOMENT },
  entries: { token: "an entry's", mode: "exclusive", limit: 1, since: MOMENT },
};

const NOT_NUMBERS = [null, true, "5", "", [], {}, [5]];
const NOT_STRINGS = [null, false, 0, 5, [], {}, ["x"]];
const NOT_NAMES = [...NOT_STRINGS, "", "x".repeat(257), "\ud800"];
const NOT_LABELS = [...NOT_STRINGS, "", "x".repeat(129), "\udfff"];
const NOT_MOMENTS = [...NOT_NUMBERS, MAX_MOMENT + 2, -1e300];
const NOT_MOMENTS_OR_NULL = NOT_MOMENTS.filter((value) => value !== null);
const NOT_LEASES = [undefined, ...NOT_NUMBERS, 0, -1, MAX_LEASE_MS + 1, 1e300];
const NOT_OBJECTS = [null, true, 5, "x", []];

const NOT_LISTS: readonly Json[] = [null, true, 5, "x", {}, { length: 0 }];
const NOT_FORMATS = [undefined, null, true, "1", 0, -1, 0.5, 2, 1e9, [1]];
const NOT_MODES = [undefined, null, true, 1, "", "Exclusive", "upgradeable", ["exclusive"]];
const NOT_PERMITS = [...NOT_NUMBERS, 0, 1.5, -1, 1_000_001];
const NOT_LIMITS = [undefined, ...NOT_PERMITS];

/** A part of a record: which kind it is of, where it is, and for every member values that it cannot have. */
interface Part {
  readonly kind: Kind;
  /** The list that it is an item of; without one, it is the record itself. */
  readonly list?: List;
  /** `undefined` deletes the member. */
  readonly wrong: Readonly<Record<string, readonly (Json | undefined)[]>>;
}

const PARTS: readonly Part[] = [
  {
    kind: "lock",
    wrong: {
      v: NOT_FORMATS,
      holders: [undefined, ...NOT_LISTS],
      queue: NOT_NAMES,
      notices: NOT_LISTS,
      freedAt: NOT_MOMENTS_OR_NULL,
    },
  },
  {
    kind: "lock",
    list: "holders",
    wrong: {
      token: [undefined, ...NOT_NAMES],
      mode: NOT_MODES,
      limit: NOT_LIMITS,
      permits: NOT_PERMITS,
      since: [undefined, ...NOT_MOMENTS],
      leaseMs: NOT_LEASES,
      expiresAt: [undefined, ...NOT_MOMENTS_OR_NULL],
      renewals: [undefined, ...NOT_NUMBERS, -1, 0.5, 2 ** 53, 1e300],
      upgrades: [null, false, 1, "", "true", {}],
      fence: NOT_NAMES,
      formerFence: NOT_NAMES,
      label: NOT_LABELS,
      offeredTo: NOT_NAMES,
    },
  },
  {
    kind: "lock",
    list: "notices",
    wrong: {
      token: [undefined, ...NOT_NAMES],
      reason: [undefined, null, true, 5, "", "expired", "released", "Stolen"],
      leaseMs: NOT_LEASES,
      until: [undefined, ...NOT_MOMENTS_OR_NULL],
    },
  },
  {
    kind: "queue",
    wrong: { v: NOT_FORMATS, id: [undefined, ...NOT_NAMES], entries: [undefined, ...NOT_LISTS] },
  },
  {
    kind: "queue",
    list: "entries",
    wrong: {
      participant: [undefined, ...NOT_NAMES],
      token: [undefined, ...NOT_NAMES],
      mode: NOT_MODES,
      limit: NOT_LIMITS,
      permits: NOT_PERMITS,
      since: [undefined, ...NOT_MOMENTS],
      label: NOT_LABELS,
      turnMs: NOT_LEASES.slice(1),
    },
  },
];

/** An item of a list that is in order, at a random place. */
function plant(record: Fields, list: List, at: number): Fields {
  const item: Fields = { ...ITEMS[list], [NAMES[list]]: "planted" };
  const items = (record[list] ?? []) as Json[];
  record[list] = items.toSpliced(at % (items.length + 1), 0, item);
  return item;
}

/** One member of one part has a value that it cannot have. */
const wrongMember = fc.constantFrom(...PARTS).chain(({ kind, list, wrong }) =>
  fc.constantFrom(...Object.keys(wrong)).chain((member) =>
    fc.tuple(wellFormed[kind], fc.constantFrom(...wrong[member]), fc.nat(3)).map(([record, value, at]) => {
      const target = list === undefined ? record : plant(record, list, at);
      if (value === undefined) delete target[member];
      else target[member] = value;
      const how = `${list ?? kind}.${member} = ${JSON.stringify(value)}`;
      return { kind, text: JSON.stringify(record), how };
    })
  )
);

/** One item of a list is none, there are too many, or one stands twice. */
const wrongList = fc.constantFrom(...Object.keys(ITEMS) as List[]).chain((list) => {
  const kind = list === "entries" ? "queue" : "lock";
  const wrongs = fc.oneof(fc.constantFrom<Json>(...NOT_OBJECTS), fc.constantFrom("many", "twice"));
  return fc.tuple(wellFormed[kind], wrongs, fc.nat(3)).map(([record, wrong, at]) => {
    const item = plant(record, list, at);
    const items = record[list] as Json[];
    if (wrong === "many" || (wrong === "twice" && list === "notices")) {
      for (let i = 0; i < 65; i++) items.push({ ...item, [NAMES[list]]: `another ${i}` });
    } else if (wrong === "twice") items.push({ ...item });
    else items.splice(at % (items.length + 1), 0, wrong);
    return {
      kind,
      text: JSON.stringify(record),
      how: `an item of ${list}: ${JSON.stringify(wrong)}`,
    } as const;
  });
});

/** What is no record from its first character on, or ends before its last. */
const wrongText = fc.constantFrom<Kind>("lock", "queue").chain((kind) => {
  const text = wellFormed[kind].map((record) => JSON.stringify(record));
  return fc.oneof(
    fc.tuple(text, fc.nat()).map(([text, cut]) => ({
      text: text.slice(0, cut % text.length),
      how: "cut off",
    })),
    text.map((text) => ({ text: text + " ".repeat(65_537), how: "longer than a record may be" })),
    text.map((text) => ({ text: text.replace('"v":1', '"v":1e999'), how: "a number beyond all numbers" })),
    wellFormed[kind === "lock" ? "queue" : "lock"].map((other) => ({
      text: JSON.stringify(other),
      how: "a record of the other kind",
    })),
    fc.string().filter((text) => !text.includes('"v":1')).map((text) => ({ text, how: "some text" })),
    fc.json().filter((text) => !text.includes('"v":1')).map((text) => ({ text, how: "some JSON" })),
    fc.constantFrom("", "null", "0", "[]", "{}", "NaN", '"{}"', "[".repeat(50_000), '{"v":1}').map((
      text,
    ) => ({
      text,
      how: "a classic",
    })),
  ).map((wrong) => ({ kind, ...wrong }));
});

/** Texts that are no record, whatever is right about the rest of them. */
export const malformed: fc.Arbitrary<Malformed> = fc.oneof(
  { weight: 8, arbitrary: wrongMember },
  { weight: 2, arbitrary: wrongList },
  { weight: 1, arbitrary: wrongText },
);
