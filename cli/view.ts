/** Lists and shows locks, and evicts their holders. */

import process from "node:process";
import type { LockBackend } from "../core/backend.ts";
import { quote } from "../core/errors.ts";
import { forceRelease, locks } from "../core/operators/api.ts";
import { cleanup, type CleanupCounts } from "../core/operators/cleanup.ts";
import type { ListedLock } from "../core/operators/listing.ts";
import { peek } from "../core/operators/observe.ts";
import { linesOf, name, table } from "./table.ts";
import { consents, Drawing, isTerminal, type Line, print, span, tell } from "./terminal.ts";
import { EXIT } from "./usage.ts";

/** How often a live view looks again. */
const LOOK_MS = 1000;
/** How many cells a progress bar has. */
const BAR = 30;

/** What is shown instead of rows, where people read it. */
const NONE = "No lock is held or waited for.";

/** `ls` without `--watch`. */
export async function list(backend: LockBackend, prefix: string, asJson: boolean): Promise<number> {
  if (asJson) {
    for await (const lock of locks({ prefix, backend })) print([JSON.stringify(lock)]);
  } else {
    const found = await all(backend, prefix);
    print(found.length === 0 && isTerminal() ? [NONE] : table(found));
  }
  return EXIT.done;
}

/** `ls --watch`: redraws the list on a terminal; on a pipe, prints it again whenever it has changed. */
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
    if (drawing.live && !asJson) drawing.draw(screenOf(found, drawing));
    else if (state !== before) print(asJson ? [JSON.stringify(found)] : [asOf(), ...table(found), ""]);
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
    print([[{ text: lock.identifier, style: "bold" }], ...linesOf(lock)]);
  }
  if (unreadable !== undefined) return EXIT.unavailable;
  return holders.length + waiters.length > 0 ? EXIT.done : EXIT.absent;
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
  const each = targets.map((holder) => `${name(holder)} (held for ${span(holder.heldForMs)})`);
  const whose = targets.length === 1 ? "Its program keeps" : "Their programs keep";
  const question = `Evict ${each.join(" and ")} from ${quote(identifier)}? ${whose} running until the loss ` +
    "is noticed.";
  if (!yes && !(await consents(question))) return EXIT.absent;
  let code: number = EXIT.done;
  for (const holder of targets) {
    // Only the holds that the question named, not a later one.
    if (await forceRelease(identifier, { backend, fencingToken: holder.fencingToken })) {
      print([`evicted ${name(holder)} from ${quote(identifier)}`]);
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
  const which = prefix === "" ? "any lock" : `any lock whose name begins with ${quote(prefix)}`;
  const question = `Evict every holder that has held ${which} for ${
    span(olderThanMs ?? 0)
  } or longer, alive or not?`;
  if (olderThanMs !== undefined && !yes && !(await consents(question))) return EXIT.absent;
  const drawing = new Drawing(process.stderr);
  let total = 0;
  // Only a progress bar needs the total.
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

/** What a terminal shows: when the store was read, and as many rows as there is room for. */
function screenOf(found: readonly ListedLock[], { rows, columns }: Drawing): Line[] {
  const [head, ...lines] = table(found, columns);
  // Three lines are not for rows: the time, the head, and where the cursor stands.
  const room = Math.max(1, rows - 3);
  const shown = lines.length <= room
    ? lines
    : [...lines.slice(0, room - 1), `… and ${lines.length - room + 1} more`];
  return [asOf(), head, ...(found.length === 0 ? [NONE] : shown)];
}

/** When the store was read, by the clock on the wall. */
function asOf(): string {
  return `as of ${new Date().toTimeString().slice(0, "00:00:00".length)}`;
}

/** How far a cleanup has come. */
export function bar({ seen, removed, evicted }: CleanupCounts, total: number): string {
  const share = Math.min(1, total === 0 ? 1 : seen / total);
  const done = Math.round(share * BAR);
  const rest = `${Math.floor(100 * share)} %, ${seen} seen, ${removed} removed, ${evicted} evicted`;
  return `[${"#".repeat(done)}${".".repeat(BAR - done)}] ${rest}`;
}
