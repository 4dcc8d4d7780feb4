/**
 * What callers are kept from while their process releases its locks to end: rejections that they do not catch. The first
 * of these would end it before the stores have confirmed the other releases, and leave locks taken until their leases
 * expire.
 */

let heldBack: (() => void)[] | undefined;

/** The process is about to end, until the function that is returned is called. */
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
