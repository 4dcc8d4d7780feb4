/** What holders are called that do not say so themselves. */

let find: (() => string | undefined) | undefined;
let found: string | undefined;

/** Says how it is found out: which process this is only its runtime knows. */
export function setDefaultLabel(findLabel: () => string | undefined): void {
  find = findLabel;
}

/** The label of this process: made once, when the first lock is asked for. */
export function defaultLabel(): string | undefined {
  if (find === undefined) return found;
  found = find();
  find = undefined;
  return found;
}
