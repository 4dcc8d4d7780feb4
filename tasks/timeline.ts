// The picture in the README: runs the demo and draws what it prints as docs/timeline.svg, one row for each process. With
// the path of a file, draws the output of an earlier run that was saved there.

/** One run of cells of the same kind in the row of a process. */
interface Bar {
  readonly row: number;
  readonly from: number;
  readonly to: number;
  readonly kind: string;
}

/** Something that happened, as the demo says it. */
interface Note {
  readonly mark: string;
  readonly seconds: number;
  readonly text: string;
}

/** What one block of the demo covers. */
const BLOCK_SECONDS = 5;
/** Where the row of a process begins in the demo's lines. */
const MARGIN = 7;

const WIDTH = 960;
const LEFT = 64;
const ROW = 34;
const TOP = 46;
/** What stands in the cells, and the class with which it is drawn. */
const KINDS: Record<string, string> = { "█": "holds", "─": "waits", "▒": "blocks", "░": "late" };

const root = new URL("..", import.meta.url);
async function play(): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "demo"],
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new Error(decoder.decode(stdout) + decoder.decode(stderr));
  return decoder.decode(stdout);
}

function draw(text: string): string {
  const lines = text.split("\n");
  const notes = lines.flatMap((line) => {
    const [, mark, seconds, what] = /^ {7}(\S) ([\d.]+) s {2}(.*)$/.exec(line) ?? [];
    return mark === undefined ? [] : [{ mark, seconds: Number(seconds), text: what }];
  });
  // Every block ends with the axis; the rows are the lines before it.
  const axes = lines.flatMap((line, i) => /^ {7}╵\d+ s/.test(line) ? [i] : []);
  const first = axes[0];
  if (first === undefined) throw new Error("this is no output of the demo");
  const names: string[] = [];
  for (let at = first - 1; /^\w/.test(lines[at]); at--) names.unshift(lines[at].slice(0, MARGIN).trim());
  const blocks = axes.map((axis) => lines.slice(axis - names.length, axis).map((line) => line.slice(MARGIN)));
  const cells = blocks[0][0].length;
  const rows = names.map((_, row) => blocks.map((block) => block[row].padEnd(cells)).join("").trimEnd());
  const seconds = Math.ceil(Math.max(...rows.map(({ length }) => length)) / cells * BLOCK_SECONDS);
  return svg(names, rows.flatMap(barsOf), notes, { seconds, cellsASecond: cells / BLOCK_SECONDS });
}

function barsOf(cells: string, row: number): Bar[] {
  const bars: Bar[] = [];
  // A mark stands in the place of a cell, which was of the kind before it.
  const kinds = [...cells].reduce<string[]>(
    (found, cell) => [...found, cell === " " ? "" : KINDS[cell] ?? found.at(-1) ?? ""],
    [],
  );
  kinds.forEach((kind, at) => {
    const last = bars.at(-1);
    if (last?.kind === kind && last.to === at) bars[bars.length - 1] = { ...last, to: at + 1 };
    else if (kind !== "") bars.push({ row, from: at, to: at + 1, kind });
  });
  return bars;
}

function svg(
  names: readonly string[],
  bars: readonly Bar[],
  notes: readonly Note[],
  { seconds, cellsASecond }: { seconds: number; cellsASecond: number },
): string {
  const scale = (WIDTH - LEFT - 16) / seconds;
  const x = (second: number) => round(LEFT + second * scale);
  const y = (row: number) => TOP + row * ROW;
  const bottom = y(names.length);
  const height = bottom + 34 + notes.length * 19;
  const parts = [
    `<rect class="page" width="${WIDTH}" height="${height}" rx="8"/>`,
    legend(),
    ...names.map((name, row) => `<text class="name" x="16" y="${y(row) + 15}">${name}</text>`),
    ...Array.from(
      { length: seconds + 1 },
      (_, second) =>
        `<path class="grid" d="M${x(second)} ${TOP - 6}V${bottom}"/>` +
        (second % 2 === 0 ? `<text class="axis" x="${x(second)}" y="${bottom + 14}">${second} s</text>` : ""),
    ),
    ...bars.map(({ row, from, to, kind }) => {
      const thin = kind === "waits";
      const left = x(from / cellsASecond);
      const width = round(x(to / cellsASecond) - left);
      return `<rect class="${kind}" x="${left}" y="${y(row) + (thin ? 9 : 0)}" width="${width}" height="${
        thin ? 2 : 20
      }"/>`;
    }),
    ...notes.flatMap(({ seconds, text }, i) => {
      const row = names.findIndex((name) => text.startsWith(name) || text.includes(`: ${name} follows`));
      const at = x(seconds);
      const label = `${i + 1}`;
      return [
        `<circle class="mark" cx="${at}" cy="${y(Math.max(0, row)) - 6}" r="8"/>`,
        `<text class="number" x="${at}" y="${y(Math.max(0, row)) - 2.5}">${label}</text>`,
        `<text class="note" x="${LEFT}" y="${bottom + 40 + i * 19}">${label}. ${seconds.toFixed(1)} s: ${
          escaped(text)
        }</text>`,
      ];
    }),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>Four processes take turns with one lock. One is killed, one is frozen, one is evicted: no two ever hold it at the same time.</title>
<!-- Drawn by tasks/timeline.ts from the output of the demo. -->
<style>${STYLE}</style>
${parts.join("\n")}
</svg>
`;
}

const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.page { fill: #ffffff }
.name { font-weight: 600 }
.axis { font-size: 11px; fill: #59636e; text-anchor: middle }
.grid { stroke: #d1d9e0; stroke-width: 1; opacity: .7 }
.holds { fill: #1a7f37 }
.waits { fill: #9aa4af }
.blocks { fill: #cf222e }
.late { fill: #54aeff; opacity: .6 }
.mark { fill: #1f2328 }
.number { font-size: 11px; fill: #ffffff; text-anchor: middle }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.page { fill: #0d1117 }
.axis { fill: #9198a1 }
.grid { stroke: #3d444d }
.holds { fill: #3fb950 }
.waits { fill: #656c76 }
.blocks { fill: #f85149 }
.mark { fill: #f0f6fc }
.number { fill: #0d1117 }
}
`;

function legend(): string {
  const entries = [
    ["holds", "holds the lock", 110],
    ["waits", "waits", 62],
    ["blocks", "killed, frozen or slow while it holds", 250],
    ["late", "frozen, its lock already lost", 0],
  ] as const;
  let at = LEFT;
  return entries.map(([kind, text, width]) => {
    const part = `<rect class="${kind}" x="${at}" y="${kind === "waits" ? 19 : 13}" width="14" height="${
      kind === "waits" ? 2 : 14
    }"/><text x="${at + 20}" y="25">${text}</text>`;
    at += width + 34;
    return part;
  }).join("\n");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

const [saved] = Deno.args;
const text = saved === undefined ? await play() : await Deno.readTextFile(saved);
await Deno.writeTextFile(new URL("docs/timeline.svg", root), draw(text));
