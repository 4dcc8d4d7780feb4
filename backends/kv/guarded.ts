/** The caller's own atomic operation, which Deno KV applies only if the lock's record has not changed, and only once. */

import type { Guard } from "../../core/guard.ts";
import type { Proof } from "../../core/hold.ts";
import type { KvAtomic, KvCommit, KvDatabase } from "./api.ts";
import { retried } from "./failures.ts";
import type { KvStore } from "./store.ts";

/** For how long, on top of two leases, it is remembered that a guarded commit was applied. */
const RECEIPT_MS = 300_000;

/** An atomic operation of Deno KV. */
type Atomic = ReturnType<KvDatabase["atomic"]>;

/** Commits under the records `proofs`. */
export async function commitUnder(
  { backend, leaseMs, bounded, failure }: Guard<KvStore>,
  proofs: readonly Proof[],
  atomic: Atomic,
): Promise<KvCommit> {
  const failed = (error: unknown) => {
    throw failure(error);
  };
  for (const { key, version } of proofs) {
    atomic.check({ key: backend.keyOf(key), versionstamp: version });
  }
  const receipt = backend.newReceiptKey();
  atomic.check({ key: receipt, versionstamp: null });
  atomic.set(receipt, new Uint8Array(), { expireIn: 2 * leaseMs + RECEIPT_MS });
  const result = await bounded(retried(() => atomic.commit(), backend.trouble)).catch(failed);
  if (result.ok) return result;
  // A client that got no answer sends again by itself, and is refused by what it has written before.
  const { versionstamp } = await bounded(retried(() => backend.kv.get(receipt), backend.trouble)).catch(
    failed,
  );
  return versionstamp === null ? result : { ok: true, versionstamp };
}

/** What the caller's function builds, for as many commits as it takes. */
export class Draft {
  /**
   * The atomic operation as the caller's function gets it. Deno's own is a promise by its looks and throws when
   * it is awaited, as what an async function returns is; and its `commit` is not the caller's to call.
   */
  readonly view: KvAtomic;
  readonly #kv: KvDatabase;
  readonly #calls: ((atomic: Atomic) => void)[] = [];
  /** What was built on, which refuses what is wrong at once; the first commit takes it. */
  #built: Atomic | undefined;

  constructor(kv: KvDatabase) {
    this.#kv = kv;
    const built = this.#built = kv.atomic();
    const view = {} as Record<string, unknown>;
    for (const name of ["check", "set", "delete", "sum", "min", "max", "mutate", "enqueue"] as const) {
      view[name] = (...args: never[]) => {
        const call = (atomic: Atomic) => void (atomic[name] as (...args: never[]) => unknown)(...args);
        call(built);
        this.#calls.push(call);
        return view;
      };
    }
    this.view = view as unknown as KvAtomic;
  }

  /** An atomic operation of all that was built, for one commit. */
  take(): Atomic {
    const built = this.#built;
    this.#built = undefined;
    if (built !== undefined) return built;
    const atomic = this.#kv.atomic();
    for (const call of this.#calls) call(atomic);
    return atomic;
  }
}
