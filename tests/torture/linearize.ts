/**
 * Whether a concurrent history can be explained by a sequential model: linearizability. Each operation is to take effect at
 * one moment between its call and its answer, such that all answers are the model's.
 *
 * The history is followed in the order of time, with every way to explain it so far: the state of the model, and which
 * operations that are not answered yet have taken effect. An operation need not take effect before an answer depends on it,
 * which is when it is answered itself: only then the ways branch ("just in time", Lowe, 2017). If no way is left, there is no
 * explanation, and the answer at which the last one ended is the finding.
 */

/** An operation, from its call to its answer. */
export interface Operation<Does> {
  readonly from: number;
  readonly to: number;
  readonly does: Does;
}

/** A sequential specification. */
export interface Model<State, Does> {
  readonly initial: State;
  /** All states that the operation may lead to, with the answer that it got; none if it cannot have got that answer. */
  step(state: State, does: Does): readonly State[];
  /** The same text for the same state. */
  key(state: State): string;
}

/** Where the explanations end. */
export interface Inexplicable<Does> {
  /** The operation whose answer nothing explains. */
  readonly operation: Operation<Does>;
  /** What was under way at the same time. */
  readonly beside: readonly Operation<Does>[];
  /** The states in which the others ended, as text. */
  readonly states: readonly string[];
}

/** How many explanations are followed at most. A history of locks has a handful: they forbid nearly everything. */
const MAX_WAYS = 100_000;

interface Way<State> {
  readonly state: State;
  /** The numbers of those that have taken effect and are not answered. */
  readonly done: readonly number[];
}

/** `undefined` if the history is linearizable. */
export function inexplicable<State, Does>(
  operations: readonly Operation<Does>[],
  model: Model<State, Does>,
): Inexplicable<Does> | undefined {
  const events = operations.flatMap(({ from, to }, i) => [
    { at: from, i, isCall: true },
    { at: to, i, isCall: false },
  ]);
  // At the same moment calls come first: what may have overlapped has.
  events.sort((one, other) => one.at - other.at || Number(other.isCall) - Number(one.isCall));
  const open = new Set<number>();
  let ways: Way<State>[] = [{ state: model.initial, done: [] }];
  for (const { i, isCall } of events) {
    if (isCall) {
      open.add(i);
      continue;
    }
    const found = explain(ways, i, { open, operations, model });
    if (found.length === 0) {
      const beside = [...open].filter((other) => other !== i).map((other) => operations[other]);
      const states = [...new Set(ways.map(({ state }) => model.key(state)))];
      return { operation: operations[i], beside, states };
    }
    open.delete(i);
    ways = found;
  }
  return undefined;
}

/** The ways in which operation `i` has taken effect, and is answered. */
function explain<State, Does>(
  ways: readonly Way<State>[],
  i: number,
  { open, operations, model }: {
    readonly open: ReadonlySet<number>;
    readonly operations: readonly Operation<Does>[];
    readonly model: Model<State, Does>;
  },
): Way<State>[] {
  const known = new Map<string, Way<State>>();
  const queue: Way<State>[] = [];
  const add = (way: Way<State>) => {
    const settled = observed(way);
    const key = `${model.key(settled.state)}\n${settled.done}`;
    if (known.has(key)) return;
    if (known.size >= MAX_WAYS) throw new Error("the history has too many explanations to follow them all");
    known.set(key, settled);
    queue.push(settled);
  };
  // What changes nothing where it may take effect, takes effect there: to wait for it could only forbid it.
  const observed = (way: Way<State>): Way<State> => {
    const here = model.key(way.state);
    const seen = [...open].filter((other) =>
      !way.done.includes(other) &&
      model.step(way.state, operations[other].does).some((next) => model.key(next) === here)
    );
    if (seen.length === 0) return way;
    return { state: way.state, done: [...way.done, ...seen].sort((one, other) => one - other) };
  };
  for (const way of ways) add(way);
  for (let way = queue.pop(); way !== undefined; way = queue.pop()) {
    if (way.done.includes(i)) continue;
    for (const other of open) {
      if (way.done.includes(other)) continue;
      const done = [...way.done, other].sort((one, another) => one - another);
      for (const state of model.step(way.state, operations[other].does)) add({ state, done });
    }
  }
  const answered = [...known.values()].filter(({ done }) => done.includes(i));
  return answered.map(({ state, done }) => ({ state, done: done.filter((other) => other !== i) }));
}
