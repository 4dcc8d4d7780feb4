/** Taking up a lock that another process has handed over. */

import type { LockBackend } from "./backend.ts";
import { onArrival } from "./arrivals.ts";
import { assertNamespace, type ClaimParts } from "./claim.ts";
import { backendFor } from "./configure.ts";
import type { CheckedOptions, CheckedRestore } from "./options.ts";
import { participantOf } from "./participant.ts";
import type { Done } from "./request.ts";

/** Takes up what a claim says, if it is there: once, and without waiting. Throws for a claim to another backend's locks. */
export function restore(claim: ClaimParts, given: CheckedRestore, done: Done): void {
  const options = optionsOf(claim, given);
  const { identifier, locks } = claim;
  const ask = (backend: LockBackend) => {
    given.signal?.throwIfAborted();
    assertNamespace(claim, backend.namespace);
    const participant = participantOf(backend);
    if (locks.length > 1) return participant.acquireAll({ identifier, locks, options }, done);
    participant.acquire({ identifier, key: locks[0].key, options }, done);
  };
  given.signal?.throwIfAborted();
  const backend = backendFor(options);
  if (!(backend instanceof Promise)) return ask(backend);
  onArrival({ identifier, backend, locks, signal: given.signal }, ask, (error) => done(undefined, error));
}

/** As the lock was held, unless it is said otherwise. */
function optionsOf(claim: ClaimParts, { leaseMs, ...given }: CheckedRestore): CheckedOptions {
  const { mode, limit, permits, kind, holdAtLeastMs, token } = claim;
  return {
    ...given,
    mode,
    limit,
    permits,
    kind,
    holdAtLeastMs,
    restores: token,
    leaseMs: leaseMs ?? claim.leaseMs,
    mayWait: false,
    waitForMs: undefined,
    stealAfterMs: undefined,
    reentrant: false,
  };
}
