import type { Entry } from "./backend.ts";
import type { Moment } from "./clock.ts";
import type { HolderInfo } from "./errors.ts";
import { type AskingClaim, holderIn, type LocalMembers } from "./members.ts";
import { evidenceOf, Observations } from "./observations.ts";
import { Outside } from "./outside.ts";
import { lockIn, type Snapshot } from "./record/codec.ts";
import { type Evidence, watchedLeaseMs } from "./record/evidence.ts";
import { admits } from "./record/modes.ts";
import { FREE, type Holder, type LockRecord, MAX_QUEUE } from "./record/record.ts";
import type { RecordWatch } from "./record_watch.ts";
import type { Store } from "./store.ts";

/** Later than anything else: what is outdated by then is only read again for the next write. */
const NEVER_MS = Number.MAX_VALUE;

/** What this process knows of one lock: its records as they were last seen, and what messages have said since. */
export class Knowledge {
  /** The record when it was last seen. */
  lastSeen: LockRecord = FREE;
  /** When the question was sent whose answer the records are. */
  askedMs = -Infinity;
  /** Since when what has been unchanged, if it was watched. */
  seen: Observations | undefined;
  readonly #store: Store;
  readonly #members: LocalMembers<AskingClaim>;
  readonly #key: string;
  /** The records; `undefined` while they are not known. */
  #snapshot: Snapshot | undefined;
  /** Messages say that the records have changed since: by when at the latest they are read again. */
  #outdatedMs = Infinity;
  /** The queue that a message has told of last while nothing was held here. */
  #toldVersion: string | null = null;
  /** The latest version of the queue that the store itself has shown. */
  #queueVersion: string | null = null;
  /** While we wait outside a queue that has no place for us. */
  #outside: Outside | undefined;

  constructor(
    store: Store,
    { key, members }: { readonly key: string; readonly members: LocalMembers<AskingClaim> },
  ) {
    this.#store = store;
    this.#members = members;
    this.#key = key;
  }

  get snapshot(): Snapshot | undefined {
    return this.#snapshot;
  }

  /** By when at the latest the records are read again, although nothing is announced. */
  get staleMs(): number {
    return Math.min(this.#outdatedMs, this.#outside?.lookMs ?? Infinity);
  }

  /** Whether something has been announced since that the records do not show. */
  get isOutdated(): boolean {
    return this.#outdatedMs < Infinity;
  }

  /** The holders when it was last seen, for people. */
  holders(which: (holder: Holder) => boolean = () => true): readonly HolderInfo[] {
    const now = this.#store.backend.now();
    return this.lastSeen.holders.filter(which).map(({ label, since }) => ({
      label,
      heldForMs: Math.max(0, Math.round(now - since)),
    }));
  }

  /** What the store has shown: the answer to a question that was sent at `askedMs`. */
  learn(snapshot: Snapshot | undefined, askedMs: number): void {
    this.#snapshot = snapshot;
    this.askedMs = askedMs;
    this.#outdatedMs = Infinity;
    if (snapshot === undefined) return;
    const { lock: { record }, queue } = snapshot;
    this.lastSeen = record;
    if (queue !== undefined && queue.version !== null) this.#queueVersion = queue.version;
    const { requests, changes } = this.#members;
    const isShared = record.queue !== undefined || record.notices !== undefined;
    // A holder that waits to be the only one waits for the end of others, too.
    const waits = requests.size > 0 || changes.length > 0;
    if (waits || isShared || this.seen !== undefined) {
      (this.seen ??= new Observations(this.#store.clock)).note(snapshot);
    }
    this.#members.noteQueue(snapshot);
    this.#noteOutside(snapshot);
  }

  /** Sees whether we wait outside a queue that has no place for us. */
  #noteOutside({ lock: { record }, queue }: Snapshot): void {
    const { requests, holds, queuedIn } = this.#members;
    if (record.queue === undefined || requests.size === 0 || holds.length > 0 || queuedIn !== undefined) {
      this.#outside = undefined;
    } else if (queue !== undefined) {
      const entries = queue.record.id === record.queue ? queue.record.entries : [];
      if (entries.length < MAX_QUEUE) this.#outside = undefined;
      else {
        this.#outside ??= new Outside(this.#store.backend.graceMs);
        this.#outside.note(entries, this.#store.clock.monotonicMs());
      }
    }
  }

  /** The records may have changed: they are to be read again. */
  drop(): void {
    this.#snapshot = undefined;
  }

  /**
   * No caller here has to do with the lock for now. Where clocks mean nothing, what was seen is kept: requests that never wait
   * could otherwise never see that a lease has lapsed.
   */
  forget(): void {
    this.#snapshot = undefined;
    this.lastSeen = FREE;
    this.#outdatedMs = Infinity;
    const { seen } = this;
    if (seen !== undefined && (seen.isEmpty || this.#store.backend.skewMs !== Infinity)) {
      this.seen = undefined;
    }
  }

  /** What follows from it at this moment. */
  evidence({ lock: { version } }: Snapshot, at: Moment): Evidence {
    return evidenceOf(this.seen, { store: this.#store, atMs: at.monotonic, version, members: this.#members });
  }

  /**
   * Takes in the latest news. A message is a hint: on some stores a client that may send messages can forge them,
   * so that they only make us look. An offer to us is taken at its word, because it repeats a token that only the
   * store has seen: the records that it says are there are the answer.
   */
  hear(watch: RecordWatch): Snapshot | undefined {
    this.#hearOfQueue(watch);
    const { news, skipped } = watch.take();
    const known = this.#snapshot?.lock;
    if (news === undefined || known === undefined) return undefined;
    // A late wake-up may show what was there before our own write.
    const isOld = news.version === known.version ||
      news.version !== null && known.version !== null && news.version < known.version;
    if (isOld && !skipped) return undefined;
    const record = recordIn(news);
    const members = this.#members;
    if (isOld || record === undefined || this.#concernsHolds(record, known.record)) this.drop();
    // A process that only holds the lock need not read it for this: its next write is planned on a new read.
    else if (members.requests.size === 0) this.#outdatedMs = NEVER_MS;
    else if (record.holders.some((holder) => members.isOfferWanted(holder))) {
      // The queue only as the same commit has left it. An earlier message may name an entry of ours that is no
      // more: the offer would not be ours, and the process that it was passed on to may think the same of the
      // next.
      const told = watch.queue(record.queue);
      const queue = told?.version === news.version ? told : undefined;
      return { key: this.#key, lock: lockIn(news), queue };
    } // The message before it may have been an offer, and this may have been sent to hide it.
    else if (!skipped && this.#saysTheSame(record, known.record)) this.#lookLater(record, known.record);
    else this.drop();
    return undefined;
  }

  /**
   * What a message says of the queue behind a hold of ours is believed, until a commit that rests on it is
   * refused. One that leaves the queue out is not refused, whatever it rests on: a client that can send messages
   * could name the one that the lock is offered to. Without a hold of ours it only makes us look soon, once: we
   * may be the first in it now, of a lock that has changed.
   */
  #hearOfQueue(watch: RecordWatch): void {
    const { holds, leavesQueueOut } = this.#members;
    if (this.#snapshot === undefined || leavesQueueOut) return;
    const { key, lock, queue } = this.#snapshot;
    const told = watch.queue(lock.record.queue);
    if (told === undefined) return;
    // Nor is one that is older than what the store has shown: it may know nothing of our entry yet.
    if (this.#queueVersion !== null && told.version! < this.#queueVersion) return;
    if (holds.length === 0) {
      const isNew = told.version !== this.#toldVersion && told.version !== queue?.version;
      this.#toldVersion = told.version;
      if (isNew && told.record.entries.slice(0, 1).some(this.#members.isOurs)) this.#lookSoon();
      return;
    }
    const heard = { key, lock, queue: told };
    // One of ours that is no longer queued may have been offered the lock, whose record this does not show.
    const isOut = this.#members.countIn(heard) < this.#members.countIn(this.#snapshot);
    this.#snapshot = isOut ? undefined : heard;
  }

  /** Whether a hold of ours may be lost, or may be the only one now, or may have a queue behind it that is not known. */
  #concernsHolds(news: LockRecord, known: LockRecord): boolean {
    const { holds, changes } = this.#members;
    if (holds.length === 0) return false;
    return changes.length > 0 || news.queue !== known.queue ||
      !holds.every((hold) => holderIn(news, hold)?.fence === hold.fencingToken);
  }

  /**
   * Whether nothing has changed for us: there is no room for the first in the queue, and we are in it, or wait
   * outside it.
   */
  #saysTheSame(news: LockRecord, known: LockRecord): boolean {
    if (news.freedAt !== undefined || news.holders.length === 0 || known.holders.length === 0) return false;
    // The first in the queue may want it in another way by now than the commit that the news is of could know.
    const head = this.#snapshot?.queue?.record.entries[0];
    if (head !== undefined && this.#members.isOurs(head) && admits(news.holders, head)) return false;
    return news.queue === (this.#outside === undefined ? this.#members.queuedIn : known.queue);
  }

  /** What is announced is looked at before the next in the queue may think that we are dead. */
  #lookSoon(): void {
    const { clock, backend } = this.#store;
    this.#outdatedMs = Math.min(this.#outdatedMs, clock.monotonicMs() + backend.graceMs / 4);
  }

  /**
   * What is announced is looked at when it can be over, unless there is a reason before. Another holder may be
   * dead: where only watching proves that, it must have been seen soon, unless the lock has been passed on by
   * then.
   */
  #lookLater(news: LockRecord, known: LockRecord): void {
    // Those that are queued see to it before us.
    if (this.#outside !== undefined) return;
    const { clock, backend } = this.#store;
    const now = clock.monotonicMs();
    const { firstRequest } = this.#members;
    // The head of the queue, which alone keeps us out, may have left it while this was written, and knows nothing of the room.
    if (firstRequest !== undefined && admits(news.holders, firstRequest)) this.#lookSoon();
    for (const holder of news.holders) {
      const isKnown = known.holders.some(({ token, fence }) =>
        token === holder.token && fence === holder.fence
      );
      const laterMs = isKnown ? watchedLeaseMs(holder.leaseMs) : backend.graceMs / 4;
      this.#outdatedMs = Math.min(this.#outdatedMs, now + laterMs);
    }
  }
}

/** What news says, if it can be read; if not, the store itself will say why. */
function recordIn(news: Entry): LockRecord | undefined {
  try {
    return lockIn(news).record;
  } catch {
    return undefined;
  }
}
