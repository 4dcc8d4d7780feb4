/** How the server is called: within a limit, without the client's own repetitions, and with an eye on its clock. */

import { systemClock } from "../../core/clock.ts";
import { publishBackendError } from "../../core/events.ts";
import { within } from "../../core/time_limit.ts";
import type { ServerClock } from "../server_clock.ts";
import { Trouble } from "../trouble.ts";
import { answerOf, type Found, lookedUp, timeOf } from "./answers.ts";
import type { DatastoreApi, DatastoreKey } from "./api.ts";
import { givenUpBy, madeOf } from "./client.ts";
import { failureOf, LimitError } from "./failures.ts";

/** What is known of all calls to one database. */
export interface CallsOptions {
  readonly database: { readonly projectId: string; readonly databaseId: string };
  readonly timeoutMs: number;
  /** Learns from every answer that contains the time. */
  readonly clock: ServerClock;
}

/** The calls to one database. */
export class DatastoreCalls {
  readonly #api: DatastoreApi;
  readonly #options: CallsOptions;
  /** What has gone wrong since the server last answered. */
  readonly trouble: Trouble = new Trouble();
  /** Whether the server has answered a call. */
  hasAnswered = false;

  constructor(api: DatastoreApi, options: CallsOptions) {
    this.#api = api;
    this.#options = options;
  }

  /** Where the server is, if the client was made by `datastoreClient`. */
  get host(): string | undefined {
    return madeOf(this.#api)?.host;
  }

  /** One call. Rejects with LockBackendError. */
  async call(method: keyof DatastoreApi, request: object): Promise<unknown> {
    const { database, timeoutMs, clock } = this.#options;
    const sentMs = systemClock.monotonicMs();
    const rest = madeOf(this.#api)?.rest === true;
    // Over REST the client's own limit would keep a Deno process alive until it has passed.
    const options = { timeout: rest ? Infinity : timeoutMs, retry: { retryCodes: [] } };
    try {
      const call = () => this.#api[method]({ ...database, ...request }, options);
      const answer = answerOf(await (rest ? this.#limited(call) : call()));
      this.hasAnswered = true;
      this.trouble.forget();
      // A rollback answers nothing.
      const serverMs = method === "rollback" ? undefined : timeOf(answer);
      if (serverMs !== undefined) {
        clock.learn({ sentMs, receivedMs: systemClock.monotonicMs(), serverMs });
      }
      return answer;
    } catch (error) {
      const failure = failureOf(error, method, this.host);
      if (failure.transient) this.trouble.note(error);
      throw failure;
    }
  }

  /** A call over REST: if it takes too long, its request is given up. */
  #limited(call: () => Promise<unknown>): Promise<unknown> {
    const { timeoutMs } = this.#options;
    const request = new AbortController();
    const late = () => {
      request.abort();
      return new LimitError(`no answer within ${timeoutMs} ms`);
    };
    return within(givenUpBy(request.signal, call), timeoutMs, { clock: systemClock, late });
  }

  /** The entities of these keys that are there. */
  async lookup(keys: readonly DatastoreKey[], readOptions?: object): Promise<readonly Found[]> {
    const all: Found[] = [];
    for (let ask = keys; ask.length > 0;) {
      const { found, deferred } = lookedUp(await this.call("lookup", { keys: ask, readOptions }));
      for (const one of found) all.push(one);
      ask = deferred;
    }
    return all;
  }

  /**
   * Gives a transaction up that was begun for the lock of `identifier`. A failure is published and not thrown: the
   * server gives the transaction up by itself, only later, and the caller has its outcome.
   */
  async rollback(transaction: unknown, identifier: string): Promise<void> {
    try {
      await this.call("rollback", { transaction });
    } catch (error) {
      publishBackendError(identifier, error);
    }
  }
}
