/** Goes through every state that can be reached in so many actions, each once, and asks the laws of all of them. */

import { RULES, type Rules, steps } from "./actions.ts";
import { checkBeliefs, Violation } from "./laws.ts";
import { settle } from "./settle.ts";
import { hashOf } from "./hash.ts";
import { beginning, type Setup, type World } from "./world.ts";

/** How a state was reached. */
interface Trace {
  readonly what: string;
  readonly before: Trace | undefined;
}

interface Node {
  readonly world: World;
  readonly trace: Trace | undefined;
}

/** What was found. */
export interface Explored {
  readonly states: number;
  readonly transitions: number;
  /** To how many actions all states are known. */
  readonly depth: number;
  /** Whether there are no others, however many actions. */
  readonly complete: boolean;
  /** The longest that it took until all had had the lock once nothing went wrong any more, in ticks. */
  readonly worstTicks: number;
  readonly seconds: number;
  /** A broken law, and how it came to that, action by action. */
  readonly violation?: { readonly what: string; readonly trace: readonly string[] };
}

/** How far it goes. */
export interface ExploreOptions {
  readonly depth: number;
  /** It goes no deeper once it knows so many states. */
  readonly most?: number;
  readonly rules?: Rules;
  /** Of how many states one is followed to its end; 0 is none. */
  readonly settleEvery?: number;
  readonly onDepth?: (depth: number, states: number) => void;
}

export function explore(
  setup: Setup,
  { depth, most = Infinity, rules = RULES, settleEvery = 1, onDepth = () => {} }: ExploreOptions,
): Explored {
  const started = performance.now();
  const known = new Set<number>();
  const settled = new Map<number, number>();
  let [transitions, worstTicks, reached] = [0, 0, 0];
  let frontier: Node[] = [{ world: beginning(setup), trace: undefined }];
  const result = (violation?: Explored["violation"]): Explored => ({
    states: known.size,
    transitions,
    depth: reached,
    complete: frontier.length === 0,
    worstTicks,
    seconds: (performance.now() - started) / 1000,
    violation,
  });
  known.add(hashOf(frontier[0].world));
  for (; reached < depth && frontier.length > 0 && known.size < most; reached++) {
    const next: Node[] = [];
    for (const { world, trace } of frontier) {
      let last = "something";
      try {
        for (const { what, world: after } of steps(world, setup, rules)) {
          last = what;
          transitions++;
          const hash = hashOf(after);
          if (known.has(hash)) continue;
          known.add(hash);
          checkBeliefs(after, setup);
          if (settleEvery > 0 && known.size % settleEvery === 0) {
            worstTicks = Math.max(worstTicks, settle(after, { setup, rules, settled }));
          }
          next.push({ world: after, trace: { what, before: trace } });
        }
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        const path = [`(after this: ${last})`];
        for (let at = trace; at !== undefined; at = at.before) path.unshift(at.what);
        return result({ what: error.message, trace: path });
      }
    }
    frontier = next;
    onDepth(reached + 1, known.size);
  }
  return result();
}
