/** What the browser gets in addition to the markup: the looks of the page, and what makes it live. */

/** The style of all pages. No colour says anything alone: text, a shape or a pattern says it, too. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #fff; --ink: #1c2124; --soft: #59626a; --line: #dfe0db;
  --accent: #1f6f66; --on: #23776d; --was: #5d7f7b; --bar-ink: #fff; --bad: #b3261e; --wait: #8a5a00;
  --bad-card: #fdf1ef; --hatch: #dcdcd6;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111416; --card: #191d20; --ink: #e7eaea; --soft: #9fa9af; --line: #2c3338;
    --accent: #7cc7bd; --on: #2b7d73; --was: #47605d; --bar-ink: #fff; --bad: #ff9d92; --wait: #e0b35a;
    --bad-card: #2a1c1b; --hatch: #343d43;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem; background: var(--page); color: var(--ink); }
h1, h2, h3, p, dl, dd, ol, ul, figure { margin: 0; padding: 0; }
h1 { font-size: 1.5rem; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.0625rem; margin: 2.25rem 0 .75rem; }
a { color: var(--accent); }
code, .identifier { font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
code { font-size: .8125rem; }
bdi { overflow-wrap: anywhere; }
i { color: var(--soft); }
.soft, .note, .empty, .small { color: var(--soft); }
.note, .small { font-size: .875rem; margin-top: .75rem; }
.unseen-text { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
#held:focus { outline: none; }

header { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem 1.5rem; }
header h1 { flex: 1 1 12rem; }
form[role=search] { display: flex; align-items: center; gap: .5rem; }
form[role=search] label { color: var(--soft); font-size: .875rem; }
input[type=search] { width: 13rem; min-width: 0; }
#state { display: flex; align-items: center; gap: .75rem; color: var(--soft); font-size: .875rem; }
#state-text::before { content: ""; display: inline-block; width: .5rem; height: .5rem; margin-right: .5rem; border: 1px solid var(--soft); border-radius: 50%; }
#state.live #state-text::before { background: var(--accent); border-color: var(--accent); }
button, .button, input { font: inherit; font-size: .9375rem; color: var(--ink); background: var(--card); border: 1px solid var(--soft); border-radius: 8px; padding: .375rem .875rem; min-height: 2.5rem; }
button, .button { display: inline-flex; align-items: center; cursor: pointer; text-decoration: none; white-space: nowrap; }
button:hover, .button:hover { border-color: var(--ink); }
button[hidden] { display: none; }
input::placeholder { color: var(--soft); opacity: 1; }
.danger { background: var(--bad); border-color: var(--bad); color: var(--card); font-weight: 600; }
.release { border-color: var(--line); color: var(--bad); }
.release:hover { border-color: var(--bad); }

.parts { display: flex; flex-direction: column; }
.past { order: -1; }

.facts { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 2rem; margin-top: 1.25rem; padding: .75rem 0; border-block: 1px solid var(--line); }
.facts b { font-size: 1.5rem; font-weight: 600; margin-right: .125rem; }
.facts p { color: var(--soft); }
.facts p b { color: var(--ink); }
.facts .bad, .facts .bad b, .bad { color: var(--bad); }
.asof { margin-left: auto; font-size: .875rem; }
.trouble { margin-top: 1rem; padding: .75rem 1rem; border: 1px solid var(--bad); border-radius: 8px; background: var(--bad-card); overflow-wrap: anywhere; }

figure { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem; }
#picture { display: block; overflow: visible; }
#picture text { font-size: 12px; unicode-bidi: plaintext; }
.grid { stroke: var(--line); }
.tick { fill: var(--soft); text-anchor: middle; }
.tick.first { text-anchor: start; }
.tick.last { text-anchor: end; }
#picture .name { fill: var(--ink); font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.hold { fill: var(--was); stroke: var(--card); stroke-width: 1.5; }
.hold.on { fill: var(--on); }
.hold.expired { fill: none; stroke: var(--bad); stroke-dasharray: 4 3; }
#picture .who { fill: var(--bar-ink); font-weight: 500; }
.wait { stroke: var(--wait); stroke-width: 2.5; stroke-dasharray: 5 2; }
.lost { overflow: visible; }
.lost circle { fill: var(--card); stroke: var(--bad); stroke-width: 1.5; }
.lost path { stroke: var(--bad); stroke-width: 2; stroke-linecap: round; }
.hatch { stroke: var(--hatch); stroke-width: 2; }
.unseen { fill: url(#unseen); }
figcaption { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-top: .75rem; color: var(--soft); font-size: .8125rem; }
.key { display: inline-flex; align-items: center; gap: .375rem; }

.locks { list-style: none; display: grid; gap: .75rem; }
.locks > li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .25rem 1rem; align-items: center; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .875rem 1rem; }
.locks > .alarming { border-color: var(--bad); }
.locks h3 { font-size: 1rem; font-weight: 600; grid-column: 1 / -1; }
.holder { display: grid; grid-template-columns: minmax(0, 2.2fr) minmax(0, 1fr) minmax(0, 1.3fr) minmax(0, 2fr); gap: .25rem 1.25rem; }
.holder dt, .line > p:first-child { color: var(--soft); font-size: .8125rem; }
.holder dd { overflow-wrap: anywhere; }
.over .lease dd { color: var(--bad); font-weight: 600; }
.free { color: var(--soft); }
.line { grid-column: 1 / -1; border-top: 1px dashed var(--line); margin-top: .375rem; padding-top: .5rem; }
.line ol { list-style: none; display: flex; flex-wrap: wrap; gap: .125rem 1.25rem; counter-reset: place; }
.line li { counter-increment: place; min-width: 0; }
.line li::before { content: counter(place) ". "; color: var(--wait); font-weight: 600; }

.ended, .ended ul { list-style: none; }
.ended { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .25rem 1rem; font-size: .9375rem; }
.ended > li { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 3fr); gap: 0 1.25rem; padding: .5rem 0; }
.ended > li + li { border-top: 1px solid var(--line); }
.ended h3 { font-size: .875rem; font-weight: 600; }
.ended ul li { display: grid; grid-template-columns: 11.5rem minmax(0, 1.5fr) minmax(0, 1fr) minmax(0, 1.2fr); gap: 0 1.25rem; }
.ended time { color: var(--soft); }
.ended > li > p { grid-column: 2; }

.narrow { max-width: 34rem; margin: 8vh auto 0; padding: 1.5rem; background: var(--card); border: 1px solid var(--line); border-radius: 16px; }
.narrow p, dialog p { margin-top: .75rem; }
.narrow .identifier, dialog .identifier { font-size: 1.0625rem; font-weight: 600; }
.buttons { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: .75rem; padding-top: .75rem; }
dialog { width: min(34rem, calc(100vw - 2rem)); padding: 1.5rem; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 16px; }
dialog h1 { font-size: 1.25rem; }
dialog::backdrop { background: rgb(0 0 0 / .5); }

@media (max-width: 44rem) {
  header form { flex: 1 1 100%; }
  header input[type=search] { flex: 1 1 auto; width: 100%; }
  .asof { margin-left: 0; }
  .past { order: 0; }
  .tick:not(.first, .last, .even) { display: none; }
  figure { padding: .75rem; }
  .locks > li { grid-template-columns: minmax(0, 1fr); }
  .holder { grid-template-columns: 1fr 1fr; }
  .holder .by, .holder .fence { grid-column: 1 / -1; }
  .release { justify-content: center; margin-top: .5rem; }
  .ended > li { grid-template-columns: minmax(0, 1fr); }
  .ended ul li { grid-template-columns: 1fr auto; padding: .25rem 0; }
  .ended ul li > :nth-child(3), .ended .how { text-align: right; }
  .ended > li > p { grid-column: 1; }
  .buttons > * { flex: 1 1 auto; justify-content: center; }
}
@media (forced-colors: active) { .hold, .hold.on { fill: CanvasText; } #picture .who { fill: Canvas; } .wait, .grid { stroke: CanvasText; } }
@media (prefers-reduced-motion: no-preference) {
  #state.live #state-text::before { animation: pulse 2s ease-in-out infinite; }
  @keyframes pulse { 50% { opacity: .35; } }
}
`;

/** The script of all pages; without it everything works, too, by loading pages. */
export const SCRIPT = String.raw`
"use strict";
(() => {
  const live = document.getElementById("live");
  const dialog = document.getElementById("dialog");

  // Times in the reader's own way; the exact ones stay where machines and pointers find them.
  function localise(root) {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      const isToday = at.toDateString() === new Date().toDateString();
      time.title = time.dateTime;
      time.textContent = at.toLocaleString(undefined, isToday ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "medium" });
    }
    return root;
  }
  localise(document);
  if (live === null) return;

  // Makes "from" the same as "to" and leaves alone what already is: focus, selection and scrolling stay.
  function morph(from, to) {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) return from.replaceWith(to);
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    const keyed = new Map([...from.children].filter(({ id }) => id !== "").map((child) => [child.id, child]));
    const kept = new Set([...to.children].map(({ id }) => id).filter((id) => id !== ""));
    let at = from.firstChild;
    function drop() {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    for (const next of [...to.childNodes]) {
      const known = next.id ? keyed.get(next.id) : undefined;
      // An element that is gone is removed first, so that the others need not move: moving an element takes the focus away.
      while (at !== null && at !== known && (known !== undefined || at.id) && !kept.has(at.id)) drop();
      const match = next.id ? known : at !== null && !at.id ? at : undefined;
      if (match === undefined) from.insertBefore(next, at);
      else {
        if (match === at) at = at.nextSibling;
        else from.insertBefore(match, at);
        morph(match, next);
      }
    }
    while (at !== null) drop();
  }

  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  let source;
  let isPaused = false;
  let late;

  function tell(text, isLive) {
    document.getElementById("state-text").textContent = text;
    state.classList.toggle("live", isLive);
  }

  // A screen reader reads this aloud: the text changes at most once in 15 seconds, unless it is urgent.
  let said = "";
  let sayAt = 0;
  function say(text, isUrgent) {
    const now = Date.now();
    if (text === said || (now < sayAt && !isUrgent)) return;
    document.getElementById("say").textContent = said = text;
    sayAt = now + 15000;
  }

  function show(markup) {
    const next = live.cloneNode(false);
    next.innerHTML = markup;
    morph(live, localise(next));
    say([...live.querySelectorAll(".facts p:not(.asof), #trouble")].map((p) => p.textContent).join(", "), false);
  }

  function listen() {
    const isWanted = !isPaused && !document.hidden;
    if (!isWanted) {
      source?.close();
      source = undefined;
      clearTimeout(late);
      if (isPaused) tell("Paused", false);
      return;
    }
    if (source !== undefined) return;
    source = new EventSource("?" + new URLSearchParams({ view: "events", find: live.dataset.find }));
    source.onopen = () => {
      clearTimeout(late);
      tell("Live", true);
    };
    source.onmessage = ({ data }) => show(JSON.parse(data));
    source.onerror = () => {
      const isOver = source.readyState === EventSource.CLOSED;
      clearTimeout(late);
      if (!isOver) late = setTimeout(() => tell("Connecting…", false), 3000);
      else {
        tell("No longer live. Reload the page.", false);
        say("No longer live. Reload the page.", true);
      }
    };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    listen();
  });
  document.addEventListener("visibilitychange", listen);
  listen();

  // The page that asks, and the one that answers, in a dialog over this one.
  async function ask(url, options) {
    const response = await fetch(url, options);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = page.querySelector("main");
    if (main === null) throw new Error(response.statusText);
    dialog.replaceChildren(...localise(main).childNodes);
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".cancel")?.focus();
    const outcome = dialog.querySelector("#outcome");
    if (outcome !== null) say(outcome.textContent.trim(), true);
  }
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const link = event.target.closest("a.button");
    if (link === null) return;
    event.preventDefault();
    if (link.classList.contains("cancel")) dialog.close();
    else ask(link.href).catch(() => location.assign(link.href));
  });
  dialog.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    ask(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }).catch(() => form.submit());
  });
})();
`;
