import { acquire } from "../../core/acquire.ts";
import { sweepOne } from "../../core/operators/cleanup.ts";
import { LockAcquisitionError, LockBackendError, LockLostError } from "../../core/errors.ts";
import type { Hold } from "../../core/hold.ts";
import { LocalQueue } from "../../core/local_queue.ts";
import { checkOptions } from "../../core/options.ts";
import { Peer } from "../../core/peer.ts";
import { proofOf } from "../../core/guard.ts";
import { encode, sightOf } from "../../core/record/codec.ts";
import type { Holder } from "../../core/record/record.ts";
import { evict } from "../../core/record/rules.ts";
import type { Mishap, Round, Schedule, Weather } from "./schedule.ts";
import { type Applied, SimBackend, SimStore } from "./store.ts";
import { randomFrom, SimProcess, World } from "./world.ts";

const KEY = "the lock";
const HORIZON_MS = 600_000;
/** How long an operator waits for the store. */
const SWEEP_LIMIT_MS = 500;

/** What a run came to, for those who want to see that the simulation does what it says. */
export interface Outcome {
  readonly grants: number;
  readonly losses: number;
  readonly refusals: number;
  readonly failures: number;
  readonly writes: number;
  readonly refusedWrites: number;
  readonly handOvers: number;
  readonly sweeps: number;
}

/** A lock as the laws follow it from its grant on. */
interface Grant {
  readonly hold: Hold;
  readonly process: SimProcess;
  /** Set when the caller begins to release. */
  releasing: boolean;
  /** What `release` came to. */
  released: boolean | undefined;
}

/** Someone who asks for the lock. */
interface Place {
  readonly process: SimProcess;
  readonly at: number;
}

/** Runs one schedule and throws at the first law that breaks. */
export async function run(schedule: Schedule, weather: Weather): Promise<Outcome> {
  const world = new World();
  const random = randomFrom(schedule.seed);
  const processes = schedule.processes.map(({ offsetMs, rate }, i) =>
    new SimProcess(world, `process ${i}`, offsetMs, rate)
  );
  const operator = new SimProcess(world, "operator", 0, 1);
  const laws = new Laws(world, weather, schedule);
  const store = new SimStore(world, schedule.network, random, (applied) => laws.onApplied(applied));
  const outcome = {
    grants: 0,
    losses: 0,
    refusals: 0,
    failures: 0,
    writes: 0,
    refusedWrites: 0,
    handOvers: 0,
    sweeps: 0,
  };
  const operators = new Peer(new SimBackend(store, operator, schedule.skewMs), operator.clock);
  /** One step of a cleanup: what it does, it does to what it has seen a while ago. */
  const sweepOnce = async (olderThanMs: number | undefined) => {
    laws.onStruck();
    const place = new LocalQueue(operators, KEY);
    const sight = await operators.read(KEY, SWEEP_LIMIT_MS);
    const swept = await sweepOne(place, olderThanMs, sight);
    laws.onStruck();
    if (swept === "removed" || swept === "evicted") outcome.sweeps++;
  };

  const work = async (process: SimProcess, peer: Peer, backend: SimBackend, round: Round) => {
    await process.pause(round.pauseMs);
    const controller = new AbortController();
    const { abortAfterMs } = round;
    const aborting = abortAfterMs === undefined
      ? undefined
      : process.clock.after(abortAfterMs, () => controller.abort(CANCELLED));
    const { leaseMs, renew, wait, waitForMs, stealAfterMs } = round;
    const { signal } = controller;
    const options = checkOptions({ leaseMs, renew, wait, waitForMs, stealAfterMs, signal });
    const place = laws.onAsk(process, options.mayWait);
    let hold: Hold;
    try {
      hold = await new Promise<Hold>((granted, failed) =>
        acquire(peer, KEY, KEY, options, (hold, error) => hold ? granted(hold) : failed(error))
      );
    } catch (error) {
      laws.onRefused(place, error);
      if (error instanceof LockAcquisitionError) outcome.refusals++;
      else if (error !== CANCELLED) outcome.failures++;
      return;
    } finally {
      process.clock.clear(aborting);
    }
    outcome.grants++;
    const grant = laws.onGranted(place, hold);
    const until = world.now + round.holdMs;
    for (let writes = 0; world.now < until && hold.held;) {
      await process.pause(Math.min(50, until - world.now));
      if (writes++ >= round.writes || !hold.held) continue;
      try {
        const base = await peer.bounded(backend.readValue(), leaseMs);
        const proof = await proofOf(hold);
        const write = { base, fence: hold.fencingToken };
        const answer = await peer.bounded(backend.commitGuarded(proof, write), leaseMs);
        laws.check(answer !== "stale", 2, `a stale guarded write of ${process.name} was accepted as proven`);
        if (answer === "written") outcome.writes++;
      } catch (error) {
        laws.checkError(error);
        if (error instanceof LockLostError) outcome.refusedWrites++;
      }
    }
    laws.onReleasing(grant);
    try {
      grant.released = await hold.release();
    } catch (error) {
      laws.checkError(error);
      outcome.failures++;
    }
    if (grant.released === false) outcome.losses++;
  };

  let open = 0;
  schedule.processes.forEach(({ workers }, i) => {
    const process = processes[i];
    const backend = new SimBackend(store, process, schedule.skewMs);
    const peer = new Peer(backend, process.clock);
    for (const rounds of workers) {
      open++;
      void (async () => {
        for (const round of rounds) await work(process, peer, backend, round);
        open--;
      })().catch((error) => laws.breakLaw(7, `a worker failed: ${error?.stack ?? error}`));
    }
  });
  for (const mishap of schedule.mishaps) {
    world.schedule(mishap.atMs, () => {
      if (mishap.kind === "sweep") {
        void sweepOnce(mishap.ms % 2 === 0 ? mishap.ms : undefined).catch((error) => laws.checkError(error));
      } else strike(mishap, processes[mishap.process], operator, store, laws, schedule.skewMs);
    });
  }

  const quiet = await world.run(HORIZON_MS, () => laws.throwBroken());
  laws.atEnd(processes, store, quiet, open);
  laws.throwBroken();
  return { ...outcome, handOvers: laws.handOvers };
}

const CANCELLED = new Error("cancelled by the caller");

function strike(
  { kind, ms }: Mishap,
  process: SimProcess | undefined,
  operator: SimProcess,
  store: SimStore,
  laws: Laws,
  skewMs: number,
): void {
  if (process === undefined) return;
  laws.onStruck();
  if (kind === "kill") process.kill();
  else if (kind === "step") process.offsetMs += ms % 2 === 0 ? 40 * ms : -40 * ms;
  else if (kind === "freeze") {
    process.freeze();
    store.world.schedule(ms, () => {
      process.thaw();
      laws.onThaw(process);
    });
  } else {
    const entry = store.records.get(KEY, store.world.now);
    const now = operator.clock.wallMs();
    const { record } = sightOf(entry);
    const next = evict(record, () => true, "forced", now, skewMs);
    if (next !== null) store.commit(operator, [{ ...entry, value: encode(next), expireInMs: 60_000 }]);
  }
}

/** Watches a run and remembers the first law that it breaks. */
class Laws {
  handOvers = 0;
  readonly #world: World;
  readonly #weather: Weather;
  readonly #schedule: Schedule;
  readonly #grants = new Map<string, Grant>();
  /** The commit that made each the holder. */
  readonly #named = new Map<string, Applied>();
  readonly #evictions = new Map<string, "stolen" | "forced">();
  /** Those of each process that may wait and have no outcome yet, in the order in which they asked. */
  readonly #asking = new Map<SimProcess, Place[]>();
  /** When anybody was last at work under the lock, or anything was done to a process. */
  #busyUntil = 0;
  #lastVersion = "";
  #broken: Error | undefined;

  constructor(world: World, weather: Weather, schedule: Schedule) {
    this.#world = world;
    this.#weather = weather;
    this.#schedule = schedule;
  }

  breakLaw(law: number, message: string): void {
    this.#broken ??= new Error(`Law ${law} broken at ${this.#world.now.toFixed(3)} ms: ${message}`);
  }

  check(condition: boolean, law: number, message: string): void {
    if (!condition) this.breakLaw(law, message);
  }

  checkError(error: unknown): void {
    const known = error === CANCELLED || error instanceof LockAcquisitionError ||
      error instanceof LockBackendError || error instanceof LockLostError;
    this.check(known, 7, `an error without a name: ${(error as Error)?.stack ?? error}`);
  }

  throwBroken(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  onAsk(process: SimProcess, mayWait: boolean): Place {
    const place = { process, at: this.#world.now };
    if (!this.#asking.has(process)) this.#asking.set(process, []);
    if (mayWait) this.#asking.get(process)!.push(place);
    return place;
  }

  onRefused(place: Place, error: unknown): void {
    this.checkError(error);
    const asking = this.#asking.get(place.process)!;
    if (asking.includes(place)) asking.splice(asking.indexOf(place), 1);
  }

  onGranted(place: Place, hold: Hold): Grant {
    const { process } = place;
    const { token, fencingToken } = hold;
    const asking = this.#asking.get(process)!;
    if (asking.includes(place)) {
      this.check(asking[0] === place, 5, `${process.name} granted a waiter before one that came earlier`);
      asking.splice(asking.indexOf(place), 1);
    }
    this.#checkDelay(place);
    this.check(
      this.#named.get(token)?.version === fencingToken,
      3,
      `fencing token ${fencingToken} is not the granting version ${this.#named.get(token)?.version}`,
    );
    const grant: Grant = {
      hold,
      process,
      releasing: false,
      released: undefined,
    };
    this.#busyUntil = this.#world.now;
    // From a grant on, nobody else may believe to hold the lock; a belief that has ended never returns.
    if (hold.held) this.#checkAlone(grant);
    this.#grants.set(token, grant);
    return grant;
  }

  onReleasing(grant: Grant): void {
    grant.releasing = true;
    this.#busyUntil = this.#world.now;
  }

  onStruck(): void {
    this.#busyUntil = this.#world.now;
  }

  /** The first look of a process that was frozen must tell it what it has lost meanwhile. */
  onThaw(process: SimProcess): void {
    this.onStruck();
    for (const grant of this.#grants.values()) {
      if (grant.process === process && !grant.releasing && grant.hold.held) this.#checkAlone(grant);
    }
  }

  onApplied(applied: Applied): void {
    const { process, version, before, after } = applied;
    this.check(version > this.#lastVersion, 3, `version ${version} does not rise over ${this.#lastVersion}`);
    this.#lastVersion = version;
    for (const { token, reason } of after.evicted ?? []) {
      if (reason === "stolen" || reason === "forced") this.#evictions.set(token, reason);
    }
    for (const holder of after.holders) {
      const was = before.holders.find(({ token }) => token === holder.token);
      if (was === undefined) {
        // Again if an earlier grant was lost before its answer came.
        this.#named.set(holder.token, applied);
        this.#evictions.delete(holder.token);
      }
      if (was === undefined || this.#named.get(holder.token)?.process === process) continue;
      const same = { ...was, fence: undefined };
      this.check(
        JSON.stringify({ ...holder, fence: undefined }) === JSON.stringify(same),
        4,
        `${process.name} changed the hold of another process`,
      );
    }
    for (const holder of before.holders) {
      if (after.holders.some(({ token }) => token === holder.token)) continue;
      this.#onRemoved(holder, process);
    }
    if (after.holders.length > 0 && before.holders.length === 0 && before.queue.length > 0) this.handOvers++;
    if (this.#weather !== "calm") return;
    // Nobody is late and nobody dies: who is first in line must be the next, in every grant.
    const granted = after.holders.find(({ token }) => !before.holders.some((was) => was.token === token));
    if (granted === undefined) return;
    const left = before.queue.filter(({ seat }) => !after.queue.some((waiter) => waiter.seat === seat));
    this.check(left.length <= 1, 5, `a grant passed over ${left.length - 1} live waiters`);
    if (before.queue.length > 0) {
      this.check(left[0] === before.queue[0], 5, "a grant went past the first in line");
    }
  }

  atEnd(processes: readonly SimProcess[], store: SimStore, quiet: boolean, open: number): void {
    const survivors = processes.filter(({ alive }) => alive);
    this.check(quiet, 6, "something still happens long after all work is done");
    if (survivors.length === processes.length) this.check(open === 0, 5, `${open} workers never finished`);
    for (const { hold, process, released } of this.#grants.values()) {
      if (!process.alive) continue;
      const told = hold.lost !== undefined && hold.signal.aborted;
      const reason = this.#evictions.get(hold.token);
      if (released === false) this.check(told, 2, `${process.name} lost the lock and was not told`);
      if (released === true) this.check(!told, 2, `${process.name} released the lock and was told a loss`);
      // By wrong clocks, the note that tells of an eviction may be gone before a repeated release looks.
      if (reason !== undefined && this.#weather !== "wild") {
        this.check(released !== true, 4, `${process.name} released a lock that had been ${reason}`);
      }
    }
    for (const process of survivors) {
      this.check(process.timers.size === 0, 6, `${process.name} has ${process.timers.size} timers left`);
    }
    const watching = [...store.watches.values()].filter(({ alive }) => alive);
    this.check(watching.length === 0, 6, `${watching.length} watches are still open`);
    if (this.#weather !== "calm") return;
    const { value } = store.records.get(KEY, this.#world.now);
    this.check(value === null, 6, `the record is still there: ${value}`);
  }

  /** Law 4, and law 1 from the other side: only one's own, the lapsed and the openly evicted are removed. */
  #onRemoved(holder: Holder, process: SimProcess): void {
    const grant = this.#grants.get(holder.token);
    if (grant === undefined || grant.process === process) return;
    if (this.#evictions.has(holder.token)) return;
    if (this.#weather === "wild" || !grant.process.runs || grant.releasing) return;
    this.check(!grant.hold.held, 4, `${process.name} removed the live hold of ${grant.process.name}`);
  }

  /** The lock may stand idle before a live waiter for a lease, and the graces of those who died in line. */
  #checkDelay({ at }: Place): void {
    const { network, processes, mishaps, skewMs } = this.#schedule;
    if (this.#weather === "wild" || network.loseAnswer + network.loseRequest > 0) return;
    const leases = processes.flatMap(({ workers }) => workers.flat().map(({ leaseMs }) => leaseMs));
    const tripMs = 3 * network.delayMs * (network.slow > 0 ? 10 : 1);
    const boundMs = (1 + mishaps.length) * (1.02 * Math.max(...leases) + skewMs) +
      processes.length * 20 * network.delayMs + 20 * tripMs;
    const idleMs = this.#world.now - Math.max(at, this.#busyUntil);
    this.check(
      idleMs <= boundMs,
      5,
      `the lock was idle for ${idleMs} ms before a live waiter, not ${boundMs}`,
    );
  }

  #checkAlone(grant: Grant): void {
    if (this.#weather === "wild") return;
    for (const other of this.#grants.values()) {
      if (other === grant || other.releasing || !other.process.runs) continue;
      const evicted = this.#evictions.has(other.hold.token) || this.#evictions.has(grant.hold.token);
      this.check(
        evicted || !other.hold.held,
        1,
        `${grant.process.name} and ${other.process.name} both hold the lock`,
      );
    }
  }
}
