import { encodeLock } from "../core/record/codec.ts";
import {
  claimTokenOf,
  type Holder,
  isInTransit,
  isKept,
  keptTokenOf,
  type LockRecord,
  MAX_NOTICES,
  recordOrNull,
} from "../core/record/record.ts";
import { plan } from "../core/record/plan.ts";
import { evidence, members, snapshot } from "./rules/notation.ts";
import { assertEquals } from "@std/assert";

const grant: Holder = {
  token: "5f9c1d60-9f5e-4d0c-8a53-6b1f2a3c4d5e",
  mode: "exclusive",
  limit: 1,
  since: 1_764_000_000_000,
  leaseMs: 30_000,
  expiresAt: 1_764_000_030_000,
  renewals: 0,
  fence: undefined,
  label: undefined,
};
const eviction = { token: "a", reason: "stolen", leaseMs: 1000, until: 1_764_000_000_000 } as const;

Deno.test("record: what is written out by hand is the same JSON", () => {
  const records: Record<string, Partial<LockRecord>> = {
    "a grant": {},
    "a grant by one that does not know the time": { holders: [{ ...grant, expiresAt: null }] },
    "with a label": { holders: [{ ...grant, label: '"quoted"\n' }] },
    "with an empty label": { holders: [{ ...grant, label: "" }] },
    renewed: { holders: [{ ...grant, fence: "7", renewals: 3 }] },
    "of a newer version": { holders: [{ ...grant, fence: "7", colour: "red" } as Holder] },
    "that is an offer": { holders: [{ ...grant, offeredTo: "b" }] },
    "with a queue": { queue: "q" },
    "with a notice": { notices: [eviction] },
    "of two holders": { holders: [grant, { ...grant, token: "other" }] },
    "of a queue alone": { holders: [], queue: "q", freedAt: 1 },
    "of a notice alone": { holders: [], notices: [eviction] },
    "of nothing": { holders: [] },
  };
  for (const [name, parts] of Object.entries(records)) {
    const record: LockRecord = { v: 1, holders: [grant], ...parts };
    assertEquals(encodeLock(record), JSON.stringify(record), name);
  }
});

Deno.test("record: it has no empty parts, and nothing is left of one that says nothing", () => {
  assertEquals(recordOrNull({ holders: [], notices: [], freedAt: 5 }), null);
  const bare = { v: 1, holders: [grant], queue: undefined, notices: undefined, freedAt: undefined } as const;
  assertEquals(recordOrNull({ holders: [grant], notices: [], freedAt: 5 }), bare);
  assertEquals(recordOrNull({ holders: [], queue: "q", freedAt: null }), {
    ...bare,
    holders: [],
    queue: "q",
    freedAt: null,
  });
  const notices = Array.from({ length: MAX_NOTICES + 1 }, (_, i) => ({ ...eviction, token: `${i}` }));
  assertEquals(recordOrNull({ holders: [], notices })?.notices, notices.slice(1));
  assertEquals(recordOrNull({ holders: [], notices: [eviction] })?.notices, [eviction]);
});

Deno.test("record: a hold's token says that it is only kept, or handed over", () => {
  const kept = keptTokenOf({ token: "a" });
  const claim = claimTokenOf("a");
  assertEquals([kept, claim], ["kept/a", "claim/a"]);
  for (const token of ["a", kept, claim]) {
    assertEquals([isKept({ token }), isInTransit({ token })], [token === kept, token === claim]);
  }
});

Deno.test("record: a grant, a place in the queue and an offer, in full", () => {
  const asks = members("a");
  const [claim] = [...asks.requests].map((claim) => ({ ...claim, label: "host 1" }));
  const labelled = { ...asks, requests: [claim], firstRequest: claim };
  const how = { mode: "exclusive", limit: 1, permits: undefined, since: 5, label: "host 1" } as const;
  const held = { ...how, token: "a", leaseMs: 1000, expiresAt: 1005, renewals: 0 };
  const granted = plan(snapshot("-"), labelled, evidence("now=5"));
  assertEquals(granted, {
    lock: { v: 1, holders: [held] },
    grants: [{ claim, token: "a" }],
    waitMs: Infinity,
  });

  const left = plan(snapshot("a:1000"), members("idle a"), evidence(""));
  assertEquals(left, { lock: null, isOwn: true, waitMs: Infinity });

  const joined = plan(snapshot("b:1000 | c"), labelled, evidence("now=5"));
  const entry = { ...how, participant: "a", token: "A", turnMs: undefined };
  const [before] = snapshot("b:1000 | c").queue!.record.entries;
  assertEquals([joined.lock, joined.queue], [undefined, { v: 1, id: "q", entries: [before, entry] }]);

  const queued = {
    version: "8",
    record: { v: 1, id: "q", entries: [{ ...entry, label: "host 2" }] },
  } as const;
  const freed = plan({ ...snapshot("b:1000 | a"), queue: queued }, members("idle b"), evidence("now=9"));
  assertEquals(freed.lock?.holders, [{
    ...how,
    token: "A",
    since: 9,
    leaseMs: 75,
    expiresAt: 84,
    renewals: 0,
    label: "host 2",
    offeredTo: "a",
  }]);
  assertEquals(freed.queue, null);

  const found = { ...snapshot("a:1000^3"), queue: undefined };
  const renewed = plan(
    found,
    { ...labelled, intentOf: () => "renew", claimOf: () => claim, leaseMsOf: () => claim.leaseMs },
    evidence("now=9"),
  );
  assertEquals(renewed.lock?.holders, [{
    ...held,
    since: 3,
    expiresAt: 1009,
    renewals: 1,
    fence: "fence of a",
    upgrades: undefined,
  }]);
});

Deno.test("record: what becomes of an entry and of a hold says what they said", () => {
  const labelled = { ...members("a").firstRequest!, label: "host 1" };
  const entry = {
    participant: "a",
    token: "A",
    mode: "shared",
    limit: 1,
    since: 7,
    label: "host 0",
  } as const;
  const queue = { version: "8", record: { v: 1, id: "q", entries: [entry] } } as const;
  const asks = { ...members("a"), requests: [labelled] };
  const changed = plan({ ...snapshot("b:1000 | a"), queue }, asks, evidence("now=9"));
  assertEquals(changed.queue?.entries, [{
    ...entry,
    mode: "exclusive",
    permits: undefined,
    label: "host 1",
  }]);

  const found = snapshot("a:1000^3/r");
  const [before] = found.lock.record.holders;
  const held = {
    ...found,
    lock: { ...found.lock, record: { v: 1, holders: [{ ...before, label: "host 0" }] } },
  } as const;
  const holds = { ...members("keeps a shared up"), claimOf: () => labelled };
  const upgraded = plan(held, holds, evidence("now=9"));
  assertEquals(upgraded.lock?.holders, [{
    token: "a",
    mode: "exclusive",
    limit: 1,
    permits: undefined,
    since: 9,
    leaseMs: 1000,
    expiresAt: 1009,
    renewals: 0,
    label: "host 1",
    formerFence: "fence of a",
  }]);

  const left = plan(held, members("rests a shared lease=300"), evidence("now=9"));
  assertEquals(left.lock?.holders, [{
    token: "k",
    mode: "shared",
    limit: 1,
    permits: undefined,
    since: 3,
    leaseMs: 300,
    expiresAt: 309,
    renewals: 1,
    fence: "fence of a",
    label: "host 0",
  }]);
});
