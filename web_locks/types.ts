/** The standard's interfaces, as far as they are used here: Deno's default types do not have them. */

/** The modes of the standard. */
export type LockMode = "shared" | "exclusive";

/**
 * A granted lock, as the callback gets it. The standard's has `name` and `mode`; the rest is what code needs to know that
 * runs on one of several machines.
 */
export interface GrantedLock {
  /** The name that was asked for. */
  readonly name: string;
  /** How it is held. */
  readonly mode: LockMode;
  /**
   * Aborts with a `LockLostError` the moment the lock is lost: stolen, taken away by an operator, or expired because the
   * store could not be reached. The promise of the request then rejects with an `AbortError`. Not in the standard.
   */
  readonly signal: AbortSignal;
  /**
   * Rises with every grant of this name, in the order of strings: a resource that keeps the highest one it has seen can
   * refuse what comes with a lower one. Not in the standard.
   */
  readonly fencingToken: string;
}

/** Options of a request. */
export interface LockRequestOptions {
  /** Whether others may hold the lock at the same time that say `"shared"`, too. Default: `"exclusive"`. */
  mode?: LockMode | undefined;
  /** Whether the callback is called with `null`, at once, if the lock is not available. Default: `false`. */
  ifAvailable?: boolean | undefined;
  /** Whether all holders lose the lock, and it is granted before all who wait. Default: `false`. */
  steal?: boolean | undefined;
  /** Cancels the request while it waits: its promise rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined;
  /**
   * For how many milliseconds to wait at most. The promise then rejects with a `LockAcquisitionError`, which tells who
   * holds the lock. Not in the standard. Default: that of the manager.
   */
  waitForMs?: number | undefined;
}

/** One lock that is held, or one request that waits. */
export interface LockInfo {
  /**
   * The name that was asked for. Of one of more than some 500 bytes that another process has asked for, its beginning and
   * a hash.
   */
  name: string;
  /** How it is held or wanted. */
  mode: LockMode;
  /** Names the process. */
  clientId: string;
  /** The label of its manager, or `undefined`. Not in the standard. */
  label: string | undefined;
}

/** What {@linkcode LockManager.query} resolves to. */
export interface LockManagerSnapshot {
  /** The locks that are held. */
  held: LockInfo[];
  /** The requests that wait: those for one name in the order in which they will be granted. */
  pending: LockInfo[];
}

/** The standard's `LockManager`, as `navigator.locks` is one. */
export interface LockManager {
  /**
   * Asks for the lock of `name`, and calls `callback` while it is held: until what it returns has settled. Resolves or
   * rejects as the callback did, when the lock has been released.
   *
   * Rejects with an `AbortError` (DOMException) if the lock was lost meanwhile; the callback runs on. With a
   * `NotSupportedError` for a name that begins with `-`, with a TypeError for bad arguments, and with a `LockBackendError`
   * if the store fails.
   */
  request<Result>(name: string, callback: (lock: GrantedLock | null) => Result): Promise<Awaited<Result>>;
  /** The same with options. Rejects with the signal's reason when that aborts before the lock is granted. */
  request<Result>(
    name: string,
    options: LockRequestOptions,
    callback: (lock: GrantedLock | null) => Result,
  ): Promise<Awaited<Result>>;
  /** All locks of this manager's prefix that are held or asked for, in all processes, as one look at the store finds them. */
  query(): Promise<LockManagerSnapshot>;
}
