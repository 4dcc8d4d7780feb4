/** Shows locks, and takes them away. */

import process from "node:process";
import type { LockBackend } from "../core/backend.ts";
import { quote } from "../core/errors.ts";
import { forceRelease, locks } from "../core/operators/api.ts";
import { cleanup, type CleanupCounts } from "../core/operators/cleanup.ts";
import type { ListedHolder, ListedLock, ListedMode } from "../core/operators/listing.ts";
import { peek } from "../core/operators/observe.ts";
import { printable } from "../core/printable.ts";
import { consents, Drawing, print, printBold, span, tell } from "./terminal.ts";
import { EXIT } from "./usage.ts";

/** How often a live view looks again. */
const LOOK_MS = 1000;
/** How many cells a progress bar has. */
const BAR = 30;

const HEAD = ["LOCK", "HOLDER", "HELD FOR", "LEASE", "IN LINE"];

/** `ls` without `--watch`. */
export async function list(backend: LockBackend, prefix: string, asJson: boolean): Promise<number> {
  if (asJson) {
    for await (const lock of locks({ prefix, backend })) print([JSON.stringify(lock)]);
  } else {
    const [head, ...rows] = table(await all(backend, prefix));
    printBold(head);
    print(rows);
  }
  return EXIT.done;
}

/** `ls --watch`: draws the list anew on a terminal; on a pipe, prints it again whenever it has changed. */
export async function watch(backend: LockBackend, prefix: string, asJson: boolean): Promise<never> {
  const drawing = new Drawing(process.stdout);
  let before: string | undefined;
  for (;;) {
    const found = await all(backend, prefix);
    const state = JSON.stringify(found.map(({ identifier, holders, waiters, unreadable }) => [
      identifier,
      unreadable,
      holders.map(({ fencingToken, upgrading, handedOver }) => [fencingToken, upgrading, handedOver]),
      waiters.map(({ label, since }) => [label, since]),
    ]));
    if (drawing.live && !asJson) drawing.draw(fitting(table(found), drawing));
    else if (state !== before) print(asJson ? [JSON.stringify(found)] : [...table(found), ""]);
    before = state;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** `show`. */
export async function show(backend: LockBackend, identifier: string, asJson: boolean): Promise<number> {
  const lock = await peek(identifier, { backend });
  const { holders, waiters, unreadable } = lock;
  if (asJson) print([JSON.stringify(lock)]);
  else {
    printBold(lock.identifier);
    print(linesOf(lock));
  }
  if (unreadable !== undefined) return EXIT.unavailable;
  return holders.length + waiters.length > 0 ? EXIT.done : EXIT.absent;
}

/** What `show` says of a lock, below its name. */
export function linesOf({ holders, waiters, unreadable }: ListedLock): string[] {
  if (unreadable !== undefined) return [`unreadable     ${unreadable}`];
  const held = holders.flatMap((holder) => [
    `held by        ${name(holder)}`,
    ...(modeOf(holder) === "" ? [] : [`mode           ${modeOf(holder)}`]),
    `since          ${holder.since.toISOString()}, for ${span(holder.heldForMs)}`,
    `lease          ${leaseOf(holder)}`,
    `fencing token  ${holder.fencingToken}`,
  ]);
  const inLine = waiters.map((waiter, i) =>
    `${i === 0 ? "in line" : "       "}        ${named(waiter)}, for ${span(waiter.waitingForMs)}`
  );
  return [...(held.length === 0 ? ["held by        nobody"] : held), ...inLine];
}

/** `release --force`. */
export async function release(
  backend: LockBackend,
  identifier: string,
  fencingToken: string | undefined,
  yes: boolean,
): Promise<number> {
  const { holders, unreadable } = await peek(identifier, { backend });
  const targets = holders.filter((holder) =>
    fencingToken === undefined || holder.fencingToken === fencingToken
  );
  if (unreadable !== undefined) {
    tell(`${quote(identifier)} is unreadable: ${unreadable}`);
    return EXIT.unavailable;
  }
  if (targets.length === 0) {
    tell(`${quote(identifier)} is not held${fencingToken === undefined ? "" : " under that fencing token"}`);
    return EXIT.absent;
  }
  const each = targets.map((holder) => `${name(holder)}, who has held it for ${span(holder.heldForMs)}`);
  const whose = targets.length === 1 ? "His program runs" : "Their programs run";
  const question = `Take ${quote(identifier)} from ${
    each.join("; and from ")
  }? ${whose} on until it is noticed.`;
  if (!yes && !(await consents(question))) return EXIT.absent;
  let code: number = EXIT.done;
  for (const holder of targets) {
    // Only those that were asked about, not one who came after.
    if (await forceRelease(identifier, { backend, fencingToken: holder.fencingToken })) {
      print([`released ${quote(identifier)}, which ${name(holder)} held`]);
    } else {
      tell(`${quote(identifier)} is no longer held by ${name(holder)}`);
      code = EXIT.absent;
    }
  }
  return code;
}

/** `cleanup`. */
export async function clean(
  backend: LockBackend,
  prefix: string,
  olderThanMs: number | undefined,
  asJson: boolean,
  yes: boolean,
): Promise<number> {
  const which = prefix === "" ? "every lock" : `every lock that begins with ${quote(prefix)}`;
  const question = `Evict the holder of ${which} held for ${
    span(olderThanMs ?? 0)
  } or longer, dead or alive?`;
  if (olderThanMs !== undefined && !yes && !(await consents(question))) return EXIT.absent;
  const drawing = new Drawing(process.stderr);
  let total = 0;
  // Only a bar needs to know how long the way is.
  if (drawing.live) { for await (const _ of backend.list(prefix)) total++; }
  const onProgress = (counts: CleanupCounts) => drawing.draw([bar(counts, total)]);
  const counts = await cleanup({ backend, prefix, olderThanMs, onProgress }).finally(() => drawing.clear());
  const { seen, live, removed, evicted, gone, unreadable } = counts;
  const text =
    `${seen} seen: ${removed} removed, ${evicted} evicted, ${live} live, ${gone} gone, ${unreadable} unreadable`;
  print([asJson ? JSON.stringify(counts) : text]);
  return EXIT.done;
}

async function all(backend: LockBackend, prefix: string): Promise<ListedLock[]> {
  const found: ListedLock[] = [];
  for await (const lock of locks({ prefix, backend })) found.push(lock);
  return found.sort((a, b) => a.identifier < b.identifier ? -1 : 1);
}

/** The head and a row for each lock, in columns. */
export function table(found: readonly ListedLock[]): [string, ...string[]] {
  // What is as wide as it will be shown.
  const rows = found.map(({ identifier, holders, waiters, unreadable }) =>
    [
      identifier,
      unreadable === undefined ? holders.map(named).join(", ") || "nobody" : `unreadable: ${unreadable}`,
      holders.map(({ heldForMs }) => span(heldForMs)).join(", ") || "-",
      holders.map(leaseOf).join(", ") || "-",
      `${waiters.length}`,
    ].map(printable)
  );
  const widths = HEAD.map((title, i) =>
    rows.reduce((most, row) => Math.max(most, row[i].length), title.length)
  );
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd();
  return [line(HEAD), ...rows.map(line)];
}

/** As many lines as the terminal has room for. */
function fitting(lines: readonly string[], { rows }: Drawing): readonly string[] {
  if (lines.length < rows) return lines;
  return [...lines.slice(0, rows - 2), `… and ${lines.length - rows + 2} more`];
}

/** How far a cleanup has come. */
export function bar({ seen, removed, evicted }: CleanupCounts, total: number): string {
  const share = Math.min(1, total === 0 ? 1 : seen / total);
  const done = Math.round(share * BAR);
  const rest = `${Math.floor(100 * share)} %, ${seen} seen, ${removed} removed, ${evicted} evicted`;
  return `[${"#".repeat(done)}${".".repeat(BAR - done)}] ${rest}`;
}

function name({ label }: { readonly label: string | undefined }): string {
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
  if (leaseLeftMs <= 0) return `ended ${span(leaseLeftMs)} ago`;
  if (handedOver) return `handed over, not taken up, ${span(leaseLeftMs)} left`;
  return released ? `released, kept for ${span(leaseLeftMs)}` : `${span(leaseLeftMs)} left`;
}
