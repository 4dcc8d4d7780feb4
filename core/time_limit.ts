import type { Clock } from "./clock.ts";

/** The answer; or, if it takes longer than `limitMs` on `clock`, a rejection with what `late` makes. */
export function within<Answer>(
  answer: Promise<Answer>,
  limitMs: number,
  { clock, late }: { readonly clock: Clock; readonly late: () => unknown },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(limitMs, () => reject(late()));
    answer.then(resolve, reject).finally(() => clock.clear(timer));
  });
}
