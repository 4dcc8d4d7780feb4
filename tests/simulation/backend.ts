import type { Proof } from "./core.ts";
import type {
  Change,
  CommitOptions,
  CommitResult,
  Entry,
  LockBackend,
  WatchOptions,
} from "../../core/backend.ts";
import { LockBackendError } from "../../core/errors.ts";
import { Notify } from "../../core/notify.ts";
import { lockKeyOf, queueKeyOf } from "./core.ts";
import type { Timekeeper } from "./clocks.ts";
import type { Distance, SimNetwork } from "./network.ts";
import type { SimProcess } from "./process.ts";
import type { Mark } from "./marks.ts";
import type { Telling } from "./schedule.ts";
import type { GuardedWrite, News, Request, SimStore } from "./store.ts";

/** What a backend is made of. */
export interface BackendParts {
  readonly store: SimStore;
  readonly network: SimNetwork;
  readonly process: SimProcess;
  readonly time: Timekeeper;
  readonly distance: Distance;
  readonly graceMs: number;
  readonly onSent?: (request: Request) => void;
  /** What was written by a clock that was behind is refused when the answer shows it. */
  readonly onWrongClock?: () => void;
  /** Default: all are notified of everything, and of nothing else. */
  readonly telling?: Telling;
  readonly onTold?: (mark: Mark) => void;
  readonly onWatch?: (backend: SimBackend, key: string, how: "opened" | "failed") => void;
}

/** How long news may be on its way that does not concern its watcher. */
const LATE_MS = 3000;
const PLAIN: Telling = { drop: 0, late: 0, beside: 0, queueAlone: 0, refusedWithBoth: 0, oldQueue: 0 };

/** The store as one participant sees it. */
export class SimBackend implements LockBackend {
  readonly name = "the simulated store";
  readonly graceMs: number;
  readonly parts: BackendParts;
  /** What its participant is called in queues. */
  participant = "";
  /** Its watches that are open. */
  watches = 0;

  /** When the store was as the last answer has shown each queue, by lock. */
  readonly #queueSeenMs = new Map<string, number>();

  constructor(parts: BackendParts) {
    this.parts = parts;
    this.graceMs = parts.graceMs;
  }

  get skewMs(): number {
    return this.parts.time.skewMs;
  }

  get errorMs(): number | undefined {
    return this.parts.time.errorMs;
  }

  now(): number {
    return this.parts.time.now();
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    const { store } = this.parts;
    return this.#ask(() => keys.map((key) => store.get(key)), {
      shows: (entries) => entries,
    });
  }

  commit(changes: readonly Change[], { concerns }: CommitOptions = {}): Promise<CommitResult> {
    const { store, network, process, time, onSent, onTold } = this.parts;
    const request: Request = {
      process,
      madeMs: process.world.now,
      sentMs: process.now,
      queueSeenMs: new Map(this.#queueSeenMs),
      changes,
      concerns,
      errorMs: this.errorMs ?? this.skewMs / 2,
      answer: "due",
      applied: 0,
    };
    const wrote = changes.some(({ value }) => value !== null);
    // As Redis's scripts: what does more than make one record may have judged another's lease.
    const makes = changes.length === 1 && changes[0].version === null;
    const senderMs = makes ? undefined : time.senderMs();
    onSent?.(request);
    const refused = network.chance(network.state.refuse);
    const isEcho = network.chance(network.state.echo);
    const apply = (): CommitResult => {
      if (refused) return { ok: false };
      const result = this.#withBoth(store.commit(request, senderMs));
      if (isEcho && result.ok) onTold?.("refused by its own echo");
      return isEcho ? { ok: false, mayBeEcho: true } : result;
    };
    return this.#ask<CommitResult>(
      apply,
      { request, wrote, shows: (result) => result.ok ? changes : result.entries ?? [] },
    );
  }

  /** The guarded write, in one atomic step with its proof. */
  commitGuarded(
    key: string,
    proofs: readonly Proof[],
    write: GuardedWrite,
  ): Promise<"written" | "changed" | "stale"> {
    return this.#ask(() => this.parts.store.commitGuarded(key, proofs, write));
  }

  readValue(key: string): Promise<number> {
    return this.#ask(() => this.parts.store.value(key));
  }

  async *watch(key: string, { signal, name, idle = false }: WatchOptions): AsyncIterable<Entry> {
    const { store, network, process, distance, telling = PLAIN, onWatch, onTold } = this.parts;
    const { state: { failWatch, endWatch, silentWatch, push } } = network;
    const fate = network.random();
    const wakeUp = new Notify();
    const arrived: Entry[] = [];
    let queueTold: Entry | undefined;
    let failure: Error | undefined;
    let ended = false;
    const end = (error?: Error) =>
      process.deliver(() => {
        failure = error;
        ended = true;
        wakeUp.notify();
      });
    const fail = () => end(new LockBackendError("the watch broke", { transient: true }));
    const send = (news?: News) => {
      if (signal.aborted || ended) return;
      const concerns = name === undefined || news?.concerns?.includes(name) !== false;
      if (news?.isBesideOnly && !(name !== undefined && concerns && network.chance(telling.queueAlone))) {
        return;
      }
      if (network.chance(failWatch)) return fail();
      if (network.chance(endWatch)) return end();
      if (fate < silentWatch) return;
      if (!concerns && network.chance(telling.drop)) return onTold?.("not told of what did not concern it");
      const isLate = !concerns && network.chance(telling.late);
      if (isLate) onTold?.("told late of what did not concern it");
      const tellsQueue = name !== undefined && (news?.isBesideOnly || network.chance(telling.beside));
      const entries = tellsQueue ? [...news?.beside ?? []] : [];
      if (entries.length > 0) {
        [queueTold] = entries;
        onTold?.("told of the queue");
      } else if (queueTold !== undefined && network.chance(telling.oldQueue)) {
        entries.push(queueTold);
        onTold?.("told once more of the queue as it was");
      }
      if (name !== undefined && network.chance(network.state.forgeWake)) {
        entries.push(...this.#forgedQueue(key));
      }
      if (!news?.isBesideOnly) {
        entries.push(network.chance(network.state.forgeWake) ? this.#forged(key) : store.get(key));
      }
      const arrive = () =>
        process.deliver(() => {
          arrived.push(...entries);
          wakeUp.notify();
        });
      network.world.schedule(
        network.delay(distance.backMs) + (isLate ? LATE_MS * network.random() : 0),
        arrive,
      );
      if (network.chance(network.state.repeatWake)) {
        network.world.schedule(20 * network.delay(distance.backMs), arrive);
      }
    };
    let stop = () => {};
    const open = () => {
      if (signal.aborted) return;
      if (!idle || push) stop = store.subscribe(key, send);
      send();
    };
    const close = () => {
      stop();
      wakeUp.notify();
    };
    this.watches++;
    network.watches.add(fail);
    onWatch?.(this, key, "opened");
    signal.addEventListener("abort", close, { once: true });
    process.act(() => network.world.schedule(network.delay(distance.thereMs), open));
    try {
      while (!signal.aborted) {
        await wakeUp.sleep(process.clock);
        while (arrived.length > 0 && !signal.aborted) yield arrived.shift()!;
        if (!ended || signal.aborted) continue;
        onWatch?.(this, key, "failed");
        if (failure !== undefined) throw failure;
        return;
      }
    } finally {
      stop();
      this.watches--;
      network.watches.delete(fail);
      signal.removeEventListener("abort", close);
    }
  }

  /** A refusal that shows the other record of the lock, too. */
  #withBoth(result: CommitResult): CommitResult {
    const { store, network, telling = PLAIN, onTold } = this.parts;
    if (result.ok || result.entries?.length !== 1 || !network.chance(telling.refusedWithBoth)) return result;
    onTold?.("refused, and told of both records");
    const [entry] = result.entries;
    const other = isOfQueue(entry) ? lockKeyOf(entry.key) : queueKeyOf(entry.key);
    return { ok: false, entries: [entry, store.get(other)] };
  }

  /** News that no store has sent. */
  #forged(key: string): Entry {
    const { store, onTold } = this.parts;
    const { lock } = store.recordsOf(key);
    const leaseMs = 60_000;
    const holder = {
      token: `${this.participant}/1`,
      mode: "exclusive",
      limit: 1,
      since: store.clockMs,
      leaseMs,
      expiresAt: store.clockMs + leaseMs,
      renewals: 0,
      offeredTo: this.participant,
    };
    onTold?.("forged news of an offer");
    return { key, value: JSON.stringify({ ...lock, holders: [holder] }), version: store.nextVersion };
  }

  /** News of the queue that no store has sent: waiters have other tokens. */
  #forgedQueue(key: string): Entry[] {
    const { store, onTold } = this.parts;
    const { lock, entries } = store.recordsOf(key);
    if (entries.length === 0) return [];
    onTold?.("forged news of the queue");
    const forged = entries.map((entry) => ({ ...entry, token: entry.token.split("").reverse().join("") }));
    const value = JSON.stringify({ v: 1, id: lock.queue, entries: forged });
    // No version that the store will ever give: where its clock stands, the next one could be guessed.
    return [{ key: queueKeyOf(key), value, version: `${store.nextVersion}+` }];
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    const keys = await this.#ask(() => this.parts.store.keys(prefix));
    for (const key of keys) {
      const [entry] = await this.read([key]);
      if (entry.value !== null) yield entry;
    }
  }

  #ask<Answer>(
    apply: () => Answer,
    { request, wrote = false, shows }: {
      readonly request?: Request;
      readonly wrote?: boolean;
      /** Which records the answer shows. */
      readonly shows?: (answer: Answer) => readonly { readonly key: string }[];
    } = {},
  ): Promise<Answer> {
    const { store, network, process, time, distance, onWrongClock } = this.parts;
    const told = time.sending();
    // One that failed, or was never applied, contains no time.
    return network.ask(
      process,
      distance,
      () => ({ answer: apply(), storeMs: store.clockMs, atMs: network.world.now }),
      {
        heard: ({ answer, storeMs, atMs }) => {
          for (const shown of shows?.(answer) ?? []) {
            if (isOfQueue(shown)) this.#queueSeenMs.set(lockKeyOf(shown.key), atMs);
          }
          if (request !== undefined) {
            const result = answer as CommitResult;
            request.answer = result.ok ? "came" : result.mayBeEcho ? "lost" : "refused";
            request.cameMs = process.now;
          }
          try {
            told(storeMs, wrote && (answer as CommitResult).ok === true);
          } catch (error) {
            if (request !== undefined) request.answer = "lost";
            onWrongClock?.();
            throw error;
          }
        },
        lost: () => {
          if (request !== undefined && request.answer === "due") request.answer = "lost";
        },
      },
    ).then(({ answer }) => answer);
  }
}

function isOfQueue({ key }: { readonly key: string }): boolean {
  return lockKeyOf(key) !== key;
}
