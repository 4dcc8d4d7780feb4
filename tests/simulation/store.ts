import type { Change, CommitResult, Entry } from "../../core/backend.ts";
import { LockBackendError } from "../../core/errors.ts";
import { decode, type LockRecord } from "./core.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

/** What a request came to on its way: how the invariants and the marks tell one commit from another. */
export interface Request {
  readonly process: SimProcess;
  /** When its process began the turn in which it was made: what it says of the time may be as old as that. */
  readonly madeMs: number;
  readonly sentMs: number;
  readonly changes: readonly Change[];
  /** What its caller has been told: `came` is that it was applied. */
  answer: "due" | "lost" | "refused" | "came";
  cameMs?: number;
  /** How often it was applied. */
  applied: number;
}

/** One applied change, as the invariants look at it. */
export interface Applied {
  readonly key: string;
  readonly request: Request;
  readonly process: SimProcess;
  readonly version: string;
  readonly before: LockRecord;
  readonly after: LockRecord;
}

/** A write to the data that a lock guards. */
export interface GuardedWrite {
  readonly base: number;
  readonly fence: string;
}

/** What a lock guards: a counter, and the fencing token of its last writer. */
interface Guarded {
  readonly value: number;
  readonly fence: string;
}

interface Stored extends Guarded {
  readonly text: string | null;
  readonly version: string | null;
  readonly collectMs: number;
  /** The same as a record, if it is one. */
  readonly record: LockRecord;
}

/** What is particular about a store. */
export interface StoreOptions {
  /** How fast its clock runs. */
  readonly rate: number;
  /** How many milliseconds a sender may be ahead of its clock, if it looks at that: as Redis's scripts do. */
  readonly toleranceMs?: number;
  /** How long a value may be. */
  readonly limitBytes?: number;
}

const FREE = decode("", null);
const NOTHING: Stored = { text: null, version: null, collectMs: Infinity, record: FREE, value: 0, fence: "" };
const DIGITS = 16;

/** The one store that all processes share: its records, its clock, and what it forgets. */
export class SimStore {
  readonly world: World;
  readonly #options: StoreOptions;
  readonly #onApplied: (applied: Applied) => void;
  readonly #onRefused: (why: "clock" | "size", request: Request) => void;
  readonly #records = new Map<string, Stored>();
  readonly #subscribers = new Map<string, Set<() => void>>();
  /** What was there before each change, the last one last. */
  readonly #past: { readonly atMs: number; readonly key: string; readonly stored: Stored }[] = [];
  #lastVersion = 0;
  #aheadMs = 0;
  #limitBytes: number;

  constructor(
    world: World,
    options: StoreOptions,
    onApplied: (applied: Applied) => void,
    onRefused: (why: "clock" | "size", request: Request) => void = () => {},
  ) {
    this.world = world;
    this.#options = options;
    this.#limitBytes = options.limitBytes ?? Infinity;
    this.#onApplied = onApplied;
    this.#onRefused = onRefused;
  }

  /** Its clock, in milliseconds since the Unix epoch. */
  get clockMs(): number {
    return 1_700_000_000_000 + this.world.now * this.#options.rate + this.#aheadMs;
  }

  /** It takes values of any length from now on. */
  heal(): void {
    this.#limitBytes = Infinity;
  }

  /** Sets its clock. */
  step(ms: number): void {
    this.#aheadMs += ms;
  }

  get(key: string): Entry {
    const { text, version } = this.#stored(key);
    return { key, value: text, version };
  }

  /** What it has under a key, as a record: none if it is something else. */
  recordOf(key: string): LockRecord {
    return this.#stored(key).record;
  }

  keys(prefix: string): string[] {
    return [...this.#records.keys()].filter((key) => key.startsWith(prefix) && this.get(key).value !== null);
  }

  /** Applies all changes or none. `senderMs` is the sender's view of this clock. */
  commit(request: Request, senderMs: number | undefined): CommitResult {
    const { changes, process } = request;
    const { toleranceMs } = this.#options;
    if (changes.some(({ value }) => value !== null && value.length > this.#limitBytes)) {
      this.#onRefused("size", request);
      throw new LockBackendError("the value is too large", { transient: false });
    }
    const entries = changes.map(({ key }) => this.get(key));
    if (changes.some(({ version }, i) => version !== entries[i].version)) return { ok: false, entries };
    if (toleranceMs !== undefined && senderMs !== undefined && senderMs > this.clockMs + toleranceMs) {
      this.#onRefused("clock", request);
      return { ok: false, entries };
    }
    const next = Math.max(Math.floor(this.clockMs * 1000), this.#lastVersion + 1, ...entries.map(after));
    this.#lastVersion = next;
    const version = String(next).padStart(DIGITS, "0");
    request.applied++;
    changes.forEach(({ key, value, expireInMs = Infinity }) => {
      const { record: before } = this.#stored(key);
      const after = decode(key, value);
      const collectMs = this.world.now + expireInMs;
      this.#put(key, { text: value, version: value && version, collectMs, record: after });
      this.#onApplied({ key, request, process, version, before, after });
      this.#notify(key);
    });
    return { ok: true, version };
  }

  /** The guarded write: in one atomic step with the proof that the lock's record is still `proof`. */
  commitGuarded(proof: Pick<Entry, "key" | "version">, write: GuardedWrite): "written" | "changed" | "stale" {
    const { value, fence, version } = this.#stored(proof.key);
    if (version !== proof.version) return "changed";
    if (write.fence < fence) return "stale";
    // Another's write has come between; or a late one of its own, or some were forgotten.
    if (write.base !== value) return write.fence === fence || value < write.base ? "changed" : "stale";
    this.#put(proof.key, { value: value + 1, fence: write.fence });
    return "written";
  }

  value(key: string): number {
    return this.#stored(key).value;
  }

  /** A replica takes over that has not had the last `ms` milliseconds of changes. Answers how many there were. */
  forget(ms: number): number {
    let forgotten = 0;
    while (this.#past.length > 0 && this.#past.at(-1)!.atMs > this.world.now - ms) {
      const { key, stored } = this.#past.pop()!;
      this.#records.set(key, stored);
      forgotten++;
      this.#notify(key);
    }
    return forgotten;
  }

  /** Puts under a free key what is no record, which is never forgotten; the returned function takes it away. */
  corrupt(key: string): (() => void) | undefined {
    if (this.get(key).value !== null) return undefined;
    const junk = '{"v":1,"holders":"nobody"}';
    const version = String(++this.#lastVersion).padStart(DIGITS, "0");
    this.#records.set(key, { ...this.#stored(key), text: junk, version, record: FREE, collectMs: Infinity });
    this.#notify(key);
    return () => {
      if (this.get(key).value !== junk) return;
      this.#records.set(key, { ...this.#stored(key), text: null, version: null });
      this.#notify(key);
    };
  }

  /** Calls `wake` after every change of `key`, until the returned function is called. */
  subscribe(key: string, wake: () => void): () => void {
    if (!this.#subscribers.has(key)) this.#subscribers.set(key, new Set());
    const subscribers = this.#subscribers.get(key)!.add(wake);
    return () => void subscribers.delete(wake);
  }

  #stored(key: string): Stored {
    const stored = this.#records.get(key) ?? NOTHING;
    if (stored.text === null || stored.collectMs > this.world.now) return stored;
    return { ...stored, text: null, version: null, record: FREE };
  }

  #put(key: string, change: Partial<Stored>): void {
    const stored = this.#stored(key);
    this.#past.push({ atMs: this.world.now, key, stored });
    this.#records.set(key, { ...stored, ...change });
  }

  #notify(key: string): void {
    for (const wake of [...this.#subscribers.get(key) ?? []]) wake();
  }
}

/** A version higher than the one of this entry. */
function after({ version }: Entry): number {
  return version === null ? 0 : Number(version) + 1;
}
