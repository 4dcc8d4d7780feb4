/** What is done to the processes, the network, the clocks and the store while a torture run lasts. */

import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { now } from "../support/child.ts";
import type { Crew, Seat } from "./crew.ts";
import type { FaultLine } from "./history.ts";
import type { TorturedStore } from "./stores.ts";
import { markOf } from "./witness.ts";

/** What happens to one process, or to the line that it has. */
const OF_PROCESSES = [
  "process killed",
  "process frozen",
  "line cut",
  "line slow",
  "line half-open",
  "clock set",
] as const;
/** What happens to the store, and so to all. */
const OF_STORE = ["store killed", "store frozen", "disk full"] as const;
/** Their names. */
export const FAULTS = [...OF_PROCESSES, ...OF_STORE];
/** What no run plays, and every run may meet: an operator has stopped it, or the machine has no time for it. */
export const STANDSTILL = "machine stood still";
export const ENDED = "process ended by itself";
export type Fault = (typeof FAULTS)[number];

/** A cycle: faults at random, then calm, in which a holder is killed and nothing else happens: how long recovery takes. */
const CYCLE_MS = 12_000;
const CALM_MS = 5500;
/** The seat whose process is never killed: its memory is looked at. */
const SPARED_SEAT = 0;
/** By how much a clock may be wrong where the server gives the time. */
const ANY_MS = 5000;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const between = (least: number, most: number) => least + Math.random() * (most - least);

/** What a storm needs. */
export interface StormOptions {
  readonly crew: Crew;
  readonly store: TorturedStore;
  readonly folder: string;
  /** Whether this fault may happen in this run. */
  readonly allows: (fault: Fault) => boolean;
  /** The locks whose holders are aimed at. In a calm it is the first of them. */
  readonly aims: readonly string[];
  readonly leaseMs: number;
  /** Whether what lasts a while always lasts for longer than a lease, and aims at a holder. */
  readonly isCruel: boolean;
  /** Ends it before its time. */
  readonly signal: AbortSignal;
  /** The processes in the queue of a lock, first come first, as the store has them. */
  readonly waitersOf: (lock: string) => Promise<readonly string[]>;
}

export class Storm {
  readonly #options: StormOptions;
  readonly #busy = new Set<Seat>();
  readonly #running = new Set<Promise<void>>();
  readonly counts = new Map<Fault, number>();
  /** When the store was hurt last. */
  #storeMs = -Infinity;

  constructor(options: StormOptions) {
    this.#options = options;
  }

  /** Rages until `endMs`, then mends everything. */
  async rage(endMs: number): Promise<void> {
    const started = now();
    const { signal } = this.#options;
    while (now() < endMs && !signal.aborted) {
      this.#replaceEnded();
      const atMs = (now() - started) % CYCLE_MS;
      const isCalm = atMs > CYCLE_MS - CALM_MS && this.#options.allows("process killed");
      if (isCalm) await this.#killHolder(endMs);
      else {
        const faults = FAULTS.filter((fault) => this.#isPossible(fault));
        if (faults.length > 0) this.#begin(faults[Math.floor(Math.random() * faults.length)]);
        await sleep(this.#options.isCruel ? between(50, 250) : between(150, 900));
      }
    }
    await Promise.all(this.#running);
  }

  /** A process that has ended by itself is written down, with what it said last, and another one takes its place. */
  #replaceEnded(): void {
    const { crew, folder } = this.#options;
    for (const seat of crew.seats) {
      if (!seat.child.hasEnded || this.#busy.has(seat)) continue;
      this.#busy.add(seat);
      const [from, whom] = [now(), seat.name];
      const said = readFileSync(join(folder, "errors", `${whom}.txt`), "utf8");
      const why = said.split("\n").findLast((line) => /\w+Error|failed|panic/.test(line)) ?? said.slice(-200);
      crew.spawn(seat);
      const doing = seat.child.next("started").then(() => {
        this.#busy.delete(seat);
        this.#running.delete(doing);
        this.note({ fault: ENDED, whom, from, to: now(), why, next: seat.name });
      });
      this.#running.add(doing);
    }
  }

  /** Stops a process, or lets it go on; one that has ended meanwhile is replaced later. */
  #send(seat: Seat, name: "SIGSTOP" | "SIGCONT"): void {
    try {
      seat.child.signal(name);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }

  /** In a calm, the holder is killed: those that wait have nothing else to wait for than its lease. */
  async #killHolder(endMs: number): Promise<void> {
    const calm = now() + CALM_MS;
    await Promise.all(this.#running);
    // Clients that have lost the store wait for some time before they try it again.
    await sleep(between(1100, 1500));
    for (let tries = 0; tries < 100; tries++) {
      const seat = this.#holder(this.#options.aims[0]);
      if (seat !== undefined && seat.number !== SPARED_SEAT) {
        this.#begin("process killed", { aim: seat, asksQueue: true });
        break;
      }
      await sleep(3);
    }
    await sleep(Math.max(0, Math.min(calm, endMs) - now()));
  }

  /** Writes down what has gone wrong. */
  note(line: FaultLine): void {
    appendFileSync(join(this.#options.folder, "faults.jsonl"), JSON.stringify(line) + "\n");
  }

  #holder(lock: string): Seat | undefined {
    const { folder, crew } = this.#options;
    const mark = markOf(join(folder, "marks"), lock);
    return mark === undefined ? undefined : crew.seats.find(({ name }) => mark.startsWith(`${name}.`));
  }

  #isPossible(fault: Fault): boolean {
    const { store, crew, allows } = this.#options;
    if (!allows(fault)) return false;
    const free = crew.seats.length - this.#busy.size;
    if (fault.startsWith("store") || fault === "disk full") {
      if (now() - this.#storeMs < 5000 || this.#busy.size > 0) return false;
      if (fault === "disk full") return store.fillDisk !== undefined;
      return fault === "store killed" ? store.kill !== undefined : store.signal !== undefined;
    }
    if (free < 3) return false;
    if (fault.startsWith("line")) return store.port !== undefined;
    return fault !== "clock set" || crew.seats[0].clock !== undefined;
  }

  #begin(
    fault: Fault,
    { aim, asksQueue = false }: { readonly aim?: Seat; readonly asksQueue?: boolean } = {},
  ): void {
    const { crew, aims, isCruel, folder } = this.#options;
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
    const from = now();
    const isOfStore = (OF_STORE as readonly Fault[]).includes(fault);
    if (isOfStore) this.#storeMs = from;
    // Half of them hit one that holds a lock.
    const lock = aims[Math.floor(Math.random() * aims.length)];
    const holder = isCruel || Math.random() < 0.5 ? this.#holder(lock) : undefined;
    const free = crew.seats.filter((seat) =>
      !this.#busy.has(seat) && !(fault === "process killed" && seat.number === SPARED_SEAT)
    );
    const hit = aim ?? (holder !== undefined && free.includes(holder) ? holder : undefined) ??
      free[Math.floor(Math.random() * free.length)];
    const seats = isOfStore ? crew.seats : [hit];
    for (const seat of seats) this.#busy.add(seat);
    const whom = isOfStore ? "store" : hit.name;
    const held = markOf(join(folder, "marks"), lock)?.startsWith(`${whom}.`) ?? false;
    const injected = this.#inject(fault, hit);
    const alive = crew.seats.filter((seat) => seat !== hit).map(({ name }) => name);
    // Asked behind the kill, which nothing may delay.
    const asked = asksQueue ? this.#options.waitersOf(aims[0]) : undefined;
    const doing = Promise.all([injected, asked]).then(([, queue]) => {
      for (const seat of seats) this.#busy.delete(seat);
      this.#running.delete(doing);
      const next = fault === "process killed" ? hit.name : undefined;
      this.note({ fault, whom, from, to: now(), held, ...queue && { queue, alive }, next });
    });
    this.#running.add(doing);
  }

  async #inject(fault: Fault, seat: Seat): Promise<void> {
    const { store, crew, leaseMs, isCruel } = this.#options;
    const { line } = seat;
    // Shorter than a lease, or longer.
    const ms = Math.random() < 0.5 && !isCruel ? between(50, leaseMs) : between(1.2 * leaseMs, 3 * leaseMs);
    switch (fault) {
      case "process killed":
        await seat.child[Symbol.asyncDispose]();
        await sleep(between(0, 500));
        crew.spawn(seat);
        await seat.child.next("started");
        return;
      case "process frozen":
        this.#send(seat, "SIGSTOP");
        await sleep(ms);
        return this.#send(seat, "SIGCONT");
      case "line cut":
        return line!.cut();
      case "line slow":
        line!.slowMs = between(20, 200);
        line!.weather = "slow";
        await sleep(ms);
        line!.weather = "passes";
        return;
      case "line half-open":
        line!.weather = "half-open";
        await sleep(ms);
        line!.weather = "passes";
        // Sooner or later the broken line is noticed.
        await sleep(between(0, 1000));
        return line!.cut();
      case "clock set": {
        const mostMs = Number.isFinite(store.skewMs) ? store.skewMs * 0.45 : ANY_MS;
        return seat.clock!.set(Math.round(between(-mostMs, mostMs)));
      }
      case "store killed":
        await store.kill!();
        await sleep(between(0, 1500));
        return await store.start!();
      case "store frozen":
        store.signal!("SIGSTOP");
        await sleep(ms);
        return store.signal!("SIGCONT");
      case "disk full":
        await store.fillDisk!();
        await sleep(ms);
        return await store.freeDisk!();
    }
  }
}
