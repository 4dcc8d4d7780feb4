/** Locks as people read them: in a table, or one at length. */

import type { ListedHolder, ListedLock, ListedMode } from "../core/operators/listing.ts";
import { printable } from "../core/printable.ts";
import { padded, shorten, split, widthOf } from "./columns.ts";
import { type Line, span } from "./terminal.ts";

const HEAD = ["LOCK", "HOLDER", "HELD FOR", "LEASE", "QUEUE"] as const;
const GAP = "  ";
/** The columns that give way where the terminal is too narrow: LOCK and HOLDER. The others are short and never cut. */
const NAMES = 2;
/** How few cells a name is cut down to at the least. */
const LEAST = 4;

interface Row {
  readonly cells: readonly string[];
  readonly isExpired: boolean;
}

/** The head and a row for each holder, in columns; on a terminal with `columns`, names are shortened to fit. */
export function table(found: readonly ListedLock[], columns = Infinity): [Line, ...Line[]] {
  // What is as wide as it will be shown.
  const rows = found.flatMap(rowsOf).map(({ cells, isExpired }) => ({
    cells: cells.map(printable),
    isExpired,
  }));
  const widths = HEAD.map((title, i) =>
    rows.reduce((most, { cells }) => Math.max(most, widthOf(cells[i])), title.length)
  );
  const others = widths.slice(NAMES).reduce((sum, width) => sum + GAP.length + width, GAP.length);
  // The last column of a terminal is left alone: some wrap when it is written to.
  const room = Math.max(columns - 1 - others, NAMES * LEAST);
  const [lock, holder] = split(room, widths[0], widths[1]);
  const fitted = [lock, holder, ...widths.slice(NAMES)];
  const line = ({ cells, isExpired }: Row): Line => {
    const [lock, holder, heldFor, lease, queue] = cells.map((cell, i) =>
      padded(i < NAMES ? shorten(cell, fitted[i]) : cell, fitted[i])
    );
    const before = [lock, holder, heldFor, ""].join(GAP);
    if (!isExpired) return (before + lease + GAP + queue).trimEnd();
    return [before, { text: lease, style: "red" }, (GAP + queue).trimEnd()];
  };
  const head = line({ cells: HEAD, isExpired: false }) as string;
  return [[{ text: head, style: "bold" }], ...rows.map(line)];
}

function rowsOf({ identifier, holders, waiters, unreadable }: ListedLock): Row[] {
  const queue = `${waiters.length}`;
  if (holders.length === 0) {
    const holder = unreadable === undefined ? "free" : `unreadable: ${unreadable}`;
    return [{ cells: [identifier, holder, "-", "-", queue], isExpired: false }];
  }
  return holders.map((holder, i) => ({
    // The queue is the lock's: said once, so that the numbers can be added.
    cells: [identifier, named(holder), span(holder.heldForMs), leaseOf(holder), i === 0 ? queue : ""],
    isExpired: holder.leaseLeftMs <= 0,
  }));
}

/** What `show` says of a lock, below its name. */
export function linesOf({ holders, waiters, unreadable }: ListedLock): Line[] {
  if (unreadable !== undefined) return [`unreadable     ${unreadable}`];
  const held = holders.flatMap((holder): Line[] => [
    `held by        ${name(holder)}`,
    ...(modeOf(holder) === "" ? [] : [`mode           ${modeOf(holder)}`]),
    `since          ${holder.since.toISOString()}, for ${span(holder.heldForMs)}`,
    holder.leaseLeftMs > 0
      ? `lease          ${leaseOf(holder)}`
      : ["lease          ", { text: leaseOf(holder), style: "red" }],
    `fencing token  ${holder.fencingToken}`,
  ]);
  const queued = waiters.map((waiter, i) =>
    `${i === 0 ? "queued" : "      "}         ${named(waiter)}, for ${span(waiter.waitingForMs)}`
  );
  return [...(held.length === 0 ? ["free"] : held), ...queued];
}

/** The label of a holder or waiter. */
export function name({ label }: { readonly label: string | undefined }): string {
  return label ?? "(no label)";
}

/** The name, and how it holds the lock or wants it, if that is not alone. */
function named(one: ListedMode & { readonly label: string | undefined }): string {
  const mode = modeOf(one);
  return mode === "" ? name(one) : `${name(one)} (${mode})`;
}

/** How a lock is held or wanted; nothing of one that is exclusive. */
export function modeOf(
  { mode, limit, permits, upgrading }: ListedMode & { readonly upgrading?: boolean },
): string {
  if (mode === "shared") return upgrading === true ? "shared, upgrading" : "shared";
  return limit === 1 ? "" : `${permits} of ${limit}`;
}

function leaseOf({ leaseLeftMs, released, handedOver }: ListedHolder): string {
  if (leaseLeftMs <= 0) return `expired ${span(leaseLeftMs)} ago`;
  if (handedOver) return `handed over, not taken up, ${span(leaseLeftMs)} left`;
  return released ? `released, kept for ${span(leaseLeftMs)}` : `${span(leaseLeftMs)} left`;
}
