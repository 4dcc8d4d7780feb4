import { setTimeout } from "node:timers/promises";
import type {
  Change,
  CommitOptions,
  CommitResult,
  Entry,
  LockBackend,
  WatchOptions,
} from "../core/backend.ts";
import { LockBackendError } from "../core/errors.ts";

/** What happens to a commit on its way; `apply` hands it to the store. */
export type Plan = (apply: () => Promise<CommitResult>) => Promise<CommitResult>;

/** Everything goes through; nothing is answered any more; everything is refused with this error. */
type Line = "up" | "silent" | Error;

/**
 * A backend as one process sees it: counts the calls to the store, and breaks the connection to it in the
 * ways in which connections break. To the core, every probe is a separate process.
 */
export class Probe implements LockBackend {
  /** How many commits and reads have been asked for. */
  commits = 0;
  reads = 0;
  /** How many calls are unanswered, and how many watches have not ended. */
  inFlight = 0;
  watches = 0;
  /** By how much this process's view of the store's clock is wrong. */
  shiftMs = 0;
  /** By how much clocks may differ, if this process thinks otherwise than its backend. */
  #skewMs: number | undefined;
  readonly name: string | undefined;
  readonly namespace: string | undefined;
  readonly graceMs: number;
  readonly #backend: LockBackend;
  readonly #plans: Plan[] = [];
  readonly #unanswered = new Set<(error: Error) => void>();
  #line: Line = "up";
  #called = new Latch();

  constructor(backend: LockBackend) {
    this.#backend = backend;
    this.name = backend.name;
    this.namespace = backend.namespace;
    this.graceMs = backend.graceMs;
  }

  read(keys: readonly string[]): Promise<readonly Entry[]> {
    this.reads++;
    return this.#call(() => this.#backend.read(keys));
  }

  commit(changes: readonly Change[], options?: CommitOptions): Promise<CommitResult> {
    this.commits++;
    const apply = () => this.#backend.commit(changes, options);
    const plan = this.#plans.shift();
    return this.#call(plan === undefined ? apply : () => plan(apply));
  }

  async *watch(key: string, options: WatchOptions): AsyncGenerator<Entry> {
    this.watches++;
    try {
      for await (const entry of this.#backend.watch(key, options)) {
        if (this.#line instanceof Error) throw this.#line;
        if (this.#line === "up") yield entry;
      }
    } finally {
      this.watches--;
    }
  }

  list(prefix: string): AsyncIterable<Entry> {
    return this.#backend.list(prefix);
  }

  now(): number {
    return this.#backend.now() + this.shiftMs;
  }

  get skewMs(): number {
    // Asked for each time: a backend may have to learn it from the store's answers.
    return this.#skewMs ?? this.#backend.skewMs;
  }

  set skewMs(ms: number) {
    this.#skewMs = ms;
  }

  get errorMs(): number | undefined {
    return this.#skewMs === undefined ? this.#backend.errorMs : undefined;
  }

  /** Says what happens to the next commits, one plan each. */
  plan(...plans: Plan[]): void {
    this.#plans.push(...plans);
  }

  /** From now on nothing is answered, as if the process or the connection were dead. */
  silence(): void {
    this.#line = "silent";
  }

  /** From now on everything fails with `error`. */
  fail(error: Error): void {
    this.#line = error;
  }

  /** New calls go through again. Those without an answer never get one. */
  heal(): void {
    this.#line = "up";
  }

  /** Ends what still waits for an answer, so that nothing of a dead process outlives its test. */
  end(): void {
    const over = new LockBackendError("the test is over");
    if (this.#silent) this.#line = over;
    this.#plans.length = 0;
    for (const reject of this.#unanswered) reject(over);
  }

  /** Until the next call. */
  called(): Promise<void> {
    return this.#called.passed;
  }

  /** Until everything is answered and every watch has ended; `false` if that takes longer than `limitMs`. */
  async idle(limitMs: number): Promise<boolean> {
    const started = performance.now();
    while (this.inFlight > 0 || this.watches > 0) {
      if (performance.now() - started > limitMs) return false;
      await setTimeout(1);
    }
    return true;
  }

  async #call<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    this.inFlight++;
    this.#called.open();
    this.#called = new Latch();
    try {
      if (this.#line instanceof Error) throw this.#line;
      if (this.#silent) return await this.#silence();
      const answer = await ask();
      // A line that broke meanwhile takes the answer with it.
      return this.#silent ? await this.#silence() : answer;
    } finally {
      this.inFlight--;
    }
  }

  get #silent(): boolean {
    return this.#line === "silent";
  }

  #silence(): Promise<never> {
    return new Promise((_, reject) => this.#unanswered.add(reject));
  }
}

/** The commit lands and its answer is lost. */
export const loseAnswer: Plan = async (apply) => {
  await apply();
  throw new LockBackendError("the answer was lost", { transient: true });
};

/** The commit is lost before it reaches the store. */
export const loseRequest: Plan = () =>
  Promise.reject(new LockBackendError("the request was lost", { transient: true }));

/** The commit lands, and the process stands still for `ms` before it sees the answer. */
export function freezeAfter(ms: number): Plan {
  return async (apply) => {
    const answer = await apply();
    freeze(ms);
    return answer;
  };
}

/** Stands still for `ms`: no timer, no answer, nothing. */
export function freeze(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

/** A commit that a test lets through when it likes. */
export interface Gate {
  /** The commit has come this far. */
  readonly reached: Promise<void>;
  /** Lets it through. */
  open(): void;
  /** The store has answered it. */
  readonly answered: Promise<void>;
  readonly plan: Plan;
}

/** Holds a commit up before it reaches the store. */
export function gateRequest(): Gate {
  return gate(async (apply, pass) => {
    await pass();
    return await apply();
  });
}

/** Lets a commit land and holds its answer up. */
export function gateAnswer(): Gate {
  return gate(async (apply, pass) => {
    const answer = await apply();
    await pass();
    return answer;
  });
}

function gate(
  run: (apply: () => Promise<CommitResult>, pass: () => Promise<void>) => Promise<CommitResult>,
): Gate {
  const reached = new Latch();
  const opened = new Latch();
  const answered = new Latch();
  const pass = () => {
    reached.open();
    return opened.passed;
  };
  return {
    reached: reached.passed,
    open: opened.open,
    answered: answered.passed,
    plan: (apply) => run(() => apply().finally(answered.open), pass),
  };
}

/** Something that happens once, and can be waited for. */
export class Latch {
  /** Resolves when it has happened. */
  readonly passed: Promise<void>;
  /** It happens. */
  readonly open: () => void;

  constructor() {
    let open = () => {};
    this.passed = new Promise((resolve) => open = resolve);
    this.open = open;
  }
}
