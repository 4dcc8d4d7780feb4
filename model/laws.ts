/** The laws, asked of every state and of every commit that is applied. They know what is true, not what processes know. */

import type { Snapshot } from "../core/record/codec.ts";
import type { Mode } from "../core/record/modes.ts";
import { type Holder, isInTransit } from "../core/record/record.ts";
import { believes, owns } from "./members.ts";
import { type Flight, GRACE_MS, type Process, type Setup, type World } from "./world.ts";

/** A law is broken. */
export class Violation extends Error {
  constructor(law: number, what: string) {
    super(`law ${law}: ${what}`);
    this.name = "Violation";
  }
}

/** Law 1: those that believe that they hold the lock leave room for each other. An evicted holder may not know it yet. */
export function checkBeliefs({ processes, now, evicted }: World, { how }: Setup): void {
  const believing = processes.flatMap((process) =>
    process.alive
      ? process.holds.filter((hold) => believes(hold, now) && !evicted.includes(hold.token + hold.fence))
      : []
  );
  // One that has asked to share, or could not become the only one, counts on no more than that.
  const alone = believing.filter(({ settled }) => settled === "exclusive").length;
  if (alone === 0 || (alone === believing.length && alone <= how.limit)) return;
  throw new Violation(1, `${believing.map(({ token }) => token).join(" and ")} hold it at the same time`);
}

/** What a commit has made of the records. */
export interface Applied {
  readonly by: Process | undefined;
  readonly flight: Flight;
  readonly before: Snapshot;
  readonly after: Snapshot;
  readonly world: World;
}

/** Laws 3, 4 and 5 of a commit that is being applied. */
export function checkCommit(applied: Applied): void {
  const [was, is] = [applied.before.lock.record.holders, applied.after.lock.record.holders];
  for (const holder of is) {
    const before = was.find(({ token }) => token === holder.token);
    const isSame = before?.fence === holder.fence && before?.mode === holder.mode;
    if (before === undefined && isInTransit(holder)) checkHanded(applied, holder);
    else if (before === undefined || !isSame) checkGrant(applied, holder);
  }
  for (const holder of was) checkOthers(applied, holder, is);
}

/** Law 3: a fencing token is higher than all before. */
function checkGrant(applied: Applied, holder: Holder): void {
  const { world: { highest } } = applied;
  const { fence = "", token } = holder;
  if (!(fence > highest)) throw new Violation(3, `${token} has the fencing token ${fence}, after ${highest}`);
  checkOrder(applied, holder);
}

/** Law 4: what is handed over is what its process has held until then, in the same way. */
function checkHanded({ by, before, after }: Applied, { token, fence, mode }: Holder): void {
  const was = before.lock.record.holders.find((holder) => holder.fence === fence && holder.mode === mode);
  const stays = after.lock.record.holders.some((holder) => holder.token === was?.token);
  if (by !== undefined && was !== undefined && owns(by, was.token) && !stays) return;
  throw new Violation(4, `${token} is handed over, and was not held`);
}

/** Whether this commit takes up what was handed over under this token. */
function isTakenUp({ flight: { grants }, after }: Applied, handed: string): boolean {
  return grants.some(({ claim, token }) =>
    claim.restores === handed && after.lock.record.holders.some((holder) => holder.token === token)
  );
}

/** Law 4: what another holds is left alone while its lease runs, unless it leaves a notice. */
function checkOthers(applied: Applied, holder: Holder, is: readonly Holder[]): void {
  const { by, after, world: { now, ends } } = applied;
  const { token, fence, renewals } = holder;
  if (by !== undefined && owns(by, token)) return;
  const same = is.find((other) => other.token === token);
  if (same !== undefined && same.fence === fence && same.renewals === renewals) return;
  const isTold = same === undefined && after.lock.record.notices?.some((notice) => notice.token === token);
  if (isTold || now >= (ends[token] ?? -Infinity) || isTakenUp(applied, token)) return;
  throw new Violation(
    4,
    `${by?.name ?? "an operator"} touches the hold ${token}, which runs for ${ends[token] - now} ms more`,
  );
}

/** Law 5: no process goes past one that is queued, lives and waits, before that one has had its grace. */
function checkOrder({ before, after, flight, by, world }: Applied, holder: Holder): void {
  const { lock: { record }, queue } = before;
  // What was handed over is held all the time.
  if (flight.grants.some(({ claim, token }) => claim.restores !== undefined && token === holder.token)) {
    return;
  }
  const stands = record.holders.flatMap((before): Holder[] => {
    const is = after.lock.record.holders.find(({ token, fence }) =>
      token === before.token && fence === before.fence
    );
    if (is === undefined || is.token === holder.token) return [];
    // Only its own process may say that it does not wait to be the only one any more.
    return [by !== undefined && owns(by, is.token) ? is : before];
  });
  const joined = stands.find(({ upgrades }) => upgrades);
  if (joined !== undefined) {
    throw new Violation(5, `${holder.token} joins ${joined.token}, which waits to be the only one`);
  }
  if (record.queue === undefined || queue?.record.id !== record.queue || by === undefined) return;
  const { entries } = queue.record;
  const whose = holder.offeredTo ?? by.name;
  const place = entries.findIndex(({ participant }) => participant === whose);
  const passed = entries.slice(0, place < 0 ? entries.length : place).filter(({ participant, token }) => {
    const process = world.processes.find(({ name }) => name === participant)!;
    // One that has just been offered the lock, or has just left, is not passed; nor is one that gets it by this commit, too.
    return !after.lock.record.holders.some((other) => other.token === token) && process.alive &&
      process.name !== whose && process.requests.length > 0 &&
      process.queuedIn === record.queue && process.entryToken === token;
  });
  if (passed.length === 0) return;
  // Where readers stand, it is not known since when there is room for one more; for a writer there is none.
  if (stands.some(({ mode }) => mode === "shared") && passed.every((entry) => fits(stands, entry))) return;
  // A grant found after a lost answer is not made now; a hold that is confirmed had its turn.
  if (record.holders.some(({ token }) => owns(by, token)) && holder.offeredTo === undefined) return;
  const ends = record.holders.map(({ token }) => world.ends[token]);
  const freeMs = ends.length > 0 ? Math.max(...ends) : world.freeMs ?? Infinity;
  const freeForMs = flight.atMs - freeMs;
  if (freeForMs >= passed.length * GRACE_MS) return;
  throw new Violation(
    5,
    `${whose} goes past ${
      passed.map(({ participant }) => participant)
    }, ${freeForMs} ms after the lock was freed`,
  );
}

/** Whether one more may hold it next to those that stand: written anew, so that the rules are not asked about themselves. */
function fits(standing: readonly Mode[], { mode }: Mode): boolean {
  return standing.every((other) => other.mode === "shared" && mode === "shared" && !other.upgrades);
}
