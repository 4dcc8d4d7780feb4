/** Starts the workers, lets things happen to them, and keeps the books. */

import { Child, type Message, now } from "../tests/support/child.ts";
import type { Timeline } from "./timeline.ts";
import { type Command, LEASE_MS, STEAL_AFTER_MS } from "./worker.ts";

export const NAMES = ["ada", "ben", "cleo", "dan"] as const;
export type Name = typeof NAMES[number];

/** How long to wait for what must come, before the demo says what did not. */
const STUCK_MS = 10_000;

/** One critical section: from the grant to the last moment at which its process did anything in it. */
export interface Section {
  readonly name: Name;
  /** When it asked for the lock. */
  readonly asked: number;
  readonly from: number;
  to: number;
  /** When its release was through, if there was one. */
  released: number | undefined;
}

/** A write that came too late. */
export interface Refusal {
  readonly name: Name;
  readonly reason: string;
  /** Whether its process was still sure of the lock when it sent the write: then the store alone refused it. */
  readonly heldWhenSent: boolean;
}

export class Show implements AsyncDisposable {
  readonly sections: Section[] = [];
  readonly refusals: Refusal[] = [];
  /** How many increments were acknowledged to each worker. */
  readonly acknowledged: Record<Name, number> = { ada: 0, ben: 0, cleo: 0, dan: 0 };
  readonly #timeline: Timeline;
  readonly #workers: Record<Name, Child>;
  readonly #asked = new Map<Name, number>();
  readonly #open = new Map<Name, Section>();
  readonly #listeners = new Set<(name: Name, message: Message) => void>();

  constructor(timeline: Timeline, dir: string) {
    this.#timeline = timeline;
    const script = new URL("./worker.ts", import.meta.url);
    const flags = [`--allow-read=${dir}`, `--allow-write=${dir}`];
    const start = (name: Name) => {
      const listen = (message: Message) => this.#hear(name, message);
      return new Child(script, { flags, args: [`${dir}/kv.sqlite`, name], listen });
    };
    this.#workers = { ada: start("ada"), ben: start("ben"), cleo: start("cleo"), dan: start("dan") };
  }

  /** From the first increment to the last. */
  async play(): Promise<void> {
    await Promise.all(NAMES.map((name) => this.#workers[name].next("ready")));
    this.#timeline.start(now());
    for (const name of NAMES) this.#tell(name, "start");

    await pass(3500);
    await this.#kill("ben");
    await pass(2500);
    await this.#freeze("cleo");
    await pass(2000);
    await this.#rob("ada", "dan");
    await pass(2000);

    const left = NAMES.filter((name) => name !== "ben");
    const finished = Promise.all(left.map((name) => this.#until("finished", (by) => by === name)));
    for (const name of left) this.#tell(name, "finish");
    await finished;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(NAMES.map((name) => this.#workers[name][Symbol.asyncDispose]()));
  }

  async #kill(victim: Name): Promise<void> {
    await this.#linger(victim);
    const at = this.#strike(victim, "SIGKILL", "killed");
    this.#timeline.note(victim, at, "✗", "red", `${victim} is killed while it holds`);
    await this.#lapse(victim, at, "gone");
  }

  async #freeze(victim: Name): Promise<void> {
    await this.#linger(victim);
    const at = this.#strike(victim, "SIGSTOP", "frozen");
    this.#timeline.note(victim, at, "❄", "cyan", `${victim} is frozen while it holds`);
    await this.#lapse(victim, at, "asleep");
    await pass(1500);
    const refused = this.#until("refused", (by) => by === victim);
    this.#workers[victim].signal("SIGCONT");
    const { at: later } = await refused;
    this.#timeline.note(victim, later, "⊘", "cyan", `${victim} wakes up, writes as if it held: refused`);
  }

  async #rob(victim: Name, thief: Name): Promise<void> {
    const waits = this.#until("waits", (by, { stealAfterMs }) => by === thief && stealAfterMs !== undefined);
    this.#tell(thief, "rob");
    await waits;
    const sends = this.#until("sends");
    this.#tell(victim, "stall");
    const { at } = await sends;
    this.#timeline.note(victim, at, "…", "yellow", `${victim} sends its write, which is slow to arrive`);
    const next = await this.#until("holds");
    const age = `${STEAL_AFTER_MS / 1000} s`;
    const text = `${thief} evicts ${victim} after ${age} (stealAfterMs); ${next.name} is first in the queue`;
    this.#timeline.note(next.name, next.at, "▸", "yellow", text);
    const refused = this.#until("refused", (by) => by === victim);
    this.#tell(victim, "go");
    const { at: later } = await refused;
    this.#timeline.note(victim, later, "⊘", "yellow", `${victim}'s write arrives: the store refuses it`);
    this.#tell(thief, "spare");
  }

  /** Until the worker holds and has settled down to work. */
  async #linger(name: Name): Promise<void> {
    const holds = this.#until("lingers", (by) => by === name);
    this.#tell(name, "linger");
    await holds;
    await pass(250);
  }

  /** Stops a process dead. What it did until now is all it did in its critical section. */
  #strike(name: Name, signal: Deno.Signal, state: "killed" | "frozen"): number {
    this.#workers[name].signal(signal);
    const at = now();
    this.#timeline.enter(name, state, at);
    this.#close(name, at);
    return at;
  }

  /** Until the lock has left the process that cannot release it, and that blocks no other from then on. */
  async #lapse(from: Name, at: number, state: "gone" | "asleep"): Promise<void> {
    const next = await this.#until("holds");
    this.#timeline.enter(from, state, next.at);
    const waited = ((next.at - at) / 1000).toFixed(1);
    const text = `${from}'s lease of ${
      LEASE_MS / 1000
    } s has lapsed: ${next.name} follows, ${waited} s later`;
    this.#timeline.note(next.name, next.at, "▸", "green", text);
  }

  #tell(name: Name, what: Command["do"]): void {
    this.#workers[name].send({ do: what });
  }

  #hear(name: Name, message: Message): void {
    const { said, at } = message;
    if (said === "waits") {
      this.#asked.set(name, at);
      this.#timeline.enter(name, "waits", at);
    }
    if (said === "holds") {
      const section = { name, asked: this.#asked.get(name)!, from: at, to: Infinity, released: undefined };
      this.sections.push(section);
      this.#open.set(name, section);
      this.#timeline.enter(name, "holds", at);
    }
    if (said === "sends") {
      this.#timeline.enter(name, "sends", at);
      this.#close(name, at);
    }
    if (said === "committed") {
      this.acknowledged[name]++;
      this.#close(name, at);
    }
    if (said === "refused") {
      this.refusals.push({ name, reason: message.reason, heldWhenSent: message.heldWhenSent });
      this.#timeline.enter(name, "busy", at);
      this.#close(name, at);
    }
    if (said === "released") {
      this.sections.findLast((section) => section.name === name)!.released = at;
      this.#timeline.enter(name, "busy", at);
    }
    for (const listener of this.#listeners) listener(name, message);
  }

  #close(name: Name, at: number): void {
    const section = this.#open.get(name);
    if (section !== undefined) section.to = at;
    this.#open.delete(name);
  }

  /** The next message of this kind. Rejects if a worker fails, or if it does not come. */
  #until(
    said: string,
    accepts: (name: Name, message: Message) => boolean = () => true,
  ): Promise<{ name: Name; at: number }> {
    return new Promise((resolve, reject) => {
      const over = () => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
      };
      const timer = setTimeout(() => {
        over();
        reject(new Error(`stuck: no worker said '${said}' in ${STUCK_MS / 1000} s`));
      }, STUCK_MS);
      const listener = (name: Name, message: Message) => {
        const failed = message.said === "failed";
        if (!failed && (message.said !== said || !accepts(name, message))) return;
        over();
        if (failed) reject(new Error(`${name} failed: ${message.error}`));
        else resolve({ name, at: message.at });
      };
      this.#listeners.add(listener);
    });
  }
}

function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
