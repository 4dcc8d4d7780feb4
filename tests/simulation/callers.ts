import { LockLostError } from "../../core/errors.ts";
import type { LockOptions } from "../../core/options.ts";
import type { SimBackend } from "./backend.ts";
import {
  acquireInOrder,
  type Hold,
  holdOf,
  Lock,
  lock as lockOf,
  type Participant,
  proofsOf,
  readClaim,
} from "./core.ts";
import { type Ask, CANCELLED, type Invariants, PlannedError } from "./invariants.ts";
import type { SimProcess } from "./process.ts";
import { type How, howOf } from "./modes.ts";
import { type HandOver, isOwn, type Round, type Schedule } from "./schedule.ts";

/** One participant of a process, as its callers use it. */
export interface Seat {
  readonly process: SimProcess;
  readonly backend: SimBackend;
  readonly participant: Participant;
}

/** What callers share. */
export interface Stage {
  readonly schedule: Schedule;
  readonly invariants: Invariants;
  /** Resolves when the faults are over. */
  readonly healed: Promise<void>;
  /** What stores make of each identifier. */
  keyOf(identifier: string): string;
  /** The n-th process, as its callers use it. */
  seat(n: number): Seat;
  /** Lets one more caller of a process do its work. */
  call(process: SimProcess, work: () => Promise<void>): void;
}

/** Asks for a lock by one of the public forms, works under it, and gives it back: one round of a caller. */
export async function play(
  stage: Stage,
  { process, backend, participant }: Seat,
  identifier: string,
  round: Round,
) {
  const { invariants } = stage;
  const { world } = process;
  const how = howOf(stage.schedule, round);
  await process.pause(round.pauseMs);
  const { form, leaseMs, renew, holdAtLeastMs, wait, waitForMs, stealAfterMs, abortAfterMs } = round;
  const controller = new AbortController();
  const aborting = abortAfterMs === undefined
    ? undefined
    : process.clock.after(abortAfterMs, () => controller.abort(CANCELLED));
  const { mode, limit, permits } = how;
  const { signal } = controller;
  const asked = { leaseMs, renew, holdAtLeastMs, wait, waitForMs, stealAfterMs, signal, backend };
  const options: LockOptions = mode === "shared" ? { ...asked, mode } : { ...asked, mode, limit, permits };
  const key = stage.keyOf(identifier);
  const own = isOwn(stage.schedule, round);
  const goesFirst = own && round.first === true && wait && mode === "exclusive" && limit === undefined;
  const ask: Ask = {
    process,
    participant,
    key,
    mayWait: wait && waitForMs !== 0,
    goesFirst,
    holdAtLeastMs,
    controller,
    askedMs: process.now,
  };
  invariants.onAsk(ask);
  // The key of a long identifier is made beside the event loop.
  if (key.length > 170 && !own) world.awaitOutside(() => ask.id !== undefined || controller.signal.aborted);
  const work = async (held?: Lock) => {
    process.clock.clear(aborting);
    await workUnder(stage, { process, backend, participant }, { ask, round, how, held });
    invariants.onReleasing(ask);
    if (round.ends === "throws") {
      invariants.mark("a caller threw");
      throw new PlannedError("the caller's own");
    }
  };
  try {
    const forms = lockOf(identifier, options);
    if (own) {
      const asking = goesFirst ? { ...options, stealAfterMs: 0 } : options;
      const hold = await acquireInOrder(participant, { identifier, key, options: asking, goesFirst });
      try {
        await work();
      } finally {
        invariants.onReleased(ask, await hold.release());
      }
    } else if (form === "run") await forms.run(work);
    else if (form === "wrap") await forms(() => work())();
    else {
      const held = await forms.acquire();
      let isHandedOver = false;
      try {
        await work(held);
        if (stage.schedule.claims && round.handOver !== undefined && round.ends === "returns") {
          isHandedOver = true;
          await handOver(stage, { ask, held, how: round.handOver });
        }
      } finally {
        const released = await held.release();
        if (!isHandedOver) {
          invariants.onReleased(ask, released);
          if (round.writes > 1) invariants.onReleased(ask, await held.release());
        } else invariants.check(!released, 2, `${process.name} has released what it had handed over`);
      }
    }
    invariants.onDone(ask, undefined);
  } catch (error) {
    invariants.onDone(ask, error);
  } finally {
    process.clock.clear(aborting);
  }
}

/** Hands a lock over to a process that takes it up after a while, and perhaps to another one that comes too late. */
async function handOver(
  stage: Stage,
  { ask, held, how }: { readonly ask: Ask; readonly held: Lock; readonly how: HandOver },
): Promise<void> {
  const claim = await held.handOver({ leaseMs: how.leaseMs });
  stage.invariants.onHandedOver(ask, readClaim(claim).token);
  const deliver = (to: number, afterMs: number) => {
    const seat = stage.seat(to);
    stage.call(seat.process, () => takeUp(stage, seat, { claim, how, key: ask.key, afterMs }));
  };
  deliver(how.to, how.transitMs);
  if (how.againMs !== undefined) deliver(how.to + 1, how.transitMs + how.againMs);
}

/** Takes up what was handed over, works under it, and gives it back. */
async function takeUp(
  { invariants }: Stage,
  { process, backend, participant }: Seat,
  { claim, how, key, afterMs }: {
    readonly claim: string;
    readonly how: HandOver;
    readonly key: string;
    readonly afterMs: number;
  },
): Promise<void> {
  await process.pause(afterMs);
  const controller = new AbortController();
  const aborting = how.abortAfterMs === undefined
    ? undefined
    : process.clock.after(how.abortAfterMs, () => controller.abort(CANCELLED));
  const { token, holdAtLeastMs } = readClaim(claim);
  const ask: Ask = {
    process,
    participant,
    key,
    mayWait: false,
    goesFirst: false,
    restores: token,
    holdAtLeastMs,
    controller,
    askedMs: process.now,
  };
  invariants.onAsk(ask);
  try {
    const held = await Lock.restore(claim, { backend, signal: controller.signal });
    process.clock.clear(aborting);
    invariants.onRestored(ask, held !== null);
    if (held !== null) {
      const untilMs = process.now + how.holdMs;
      while (process.now < untilMs && holdOf(held).held) await process.pause(Math.min(200, how.holdMs));
      invariants.onReleasing(ask);
      invariants.onReleased(ask, await held.release());
    }
    invariants.onDone(ask, undefined);
  } catch (error) {
    invariants.onDone(ask, error);
  } finally {
    process.clock.clear(aborting);
  }
}

async function workUnder(
  { invariants, healed, schedule }: Stage,
  { process, backend, participant }: Seat,
  { ask: { key, grant, controller }, round, how, held }: {
    readonly ask: Ask;
    readonly round: Round;
    readonly how: How;
    readonly held: Lock | undefined;
  },
): Promise<void> {
  const { holdMs, writes, leaseMs, abortsInside, ends, upgradeForMs } = round;
  const changes = [...how.changes];
  const hold: Hold = grant!.hold;
  if (abortsInside) controller.abort(CANCELLED);
  // Evenly over its work, and the last one just before it ends: there it may have been held up the longest.
  const stepMs = Math.max(1, holdMs / Math.max(1, writes, holdMs / 400));
  const untilMs = process.now + holdMs;
  for (let written = 0; process.now < untilMs && (held ?? hold).held;) {
    await process.pause(Math.min(stepMs, untilMs - process.now));
    if (schedule.claims && held?.held && round.extendMs !== undefined) {
      await held.extend(round.extendMs).then(
        () => invariants.mark("a lease extended by hand"),
        (error) => {
          invariants.checkError(error);
          if (error instanceof LockLostError) invariants.mark("a lease extended too late");
        },
      );
    }
    const change = changes.shift();
    if (held !== undefined && change !== undefined) {
      await (change === "up" ? held.upgrade({ waitForMs: upgradeForMs }) : held.downgrade())
        .catch((error) => invariants.onNotChanged(error));
    }
    if (written++ >= writes || !hold.held || hold.mode === "shared" || (how.limit ?? 1) > 1) continue;
    try {
      const base = await participant.store.bounded(backend.readValue(key), leaseMs);
      const proofs = await proofsOf(hold);
      const write = { base, fence: hold.fencingToken };
      const answer = await participant.store.bounded(backend.commitGuarded(key, proofs, write), leaseMs);
      invariants.check(
        answer !== "stale",
        2,
        `a stale guarded write of ${process.name} was accepted as proven`,
      );
      if (answer === "written") invariants.mark("a guarded write accepted");
    } catch (error) {
      invariants.checkError(error);
      if (error instanceof LockLostError) invariants.mark("a guarded write refused");
    }
  }
  if (ends !== "never") return;
  invariants.mark("a caller never ended");
  await healed;
}
