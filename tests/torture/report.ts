/** One page about one run: figures, what was found, a timeline, and how times are spread. It needs nothing but itself. */

import type { Judged } from "./run.ts";
import { escaped, histogram, timeline } from "./svg.ts";
import { figures, findings } from "./text.ts";

/** How much time one row of the timeline shows. */
const SPAN_MS = 30_000;
/** What a store that pushes is held to after a holder has died, beyond its lease. */
const RECOVERY_MS = 500;

const STYLE = `
:root { color-scheme: light dark; --text: #1c1c1e; --back: #ffffff; --soft: #6b6b70; --rule: #e2e2e6;
  --holds: #2f7d5b; --waits: #9a9aa2; --bad: #c4321f; --freeze: #4a8fd0; --slow: #c98a1b; --store: #8c5bb5; }
@media (prefers-color-scheme: dark) { :root { --text: #ececef; --back: #161618; --soft: #9d9da4; --rule: #333338;
  --holds: #58b98d; --waits: #6d6d75; --bad: #f0705e; --freeze: #6fb0ec; --slow: #e0ab4f; --store: #b58add; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1140px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; padding-right: 1.5rem; vertical-align: top; }
td, th { border-bottom: 1px solid var(--rule); padding-top: .25rem; padding-bottom: .25rem; }
svg { width: 100%; height: auto; display: block; margin: .3rem 0; } svg text { font-size: 11px; fill: var(--text); }
svg text.axis { fill: var(--soft); font-size: 9px; } figure { margin: 1rem 0; max-width: 620px; }
figcaption, p { color: var(--soft); } .bad { color: var(--bad); }
.holds { fill: var(--holds); } .waits { fill: var(--waits); } .loss { fill: var(--bad); }
.fault { fill: var(--slow); opacity: .45; } .process-killed { fill: var(--bad); } .process-frozen { fill: var(--freeze); }
.store-killed, .store-frozen, .disk-full { fill: var(--store); opacity: .7; }
.promised { stroke: var(--bad); stroke-dasharray: 4 3; }
.key i { display: inline-block; width: 1em; height: .7em; margin: 0 .3em 0 1em; }
`;

const KEY = [
  ["holds", "holds"],
  ["waits", "waits"],
  ["bad", "killed"],
  ["freeze", "frozen"],
  ["slow", "line or clock"],
  ["store", "store"],
];

/** The whole page. */
export function html(judged: Judged): string {
  const { setting, history, faults, verdict } = judged;
  const lock = setting.bad ? "holdfast" : "mutex";
  const holds = history.holds.filter((hold) => hold.lock === lock);
  const at = new Map(history.added.map((added) => [added.element, added.at]));
  const losses = [verdict.bare[lock], verdict.guarded[lock]].flatMap((counts, i) =>
    (counts?.lost ?? []).map((element) => ({
      at: at.get(element) ?? setting.from,
      what: `${i === 0 ? "without a guard" : "COMMITTED IF HELD"}: ${element} is lost`,
    }))
  );
  const spans: string[] = [];
  for (let from = setting.from; from < setting.to; from += SPAN_MS) {
    const to = from + SPAN_MS;
    const near = holds.filter(({ askedAt, left, gotAt }) => askedAt < to && (left?.to ?? gotAt) > from);
    spans.push(timeline({ from, to, holds: near, faults, losses, start: setting.from }));
  }
  const rows = figures(judged).map(([what, value]) =>
    `<tr><th>${escaped(what)}</th><td>${escaped(value)}</td></tr>`
  );
  const found = findings(judged).flatMap(([name, sins]) =>
    (sins.length > 0 ? sins : ["nothing was found"]).map((sin) =>
      `<li class="${sins.length > 0 ? "bad" : ""}"><b>${escaped(name)}</b>: ${escaped(sin)}</li>`
    )
  );
  const spared = Object.entries(setting.spared).map(([what, why]) =>
    `<li>${escaped(what)}: ${escaped(why)}</li>`
  );
  const key = KEY.map(([colour, what]) => `<i style="background: var(--${colour})"></i>${what}`).join("");
  const promisedMs = setting.pushes ? setting.leaseMs + RECOVERY_MS : undefined;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Holdfast under torture: ${escaped(setting.title)}</title><style>${STYLE}</style>
<h1>Holdfast under torture: ${escaped(setting.title)}</h1>
<table>${rows.join("")}</table>
<h2>Found</h2>${found.length > 0 ? `<ul>${found.join("")}</ul>` : "<p>Nothing that a lock must not do.</p>"}
${spared.length > 0 ? `<h2>Not played</h2><ul>${spared.join("")}</ul>` : ""}
<h2>How long it took</h2>
${histogram("From asking to having", verdict.waits)}
${histogram("From giving back to the next in another process", verdict.handOffs)}
${histogram("From the death of a holder to the next", verdict.recoveries, promisedMs)}
<h2>What happened</h2><p class="key">${key}</p>
${spans.join("\n")}
</html>
`;
}
