/**
 * The dialect that every store speaks, and its law. `testing.ts` checks a backend against it.
 *
 * @module
 */

/** One record as a store holds it. */
export interface Entry {
  /** The record's key. */
  readonly key: string;
  /** The record, JSON text; `null` if there is none. */
  readonly value: string | null;
  /** The version of the commit that wrote it; `null` exactly if there is no record. */
  readonly version: string | null;
  /** Whether `value` is no record, but says in words what is there instead, such as "a Redis list". Default: false. */
  readonly foreign?: boolean | undefined;
}

/** One write of a commit, applied only if `version` is still the one in the store. */
export interface Change {
  /** The record's key. */
  readonly key: string;
  /** The version that the record must still have; `null` if it must be absent. */
  readonly version: string | null;
  /** The new record, JSON text; `null` deletes it. */
  readonly value: string | null;
  /**
   * A positive whole number of milliseconds after which nobody needs the record: the store may then
   * delete it, earlier never. Garbage collection only: whether a lease has lapsed is for the core to say.
   */
  readonly expireInMs?: number | undefined;
  /**
   * Whether nothing goes but what the caller itself has put there, whatever the time is: a store with a clock then need
   * not ask whether the caller's is right. Default: `false`.
   */
  readonly isOwn?: boolean | undefined;
}

/** What a commit came to. */
export type CommitResult =
  /** All changes are applied, under this new version. */
  | { readonly ok: true; readonly version: string }
  /** Nothing is applied, unless it `mayBeEcho`. */
  | {
    readonly ok: false;
    /** The ones now there, if the store gives them for free, of other records of the lock, too. */
    readonly entries?: readonly Entry[] | undefined;
    /**
     * Whether the client may have sent the commit twice unasked, so that the second copy may have been refused because of
     * what the first has written. Reading settles that. It is no failure: the store has answered. Default: `false`.
     */
    readonly mayBeEcho?: boolean | undefined;
  };

/** How `commit` is asked. */
export interface CommitOptions {
  /**
   * The names of the watchers of the lock that the commit concerns, see {@linkcode WatchOptions}: these hear of it at once.
   * Other watchers may hear of it late, or only of what comes after it. Default: it concerns everybody.
   */
  readonly concerns?: readonly string[] | undefined;
}

/** How `watch` is asked. */
export interface WatchOptions {
  /** Ends the watch: the iteration then finishes without an error. */
  readonly signal: AbortSignal;
  /**
   * What commits call this watcher if they concern it. It may then be shown, before an entry of `key`, what else the
   * commit has changed beside it: entries of other keys. Default: none; it is shown entries of `key` only, and all commits
   * concern it.
   */
  readonly name?: string | undefined;
  /**
   * Asks for news only where they cost nothing. A store that pushes behaves as always; one that would
   * have to poll yields the current entry and then nothing more until `signal` aborts. Default: `false`.
   */
  readonly idle?: boolean | undefined;
}

/**
 * A store of small versioned records. Everything that a lock can do is written once, above it.
 *
 * Every member may throw {@linkcode LockBackendError}; `transient: true` says that the same call may
 * succeed later. After a failed `commit` the core takes the outcome as unknown and settles it by
 * reading. Anything else that is thrown counts as a failure that waiting does not cure. The `cause` of
 * an error shows no secret: what clients hang on their errors, such as commands with their arguments, stays behind.
 */
export interface LockBackend {
  /** What the errors call the store: `"Redis at 10.0.0.5:6379"`. Default: `"the store"`. */
  readonly name?: string | undefined;

  /**
   * What tells its locks from those of other kinds of stores, and of other prefixes in the same store; the same in every
   * process: `"Redis holdfast"`. A claim to a lock carries it, so that one which is restored on another backend by mistake
   * is refused with an error that says so, not found missing. Default: unknown.
   */
  readonly namespace?: string | undefined;

  /**
   * The entries of `keys` in their order, of one consistent snapshot that contains every commit
   * that was answered before the call.
   */
  read(keys: readonly string[]): Promise<readonly Entry[]>;

  /**
   * Applies all `changes`, to different keys, or none of them.
   *
   * Versions rise strictly per key in the order of strings, across deletion, expiry, clean-up and
   * restarts: the version of the commit that grants a lock is its fencing token. Where the outcome is
   * unknown (the answer was lost) it throws, and it does not repeat the commit by itself; where a client does that
   * unasked, a refusal says that it `mayBeEcho`. A store with a
   * clock may also refuse a commit that was made while `now()` here was wrong; it is right afterwards.
   */
  commit(changes: readonly Change[], options?: CommitOptions): Promise<CommitResult>;

  /**
   * Why the records of these locks cannot be changed in one commit, in a few words for people; `undefined` if they can.
   * Up to two records for each lock are: its own, and one under a key that begins with it and `#queue`. Default: they can.
   */
  whyApart?(keys: readonly string[]): string | undefined;

  /**
   * Yields the current entry of `key`, then an entry after each change. It may skip entries that were
   * overtaken, repeat itself and be late; it must not lose the last change that concerns the watcher. Whether it
   * pushes, polls or does both is the backend's business: the core never sleeps to poll.
   */
  watch(key: string, options: WatchOptions): AsyncIterable<Entry>;

  /**
   * Every entry whose key begins with `prefix`, in any order. What stands among the records without being one must not
   * hide the others: it is yielded, too, as `foreign`, with a short text as its `value` that says what is there, such as
   * "a Redis list", and with some `version` that is not `null`. To `read` such a key is a {@linkcode LockBackendError}
   * that names it, and is not transient.
   */
  list(prefix: string): AsyncIterable<Entry>;

  /** The store's clock, in milliseconds since the Unix epoch, as well as it is known here. */
  now(): number;

  /**
   * By how many milliseconds `now()` may differ between two machines. `Infinity` says that it means
   * nothing: leases of others are then judged only by watching them stand unrenewed for their length.
   */
  readonly skewMs: number;

  /**
   * By how many milliseconds `now()` may be wrong here and now, if that is known to be less than the half of `skewMs`:
   * a lock that was handed over is taken at once only if it is.
   */
  readonly errorMs?: number | undefined;

  /**
   * How late a `watch` may usually be, in milliseconds: the time that the first in line has to take a
   * free lock before the next one may. Too short costs fairness, too long costs time after a crash;
   * neither costs safety.
   */
  readonly graceMs: number;
}
