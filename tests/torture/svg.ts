/** Pictures of a run: which process held the lock when, what went wrong meanwhile, and how times are spread. */

import type { FaultLine, Hold } from "./history.ts";
import type { Times } from "./verdict.ts";

const WIDTH = 1100;
const LEFT = 120;
const ROW = 18;

export const escaped = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

/** One rectangle, with what it says when it is pointed at. */
function rect(
  { x, y, width, height, kind, title }: {
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly height: number;
    readonly kind: string;
    readonly title: string;
  },
): string {
  const wide = Math.max(0.7, width).toFixed(1);
  return `<rect class="${kind}" x="${x.toFixed(1)}" y="${y}" width="${wide}" height="${height}">` +
    `<title>${escaped(title)}</title></rect>`;
}

/** What a timeline shows. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly holds: readonly Hold[];
  readonly faults: readonly FaultLine[];
  /** The losses of elements, and when. */
  readonly losses: readonly { readonly at: number; readonly what: string }[];
  readonly start: number;
}

/** The place of a process: those that follow one another have the same row. */
function seatOf(name: string): string {
  return name.split("-")[0];
}

/** A stretch of time: a row for each place, with waits, holds and faults; above them the store, below them what was lost. */
export function timeline({ from, to, holds, faults, losses, start }: Span): string {
  const seats = [...new Set(holds.map(({ process }) => seatOf(process)))].sort();
  const rows = ["store", ...seats, "lost"];
  const height = (rows.length + 1) * ROW + 4;
  const x = (at: number) =>
    LEFT + (Math.max(from, Math.min(to, at)) - from) / (to - from) * (WIDTH - LEFT - 8);
  const y = (row: string) => rows.indexOf(row) * ROW + 4;
  const seconds = (at: number) => `${((at - start) / 1000).toFixed(2)} s`;
  const parts = rows.map((row) => `<text x="4" y="${y(row) + 12}">${row}</text>`);
  for (const { fault, whom, from: began, to: ended } of faults) {
    if (ended < from || began > to) continue;
    const row = whom === "store" ? "store" : seatOf(whom);
    if (!rows.includes(row)) continue;
    const kind = `fault ${fault.replaceAll(" ", "-")}`;
    const title = `${fault}: ${whom}, ${seconds(began)} to ${seconds(ended)}`;
    parts.push(rect({ x: x(began), y: y(row), width: x(ended) - x(began), height: ROW - 3, kind, title }));
  }
  for (const { process, id, token, askedAt, gotAt, left, proofs } of holds) {
    const end = left?.to === Infinity ? left.from : left?.to ?? proofs.at(-1)?.to ?? gotAt;
    if (end < from || askedAt > to) continue;
    const row = y(seatOf(process));
    const title = `${id}, token ${token}: asked ${seconds(askedAt)}, held ${seconds(gotAt)} to ${
      seconds(end)
    }`;
    parts.push(
      rect({ x: x(askedAt), y: row + 7, width: x(gotAt) - x(askedAt), height: 1, kind: "waits", title }),
      rect({ x: x(gotAt), y: row + 3, width: x(end) - x(gotAt), height: ROW - 9, kind: "holds", title }),
    );
  }
  for (const { at, what } of losses) {
    if (at < from || at > to) continue;
    const title = `${what}, ${seconds(at)}`;
    parts.push(rect({ x: x(at), y: y("lost"), width: 3, height: ROW - 4, kind: "loss", title }));
  }
  for (let tick = 0; tick <= 6; tick++) {
    const at = from + (to - from) * tick / 6;
    parts.push(`<text class="axis" x="${x(at).toFixed(0)}" y="${height - 4}">${seconds(at)}</text>`);
  }
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img">${parts.join("")}</svg>`;
}

/** How times are spread: columns that double in width, and a line at what was promised. */
export function histogram(title: string, times: Times, promisedMs?: number): string {
  if (times.length === 0) return `<figure><figcaption>${escaped(title)}: none</figcaption></figure>`;
  const columns = 18;
  const counts = new Array<number>(columns).fill(0);
  const column = (ms: number) =>
    Math.max(0, Math.min(columns - 1, Math.floor(Math.log2(Math.max(0.25, ms)) + 2)));
  for (const ms of times) counts[column(ms)]++;
  const most = Math.max(...counts);
  const [width, height] = [30, 120];
  const parts = counts.map((count, i) => {
    // What is there is seen, however little it is.
    const high = count === 0 ? 0 : Math.max(2, Math.log1p(count) / Math.log1p(most) * height);
    const until = 2 ** (i - 1);
    const x = i * width;
    return `<g><rect class="holds" x="${x}" y="${height - high + 14}" width="${width - 3}" height="${
      high.toFixed(1)
    }">` +
      `<title>${count} below ${until} ms</title></rect>` +
      `<text class="axis" x="${x}" y="${height + 26}">${
        until < 1 ? until : until < 1000 ? until : `${until / 1000 | 0}k`
      }</text>` +
      (count > 0 ? `<text class="axis" x="${x}" y="${height - high + 11}">${count}</text>` : "") + `</g>`;
  });
  if (promisedMs !== undefined) {
    const x = (Math.log2(promisedMs) + 2) * width;
    parts.push(`<line class="promised" x1="${x}" x2="${x}" y1="0" y2="${height + 14}"/>`);
  }
  const promised = promisedMs === undefined ? "" : `; the line is at ${promisedMs} ms`;
  return `<figure><figcaption>${
    escaped(title)
  }, in ms, counts on a logarithmic scale${promised}</figcaption>` +
    `<svg viewBox="0 0 ${columns * width} ${height + 30}" role="img">${parts.join("")}</svg></figure>`;
}
