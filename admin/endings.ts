import type { Span } from "./history.ts";
import { bdi, type Html, html, lasting, moment } from "./html.ts";
import type { Look } from "./observer.ts";
import { ending, isLoss } from "./picture.ts";

/** How many locks are listed whose holds have ended. */
const MAX_ENDED = 20;
/** How many losses of one lock are listed. */
const MAX_LOST = 3;

const CROSS = html`<span aria-hidden="true">✕ </span>`;

/** A hold that has ended. */
interface Ended {
  readonly identifier: string;
  readonly label: string | undefined;
  readonly heldMs: number;
  readonly how: Span["how"];
  readonly at: number;
}

/** What has ended, lock by lock, so that one busy lock does not hide the loss of another: locks with losses first. */
export function endings({ history, losses }: Look, isWanted: (identifier: string) => boolean): Html {
  const ended = [...history.spans].flatMap(({ what, identifier, label, from, to, how }: Span) =>
    what === "hold" && to !== undefined ? [{ identifier, label, heldMs: to - from, how, at: to }] : []
  );
  const others = losses.filter(({ identifier, fencingToken }) => !history.knows(identifier, fencingToken))
    .map(({ reason, ...loss }) => ({ ...loss, how: reason === "released" ? undefined : reason }));
  const all: Ended[] = [...ended, ...others].filter(({ identifier }) => isWanted(identifier))
    .sort((a, b) => +isLoss(b.how) - +isLoss(a.how) || b.at - a.at);
  if (all.length === 0) return html`<p class="empty">Nothing ended while this page was open.</p>`;
  // In the order of their first ones: a lock with a loss before all others.
  const byLock = new Map<string, Ended[]>();
  for (const hold of all) {
    const holds = byLock.get(hold.identifier);
    if (holds === undefined) byLock.set(hold.identifier, [hold]);
    else holds.push(hold);
  }
  const groups = [...byLock];
  return html`
    <ol class="ended">
      ${groups.slice(0, MAX_ENDED).map(([identifier, holds]) => group(identifier, holds))}
    </ol>
    ${groups.length > MAX_ENDED && html`<p class="note">and ${groups.length - MAX_ENDED} more locks</p>`}
    <p
      class="note">For locks held by other processes the page cannot always tell a release from a loss; it shows “gone”.</p>
  `;
}

/** What has ended of one lock: its losses, and the latest other hold. */
function group(identifier: string, holds: readonly Ended[]): Html {
  const lost = holds.filter(({ how }) => isLoss(how));
  const shown = [...lost.slice(0, MAX_LOST), ...holds.slice(lost.length, lost.length + 1)];
  const more = holds.length - shown.length;
  const moreLost = lost.length - Math.min(lost.length, MAX_LOST);
  return html`
    <li>
    <h3 class="identifier">${bdi(identifier)}</h3>
    <ul>
    ${shown.map(({ label, heldMs, how, at }) =>
      html`
        <li>
        ${moment(at)}
        <span>${label === undefined ? html`<i>no label</i>` : bdi(label)}</span>
        <span class="soft">held ${lasting(heldMs)}</span>
        <span class="${isLoss(how) ? "how bad" : "how"}">${isLoss(how) && CROSS}${isLoss(how) &&
          "lost: "}${ending(how)}</span>
        </li>
      `
    )}
    </ul>
    ${more > 0 &&
      html`<p class="soft">and ${more} more ${more === 1 ? "hold" : "holds"}${
        moreLost > 0 && `, ${moreLost} of them lost`
      }</p>`}
    </li>
  `;
}
