import { LockDeadlockError, LockLostError } from "../../core/errors.ts";
import type { ExclusiveLockOptions, LockOptions, SharedLockOptions } from "../../core/options.ts";
import type { LockTargets } from "../../core/targets.ts";
import type { SimBackend } from "./backend.ts";
import {
  acquireInOrder,
  holdOf,
  Lock,
  lock as lockOf,
  type Participant,
  proofsOf,
  readClaim,
} from "./core.ts";
import { type Ask, CANCELLED, type Invariants, PlannedError } from "./invariants.ts";
import type { SimProcess } from "./process.ts";
import { type How, targetsOf } from "./modes.ts";
import { type HandOver, IDENTIFIERS, isOwn, type Round, type Schedule } from "./schedule.ts";

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
  round: Round,
) {
  const { invariants } = stage;
  const { world } = process;
  const targets = targetsOf(stage.schedule, round);
  const [first] = targets;
  const isOne = targets.length === 1;
  await process.pause(round.pauseMs);
  const { form, leaseMs, renew, holdAtLeastMs, wait, waitForMs, stealAfterMs, abortAfterMs } = round;
  const controller = new AbortController();
  const aborting = abortAfterMs === undefined
    ? undefined
    : process.clock.after(abortAfterMs, () => controller.abort(CANCELLED));
  const { signal } = controller;
  const asked = { leaseMs, renew, holdAtLeastMs, wait, waitForMs, stealAfterMs, signal, backend };
  const options: LockOptions = isOne ? { ...asked, ...optionsOf(first) } : asked;
  const named = targets.map((target) => ({ identifier: IDENTIFIERS[target.key], ...optionsOf(target) }));
  const keys = named.map(({ identifier }) => stage.keyOf(identifier));
  const { mode, limit } = first;
  const own = isOne && isOwn(stage.schedule, round);
  const goesFirst = own && round.first === true && wait && mode === "exclusive" && limit === undefined;
  const ask: Ask = {
    process,
    participant,
    keys,
    modes: targets.map(({ mode, limit = 1, permits }) => ({ mode, limit, permits })),
    mayWait: wait && waitForMs !== 0,
    goesFirst,
    holdAtLeastMs,
    controller,
    askedMs: process.now,
  };
  invariants.onAsk(ask);
  // The key of a long identifier is made outside of the event loop.
  if (keys.some((key) => key.length > 170) && !own) {
    world.awaitOutside(() => ask.id !== undefined || controller.signal.aborted);
  }
  const targeted = isOne ? named[0].identifier : named;
  const work = async (held?: Lock) => {
    process.clock.clear(aborting);
    // What has a separate entry is asked for below the forms, which know what code runs under it.
    if (!own) await nest(invariants, { process, ask, identifier: targeted, options, round });
    await workUnder(stage, { process, backend, participant }, { ask, round, targets, held });
    invariants.onReleasing(ask);
    if (round.ends === "throws") {
      invariants.mark("a caller threw");
      throw new PlannedError("the caller's own");
    }
  };
  try {
    const forms = lockOf(targeted, options);
    if (own) {
      const asking = goesFirst ? { ...options, stealAfterMs: 0 } : options;
      const [{ identifier }] = named;
      const hold = await acquireInOrder(participant, {
        identifier,
        key: keys[0],
        options: asking,
        goesFirst,
      });
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
  stage.invariants.claims.onHandedOver(ask, readClaim(claim).token);
  const deliver = (to: number, afterMs: number) => {
    const seat = stage.seat(to);
    stage.call(seat.process, () => takeUp(stage, seat, { claim, how, of: ask, afterMs }));
  };
  deliver(how.to, how.transitMs);
  if (how.againMs !== undefined) deliver(how.to + 1, how.transitMs + how.againMs);
}

/** Takes up what was handed over, works under it, and gives it back. */
async function takeUp(
  { invariants }: Stage,
  { process, backend, participant }: Seat,
  { claim, how, of, afterMs }: {
    readonly claim: string;
    readonly how: HandOver;
    readonly of: Ask;
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
    keys: of.keys,
    modes: of.modes,
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
    invariants.claims.onRestored(ask, held !== null);
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
  { ask, round, targets, held }: {
    readonly ask: Ask;
    readonly round: Round;
    readonly targets: ReturnType<typeof targetsOf>;
    readonly held: Lock | undefined;
  },
): Promise<void> {
  const { keys, grants, controller } = ask;
  const { holdMs, writes, leaseMs, abortsInside, ends, upgradeForMs } = round;
  const changes = [...targets[0].changes];
  const [{ hold }] = grants!;
  // What it writes under, if no other process may write meanwhile.
  const at = targets.findLastIndex(({ mode, limit = 1 }) => mode === "exclusive" && limit === 1);
  const mayWrite = () =>
    targets.length > 1 ? at >= 0 : hold.mode === "exclusive" && (targets[0].limit ?? 1) === 1;
  const key = keys[Math.max(0, at)];
  if (abortsInside) controller.abort(CANCELLED);
  // Evenly over its work, and the last one just before it ends: there it may have been held up the longest.
  const stepMs = Math.max(1, holdMs / Math.max(1, writes, holdMs / 400));
  const untilMs = process.now + holdMs;
  for (let written = 0; process.now < untilMs && (held ?? hold).held;) {
    await process.pause(Math.min(stepMs, untilMs - process.now));
    if (schedule.claims && held?.held && round.extendMs !== undefined) {
      await held.extend(round.extendMs).then(
        () => {
          invariants.mark("a lease extended by hand");
          if (keys.length > 1) invariants.mark("a lease of several locks extended by hand");
        },
        (error) => {
          invariants.checkError(error);
          if (error instanceof LockLostError) invariants.mark("a lease extended too late");
        },
      );
    }
    const change = changes.shift();
    if (held !== undefined && change !== undefined) {
      await (change === "up" ? held.upgrade({ waitForMs: upgradeForMs }) : held.downgrade())
        .catch((error) => invariants.onNotChanged(ask, error));
    }
    if (written++ >= writes || !hold.held || !mayWrite()) continue;
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

function optionsOf({ mode, limit, permits }: How): ExclusiveLockOptions | SharedLockOptions {
  return mode === "shared" ? { mode } : { mode, limit, permits };
}

/** Asks for the same once more, in the work under it: it is the same hold, or would wait for itself. */
async function nest(
  invariants: Invariants,
  { process, ask: { grants, modes }, identifier, options, round: { form, nests } }: {
    readonly process: SimProcess;
    readonly ask: Ask;
    readonly identifier: LockTargets;
    readonly options: LockOptions;
    readonly round: Round;
  },
): Promise<void> {
  const [{ hold }] = grants!;
  // What acquire has acquired has no code that runs under it; and a lease that ends by itself is waited for.
  if (form === "acquire" || nests === undefined || !options.renew || options.stealAfterMs !== undefined) {
    return;
  }
  // Next to one's own hold there may be room for one more.
  const isFull = modes.some(({ mode, limit }) => mode === "exclusive" && limit === 1);
  if (nests === "refused" && !isFull) return;
  // One that is held up while it asks may have lost its hold by then.
  if (process.stall !== undefined && process.stall.share > 0 || !process.look(() => hold.held)) return;
  const forms = lockOf(identifier, {
    ...options,
    signal: undefined,
    waitForMs: undefined,
    wait: true,
    reentrant: nests === "let through",
  });
  try {
    const token = await forms.run((held) => held.fencingToken);
    invariants.check(
      nests === "let through" && token === hold.fencingToken,
      5,
      `${process.name} was granted its own lock again`,
    );
    invariants.mark("let through under its own hold");
  } catch (error) {
    if (error instanceof LockLostError && !hold.held) return;
    const isRefused = nests === "refused" && error instanceof LockDeadlockError;
    invariants.check(isRefused, 5, `${process.name} asked for its own lock again: ${error}`);
    invariants.mark("refused, for it would wait for itself");
  }
}
