import type { SimBackend } from "./backend.ts";
import { cleanup, forceRelease } from "./core.ts";
import type { Invariants } from "./invariants.ts";
import type { SimNetwork } from "./network.ts";
import type { SimProcess } from "./process.ts";
import type { Fault, Schedule } from "./schedule.ts";
import type { SimStore } from "./store.ts";

/** What faults are done to. */
export interface Scene {
  readonly schedule: Schedule;
  readonly store: SimStore;
  readonly network: SimNetwork;
  readonly invariants: Invariants;
  readonly keys: readonly string[];
  readonly processes: readonly SimProcess[];
  /** Makes a process for an operator, and the store as it sees it. */
  operator(fault: Fault): SimBackend;
}

/** Lets one fault happen. */
export function inject(scene: Scene, fault: Fault): void {
  const { store, network, invariants, keys, schedule } = scene;
  const { kind, ms } = fault;
  const { world } = store;
  const process = scene.processes[fault.process];
  const key = keys[fault.key];
  const silent = world.now >= schedule.healMs;
  invariants.onFault();
  invariants.trace?.(kind, fault);
  switch (kind) {
    case "kill":
      return process?.kill();
    case "freeze":
    case "suspend":
    case "pause":
      if (process === undefined) return;
      process.hold(ms, kind);
      return void world.at(process.now, () => invariants.onAwake(process));
    case "step":
      return process?.step(ms % 2 === 0 ? 40 * ms : -40 * ms);
    case "step of the store":
      return store.step(ms % 2 === 0 ? 20 * ms : -20 * ms);
    case "restart":
      invariants.mark("the store restarted");
      network.restart();
      if (schedule.store.forgets && store.forget(ms / 10) > 0) {
        invariants.onForgotten((key) => store.recordsOf(key));
      }
      return;
    case "silence":
      if (silent) return;
      network.state = { ...network.state, loseRequest: 1, tellLoss: 0 };
      return void world.schedule(ms, () => {
        if (world.now < schedule.healMs) network.state = schedule.network;
      });
    case "junk": {
      const away = store.corrupt(key);
      return away && void world.schedule(ms, away);
    }
    case "force":
    case "cleanup":
      return void operate(scene, fault, key);
  }
}

/** An operator does its work, far away or with a wrong clock as it may be. */
async function operate(scene: Scene, fault: Fault, key: string): Promise<void> {
  const { invariants } = scene;
  const backend = scene.operator(fault);
  try {
    if (fault.kind === "force") return void await forceRelease(key, { backend });
    const olderThanMs = fault.ms % 3 === 0 ? fault.ms : undefined;
    const { removed, evicted } = await cleanup({ backend, olderThanMs });
    if (removed > 0) invariants.mark("cleanup removed a record");
    if (evicted > 0) invariants.mark("cleanup evicted a holder");
  } catch (error) {
    invariants.checkError(error);
  } finally {
    invariants.onFault();
  }
}
