/**
 * What a lock promises, as sequential models of a few lines. They are written again on purpose: a checker that asked the code
 * under test what excludes what would believe its mistakes.
 */

import type { Ask, Hold } from "./history.ts";
import type { Model, Operation } from "./linearize.ts";

/** What is done with a lock: it is taken, seen to be held, and given back with an answer. */
export type Does =
  | (Ask & {
    readonly kind: "acquire";
    readonly id: string;
    readonly owner: string;
    readonly token: string;
    /** Whether nothing more shows that it is held, and no process releases it: it may lapse from here on. */
    readonly lapses: boolean;
  })
  | { readonly kind: "holds"; readonly id: string; readonly lapses: boolean }
  | { readonly kind: "release"; readonly id: string; readonly ours: boolean };

interface Holder extends Ask {
  readonly id: string;
  readonly owner: string;
}

/** Its holder, and the last fencing token. */
export interface LockState {
  readonly holders: readonly Holder[];
  readonly token: string;
}

/** What is checked in addition to that the holders leave room for each other. */
export interface LockModelOptions {
  /** Whether fencing tokens rise from grant to grant. */
  readonly fenced: boolean;
  /** Whether the holder of the lock is let through when it asks again. */
  readonly reentrant: boolean;
}

/** A lock: a mutex, one with permits, or one that readers share. Its holder, and no other process, releases it. */
export function lockModel({ fenced, reentrant }: LockModelOptions): Model<LockState, Does> {
  return {
    initial: { holders: [], token: "" },
    key: ({ holders, token }) => `${token}: ${holders.map(({ id }) => id).sort().join(" ")}`,
    step({ holders, token }, does) {
      const others = holders.filter(({ id }) => id !== does.id);
      const isHeld = others.length < holders.length;
      if (does.kind === "holds") return isHeld ? [{ holders: does.lapses ? others : holders, token }] : [];
      if (does.kind === "release") return does.ours === isHeld ? [{ holders: others, token }] : [];
      const { id, owner, mode, limit, permits, lapses } = does;
      const isInner = reentrant && holders.some((other) => other.owner === owner);
      // A caller that is let through has the token of the hold that it has.
      const isFenced = !fenced || (isInner ? does.token === token : does.token > token);
      const mine: Holder = { id, owner, mode, limit, permits };
      if (!isFenced || !(isInner || admits(holders, mine))) return [];
      return [{ holders: lapses ? holders : [...holders, mine], token: does.token }];
    },
  };
}

function admits(holders: readonly Ask[], ask: Ask): boolean {
  if (holders.length === 0) return true;
  if (holders.some(({ mode }) => mode !== ask.mode)) return false;
  if (ask.mode === "shared") return true;
  const all = [...holders, ask];
  const taken = all.reduce((sum, { permits }) => sum + permits, 0);
  return taken <= Math.min(...all.map(({ limit }) => limit));
}

/** What was done with one lock, as far as it was answered. What was not answered explains nothing, and need not be explained. */
export function operationsOn(holds: readonly Hold[]): readonly Operation<Does>[] {
  const byOwner = Map.groupBy(holds, ({ owner, token }) => `${owner} ${token}`);
  return holds.flatMap((hold): Operation<Does>[] => {
    const { id, owner, mode, limit, permits, token, askedAt, gotAt, left } = hold;
    const proofs = [...hold.proofs, ...insideOf(hold, byOwner.get(`${owner} ${token}`)!)]
      .sort((one, other) => one.from - other.from);
    // Of what was never given back, or was lost before, nothing is known behind the last proof.
    const lapses = left?.ours !== true;
    const operations: Operation<Does>[] = [{
      from: askedAt,
      to: gotAt,
      does: {
        kind: "acquire",
        id,
        owner,
        mode,
        limit,
        permits,
        token,
        lapses: lapses && proofs.length === 0,
      },
    }];
    for (const [i, { from, to }] of proofs.entries()) {
      operations.push({
        from,
        to,
        does: { kind: "holds", id, lapses: lapses && i === proofs.length - 1 },
      });
    }
    if (left !== undefined && left.ours !== null) {
      const { from, to, ours } = left;
      operations.push({ from, to, does: { kind: "release", id, ours } });
    }
    return operations;
  });
}

/** A caller that is let through under a hold shows that it is held: when it is let through, and whenever it sees that itself. */
function insideOf(outer: Hold, ofOwner: readonly Hold[]): Hold["proofs"] {
  return ofOwner.flatMap(({ id, askedAt, gotAt, proofs }) => {
    if (id === outer.id || askedAt < outer.gotAt || askedAt > (outer.left?.from ?? Infinity)) return [];
    return [{ from: askedAt, to: gotAt }, ...proofs];
  });
}
