import { pause } from "./clock.ts";
import type { Peer } from "./peer.ts";

/** How often it is looked at. */
const LOOK_MS = 5;

/** Until nobody here talks to the store to get a lock, or to clear up behind himself; for `limitMs` at most. */
export async function untilIdle(peer: Peer, limitMs: number): Promise<void> {
  const { clock } = peer;
  const late = clock.monotonicMs() + limitMs;
  while (peer.busy > 0 && clock.monotonicMs() < late) await pause(clock, LOOK_MS);
}
