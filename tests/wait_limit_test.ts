// How long a caller that set a limit waits, in virtual time.
import { assert, assertInstanceOf } from "@std/assert";
import { LockAcquisitionError } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { checkOptions, type LockOptions } from "../core/options.ts";
import { Participant } from "../core/participant.ts";
import { SimBackend } from "./simulation/backend.ts";
import { timekeeper } from "./simulation/clocks.ts";
import { FAIR, SimNetwork } from "./simulation/network.ts";
import { SimProcess } from "./simulation/process.ts";
import { SimStore } from "./simulation/store.ts";
import { World } from "./simulation/world.ts";

Deno.test("limit: one whose time is up before the store's first answer goes when it comes, not a second later", async () => {
  for (const inTheHoldersProcess of [false, true]) {
    const world = new World();
    const store = new SimStore(world, { rate: 1 }, () => {});
    const network = new SimNetwork(world, FAIR, () => 0.5);
    const participants = [0, 1].map((i) => {
      const process = new SimProcess(world, { name: `process ${i}` });
      const time = timekeeper("stated", process, 0);
      const distance = { thereMs: 40, backMs: 40 };
      const backend = new SimBackend({ store, network, process, time, distance, graceMs: 800 });
      return new Participant(backend, process.clock);
    });
    const ask = (participant: Participant, options: LockOptions) =>
      new Promise<Hold | unknown>((resolve) =>
        participant.acquire(
          { identifier: "job", key: "job", options: checkOptions(options) },
          (hold, error) => resolve(hold ?? error),
        )
      );
    let outcomes: [error: unknown, at: number][] = [];
    const play = async () => {
      const hold = await ask(participants[0], { renew: false }) as Hold;
      const asked = world.now;
      const participant = participants[inTheHoldersProcess ? 0 : 1];
      outcomes = await Promise.all([1, 30, 30].map(async (waitForMs) => {
        const error = await ask(participant, { waitForMs });
        return [error, world.now - asked] as [unknown, number];
      }));
      await hold.release();
    };
    const played = play();
    await world.run(100_000, () => {});
    await played;
    for (const [error, at] of outcomes) {
      assertInstanceOf(error, LockAcquisitionError);
      // Whether its own process holds the lock, it knows without the store.
      assert(at <= (inTheHoldersProcess ? 30 : 90), `it took ${at} ms`);
    }
  }
});
