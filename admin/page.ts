import { messageOf } from "../core/errors.ts";
import type { ListedHolder, ListedLock, ListedMode } from "../core/operators/listing.ts";
import { SCRIPT, STYLE } from "./assets.ts";
import { endings } from "./endings.ts";
import { WINDOW_MS } from "./history.ts";
import { bdi, exactly, Html, html, lasting, moment, short } from "./html.ts";
import type { Look } from "./observer.ts";
import { picture } from "./picture.ts";

/** How many locks, and waiters of one lock, are listed. */
const MAX_LISTED = 100;
const MAX_WAITERS = 8;

/** What every page has in common. */
export interface Frame {
  readonly title: string;
}

/** A whole page around `body`. */
export function page({ title }: Frame, body: Html): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>${title}</title>
        <link rel="icon" href="${ICON}">
        <style>${new Html(STYLE)}</style>
      </head>
      <body>
    ${body}
    <script>${new Html(SCRIPT)}</script>
      </body>
    </html>
  `.text;
}

/** The page that lists and draws. */
export function overview(frame: Frame, look: Look): string {
  const { find } = look;
  return page(
    frame,
    html`
      <a class="skip" href="#held">Skip to what is held</a>
      <header>
        <h1>${frame.title}</h1>
        <form role="search" method="get">
          <label for="find">Find</label>
          <input id="find" name="find" type="search" value="${exactly(
            find,
          )}" placeholder="identifier or label"
            autocomplete="off">
          <button>Find</button>
        </form>
        <p
          id="state"><span id="state-text">Snapshot. Reload for the current state.</span><button id="pause" type="button" hidden>Pause</button></p>
      </header>
      <main id="live" data-find="${exactly(find)}">
      ${content(look)}
      </main>
      <p id="say" class="unseen-text" role="status" aria-live="polite"></p>
      <dialog id="dialog" aria-labelledby="question"></dialog>
    `,
  );
}

/** What of the page changes with every look. */
export function content(look: Look): Html {
  const { at, store, find, locks: found, more, trouble, history } = look;
  const held = found.filter(({ holders }) => holders.length > 0).length;
  const waiting = found.reduce((sum, { waiters }) => sum + waiters.length, 0);
  const expired =
    found.flatMap(({ holders }) => holders).filter(({ leaseLeftMs }) => leaseLeftMs <= 0).length;
  const broken = found.filter(({ unreadable }) => unreadable !== undefined).length;
  // What needs attention comes first; the others, in the order of names, stay where they are.
  const shown = [...found].sort((a, b) => urgency(b) - urgency(a)).slice(0, MAX_LISTED)
    .sort((a, b) => +isAlarming(b) - +isAlarming(a) || (a.identifier < b.identifier ? -1 : 1));
  const wanted = (identifier: string) =>
    identifier.includes(find) || shown.some((lock) => lock.identifier === identifier);
  return html`
    <div class="facts">
      ${expired > 0 && html`<p class="bad"><b>${expired}</b> expired</p>`}
      ${broken > 0 && html`<p class="bad"><b>${broken}</b> unreadable</p>`}
      <p><b>${held}</b> held</p>
      <p><b>${waiting}</b> queued</p>
      <p class="asof">as of ${moment(at)}${store !== undefined && html`, ${bdi(store)}`}</p>
    </div>
    ${trouble !== undefined &&
      html`<p class="trouble" id="trouble"><b>The store does not answer.</b> ${messageOf(trouble)}</p>`}
    ${more &&
      html`<p class="note">Showing the first ${found.length} ${find !== "" && "matching "}locks.</p>`}
    ${find !== "" &&
      html`<p class="note">Only what contains “<bdi>${find}</bdi>”. <a href="?">Show all</a></p>`}
    <div class="parts">
      <section id="held" tabindex="-1" aria-labelledby="now">
    <h2 id="now">Held now</h2>
    ${shown.length === 0 && trouble === undefined &&
      html`<p class="empty">No lock is held or waited for.</p>`}
    <ul class="locks">
    ${shown.map((lock) => item(lock))}
    </ul>
    ${found.length > shown.length &&
      html`<p class="note" id="rest">and ${found.length - shown.length} more; find them by name.</p>`}
      </section>
      <section class="past" aria-labelledby="minutes">
    <h2 id="minutes">The last ${WINDOW_MS / 60_000} minutes</h2>
    ${picture(history, at, wanted)}
      </section>
      <section aria-labelledby="ended">
    <h2 id="ended">Recently ended</h2>
    ${endings(look, wanted)}
      </section>
    </div>
  `;
}

/** The page that asks before a release. */
export function question(frame: Frame, lock: ListedLock, holder: ListedHolder, token: string): string {
  const { identifier, waiters } = lock;
  const first = waiters[0];
  return page(
    frame,
    html`
      <main class="narrow">
        <form id="confirm" method="post" action="${releaseUrl(identifier, holder.fencingToken)}">
          <h1 id="question">Force the release?</h1>
          <p class="identifier">${bdi(identifier)}</p>
          <p><b>${bdi(holder.label ?? "A holder without label")}</b> has held it for ${lasting(
            holder.heldForMs,
          )}. ${leaseIn(holder)}</p>
          <p>The holder is notified, but its code runs until it checks its signal. Only its guarded writes are rejected from now on. ${first ===
              undefined
            ? "No process is queued."
            : html`Queued: ${waiters.length}; the first is ${bdi(first.label ?? "without label")}.`}</p>
          <p
            class="small">Only the hold with fencing token <code>${holder
              .fencingToken}</code> is released, not a later one.</p>
          <input type="hidden" name="token" value="${token}">
          <p
            class="buttons"><a class="button cancel" href="?">Keep it</a><button class="danger">Force release</button></p>
        </form>
      </main>
    `,
  );
}

/** The page that says what has come of something. */
export function outcome(frame: Frame, title: string, text: Html): string {
  return page(
    frame,
    html`
      <main class="narrow">
        <div id="outcome" role="status">
          <h1 id="question">${title}</h1>
          <p>${text}</p>
        </div>
        <p class="buttons"><a class="button cancel" href="?">Back to the locks</a></p>
      </main>
    `,
  );
}

function item(lock: ListedLock): Html {
  const { identifier, holders, waiters, unreadable } = lock;
  const some = waiters.slice(0, MAX_WAITERS);
  return html`
    <li id="${`${new URLSearchParams({ lock: identifier })}`}" class="${isAlarming(lock) && "alarming"}">
    <h3 class="identifier">${bdi(identifier)}</h3>
    ${holders.map((holder) => held(identifier, holder))}
    ${unreadable !== undefined && html`<p class="bad"><b>unreadable:</b> ${unreadable}</p>`}
    ${holders.length === 0 && unreadable === undefined &&
      html`<p class="free">Free: the first in the queue may take it now.</p>`}
    ${waiters.length > 0 &&
      html`<div class="line"><p>Queued</p><ol>${
        some.map((waiter) => {
          const mode = modeOf(waiter);
          const more = mode === "" ? "" : `, ${mode}`;
          return html`<li>${bdi(waiter.label ?? "no label")} <span class="soft">${
            lasting(waiter.waitingForMs)
          }${more}</span></li>`;
        })
      }</ol>${
        waiters.length > some.length && html`<p class="soft">and ${waiters.length - some.length} more</p>`
      }</div>`}
    </li>
  `;
}

function leaseIn({ leaseLeftMs, released, handedOver }: ListedHolder): string {
  if (leaseLeftMs <= 0 && handedOver) {
    return "It has handed the lock over, and no process has taken it up in time.";
  }
  if (leaseLeftMs <= 0) {
    return "The lease has expired: the holder has probably crashed or lost its connection.";
  }
  if (handedOver) {
    return `It has handed the lock over. No process has taken it up yet, and may for ${
      lasting(leaseLeftMs)
    } more.`;
  }
  if (released) return `It has released the lock, which is kept for ${lasting(leaseLeftMs)} more.`;
  return `${lasting(leaseLeftMs)} of the lease are left.`;
}

function held(identifier: string, holder: ListedHolder): Html {
  const { label, heldForMs, leaseLeftMs, fencingToken } = holder;
  const over = leaseLeftMs <= 0;
  const mode = modeOf(holder);
  return html`
    <dl class="${over ? "holder over" : "holder"}">
      <div class="by">
        <dt>Holder</dt>
        <dd>${label === undefined ? html`<i>no label</i>` : bdi(label)}</dd>
      </div>
      <div>
        <dt>Held for</dt>
        <dd>${lasting(heldForMs)}</dd>
      </div>
      ${mode !== "" && html`
        <div>
          <dt>Mode</dt>
          <dd>${mode}</dd>
        </div>
      `}
      <div class="lease">
        <dt>Lease</dt>
        <dd>${over
          ? html`<span aria-hidden="true">▲ </span>expired ${lasting(-leaseLeftMs)} ago`
          : leaseOf(holder)}</dd>
      </div>
      <div class="fence">
        <dt>Fencing token</dt>
        <dd><code>${fencingToken}</code></dd>
      </div>
    </dl>
    <a class="button release" href="${releaseUrl(
      identifier,
      fencingToken,
    )}">Force release…<span class="unseen-text"> ${short(identifier, 100)}</span></a>
  `;
}

/** What of a lease is left, and for which holder. */
function leaseOf({ leaseLeftMs, released, handedOver }: ListedHolder): string {
  const left = lasting(leaseLeftMs);
  if (released) return `released, kept for ${left}`;
  return handedOver ? `handed over, not taken up, ${left} left` : `${left} left`;
}

/** How a lock is held or wanted; nothing of one that is exclusive. */
function modeOf({ mode, limit, permits, upgrading }: ListedMode & { readonly upgrading?: boolean }): string {
  if (mode === "shared") return upgrading === true ? "shared, waits to be the only one" : "shared";
  return limit === 1 ? "" : `${permits} of ${limit}`;
}

/** Whether an operator should look at it: its record is broken, or the lease of a holder has expired. */
function isAlarming({ holders, unreadable }: ListedLock): boolean {
  return unreadable !== undefined || holders.some(({ leaseLeftMs }) => leaseLeftMs <= 0);
}

/** The order in which an operator needs locks: alarming ones, then those with a queue, then the longest held. */
function urgency(lock: ListedLock): number {
  const { holders, waiters } = lock;
  const heldForMs = holders.reduce((most, { heldForMs }) => Math.max(most, heldForMs), 0);
  return (isAlarming(lock) ? 2e15 : 0) + (waiters.length > 0 ? 1e15 : 0) + heldForMs;
}

function releaseUrl(release: string, fencingToken: string): string {
  return `?${new URLSearchParams({ release, fencingToken })}`;
}

const ICON = "data:image/svg+xml," + encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect x="2" y="7" width="12" height="8" rx="2"' +
    ' fill="#2a7a70"/><path d="M5 7V5a3 3 0 0 1 6 0v2" fill="none" stroke="#2a7a70" stroke-width="2"/></svg>',
);
