import { onAbort } from "../core/abort.ts";
import type { LockBackend } from "../core/backend.ts";
import { backendError, type LockLostError } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { keyOf, plainKeyOf } from "../core/identifier.ts";
import type { CheckedOptions } from "../core/options.ts";
import { type Participant, participantOf } from "../core/participant.ts";
import { type Asked, askedBy, checkAsked } from "./arguments.ts";
import { escaped, unescaped } from "./names.ts";
import { snapshotOf } from "./snapshot.ts";
import type { GrantedLock, LockManager, LockManagerSnapshot, LockMode } from "./types.ts";

/** One request from the call until its lock is released. */
interface Underway {
  readonly name: string;
  readonly key: string;
  /** Resolves when it is granted, is over, or has its place in the queue. */
  readonly placed: Promise<void>;
}

/** The standard's lock manager: `request` and `query`. */
export class Manager implements LockManager {
  readonly #participant: Participant;
  readonly #prefix: string;
  readonly #options: CheckedOptions;
  readonly #underway = new Set<Underway>();

  constructor(
    { backend, prefix, options }: {
      readonly backend: LockBackend;
      readonly prefix: string;
      readonly options: CheckedOptions;
    },
  ) {
    this.#participant = participantOf(backend);
    this.#prefix = prefix;
    this.#options = options;
  }

  get [Symbol.toStringTag](): string {
    return "LockManager";
  }

  async request<Result>(name: unknown, second: unknown, ...rest: unknown[]): Promise<Awaited<Result>> {
    const asked = askedBy(name, second, rest);
    checkAsked(asked);
    return await this.#request(asked) as Awaited<Result>;
  }

  async query(): Promise<LockManagerSnapshot> {
    // What was asked for before is in the store: held, or in its place in the queue.
    const underway = [...this.#underway];
    await Promise.all(underway.map(({ placed }) => placed));
    const names = new Map([...this.#underway].map(({ key, name }) => [key, name]));
    const nameOf = (key: string) => names.get(key) ?? unescaped(key.slice(this.#prefix.length));
    try {
      return await snapshotOf(this.#participant, { prefix: this.#prefix, nameOf });
    } catch (error) {
      throw backendError(this.#prefix, "query", error);
    }
  }

  async #request(asked: Asked): Promise<unknown> {
    const identifier = this.#prefix + escaped(asked.name);
    const key = plainKeyOf(identifier) ?? await keyOf(identifier);
    let onPlaced = () => {};
    const placed = new Promise<void>((resolve) => onPlaced = resolve);
    const underway: Underway = { name: asked.name, key, placed };
    this.#underway.add(underway);
    try {
      const hold = await this.#acquire({ identifier, key, asked, onPlaced });
      return await (hold === null ? asked.callback(null) : this.#runUnder(hold, asked));
    } finally {
      onPlaced();
      this.#underway.delete(underway);
    }
  }

  /** Resolves to `null` if the lock is not available, where that was asked. */
  #acquire(
    { identifier, key, asked, onPlaced }: {
      readonly identifier: string;
      readonly key: string;
      readonly asked: Asked;
      readonly onPlaced: () => void;
    },
  ): Promise<Hold | null> {
    const { mode, ifAvailable, steal, signal, waitForMs = this.#options.waitForMs } = asked;
    const options: CheckedOptions = {
      ...this.#options,
      mode,
      signal,
      waitForMs,
      mayWait: !ifAvailable && waitForMs !== 0,
      stealAfterMs: steal ? 0 : undefined,
      ownEntry: { onPlaced },
      goesFirst: steal,
    };
    return new Promise((resolve, reject) => {
      this.#participant.acquire({ identifier, key, options }, (hold, error, taken) => {
        onPlaced();
        if (hold !== undefined) resolve(hold);
        else if (taken && ifAvailable) resolve(null);
        else reject(error);
      });
    });
  }

  /** Calls the callback, and releases when what it returns has settled. The loss of the lock goes before that. */
  #runUnder(hold: Hold, { name, mode, signal, callback }: Asked): Promise<unknown> {
    hold.keep();
    return new Promise((resolve, reject) => {
      const onLost = () => reject(abortErrorOf(hold.lost!));
      const forget = onAbort(hold.startWatching().signal, onLost);
      if (hold.lost !== undefined) onLost();
      const call = async () => {
        // It may have aborted since the grant.
        if (signal?.aborted) throw signal.reason;
        return await callback(new Granted(hold, { name, mode }));
      };
      const release = async () => {
        await hold.releaseQuietly();
        forget();
      };
      call().then(
        (result) => release().then(() => resolve(result)),
        (error) => release().then(() => reject(error)),
      );
    });
  }
}

/** What the callback gets. */
class Granted implements GrantedLock {
  readonly #hold: Hold;
  readonly #name: string;
  readonly #mode: LockMode;

  constructor(hold: Hold, { name, mode }: { readonly name: string; readonly mode: LockMode }) {
    this.#hold = hold;
    this.#name = name;
    this.#mode = mode;
  }

  get [Symbol.toStringTag](): string {
    return "Lock";
  }

  get name(): string {
    return this.#name;
  }

  get mode(): LockMode {
    return this.#mode;
  }

  get signal(): AbortSignal {
    return this.#hold.signal;
  }

  get fencingToken(): string {
    return this.#hold.fencingToken;
  }
}

/** What the promise of a request rejects with whose lock was lost. */
function abortErrorOf(loss: LockLostError): DOMException {
  const error = new DOMException(loss.message, "AbortError");
  return Object.defineProperty(error, "cause", { value: loss, configurable: true, writable: true });
}
