/**
 * What has gone wrong between a client and its store since that last answered. A client may keep statements back while it
 * cannot connect, and fail none of them: then a caller learns only that the store is silent, and this says why.
 */

import { errorMonitor } from "node:events";
import { printable } from "../core/printable.ts";
import { reasonOf } from "./causes.ts";

/** What of an event emitter is used; the clients' own types say that events have texts for names. */
export interface Emitter {
  /** Listens to an event. */ on(event: string, listener: (error?: unknown) => void): unknown;
  /** Ends listening. */ off(event: string, listener: (error?: unknown) => void): unknown;
}

/** Every error of an event emitter, for a listener that handles none: without another one, an error ends the process. */
const ANY_ERROR = errorMonitor as unknown as string;

/** The last failure of a client since its store last answered. */
export class Trouble {
  #last: string | undefined;

  /** Something has failed. */
  readonly note = (error?: unknown): void => {
    this.#last = printable(reasonOf(error));
  };

  /** The store has answered. */
  readonly forget = (): void => {
    this.#last = undefined;
  };

  /** This text with the last failure behind it, unless there is none or the text says it already. */
  explain(text: string): string {
    const last = this.#last;
    return last === undefined || text.includes(last) ? text : `${text} (last error: ${last})`;
  }

  /** Notes the errors that a client publishes, until the function that it returns is called. */
  listenTo(client: Emitter): () => void {
    client.on(ANY_ERROR, this.note);
    return () => void client.off(ANY_ERROR, this.note);
  }
}
