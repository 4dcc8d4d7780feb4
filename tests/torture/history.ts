/**
 * What the processes of a torture run write down, and nothing else: the checker reads these lines and the witness's, and
 * knows no lock. Times are milliseconds of one clock that all processes of a machine share.
 */

/** How a lock is asked for. */
export interface Ask {
  readonly mode: "exclusive" | "shared";
  /** How many permits there are. */
  readonly limit: number;
  readonly permits: number;
}

/** One line of a process's log. It is written before the process acts on what it says. */
export type Line =
  /** The process runs. */
  | { readonly do: "start"; readonly name: string; readonly runtime: string; readonly at: number }
  /** It asks for a lock. A caller that asks again as the same `owner`, while it holds the lock, is let through. */
  | (Ask & {
    readonly do: "ask";
    readonly id: string;
    readonly lock: string;
    readonly owner: string;
    readonly leaseMs: number;
    readonly at: number;
  })
  /** It has the lock. */
  | { readonly do: "got"; readonly id: string; readonly token: string; readonly at: number }
  /** It has no lock, and why: that is known before it could count as taken. */
  | {
    readonly do: "none";
    readonly id: string;
    readonly why: string;
    /** The error's text, for people. */
    readonly message?: string;
    readonly at: number;
  }
  /** Its own hold said, at some moment between, that it is held. */
  | { readonly do: "holds"; readonly id: string; readonly from: number; readonly at: number }
  /** It gives the lock back. */
  | { readonly do: "leave"; readonly id: string; readonly at: number }
  /** The answer: whether the lock was its own until then; `null` if that is not known. */
  | { readonly do: "left"; readonly id: string; readonly ours: boolean | null; readonly at: number }
  /** It is about to add something to a set, under the lock, with or without a guard. */
  | {
    readonly do: "add";
    readonly id: string;
    readonly set: string;
    readonly element: string;
    readonly guarded: boolean;
    readonly at: number;
  }
  /** What came of it. */
  | {
    readonly do: "added";
    readonly element: string;
    readonly outcome: "yes" | "no" | "unknown";
    /** Why it is not known, for people. */
    readonly message?: string;
    readonly at: number;
  }
  /** The witness: another's mark was there, or another has written over this one's. `kind` says which witness. */
  | {
    readonly do: "met";
    readonly id: string;
    readonly other: string;
    readonly kind: "mark" | "register" | "token";
    readonly at: number;
  }
  /** What it needs of the machine. */
  | { readonly do: "size"; readonly rssBytes: number; readonly at: number }
  /** Its work is done: what keeps it alive from here on is a leak. */
  | { readonly do: "end"; readonly at: number }
  /** It lives all the same, and what its runtime says of that. */
  | { readonly do: "kept"; readonly by: readonly string[]; readonly at: number };

/** One fault, as the conductor has made it. */
export interface FaultLine {
  readonly fault: string;
  /** The process, or the store. */
  readonly whom: string;
  readonly from: number;
  readonly to: number;
  /** Whether the process held the lock that most want. */
  readonly held?: boolean;
  /** The processes in that lock's queue when its holder was killed in a calm, first come first. */
  readonly queue?: readonly string[];
  /** Those of them that live. */
  readonly alive?: readonly string[];
  /** What a process said last that has ended by itself. */
  readonly why?: string;
  /** The process that took the place of one that was killed. */
  readonly next?: string;
}

/** One hold, from its asking to its end, as the logs show it. */
export interface Hold extends Ask {
  readonly id: string;
  readonly lock: string;
  readonly owner: string;
  readonly process: string;
  readonly leaseMs: number;
  readonly askedAt: number;
  readonly gotAt: number;
  readonly token: string;
  /** Intervals in each of which it was held at some moment. */
  readonly proofs: readonly { readonly from: number; readonly to: number }[];
  /** When it was given back, and what the answer was. */
  readonly left?: { readonly from: number; readonly to: number; readonly ours: boolean | null };
}

/** An element of a set, and what its process was answered. */
export interface Added {
  readonly set: string;
  readonly element: string;
  readonly guarded: boolean;
  readonly hold: string;
  readonly outcome: "yes" | "no" | "unknown";
  readonly at: number;
}

/** All that the logs of a run say. */
export interface History {
  readonly holds: readonly Hold[];
  readonly added: readonly Added[];
  readonly met: readonly Extract<Line, { do: "met" }>[];
  /** How often what was asked for was not got, by reason. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly processes: readonly {
    readonly name: string;
    readonly runtime: string;
    readonly from: number;
    /** When it wrote its last line. */
    readonly to: number;
    readonly ended: boolean;
    readonly sizes: readonly number[];
  }[];
}

/** Puts together what the processes have written down, by their names. */
export function historyOf(logs: ReadonlyMap<string, readonly Line[]>): History {
  const holds: Hold[] = [];
  const added: Added[] = [];
  const met: Extract<Line, { do: "met" }>[] = [];
  const refusals: Record<string, number> = {};
  const processes: (History["processes"][number])[] = [];
  for (const [process, lines] of logs) {
    const asked = new Map<string, Extract<Line, { do: "ask" }>>();
    const open = new Map<string, { -readonly [Part in keyof Hold]: Hold[Part] }>();
    const adding = new Map<string, Extract<Line, { do: "add" }>>();
    const sizes: number[] = [];
    let [runtime, from, ended] = ["", 0, false];
    for (const line of lines) {
      if (line.do === "start") [runtime, from] = [line.runtime, line.at];
      else if (line.do === "end") ended = true;
      else if (line.do === "kept") ended = false;
      else if (line.do === "size") sizes.push(line.rssBytes);
      else if (line.do === "met") met.push(line);
      else if (line.do === "ask") asked.set(line.id, line);
      else if (line.do === "none") refusals[line.why] = (refusals[line.why] ?? 0) + 1;
      else if (line.do === "add") adding.set(line.element, line);
      else if (line.do === "added") {
        const { set, element, guarded, id } = adding.get(line.element)!;
        adding.delete(element);
        added.push({ set, element, guarded, hold: id, outcome: line.outcome, at: line.at });
      } else if (line.do === "got") {
        const { id, lock, owner, mode, limit, permits, leaseMs, at: askedAt } = asked.get(line.id)!;
        const ask = { mode, limit, permits };
        const hold = {
          ...ask,
          id,
          lock,
          owner,
          process,
          leaseMs,
          askedAt,
          gotAt: line.at,
          token: line.token,
          proofs: [],
        };
        open.set(id, hold);
        holds.push(hold);
      } else {
        const hold = open.get(line.id)!;
        if (line.do === "holds") hold.proofs = [...hold.proofs, { from: line.from, to: line.at }];
        // Until the answer it is not known whether the lock was released, nor when.
        else if (line.do === "leave") hold.left = { from: line.at, to: Infinity, ours: null };
        else hold.left = { from: hold.left!.from, to: line.at, ours: line.ours };
      }
    }
    // It was killed before it was answered.
    for (const { set, element, guarded, id, at } of adding.values()) {
      added.push({ set, element, guarded, hold: id, outcome: "unknown", at });
    }
    processes.push({ name: process, runtime, from, to: lines.at(-1)?.at ?? from, ended, sizes });
  }
  return { holds, added, met, refusals, processes };
}

/** From when until when a hold was surely held without a break, as its own process says. */
export function surely({ gotAt, proofs, left }: Hold): { readonly from: number; readonly to: number } {
  let to = gotAt;
  for (const proof of proofs) to = Math.max(to, proof.from);
  // What was given back was held until then.
  if (left?.ours === true) to = Math.max(to, left.from);
  return { from: gotAt, to };
}
