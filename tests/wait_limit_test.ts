// How long one who set a limit waits, in virtual time.
import { assert, assertInstanceOf } from "@std/assert";
import { acquire } from "../core/acquire.ts";
import { LockAcquisitionError } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { checkOptions, type LockOptions } from "../core/options.ts";
import { Peer } from "../core/peer.ts";
import { SimBackend, SimStore } from "./simulation/store.ts";
import { SimProcess, World } from "./simulation/world.ts";

const QUIET = { slow: 0, loseRequest: 0, loseAnswer: 0, tellLoss: 0, repeatWake: 0, push: true };

Deno.test("limit: one whose time is up before the store's first answer goes when it comes, not a second later", async () => {
  for (const inTheHoldersProcess of [false, true]) {
    const world = new World();
    // Each way takes 40 ms.
    const store = new SimStore(world, { ...QUIET, delayMs: 40 }, () => 0.5, () => {});
    const peers = [0, 1].map((i) => {
      const process = new SimProcess(world, `process ${i}`, 0, 1);
      return new Peer(new SimBackend(store, process, 0), process.clock);
    });
    const ask = (peer: Peer, options: LockOptions) =>
      new Promise<Hold | unknown>((resolve) =>
        acquire(peer, "job", "job", checkOptions(options), (hold, error) => resolve(hold ?? error))
      );
    let outcomes: [error: unknown, at: number][] = [];
    const play = async () => {
      const hold = await ask(peers[0], { renew: false }) as Hold;
      const asked = world.now;
      const peer = peers[inTheHoldersProcess ? 0 : 1];
      outcomes = await Promise.all([1, 30, 30].map(async (waitForMs) => {
        const error = await ask(peer, { waitForMs });
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
