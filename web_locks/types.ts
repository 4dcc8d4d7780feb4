/** The standard's interfaces, as far as they are used here: Deno's default types do not have them. */

/** The modes of the standard. */
export type LockMode = "shared" | "exclusive";

/**
 * A granted lock, as the callback gets it. The standard's has `name` and `mode`; the rest is for code that runs on
 * one of several machines.
 */
export interface GrantedLock {
  /** The name that was asked for. */
  readonly name: string;
  /** How it is held. */
  readonly mode: LockMode;
  /**
   * Aborts with a `LockLostError` the moment the lock is lost: stolen, evicted by an operator, or expired because
   * the store could not be reached. The promise of the request then rejects with an `AbortError`. Not in the
   * standard.
   */
  readonly signal: AbortSignal;
  /**
   * A string that increases (in lexicographic order) with every grant of this name: a resource that remembers the
   * highest one it has seen can reject writes with a lower one. Not in the standard.
   */
  readonly fencingToken: string;
}

/** Options of a request. */
export interface LockRequestOptions {
  /**
   * Whether other requests with `"shared"` may hold the lock at the same time.
   *
   * @default {"exclusive"}
   */
  mode?: LockMode | undefined;
  /**
   * Whether the callback is called with `null`, at once, if the lock is not available.
   *
   * @default {false}
   */
  ifAvailable?: boolean | undefined;
  /**
   * Whether all holders lose the lock, and it is granted before all waiting requests.
   *
   * @default {false}
   */
  steal?: boolean | undefined;
  /**
   * Cancels the request while it waits: its promise rejects with the signal's reason.
   *
   * @default {undefined} none
   */
  signal?: AbortSignal | undefined;
  /**
   * How many milliseconds to wait at most. The promise then rejects with a `LockAcquisitionError`, which names the
   * holder. Not in the standard.
   *
   * @default {undefined} that of the manager
   */
  waitForMs?: number | undefined;
}

/** One lock that is held, or one request that waits. */
export interface LockInfo {
  /**
   * The name that was asked for. If it has more than some 500 bytes and another process has asked for it, its
   * beginning and a hash.
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
   * Asks for the lock of `name`, and calls `callback` while it is held: until its result has settled. Resolves or
   * rejects as the callback did, when the lock has been released.
   *
   * @typeParam Result What the callback returns.
   * @param name The name of the lock.
   * @param callback Called while the lock is held; gets the lock, or `null` with `ifAvailable`.
   * @returns What the callback returns, once the lock is released.
   * @throws {DOMException} `AbortError` if the lock was lost meanwhile (the callback runs on); `NotSupportedError`
   * for a name that begins with `-`.
   * @throws {TypeError} For bad arguments.
   * @throws {LockBackendError} If the store fails.
   */
  request<Result>(name: string, callback: (lock: GrantedLock | null) => Result): Promise<Awaited<Result>>;
  /**
   * The same with options.
   *
   * @typeParam Result What the callback returns.
   * @param name The name of the lock.
   * @param options The mode, and whether and how to wait.
   * @param callback Called while the lock is held; gets the lock, or `null` with `ifAvailable`.
   * @returns What the callback returns, once the lock is released.
   * @throws {DOMException} `AbortError` if the lock was lost meanwhile (the callback runs on); `NotSupportedError`
   * for a name that begins with `-`.
   * @throws {TypeError} For bad arguments.
   * @throws {LockBackendError} If the store fails.
   * @throws {unknown} The signal's reason, if it aborts before the lock is granted.
   */
  request<Result>(
    name: string,
    options: LockRequestOptions,
    callback: (lock: GrantedLock | null) => Result,
  ): Promise<Awaited<Result>>;
  /**
   * All locks of this manager's prefix that are held or asked for, in all processes, as one look at the store
   * finds them.
   *
   * @returns The locks that are held, and the requests that wait.
   * @throws {LockBackendError} If the store fails.
   */
  query(): Promise<LockManagerSnapshot>;
}
