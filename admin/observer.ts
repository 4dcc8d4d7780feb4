import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { LossReason } from "../core/errors.ts";
import { type LockEvents, publishBackendError } from "../core/events.ts";
import { keyOf } from "../core/identifier.ts";
import { locks, storeOf, type StoreOptions } from "../core/operators/api.ts";
import { type ListedLock, OPERATOR_TIMEOUT_MS } from "../core/operators/listing.ts";
import { History } from "./history.ts";

/** How many locks a look takes in. */
const MAX_LOCKS = 2000;

/** How many losses of this process are remembered. */
const MAX_LOSSES = 50;

/** A lock that this process has lost, on whatever store. */
export interface Loss {
  readonly identifier: string;
  readonly label: string | undefined;
  readonly fencingToken: string;
  readonly heldMs: number;
  readonly reason: LossReason;
  /** When it was published. */
  readonly at: number;
}

/** What one look at a store has shown. */
export interface Look {
  /** When, by this process's clock. */
  readonly at: number;
  /** The name of the store, if it has one and could be opened. */
  readonly store: string | undefined;
  /** What identifiers or labels must contain. */
  readonly find: string;
  readonly locks: readonly ListedLock[];
  /** Whether there are more of such locks than a look takes in. */
  readonly more: boolean;
  /** Why the look failed, if it did. */
  readonly trouble: unknown;
  readonly history: History;
  readonly losses: readonly Loss[];
}

const losses: Loss[] = [];
let listening = false;

/** Remembers from now on what this process loses: losses are rare, and published only once. */
export function rememberLosses(): void {
  if (listening) return;
  listening = true;
  subscribe("holdfast:lost", (message) => {
    const { identifier, label, fencingToken, heldMs, reason } = message as LockEvents["holdfast:lost"];
    losses.push({ identifier, label, fencingToken, heldMs, reason, at: Date.now() });
    if (losses.length > MAX_LOSSES) losses.shift();
  });
}

/** Shows a look to one viewer. */
type Viewer = (look: Look) => void;

/** Looks at a store for all viewers of the page, and only while there is one. */
export class Observer {
  readonly history: History = new History();
  readonly #store: StoreOptions;
  readonly #refreshMs: number;
  /** A viewer of the page, and what it looks at. */
  readonly #viewers = new Map<Viewer, string>();
  /** The looks under way, by what they are for. */
  readonly #looking = new Map<string, Promise<Look>>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(store: StoreOptions, refreshMs: number) {
    this.#store = store;
    this.#refreshMs = refreshMs;
  }

  /**
   * Shows every look for what contains `find` to `viewer` from now on, until the function that is returned is called.
   */
  follow(viewer: Viewer, find = ""): () => void {
    this.#viewers.set(viewer, find);
    if (this.#viewers.size === 1) {
      for (const name of ENDS) subscribe(name, this.#hear);
      this.#timer = setTimeout(this.#tick, this.#refreshMs);
    }
    return () => this.#forget(viewer);
  }

  #forget(viewer: Viewer): void {
    if (!this.#viewers.delete(viewer) || this.#viewers.size > 0) return;
    for (const name of ENDS) unsubscribe(name, this.#hear);
    clearTimeout(this.#timer);
  }

  /** Looks now for identifiers that contain `find`; calls made meanwhile share the same look. Never rejects. */
  look(find = ""): Promise<Look> {
    return this.#looking.get(find) ?? this.#begin([find]).get(find)!;
  }

  /**
   * Looks again, so that what is shown is no older than the call, and shows it to every viewer. Then calls `done`. It
   * never fails: neither a timer nor an operator who has just released a lock could do anything about a failure.
   */
  renew(done = () => {}): void {
    Promise.all(this.#looking.values()).then(async () => {
      const looks = this.#begin([...new Set(this.#viewers.values())]);
      await Promise.all(looks.values());
      for (const [viewer, find] of this.#viewers) {
        const look = await looks.get(find);
        if (look !== undefined) this.#show(viewer, look);
      }
    }).catch(tellTrouble).finally(done);
  }

  readonly #tick = (): void => {
    this.renew(() => {
      clearTimeout(this.#timer);
      if (this.#viewers.size > 0) this.#timer = setTimeout(this.#tick, this.#refreshMs);
    });
  };

  /** A viewer that fails keeps neither the others from seeing nor the timer from going on, and is not asked again. */
  #show(viewer: Viewer, look: Look): void {
    try {
      viewer(look);
    } catch (error) {
      this.#forget(viewer);
      tellTrouble(error);
    }
  }

  readonly #hear = (message: unknown): void => {
    const { identifier, fencingToken, ...rest } = message as LockEvents[(typeof ENDS)[number]];
    const isHandedOver = "handedOver" in rest && rest.handedOver;
    const how = "reason" in rest ? rest.reason : isHandedOver ? "handed-over" : "released";
    const now = Date.now();
    keyOf(identifier).then((key) => this.history.end(key, fencingToken, how, now)).catch(tellTrouble);
  };

  /** Looks at the store once, for all of these texts at the same time. */
  #begin(finds: readonly string[]): Map<string, Promise<Look>> {
    const looking = this.#look(finds);
    const begun = new Map<string, Promise<Look>>();
    for (const find of finds) {
      const look = looking.then((looks) => looks.get(find)!);
      begun.set(find, look);
      this.#looking.set(find, look);
    }
    const end = () => {
      for (const [find, look] of begun) if (this.#looking.get(find) === look) this.#looking.delete(find);
    };
    looking.then(end).catch(tellTrouble);
    return begun;
  }

  /** Reads the listing as far as a viewer needs it: the identifier that is looked for may be the last. */
  async #look(finds: readonly string[]): Promise<Map<string, Look>> {
    const all = new Found("");
    const wanted = new Map([
      ["", all],
      ...finds.map((find) => [find, find === "" ? all : new Found(find)] as const),
    ]);
    let trouble: unknown;
    let store: string | undefined;
    try {
      const { name, namespace } = await storeOf(this.#store);
      store = name ?? namespace;
      for await (const lock of inTime(locks(this.#store))) {
        for (const found of wanted.values()) found.add(lock);
        if ([...wanted.values()].every(({ more }) => more)) break;
      }
    } catch (error) {
      trouble = error;
    }
    const at = Date.now();
    if (trouble === undefined) this.history.see(all.locks, at, 3 * this.#refreshMs);
    const { history } = this;
    const looks = new Map<string, Look>();
    for (const [find, { locks, more }] of wanted) {
      looks.set(find, { at, store, find, locks, more, trouble, history, losses });
    }
    return looks;
  }
}

/** The locks of a look whose identifiers match, up to the number that a look shows. */
class Found {
  readonly locks: ListedLock[] = [];
  more = false;
  readonly #find: string;

  constructor(find: string) {
    this.#find = find;
  }

  add(lock: ListedLock): void {
    if (this.more || !this.#isMeant(lock)) return;
    if (this.locks.length === MAX_LOCKS) this.more = true;
    else this.locks.push(lock);
  }

  #isMeant({ identifier, holders, waiters }: ListedLock): boolean {
    const find = this.#find;
    if (find === "" || identifier.includes(find)) return true;
    return holders.some(({ label }) => label?.includes(find)) ||
      waiters.some(({ label }) => label?.includes(find));
  }
}

/** Reports that something could not be shown: there is no caller to reject to. */
function tellTrouble(error: unknown): void {
  publishBackendError("", error);
}

const ENDS = ["holdfast:released", "holdfast:lost"] as const;

/** A listing that fails when the store is silent for longer than `limitMs`. */
export async function* inTime(
  listing: AsyncIterableIterator<ListedLock>,
  limitMs: number = OPERATOR_TIMEOUT_MS,
): AsyncGenerator<ListedLock> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let heardAt = performance.now();
  const late = new Promise<never>((_, reject) => {
    // One timer for all that is listed, not one for each.
    const wait = () => {
      const leftMs = heardAt + limitMs - performance.now();
      if (leftMs > 0) timer = setTimeout(wait, Math.ceil(leftMs));
      else reject(new Error(`it has been silent for ${limitMs / 1000} s`));
    };
    wait();
  });
  late.catch(() => {});
  try {
    for (;;) {
      const { done, value } = await Promise.race([listing.next(), late]);
      if (done) return;
      yield value;
      heardAt = performance.now();
    }
  } finally {
    clearTimeout(timer);
    // Not waited for: a store that is silent does not end a listing either.
    listing.return?.().catch(() => {});
  }
}
