// What a store may hold under the keys of a lock and its queue, what is seen in it, and what is written there.
import {
  changesOf,
  collectAfterMs,
  encodeLock,
  lockIn,
  nothingAt,
  queueIn,
  type Snapshot,
  snapshotAfter,
  snapshotOf,
  voidQueue,
} from "../core/record/codec.ts";
import { decodeLock, decodeQueue } from "../core/record/decode.ts";
import { UnreadableRecordError } from "../core/errors.ts";
import { FREE, type Holder, type LockRecord, NO_QUEUE, type QueueRecord } from "../core/record/record.ts";
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";

const HOLDER = {
  token: "a",
  mode: "exclusive",
  limit: 1,
  permits: undefined,
  upgrades: undefined,
  since: 5,
  leaseMs: 1000,
  expiresAt: 1005,
  renewals: 2,
  fence: "7",
  formerFence: undefined,
  label: "host 1",
  offeredTo: undefined,
} as const;
const NOTICE = { token: "c", reason: "stolen", leaseMs: 400, until: 900 } as const;
const RECORD: LockRecord = { v: 1, holders: [HOLDER], queue: "q", notices: [NOTICE], freedAt: 4 };
const ENTRY = {
  participant: "b",
  token: "b's",
  mode: "exclusive",
  limit: 1,
  permits: undefined,
  since: 6,
  label: "host 2",
  turnMs: 300,
} as const;
const QUEUE: QueueRecord = { v: 1, id: "q", entries: [ENTRY] };

/** Some of an item of a list: as many as that, named differently. */
const many = <Item extends object>(count: number, item: Item, name: string) =>
  Array.from({ length: count }, (_, i) => ({ ...item, [name]: `${i}` }));

// deno-lint-ignore no-explicit-any
type Parts = Record<string, any>;
const record = (parts: Parts) => JSON.stringify({ ...RECORD, ...parts });
const holder = (parts: Parts) => record({ holders: [{ ...HOLDER, ...parts }] });
const notice = (parts: Parts) => record({ notices: [{ ...NOTICE, ...parts }] });
const queue = (parts: Parts) => JSON.stringify({ ...QUEUE, ...parts });
const entry = (parts: Parts) => queue({ entries: [{ ...ENTRY, ...parts }] });

const NAME = "a string of 1 to 256 characters without lone surrogates, it is";
const LABEL = "a string of 1 to 128 characters without lone surrogates, it is";
const MOMENT = "a moment in milliseconds since the Unix epoch, it is";
const LEASE = "a number of milliseconds up to 2147483647, it is";
const COUNT = "a whole number from 0 on, it is";

/** What neither is, whatever it says. */
const REFUSED: readonly [text: string, says: string][] = [
  ["", "it is no JSON"],
  ["{", "it is no JSON"],
  [" ".repeat(65_537), "it must be at most 65536 characters long, it is a string of 65537 characters"],
  ["null", "it must be an object, it is null"],
  ["true", "it must be an object, it is true"],
  ["5", "it must be an object, it is 5"],
  ['"abc"', "it must be an object, it is a string of 3 characters"],
  ["[1,2]", "it must be an object, it is an array of 2"],
  ["{}", "v must be 1, it is undefined"],
  ['{"v":0}', "v must be 1, it is 0"],
  ['{"v":"2"}', "v must be 1, it is a string of 1 characters"],
  ['{"v":{}}', "v must be 1, it is an object"],
  ['{"v":2}', "a newer version of Holdfast wrote it (format 2)"],
];

/** What a store holds instead of a lock's record, and what is wrong with it. */
const REFUSED_LOCKS: readonly [text: string, says: string][] = [
  ...REFUSED,
  [queue({}), "holders must be an array of at most 64, it is undefined"],
  [record({ holders: undefined }), "holders must be an array of at most 64, it is undefined"],
  [record({ holders: { length: 0 } }), "holders must be an array of at most 64, it is an object"],
  [
    record({ holders: many(65, HOLDER, "token") }),
    "holders must be an array of at most 64, it is an array of 65",
  ],
  [record({ holders: [HOLDER, HOLDER] }), "holders names one of them twice"],
  [record({ holders: [HOLDER, 5] }), "holders[1] must be an object, it is 5"],
  [record({ queue: 5 }), `queue must be ${NAME} 5`],
  [record({ queue: "" }), `queue must be ${NAME} a string of 0 characters`],
  [record({ queue: [] }), `queue must be ${NAME} an array of 0`],
  [record({ notices: null }), "notices must be an array of at most 64, it is null"],
  [
    record({ notices: many(65, NOTICE, "token") }),
    "notices must be an array of at most 64, it is an array of 65",
  ],
  [record({ notices: [[]] }), "notices[0] must be an object, it is an array of 0"],
  [record({ freedAt: "5" }), `freedAt must be ${MOMENT} a string of 1 characters`],
  [record({ freedAt: false }), `freedAt must be ${MOMENT} false`],
  [holder({ token: undefined }), `holders[0].token must be ${NAME} undefined`],
  [holder({ token: "" }), `holders[0].token must be ${NAME} a string of 0 characters`],
  [holder({ token: null }), `holders[0].token must be ${NAME} null`],
  [holder({ token: ["x"] }), `holders[0].token must be ${NAME} an array of 1`],
  [holder({ token: "x".repeat(257) }), `holders[0].token must be ${NAME} a string of 257 characters`],
  [holder({ token: "\ud800" }), `holders[0].token must be ${NAME} a string of 1 characters`],
  [
    holder({ mode: "upgradeable" }),
    'holders[0].mode must be "exclusive" or "shared", it is a string of 11 characters',
  ],
  [holder({ mode: "shared", limit: 2 }), "holders[0].limit must be 1, it is 2"],
  [holder({ limit: 0 }), "holders[0].limit must be a whole number from 1 to 1000000, it is 0"],
  [holder({ limit: 1.5 }), "holders[0].limit must be a whole number from 1 to 1000000, it is 1.5"],
  [holder({ limit: 1_000_001 }), "holders[0].limit must be a whole number from 1 to 1000000, it is 1000001"],
  [holder({ limit: null }), "holders[0].limit must be a whole number from 1 to 1000000, it is null"],
  [holder({ limit: 5, permits: 6 }), "holders[0].permits must be a whole number from 1 to 5, it is 6"],
  [holder({ limit: 5, permits: 0 }), "holders[0].permits must be a whole number from 1 to 5, it is 0"],
  [holder({ permits: 2 }), "holders[0].permits must be 1, it is 2"],
  [holder({ upgrades: true }), "holders[0].upgrades must be true, and only in shared mode, it is true"],
  [
    holder({ mode: "shared", upgrades: false }),
    "holders[0].upgrades must be true, and only in shared mode, it is false",
  ],
  [holder({ formerFence: "" }), `holders[0].formerFence must be ${NAME} a string of 0 characters`],
  [holder({ since: "5" }), `holders[0].since must be ${MOMENT} a string of 1 characters`],
  [holder({ since: 8.64e15 + 1 }), `holders[0].since must be ${MOMENT} 8640000000000001`],
  [holder({ since: -8.64e15 - 1 }), `holders[0].since must be ${MOMENT} -8640000000000001`],
  [holder({ leaseMs: "5" }), `holders[0].leaseMs must be ${LEASE} a string of 1 characters`],
  [holder({ leaseMs: 0 }), `holders[0].leaseMs must be ${LEASE} 0`],
  [holder({ leaseMs: 2 ** 31 }), `holders[0].leaseMs must be ${LEASE} 2147483648`],
  [holder({ expiresAt: undefined }), `holders[0].expiresAt must be ${MOMENT} undefined`],
  [holder({ expiresAt: "5" }), `holders[0].expiresAt must be ${MOMENT} a string of 1 characters`],
  [holder({ renewals: "5" }), `holders[0].renewals must be ${COUNT} a string of 1 characters`],
  [holder({ renewals: -1 }), `holders[0].renewals must be ${COUNT} -1`],
  [holder({ renewals: 0.5 }), `holders[0].renewals must be ${COUNT} 0.5`],
  [holder({ fence: 5 }), `holders[0].fence must be ${NAME} 5`],
  [holder({ label: "x".repeat(129) }), `holders[0].label must be ${LABEL} a string of 129 characters`],
  [holder({ offeredTo: null }), `holders[0].offeredTo must be ${NAME} null`],
  [notice({ token: {} }), `notices[0].token must be ${NAME} an object`],
  [
    notice({ reason: "expired" }),
    'notices[0].reason must be "stolen" or "forced", it is a string of 7 characters',
  ],
  [notice({ until: undefined }), `notices[0].until must be ${MOMENT} undefined`],
  [notice({ leaseMs: undefined }), `notices[0].leaseMs must be ${LEASE} undefined`],
];

/** What a store holds instead of a queue's record, and what is wrong with it. */
const REFUSED_QUEUES: readonly [text: string, says: string][] = [
  ...REFUSED,
  [record({}), `id must be ${NAME} undefined`],
  [queue({ id: "" }), `id must be ${NAME} a string of 0 characters`],
  [queue({ entries: undefined }), "entries must be an array of at most 64, it is undefined"],
  [queue({ entries: "x" }), "entries must be an array of at most 64, it is a string of 1 characters"],
  [
    queue({ entries: many(65, ENTRY, "participant") }),
    "entries must be an array of at most 64, it is an array of 65",
  ],
  [queue({ entries: [ENTRY, { ...ENTRY, token: "another" }] }), "entries names one of them twice"],
  [queue({ entries: [null] }), "entries[0] must be an object, it is null"],
  [entry({ participant: 5 }), `entries[0].participant must be ${NAME} 5`],
  [entry({ token: undefined }), `entries[0].token must be ${NAME} undefined`],
  [entry({ token: "x".repeat(257) }), `entries[0].token must be ${NAME} a string of 257 characters`],
  [entry({ mode: undefined }), 'entries[0].mode must be "exclusive" or "shared", it is undefined'],
  [
    entry({ limit: "1" }),
    "entries[0].limit must be a whole number from 1 to 1000000, it is a string of 1 characters",
  ],
  [entry({ limit: 3, permits: 4 }), "entries[0].permits must be a whole number from 1 to 3, it is 4"],
  [entry({ since: false }), `entries[0].since must be ${MOMENT} false`],
  [entry({ label: "" }), `entries[0].label must be ${LABEL} a string of 0 characters`],
  [entry({ turnMs: 0 }), `entries[0].turnMs must be ${LEASE} 0`],
];

Deno.test("codec: what is no record of a lock is refused, with what is wrong with it", () => {
  for (const [text, says] of REFUSED_LOCKS) {
    const error = assertThrows(() => decodeLock("job", text), UnreadableRecordError);
    assertEquals(error.message, `the record of "job" cannot be read: ${says}`, text.slice(0, 200));
  }
  // What JSON's own error says may be a part of the record, and so of a token.
  assertEquals(
    assertThrows(() => decodeLock("job", '{"token":"s3cret'), UnreadableRecordError).cause,
    undefined,
  );
});

Deno.test("codec: what is no record of a queue is void, with what is wrong with it", () => {
  for (const [text, says] of REFUSED_QUEUES) {
    const { version, record, unreadable } = queueIn({ key: "job#queue", value: text, version: "7" });
    assertEquals([version, record], ["7", NO_QUEUE]);
    assertEquals(
      unreadable?.message,
      `the record of "job#queue" cannot be read: ${says}`,
      text.slice(0, 200),
    );
  }
});

Deno.test("codec: a lock's record is read as it was written, up to every bound", () => {
  const { fence: _fence, label: _label, ...bare } = { ...HOLDER, renewals: 0 };
  const alone = { queue: undefined, notices: undefined, freedAt: undefined };
  const records: Parts[] = [
    {},
    { holders: [], ...alone },
    { holders: [bare], ...alone },
    { holders: [{ ...bare, mode: "shared" }], ...alone },
    { holders: [{ ...bare, limit: 2 }], ...alone },
    { holders: [{ ...bare, renewals: 1 }], ...alone },
    { holders: many(64, HOLDER, "token"), queue: "x".repeat(256), notices: many(64, NOTICE, "token") },
    { holders: [{ ...HOLDER, token: "x".repeat(256), label: "x".repeat(128), fence: "🔒" }] },
    { holders: [{ ...HOLDER, since: -8.64e15, expiresAt: 8.64e15, leaseMs: 0.5, renewals: 0 }] },
    { holders: [{ ...HOLDER, leaseMs: 2 ** 31 - 1, renewals: Number.MAX_SAFE_INTEGER }] },
    { holders: [{ ...HOLDER, expiresAt: null }] },
    { holders: [{ ...HOLDER, offeredTo: "b" }] },
    { holders: [{ ...HOLDER, mode: "shared", upgrades: true }, { ...HOLDER, mode: "shared", token: "b" }] },
    { holders: [{ ...HOLDER, limit: 1_000_000, permits: 1_000_000 }] },
    { holders: [{ ...HOLDER, limit: 2, permits: 1, token: "x".repeat(256) }] },
    { holders: [{ ...bare, permits: 1 }], ...alone },
    { holders: [{ ...bare, formerFence: "6" }], ...alone },
    { notices: [{ ...NOTICE, reason: "forced" }, NOTICE] },
    { freedAt: 0 },
    { freedAt: null },
  ];
  for (const parts of records) {
    const written = { ...RECORD, ...parts } as LockRecord;
    const text = encodeLock(written);
    assertEquals(text, JSON.stringify(written));
    const read = decodeLock("job", text.padEnd(65_536));
    assertEquals(JSON.stringify(read), text);
    // Every member is there, if only to say that it says nothing: runtimes like objects of one shape.
    assertEquals(Object.keys(read), ["v", "holders", "queue", "notices", "freedAt"]);
  }
  assertEquals(lockIn({ key: "job", value: null, version: null }), { version: null, record: FREE });
  assertEquals(FREE, { v: 1, holders: [] });
});

Deno.test("codec: a record with as many holders as there may be is not too long for a store, whatever they are called", () => {
  const longest: Holder = {
    ...HOLDER,
    token: `${crypto.randomUUID()}/${Number.MAX_SAFE_INTEGER}`,
    limit: 1_000_000,
    permits: 1_000_000,
    since: 1_764_000_000_000,
    expiresAt: 1_764_000_000_000,
    leaseMs: 2 ** 31 - 1,
    renewals: Number.MAX_SAFE_INTEGER,
    fence: `${"0".repeat(20)}+63`,
    formerFence: `${"0".repeat(20)}+63`,
    offeredTo: crypto.randomUUID(),
  };
  const notice = { ...NOTICE, token: longest.token, until: longest.since };
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  const written = (label: string) => {
    const holders = many(64, { ...longest, label }, "token").map((holder, i) => ({
      ...holder,
      token: longest.token.slice(0, -2) + String(i).padStart(2, "0"),
    }));
    const text = encodeLock({ ...RECORD, holders, notices: many(64, notice, "until").map(() => notice) });
    return { text, labels: JSON.parse(text).holders.map(({ label }: Parts) => label) };
  };
  for (const label of ["x".repeat(128), "\u0001".repeat(128), "é".repeat(128), "🔒".repeat(64)]) {
    const { text } = written(label);
    assertEquals(bytes(text) <= 65_000, true, `${bytes(text)} bytes for ${JSON.stringify(label)}`);
  }
  // Labels go only where they do not fit.
  assertEquals(new Set(written("host 1").labels), new Set(["host 1"]));
  assertEquals(new Set(written("x".repeat(128)).labels), new Set(["x".repeat(128)]));
  assertEquals(new Set(written("\u0001".repeat(128)).labels), new Set([undefined]));
});

Deno.test("codec: a record of many holders that is a byte too long loses its labels, and nothing else", () => {
  const labelled = { ...HOLDER, label: "\u0001".repeat(128) };
  const written = (bytes: number): LockRecord => {
    const of = (longer: number) => ({
      ...RECORD,
      holders: many(64, labelled, "token").map((holder, i) => ({
        ...holder,
        token: holder.token.padStart(2, "0").padEnd(2 + Math.floor((longer + i) / 64), "x"),
      })),
    });
    return of(bytes - JSON.stringify(of(0)).length);
  };
  const longest = written(65_000);
  assertEquals(JSON.stringify(longest).length, 65_000);
  assertEquals(encodeLock(longest), JSON.stringify(longest));
  decodeLock("job", encodeLock(longest));
  const longer = written(65_001);
  const without = { ...longer, holders: longer.holders.map((holder) => ({ ...holder, label: undefined })) };
  assertEquals(encodeLock(longer), JSON.stringify(without));
});

Deno.test("codec: a queue's record is read as it was written, up to every bound", () => {
  const records: Parts[] = [
    {},
    { id: "x".repeat(256), entries: [] },
    { entries: many(64, ENTRY, "participant") },
    { entries: [{ ...ENTRY, participant: "x".repeat(256), token: "x".repeat(256), label: "x".repeat(128) }] },
    { entries: [{ ...ENTRY, label: undefined, since: -8.64e15 }] },
    { entries: [{ ...ENTRY, turnMs: undefined }] },
    { entries: [{ ...ENTRY, mode: "shared" }] },
    { entries: [{ ...ENTRY, limit: 1_000_000, permits: 1_000_000 }] },
  ];
  for (const parts of records) {
    const text = queue(parts);
    const read = decodeQueue("job#queue", text.padEnd(65_536));
    assertEquals(JSON.stringify(read), text);
    const seen = queueIn({ key: "job#queue", value: text, version: "7" });
    assertEquals(seen, { version: "7", record: read });
  }
  assertEquals(queueIn({ key: "job#queue", value: null, version: null }), {
    version: null,
    record: NO_QUEUE,
  });
  assertEquals(NO_QUEUE, { v: 1, id: "", entries: [] });
});

Deno.test("codec: a reader of a record knows the fencing token of every holder", () => {
  const granted: Holder = { ...HOLDER, fence: undefined };
  const other: Holder = { ...HOLDER, token: "other" };
  const seenIn = (holders: Holder[], version: string | null) =>
    lockIn({ key: "job", value: encodeLock({ ...RECORD, holders }), version });
  assertEquals(seenIn([granted, other], "9"), {
    version: "9",
    record: { ...RECORD, holders: [{ ...HOLDER, fence: "9" }, other] },
  });
  assertEquals(seenIn([other], "9"), { version: "9", record: { ...RECORD, holders: [other] } });
  // Of several that one commit has granted, each has its own, and they rise up to the version that comes next.
  const several = [granted, other, { ...granted, token: "b" }, ...many(11, granted, "token")];
  const fences = seenIn(several, "9").record.holders.map(({ fence }) => fence!);
  assertEquals(fences.slice(0, 4), ["9", "7", "9+01", "9+02"]);
  assertEquals(fences.at(-1), "9+12");
  const given = fences.filter((fence) => fence !== "7");
  assertEquals([...given, "90"], [...given, "90"].sort());
  // Nothing was read: there is no version that could be a fence.
  assertEquals(seenIn([granted], null), { version: null, record: { ...RECORD, holders: [granted] } });
});

Deno.test("codec: what a store says is no record is none, whatever it looks like", () => {
  const found = (key: string, value: string) => ({ key, value, version: "7", foreign: true });
  const lock = found("job", record({}));
  const error = assertThrows(() => lockIn(lock), UnreadableRecordError);
  assertStringIncludes(error.message, `it is ${lock.value}`);
  const line = found("job#queue", queue({}));
  const { unreadable, ...seen } = queueIn(line);
  assertEquals(seen, { version: "7", record: NO_QUEUE });
  assertStringIncludes(unreadable!.message, `it is ${line.value}`);
});

/** A lock and its queue, as they were seen. */
const SEEN: Snapshot = {
  key: "job",
  lock: { version: "7", record: RECORD },
  queue: { version: "8", record: QUEUE },
};

Deno.test("codec: a snapshot is made of what was read", () => {
  const lock = { key: "job", value: record({}), version: "7" };
  const both = snapshotOf(lock, { key: "job#queue", value: queue({}), version: "8" });
  assertEquals(both, SEEN);
  assertEquals(snapshotOf(lock, undefined), { ...SEEN, queue: undefined });
  assertEquals(nothingAt("job"), {
    key: "job",
    lock: { version: null, record: FREE },
    queue: { version: null, record: NO_QUEUE },
  });
  assertThrows(() => snapshotOf({ ...lock, value: "{}" }, undefined), UnreadableRecordError);
});

Deno.test("codec: of a queue that the store itself cannot read, nothing is known but that", () => {
  const error = new UnreadableRecordError("a list is in the way");
  assertEquals(voidQueue(error), { version: null, record: NO_QUEUE, unreadable: error });
});

Deno.test("codec: a snapshot after writes shows them, and what they left alone", () => {
  const granted: Holder = { ...HOLDER, fence: undefined };
  assertEquals(snapshotAfter(SEEN, {}, "9"), SEEN);
  assertEquals(snapshotAfter(SEEN, { lock: { ...RECORD, holders: [granted] } }, "9"), {
    ...SEEN,
    lock: { version: "9", record: { ...RECORD, holders: [{ ...HOLDER, fence: "9" }] } },
  });
  const entries = [ENTRY, { ...ENTRY, participant: "c" }];
  assertEquals(snapshotAfter(SEEN, { queue: { ...QUEUE, entries } }, "9"), {
    ...SEEN,
    queue: { version: "9", record: { ...QUEUE, entries } },
  });
  assertEquals(snapshotAfter(SEEN, { lock: null, queue: null }, "9"), nothingAt("job"));
});

Deno.test("codec: a commit names only the records that it changes", () => {
  assertEquals(changesOf(SEEN, {}, 10), []);
  assertEquals(changesOf(SEEN, { lock: RECORD }, 10), [
    { key: "job", version: "7", value: encodeLock(RECORD), expireInMs: 61_640, isOwn: undefined },
  ]);
  assertEquals(changesOf(SEEN, { queue: QUEUE }, 10), [
    { key: "job#queue", version: "8", value: JSON.stringify(QUEUE), expireInMs: 24 * 3_600_000 },
  ]);
  const deleted = { value: null, expireInMs: undefined };
  assertEquals(changesOf(SEEN, { lock: null, queue: null }, 10), [
    { key: "job", version: "7", ...deleted, isOwn: undefined },
    { key: "job#queue", version: "8", ...deleted },
  ]);
  // A process that takes back its own says so, of the lock: that no clock had a say in it.
  assertEquals(changesOf(SEEN, { lock: null, queue: null, isOwn: true }, 10).map(({ isOwn }) => isOwn), [
    true,
    undefined,
  ]);
  // Of a queue that was not looked at nothing is known: a process that writes it takes it for new.
  const [{ version }] = changesOf({ ...SEEN, queue: undefined }, { queue: QUEUE }, 10);
  assertEquals(version, null);
});

Deno.test("codec: a store keeps a record for a minute after its last use, and a queue's for its graces more", () => {
  const keptMs = (parts: Parts) => collectAfterMs({ ...FREE, ...parts }, 2.26);
  assertEquals(keptMs({}), 60_000);
  assertEquals(keptMs({ holders: [HOLDER, { ...HOLDER, leaseMs: 500 }] }), 61_000);
  assertEquals(keptMs({ holders: [{ ...HOLDER, leaseMs: 500 }, HOLDER] }), 61_000);
  assertEquals(keptMs({ notices: [NOTICE, { ...NOTICE, leaseMs: 300 }] }), 60_800);
  assertEquals(keptMs({ notices: [{ ...NOTICE, leaseMs: 300 }, NOTICE] }), 60_800);
  assertEquals(keptMs({ notices: [{ ...NOTICE, leaseMs: 2 ** 31 - 1 }] }), 2 ** 31 + 60_000 - 1);
  assertEquals(keptMs({ queue: "q" }), 60_145);
});
