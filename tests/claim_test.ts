// A claim as text: what is none is refused before anything is sent, and what shows it to people.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { memoryBackend } from "../backends/memory.ts";
import { linesOf, table } from "../cli/table.ts";
import { readClaim } from "../core/claim.ts";
import type { LockBackend } from "../core/backend.ts";
import { Lock, peek } from "../mod.ts";

/** A backend that must not be asked. */
function untouched(): LockBackend {
  const never = () => {
    throw new Error("the store was asked");
  };
  return { ...memoryBackend(), read: never, commit: never, watch: never, list: never };
}

const encode = (found: unknown) => `holdfast-claim-1.${btoa(JSON.stringify(found)).replace(/=+$/, "")}`;

async function aClaim(identifier: string | string[] = "x", options: object = {}): Promise<string> {
  const held = await Lock.acquire(identifier, { backend: memoryBackend(), ...options });
  return await held!.handOver();
}

Deno.test("claim: what is none is refused before anything is sent, and its text is not shown", async () => {
  const claim = await aClaim();
  const parts = readClaim(claim);
  const [lock] = parts.locks;
  const spoilt: unknown[] = [
    undefined,
    null,
    5,
    {},
    [claim],
    "",
    "x",
    claim.slice(0, -8),
    claim.slice(1),
    ` ${claim}`,
    claim.replace(".", ""),
    `${claim.slice(0, 40)}*${claim.slice(41)}`,
    encode(null),
    encode([]),
    encode({}),
    encode({ ...parts, token: undefined }),
    encode({ ...parts, token: "a token of another kind" }),
    encode({ ...parts, token: 5 }),
    encode({ ...parts, identifier: "" }),
    encode({ ...parts, locks: [] }),
    encode({ ...parts, locks: [{ ...lock, key: "" }] }),
    encode({ ...parts, locks: [{ ...lock, key: "\ud800" }] }),
    encode({ ...parts, locks: Array(17).fill(lock) }),
    encode({ ...parts, locks: { 0: lock, length: 1 } }),
    encode({ ...parts, mode: "upgradeable" }),
    encode({ ...parts, mode: "shared", limit: 2 }),
    encode({ ...parts, limit: 0 }),
    encode({ ...parts, limit: 2, permits: 3 }),
    encode({ ...parts, leaseMs: 0 }),
    encode({ ...parts, leaseMs: 2 ** 31 }),
    encode({ ...parts, leaseMs: 1.5 }),
    encode({ ...parts, holdAtLeastMs: -1 }),
    encode({ ...parts, kind: "medium" }),
    encode({ ...parts, namespace: 5 }),
  ];
  for (const text of spoilt) {
    const error = await Lock.restore(text as string, { backend: untouched() }).then(
      () => null,
      (error) => error,
    );
    assert(error instanceof TypeError, `${text}: ${error}`);
    assert(error.message.startsWith("Cannot restore: 'claim' must be"), error.message);
    assert(
      !error.message.includes(claim.slice(30, 50)) && !error.message.includes(parts.token),
      error.message,
    );
  }
  await assertRejects(
    () => Lock.restore("holdfast-claim-2.abc", { backend: untouched() }),
    TypeError,
    "another version",
  );
});

Deno.test("claim: what its members do not say is not read from the prototype of all objects", async () => {
  const parts = readClaim(await aClaim());
  const polluted = Object.prototype as { permits?: number };
  polluted.permits = 5;
  try {
    assertEquals(readClaim(encode(parts)).permits, undefined);
  } finally {
    delete polluted.permits;
  }
});

Deno.test("claim: it is text that any message can carry, whatever the identifiers are", async () => {
  for (const identifier of ["é 🔒 \u0000", "a long name, ".repeat(50), ["b", "ä, ö"]]) {
    const claim = await aClaim(identifier);
    assert(/^holdfast-claim-1\.[\w-]+$/.test(claim), claim);
    assertEquals(readClaim(claim).locks.map(({ identifier }) => identifier), [identifier].flat());
  }
});

Deno.test("claim: options that are none are refused before anything is sent", async () => {
  const claim = await aClaim();
  const restore = (options: object) => Lock.restore(claim, { backend: untouched(), ...options });
  await assertRejects(() => restore({ wait: true }), TypeError, "Cannot restore: there is no option 'wait'");
  await assertRejects(() => restore({ leaseMs: 99 }), RangeError, "from 100");
  await assertRejects(() => restore({ renew: 1 }), TypeError, "'renew' must be true or false");
  await assertRejects(() => restore({ backend: {} }), TypeError, "Cannot use 'backend'");
  await assertRejects(() => restore({ signal: AbortSignal.abort(new Error("enough")) }), Error, "enough");
  const elsewhere = { backend: { ...untouched(), namespace: "Redis other" } };
  await assertRejects(
    () => restore(elsewhere),
    TypeError,
    `is to "x" in memory, 'backend' keeps its locks in Redis`,
  );
});

Deno.test("claim: listings say what is in transit", async () => {
  const backend = memoryBackend();
  const held = await Lock.acquire("x", { backend, label: "worker 3" });
  assertEquals((await peek("x", { backend })).holders[0].handedOver, false);
  await held!.handOver({ leaseMs: 60_500 });
  const shown = await peek("x", { backend });
  const [holder] = shown.holders;
  assertEquals([holder.handedOver, holder.released, holder.label, holder.fencingToken], [
    true,
    false,
    "worker 3",
    held!.fencingToken,
  ]);
  const [, row] = table([shown]);
  assert(/worker 3 .*handed over, not taken up, 1 min.* left/.test(`${row}`), `${row}`);
  assert(linesOf(shown).some((line) => `${line}`.startsWith("lease          handed over, not taken up")));
});
