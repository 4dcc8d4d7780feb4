import { type History, type Span, WINDOW_MS } from "./history.ts";
import { type Html, html, lasting, short } from "./html.ts";

/** How many locks are drawn, and how many waiters of each. */
const MAX_ROWS = 12;
const MAX_LANES = 3;

const TOP = 26;
const ROW = 54;
const BAR = { y: 20, height: 18 };
const LANE = { y: 42, step: 4 };

const ENDINGS = {
  expired: "lease expired",
  stolen: "stolen",
  forced: "forced",
  released: "released",
  "handed-over": "handed over",
};

/** The words for each kind of ending. */
export function ending(how: Span["how"]): string {
  return how === undefined ? "still on" : how === "gone" ? "gone" : ENDINGS[how];
}

/** Whether a hold ended against its holder's will. */
export function isLoss(how: Span["how"]): boolean {
  return how === "expired" || how === "stolen" || how === "forced";
}

/** Draws the holds, waits and losses of the last minutes before `now`: time from left to right. */
export function picture(history: History, now: number, isWanted: (identifier: string) => boolean): Html {
  const start = now - WINDOW_MS;
  const rows = new Map<string, Span[]>();
  for (const span of history.spans) {
    if ((span.to ?? now) < start || !isWanted(span.identifier)) continue;
    const row = rows.get(span.identifier);
    if (row === undefined) rows.set(span.identifier, [span]);
    else row.push(span);
  }
  if (rows.size === 0) {
    return html`<p class="empty">Nothing was held or waited for while this page was open.</p>`;
  }
  // Where most happens is what matters; in the order of names, rows stay where they are.
  const drawn = [...rows].sort(([, a], [, b]) => weight(b, now) - weight(a, now)).slice(0, MAX_ROWS)
    .sort(([a], [b]) => a < b ? -1 : 1);
  const height = TOP + drawn.length * ROW;
  const x = (at: number) => percent((at - start) / WINDOW_MS);
  const width = (from: number, to: number) => percent((to - Math.max(from, start)) / WINDOW_MS);
  const lost = drawn.flatMap(([, spans]) => spans).filter((span) => lostAt(span, now) !== undefined).length;
  const minutes = WINDOW_MS / 60_000;
  return html`
    <figure>
      <svg id="picture" role="img" width="100%" height="${height}" aria-label="${`Time line of the last ${minutes} minutes: ${drawn.length} locks, ${lost} losses. ` +
        "What it shows stands as text below."}">
    <defs>
    <pattern id="unseen" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path
    class="hatch" d="M0 0V6" /></pattern>
    </defs>
    ${unseen(history.looked, start, now).map(([from, to]) =>
      html`
        <rect class="unseen" x="${x(from)}" y="${TOP - 6}" width="${width(from, to)}" height="${height - TOP +
          6}">
          <title>Not observed</title>
        </rect>
      `
    )}
    ${Array.from({ length: minutes + 1 }, (_, i) => {
      const at = percent(i / minutes);
      const edge = i === 0 ? " first" : i === minutes ? " last" : i % 2 === 0 ? " even" : "";
      const text = i === minutes ? "now" : `−${minutes - i} min`;
      return html`
        <line class="grid" x1="${at}" x2="${at}" y1="${TOP - 6}" y2="${height}" />
        <text class="tick${edge}"
          x="${at}" y="14">${text}</text>
      `;
    })}
    ${drawn.map(([identifier, spans], i) =>
      html`<svg y="${TOP + i * ROW}" width="100%" height="${ROW}">
<text class="name" x="2" y="14">${short(identifier, 80)}<title>${identifier}</title></text>
${
        spans.filter(({ what }) => what === "hold").map((span) => {
          const { label, from, to, how, fencingToken } = span;
          const end = to ?? now;
          // From here on it is held no more, although the holder has not given it back.
          const over = Math.min(end, Math.max(from, expiryOf(span, now) ?? end));
          const who = label ?? "no label";
          const state = over < end ? `expired ${lasting(end - over)} ago` : ending(how);
          const title = html`<title>${who}, ${
            lasting(over - from)
          }, ${state}, fencing token ${fencingToken!}</title>`;
          const part = (kind: string, from: number, to: number, text: Html | false) =>
            to > start && html`
              <svg x="${x(Math.max(from, start))}" y="${BAR.y}" width="${width(from, to)}" height="${BAR
                .height}"
              >
                <g>${title}<rect class="${kind}" width="100%" height="100%" rx="3" />${text}</g>
              </svg>
            `;
          const isOn = to === undefined && over === end;
          const text = html`<text class="who" x="6" y="13">${who}</text>`;
          return html`${part(isOn ? "hold on" : "hold", from, over, text)}${
            over < end && part("hold expired", over, end, false)
          }`;
        })
      }
${
        // After all bars, so that the next holder's does not cover them.
        spans.map((span) => {
          const at = lostAt(span, now);
          return at !== undefined && at > start && html`
            <svg class="lost" x="${x(at)}" y="${BAR.y + BAR.height / 2}">
              <g>
                <title>${span.label ?? "no label"}, ${ending(span.how ?? "expired")}</title>
                <circle r="7" />
                <path
                  d="M-3 -3L3 3M-3 3L3 -3" />
              </g>
            </svg>
          `;
        })}
${
        lanes(spans.filter(({ what }) => what === "wait"), now).map(({ span, lane }) => {
          const { label, from, to } = span;
          const y = LANE.y + lane * LANE.step;
          return html`
            <line class="wait" x1="${x(Math.max(from, start))}" x2="${x(to ?? now)}" y1="${y}" y2="${y}">
              <title>${label ?? "no label"} waited ${lasting((to ?? now) - from)}</title>
            </line>
          `;
        })
      }
</svg>`
    )}
      </svg>
      <figcaption>
    <span class="key"><svg width="22" height="12" aria-hidden="true"><rect class="hold on" width="22" height="12" rx="3" /></svg>held</span>
    <span class="key"><svg width="22" height="12" aria-hidden="true"><rect class="hold" width="22" height="12" rx="3" /></svg>was held</span>
    <span class="key"><svg width="22" height="12" aria-hidden="true"><rect class="hold expired" width="22" height="12" rx="3" /></svg>lease expired</span>
    <span class="key"><svg width="22" height="12" aria-hidden="true"><line class="wait" x1="0" x2="22" y1="6" y2="6" /></svg>queued</span>
    <span class="key"><svg width="16" height="16" aria-hidden="true"><svg class="lost" x="8" y="8"><circle r="7" /><path
    d="M-3 -3L3 3M-3 3L3 -3" /></svg></svg>lost</span>
    <span class="key"><svg width="22" height="12" aria-hidden="true"><rect class="unseen" width="22" height="12" /></svg>not observed</span>
    ${rows.size > drawn.length && html`<span>and ${rows.size - drawn.length} more locks, not drawn</span>`}
      </figcaption>
    </figure>
  `;
}

/** How much happens in a row: losses first, then waiters, then the number of holds. */
function weight(spans: readonly Span[], now: number): number {
  const weightOf = (span: Span) => lostAt(span, now) !== undefined ? 100 : span.what === "wait" ? 10 : 1;
  return spans.reduce((sum, span) => sum + weightOf(span), 0);
}

/** When a hold's lease has ended that is still there. */
function expiryOf({ to, leaseEnds }: Span, now: number): number | undefined {
  return to === undefined && leaseEnds !== undefined && leaseEnds <= now ? leaseEnds : undefined;
}

/** When a hold was lost, if it was. */
function lostAt(span: Span, now: number): number | undefined {
  return isLoss(span.how) ? span.to : expiryOf(span, now);
}

/** The waiters, each on its own lane for as long as it waits, as far as there is room. */
function lanes(waits: readonly Span[], now: number): { span: Span; lane: number }[] {
  const free = new Array<number>(MAX_LANES).fill(-Infinity);
  return waits.flatMap((span) => {
    const lane = free.findIndex((until) => until <= span.from);
    if (lane < 0) return [];
    free[lane] = span.to ?? now;
    return [{ span, lane }];
  });
}

/** The times in which the store was not observed. */
function unseen(looked: History["looked"], start: number, now: number): [from: number, to: number][] {
  const edges = [start, ...looked.flatMap(({ from, to }) => [from, to]), now];
  return edges.flatMap((from, i) =>
    i % 2 === 0 && edges[i + 1] > from ? [[Math.max(start, from), edges[i + 1]] as [number, number]] : []
  ).filter(([from, to]) => to - from > WINDOW_MS / 500);
}

function percent(share: number): string {
  return `${(Math.min(1, Math.max(0, share)) * 100).toFixed(2)}%`;
}
