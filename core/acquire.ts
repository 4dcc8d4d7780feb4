import { Acquisition, type Done } from "./acquisition.ts";
import type { Entry } from "./backend.ts";
import { Alarm, momentOf } from "./clock.ts";
import { follow } from "./follow.ts";
import { Hold } from "./hold.ts";
import type { LocalQueue } from "./local_queue.ts";
import type { CheckedOptions } from "./options.ts";
import { answerMs, type Peer } from "./peer.ts";
import { type Sight, sightOf } from "./record/codec.ts";
import { FREE } from "./record/record.ts";
import { claim, decide } from "./record/rules.ts";

/**
 * Acquires the lock of `identifier`, kept under `key`. Without it, the error is a LockAcquisitionError if the lock is
 * taken and the options do not let it wait (any longer), the signal's reason, or a LockBackendError.
 */
export function acquire(
  peer: Peer,
  identifier: string,
  key: string,
  options: CheckedOptions,
  done: Done,
): void {
  const queue = peer.queue(key);
  queue.enter(new Acquisition(queue, identifier, options, done));
}

/**
 * Talks to the store for one acquisition until it is settled. `sight` is the record, if it is known; `ahead` others in
 * this process go before it.
 */
export function contend(
  queue: LocalQueue,
  acquisition: Acquisition,
  sight: Sight | undefined,
  ahead: number,
): void {
  queue.peer.busy++;
  if (sight === undefined && ahead === 0 && !acquisition.mayHold) bet(queue, acquisition);
  else void persist(queue, acquisition, sight, ahead);
}

/** The first try bets on a free lock: where it is, this is the whole acquisition. */
function bet(queue: LocalQueue, acquisition: Acquisition): void {
  const { peer, key } = queue;
  const alarm = new Alarm(peer.clock);
  const failed = (error: unknown) => {
    alarm.stop();
    acquisition.tolerate(error).then(() => persist(queue, acquisition, undefined, 0));
  };
  // No async function: what this allocates is what a lock takes longer than the store.
  try {
    const free = { key, version: null, record: FREE };
    // Before the record's own time: a process may be frozen between the two.
    const sent = momentOf(peer.clock);
    const record = claim(acquisition.want(), peer.now());
    acquisition.mayHold = true;
    acquisition.asks(sent.monotonic);
    const limitMs = answerMs(acquisition.options.leaseMs);
    peer.ask(peer.commit(free, record), limitMs, alarm, sent.monotonic, (answer) => {
      const now = momentOf(peer.clock);
      acquisition.heard(now.monotonic);
      acquisition.answered();
      const { ok, sight } = peer.replaced(free, record, answer);
      if (ok && Hold.grant(queue, acquisition, sight, sent, now, alarm)) return void peer.busy--;
      acquisition.mayHold = ok;
      alarm.stop();
      persist(queue, acquisition, sight, 0);
    }, failed);
  } catch (error) {
    failed(error);
  }
}

/** Further tries: look, decide, and wait for news. */
async function persist(
  queue: LocalQueue,
  acquisition: Acquisition,
  sight: Sight | undefined,
  ahead: number,
): Promise<void> {
  const { peer, key } = queue;
  const { clock } = peer;
  const { leaseMs, mayWait } = acquisition.options;
  const limitMs = answerMs(leaseMs);
  let news: News | undefined;
  let look = sight;
  let unsure = acquisition.mayHold;

  while (!acquisition.settled) {
    try {
      if (look === undefined) {
        acquisition.asks();
        look = await peer.read(key, limitMs);
        acquisition.heard();
        continue;
      }
      const { record } = look;
      queue.observe(record);
      const sent = momentOf(clock);
      const decision = decide(record, acquisition.want(ahead), queue.view());

      if (decision.kind === "wait") {
        // Not after each read: a store that can be read but not written to does not answer what was asked.
        acquisition.answered();
        if (!mayWait) {
          acquisition.refuse();
          break;
        }
        news ??= new News((signal) => peer.backend.watch(key, { signal }), () => acquisition.wake());
        news.open();
        await acquisition.sleep(decision.forMs);
        look = news.latest(look);
        continue;
      }

      const claims = decision.kind === "claim";
      if (claims) acquisition.mayHold = true;
      else if (mayWait) acquisition.stand();
      acquisition.asks(sent.monotonic);
      const { ok, sight } = await peer.replace(look, decision.record, limitMs);
      acquisition.heard();
      acquisition.answered();
      look = sight;
      if (!ok) acquisition.mayHold = unsure;
      if (!ok || !claims) continue;
      // What was granted too late, or to one who has left, is looked at again, or cleared away.
      unsure = true;
      Hold.grant(queue, acquisition, sight, sent, momentOf(clock));
    } catch (error) {
      look = undefined;
      unsure = acquisition.mayHold;
      await acquisition.tolerate(error);
    }
  }

  news?.close();
  if (!acquisition.granted) await acquisition.leaveNothing();
  peer.busy--;
}

/** The latest entry that a watch has brought, for one who sleeps until there is one. */
class News {
  readonly #watch: (signal: AbortSignal) => AsyncIterable<Entry>;
  readonly #wake: () => void;
  /** Ends the watch that is open. */
  #following: AbortController | undefined;
  #latest: Entry | undefined;
  #failure: { error: unknown } | undefined;

  constructor(watch: (signal: AbortSignal) => AsyncIterable<Entry>, wake: () => void) {
    this.#watch = watch;
    this.#wake = wake;
  }

  open(): void {
    this.#following ??= follow(this.#watch, (entry) => {
      this.#latest = entry;
      this.#wake();
    }, (error) => {
      this.#following = undefined;
      this.#failure = { error };
      this.#wake();
    });
  }

  /** What to look at now, if `known` is the last that was seen. Throws the failure of the watch, if any. */
  latest(known: Sight): Sight {
    if (this.#failure !== undefined) {
      const { error } = this.#failure;
      this.#failure = undefined;
      throw error;
    }
    const latest = this.#latest;
    this.#latest = undefined;
    if (latest === undefined || latest.version === known.version) return known;
    // A late wake-up may show what was there before our own write.
    const stale = latest.version !== null && known.version !== null && latest.version < known.version;
    return stale ? known : sightOf(latest);
  }

  close(): void {
    this.#following?.abort();
  }
}
