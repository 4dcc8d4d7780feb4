/** The caller's own atomic operation, which Deno KV applies only if the lock's record has not changed, and only once. */

import type { Guard } from "../../core/guard.ts";
import type { Proof } from "../../core/hold.ts";
import type { KvAtomic, KvCommit } from "./api.ts";
import { retried } from "./failures.ts";
import type { KvStore } from "./store.ts";

/** For how long, on top of two leases, it is remembered that a guarded commit was applied. */
const RECEIPT_MS = 300_000;

/** Builds and commits under the records `proofs`. */
export async function commitUnder(
  { backend, leaseMs, bounded, failure }: Guard<KvStore>,
  proofs: readonly Proof[],
  build: (atomic: KvAtomic) => unknown,
): Promise<KvCommit> {
  const failed = (error: unknown) => {
    throw failure(error);
  };
  const atomic = backend.kv.atomic();
  for (const { key, version } of proofs) {
    atomic.check({ key: backend.keyOf(key), versionstamp: version });
  }
  const receipt = backend.newReceiptKey();
  atomic.check({ key: receipt, versionstamp: null });
  atomic.set(receipt, new Uint8Array(), { expireIn: 2 * leaseMs + RECEIPT_MS });
  await build(draftOf(atomic));
  const result = await bounded(retried(() => atomic.commit())).catch(failed);
  if (result.ok) return result;
  // A client that got no answer sends again by itself, and is refused by what it has written before.
  const { versionstamp } = await bounded(retried(() => backend.kv.get(receipt))).catch(failed);
  return versionstamp === null ? result : { ok: true, versionstamp };
}

/**
 * The atomic operation as the caller's function gets it. Deno's own is a promise by its looks and throws when
 * it is awaited, as what an async function returns is; and its `commit` is not the caller's to call.
 */
function draftOf(atomic: KvAtomic): KvAtomic {
  const draft = {} as Record<string, unknown>;
  for (const name of ["check", "set", "delete", "sum", "min", "max", "mutate", "enqueue"] as const) {
    draft[name] = (...args: never[]) => {
      (atomic[name] as (...args: never[]) => unknown)(...args);
      return draft;
    };
  }
  return draft as unknown as KvAtomic;
}
