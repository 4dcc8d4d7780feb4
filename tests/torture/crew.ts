/** The processes of a torture run: under every runtime that can be had, each behind its own line and wall clock. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Child } from "../support/child.ts";
import { bundle } from "../support/bundle.ts";
import { findRuntime, folderWith } from "../support/runtimes.ts";
import { autopsy } from "./autopsy.ts";
import type { BadLock } from "./bad_locks.ts";
import type { Role } from "./child.ts";
import { Line } from "./line.ts";
import type { TorturedStore } from "./stores.ts";
import { WallClock } from "./wall_clock.ts";

/** How long a process has to end once it is asked to. */
const END_MS = 20_000;
const STEP_MS = 500;
const SCRIPT = new URL("./child.ts", import.meta.url);
const RUNTIMES = ["Deno", "Node 20", "Node 24", "Bun"];

interface Runtime {
  readonly name: string;
  readonly path: string;
}

/** A place in the crew: when its process is killed, another one follows it. */
export interface Seat {
  readonly number: number;
  readonly runtime: Runtime;
  readonly line: Line | undefined;
  child: Child;
  /** The name of its process. */
  name: string;
  clock: WallClock | undefined;
}

/** What a crew is made of. */
export interface CrewOptions {
  readonly store: TorturedStore;
  readonly folder: string;
  readonly count: number;
  readonly leaseMs: number;
  readonly bad: readonly BadLock[];
  /** The library that sets wall clocks, if there is one. */
  readonly clockLibrary: string | undefined;
}

/** What children run, and where they find what it imports: made once for each store, and gone with this process. */
const workplaces = new Map<string, Promise<{ readonly folder: string; readonly script: string }>>();

function workplaceWith(clients: readonly string[]): Promise<{ folder: string; script: string }> {
  const name = clients.join(" ");
  const make = async () => {
    const folder = await folderWith(...clients);
    globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
    const script = join(folder, "child.mjs");
    await bundle(SCRIPT, script, "@deno/kv");
    return { folder, script };
  };
  const made = workplaces.get(name) ?? make();
  workplaces.set(name, made);
  return made;
}

export class Crew {
  readonly seats: Seat[] = [];
  /** The runtimes that cannot be had, and why. */
  readonly missing: string[] = [];
  readonly #options: CrewOptions;
  #workplace = { folder: "", script: "" };
  #generation = 0;

  private constructor(options: CrewOptions) {
    this.#options = options;
  }

  static async start(options: CrewOptions): Promise<Crew> {
    const crew = new Crew(options);
    const { store, count } = options;
    const runtimes: Runtime[] = [];
    for (const name of RUNTIMES) {
      const found = await findRuntime(name);
      if ("path" in found) runtimes.push({ name, path: found.path });
      else crew.missing.push(found.missing);
    }
    crew.#workplace = await workplaceWith(store.clients);
    for (let number = 0; number < count; number++) {
      const line = store.port === undefined ? undefined : await Line.open(store.port);
      const runtime = runtimes[number % runtimes.length];
      const seat = { number, runtime, line, name: "", clock: undefined } as Omit<Seat, "child"> as Seat;
      crew.seats.push(seat);
      crew.spawn(seat);
    }
    await Promise.all(crew.seats.map(({ child }) => child.next("started")));
    return crew;
  }

  /** Starts a process in this place. */
  spawn(seat: Seat): void {
    const { store, folder, leaseMs, bad, clockLibrary } = this.#options;
    const { runtime, line } = seat;
    seat.name = `p${seat.number}-${++this.#generation}`;
    if (clockLibrary !== undefined) {
      seat.clock = new WallClock(clockLibrary, join(folder, "clocks", seat.name));
    }
    const role: Role = {
      name: seat.name,
      runtime: runtime.name,
      kind: store.kind,
      address: store.address(line?.port ?? 0),
      folder,
      leaseMs,
      skewMs: Number.isFinite(store.skewMs) ? store.skewMs : 0,
      bad,
    };
    const args = [JSON.stringify(role)];
    const errors = join(folder, "errors", `${seat.name}.txt`);
    const options = { args, env: seat.clock?.env, errors };
    const { folder: nodeIn, script } = this.#workplace;
    const node = { nodeIn, runtime: runtime.path };
    seat.child = runtime.name === "Deno"
      ? new Child(SCRIPT, { ...options, flags: ["-A"] })
      : new Child(pathToFileURL(script), { ...options, ...node });
  }

  /** Asks all to end; answers those that did not, or did not by themselves. */
  async end(): Promise<string[]> {
    const late: string[] = [];
    await Promise.all(this.seats.map(async ({ child, name, runtime }) => {
      child.send({ do: "end" });
      // In small steps: while this process stands still, none can be expected to end.
      let isEnded = false;
      for (let steps = 0; steps < END_MS / STEP_MS && !isEnded; steps++) {
        isEnded = await child.endsWithin(STEP_MS);
      }
      if (!isEnded) {
        late.push(`${name} (${runtime.name})`);
        const seen = await autopsy(child.pid);
        await Deno.writeTextFile(join(this.#options.folder, "errors", `${name}.kept.txt`), seen);
      }
      await child[Symbol.asyncDispose]();
    }));
    return late;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.seats.map(({ child }) => child?.[Symbol.asyncDispose]()));
    await Promise.all(this.seats.map(({ line }) => line?.close()));
  }
}
