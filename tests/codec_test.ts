// What a store may hold under a lock's key, and what is seen in it.
import { decode, encode, garbageAfterMs, sightOf, written } from "../core/record/codec.ts";
import { UnreadableRecordError } from "../core/errors.ts";
import { FREE, type Holder, type LockRecord } from "../core/record/record.ts";
import { assertEquals, assertThrows } from "@std/assert";

const HOLDER = {
  token: "a",
  mode: "exclusive",
  limit: 1,
  since: 5,
  leaseMs: 1000,
  expiresAt: 1005,
  renewals: 2,
  fence: "7",
  label: "host 1",
} as const;
const WAITER = { seat: "b", mode: "exclusive", limit: 1, since: 6, label: "host 2" } as const;
const NOTICE = { token: "c", reason: "stolen", until: 900 } as const;
const RECORD: LockRecord = { v: 1, holders: [HOLDER], queue: [WAITER], evicted: [NOTICE], freedAt: 4 };

/** Some of an item of a list: as many as that, named differently. */
const many = <Item extends object>(count: number, item: Item, name: string) =>
  Array.from({ length: count }, (_, i) => ({ ...item, [name]: `${i}` }));

// deno-lint-ignore no-explicit-any
type Parts = Record<string, any>;
const record = (parts: Parts) => JSON.stringify({ ...RECORD, ...parts });
const holder = (parts: Parts) => record({ holders: [{ ...HOLDER, ...parts }] });
const waiter = (parts: Parts) => record({ queue: [{ ...WAITER, ...parts }] });
const notice = (parts: Parts) => record({ evicted: [{ ...NOTICE, ...parts }] });

const NAME = "a string of 1 to 256 characters without lone surrogates, it is";
const LABEL = "a string of 1 to 128 characters without lone surrogates, it is";
const MOMENT = "a moment in milliseconds since the Unix epoch, it is";
const LEASE = "a number of milliseconds up to 2147483647, it is";
const COUNT = "a whole number from 0 on, it is";

/** What a store holds, and what is wrong with it. */
const REFUSED: readonly [text: string, says: string][] = [
  ["", "it is no JSON"],
  ["{", "it is no JSON"],
  [record({}).padEnd(65_537), "it must be at most 65536 characters long, it is a string of 65537 characters"],
  ["null", "it must be an object, it is null"],
  ["true", "it must be an object, it is true"],
  ["5", "it must be an object, it is 5"],
  ['"abc"', "it must be an object, it is a string of 3 characters"],
  ["[1,2]", "it must be an object, it is an array of 2"],
  [record({ v: undefined }), "v must be 1, it is undefined"],
  [record({ v: 0 }), "v must be 1, it is 0"],
  [record({ v: "2" }), "v must be 1, it is a string of 1 characters"],
  [record({ v: {} }), "v must be 1, it is an object"],
  [record({ v: 2 }), "a newer version of Holdfast wrote it (format 2)"],
  [record({ holders: undefined }), "holders must be an array of at most 64, it is undefined"],
  [record({ holders: { length: 0 } }), "holders must be an array of at most 64, it is an object"],
  [
    record({ holders: many(65, HOLDER, "token") }),
    "holders must be an array of at most 64, it is an array of 65",
  ],
  [record({ holders: [HOLDER, HOLDER] }), "holders names one of them twice"],
  [record({ holders: [HOLDER, 5] }), "holders[1] must be an object, it is 5"],
  [record({ queue: "x" }), "queue must be an array of at most 64, it is a string of 1 characters"],
  [record({ queue: many(65, WAITER, "seat") }), "queue must be an array of at most 64, it is an array of 65"],
  [record({ queue: [WAITER, WAITER] }), "queue names one of them twice"],
  [record({ queue: [null] }), "queue[0] must be an object, it is null"],
  [record({ evicted: null }), "evicted must be an array of at most 64, it is null"],
  [
    record({ evicted: many(65, NOTICE, "token") }),
    "evicted must be an array of at most 64, it is an array of 65",
  ],
  [record({ evicted: [[]] }), "evicted[0] must be an object, it is an array of 0"],
  [record({ freedAt: "5" }), `freedAt must be ${MOMENT} a string of 1 characters`],
  [record({ freedAt: null }), `freedAt must be ${MOMENT} null`],
  [holder({ token: undefined }), `holders[0].token must be ${NAME} undefined`],
  [holder({ token: "" }), `holders[0].token must be ${NAME} a string of 0 characters`],
  [holder({ token: null }), `holders[0].token must be ${NAME} null`],
  [holder({ token: ["x"] }), `holders[0].token must be ${NAME} an array of 1`],
  [holder({ token: "x".repeat(257) }), `holders[0].token must be ${NAME} a string of 257 characters`],
  [holder({ token: "\ud800" }), `holders[0].token must be ${NAME} a string of 1 characters`],
  [holder({ mode: "shared" }), 'holders[0].mode must be "exclusive", it is a string of 6 characters'],
  [holder({ limit: 2 }), "holders[0].limit must be 1, it is 2"],
  [holder({ since: "5" }), `holders[0].since must be ${MOMENT} a string of 1 characters`],
  [holder({ since: 8.64e15 + 1 }), `holders[0].since must be ${MOMENT} 8640000000000001`],
  [holder({ since: -8.64e15 - 1 }), `holders[0].since must be ${MOMENT} -8640000000000001`],
  [holder({ leaseMs: "5" }), `holders[0].leaseMs must be ${LEASE} a string of 1 characters`],
  [holder({ leaseMs: 0 }), `holders[0].leaseMs must be ${LEASE} 0`],
  [holder({ leaseMs: 2 ** 31 }), `holders[0].leaseMs must be ${LEASE} 2147483648`],
  [holder({ expiresAt: undefined }), `holders[0].expiresAt must be ${MOMENT} undefined`],
  [holder({ renewals: "5" }), `holders[0].renewals must be ${COUNT} a string of 1 characters`],
  [holder({ renewals: -1 }), `holders[0].renewals must be ${COUNT} -1`],
  [holder({ renewals: 0.5 }), `holders[0].renewals must be ${COUNT} 0.5`],
  [holder({ fence: 5 }), `holders[0].fence must be ${NAME} 5`],
  [holder({ label: "x".repeat(129) }), `holders[0].label must be ${LABEL} a string of 129 characters`],
  [waiter({ seat: 5 }), `queue[0].seat must be ${NAME} 5`],
  [waiter({ mode: undefined }), 'queue[0].mode must be "exclusive", it is undefined'],
  [waiter({ limit: "1" }), "queue[0].limit must be 1, it is a string of 1 characters"],
  [waiter({ since: false }), `queue[0].since must be ${MOMENT} false`],
  [waiter({ label: "" }), `queue[0].label must be ${LABEL} a string of 0 characters`],
  [notice({ token: {} }), `evicted[0].token must be ${NAME} an object`],
  [
    notice({ reason: "expired" }),
    'evicted[0].reason must be "stolen" or "forced", it is a string of 7 characters',
  ],
  [notice({ until: null }), `evicted[0].until must be ${MOMENT} null`],
];

Deno.test("codec: what is no record is refused, and told what is wrong with it", () => {
  for (const [text, says] of REFUSED) {
    const error = assertThrows(() => decode("job", text), UnreadableRecordError);
    assertEquals(error.message, `the record of "job" cannot be read: ${says}`, text.slice(0, 200));
  }
  // What JSON's own error says may be a part of the record, and so of a token.
  assertEquals(assertThrows(() => decode("job", '{"token":"s3cret'), UnreadableRecordError).cause, undefined);
});

Deno.test("codec: a record is read as it was written, up to every bound", () => {
  const { fence: _fence, label: _label, ...bare } = HOLDER;
  const records: Parts[] = [
    {},
    { holders: [], queue: [], evicted: undefined, freedAt: undefined },
    { holders: [bare], queue: [], evicted: undefined, freedAt: undefined },
    {
      holders: many(64, HOLDER, "token"),
      queue: many(64, WAITER, "seat"),
      evicted: many(64, NOTICE, "token"),
    },
    { holders: [{ ...HOLDER, token: "x".repeat(256), label: "x".repeat(128), fence: "🔒" }] },
    { holders: [{ ...HOLDER, since: -8.64e15, expiresAt: 8.64e15, leaseMs: 0.5, renewals: 0 }] },
    { holders: [{ ...HOLDER, leaseMs: 2 ** 31 - 1, renewals: Number.MAX_SAFE_INTEGER }] },
    { queue: [{ ...WAITER, label: undefined }] },
    { evicted: [{ ...NOTICE, reason: "forced" }, NOTICE] },
    { freedAt: 0 },
  ];
  for (const parts of records) {
    const written = { ...RECORD, ...parts } as LockRecord;
    const text = encode(written);
    assertEquals(text, JSON.stringify(written));
    const read = decode("job", text.padEnd(65_536));
    assertEquals(JSON.stringify(read), text);
    // Every member is there, if only to say that it says nothing: runtimes like objects of one shape.
    assertEquals(Object.keys(read), ["v", "holders", "queue", "evicted", "freedAt"]);
  }
  assertEquals(decode("job", null), FREE);
  assertEquals(FREE, { v: 1, holders: [], queue: [] });
});

Deno.test("codec: whoever reads a record knows the fencing token of every holder", () => {
  const granted: Holder = { ...HOLDER, fence: undefined };
  const other: Holder = { ...HOLDER, token: "other" };
  const seenIn = (holders: Holder[], version: string | null) =>
    sightOf({ key: "job", value: encode({ ...RECORD, holders }), version });
  assertEquals(seenIn([granted, other], "9"), {
    key: "job",
    version: "9",
    record: { ...RECORD, holders: [{ ...HOLDER, fence: "9" }, other] },
  });
  assertEquals(seenIn([other], "9"), { key: "job", version: "9", record: { ...RECORD, holders: [other] } });
  // Nothing was read: there is no version that could be a fence.
  assertEquals(seenIn([granted], null), {
    key: "job",
    version: null,
    record: { ...RECORD, holders: [granted] },
  });
  assertEquals(written("job", { ...RECORD, holders: [granted] }, "9").record.holders, [{
    ...HOLDER,
    fence: "9",
  }]);
  assertEquals(written("job", RECORD, "9"), { key: "job", version: "9", record: RECORD });
  assertEquals(written("job", null, "9"), { key: "job", version: null, record: FREE });
});

Deno.test("codec: a store keeps a record for a minute after its last use", () => {
  const now = 100;
  const keptMs = (parts: Parts) => garbageAfterMs({ ...FREE, ...parts }, now, 2.25);
  assertEquals(keptMs({}), 60_000);
  assertEquals(keptMs({ holders: [HOLDER, { ...HOLDER, leaseMs: 500 }] }), 61_000);
  assertEquals(keptMs({ holders: [{ ...HOLDER, leaseMs: 500 }, HOLDER] }), 61_000);
  assertEquals(keptMs({ evicted: [NOTICE, { ...NOTICE, until: 800 }] }), 60_800);
  assertEquals(keptMs({ evicted: [{ ...NOTICE, until: 8.64e15 }] }), 2 ** 31 + 60_000);
  assertEquals(keptMs({ queue: [WAITER, WAITER, WAITER] }), 60_007);
});
