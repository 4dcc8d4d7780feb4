/** How scripts go to the server. */

import { nextTick } from "node:process";
import type { LockBackendError } from "../../core/errors.ts";
import type { ClientAdapter } from "./adapters.ts";
import { isCrossSlot, unexpected } from "./failures.ts";
import type { Script } from "./scripts.ts";

/**
 * So many scripts at most go to the server as one. While it runs them it serves no other client, and the caller of
 * the first waits until the last is done.
 */
const MAX_BATCH = 32;

/** What makes an answer of a script's reply; it may throw. */
export type Reading<Answer> = (reply: unknown) => Answer;

/** A script with its words: that many keys, and the arguments behind them. */
export interface ScriptCall {
  readonly script: Script;
  readonly keyCount: number;
  readonly words: readonly string[];
}

/** A script that waits to be sent with others. */
interface PendingScript extends ScriptCall {
  answer(reply: unknown): void;
  fail(error: unknown): void;
}

/** What a batcher needs of its backend. */
export interface ScriptBatcherOptions {
  /** The script that runs several. */
  readonly batch: Script;
  /** The store's failure of a script on these keys. */
  failure(cause: unknown, keys: readonly string[]): LockBackendError;
}

/**
 * Sends scripts. As long as an answer is due, more may be on their way out in the same turn of the event loop: these
 * go together, as one script, for a separate command costs more than what it does.
 */
export class ScriptBatcher {
  readonly #adapter: ClientAdapter;
  readonly #options: ScriptBatcherOptions;
  /** How many answers are due. */
  #due = 0;
  #pending: PendingScript[] = [];
  /** Whether one script may touch the keys of several. */
  #sameSlot: boolean;

  constructor(adapter: ClientAdapter, options: ScriptBatcherOptions) {
    this.#adapter = adapter;
    this.#options = options;
    this.#sameSlot = adapter.sameSlot;
  }

  /** Runs a script, which may have to be sent to the server. */
  run<Answer>(call: ScriptCall, read: Reading<Answer>): Promise<Answer> {
    this.#due++;
    return this.#sent(call).then(
      (reply) => {
        this.#due--;
        return read(reply);
      },
      async (error) => {
        this.#due--;
        const unknown = error instanceof Error && error.message.startsWith("NOSCRIPT");
        if (!unknown) throw this.#failure(error, call);
        const { script, keyCount, words } = call;
        return read(
          await this.#adapter.eval(script.text, keyCount, words).catch((error) => {
            throw this.#failure(error, call);
          }),
        );
      },
    );
  }

  /** The same for what changes one record, which may go together with others. */
  send<Answer>(call: ScriptCall, read: Reading<Answer>): Promise<Answer> {
    if (this.#due === 0 || !this.#sameSlot) return this.run(call, read);
    // Written out: a copy of the call by spreading it takes longer than all else here.
    const { script, keyCount, words } = call;
    return new Promise((resolve, reject) => {
      const answer = (reply: unknown) => {
        try {
          resolve(read(reply));
        } catch (error) {
          reject(error);
        }
      };
      const count = this.#pending.push({ script, keyCount, words, answer, fail: reject });
      if (count === 1) nextTick(this.#flush);
      if (count === MAX_BATCH) this.#flush();
    });
  }

  /** The client's answer; what it throws is one too. */
  #sent({ script, keyCount, words }: ScriptCall): Promise<unknown> {
    try {
      return this.#adapter.evalSha(script.sha, keyCount, words);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #failure(cause: unknown, { words, keyCount }: ScriptCall): LockBackendError {
    return this.#options.failure(cause, words.slice(0, keyCount));
  }

  readonly #flush = (): void => {
    const pending = this.#pending;
    this.#pending = [];
    if (pending.length > 1) this.#runBatch(pending);
    else this.#runSingly(pending);
  };

  #runSingly(pending: readonly PendingScript[]): void {
    for (const one of pending) this.run(one, one.answer).catch(one.fail);
  }

  #runBatch(pending: readonly PendingScript[]): void {
    let opcodes = "";
    const keys: string[] = [];
    const args: string[] = [];
    for (const { script, keyCount, words } of pending) {
      opcodes += script.opcode;
      for (let i = 0; i < words.length; i++) (i < keyCount ? keys : args).push(words[i]);
    }
    const distribute = (replies: unknown) => {
      if (!Array.isArray(replies)) throw unexpected(replies);
      for (const [i, reply] of replies.entries()) {
        const failed = Array.isArray(reply) && reply.length === 1;
        if (failed) pending[i].fail(this.#failure(new Error(String(reply[0])), pending[i]));
        else pending[i].answer(reply);
      }
    };
    const call = { script: this.#options.batch, keyCount: keys.length, words: [...keys, opcodes, ...args] };
    this.run(call, distribute).catch((error: LockBackendError) => {
      if (!isCrossSlot(error.cause)) return pending.forEach(({ fail }) => fail(error));
      // Nothing was done. A client that is none of a cluster may still speak to one that is whole at one address.
      this.#sameSlot = false;
      this.#runSingly(pending);
    });
  }
}
