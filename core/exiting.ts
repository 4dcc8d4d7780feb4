/**
 * Rejections that are held back while a process releases its locks before it ends. The first one that the program does
 * not catch would end the process before the stores have confirmed the other releases, and leave locks taken until their
 * leases expire.
 */

let heldBack: (() => void)[] | undefined;

/** Holds rejections back until the function that it returns is called: the process is about to end. */
export function holdBack(): () => void {
  const rejections = heldBack ??= [];
  return () => {
    if (heldBack === rejections) heldBack = undefined;
    for (const reject of rejections.splice(0)) reject();
  };
}

/** Calls `reject`: at once, or when the exit is over. */
export function afterExit(reject: () => void): void {
  if (heldBack === undefined) reject();
  else heldBack.push(reject);
}
