/** A hold on its way from one process to another, as text. */

import { MAX_MS } from "./clock.ts";
import { printable } from "./printable.ts";
import type { Hold } from "./hold.ts";
import { LOCK_KINDS, type LockKind } from "./options.ts";
import { MAX_LIMIT, type Mode } from "./record/modes.ts";
import { isInTransit } from "./record/record.ts";
import { type KeyedLock, MAX_TARGETS } from "./targets.ts";
import { describe, refuse } from "./validate.ts";

/** What every claim begins with: people and secret scanners see what it is. The number is the version of what follows. */
const PREFIX = "holdfast-claim-1.";
const ANY_PREFIX = /^holdfast-claim-\d+\./;

/** What a claim says of the hold that was handed over. */
export interface ClaimParts extends Mode {
  /** Where its records are kept, if its backend says so. */
  readonly namespace: string | undefined;
  /** The identifier that was asked for; of several, all of them with commas between them. */
  readonly identifier: string;
  /** Of its locks, the keys of their records, and how each is held. */
  readonly locks: readonly KeyedLock[];
  readonly kind: LockKind;
  /** The secret under which the records keep it. */
  readonly token: string;
  /** The lease that it had while it was held. */
  readonly leaseMs: number;
  /** How old it is to become at least from when it is taken up. */
  readonly holdAtLeastMs: number | undefined;
}

/** The claim to a hold that the records keep under `token`. */
export function claimOf(hold: Hold, token: string): string {
  const { identifier, mode, request: { limit, permits }, lock, ageMs } = hold;
  const { kind, leaseMs, holdAtLeastMs } = hold.options;
  const { keys: [key], locks, store: { backend: { namespace } } } = lock;
  const leastMs = holdAtLeastMs === undefined ? 0 : Math.ceil(holdAtLeastMs - ageMs);
  return write({
    namespace,
    identifier,
    locks: locks ?? [{ key, identifier, how: { mode, limit, permits } }],
    kind,
    token,
    mode,
    limit,
    permits,
    leaseMs,
    holdAtLeastMs: leastMs > 0 ? leastMs : undefined,
  });
}

function write(parts: ClaimParts): string {
  // Escapes keep it to characters that every encoder takes.
  const text = JSON.stringify(parts).replace(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return PREFIX + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** What a claim says. Throws TypeError for what is none, without its text: that may contain the secret. */
export function readClaim(claim: unknown): ClaimParts {
  if (typeof claim !== "string") refuse("Cannot restore: 'claim' must be a string from handOver()", claim);
  if (!claim.startsWith(PREFIX) && ANY_PREFIX.test(claim)) {
    throw new TypeError("Cannot restore: 'claim' is of another version of Holdfast than this one can read");
  }
  try {
    if (!claim.startsWith(PREFIX)) throw new TypeError("it does not begin as one");
    const encoded = claim.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/");
    return partsIn(JSON.parse(atob(encoded)));
  } catch {
    const what = `it is ${claim.length} other characters, or some are missing`;
    throw new TypeError(`Cannot restore: 'claim' must be the whole string from handOver(), ${what}`);
  }
}

/** Refuses a claim to locks that this backend does not keep, as far as both say where they do. */
export function assertNamespace({ namespace, identifier }: ClaimParts, found: string | undefined): void {
  if (namespace === undefined || found === undefined || namespace === found) return;
  throw new TypeError(
    `Cannot restore: 'claim' is to ${printable(describe(identifier))} in ${printable(namespace)}, ` +
      `'backend' keeps its locks in ${printable(found)}`,
  );
}

type Fields = { readonly [name: string]: unknown };

/** All of it is checked: it comes from outside, and a missing member would be read from the prototype of all objects. */
function partsIn(found: unknown): ClaimParts {
  const { namespace, identifier, locks, kind, token, mode, limit, permits, leaseMs, holdAtLeastMs } = own(
    found,
  );
  demand(namespace === undefined || typeof namespace === "string");
  demand(kind === LOCK_KINDS.STRONG || kind === LOCK_KINDS.WEAK);
  demand(isCount(leaseMs, MAX_MS) && (holdAtLeastMs === undefined || isCount(holdAtLeastMs, MAX_MS)));
  demand(isName(token) && isInTransit({ token }));
  demand(Array.isArray(locks) && locks.length > 0 && locks.length <= MAX_TARGETS);
  return {
    namespace,
    identifier: name(identifier),
    locks: locks.map((lock) => {
      const { key, identifier, how } = own(lock);
      return { key: name(key), identifier: name(identifier), how: modeIn(own(how)) };
    }),
    kind,
    token,
    ...modeIn({ mode, limit, permits }),
    leaseMs,
    holdAtLeastMs,
  };
}

function modeIn({ mode, limit, permits }: Fields): Mode {
  const isShared = mode === "shared";
  demand(isShared || mode === "exclusive");
  demand(isCount(limit, isShared ? 1 : MAX_LIMIT) && (permits === undefined || isCount(permits, limit)));
  return { mode: isShared ? "shared" : "exclusive", limit, permits };
}

function demand(holds: boolean): asserts holds {
  if (!holds) throw new TypeError("it says something else than a claim does");
}

function own(found: unknown): Fields {
  demand(typeof found === "object" && found !== null && !Array.isArray(found));
  return Object.assign(Object.create(null), found);
}

function isCount(found: unknown, most: number): found is number {
  return Number.isInteger(found) && (found as number) >= 1 && (found as number) <= most;
}

function isName(found: unknown): found is string {
  return typeof found === "string" && found !== "" && found.isWellFormed();
}

function name(found: unknown): string {
  demand(isName(found));
  return found;
}
