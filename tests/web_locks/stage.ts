// What a case of the suite is played on: two lock managers that share their locks, and the callers that ask them. It runs on
// every runtime, with any implementation.
import type { GrantedLock, LockInfo, LockManager, LockRequestOptions } from "../../web_locks.ts";

/** How long one case may take, on a machine that is busy with other things: only what hangs runs into it. */
const LIMIT_MS = 20_000;

/** One thing that the specification says. */
export interface Case {
  readonly says: string;
  readonly play: (stage: Stage) => Promise<unknown>;
}

/** What is true of both. */
export interface Managers {
  readonly a: LockManager;
  readonly b: LockManager;
}

/** One request, whose callback returns when the case says so. */
export class Ask {
  /** Resolves to what the callback was called with. */
  readonly granted: Promise<GrantedLock | null>;
  /** What the request came to; never unhandled. */
  readonly outcome: Promise<unknown>;
  isGranted = false;
  /** Whether the request's promise has settled. */
  isOver = false;
  readonly #result: Promise<unknown>;
  #resolve!: (value: unknown) => void;
  #reject!: (error: unknown) => void;
  #grant!: (lock: GrantedLock | null) => void;

  constructor(
    ask: (callback: (lock: GrantedLock | null) => unknown) => Promise<unknown>,
    onGrant: () => void,
  ) {
    this.granted = new Promise((resolve) => this.#grant = resolve);
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#result.catch(() => {});
    this.outcome = ask((lock) => {
      this.isGranted = true;
      onGrant();
      this.#grant(lock);
      return this.#result;
    });
    this.outcome.catch(() => {}).finally(() => this.isOver = true);
  }

  /** Lets the callback return. Resolves when the request's promise has settled, however. */
  async release(value?: unknown): Promise<void> {
    this.#resolve(value);
    await this.outcome.catch(() => {});
  }

  /** Lets the callback fail. */
  async fail(error: unknown): Promise<void> {
    this.#reject(error);
    await this.outcome.catch(() => {});
  }
}

let cases = 0;

/** Where one case is played. */
export class Stage implements Managers {
  readonly a: LockManager;
  readonly b: LockManager;
  /** A name that no other case uses. */
  readonly name: string = `case ${++cases} ${crypto.randomUUID()}`;
  /** Which callers were granted a lock, in order: by the marks of `ask`. */
  readonly order: string[] = [];
  readonly #asks: Ask[] = [];

  constructor({ a, b }: Managers) {
    this.a = a;
    this.b = b;
  }

  /** Asks, and does not wait. */
  ask(
    manager: LockManager,
    options: LockRequestOptions & { readonly name?: string; readonly mark?: string } = {},
  ): Ask {
    const { name = this.name, mark = "", ...asked } = options;
    const ask = new Ask((callback) => manager.request(name, asked, callback), () => this.order.push(mark));
    this.#asks.push(ask);
    return ask;
  }

  /** The same, until it is granted. */
  async hold(manager: LockManager, options: Parameters<Stage["ask"]>[1] = {}): Promise<Ask> {
    const ask = this.ask(manager, options);
    await Promise.race([ask.granted, ask.outcome]);
    return ask;
  }

  /** Asks one after the other, each when the one before has been granted or is in the queue. */
  async askInOrder(...asks: (readonly [LockManager, Parameters<Stage["ask"]>[1]])[]): Promise<Ask[]> {
    const made: Ask[] = [];
    for (const [manager, options] of asks) {
      made.push(this.ask(manager, options));
      await manager.query();
    }
    return made;
  }

  /** What is held and what waits, of one name. */
  async query(
    manager: LockManager = this.a,
    name: string = this.name,
  ): Promise<{ readonly held: LockInfo[]; readonly pending: LockInfo[] }> {
    const { held, pending } = await manager.query();
    const isMine = (info: LockInfo) => info.name === name;
    return { held: held.filter(isMine), pending: pending.filter(isMine) };
  }

  /** The modes of those that hold, and of those that wait. */
  async modes(manager?: LockManager): Promise<string> {
    const { held, pending } = await this.query(manager);
    const letters = (infos: LockInfo[]) => infos.map(({ mode }) => mode[0] === "e" ? "x" : "s").join("");
    return `${letters(held)}|${letters(pending)}`;
  }

  /** Ends what the case has left. */
  async end(): Promise<void> {
    await Promise.all(this.#asks.map((ask) => ask.release()));
  }
}

/** Plays a case; an error if it does not end in `limitMs`. */
export async function play({ play, says }: Case, managers: Managers, limitMs = LIMIT_MS): Promise<void> {
  const stage = new Stage(managers);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`"${says}" did not end in ${limitMs} ms`)), limitMs);
  });
  try {
    await Promise.race([play(stage), late]);
    await Promise.race([stage.end(), late]);
  } finally {
    clearTimeout(timer);
  }
}
