import { addressOf } from "./record/concerns.ts";
import type { NamingParticipant } from "./members.ts";
import type { QueueEntry } from "./record/record.ts";

/** The names that one participant gives: to itself, to its tokens and to the queues that it opens. */
export class Names implements NamingParticipant {
  /** Names it in queues. */
  readonly id: string = crypto.randomUUID();
  /** Makes its tokens unguessable, and distinguishes them from those of others. */
  readonly secret: string = crypto.randomUUID();
  /** How many it has given. */
  #count = 0;

  /** What commits call it that concern it. */
  get address(): string {
    return addressOf(this.secret);
  }

  /** Whether a token is one that it has given. */
  owns(token: string): boolean {
    return token.startsWith(this.secret);
  }

  /** A token that is new and cannot be guessed. */
  newToken(): string {
    return `${this.secret}/${++this.#count}`;
  }

  /** A name that no queue entry has had before, for a request that has its own entry. */
  newEntryName(): string {
    return this.newQueueId();
  }

  /** Whether a queue entry is its own, or that of one of its requests. */
  isNameOf({ participant }: QueueEntry): boolean {
    return participant === this.id || participant.startsWith(this.id + "/");
  }

  /** A name that no queue has had before. */
  newQueueId(): string {
    return `${this.id}/${++this.#count}`;
  }
}
