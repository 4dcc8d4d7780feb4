/** How scripts go to the server. */

import { nextTick } from "node:process";
import type { LockBackendError } from "../../core/errors.ts";
import type { Port } from "./clients.ts";
import { isApart, unexpected } from "./failures.ts";
import type { Script } from "./scripts.ts";

/** So many commits at most go together: the server does nothing else meanwhile, and we await the first as long. */
const MOST_TOGETHER = 32;

/** What makes an answer of a script's reply; it may throw. */
export type Reading<Answer> = (reply: unknown) => Answer;

/** The work of one script on one record, on its way to the server. */
interface Errand {
  readonly script: Script;
  readonly keyCount: number;
  readonly words: readonly string[];
  answer(reply: unknown): void;
  fail(error: unknown): void;
}

/**
 * Sends scripts. As long as an answer is due, more may be on their way out in the same turn of the event loop: these
 * go together, as one script, for a command of its own costs more than what it does.
 */
export class Outbox {
  readonly #port: Port;
  readonly #each: Script;
  readonly #failure: (cause: unknown, keys: readonly string[]) => LockBackendError;
  /** How many answers are due. */
  #due = 0;
  #gathered: Errand[] = [];
  #together: boolean;

  constructor(
    port: Port,
    each: Script,
    failure: (cause: unknown, keys: readonly string[]) => LockBackendError,
  ) {
    this.#port = port;
    this.#each = each;
    this.#failure = failure;
    this.#together = port.together;
  }

  /** Runs a script, which the server may have to be told. */
  run<Answer>(
    script: Script,
    keyCount: number,
    words: readonly string[],
    read: Reading<Answer>,
  ): Promise<Answer> {
    this.#due++;
    return this.#sent(script, keyCount, words).then(
      (reply) => {
        this.#due--;
        return read(reply);
      },
      async (error) => {
        this.#due--;
        const unknown = error instanceof Error && error.message.startsWith("NOSCRIPT");
        const failure = (error: unknown) => this.#failure(error, words.slice(0, keyCount));
        if (!unknown) throw failure(error);
        return read(
          await this.#port.eval(script.text, keyCount, words).catch((error) => {
            throw failure(error);
          }),
        );
      },
    );
  }

  /** The client's answer; what it throws is one too. */
  #sent({ sha }: Script, keyCount: number, words: readonly string[]): Promise<unknown> {
    try {
      return this.#port.evalSha(sha, keyCount, words);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The same for what changes one record, which may go together with others. */
  send<Answer>(
    script: Script,
    keyCount: number,
    words: readonly string[],
    read: Reading<Answer>,
  ): Promise<Answer> {
    if (this.#due === 0 || !this.#together) return this.run(script, keyCount, words, read);
    return new Promise((resolve, reject) => {
      const answer = (reply: unknown) => {
        try {
          resolve(read(reply));
        } catch (error) {
          reject(error);
        }
      };
      const count = this.#gathered.push({ script, keyCount, words, answer, fail: reject });
      if (count === 1) nextTick(this.#flush);
      if (count === MOST_TOGETHER) this.#flush();
    });
  }

  readonly #flush = (): void => {
    const errands = this.#gathered;
    this.#gathered = [];
    if (errands.length > 1) this.#runEach(errands);
    else this.#runApart(errands);
  };

  #runApart(errands: readonly Errand[]): void {
    for (const { script, keyCount, words, answer, fail } of errands) {
      this.run(script, keyCount, words, answer).catch(fail);
    }
  }

  #runEach(errands: readonly Errand[]): void {
    let letters = "";
    const keys: string[] = [];
    const args: string[] = [];
    for (const { script, keyCount, words } of errands) {
      letters += script.letter;
      for (const [i, word] of words.entries()) (i < keyCount ? keys : args).push(word);
    }
    const spread = (replies: unknown) => {
      if (!Array.isArray(replies)) throw unexpected(replies);
      for (const [i, reply] of replies.entries()) {
        const failed = Array.isArray(reply) && reply.length === 1;
        const { words, keyCount } = errands[i];
        if (failed) errands[i].fail(this.#failure(new Error(String(reply[0])), words.slice(0, keyCount)));
        else errands[i].answer(reply);
      }
    };
    this.run(this.#each, keys.length, [...keys, letters, ...args], spread).catch(
      (error: LockBackendError) => {
        if (!isApart(error.cause)) return errands.forEach(({ fail }) => fail(error));
        // Nothing was done. A client that is none of a cluster may still speak to one that is whole at one address.
        this.#together = false;
        this.#runApart(errands);
      },
    );
  }
}
