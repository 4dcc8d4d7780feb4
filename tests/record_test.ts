import { encode } from "../core/record/codec.ts";
import type { Holder, LockRecord } from "../core/record/record.ts";
import { release } from "../core/record/rules.ts";
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
const waiter = { seat: "b", mode: "exclusive", limit: 1, since: 1_764_000_000_000 } as const;
const eviction = { token: "a", reason: "stolen", until: 1_764_000_000_000 } as const;

Deno.test("record: what is written out by hand is the same JSON", () => {
  const records: Record<string, Partial<LockRecord>> = {
    "a grant": {},
    "with a label": { holders: [{ ...grant, label: '"quoted"\n' }] },
    "with an empty label": { holders: [{ ...grant, label: "" }] },
    renewed: { holders: [{ ...grant, fence: "7", renewals: 3 }] },
    "of a newer version": { holders: [{ ...grant, fence: "7", colour: "red" } as Holder] },
    "with a line": { queue: [waiter] },
    "with a note": { evicted: [eviction] },
    "of two holders": { holders: [grant, { ...grant, token: "other" }] },
    "of a line alone": { holders: [], queue: [waiter], freedAt: 1 },
    "of a note alone": { holders: [], evicted: [eviction] },
    "of nothing": { holders: [] },
  };
  for (const [name, parts] of Object.entries(records)) {
    const record: LockRecord = { v: 1, holders: [grant], queue: [], ...parts };
    assertEquals(encode(record), JSON.stringify(record), name);
  }
});

Deno.test("record: a release leaves no place in line in which nobody waits", () => {
  const own = { ...waiter, seat: "own" };
  const record: LockRecord = { v: 1, holders: [grant], queue: [own, waiter] };
  const line = (seat?: string) => release(record, grant.token, 0, undefined, seat)?.record?.queue;
  assertEquals([line("own"), line()], [[waiter], [own, waiter]]);
  const alone: LockRecord = { v: 1, holders: [grant], queue: [own] };
  assertEquals(release(alone, grant.token, 0, undefined, "own"), { record: null, granted: false });
});
